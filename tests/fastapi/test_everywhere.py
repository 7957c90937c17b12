"""A refusal is answered wherever it is raised, and nothing else is masked."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker, ConfigError
from fluxgate.registry import Registry
from fluxgate_fastapi import Breaker, CircuitBreakerMiddleware, health, install, registry_of

Opened = Callable[[str], CircuitBreaker]
ORIGIN = {"origin": "https://shop.example"}


class Asking:
    """Middleware that makes a call through a circuit before each request."""

    def __init__(self, app: ASGIApp, breaker: CircuitBreaker) -> None:
        self.app, self.breaker = app, breaker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.breaker.call(int)
        await self.app(scope, receive, send)


def _shop(registry: Registry) -> FastAPI:
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/")
    async def index() -> str:
        return "fine"

    return app


# -- middleware


@pytest.mark.parametrize("first", ["install", "middleware"])
def test_middleware_above(first: str, drive: Any, registry: Registry, opened: Opened) -> None:
    app = FastAPI()
    if first == "install":
        install(app, registry=registry)
    app.add_middleware(Asking, breaker=registry["users"])
    if first != "install":
        install(app, registry=registry)
    client = drive(app)
    assert client.get("/none").status_code == 404
    opened("users")
    refused = client.get("/none")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")


def test_base_http_middleware(drive: Any, registry: Registry, opened: Opened) -> None:
    app = _shop(registry)

    async def ask(request: Request, call_next: Any) -> Response:
        registry["users"].call(int)
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=ask)
    client = drive(app)
    assert client.get("/").json() == "fine"
    opened("users")
    assert client.get("/").status_code == 503


@pytest.mark.parametrize("outermost", ["cors", "asking"])
def test_cors_headers_on_it(outermost: str, drive: Any, registry: Registry, opened: Opened) -> None:
    """An answer passes CORS unless the refusal comes from further out, where nothing is added."""
    app = _shop(registry)
    cors = functools.partial(app.add_middleware, CORSMiddleware, allow_origins=["*"])
    asking = functools.partial(app.add_middleware, Asking, breaker=registry["users"])
    for add in (asking, cors) if outermost == "cors" else (cors, asking):
        add()
    opened("users")
    refused = drive(app).get("/", headers=ORIGIN)
    if outermost == "cors":
        assert refused.status_code == 503
        assert refused.headers["access-control-allow-origin"] == "*"
    else:
        assert refused.status_code == 500  # see the page on FastAPI: CORS comes last


def test_the_middleware_list_stays(registry: Registry) -> None:
    app = _shop(registry)
    app.add_middleware(Asking, breaker=registry["users"])
    TestClient(app).get("/")
    assert [each.cls for each in app.user_middleware] == [Asking]


# -- applications below


def test_a_mounted_app_not_installed(drive: Any, registry: Registry, opened: Opened) -> None:
    app, below = _shop(registry), FastAPI()

    @below.get("/pay")
    async def pay() -> int:
        return registry["payments"].call(int)

    app.mount("/below", below)
    client = drive(app)
    assert client.get("/below/pay").json() == 0
    opened("payments")
    refused = client.get("/below/pay")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert refused.headers["content-type"] == "application/problem+json"


def test_around_a_whole_app(drive: Any, registry: Registry, opened: Opened) -> None:
    async def pay(_: Any) -> Response:
        return PlainTextResponse(str(registry["payments"].call(int)))

    async def broken(_: Any) -> Response:
        raise LookupError("not a refusal")

    routes = [Route("/pay", pay), Route("/broken", broken)]
    client = drive(CircuitBreakerMiddleware(Starlette(routes=routes)))
    assert client.get("/pay").text == "0"
    opened("payments")
    assert client.get("/pay").status_code == 503
    assert client.get("/broken").status_code == 500


def test_a_group_in_a_websocket(over_test_client: Any, registry: Registry, opened: Opened) -> None:
    app = _shop(registry)

    @app.websocket("/feed")
    async def feed(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            registry["feed"].call(int)
        except CallNotPermittedError as refusal:
            raise ExceptionGroup("tasks", [refusal]) from None

    opened("feed")
    with over_test_client(app).websocket_connect("/feed") as socket:
        assert socket.receive()["code"] == 1013


# -- what is not ours


@pytest.mark.parametrize("mounted", [False, True])
def test_a_foreign_group_is_untouched(mounted: bool, registry: Registry) -> None:
    """Raised after the response began: with a handler for groups, Starlette masked it."""
    app, group = _shop(registry), ExceptionGroup("import", [ValueError("row 7")])

    @app.get("/work")
    async def work(tasks: BackgroundTasks) -> str:
        async def fail() -> None:
            raise group

        tasks.add_task(fail)
        return "begun"

    served = app
    if mounted:
        served = FastAPI()
        install(served, registry=registry)
        served.mount("/below", app)
    with pytest.raises(ExceptionGroup) as raised:
        TestClient(served).get("/below/work" if mounted else "/work")
    assert raised.value is group


def test_a_group_handler_of_ones_own(drive: Any, registry: Registry, opened: Opened) -> None:
    app = _shop(registry)

    @app.exception_handler(ExceptionGroup)
    async def handle(_: Request, error: ExceptionGroup) -> Response:
        return PlainTextResponse(f"{len(error.exceptions)} errors", 418)

    @app.get("/group")
    async def group() -> None:
        raise ExceptionGroup("two", [ValueError(), LookupError()])

    opened("payments")
    assert drive(app).get("/group").status_code == 418


# -- the answer


def test_no_cache_keeps_it(drive: Any, registry: Registry, opened: Opened) -> None:
    app = _shop(registry)

    @app.get("/pay")
    async def pay() -> int:
        return registry["payments"].call(int)

    opened("payments")
    assert drive(app).get("/pay").headers["cache-control"] == "no-store"


def test_a_hook_gets_a_request(over_test_client: Any, registry: Registry, opened: Opened) -> None:
    """Of a WebSocket, too: that of its handshake."""
    seen: list[tuple[str, str]] = []

    def hook(request: Request, refusal: CallNotPermittedError) -> Response:
        seen.append((request.method, str(request.url)))
        return PlainTextResponse(refusal.name, 503)

    app = FastAPI()
    install(app, registry=registry, hook=hook)

    @app.websocket("/feed")
    async def feed(_: WebSocket) -> None:
        registry["feed"].call(int)

    opened("feed")
    with pytest.raises(Exception), over_test_client(app).websocket_connect("/feed"):  # noqa: B017, PT011
        pass
    assert seen == [("GET", "http://testserver/feed")]


# -- names


def test_a_typo_in_critical() -> None:
    app = _shop(Registry({"payments": {}}))
    app.include_router(health(critical={"paymnets"}))
    with pytest.raises(ConfigError, match="'paymnets'; did you mean 'payments'") as told:
        TestClient(app).__enter__()
    assert "GET /health/circuits" in str(told.value)


def test_critical_names_in_code() -> None:
    """A name that a route declares is known; so are hosts that are called later."""
    app = FastAPI()
    install(app)

    @app.get("/pay")
    async def pay(
        payments: Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))],
    ) -> str:
        return payments.name

    app.include_router(health(critical={"payments", "api.example.com"}))
    with TestClient(app) as client:
        assert client.get("/health/circuits").status_code == 200


def test_a_strict_registry_makes_none() -> None:
    app = FastAPI()
    install(app, config={"payments": {}}, strict=True)
    app.include_router(health(critical={"api.example.com"}))
    with pytest.raises(ConfigError, match=r"no circuit is called 'api\.example\.com'"):
        TestClient(app).__enter__()


# -- the oldest FastAPI


def test_decorated_string_annotations() -> None:
    """`from __future__ import annotations` and a decorator from a module that lacks the names."""
    namespace: dict[str, Any] = {"__name__": "elsewhere"}
    exec(
        "import functools\n"
        "def logged(endpoint):\n"
        "    @functools.wraps(endpoint)\n"
        "    async def wrapper(*args, **kwargs):\n"
        "        return await endpoint(*args, **kwargs)\n"
        "    return wrapper\n",
        namespace,
    )
    logged: Callable[[Callable[..., Awaitable[Any]]], Any] = namespace["logged"]
    app = FastAPI()
    install(app)

    @app.get("/pay")
    @logged
    async def pay(payments: Payments) -> str:
        async def name() -> str:
            return payments.name

        return await payments.call(name)

    with TestClient(app) as client:
        assert client.get("/pay").json() == "payments"
    assert registry_of(app)["payments"].info().totals.successes == 1


Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))]
