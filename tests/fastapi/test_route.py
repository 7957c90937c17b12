"""`BreakerRoute`: endpoints behind circuits, judged by status. What it sees, and what it can't."""

import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Response,
    WebSocket,
)
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from fluxgate import CircuitBreaker, State, Totals
from fluxgate.registry import Registry
from fluxgate.testing import ManualClock
from fluxgate_fastapi import BreakerRoute, install

Opened = Callable[[str], CircuitBreaker]
Count = Callable[[], Totals]


class Routed:
    """An application, and a router whose routes are behind one circuit."""

    def __init__(self, registry: Registry, **settings: Any) -> None:
        self.registry = registry
        self.app = FastAPI()
        install(self.app, registry=registry)
        self.router = APIRouter(route_class=BreakerRoute.named("search", **settings))
        self.get = self.router.get

    def driven_by(self, drive: Any) -> Any:
        self.app.include_router(self.router)
        return drive(self.app)

    @property
    def totals(self) -> Totals:
        return self.registry["search"].info().totals


@pytest.fixture
def routed(registry: Registry) -> Routed:
    return Routed(registry)


# -- while it is open


def test_an_open_circuit_keeps_the_endpoint_from_running(
    drive: Any, routed: Routed, opened: Opened
) -> None:
    ran: list[str] = []

    @routed.get("/async")
    async def in_async() -> str:
        ran.append("async")
        return "found"

    @routed.get("/sync")
    def in_sync() -> str:
        ran.append("sync")
        return "found"

    client = routed.driven_by(drive)
    assert [client.get(path).json() for path in ("/async", "/sync")] == ["found", "found"]
    opened("search")
    for path in ("/async", "/sync"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert ran == ["async", "sync"]


def test_failures_open_it_and_a_success_closes_it(
    drive: Any, routed: Routed, clock: ManualClock
) -> None:
    status = 503

    @routed.get("/")
    async def search() -> Response:
        return PlainTextResponse("sorry", status)

    client = routed.driven_by(drive)
    told = [client.get("/").headers.get("retry-after") for _ in range(3)]
    assert told == [None, None, "30"]
    clock.advance(30)
    status = 200
    assert [client.get("/").status_code for _ in range(2)] == [200, 200]
    assert routed.registry["search"].state is State.CLOSED


# -- what it sees


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_returned_error_response_is_a_failure(
    over_test_client: Any, routed: Routed, status: int
) -> None:
    @routed.get("/")
    async def search() -> Response:
        return JSONResponse({"sorry": True}, status)

    assert routed.driven_by(over_test_client).get("/").status_code == status
    assert (routed.totals.successes, routed.totals.failures) == (0, 1)


@pytest.mark.parametrize("status", [200, 204, 302, 404, 429, 501])
def test_a_returned_response_of_another_status_is_a_success(
    over_test_client: Any, routed: Routed, status: int
) -> None:
    @routed.get("/")
    async def search() -> Response:
        return Response(status_code=status)

    client = routed.driven_by(over_test_client)
    assert client.get("/", follow_redirects=False).status_code == status
    assert (routed.totals.successes, routed.totals.failures) == (1, 0)


def test_a_status_that_is_set_is_seen(over_test_client: Any, routed: Routed) -> None:
    @routed.get("/")
    async def search(response: Response) -> str:
        response.status_code = 503
        return "sorry"

    assert routed.driven_by(over_test_client).get("/").status_code == 503
    assert (routed.totals.successes, routed.totals.failures) == (0, 1)


def test_an_http_exception_counts_by_its_status(over_test_client: Any, routed: Routed) -> None:
    @routed.get("/{status}")
    async def search(status: int) -> None:
        raise HTTPException(status)

    client = routed.driven_by(over_test_client)
    assert client.get("/404").status_code == 404
    assert (routed.totals.successes, routed.totals.failures) == (1, 0)
    assert client.get("/503").status_code == 503
    assert (routed.totals.successes, routed.totals.failures) == (1, 1)


def test_the_statuses_are_a_matter_of_choice(over_test_client: Any, registry: Registry) -> None:
    routed = Routed(registry, statuses={418})

    @routed.get("/{status}")
    async def search(status: int) -> Response:
        return Response(status_code=status)

    client = routed.driven_by(over_test_client)
    client.get("/503")
    assert (routed.totals.successes, routed.totals.failures) == (1, 0)
    client.get("/418")
    assert (routed.totals.successes, routed.totals.failures) == (1, 1)


def test_any_other_exception_is_the_trackers(over_test_client: Any, registry: Registry) -> None:
    routed = Routed(registry, tracker='TypeOf("builtins.OSError")')
    error: Exception

    @routed.get("/")
    async def search() -> None:
        raise error

    client = routed.driven_by(over_test_client)
    error = ConnectionError("down")
    assert client.get("/").status_code == 500
    error = LookupError("a bug")
    assert client.get("/").status_code == 500
    assert (routed.totals.failures, routed.totals.ignored) == (1, 1)


def test_an_invalid_request_says_nothing_about_the_endpoint(
    over_test_client: Any, routed: Routed
) -> None:
    @routed.get("/")
    async def search(limit: int) -> int:
        return limit

    client = routed.driven_by(over_test_client)
    for _ in range(5):
        assert client.get("/?limit=many").status_code == 422
    assert routed.totals.failures == 0
    assert client.get("/?limit=5").json() == 5


def test_an_error_of_a_dependency_is_seen(over_test_client: Any, routed: Routed) -> None:
    """Any dependency's: the route stands around them all."""

    async def session() -> None:
        raise ConnectionError("down")

    @routed.get("/", dependencies=[Depends(session)])
    async def search() -> None:
        pytest.fail("the dependency failed")

    assert routed.driven_by(over_test_client).get("/").status_code == 500
    assert routed.totals.failures == 1


def test_another_circuits_refusal_is_no_failure_of_this_one(
    over_test_client: Any, routed: Routed, opened: Opened
) -> None:
    upstream = opened("upstream")

    @routed.get("/")
    async def search() -> None:
        upstream.call(int)

    assert routed.driven_by(over_test_client).get("/").status_code == 503
    assert (routed.totals.failures, routed.totals.ignored) == (0, 1)


def test_a_result_tracker_gets_the_response(over_test_client: Any, registry: Registry) -> None:
    def stale(response: Any) -> bool:
        return response.headers.get("x-cache") == "stale"

    routed = Routed(registry, result_tracker=stale)

    @routed.get("/{state}")
    async def search(state: str) -> Response:
        return Response(headers={"x-cache": state})

    client = routed.driven_by(over_test_client)
    client.get("/fresh")
    assert (routed.totals.successes, routed.totals.failures) == (1, 0)
    client.get("/stale")
    assert (routed.totals.successes, routed.totals.failures) == (1, 1)


# -- what it can't see: one test per row of the table in the documentation


def test_it_can_not_see_an_error_in_a_stream(over_test_client: Any, routed: Routed) -> None:
    @routed.get("/")
    async def search() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            raise ConnectionError("in the stream")

        return StreamingResponse(chunks())

    routed.driven_by(over_test_client).get("/")
    assert (routed.totals.successes, routed.totals.failures) == (1, 0)


def test_it_can_not_see_an_error_of_a_background_task(over_uvicorn: Any, routed: Routed) -> None:
    ran = threading.Event()

    @routed.get("/")
    async def search(tasks: BackgroundTasks) -> str:
        async def task() -> None:
            ran.set()
            raise ConnectionError("in the background")

        tasks.add_task(task)
        return "found"

    client = routed.driven_by(over_uvicorn)
    assert client.get("/").json() == "found"
    assert ran.wait(20)
    assert client.get("/").json() == "found"
    assert (routed.totals.successes, routed.totals.failures) == (2, 0)


def test_it_can_not_see_what_a_handler_makes_of_an_exception(
    over_test_client: Any, routed: Routed
) -> None:
    """The exception itself counts, by the tracker; whether a 200 or a 503 became of it does not."""

    @routed.app.exception_handler(ConnectionError)
    async def answer(*_: object) -> Response:
        return PlainTextResponse("handled", 200)

    @routed.get("/")
    async def search() -> None:
        raise ConnectionError("down")

    assert routed.driven_by(over_test_client).get("/").text == "handled"
    assert routed.totals.failures == 1


def test_it_can_not_see_how_a_dependency_ends(over_test_client: Any, routed: Routed) -> None:
    """A dependency with yield ends after the route has given its response."""

    async def session() -> AsyncIterator[None]:
        yield
        raise ConnectionError("commit failed")

    @routed.get("/", dependencies=[Depends(session)])
    async def search() -> str:
        return "found"

    routed.driven_by(over_test_client).get("/")
    assert (routed.totals.successes, routed.totals.failures) == (1, 0)


def test_it_can_not_see_websockets(over_test_client: Any, routed: Routed) -> None:
    @routed.router.websocket("/feed")
    async def feed(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("welcome")
        await websocket.close()

    @routed.get("/")
    async def search() -> str:
        return "found"

    client = routed.driven_by(over_test_client)
    routed.registry["search"].force_open()
    with client.websocket_connect("/feed") as session:
        assert session.receive_text() == "welcome"
    assert client.get("/").status_code == 503


def test_it_can_not_see_mounted_applications(over_test_client: Any, routed: Routed) -> None:
    sub = FastAPI()

    @sub.get("/search")
    async def search() -> Response:
        return Response(status_code=503)

    routed.router.mount("/sub", sub)
    client = routed.driven_by(over_test_client)
    client.get("/sub/search")
    assert routed.registry["search"].info().totals.failures == 0


# -- which circuit


def test_by_default_each_endpoint_has_a_circuit_of_its_own(
    over_test_client: Any, registry: Registry
) -> None:
    app = FastAPI()
    install(app, registry=registry)
    router = APIRouter(route_class=BreakerRoute)

    @router.get("/broken")
    async def broken() -> Response:
        return Response(status_code=503)

    @router.get("/fine")
    async def fine() -> str:
        return "fine"

    app.include_router(router)
    client = over_test_client(app)
    answers = [client.get("/broken") for _ in range(3)]
    assert [answer.headers.get("retry-after") for answer in answers] == [None, None, "30"]
    assert client.get("/fine").json() == "fine"
    assert len(registry) == 2
    assert {breaker.state for breaker in registry.values()} == {State.OPEN, State.CLOSED}


def test_a_router_that_is_included_twice_keeps_its_circuit(
    over_test_client: Any, routed: Routed, opened: Opened
) -> None:
    @routed.get("/find")
    async def search() -> str:
        return "found"

    routed.app.include_router(routed.router, prefix="/v1")
    client = routed.driven_by(over_test_client)
    assert client.get("/v1/find").json() == client.get("/find").json() == "found"
    assert routed.totals.successes == 2
    opened("search")
    assert client.get("/v1/find").status_code == client.get("/find").status_code == 503


def test_each_application_that_includes_it_has_its_own_circuit(
    over_test_client: Any, policy: dict[str, Any]
) -> None:
    router = APIRouter(route_class=BreakerRoute.named("search"))

    @router.get("/")
    async def search() -> str:
        return "found"

    clients = []
    registries = [Registry(**policy), Registry(**policy)]
    for registry in registries:
        app = FastAPI()
        install(app, registry=registry)
        app.include_router(router)
        clients.append(over_test_client(app))
    registries[0]["search"].force_open()
    assert [client.get("/").status_code for client in clients] == [503, 200]


def test_takes_the_breakers_own_parameters(over_test_client: Any) -> None:
    routed = Routed(Registry(), tripper="FailureStreak(1)", retry="Cooldown(600)")

    @routed.get("/")
    async def search() -> Response:
        return Response(status_code=503)

    client = routed.driven_by(over_test_client)
    assert "retry-after" not in client.get("/").headers
    assert 590 <= int(client.get("/").headers["retry-after"]) <= 600


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises((TypeError, ValueError), match=r"triper.*tripper"):
        BreakerRoute.named("search", triper="FailureStreak(1)")  # type: ignore[call-arg]


def test_everything_else_is_as_on_a_plain_route(over_test_client: Any, routed: Routed) -> None:
    """Dependencies, validation, response models, the schema."""

    async def user(name: str) -> str:
        return name

    @routed.get("/greet", response_model=dict[str, str], summary="Greets")
    async def greet(user: Annotated[str, Depends(user)]) -> Any:
        return {"hello": user}

    client = routed.driven_by(over_test_client)
    assert client.get("/greet?name=Ada").json() == {"hello": "Ada"}
    assert client.get("/greet").status_code == 422
    operation = routed.app.openapi()["paths"]["/greet"]["get"]
    assert operation["summary"] == "Greets"
    assert [parameter["name"] for parameter in operation["parameters"]] == ["name"]
