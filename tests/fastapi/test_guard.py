"""`guard(...)`: an inbound endpoint behind a circuit. What it sees, and what it can't see."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Response,
    WebSocket,
    WebSocketException,
)
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.middleware import Middleware
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fluxgate import CircuitBreaker, ConfigError, State, Totals
from fluxgate.registry import Registry
from fluxgate.testing import ManualClock, tripped
from fluxgate_fastapi import Breaker, BreakerRoute, guard, install

Opened = Callable[[str], CircuitBreaker]

Guarded = Any
"""A decorator that makes a function the application's guarded endpoint."""


@pytest.fixture
def app(registry: Registry) -> FastAPI:
    app = FastAPI()
    install(app, registry=registry)
    return app


@pytest.fixture
def guarded(app: FastAPI) -> Guarded:
    return app.get("/", dependencies=[guard("search", statuses={502, 503, 504})])


@pytest.fixture
def totals(registry: Registry) -> Callable[[], Totals]:
    """What the circuit has counted."""
    return lambda: registry["search"].info().totals


Count = Callable[[], Totals]


# -- while it is open


def test_an_open_circuit_keeps_the_endpoint_from_running(
    drive: Any, app: FastAPI, guarded: Guarded, opened: Opened
) -> None:
    ran: list[int] = []

    @guarded
    async def search() -> str:
        ran.append(1)
        return "found"

    client = drive(app)
    assert client.get("/").json() == "found"
    opened("search")
    answer = client.get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert ran == [1]


def test_a_sync_endpoint_too(drive: Any, app: FastAPI, guarded: Guarded, opened: Opened) -> None:
    @guarded
    def search() -> str:
        return "found"

    client = drive(app)
    assert client.get("/").json() == "found"
    opened("search")
    assert client.get("/").status_code == 503


def test_failures_open_it_and_a_success_closes_it(
    drive: Any, app: FastAPI, guarded: Guarded, registry: Registry, clock: ManualClock
) -> None:
    up = False

    @guarded
    async def search() -> str:
        if not up:
            raise HTTPException(503)
        return "found"

    client = drive(app)
    statuses = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in statuses] == [503, 503, 503]
    assert "retry-after" not in statuses[1].headers  # the endpoint's own
    assert statuses[2].headers["retry-after"] == "30"
    up = True
    clock.advance(30)
    assert [client.get("/").json() for _ in range(2)] == ["found", "found"]
    assert registry["search"].state is State.CLOSED


# -- what it sees


def test_a_return_is_a_success(
    over_test_client: Any, app: FastAPI, guarded: Guarded, totals: Count
) -> None:
    @guarded
    async def search() -> str:
        return "found"

    assert over_test_client(app).get("/").status_code == 200
    assert (totals().successes, totals().failures) == (1, 0)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_http_exception_of_its_statuses_is_a_failure(
    over_test_client: Any, app: FastAPI, guarded: Guarded, totals: Count, status: int
) -> None:
    @guarded
    async def search() -> None:
        raise HTTPException(status)

    assert over_test_client(app).get("/").status_code == status
    assert (totals().successes, totals().failures) == (0, 1)


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_an_http_exception_of_another_status_is_not(
    over_test_client: Any, app: FastAPI, guarded: Guarded, totals: Count, status: int
) -> None:
    @guarded
    async def search() -> None:
        raise HTTPException(status)

    assert over_test_client(app).get("/").status_code == status
    assert totals().failures == 0


def test_any_other_exception_is_the_trackers(
    over_test_client: Any, app: FastAPI, totals: Count
) -> None:
    error: Exception

    @app.get("/", dependencies=[guard("search", tracker='TypeOf("builtins.OSError")')])
    async def search() -> None:
        raise error

    client = over_test_client(app)
    error = ConnectionError("down")
    assert client.get("/").status_code == 500
    error = LookupError("a bug")
    assert client.get("/").status_code == 500
    assert (totals().failures, totals().ignored) == (1, 1)


def test_an_exception_with_a_handler_is_the_trackers_as_well(
    over_test_client: Any, app: FastAPI, guarded: Guarded, totals: Count
) -> None:
    @app.exception_handler(ConnectionError)
    async def answer(*_: object) -> Response:
        return Response("handled", 200)

    @guarded
    async def search() -> None:
        raise ConnectionError("down")

    assert over_test_client(app).get("/").text == "handled"
    assert totals().failures == 1


def test_an_invalid_request_says_nothing_about_the_endpoint(
    over_test_client: Any, app: FastAPI, guarded: Guarded, totals: Count
) -> None:
    @guarded
    async def search(limit: int) -> int:
        return limit

    client = over_test_client(app)
    for _ in range(5):
        assert client.get("/?limit=many").status_code == 422
    assert totals().failures == 0
    assert client.get("/?limit=5").json() == 5


