"""Async views, and the promise that neither middleware nor decorator costs a thread."""

# ruff: noqa: ARG001 - views take a request, whether they look at it or not

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.core.handlers.asgi import ASGIHandler
from django.http import Http404, HttpRequest, HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.urls import path

from fluxgate import CallNotPermittedError, CircuitBreaker
from fluxgate.testing import ManualClock
from fluxgate_django import breakers, circuit

pytestmark = pytest.mark.usefixtures("fluxgate")
OURS = "fluxgate_django.middleware.CircuitBreakerMiddleware"
GET = AsyncRequestFactory().get("/search")


def counts(name: str = "search") -> tuple[int, int, int, int]:
    """Successes, failures, ignored, cancelled."""
    totals = breakers[name].info().totals
    return totals.successes, totals.failures, totals.ignored, totals.cancelled


@circuit("search")
async def search(request: HttpRequest) -> HttpResponse:
    seen.append(threading.get_ident())
    return HttpResponse("found")


@circuit("search")
def sync_search(request: HttpRequest) -> HttpResponse:
    seen.append(threading.get_ident())
    return HttpResponse("found")


seen: list[int] = []
"""The threads that did the work."""


def witness(get_response: Any) -> Any:
    """Middleware that notes the thread on both ways."""
    if iscoroutinefunction(get_response):

        async def middleware(request: HttpRequest) -> HttpResponse:
            seen.append(threading.get_ident())
            response = await get_response(request)
            seen.append(threading.get_ident())
            return response

    else:

        def middleware(request: HttpRequest) -> HttpResponse:
            seen.append(threading.get_ident())
            response = get_response(request)
            seen.append(threading.get_ident())
            return response

    return middleware


witness.async_capable = True  # type: ignore[attr-defined]


async def refused(request: HttpRequest) -> HttpResponse:
    async def pay() -> None: ...

    await breakers.asynchronous["payments"].call(pay)
    return HttpResponse()


urlpatterns = [path("async", search), path("sync", sync_search), path("refused", refused)]


@pytest.fixture(autouse=True)
def _application(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "threads_seen", sys.modules[__name__])
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["threads_seen.witness", OURS, "threads_seen.witness"]
    seen.clear()


# -- no thread


