"""The example project's views, what tests ask about them, and who answered."""

import os
import threading

from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.deprecation import MiddlewareMixin
from live_settings import clock
from shop import clients
from shop.urls import urlpatterns as shop_urls

from fluxgate_django import breakers, circuit
from fluxgate_django.signals import circuit_rejected


class WhoAnswered(MiddlewareMixin):
    """Says in a header which process answered."""

    def process_response(self, _request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response["X-Worker"] = str(os.getpid())
        return response


def called(_request: HttpRequest, number: int) -> HttpResponse:
    """A call through a circuit that is open every other moment."""
    breakers["called"].call(clients.get, f"/called/{number}")
    return JsonResponse({"thread": threading.get_ident()})


@circuit("decorated")
def decorated(_request: HttpRequest, number: int) -> HttpResponse:
    """A view behind one."""
    clients.get(f"/decorated/{number}")
    return JsonResponse({"thread": threading.get_ident()})


told: list[str] = []


@receiver(circuit_rejected)
def hear(*, name: str, **_: object) -> None:
    told.append(name)


def advance(_request: HttpRequest, seconds: int) -> HttpResponse:
    clock.advance(seconds)
    return HttpResponse()


def reset(_request: HttpRequest) -> HttpResponse:
    for breaker in breakers.values():
        breaker.reset()
    return HttpResponse()


def seen(_request: HttpRequest) -> HttpResponse:
    """What the circuits of the process that answers have seen, by name."""
    found = {}
    for name, breaker in breakers.items():
        info = breaker.info()
        found[name] = {
            "state": info.state,
            "probes": info.probes,
            "settled": info.totals.settled,
            "cancelled": info.totals.cancelled,
            "rejected": info.totals.rejected,
            "told": told.count(name),
        }
    return JsonResponse(found)


urlpatterns = [
    *shop_urls,
    path("called/<int:number>", called),
    path("decorated/<int:number>", decorated),
    path("_advance/<int:seconds>", advance),
    path("_reset", reset),
    path("_seen", seen),
]
