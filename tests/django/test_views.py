"""Class-based views behind a circuit: the mixin, and `method_decorator`."""

# ruff: noqa: ARG001 - views take a request, whether they look at it or not

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.utils.decorators import method_decorator
from django.views import View
from django.views.generic import TemplateView

from fluxgate import CallNotPermittedError, CircuitBreaker
from fluxgate_django import CircuitMixin, breakers, circuit
from fluxgate_django.decorators import uses

pytestmark = pytest.mark.usefixtures("fluxgate")
requests = RequestFactory()
async_requests = AsyncRequestFactory()


def counts(name: str = "search") -> tuple[int, int, int]:
    """Successes, failures, ignored."""
    totals = breakers[name].info().totals
    return totals.successes, totals.failures, totals.ignored


class Search(CircuitMixin, View):
    circuit = "search"

    def get(self, request: HttpRequest, word: str = "") -> HttpResponse:
        if word == "fail":
            raise ValueError("failed")
        if word == "none":
            raise Http404
        return HttpResponse(f"found {word}")

    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=503)


class AsyncSearch(CircuitMixin, View):
    circuit = "search"

    async def get(self, request: HttpRequest, word: str = "") -> HttpResponse:
        if word == "fail":
            raise ValueError("failed")
        return HttpResponse(f"found {word} in {threading.get_ident()}")


def test_the_mixin_guards_each_handler(opened: Callable[[str], CircuitBreaker]) -> None:
    view = Search.as_view()
    assert view(requests.get("/"), word="tea").content == b"found tea"
    assert view(requests.head("/"), word="tea").status_code == 200
    with pytest.raises(Http404):
        view(requests.get("/"), word="none")
    with pytest.raises(ValueError, match="failed"):
        view(requests.get("/"), word="fail")
    assert view(requests.post("/")).status_code == 503
    assert counts() == (3, 2, 0)
    opened("search")
    with pytest.raises(CallNotPermittedError):
        view(requests.get("/"), word="tea")


def test_what_reaches_no_handler_says_nothing(opened: Callable[[str], CircuitBreaker]) -> None:
    class Private(LoginRequiredMixin, Search):
        raise_exception = False
        login_url = "/login"

    opened("search")
    view = Private.as_view()
    anonymous = requests.get("/")
    anonymous.user = AnonymousUser()
    assert view(anonymous).status_code == 302
    anonymous = requests.options("/")
    anonymous.user = type("User", (), {"is_authenticated": True})()
    assert view(anonymous).status_code == 200
    assert Search.as_view()(requests.put("/")).status_code == 405
    assert counts() == (0, 2, 0)  # what opened it


async def dispatched(view: Any, **kwargs: Any) -> HttpResponse:
    return await view(async_requests.get("/"), **kwargs)


@pytest.mark.asyncio
async def test_the_mixin_on_an_async_view(opened: Callable[[str], CircuitBreaker]) -> None:
    view = AsyncSearch.as_view()
    assert iscoroutinefunction(view)
    response = await dispatched(view, word="tea")
    assert response.content.decode() == f"found tea in {threading.get_ident()}"
    with pytest.raises(ValueError, match="failed"):
        await dispatched(view, word="fail")
    assert counts() == (1, 1, 0)
    opened("search")
    with pytest.raises(CallNotPermittedError):
        await dispatched(view)


class Answering(Search):
    def circuit_fallback(self, error: Exception) -> HttpResponse:
        if isinstance(error, ValueError):
            return HttpResponse(f"{self.kwargs['word']}: {error}")
        raise error

    def circuit_on_open(self, request: HttpRequest, word: str = "") -> HttpResponse:
        return HttpResponse(f"no results for {word}: {request.refusal}")  # type: ignore[attr-defined]


class AsyncAnswering(AsyncSearch):
    async def circuit_fallback(self, error: Exception) -> HttpResponse:
        return HttpResponse(f"{self.kwargs['word']}: {error}")

    def circuit_on_open(self, request: HttpRequest, word: str = "") -> HttpResponse:
        return HttpResponse(f"no results for {word}")


def test_the_mixins_answers_are_methods(opened: Callable[[str], CircuitBreaker]) -> None:
    view = Answering.as_view()
    assert view(requests.get("/"), word="fail").content == b"fail: failed"
    with pytest.raises(Http404):
        view(requests.get("/"), word="none")
    opened("search")
    answer = view(requests.get("/"), word="tea").content.decode()
    assert answer.startswith("no results for tea: circuit 'search' is open")


@pytest.mark.asyncio
async def test_the_mixins_answers_on_an_async_view(opened: Callable[[str], CircuitBreaker]) -> None:
    view = AsyncAnswering.as_view()
    assert (await dispatched(view, word="fail")).content == b"fail: failed"
    opened("search")
    assert (await dispatched(view, word="tea")).content == b"no results for tea"