@pytest.mark.asyncio
async def test_an_async_request_stays_on_the_loop() -> None:
    """Middleware outside, middleware inside, and the view: all on the loop's own thread."""
    assert (await AsyncClient().get("/async")).content == b"found"
    assert seen == [threading.get_ident()] * 5


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["/async", "/sync"])
async def test_nothing_asks_for_a_thread(
    where: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But Django itself: for a sync view, and what the test client does."""
    hops: list[object] = []
    hop = SyncToAsync.__call__

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        hops.append(self.func)
        return await hop(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", counted)
    assert (await AsyncClient().get(where)).content == b"found"
    with_ours = list(map(repr, hops))
    hops.clear()
    settings.MIDDLEWARE = ["threads_seen.witness", "threads_seen.witness"]
    await AsyncClient().get(where)
    assert len(hops) == len(with_ours), f"{with_ours}, and without the middleware {hops}"


@pytest.mark.asyncio
async def test_what_the_loop_waits_for_is_nothing_of_ours() -> None:
    """Each step of the coroutine that a request is finishes at once: nothing is handed out."""
    handler = ASGIHandler()
    request = AsyncRequestFactory().get("/async")
    steps = handler.get_response_async(request)
    with pytest.raises(StopIteration) as done:
        steps.send(None)
    assert done.value.value.content == b"found"


def test_a_sync_request_stays_on_its_thread() -> None:
    assert Client().get("/sync").content == b"found"
    assert seen == [threading.get_ident()] * 5


@pytest.mark.asyncio
async def test_an_async_refusal_is_answered(opened: Callable[[str], CircuitBreaker]) -> None:
    opened("payments")
    response = await AsyncClient().get("/refused")
    assert (response.status_code, response["Retry-After"]) == (503, "30")


# -- the decorator on async functions


@pytest.mark.asyncio
async def test_it_is_async_as_what_it_decorates() -> None:
    assert iscoroutinefunction(search)
    assert not iscoroutinefunction(sync_search)
    assert iscoroutinefunction(circuit("search")(functools.partial(search)))


@pytest.mark.asyncio
async def test_failures_open_it_and_good_calls_close_it(clock: ManualClock) -> None:
    @circuit("search")
    async def divide(by: int) -> float:
        await asyncio.sleep(0)
        return 1 / by

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await divide(0)
    with pytest.raises(CallNotPermittedError):
        await divide(1)
    clock.advance(30)
    assert [await divide(1), await divide(1)] == [1, 1]
    assert counts() == (2, 2, 0, 0)


@pytest.mark.asyncio
async def test_it_counts_when_the_call_ends(clock: ManualClock) -> None:
    going = asyncio.Event()

    @circuit("search")
    async def slow() -> str:
        await going.wait()
        return "slow"

    call = asyncio.create_task(slow())
    await asyncio.sleep(0)
    assert counts() == (0, 0, 0, 0)
    clock.advance(5)
    going.set()
    assert await call == "slow"
    totals = breakers["search"].info().totals
    assert (totals.successes, totals.duration) == (1, 5)


@pytest.mark.asyncio
async def test_a_cancelled_request_proves_nothing() -> None:
    @circuit("search", fallback=lambda _: "stale")
    async def forever() -> None:
        await asyncio.Event().wait()

    call = asyncio.create_task(forever())
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert counts() == (0, 0, 0, 1)


@pytest.mark.asyncio
async def test_answers_count_by_status_here_too() -> None:
    @circuit("search")
    async def missing(request: HttpRequest) -> HttpResponse:
        raise Http404

    @circuit("search")
    async def down(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=503)

    with pytest.raises(Http404):
        await missing(GET)
    await down(GET)
    assert counts() == (1, 1, 0, 0)


async def stale(error: Exception) -> str:
    await asyncio.sleep(0)
    return f"stale: {error!r}"


@pytest.mark.parametrize("fallback", [stale, lambda error: f"stale: {error!r}"])
@pytest.mark.asyncio
async def test_a_fallback_may_be_either(
    fallback: Any, opened: Callable[[str], CircuitBreaker]
) -> None:
    @circuit("search", fallback=fallback)
    async def failing() -> str:
        await asyncio.sleep(0)
        raise ValueError("failed")

    assert await failing() == "stale: ValueError('failed')"
    opened("search")
    assert (await failing()).startswith("stale: CallNotPermittedError('search'")


async def closed(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"closed {threading.get_ident()}")


def closed_sync(request: HttpRequest) -> HttpResponse:
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    return HttpResponse("closed elsewhere")


@pytest.mark.asyncio
async def test_on_open_runs_as_django_runs_views(opened: Callable[[str], CircuitBreaker]) -> None:
    """An async one on the loop; a sync one, which may ask a database, in a thread."""
    opened("search")
    here = await circuit("search", on_open=closed)(search)(GET)
    assert here.content.decode() == f"closed {threading.get_ident()}"
    there = await circuit("search", on_open=closed_sync)(search)(GET)
    assert there.content == b"closed elsewhere"


def test_on_open_of_a_sync_view_may_be_async(opened: Callable[[str], CircuitBreaker]) -> None:
    opened("search")
    answer = circuit("search", on_open=closed)(sync_search)(GET)
    assert answer.content.startswith(b"closed ")


@pytest.mark.asyncio
async def test_whatever_can_be_awaited_is_awaited() -> None:
    class Marked:
        """As `as_view()` gives it: marked as async, and gives something to await."""

        def __init__(self) -> None:
            markcoroutinefunction(self)

        def __call__(self) -> asyncio.Future[str]:
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_exception, ValueError("late"))
            return future

    with pytest.raises(ValueError, match="late"):
        await circuit("search")(Marked())()
    assert counts() == (0, 1, 0, 0)


@pytest.mark.asyncio
async def test_an_async_generator_that_is_closed_early_proves_nothing() -> None:
    @circuit("search")
    async def items() -> AsyncIterator[int]:
        yield 1
        yield 2

    async with contextlib.aclosing(items()) as made:
        assert await anext(made) == 1
    assert counts() == (0, 0, 1, 0)


@pytest.mark.asyncio
async def test_many_requests_at_once_count_exactly() -> None:
    client = AsyncClient()
    await asyncio.gather(*(client.get("/async") for _ in range(200)))
    assert counts() == (200, 0, 0, 0)


def test_one_circuit_for_sync_and_async() -> None:
    Client().get("/sync")
    async_to_sync(AsyncClient().get)("/async")
    assert counts() == (2, 0, 0, 0)