def test_another_circuits_refusal_is_no_failure_of_this_one(
    over_test_client: Any, app: FastAPI, guarded: Guarded, opened: Opened, totals: Count
) -> None:
    upstream = opened("upstream")

    @guarded
    async def search() -> None:
        upstream.call(int)

    assert over_test_client(app).get("/").status_code == 503
    assert (totals().failures, totals().ignored) == (0, 1)


def test_an_error_of_a_later_dependency(over_test_client: Any, app: FastAPI, totals: Count) -> None:
    async def session() -> None:
        raise HTTPException(503)

    @app.get("/", dependencies=[guard("search"), Depends(session)])
    async def search() -> None:
        pytest.fail("the dependency failed")

    assert over_test_client(app).get("/").status_code == 503
    assert totals().failures == 1


def test_a_probe_does_not_wait_for_its_response_to_be_sent(
    over_uvicorn: Any, app: FastAPI, guarded: Guarded, opened: Opened, clock: ManualClock
) -> None:
    """Function-scoped: a client that reads slowly can't hold the only probe's slot."""
    gate = threading.Event()

    @guarded
    async def search() -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            yield b"first "
            assert gate.wait(20)
            yield b"last"

        return StreamingResponse(chunks())

    @app.get("/quick", dependencies=[guard("search")])
    async def quick() -> str:
        return "found"

    opened("search")
    clock.advance(30)
    client = over_uvicorn(app)
    try:
        with client.stream("GET", "/") as answer:
            chunks = answer.iter_raw()
            assert next(chunks) == b"first "
            assert client.get("/quick").json() == "found"
            gate.set()
            assert b"".join(chunks) == b"last"
    finally:
        gate.set()


def test_a_whole_router(over_test_client: Any, app: FastAPI, opened: Opened, totals: Count) -> None:
    router = APIRouter(dependencies=[guard("search")])

    @router.get("/one")
    async def one() -> str:
        return "one"

    @router.get("/two")
    async def two() -> str:
        return "two"

    app.include_router(router, prefix="/api")
    client = over_test_client(app)
    assert [client.get(f"/api/{path}").json() for path in ("one", "two")] == ["one", "two"]
    assert totals().successes == 2
    opened("search")
    assert [client.get(f"/api/{path}").status_code for path in ("one", "two")] == [503, 503]


def test_a_websocket(
    over_test_client: Any, app: FastAPI, registry: Registry, totals: Count
) -> None:
    @app.websocket("/feed/{end}", dependencies=[guard("search")])
    async def feed(websocket: WebSocket, end: str) -> None:
        await websocket.accept()
        if end == "broken":
            raise WebSocketException(1011)
        if end == "client":
            await websocket.receive_text()
        await websocket.close()

    client = over_test_client(app)

    def talk(end: str) -> None:
        with client.websocket_connect(f"/feed/{end}") as session:
            if end == "client":
                session.close()
            session.receive_text()

    def lasts(end: str) -> None:
        with pytest.raises(WebSocketDisconnect):
            talk(end)

    lasts("well")
    assert (totals().successes, totals().failures, totals().ignored) == (1, 0, 0)
    lasts("client")
    assert (totals().successes, totals().failures, totals().ignored) == (1, 0, 1)
    lasts("broken")
    assert (totals().successes, totals().failures, totals().ignored) == (1, 1, 1)
    assert registry["search"].state is State.OPEN
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/feed/well"):
        pytest.fail("it was accepted")
    assert denied.value.status_code == 503


# -- what it can't see: one test per row of the table in the documentation


def test_it_can_not_see_a_returned_error_response(
    over_test_client: Any, app: FastAPI, guarded: Guarded, totals: Count
) -> None:
    @guarded
    async def search() -> JSONResponse:
        return JSONResponse({"sorry": True}, 503)

    assert over_test_client(app).get("/").status_code == 503
    assert (totals().successes, totals().failures) == (1, 0)


def test_it_can_not_see_a_status_that_is_set(
    over_test_client: Any, app: FastAPI, guarded: Guarded, totals: Count
) -> None:
    @guarded
    async def search(response: Response) -> str:
        response.status_code = 503
        return "sorry"

    assert over_test_client(app).get("/").status_code == 503
    assert (totals().successes, totals().failures) == (1, 0)


