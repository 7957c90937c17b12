"""Starlette without FastAPI, and any ASGI application: the handler, and pure ASGI middleware."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from fluxgate import CallNotPermittedError, CircuitBreaker
from fluxgate.registry import Registry
from fluxgate.testing import ManualClock
from fluxgate_fastapi import CircuitBreakerMiddleware, CircuitOpenHandler, install, registry_of

NAME = "pay.internal.example"

Opened = Callable[[str], CircuitBreaker]


async def charge() -> str:
    return "charged"


def routes(registry: Registry) -> list[Any]:
    async def in_async(_: Request) -> PlainTextResponse:
        return PlainTextResponse(await registry.asynchronous[NAME].call(charge))

    def in_sync(_: Request) -> PlainTextResponse:
        return PlainTextResponse(registry[NAME].call(lambda: "charged"))

    async def group(_: Request) -> PlainTextResponse:
        try:
            return await in_async(_)
        except CallNotPermittedError as error:
            raise ExceptionGroup("group", [error]) from None

    async def stream(_: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[str]:
            yield "first "
            yield await registry.asynchronous[NAME].call(charge)

        return StreamingResponse(chunks())

    async def bug(_: Request) -> PlainTextResponse:
        raise LookupError("a bug")

    async def before(websocket: WebSocket) -> None:
        await registry.asynchronous[NAME].call(charge)
        await websocket.accept()
        await websocket.close()

    async def after(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("welcome")
        await registry.asynchronous[NAME].call(charge)
        await websocket.close()

    async def closed(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(4000)
        await registry.asynchronous[NAME].call(charge)

    return [
        Route("/async", in_async),
        Route("/sync", in_sync),
        Route("/group", group),
        Route("/stream", stream),
        Route("/bug", bug),
        Mount("/mounted", routes=[Route("/async", in_async)]),
        WebSocketRoute("/before", before),
        WebSocketRoute("/after", after),
        WebSocketRoute("/closed", closed),
    ]


def with_handler(registry: Registry, **options: Any) -> Starlette:
    handler: Any = CircuitOpenHandler(**options)
    return Starlette(
        routes=routes(registry),
        exception_handlers={CallNotPermittedError: handler, ExceptionGroup: handler},
    )


def with_middleware(registry: Registry, **options: Any) -> Starlette:
    return Starlette(
        routes=routes(registry), middleware=[Middleware(CircuitBreakerMiddleware, **options)]
    )


def around(registry: Registry, **options: Any) -> ASGIApp:
    return CircuitBreakerMiddleware(Starlette(routes=routes(registry)), **options)


def installed(registry: Registry, **options: Any) -> Starlette:
    app = Starlette(routes=routes(registry))
    install(app, registry=registry, **options)
    return app


# Around Starlette it sees exceptions too late: Starlette has answered them with a 500 by then.
WAYS = [with_handler, with_middleware, installed]

ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


# -- the same answers


@ways
@pytest.mark.parametrize("path", ["/async", "/sync", "/group", "/mounted/async"])
def test_a_refusal_is_a_503(
    drive: Any, registry: Registry, opened: Opened, way: Any, path: str
) -> None:
    client = drive(way(registry))
    assert client.get(path).text == "charged"
    opened(NAME)
    answer = client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 503
    assert NAME not in answer.text


@ways
def test_no_retry_after_when_unknown(over_test_client: Any, registry: Registry, way: Any) -> None:
    registry[NAME].force_open()
    answer = over_test_client(way(registry)).get("/async")
    assert answer.status_code == 503
    assert "retry-after" not in answer.headers


@ways
def test_plain_json(over_test_client: Any, registry: Registry, opened: Opened, way: Any) -> None:
    opened(NAME)
    answer = over_test_client(way(registry, problem_json=False)).get("/async")
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["detail"]
    assert answer.headers["retry-after"] == "30"


@ways
def test_a_hook(over_test_client: Any, registry: Registry, opened: Opened, way: Any) -> None:
    def hook(connection: Any, error: CallNotPermittedError) -> JSONResponse:
        return JSONResponse({"path": connection.url.path, "name": error.name}, 418)

    opened(NAME)
    answer = over_test_client(way(registry, hook=hook)).get("/async")
    assert (answer.status_code, answer.json()) == (418, {"path": "/async", "name": NAME})


@ways
def test_other_errors_are_left_alone(over_test_client: Any, registry: Registry, way: Any) -> None:
    with pytest.raises(LookupError, match="a bug"):
        over_test_client(way(registry), raise_server_exceptions=True).get("/bug")


@ways
def test_websockets(over_test_client: Any, registry: Registry, opened: Opened, way: Any) -> None:
    client = over_test_client(way(registry))
    opened(NAME)
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/before"):
        pytest.fail("it was accepted")
    assert denied.value.status_code == 503
    assert denied.value.headers["retry-after"] == "30"
    with client.websocket_connect("/after") as session:
        assert session.receive_text() == "welcome"
        with pytest.raises(WebSocketDisconnect) as ended:
            session.receive_text()
    assert ended.value.code == 1013
    assert NAME not in ended.value.reason


@ways
def test_websockets_over_the_wire(serve: Any, registry: Registry, opened: Opened, way: Any) -> None:
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    opened(NAME)
    url = serve(way(registry)).url.replace("http", "ws")
    with pytest.raises(InvalidStatus) as denied, connect(f"{url}/before", proxy=None):
        pytest.fail("it was accepted")
    assert denied.value.response.status_code == 503
    assert denied.value.response.headers["retry-after"] == "30"
    with connect(f"{url}/after", proxy=None) as session:
        assert session.recv(timeout=20) == "welcome"
        with pytest.raises(ConnectionClosed) as ended:
            session.recv(timeout=20)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1013


# -- the middleware


def test_it_is_pure_asgi() -> None:
    assert not issubclass(CircuitBreakerMiddleware, BaseHTTPMiddleware)
    app = CircuitBreakerMiddleware(Starlette())
    assert not isinstance(app, BaseHTTPMiddleware)


def test_around_an_application_that_knows_no_starlette(drive: Any, opened: Opened) -> None:
    breaker = opened(NAME)

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = breaker.call(lambda: b"charged")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    client = drive(CircuitBreakerMiddleware(bare))
    answer = client.get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    breaker.reset()
    assert client.get("/").text == "charged"


def test_it_sees_what_other_middleware_raises(
    drive: Any, registry: Registry, opened: Opened
) -> None:
    """The trap: exception handlers don't."""

    class Authenticates:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await registry.asynchronous[NAME].call(charge)
            await self.app(scope, receive, send)

    app = Starlette(
        routes=[Route("/", lambda _: PlainTextResponse("here"))],
        middleware=[Middleware(CircuitBreakerMiddleware), Middleware(Authenticates)],
    )
    client = drive(app)
    assert client.get("/").text == "here"
    opened(NAME)
    answer = client.get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_it_sees_mounted_applications(drive: Any, registry: Registry, opened: Opened) -> None:
    """The other trap, for those whose errors come through."""

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(await registry.asynchronous[NAME].call(charge))(
            scope, receive, send
        )

    app = Starlette(
        routes=[Mount("/sub", app=bare)], middleware=[Middleware(CircuitBreakerMiddleware)]
    )
    client = drive(app)
    assert client.get("/sub/").text == "charged"
    opened(NAME)
    assert client.get("/sub/").status_code == 503


