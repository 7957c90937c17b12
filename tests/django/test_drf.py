"""Circuits in Django REST framework: its views and viewsets, and its exception handler."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest
from django.test import Client
from django.urls import include, path
from rest_framework import exceptions, permissions, serializers
from rest_framework.decorators import action, api_view
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from fluxgate import CircuitBreaker, ConfigError
from fluxgate_django import CircuitMixin, breakers, circuit
from fluxgate_django.drf import exception_handler
from fluxgate_django.signals import circuit_rejected

HANDLER = "fluxgate_django.drf.exception_handler"


class Plain(BaseRenderer):
    media_type = "text/plain"
    format = "txt"

    def render(self, data: Any, *_: object, **__: object) -> bytes:
        return f"{data['status']}, {data['title']}".encode()


class Payment(serializers.Serializer[Any]):
    amount = serializers.IntegerField()


class Open(APIView):
    authentication_classes = ()
    permission_classes = ()


class Pay(Open):
    renderer_classes = (JSONRenderer, BrowsableAPIRenderer, Plain)

    def get(self, request: Any) -> Response:
        breakers["payments"].call(int)
        return Response("paid")


class Search(CircuitMixin, Open):
    circuit = "search"

    def get(self, request: Any) -> Response:
        outcome = request.query_params.get("outcome", "")
        if outcome == "status":
            return Response(status=503)
        if outcome:
            raise ERRORS[outcome]
        return Response("found")

    def post(self, request: Any) -> Response:
        Payment(data=request.data).is_valid(raise_exception=True)
        return Response("posted")


ERRORS: dict[str, Exception] = {
    "404": exceptions.NotFound(),
    "429": exceptions.Throttled(),
    "500": exceptions.APIException(),
    "400": exceptions.ParseError(),
    "other": ValueError("failed"),
}


class Private(Search):
    permission_classes = (permissions.IsAdminUser,)


class Friendly(Search):
    def circuit_on_open(self, request: Any) -> Response:
        return Response({"results": [], "why": str(request.refusal.state)})


@api_view(["GET"])
@circuit("search")
def function(request: Any) -> Response:
    return Response(request.query_params.get("word"))


class Orders(ViewSet):
    authentication_classes = ()
    permission_classes = ()

    @circuit("orders", on_open=lambda request: Response(f"closed for {request.method}"))
    def list(self, request: Any) -> Response:
        return Response(["order"])

    @action(detail=True, methods=["post"])
    @circuit("shipping")
    def ship(self, request: Any, pk: str) -> Response:
        return Response(f"shipped {pk}")

    @circuit("shipping")
    @action(detail=True)
    def track(self, request: Any, pk: str) -> Response:
        return Response(f"tracked {pk}")


class Carts(CircuitMixin, ViewSet):
    circuit = "carts"
    authentication_classes = ()
    permission_classes = ()

    def list(self, request: Any) -> Response:
        return Response([self.action])

    @action(detail=False, methods=["post"])
    def clear(self, request: Any) -> Response:
        return Response(self.action)


def writing(request: HttpRequest) -> Any:
    with connection.cursor() as cursor:
        cursor.execute("insert into orders values (1)")
    return Pay.as_view()(request)


router = SimpleRouter()
router.register("orders", Orders, basename="order")
router.register("carts", Carts, basename="cart")
urlpatterns = [
    path("pay", Pay.as_view()),
    path("search", Search.as_view()),
    path("private", Private.as_view()),
    path("friendly", Friendly.as_view()),
    path("function", function),
    path("writing", writing),
    path("", include(router.urls)),
]


def counts(name: str) -> tuple[int, int, int]:
    """Successes, failures, ignored."""
    totals = breakers[name].info().totals
    return totals.successes, totals.failures, totals.ignored


@pytest.fixture(autouse=True)
def _application(settings: Any, fluxgate: dict[str, Any]) -> None:
    del fluxgate
    settings.ROOT_URLCONF = __name__
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": HANDLER, "UNAUTHENTICATED_USER": None}
    settings.MIDDLEWARE = []


def get(where: str, **headers: str) -> Any:
    return Client(raise_request_exception=False).get(where, headers=headers)


# -- the handler


def test_a_refusal_in_what_the_view_renders(opened: Callable[[str], CircuitBreaker]) -> None:
    opened("payments")
    response = get("/pay")
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Type"] == "application/problem+json"
    assert json.loads(response.content)["type"] == "urn:fluxgate:problem:circuit-open"
    plain = get("/pay", accept="text/plain")
    assert plain["Content-Type"].startswith("text/plain")
    assert plain.content == b"503, Service temporarily unavailable"
    page = get("/pay", accept="text/html")
    assert page["Content-Type"].startswith("text/html")
    assert page["Retry-After"] == "30"


def test_a_refusal_is_told_once_and_is_a_warning(
    opened: Callable[[str], CircuitBreaker], caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    settings.MIDDLEWARE = ["fluxgate_django.middleware.CircuitBreakerMiddleware"]
    opened("search")
    told: list[str] = []

    def receiver(name: str, request: Any, **_: object) -> None:
        told.append(f"{name} {request.path}")

    circuit_rejected.connect(receiver)
    try:
        assert get("/function").status_code == 503
    finally:
        circuit_rejected.disconnect(receiver)
    assert told == ["search /function"]
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("django.request", "WARNING")
    ]


def test_other_exceptions_go_to_the_handler_of_rest_framework() -> None:
    assert get("/search?outcome=404").status_code == 404
    assert get("/search?outcome=other").status_code == 500


def own_handler(error: Exception, context: dict[str, Any]) -> Response:
    return Response(f"{type(context['view']).__name__}: {error}", status=418)


@pytest.mark.parametrize("handler", [own_handler, "handlers_of_theirs.own_handler"])
def test_or_to_the_one_that_the_settings_name(
    handler: Any,
    settings: Any,
    policy: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "handlers_of_theirs", sys.modules[__name__])
    settings.FLUXGATE = {"DEFAULTS": policy, "RESPONSE": {"EXCEPTION_HANDLER": handler}}
    response = get("/search?outcome=other")
    assert (response.status_code, response.json()) == (418, "Search: failed")
    breakers["search"].open_for(30)
    assert get("/search").status_code == 503


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        ("nowhere.handler", "No module named 'nowhere'"),
        (HANDLER, "this handler itself: name the one for the other exceptions, or none"),
    ],
)
def test_a_handler_that_can_not_be(handler: str, told: str, settings: Any) -> None:
    settings.FLUXGATE = {"RESPONSE": {"EXCEPTION_HANDLER": handler}}
    with pytest.raises(ConfigError) as caught:
        exception_handler(ValueError(), {})
    assert str(caught.value) == f"FLUXGATE: RESPONSE.EXCEPTION_HANDLER: {told}"


def test_a_transaction_of_the_request_is_rolled_back(
    atomic: Callable[[], int], opened: Callable[[str], CircuitBreaker]
) -> None:
    """REST framework makes a response of the exception, which Django's `atomic` never sees."""
    assert get("/writing").status_code == 200
    assert atomic() == 1
    opened("payments")
    assert get("/writing").status_code == 503
    assert atomic() == 1


