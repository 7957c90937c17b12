"""A Django project with one view, which gunicorn loads before it forks."""

import django
import httpx
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from fleet_settings import SETTINGS, UPSTREAM, fleet, seen

from fluxgate import CallNotPermittedError, CircuitBreaker

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY="none")
django.setup()

breaker = CircuitBreaker("payments", **SETTINGS)
breaker.call(int)  # it has been at work in the process that forks
assert fleet.flush(30.0)
client = httpx.Client(base_url=UPSTREAM, trust_env=False, timeout=30.0)


@breaker
def charge() -> None:
    client.get("/charge").raise_for_status()


def pay(_request: HttpRequest) -> HttpResponse:
    try:
        charge()
    except CallNotPermittedError:
        return HttpResponse(status=503)
    except httpx.HTTPError:
        return HttpResponse(status=502)
    return HttpResponse()


urlpatterns = [path("pay", pay), path("seen", lambda _request: JsonResponse(seen(breaker)))]
application = get_wsgi_application()