def test_it_can_not_see_the_default_status_of_the_route(
    over_test_client: Any, app: FastAPI, totals: Count
) -> None:
    @app.get("/", status_code=503, dependencies=[guard("search")])
    async def search() -> str:
        return "sorry"

    assert over_test_client(app).get("/").status_code == 503
    assert (totals().successes, totals().failures) == (1, 0)


def test_it_can_not_see_an_error_of_a_background_task(
    over_uvicorn: Any, app: FastAPI, guarded: Guarded, totals: Count
) -> None:
    """Nor should it: the trap of request-scoped dependencies."""
    ran = threading.Event()

    @guarded
    async def search(tasks: BackgroundTasks) -> str:
        async def task() -> None:
            ran.set()
            raise ConnectionError("in the background")

        tasks.add_task(task)
        return "found"

    client = over_uvicorn(app)
    assert client.get("/").json() == "found"
    assert ran.wait(20)
    assert client.get("/").json() == "found"
    assert (totals().successes, totals().failures) == (2, 0)


def test_it_can_not_see_an_error_in_a_stream(
    over_test_client: Any, app: FastAPI, guarded: Guarded, totals: Count
) -> None:
    @guarded
    async def search() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            raise ConnectionError("in the stream")

        return StreamingResponse(chunks())

    over_test_client(app).get("/")
    assert (totals().successes, totals().failures) == (1, 0)


def test_it_can_not_see_an_error_of_an_earlier_dependency(
    over_test_client: Any, app: FastAPI, registry: Registry
) -> None:
    async def session() -> None:
        raise HTTPException(503)

    @app.get("/", dependencies=[Depends(session), guard("search")])
    async def search() -> None:
        pytest.fail("the dependency failed")

    assert over_test_client(app).get("/").status_code == 503
    assert "search" not in registry or registry["search"].info().totals.failures == 0


def test_it_can_not_see_an_error_of_a_middleware(registry: Registry, over_test_client: Any) -> None:
    class Breaks:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app(scope, receive, send)
            raise ConnectionError("in a middleware")

    app = FastAPI(middleware=[Middleware(Breaks)])
    install(app, registry=registry)

    @app.get("/", dependencies=[guard("search")])
    async def search() -> str:
        return "found"

    client = over_test_client(app)
    try:
        client.get("/")
    except Exception as error:  # as each driver tells of an error after the response
        assert "middleware" in str(error) or "disconnected" in str(error)  # noqa: PT017
    assert registry["search"].info().totals.failures == 0
    assert registry["search"].info().totals.successes == 1


def test_it_can_not_see_what_never_reaches_a_route(
    over_test_client: Any, app: FastAPI, guarded: Guarded, registry: Registry
) -> None:
    @guarded
    async def search() -> str:
        return "found"

    client = over_test_client(app)
    assert client.get("/nowhere").status_code == 404
    assert client.post("/").status_code == 405
    info = registry["search"].info().totals
    assert (info.successes, info.failures, info.ignored) == (0, 0, 0)


# -- settings


def test_takes_the_breakers_own_parameters(over_test_client: Any) -> None:
    registry = Registry()
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/", dependencies=[guard("search", tripper="FailureStreak(1)", retry="Cooldown(600)")])
    async def search() -> None:
        raise HTTPException(503)

    client = over_test_client(app)
    assert "retry-after" not in client.get("/").headers
    assert 590 <= int(client.get("/").headers["retry-after"]) <= 600


def test_other_settings_under_the_same_name_are_an_error() -> None:
    app = FastAPI()
    install(app, registry=Registry())

    @app.get("/1", dependencies=[guard("search", retry="Cooldown(7)")])
    async def one() -> str:
        return "one"

    @app.get("/2", dependencies=[guard("search", retry="Cooldown(8)")])
    async def two() -> str:
        return "two"

    client = TestClient(app)  # not entered: they meet at their first use
    assert client.get("/1").json() == "one"
    with pytest.raises(ConfigError, match=r"search.*Cooldown"):
        client.get("/2")
    assert client.get("/1").json() == "one"


@pytest.mark.parametrize("statuses", [{"503"}, {True}, {5030}, {0}])
def test_statuses_that_are_none_are_refused(statuses: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="status"):
        guard("search", statuses=statuses)


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises((TypeError, ValueError), match=r"triper.*tripper"):
        guard("search", triper="FailureStreak(1)")


def test_two_guards_on_an_endpoint_are_two_circuits(
    over_test_client: Any, app: FastAPI, registry: Registry, opened: Opened
) -> None:
    @app.get("/", dependencies=[guard("outer"), guard("inner")])
    async def search() -> str:
        return "found"

    client = over_test_client(app)
    assert client.get("/").json() == "found"
    opened("inner")
    assert client.get("/").status_code == 503
    outer = registry["outer"].info().totals
    assert (outer.successes, outer.failures, outer.ignored) == (1, 0, 1)