# -- views


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ("", (1, 0, 0)),
        ("404", (1, 0, 0)),
        ("429", (1, 0, 0)),
        ("status", (0, 1, 0)),
        ("500", (0, 1, 0)),
        ("400", (0, 0, 1)),
        ("other", (0, 1, 0)),
    ],
)
def test_what_counts(outcome: str, expected: tuple[int, int, int]) -> None:
    get(f"/search?outcome={outcome}")
    assert counts("search") == expected


def test_invalid_data_says_nothing() -> None:
    response = Client().post("/search", {"amount": "many"})
    assert response.status_code == 400
    assert counts("search") == (0, 0, 1)


def test_who_may_not_ask_does_not_reach_the_circuit() -> None:
    assert get("/private").status_code == 403
    assert get("/search?format=xml").status_code == 404
    assert Client().put("/search").status_code == 405
    assert Client().options("/search").status_code == 200
    assert counts("search") == (0, 0, 0)


def test_the_mixins_answers(opened: Callable[[str], CircuitBreaker]) -> None:
    opened("search")
    assert get("/friendly").json() == {"results": [], "why": "open"}
    assert get("/search")["Content-Type"] == "application/problem+json"


def test_a_function_view(opened: Callable[[str], CircuitBreaker]) -> None:
    assert get("/function?word=tea").json() == "tea"
    assert counts("search") == (1, 0, 0)
    opened("search")
    assert get("/function").status_code == 503


def test_actions_of_a_viewset(opened: Callable[[str], CircuitBreaker]) -> None:
    assert get("/orders/").json() == ["order"]
    assert Client().post("/orders/7/ship/").json() == "shipped 7"
    assert get("/orders/7/track/").json() == "tracked 7"
    assert (counts("orders"), counts("shipping")) == ((1, 0, 0), (2, 0, 0))
    opened("orders")
    assert get("/orders/").json() == "closed for GET"
    assert get("/orders/7/track/").status_code == 200


def test_a_viewset_behind_the_mixin(opened: Callable[[str], CircuitBreaker]) -> None:
    assert get("/carts/").json() == ["list"]
    assert Client().post("/carts/clear/").json() == "clear"
    assert counts("carts") == (2, 0, 0)
    opened("carts")
    assert get("/carts/").status_code == 503
    assert Client().post("/carts/clear/").status_code == 503


def test_without_rest_framework_the_import_says_what_to_install() -> None:
    code = """
import sys
sys.modules["rest_framework"] = None
import fluxgate_django.drf
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "fluxgate_django.drf needs Django REST framework: pip install djangorestframework"
    )
