"""What the FastAPI package costs a request: in-process ASGI, side by side, in one run.

    python benchmarks/fastapi_cost.py [--quick] [--json FILE]

Whole requests through the application, without a server or a socket, which would only hide
what is measured. The method is that of README.md: short turns side by side, ratios within the
round, medians over the rounds, the lowest of three passes. The requests do nothing, which is the
worst case.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import fastapi
from fastapi import APIRouter, Depends, FastAPI, Request
from timing import Times, Turn, own_code, race

from fluxgate import AsyncCircuitBreaker
from fluxgate_fastapi import Breaker, BreakerRoute, CircuitBreakerMiddleware, guard, install

SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"testserver")],
    "client": ("127.0.0.1", 50_000),
    "server": ("127.0.0.1", 80),
    "state": {},
}


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def requests(runner: asyncio.Runner, app: Any) -> Turn:
    """Turns of requests to `/`, one after the other, in one running loop."""
    statuses: set[int] = set()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    async def serve(calls: int) -> float:
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            await app(SCOPE.copy(), receive, send)
        return perf_counter() - start

    own = own_code(serve)

    def turn(calls: int) -> float:
        seconds = runner.run(own(calls))
        if statuses != {200}:
            raise RuntimeError(f"requests were answered with {statuses}")
        return seconds

    return turn


async def started(app: FastAPI) -> None:
    """Go through the application's start, as a server does."""
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def ask() -> dict[str, Any]:
        return messages.pop(0)

    async def answer(message: dict[str, Any]) -> None:
        if message["type"].endswith("failed"):
            raise RuntimeError(message["message"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, ask, answer)


def plain() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> dict[str, int]:
        return {"a": 1}

    return app


def with_dependency(dependency: Callable[..., Any], installed: bool) -> FastAPI:
    app = FastAPI()
    if installed:
        install(app)

    @app.get("/")
    async def endpoint(given: Annotated[Any, Depends(dependency)]) -> dict[str, int]:  # noqa: ARG001
        return {"a": 1}

    return app


def installed() -> FastAPI:
    app = plain()
    install(app)
    return app


def guarded() -> FastAPI:
    app = FastAPI()
    install(app)

    @app.get("/", dependencies=[guard("search")])
    async def endpoint() -> dict[str, int]:
        return {"a": 1}

    return app


def behind(route_class: type[fastapi.routing.APIRoute]) -> FastAPI:
    app = FastAPI()
    install(app)
    router = APIRouter(route_class=route_class)

    @router.get("/")
    async def endpoint() -> dict[str, int]:
        return {"a": 1}

    app.include_router(router)
    return app


def with_middleware() -> FastAPI:
    app = plain()
    app.add_middleware(CircuitBreakerMiddleware)
    return app


async def trivial() -> object:
    return BREAKER


async def trivial_of_request(request: Request) -> object:  # noqa: ARG001
    return BREAKER


async def yielding() -> Any:
    yield


def trivially_guarded() -> FastAPI:
    app = FastAPI()

    @app.get("/", dependencies=[Depends(yielding, scope="function")])
    async def endpoint() -> dict[str, int]:
        return {"a": 1}

    return app


BREAKER = AsyncCircuitBreaker("trivial")
WARM_UP = 20
"""Untimed requests before each turn."""

RATIOS = [
    ("Depends(Breaker)", "trivial dependency", 1.03),
    ("Depends(Breaker), sync", "trivial dependency", None),
    ("Depends(Breaker), no install", "trivial dependency", None),
    ("Depends(Breaker)", "trivial dependency of the request", None),
    ("install", "plain", 1.03),
    ("guard", "trivial yield dependency", None),
    ("BreakerRoute", "APIRoute on a router", None),
    ("CircuitBreakerMiddleware", "plain", None),
]


def measure(runner: asyncio.Runner, rounds: int, calls: int) -> Times:
    apps = {
        "plain": plain(),
        "install": installed(),
        "trivial dependency": with_dependency(trivial, False),
        "trivial dependency of the request": with_dependency(trivial_of_request, False),
        "Depends(Breaker)": with_dependency(Breaker("payments"), True),
        "Depends(Breaker), sync": with_dependency(Breaker("payments", sync=True), True),
        "Depends(Breaker), no install": with_dependency(Breaker("payments"), False),
        "trivial yield dependency": trivially_guarded(),
        "guard": guarded(),
        "APIRoute on a router": behind(fastapi.routing.APIRoute),
        "BreakerRoute": behind(BreakerRoute),
        "CircuitBreakerMiddleware": with_middleware(),
    }
    for app in apps.values():
        runner.run(started(app))
    turns = {name: requests(runner, app) for name, app in apps.items()}
    return race(turns, rounds, calls, warm_up=WARM_UP)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, help="write what was measured, every pass included")
    arguments = parser.parse_args()
    rounds, calls = (10, 50) if arguments.quick else (200, 100)
    with asyncio.Runner() as runner:
        passes = [measure(runner, rounds, calls) for _ in range(1 if arguments.quick else 3)]
    print(f"Python {sys.version.split()[0]}, FastAPI {fastapi.__version__}; {rounds} rounds")
    figures = []
    for name, other, limit in RATIOS:
        ratios = [times.ratio(name, other) for times in passes]
        met = "reached" if limit is not None and min(ratios) <= limit else "missed"
        verdict = "" if limit is None else f"<= {limit}: {met}"
        micro = passes[0].ns(name) / 1000
        print(f"{name + ' ÷ ' + other:66} {min(ratios):.3f}  {micro:6.1f} us  {verdict}")
        figures.append({"what": f"{name} / {other}", "ratios": ratios, "reach": limit})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