def test_the_circuit_can_be_named_in_the_urls() -> None:
    Search.as_view(circuit="other")(requests.get("/"))
    assert counts("other") == (1, 0, 0)
    assert counts() == (0, 0, 0)


def test_the_statuses_can_be_named() -> None:
    class Picky(Search):
        circuit_statuses = (404,)

    with pytest.raises(Http404):
        Picky.as_view()(requests.get("/"), word="none")
    Picky.as_view()(requests.post("/"))
    assert counts() == (1, 1, 0)
    with pytest.raises(ValueError, match="status codes are from"):

        class Wrong(Search):
            circuit_statuses = (4040,)


def test_a_mixin_in_the_wrong_place_would_never_be_asked() -> None:
    with pytest.raises(TypeError, match=r"class Late\(CircuitMixin, \.\.\.\)"):

        class Late(View, CircuitMixin):
            circuit = "search"

    class WithoutName(CircuitMixin, TemplateView):
        template_name = "x.html"

    with pytest.raises(ImproperlyConfigured, match=r"WithoutName needs a name: circuit = "):
        WithoutName.as_view()(requests.get("/"))


def test_mixins_are_uses() -> None:
    assert ("search", f"{__name__}.Search") in uses()


# -- method_decorator


@method_decorator(circuit("search", on_open=lambda _: HttpResponse("closed")), name="dispatch")
class Decorated(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("found")


async def closed(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"closed in {threading.get_ident()}")


async def stale(error: Exception) -> HttpResponse:
    return HttpResponse(f"stale: {error}")


@method_decorator(circuit("search", on_open=closed, fallback=stale), name="dispatch")
class AsyncDecorated(View):
    """`dispatch` of an async view is no coroutine function, and returns a coroutine."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        if request.GET:
            raise ValueError("failed")
        return HttpResponse(f"found in {threading.get_ident()}")


class OwnDispatch(View):
    @circuit("search", on_open=closed)
    def dispatch(self, request: HttpRequest) -> Any:
        return super().dispatch(request)

    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=503)


def test_method_decorator_on_dispatch(opened: Callable[[str], CircuitBreaker]) -> None:
    view = Decorated.as_view()
    assert view(requests.get("/")).content == b"found"
    assert counts() == (1, 0, 0)
    opened("search")
    assert view(requests.get("/")).content == b"closed"


@pytest.mark.asyncio
async def test_method_decorator_on_an_async_dispatch(
    opened: Callable[[str], CircuitBreaker],
) -> None:
    view = AsyncDecorated.as_view()
    found = await view(async_requests.get("/"))
    assert found.content.decode() == f"found in {threading.get_ident()}"
    failed = await view(async_requests.get("/", {"fail": "1"}))
    assert failed.content == b"stale: failed"
    assert counts() == (1, 1, 0), "settled when it was awaited, not when it was made"
    opened("search")
    answer = await view(async_requests.get("/"))
    assert answer.content.decode() == f"closed in {threading.get_ident()}"


@pytest.mark.asyncio
async def test_a_dispatch_of_ones_own(opened: Callable[[str], CircuitBreaker]) -> None:
    view = OwnDispatch.as_view()
    assert (await view(async_requests.get("/"))).status_code == 503
    assert counts() == (0, 1, 0)
    opened("search")
    answer = await view(async_requests.get("/"))
    assert answer.content.decode() == f"closed in {threading.get_ident()}"


@pytest.mark.asyncio
async def test_a_sync_method_of_an_async_view(opened: Callable[[str], CircuitBreaker]) -> None:
    class Helped(View):
        @circuit("search", on_open=lambda _, word: f"no {word}")
        def find(self, request: HttpRequest, word: str) -> str:
            return word

        async def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse(self.find(request, "tea"))

    opened("search")
    assert (await dispatched(Helped.as_view())).content == b"no tea"


def test_method_decorator_on_a_handler() -> None:
    class Handler(View):
        @method_decorator(circuit("search"))
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("found")

        @circuit("search")
        def post(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("posted")

    view = Handler.as_view()
    assert view(requests.get("/")).content == b"found"
    assert view(requests.post("/")).content == b"posted"
    assert counts() == (2, 0, 0)


def test_the_decorator_on_what_as_view_gives() -> None:
    assert circuit("search")(Search.as_view())(requests.get("/"), word="a").content == b"found a"
    assert counts() == (2, 0, 0)  # the decorator's, and the mixin's


def test_changed_settings_hold_for_classes() -> None:
    view = Search.as_view()
    settings = {"DEFAULTS": {"INITIAL_STATE": "forced_open"}}
    with override_settings(FLUXGATE=settings), pytest.raises(CallNotPermittedError):
        view(requests.get("/"))
    assert view(requests.get("/")).status_code == 200
