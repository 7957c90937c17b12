"""Which view answers what."""

from django.contrib import admin
from django.urls import include, path, register_converter

from shop import metrics, views


class Item:
    """It becomes a part of the upstream's URL, which can't hold everything that ours can."""

    regex = "[a-z]{1,20}"

    @staticmethod
    def to_python(value: str) -> str:
        return value

    to_url = to_python


register_converter(Item, "item")

urlpatterns = [
    path("orders", views.order),
    path("prices/<item:item>", views.price),
    path("receipts/<int:number>", views.receipt),
    path("search/<item:word>", views.search),
    path("stock/<item:item>", views.stock),
    path("metrics", metrics.metrics),
    path("health/circuits", views.circuits),
    path("admin/", admin.site.urls),
    path("circuits/", include("fluxgate_django.console")),
]