def test_the_same_guard_on_router_and_endpoint_counts_once(
    over_test_client: Any, app: FastAPI, totals: Count
) -> None:
    """Equal dependencies are one: the endpoint is admitted, and settled, once."""
    router = APIRouter(dependencies=[guard("search")])

    @router.get("/", dependencies=[guard("search")])
    async def search() -> str:
        return "found"

    app.include_router(router)
    assert over_test_client(app).get("/").json() == "found"
    assert totals().successes == 1


@pytest.mark.parametrize("status", [502, 503])
def test_guards_with_other_statuses_do_not_become_one(
    over_test_client: Any, app: FastAPI, totals: Count, status: int
) -> None:
    """Each judges by its own."""
    router = APIRouter(dependencies=[guard("search", statuses={502})])

    @router.get("/", dependencies=[guard("search", statuses={503})])
    async def search() -> str:
        raise HTTPException(status)

    app.include_router(router)
    assert over_test_client(app).get("/").status_code == status
    assert (totals().successes, totals().failures) == (1, 1)


def test_a_guard_is_equal_by_name_and_statuses() -> None:
    plain, usual, other, elsewhere = (
        made.dependency
        for made in (
            guard("search"),
            guard("search", statuses=[504, 503, 502, 500], retry="Cooldown(5)"),
            guard("search", statuses={503}),
            guard("find"),
        )
    )
    assert plain == usual
    assert hash(plain) == hash(usual)
    assert len({plain, usual, other, elsewhere}) == 3
    assert plain != Breaker("search")
    assert "503" in repr(other)


def test_as_the_default_of_a_parameter(over_test_client: Any, app: FastAPI, totals: Count) -> None:
    admitted = guard("search")

    @app.get("/")
    async def search(_: Annotated[None, admitted]) -> str:
        return "found"

    assert over_test_client(app).get("/").json() == "found"
    assert totals().successes == 1


# -- requests that are cancelled


@pytest.mark.parametrize("kind", ["guard", "route", "breaker"])
def test_a_cancelled_probe_gives_its_slot_back(
    app: FastAPI, registry: Registry, opened: Opened, clock: ManualClock, kind: str
) -> None:
    """A middleware's time-out, a client that hangs up: neither closes, opens nor wedges it."""

    async def main() -> int:
        entered, stay = asyncio.Event(), asyncio.Event()

        async def search() -> str:
            entered.set()
            await stay.wait()
            return "found"

        async def through(breaker: Annotated[Any, Depends(Breaker("search"))]) -> str:
            return await breaker.call(search)

        if kind == "guard":
            app.add_api_route("/", search, dependencies=[guard("search")])
        elif kind == "breaker":
            app.add_api_route("/", through)
        else:
            router = APIRouter(route_class=BreakerRoute.named("search"))
            router.add_api_route("/", search)
            app.include_router(router)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            probe = asyncio.ensure_future(client.get("/"))
            await asyncio.wait_for(entered.wait(), 20)
            assert (await client.get("/")).status_code == 503  # the only slot is taken
            probe.cancel()
            with pytest.raises(asyncio.CancelledError):
                await probe
            stay.set()
            return (await client.get("/")).status_code

    opened("search")
    clock.advance(30)
    assert asyncio.run(main()) == 200
    totals = registry["search"].info().totals
    assert (totals.successes, totals.failures, totals.cancelled) == (1, 2, 1)


# -- calls of the same circuit inside


@pytest.mark.parametrize("style", ["async", "sync"])
@pytest.mark.parametrize("how", ["guard", "route"])
def test_calls_inside_join_the_probe(
    over_test_client: Any, registry: Registry, clock: ManualClock, how: str, style: str
) -> None:
    """With one slot, an endpoint that calls what it is guarded by could never close its circuit."""
    tripped(registry["search"])
    clock.advance(30)
    app = FastAPI()
    install(app, registry=registry)
    if how == "guard":
        router = APIRouter(dependencies=[guard("search")])
    else:
        router = APIRouter(route_class=BreakerRoute.named("search"))

    def find() -> str:
        return registry["search"].call(lambda: "found")

    async def find_async() -> str:
        return find()

    router.get("/")(find if style == "sync" else find_async)
    app.include_router(router)
    client = over_test_client(app)
    assert [client.get("/").json() for _ in range(2)] == ["found", "found"]  # two probes decide
    totals = registry["search"].info().totals
    assert registry["search"].state is State.CLOSED
    assert (totals.successes, totals.rejected) == (2, 0)
