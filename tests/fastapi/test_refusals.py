"""What a client gets from an open circuit: a 503 that tells the truth, wherever it was raised."""

import asyncio
import contextlib
import inspect
import json
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
    Request,
    Response,
    WebSocket,
)
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    ConfigError,
    State,
)
from fluxgate.registry import Registry
from fluxgate.retries import Retry
from fluxgate.testing import ManualClock, tripped
from fluxgate_fastapi import Breaker, install

NAME = "pay.internal.example:8443"
"""A circuit is often called like its upstream, whose name is nobody's business."""

Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker(NAME))]
SyncPayments = Annotated[CircuitBreaker, Depends(Breaker(NAME, sync=True))]

Opened = Callable[[str], CircuitBreaker]


async def charge() -> str:
    return "charged"


def shop(registry: Registry, **options: Any) -> FastAPI:
    """An application with one endpoint of each kind, all behind the same circuit."""
    app = FastAPI()
    install(app, registry=registry, **options)

    @app.get("/async")
    async def in_async(payments: Payments) -> str:
        return await payments.call(charge)

    @app.get("/sync")
    def in_sync(payments: SyncPayments) -> str:
        return payments.call(lambda: "charged")

    @app.get("/http-exception")
    async def by_hand() -> None:
        raise HTTPException(503, "Service unavailable")

    return app


# -- status and Retry-After


@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_an_open_circuit_is_a_503(
    drive: Any, registry: Registry, opened: Opened, path: str
) -> None:
    client = drive(shop(registry))
    assert client.get(path).json() == "charged"
    opened(NAME)
    answer = client.get(path)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "30"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("passed", "told"),
    [(0.0, "30"), (0.25, "30"), (1.0, "29"), (1.5, "29"), (29.0, "1"), (29.75, "1")],
)
def test_retry_after_is_rounded_up(
    over_test_client: Any,
    registry: Registry,
    opened: Opened,
    clock: ManualClock,
    passed: float,
    told: str,
) -> None:
    """Whoever comes back when told finds the circuit willing."""
    client = over_test_client(shop(registry))
    opened(NAME)
    clock.advance(passed)
    assert client.get("/async").headers["retry-after"] == told
    clock.advance(float(told))
    assert client.get("/async").status_code == 200


class Aeon(Retry):
    """A retry of one's own, which may ask for longer than ours."""

    def delay(self, reopens: int) -> float:
        return 1e16


def test_a_time_too_long_for_a_float_to_be_exact(
    over_test_client: Any, policy: dict[str, Any]
) -> None:
    registry = Registry(**{**policy, "retry": Aeon()})
    tripped(registry[NAME])
    told = over_test_client(shop(registry)).get("/async").headers["retry-after"]
    assert told == "10000000000000000"


def test_no_retry_after_when_forced_open(drive: Any, registry: Registry) -> None:
    registry[NAME].force_open()
    answer = drive(shop(registry)).get("/async")
    assert answer.status_code == 503
    assert "retry-after" not in answer.headers


@contextlib.contextmanager
def another_probe(registry: Registry) -> Iterator[None]:
    """A probe of somebody else's: a block would make the calls inside it parts of the probe."""
    attempt = registry[NAME].attempt()
    yield
    attempt.succeed()


def test_no_retry_after_when_half_open(
    drive: Any, registry: Registry, opened: Opened, clock: ManualClock
) -> None:
    """The only probe's slot is taken; nobody knows for how long."""
    opened(NAME)
    clock.advance(30)
    with another_probe(registry):
        assert registry[NAME].state is State.HALF_OPEN
        answer = drive(shop(registry)).get("/async")
    assert answer.status_code == 503
    assert "retry-after" not in answer.headers
    assert registry[NAME].info().totals.rejected == 1


