"""Circuits in Django Ninja: operations behind a circuit, and refusals as answers."""

# ruff: noqa: ARG001, ARG005 - views take a request, whether they look at it or not

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ninja
import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.http import HttpRequest
from django.test import AsyncClient, Client
from django.urls import path
from ninja import NinjaAPI, Schema
from ninja.errors import HttpError, ValidationError

from fluxgate import CircuitBreaker
from fluxgate_django import breakers, circuit
from fluxgate_django.ninja import install

_numbers = itertools.count()
Status: Any = getattr(ninja, "Status", lambda status, body: (status, body))
"""Newer Ninja's way of saying a status; the older one is a pair."""


class Item(Schema):
    word: str


api = install(NinjaAPI(urls_namespace=f"ninja-{next(_numbers)}"))
bare = NinjaAPI(urls_namespace=f"ninja-{next(_numbers)}")


@api.get("/search", response={200: dict[str, str], 503: dict[str, str]})
@circuit("search")
def search(request: HttpRequest, word: str, outcome: int = 200) -> Any:
    """Its annotations are strings, which Ninja has to find in this module."""
    if outcome == 503:
        return Status(503, {"detail": "down"})
    if outcome >= 400:
        raise HttpError(outcome, "raised")
    return {"found": word}


@bare.get("/pair", response={200: str, 503: str})
@circuit("search")
def pair(request: HttpRequest, outcome: int) -> Any:
    if outcome == 400:
        raise ValidationError([{"loc": "body"}])
    return outcome, "a status and a body"


@api.post("/items", response=str)
@circuit("search", on_open=lambda request, item: f"later: {item.word}")
def add(request: HttpRequest, item: Item) -> str:
    return item.word


@api.get("/async", response=str)
@circuit("search", fallback=lambda error: f"stale: {type(error).__name__}")
async def search_async(request: HttpRequest, word: str) -> str:
    if word == "fail":
        raise ValueError("failed")
    return word


@api.get("/pay")
def pay(request: HttpRequest) -> str:
    breakers["payments"].call(int)
    return "paid"


@api.get("/grouped")
def grouped(request: HttpRequest, refused: bool = True) -> str:
    try:
        breakers["payments"].call(int)
    except Exception as error:
        raise ExceptionGroup("several", [error, KeyError()] if refused else [KeyError()]) from None
    return "paid"


@api.get("/writing")
def writing(request: HttpRequest) -> str:
    with connection.cursor() as cursor:
        cursor.execute("insert into orders values (1)")
    return pay(request)


bare.get("/pay")(pay)
urlpatterns = [path("api/", api.urls), path("bare/", bare.urls)]


def counts(name: str) -> tuple[int, int, int]:
    """Successes, failures, ignored."""
    totals = breakers[name].info().totals
    return totals.successes, totals.failures, totals.ignored


@pytest.fixture(autouse=True)
def _application(settings: Any, fluxgate: dict[str, Any]) -> None:
    del fluxgate
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []


def get(where: str, **query: Any) -> Any:
    return Client(raise_request_exception=False).get(where, query)


def test_a_refusal_is_answered(opened: Callable[[str], CircuitBreaker]) -> None:
    assert get("/api/pay").json() == "paid"
    opened("payments")
    response = get("/api/pay")
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    assert response["Content-Type"] == "application/problem+json"
    assert json.loads(response.content)["type"] == "urn:fluxgate:problem:circuit-open"


def test_in_debug_too(opened: Callable[[str], CircuitBreaker], settings: Any) -> None:
    settings.DEBUG = True
    opened("payments")
    assert get("/api/pay").status_code == 503
    settings.MIDDLEWARE = ["fluxgate_django.middleware.CircuitBreakerMiddleware"]
    assert get("/bare/pay").status_code == 500, "Ninja's own page comes before the middleware"


def test_without_the_hook_the_middleware_answers(
    opened: Callable[[str], CircuitBreaker], settings: Any
) -> None:
    settings.MIDDLEWARE = ["fluxgate_django.middleware.CircuitBreakerMiddleware"]
    opened("payments")
    assert get("/bare/pay").status_code == 503


def test_a_refusal_in_a_group(opened: Callable[[str], CircuitBreaker]) -> None:
    opened("payments")
    assert get("/api/grouped").status_code == 503
    assert get("/api/grouped", refused=False).status_code == 500


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [(200, (1, 0, 0)), (404, (1, 0, 0)), (503, (0, 1, 0)), (502, (0, 1, 0))],
)
def test_what_counts(outcome: int, expected: tuple[int, int, int]) -> None:
    assert get("/api/search", word="tea", outcome=outcome).status_code == outcome
    assert counts("search") == expected


@pytest.mark.filterwarnings("ignore:Returning tuple:DeprecationWarning")
def test_a_status_and_a_body_count_too() -> None:
    assert get("/bare/pair", outcome=400).status_code == 422
    assert counts("search") == (0, 0, 1)
    assert get("/bare/pair", outcome=200).status_code == 200
    assert get("/bare/pair", outcome=503).status_code == 503
    assert counts("search") == (1, 1, 1)


def test_a_pair_that_another_function_returns_is_no_status() -> None:
    assert circuit("search")(lambda: (503, "busy"))() == (503, "busy")
    assert counts("search") == (1, 0, 0)


def test_invalid_parameters_do_not_reach_the_circuit() -> None:
    assert get("/api/search").status_code == 422
    assert counts("search") == (0, 0, 0)


def test_on_open_answers_in_the_operations_own_terms(
    opened: Callable[[str], CircuitBreaker],
) -> None:
    send = Client().post
    body = {"word": "tea"}
    assert send("/api/items", body, content_type="application/json").json() == "tea"
    opened("search")
    assert send("/api/items", body, content_type="application/json").json() == "later: tea"


def test_a_transaction_of_the_request_is_rolled_back(
    atomic: Callable[[], int], opened: Callable[[str], CircuitBreaker]
) -> None:
    """Ninja makes a response of the exception, which Django's `atomic` never sees."""
    assert get("/api/writing").status_code == 200
    assert atomic() == 1
    opened("payments")
    assert get("/api/writing").status_code == 503
    assert atomic() == 1


def test_an_async_operation(opened: Callable[[str], CircuitBreaker]) -> None:
    ask = async_to_sync(AsyncClient().get)
    assert ask("/api/async", {"word": "tea"}).json() == "tea"
    assert ask("/api/async", {"word": "fail"}).json() == "stale: ValueError"
    assert counts("search") == (1, 1, 0)
    opened("search")
    assert ask("/api/async", {"word": "tea"}).json() == "stale: CallNotPermittedError"


def test_installing_again_changes_nothing(opened: Callable[[str], CircuitBreaker]) -> None:
    assert install(api) is api
    opened("payments")
    assert get("/api/pay").status_code == 503
    with pytest.raises(TypeError, match=r"install\(\) takes a NinjaAPI, not 5"):
        install(5)  # type: ignore[type-var]


def test_without_ninja_the_import_says_what_to_install() -> None:
    code = """
import sys
sys.modules["ninja"] = None
import fluxgate_django.ninja
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(
        "fluxgate_django.ninja needs Django Ninja: pip install django-ninja"
    )