@pytest.mark.parametrize("way", [with_middleware, around], ids=lambda way: way.__name__)
def test_once_a_response_has_begun_the_refusal_is_raised_on(
    over_test_client: Any, registry: Registry, opened: Opened, way: Any
) -> None:
    client = over_test_client(way(registry), raise_server_exceptions=True)
    assert client.get("/stream").text == "first charged"
    opened(NAME)
    with pytest.raises((CallNotPermittedError, ExceptionGroup)) as caught:
        client.get("/stream")
    assert "CallNotPermittedError" in repr(caught.value)


def test_on_the_wire_a_stream_is_cut_off(
    over_uvicorn: Any, registry: Registry, opened: Opened
) -> None:
    client = over_uvicorn(with_middleware(registry))
    opened(NAME)
    with client.stream("GET", "/stream") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_a_websocket_that_has_been_closed_stays_closed(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    client = over_test_client(with_middleware(registry))
    opened(NAME)
    session = client.websocket_connect("/closed")
    with pytest.raises((WebSocketDisconnect, CallNotPermittedError)) as ended, session:
        session.receive_text()
    assert getattr(ended.value, "code", 4000) == 4000


def test_it_holds_nothing_back() -> None:
    """Each message goes on as it is, when it is sent; BaseHTTPMiddleware would buffer and copy."""
    order: list[str] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for number in range(3):
            order.append(f"sends {number}")
            await send({"type": "http.response.body", "number": number})

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        order.append(f"gets {message['number']}")

    asyncio.run(CircuitBreakerMiddleware(app)({"type": "http"}, receive, send))
    assert order == [f"{what} {number}" for number in range(3) for what in ("sends", "gets")]


def test_it_stays_in_the_task() -> None:
    """Context variables set below are seen above; BaseHTTPMiddleware loses them."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="lost")

    async def app(*_: object) -> None:
        variable.set("kept")

    async def main() -> str:
        await CircuitBreakerMiddleware(app)({"type": "http"}, _nothing, _nothing)
        return variable.get()

    assert asyncio.run(main()) == "kept"


async def _nothing(*_: object) -> Any:
    return None


def test_cancellation_goes_through() -> None:
    async def main() -> str:
        entered = asyncio.Event()

        async def app(*_: object) -> None:
            entered.set()
            await asyncio.Event().wait()

        serving = asyncio.ensure_future(
            CircuitBreakerMiddleware(app)({"type": "http"}, _nothing, _nothing)
        )
        await entered.wait()
        serving.cancel()
        try:
            await serving
        except asyncio.CancelledError:
            return "cancelled"
        return "swallowed"

    assert asyncio.run(main()) == "cancelled"


# -- install on Starlette


def test_install_gives_the_registry_of_requests(over_test_client: Any, registry: Registry) -> None:
    async def name(request: Request) -> PlainTextResponse:
        assert registry_of(request) is registry
        return PlainTextResponse("mine")

    app = Starlette(routes=[Route("/", name)])
    install(app, registry=registry)
    assert registry_of(app) is registry
    assert over_test_client(app).get("/").text == "mine"


def test_install_closes_listeners_there_too(clock: ManualClock) -> None:
    from starlette.testclient import TestClient

    closed: list[str] = []

    class Listener:
        def __call__(self, _: object) -> None: ...

        def close(self) -> None:
            closed.append("closed")

    app = Starlette()
    install(app, registry=Registry(listeners=[Listener()], clock=clock))
    with TestClient(app):
        assert closed == []
    assert closed == ["closed"]