def test_no_retry_after_when_it_never_probes(over_test_client: Any, policy: dict[str, Any]) -> None:
    registry = Registry(**{**policy, "retry": "Never()"})
    tripped(registry[NAME])
    answer = over_test_client(shop(registry)).get("/async")
    assert answer.status_code == 503
    assert "retry-after" not in answer.headers


# -- the body


def test_the_problem_has_the_members_of_rfc_9457(
    drive: Any, registry: Registry, opened: Opened
) -> None:
    opened(NAME)
    answer = drive(shop(registry)).get("/async")
    problem = answer.json()
    assert problem["status"] == answer.status_code == 503
    assert {type(problem[member]) for member in ("type", "title", "detail")} == {str}
    assert problem["type"] not in ("", "about:blank")
    assert not problem["type"].startswith("/")
    assert set(problem) <= {"type", "title", "status", "detail", "retry_after"}
    assert answer.content == json.dumps(problem, separators=(",", ":")).encode()


def test_its_type_and_title_are_the_same_for_every_circuit_and_state(
    over_test_client: Any, registry: Registry, opened: Opened, clock: ManualClock
) -> None:
    app = shop(registry)

    @app.get("/stock")
    async def stock(breaker: Annotated[AsyncCircuitBreaker, Depends(Breaker("stock"))]) -> str:
        return await breaker.call(charge)

    client = over_test_client(app)
    opened(NAME)
    registry["stock"].force_open()
    problems = [client.get("/async").json(), client.get("/stock").json()]
    clock.advance(30)
    with another_probe(registry):
        problems.append(client.get("/async").json())
    assert len({(problem["type"], problem["title"]) for problem in problems}) == 1


@pytest.mark.parametrize("options", [{}, {"problem_json": False}], ids=["problem", "plain"])
@pytest.mark.parametrize("how", ["open", "forced", "half-open"])
def test_no_upstream_is_named(
    drive: Any,
    registry: Registry,
    opened: Opened,
    clock: ManualClock,
    options: dict[str, Any],
    how: str,
) -> None:
    """Neither its name, nor why it opened."""
    with contextlib.ExitStack() as stack:
        if how == "forced":
            registry[NAME].force_open()
        else:
            opened(NAME)
        if how == "half-open":
            clock.advance(30)
            stack.enter_context(another_probe(registry))
        answer = drive(shop(registry, **options)).get("/async")
    assert answer.status_code == 503
    told = answer.text + str(answer.headers)
    for secret in (NAME, "pay.internal", "8443", "FailureRate", "force_open", "ConnectionError"):
        assert secret not in told


def test_plain_json_is_what_an_http_exception_gives(
    drive: Any, registry: Registry, opened: Opened
) -> None:
    opened(NAME)
    client = drive(shop(registry, problem_json=False))
    ours, theirs = client.get("/async"), client.get("/http-exception")
    assert ours.status_code == theirs.status_code
    assert ours.headers["content-type"] == theirs.headers["content-type"]
    assert ours.json().keys() == theirs.json().keys() == {"detail"}
    assert isinstance(ours.json()["detail"], str)
    assert ours.headers["retry-after"] == "30"
    assert set(ours.headers) - set(theirs.headers) == {"retry-after", "cache-control"}


def test_head_has_headers_and_no_body(
    over_uvicorn: Any, registry: Registry, opened: Opened
) -> None:
    app = shop(registry)

    @app.head("/head")
    async def head(payments: Payments) -> None:
        await payments.call(charge)

    opened(NAME)
    answer = over_uvicorn(app).head("/head")
    assert (answer.status_code, answer.content) == (503, b"")
    assert answer.headers["retry-after"] == "30"


# -- where it is raised


