"""URLs of a project with the console and without the admin."""

from django.urls import include, path

urlpatterns = [
    path("circuits/", include("fluxgate_django.console")),
    path("서킷/", include("fluxgate_django.console", namespace="korean")),
    path("bare", include("fluxgate_django.console", namespace="bare")),
]
