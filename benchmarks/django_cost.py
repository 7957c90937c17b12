"""What the Django package costs a request: Django's own handlers, side by side, in one run.

    python benchmarks/django_cost.py [--quick] [--json FILE]

Whole requests through `WSGIHandler` and `ASGIHandler`, without a server or a socket, which would
only hide what is measured. The method is that of README.md: short turns side by side, ratios
within the round, medians over the rounds, the lowest of three passes. The views do nothing, which
is the worst case.
"""

import argparse
import asyncio
import io
import json
import sys
from collections.abc import Callable
from inspect import iscoroutinefunction
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import sync_and_async_middleware
from timing import Times, Turn, own_code, race

OURS = "fluxgate_django.middleware.CircuitBreakerMiddleware"
EMPTY = f"{__name__}.pass_through"

settings.configure(
    SECRET_KEY="benchmark",
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["fluxgate_django"],
    FLUXGATE={"BREAKERS": {}},
)
django.setup()

from fluxgate_django import circuit  # noqa: E402 - as in any Django module: settings come first


@sync_and_async_middleware
def pass_through(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """The empty middleware that ours is held against."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponse:
            return await get_response(request)

        return asynchronous

    def sync(request: HttpRequest) -> HttpResponse:
        return get_response(request)

    return sync


def view(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"{}")


async def async_view(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"{}")


# Functions of their own: nobody undoes the specialisation of another's bytecode.
with_circuit = circuit("search")(own_code(view))
async_with_circuit = circuit("find")(own_code(async_view))

urlpatterns = [
    path("view", view),
    path("circuit", with_circuit),
    path("async-view", async_view),
    path("async-circuit", async_with_circuit),
]


def sync_requests(handler: WSGIHandler, path: str) -> Turn:
    """Turns of requests to `path`, one after the other."""
    request = RequestFactory().get(path)
    environ = {**request.environ, "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}
    statuses: set[str] = set()

    def start_response(status: str, _headers: Any, _info: Any = None) -> None:
        statuses.add(status)

    def serve(calls: int) -> float:
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            handler(environ.copy(), start_response).close()
        seconds = perf_counter() - start
        if statuses != {"200 OK"}:
            raise RuntimeError(f"requests were answered with {statuses}")
        return seconds

    return own_code(serve)


def async_requests(runner: asyncio.Runner, handler: ASGIHandler, path: str) -> Turn:
    """The same over ASGI, in one running loop."""
    scope = AsyncRequestFactory().get(path).scope
    statuses: set[int] = set()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    async def request() -> None:
        told = False

        async def receive() -> dict[str, Any]:
            nonlocal told
            if told:  # Django listens for the end of the connection, which doesn't come
                await asyncio.get_running_loop().create_future()
            told = True
            return {"type": "http.request", "body": b"", "more_body": False}

        await handler(scope.copy(), receive, send)

    async def serve(calls: int) -> float:
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            await request()
        return perf_counter() - start

    own = own_code(serve)

    def turn(calls: int) -> float:
        seconds = runner.run(own(calls))
        if statuses != {200}:
            raise RuntimeError(f"requests were answered with {statuses}")
        return seconds

    return turn


def async_responses(runner: asyncio.Runner, handler: ASGIHandler, path: str) -> Turn:
    """What `ASGIHandler` asks of the middleware and the view, without its tasks and threads."""

    async def serve(calls: int) -> float:
        # Made beforehand: making it costs as much as answering it.
        todo = [factory.get(path) for _ in range(calls)]
        start = perf_counter()
        for request in todo:
            await handler.get_response_async(request)
        return perf_counter() - start

    factory = AsyncRequestFactory()
    own = own_code(serve)
    return lambda calls: runner.run(own(calls))


def calls_of(function: Callable[[HttpRequest], HttpResponse]) -> Turn:
    """Calls of a view, without Django."""
    request = RequestFactory().get("/")

    def turn(calls: int) -> float:
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            function(request)
        return perf_counter() - start

    return own_code(turn)


def async_calls_of(runner: asyncio.Runner, function: Callable[[HttpRequest], Any]) -> Turn:
    request = RequestFactory().get("/")

    async def turn(calls: int) -> float:
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            await function(request)
        return perf_counter() - start

    own = own_code(turn)
    return lambda calls: runner.run(own(calls))


def handler_of(kind: type[BaseHandler], *middleware: str) -> Any:
    with override_settings(MIDDLEWARE=middleware):
        return kind()


WARM_UP = 20
"""Untimed requests before each turn."""
MIDDLEWARE = {
    "none": (),
    "an empty one": (EMPTY,),
    "an empty one again": (EMPTY,),  # what the machine's noise makes of two that are the same
    "our middleware": (OURS,),
}

RATIOS = [
    ("WSGI, our middleware", "WSGI, an empty one", 1.02),
    ("WSGI, an empty one again", "WSGI, an empty one", None),
    ("WSGI, an empty one", "WSGI, none", None),
    ("WSGI, @circuit", "WSGI, our middleware", 1.05),
    ("ASGI, our middleware", "ASGI, an empty one", 1.02),
    ("ASGI, an empty one again", "ASGI, an empty one", None),
    ("ASGI, an empty one", "ASGI, none", None),
    ("ASGI, @circuit", "ASGI, our middleware", 1.05),
    ("get_response_async, our middleware", "get_response_async, an empty one", None),
    ("get_response_async, @circuit", "get_response_async, our middleware", None),
    ("view with @circuit", "view", None),
    ("async view with @circuit", "async view", None),
]


def measure(runner: asyncio.Runner, rounds: int, calls: int) -> Times:
    """Races for each kind: what is compared has its turns in the same one."""
    turns = {
        f"WSGI, {name}": sync_requests(handler_of(WSGIHandler, *middleware), "/view")
        for name, middleware in MIDDLEWARE.items()
    }
    turns["WSGI, @circuit"] = sync_requests(handler_of(WSGIHandler, OURS), "/circuit")
    times = dict(race(turns, rounds, calls, warm_up=WARM_UP).by_name)

    handlers = {name: handler_of(ASGIHandler, *given) for name, given in MIDDLEWARE.items()}
    ours = handlers["our middleware"]
    for kind, make in (("ASGI", async_requests), ("get_response_async", async_responses)):
        turns = {
            f"{kind}, {name}": make(runner, handler, "/async-view")
            for name, handler in handlers.items()
        }
        turns[f"{kind}, @circuit"] = make(runner, ours, "/async-circuit")
        times |= race(turns, rounds, calls, warm_up=WARM_UP).by_name

    turns = {
        "view": calls_of(own_code(view)),
        "view with @circuit": calls_of(with_circuit),
        "async view": async_calls_of(runner, own_code(async_view)),
        "async view with @circuit": async_calls_of(runner, async_with_circuit),
    }
    return Times(times | race(turns, rounds, 20 * calls).by_name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, help="write what was measured, every pass included")
    arguments = parser.parse_args()
    rounds, calls = (10, 50) if arguments.quick else (200, 100)
    with asyncio.Runner() as runner:
        passes = [measure(runner, rounds, calls) for _ in range(1 if arguments.quick else 3)]
    print(f"Python {sys.version.split()[0]}, Django {django.__version__}; {rounds} rounds")
    figures = []
    for name, other, limit in RATIOS:
        ratios = [times.ratio(name, other) for times in passes]
        met = "reached" if limit is not None and min(ratios) <= limit else "missed"
        verdict = "" if limit is None else f"<= {limit}: {met}"
        micro = passes[0].ns(name) / 1000
        print(f"{name + ' ÷ ' + other:72} {min(ratios):.3f}  {micro:6.1f} us  {verdict}")
        figures.append({"what": f"{name} / {other}", "ratios": ratios, "reach": limit})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