def test_in_a_dependency(drive: Any, registry: Registry, opened: Opened) -> None:
    app = FastAPI()
    install(app, registry=registry)

    async def customer(payments: Payments) -> str:
        return await payments.call(charge)

    @app.get("/")
    async def root(customer: Annotated[str, Depends(customer)]) -> str:
        return customer

    opened(NAME)
    answer = drive(app).get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_in_a_sync_dependency(over_test_client: Any, registry: Registry, opened: Opened) -> None:
    app = FastAPI()
    install(app, registry=registry)

    def customer(payments: SyncPayments) -> str:
        return payments.call(lambda: "charged")

    @app.get("/", dependencies=[Depends(customer)])
    async def root() -> str:
        return "here"

    opened(NAME)
    answer = over_test_client(app).get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


@pytest.mark.parametrize("scope", ["function", "request"])
def test_at_the_entrance_of_a_dependency_with_yield(
    over_test_client: Any, registry: Registry, opened: Opened, scope: Any
) -> None:
    app = FastAPI()
    install(app, registry=registry)

    async def session(payments: Payments) -> AsyncIterator[None]:
        async with payments:
            yield

    depends = _scoped(session, scope)

    @app.get("/", dependencies=[depends])
    async def root() -> str:
        return "here"

    opened(NAME)
    assert over_test_client(app).get("/").status_code == 503


def _scoped(dependency: Any, scope: str) -> Any:
    if "scope" not in inspect.signature(Depends).parameters:
        pytest.skip("this FastAPI has no scopes of dependencies")
    return Depends(dependency, scope=scope)


