"""URLs of a project with the console and the admin."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("circuits/", include("fluxgate_django.console")),
]