def test_in_a_dependency_of_the_router(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    async def customer(payments: Payments) -> None:
        await payments.call(charge)

    router = APIRouter(dependencies=[Depends(customer)])

    @router.get("/")
    async def root() -> str:
        return "here"

    app = FastAPI()
    install(app, registry=registry)
    app.include_router(router, prefix="/v1")
    opened(NAME)
    assert over_test_client(app).get("/v1/").status_code == 503


def test_somewhere_below_and_chained(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    """Only what comes out counts, not what it was raised from."""
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/wrapped")
    async def wrapped(payments: Payments) -> None:
        try:
            await payments.call(charge)
        except CallNotPermittedError as error:
            raise LookupError("another error") from error

    @app.get("/handled")
    async def handled(payments: Payments) -> str:
        try:
            return await payments.call(charge)
        except CallNotPermittedError:
            return "from the cache"

    opened(NAME)
    client = over_test_client(app)
    assert client.get("/wrapped").status_code == 500
    assert client.get("/handled").json() == "from the cache"


@pytest.mark.parametrize("installed", ["before", "after"])
def test_install_may_come_before_or_after_the_routes(
    over_test_client: Any, registry: Registry, opened: Opened, installed: str
) -> None:
    app = FastAPI()
    if installed == "before":
        install(app, registry=registry)

    @app.get("/")
    async def root(payments: Payments) -> str:
        return await payments.call(charge)

    if installed == "after":
        install(app, registry=registry)
    opened(NAME)
    assert over_test_client(app).get("/").status_code == 503


def test_a_refusal_of_a_breaker_that_no_registry_knows(
    over_test_client: Any, registry: Registry
) -> None:
    """The seed's way, a breaker in a global, gets the same answer."""
    breaker = AsyncCircuitBreaker("global", initial_state="forced_open")
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/")
    @breaker
    async def root() -> str:
        return "here"

    assert over_test_client(app).get("/").status_code == 503


def test_other_errors_are_left_alone(over_test_client: Any, registry: Registry) -> None:
    app = shop(registry)

    @app.get("/bug")
    async def bug() -> None:
        raise LookupError("a bug")

    client = over_test_client(app)
    assert client.get("/bug").status_code == 500
    assert client.get("/nowhere").status_code == 404
    assert client.get("/http-exception").json() == {"detail": "Service unavailable"}


# -- exception groups


async def _together(*calls: Any) -> None:
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call)


def _raises(error: Exception) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def root() -> None:
        raise error

    return app


def refusal(breaker: CircuitBreaker) -> CallNotPermittedError:
    with pytest.raises(CallNotPermittedError) as caught:
        breaker.call(int)
    return caught.value


def test_in_a_task_group(drive: Any, registry: Registry, opened: Opened) -> None:
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/one")
    async def one(payments: Payments) -> None:
        await _together(payments.call(charge))

    @app.get("/several")
    async def several(payments: Payments) -> None:
        await _together(*(payments.call(charge) for _ in range(3)))

    opened(NAME)
    client = drive(app)
    for path in ("/one", "/several"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_in_groups_of_groups(over_test_client: Any, registry: Registry, opened: Opened) -> None:
    inner = ExceptionGroup("inner", [refusal(opened(NAME))])
    app = _raises(ExceptionGroup("outer", [ExceptionGroup("middle", [inner])]))
    install(app, registry=registry)
    answer = over_test_client(app).get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_a_group_of_other_errors_comes_out_as_it_is(
    over_test_client: Any, registry: Registry
) -> None:
    group = ExceptionGroup("bugs", [LookupError("one"), ValueError("two")])
    app = _raises(group)
    install(app, registry=registry)
    client = over_test_client(app, raise_server_exceptions=True)
    with pytest.raises(ExceptionGroup) as caught:
        client.get("/")
    assert caught.value is group


def test_retry_after_of_several_circuits_is_when_all_may_be_tried(
    over_test_client: Any, policy: dict[str, Any], opened: Opened
) -> None:
    """Before that, the request would only be refused again."""
    slow = tripped(CircuitBreaker("slow", **_objects(policy, retry="Cooldown(90)")))
    app = _raises(ExceptionGroup("both", [refusal(opened(NAME)), refusal(slow)]))
    install(app)
    assert over_test_client(app).get("/").headers["retry-after"] == "90"


def test_a_group_with_a_circuit_that_has_no_time_has_no_retry_after(
    over_test_client: Any, opened: Opened
) -> None:
    forced = CircuitBreaker("forced", initial_state="forced_open")
    app = _raises(ExceptionGroup("both", [refusal(opened(NAME)), refusal(forced)]))
    install(app)
    answer = over_test_client(app).get("/")
    assert answer.status_code == 503
    assert "retry-after" not in answer.headers


def _objects(policy: dict[str, Any], **changes: Any) -> dict[str, Any]:
    from fluxgate.config import build

    settings = {**policy, **changes}
    made = build("any", settings).policy
    names = ("tripper", "retry", "permit")
    return {**settings, **{name: getattr(made, name) for name in names}}


# -- mounted applications


def _sub_app(registry: Registry | None) -> FastAPI:
    sub = FastAPI()
    if registry is not None:
        install(sub, registry=registry)

    @sub.get("/charge")
    async def in_sub_app(payments: Payments) -> str:
        return await payments.call(charge)

    return sub


def test_a_mounted_sub_application_that_is_installed_itself(
    drive: Any, registry: Registry, opened: Opened
) -> None:
    app = FastAPI()
    app.mount("/sub", _sub_app(registry))
    client = drive(app)
    assert client.get("/sub/charge").json() == "charged"
    opened(NAME)
    answer = client.get("/sub/charge")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")


def test_a_parent_and_its_sub_application_may_have_registries_of_their_own(
    over_test_client: Any, registry: Registry, opened: Opened, policy: dict[str, Any]
) -> None:
    app = shop(registry)
    own = Registry(**policy)
    app.mount("/sub", _sub_app(own))
    client = over_test_client(app)
    opened(NAME)
    assert client.get("/async").status_code == 503
    assert client.get("/sub/charge").status_code == 200
    tripped(own[NAME])
    assert client.get("/sub/charge").status_code == 503


def test_a_sub_application_below_starlette(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    app = Starlette(routes=[Mount("/a", routes=[Mount("/b", app=_sub_app(registry))])])
    opened(NAME)
    assert over_test_client(app).get("/a/b/charge").status_code == 503


# -- after the answer has begun


def test_in_a_background_task(over_uvicorn: Any, registry: Registry, opened: Opened) -> None:
    """The answer is out, and stays what it was; the error is the log's."""
    app = FastAPI()
    install(app, registry=registry)
    ran = threading.Event()

    @app.get("/")
    async def root(payments: Payments, tasks: BackgroundTasks) -> str:
        async def task() -> None:
            try:
                await payments.call(charge)
            finally:
                ran.set()

        tasks.add_task(task)
        return "answered"

    opened(NAME)
    client = over_uvicorn(app)
    answer = client.get("/")
    assert (answer.status_code, answer.json()) == (200, "answered")
    assert ran.wait(20)
    assert client.get("/").status_code == 200  # the server lives on
    assert registry[NAME].info().totals.rejected >= 1


def test_in_a_background_task_the_error_is_not_swallowed(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/")
    async def root(payments: Payments, tasks: BackgroundTasks) -> str:
        tasks.add_task(payments.call, charge)
        return "answered"

    opened(NAME)
    client = over_test_client(app, raise_server_exceptions=True)
    with pytest.raises((CallNotPermittedError, RuntimeError)) as caught:
        client.get("/")
    assert any(isinstance(e, CallNotPermittedError) for e in (caught.value, caught.value.__cause__))


def test_before_the_first_chunk_of_a_stream(drive: Any, registry: Registry, opened: Opened) -> None:
    """Admitted in the endpoint, not in the stream: still a 503."""
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/")
    async def root(payments: Payments) -> StreamingResponse:
        await payments.call(charge)
        return StreamingResponse(iter([b"never"]))

    opened(NAME)
    answer = drive(app).get("/")
    assert answer.status_code == 503
    assert b"never" not in answer.content


def _streaming(registry: Registry) -> FastAPI:
    app = FastAPI()
    install(app, registry=registry)

    @app.get("/")
    async def root(payments: Payments) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first "
            yield (await payments.call(charge)).encode()

        return StreamingResponse(chunks(), media_type="text/plain")

    return app


def test_in_the_middle_of_a_stream(over_uvicorn: Any, registry: Registry, opened: Opened) -> None:
    """It is too late for a status: the client sees that the body is cut off, not an end."""
    client = over_uvicorn(_streaming(registry))
    assert client.get("/").text == "first charged"
    opened(NAME)
    with client.stream("GET", "/") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_in_the_middle_of_a_stream_the_error_is_not_swallowed(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    client = over_test_client(_streaming(registry), raise_server_exceptions=True)
    opened(NAME)
    with pytest.raises((CallNotPermittedError, RuntimeError, ExceptionGroup)):
        client.get("/")


# -- WebSockets


def _feeds(registry: Registry, **options: Any) -> FastAPI:
    app = FastAPI()
    install(app, registry=registry, **options)

    @app.websocket("/before")
    async def before(websocket: WebSocket, payments: Payments) -> None:
        await payments.call(charge)
        await websocket.accept()
        await websocket.close()

    async def customer(payments: Payments) -> None:
        await payments.call(charge)

    @app.websocket("/dependency", dependencies=[Depends(customer)])
    async def dependency(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    @app.websocket("/group")
    async def group(websocket: WebSocket, payments: Payments) -> None:
        try:
            await payments.call(charge)
        except CallNotPermittedError as error:
            raise ExceptionGroup("one of several", [error]) from None
        await websocket.accept()
        await websocket.close()

    @app.websocket("/after")
    async def after(websocket: WebSocket, payments: Payments) -> None:
        await websocket.accept()
        await websocket.send_text("welcome")
        await payments.call(charge)
        await websocket.close()

    @app.websocket("/closed")
    async def closed(websocket: WebSocket, payments: Payments) -> None:
        await websocket.accept()
        await websocket.close(4000)
        await payments.call(charge)

    return app


@pytest.mark.parametrize("path", ["/before", "/dependency", "/group"])
def test_a_websocket_that_is_not_accepted_yet_is_denied(
    over_test_client: Any, registry: Registry, opened: Opened, path: str
) -> None:
    client = over_test_client(_feeds(registry))
    with client.websocket_connect(path) as feed, pytest.raises(WebSocketDisconnect) as ended:
        feed.receive_text()
    assert ended.value.code == 1000  # while closed, the endpoint ends it well
    opened(NAME)
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path):
        pytest.fail("it was accepted")
    assert denied.value.status_code == 503
    assert denied.value.headers["retry-after"] == "30"
    assert denied.value.headers["content-type"] == "application/problem+json"
    assert denied.value.json()["status"] == 503
    assert NAME not in denied.value.text


@pytest.mark.parametrize("path", ["/before", "/dependency", "/group"])
def test_the_denial_goes_over_the_wire(
    serve: Any, registry: Registry, opened: Opened, path: str
) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    opened(NAME)
    url = serve(_feeds(registry)).url.replace("http", "ws")
    with pytest.raises(InvalidStatus) as denied, connect(url + path, proxy=None):
        pytest.fail("it was accepted")
    response = denied.value.response
    assert response.status_code == 503
    assert response.headers["retry-after"] == "30"
    assert json.loads(response.body or b"")["status"] == 503


def test_a_server_that_can_not_send_denials_closes(registry: Registry, opened: Opened) -> None:
    """As ASGI says: without the extension, to close before accepting is a 403."""
    opened(NAME)
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/before",
        "raw_path": b"/before",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "subprotocols": [],
        "state": {},
        "extensions": {},
    }
    asyncio.run(_feeds(registry)(scope, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert NAME not in str(sent)


def test_an_accepted_websocket_is_closed_with_1013(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    """1013: try again later."""
    client = over_test_client(_feeds(registry))
    opened(NAME)
    with client.websocket_connect("/after") as feed:
        assert feed.receive_text() == "welcome"
        with pytest.raises(WebSocketDisconnect) as ended:
            feed.receive_text()
    assert ended.value.code == 1013
    assert NAME not in ended.value.reason


def test_1013_goes_over_the_wire(serve: Any, registry: Registry, opened: Opened) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    opened(NAME)
    url = serve(_feeds(registry)).url.replace("http", "ws")
    with connect(f"{url}/after", proxy=None) as feed:
        assert feed.recv(timeout=20) == "welcome"
        with pytest.raises(ConnectionClosed) as ended:
            feed.recv(timeout=20)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1013
    assert NAME not in ended.value.rcvd.reason


def test_a_websocket_that_the_endpoint_has_closed_stays_closed(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    """There is nothing left to tell; in particular no error about a second close."""
    client = over_test_client(_feeds(registry), raise_server_exceptions=True)
    opened(NAME)
    with client.websocket_connect("/closed") as feed, pytest.raises(WebSocketDisconnect) as ended:
        feed.receive_text()
    assert ended.value.code == 4000


# -- no thread hop


def test_the_handler_runs_on_the_event_loop(registry: Registry, opened: Opened) -> None:
    """A sync handler would be run in a thread pool, of which there is none after this."""
    opened(NAME)

    async def main() -> list[str]:
        transport = httpx.ASGITransport(shop(registry))
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            for _ in range(3):
                assert (await client.get("/async")).status_code == 503
        return [thread.name for thread in threading.enumerate()]

    assert not [name for name in asyncio.run(main()) if "AnyIO" in name]


def test_every_handler_that_is_installed_is_async(registry: Registry) -> None:
    app = FastAPI()
    before = dict(app.exception_handlers)
    install(app, registry=registry)
    ours = {
        kind: handler
        for kind, handler in app.exception_handlers.items()
        if before.get(kind) is not handler
    }
    assert CallNotPermittedError in ours
    for handler in ours.values():
        call = handler if inspect.isroutine(handler) else handler.__call__
        assert inspect.iscoroutinefunction(call)


# -- the user's own handlers


def test_a_handler_of_the_users_own_comes_first(over_test_client: Any, registry: Registry) -> None:
    """FastAPI's way to say otherwise goes on working, registered after install()."""
    app = shop(registry)

    @app.exception_handler(CallNotPermittedError)
    async def own(request: Request, _: CallNotPermittedError) -> JSONResponse:
        return JSONResponse({"sorry": request.url.path}, 418)

    registry[NAME].force_open()
    answer = over_test_client(app).get("/async")
    assert (answer.status_code, answer.json()) == (418, {"sorry": "/async"})


def test_a_handler_that_is_there_already_is_not_thrown_out(registry: Registry) -> None:
    """Two answers to one question: install() says so, and what to do."""
    app = FastAPI()

    @app.exception_handler(CallNotPermittedError)
    async def own(*_: object) -> JSONResponse:
        return JSONResponse({}, 418)

    with pytest.raises(ConfigError, match="hook="):
        install(app, registry=registry)
    assert app.exception_handlers[CallNotPermittedError] is own


def test_a_handler_for_groups_that_is_there_already_stays(registry: Registry) -> None:
    app = FastAPI()

    @app.exception_handler(ExceptionGroup)
    async def own(*_: object) -> JSONResponse:
        return JSONResponse({}, 418)

    install(app, registry=registry)
    assert app.exception_handlers[ExceptionGroup] is own


# -- the hook


Told = list[tuple[str, str, float | None]]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_hook_answers(drive: Any, registry: Registry, opened: Opened, kind: str) -> None:
    told: Told = []

    def sync_hook(request: HTTPConnection, error: CallNotPermittedError) -> Response:
        told.append((request.url.path, error.name, error.retry_after))
        return JSONResponse({"sorry": True}, 429, {"Retry-After": "5"})

    async def async_hook(request: HTTPConnection, error: CallNotPermittedError) -> Response:
        return sync_hook(request, error)

    app = shop(registry, hook=sync_hook if kind == "sync" else async_hook)
    opened(NAME)
    answer = drive(app).get("/async")
    assert (answer.status_code, answer.json()) == (429, {"sorry": True})
    assert answer.headers["retry-after"] == "5"
    assert told == [("/async", NAME, 30.0)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_hook_that_returns_none_leaves_it_at_the_usual_answer(
    over_test_client: Any, registry: Registry, opened: Opened, kind: str
) -> None:
    asked: list[str] = []

    def sync_hook(_: HTTPConnection, error: CallNotPermittedError) -> None:
        asked.append(error.name)

    async def async_hook(request: HTTPConnection, error: CallNotPermittedError) -> None:
        sync_hook(request, error)

    app = shop(registry, hook=sync_hook if kind == "sync" else async_hook)
    opened(NAME)
    answer = over_test_client(app).get("/async")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert asked == [NAME]


def test_a_hook_runs_on_the_event_loop(serve: Any, registry: Registry, opened: Opened) -> None:
    threads: list[int] = []

    def hook(*_: object) -> None:
        threads.append(threading.get_ident())

    server = serve(shop(registry, hook=hook))
    opened(NAME)
    for path in ("/async", "/sync"):
        assert httpx.get(server.url + path, trust_env=False).status_code == 503
    assert threads == [server.thread_id] * 2


def test_a_hook_gets_the_refusal_out_of_a_group(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    errors: list[Exception] = []

    def hook(_: HTTPConnection, error: CallNotPermittedError) -> None:
        errors.append(error)

    refused = refusal(opened(NAME))
    app = _raises(ExceptionGroup("group", [refused]))
    install(app, registry=registry, hook=hook)
    assert over_test_client(app).get("/").status_code == 503
    assert errors == [refused]


def test_a_hook_answers_a_websockets_denial_too(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    def hook(connection: HTTPConnection, _: CallNotPermittedError) -> Response:
        return JSONResponse({"path": connection.url.path}, 503)

    client = over_test_client(_feeds(registry, hook=hook))
    opened(NAME)
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/before"):
        pytest.fail("it was accepted")
    assert denied.value.json() == {"path": "/before"}


def test_a_hook_that_fails_is_an_error_like_any_other(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    def hook(*_: object) -> None:
        raise LookupError("a bug in the hook")

    opened(NAME)
    client = over_test_client(shop(registry, hook=hook))
    assert client.get("/async").status_code == 500
    assert client.get("/http-exception").status_code == 503


# -- what may be asked for


def test_the_name_is_shown_on_request(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    opened(NAME)
    problem = over_test_client(shop(registry, show_name=True)).get("/async").json()
    assert problem["circuit"] == NAME
    assert NAME in problem["detail"]
    assert "FailureRate" in problem["detail"]


@pytest.mark.parametrize("problem_json", [True, False])
def test_a_name_that_utf_8_can_not_carry_is_shown_all_the_same(
    drive: Any, registry: Registry, opened: Opened, problem_json: bool
) -> None:
    """A name may come from outside, undecoded: os.fsdecode gives lone surrogates."""
    app = FastAPI()
    install(app, registry=registry, show_name=True, problem_json=problem_json)
    name = "caf\udce9"

    @app.get("/")
    async def root(breaker: Annotated[AsyncCircuitBreaker, Depends(Breaker(name))]) -> None:
        await breaker.call(charge)

    opened(name)
    answer = drive(app).get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "caf\\udce9" in answer.json()["detail"]
    assert answer.json().get("circuit") == ("caf\\udce9" if problem_json else None)


def test_a_type_of_ones_own(over_test_client: Any, registry: Registry, opened: Opened) -> None:
    opened(NAME)
    page = "https://example.com/problems/unavailable"
    assert over_test_client(shop(registry, type=page)).get("/async").json()["type"] == page


# -- groups that hold more than refusals


def test_what_was_raised_beside_a_refusal_is_logged(
    over_test_client: Any, registry: Registry, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is a 503; the bug beside it must not vanish."""
    app = _raises(ExceptionGroup("both", [refusal(opened(NAME)), LookupError("a bug")]))
    install(app, registry=registry)
    assert over_test_client(app).get("/").status_code == 503
    assert "LookupError: a bug" in caplog.text


def test_refusals_alone_log_no_error(
    over_test_client: Any, registry: Registry, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """Hundreds a second, at the worst moment."""
    client = over_test_client(shop(registry))
    opened(NAME)
    caplog.clear()
    assert client.get("/async").status_code == 503
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


# -- beside other middleware


def test_a_refusal_passes_the_middleware_as_any_response_does(
    drive: Any, registry: Registry, opened: Opened
) -> None:
    """A browser may read it: it has the CORS headers."""
    app = shop(registry)
    app.add_middleware(
        CORSMiddleware, allow_origins=["https://shop.example"], expose_headers=["Retry-After"]
    )
    opened(NAME)
    answer = drive(app).get("/async", headers={"Origin": "https://shop.example"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_a_close_reason_fits_into_its_frame(serve: Any, registry: Registry) -> None:
    """It holds 123 bytes, however long the name that it was asked to show."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    name = "zahlungsübermittlung-" * 20
    app = FastAPI()
    install(app, registry=registry, show_name=True)

    @app.websocket("/")
    async def feed(
        websocket: WebSocket, breaker: Annotated[AsyncCircuitBreaker, Depends(Breaker(name))]
    ) -> None:
        await websocket.accept()
        await breaker.call(charge)

    registry[name].force_open()
    session = connect(serve(app).url.replace("http", "ws"), proxy=None)
    with session, pytest.raises(ConnectionClosed) as ended:
        session.recv(timeout=20)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1013
    assert 0 < len(ended.value.rcvd.reason.encode()) <= 123
    assert "zahlungsübermittlung" in ended.value.rcvd.reason
