"""What the tests of the FastAPI package share: a clock set by hand, a dependency that can die, and
three ways to ask an application: over a real socket, through TestClient, through ASGITransport."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from fluxgate import CircuitBreaker
from fluxgate.registry import Registry
from fluxgate.testing import LoadedDice, ManualClock, RecordedSignals, tripped

PATIENCE = 20.0
"""Seconds after which something that never comes fails a test instead of hanging it."""


# -- applications


class Served(uvicorn.Server):
    """A real uvicorn in a thread of its own, on a port that the system chose."""

    def __init__(self, app: Any, **config: Any) -> None:
        config = {"lifespan": "auto", "log_config": None, "access_log": False, **config}
        super().__init__(uvicorn.Config(app, **config))
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._decided = threading.Event()
        self._thread = threading.Thread(target=self._serve_until_told, name=f"uvicorn {self.port}")
        self._thread.start()
        assert self._decided.wait(PATIENCE), "uvicorn neither started nor failed"

    @property
    def thread_id(self) -> int | None:
        """The thread of its event loop."""
        return self._thread.ident

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        self._decided.set()

    async def main_loop(self) -> None:
        """What uvicorn does, but for looking ten times a second whether it is over."""
        await self.on_tick(0)
        await self._told.wait()

    def _serve_until_told(self) -> None:
        try:
            self.run(sockets=[self._socket])
        except SystemExit:
            pass  # how uvicorn tells that the application's lifespan failed
        finally:
            self._decided.set()

    def tell(self) -> None:
        """Ask it to shut down, as SIGTERM does."""
        self.should_exit = True
        if self.started:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._loop.call_soon_threadsafe(self._told.set)

    def stop(self) -> None:
        """Shut down, the lifespan included, and wait for it."""
        self.tell()
        self._thread.join(PATIENCE)
        self._socket.close()
        assert not self._thread.is_alive(), "uvicorn did not shut down"


class OverASGI:
    """httpx's ASGITransport on an event loop of its own; like it, without a lifespan."""

    def __init__(self, app: Any) -> None:
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://app")

    def request(self, method: str, path: str, **request: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **request))

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.request("GET", path, **request)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self.request("POST", path, **request)

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serves applications with uvicorn until the test ends."""
    servers: list[Served] = []

    def start(app: Any, **config: Any) -> Served:
        servers.append(Served(app, **config))
        return servers[-1]

    yield start
    for server in servers:
        server.tell()
    for server in servers:
        server.stop()


@pytest.fixture
def over_uvicorn(serve: Callable[..., Served]) -> Iterator[Callable[..., Any]]:
    """Serves an application with uvicorn, and gives an httpx client for it."""
    with contextlib.ExitStack() as stack:

        def open_client(app: Any, **config: Any) -> httpx.Client:
            # uvicorn hangs up after an error: a connection is not kept for the next request.
            limits = httpx.Limits(max_keepalive_connections=0)
            url = serve(app, **config).url
            return stack.enter_context(httpx.Client(base_url=url, trust_env=False, limits=limits))

        yield open_client


@pytest.fixture
def over_test_client() -> Iterator[Callable[..., TestClient]]:
    """Gives a TestClient in whose lifespan the application is; errors become 500s as in life."""
    with contextlib.ExitStack() as stack:

        def enter(app: Any, **settings: Any) -> TestClient:
            client = TestClient(app, **{"raise_server_exceptions": False, **settings})
            return stack.enter_context(client)

        yield enter


@pytest.fixture
def over_asgi() -> Iterator[Callable[..., OverASGI]]:
    """Gives a client of httpx's ASGITransport."""
    with contextlib.ExitStack() as stack:

        def open_client(app: Any) -> OverASGI:
            return stack.enter_context(contextlib.closing(OverASGI(app)))

        yield open_client


@pytest.fixture(params=["over_uvicorn", "over_test_client", "over_asgi"])
def drive(request: pytest.FixtureRequest) -> Any:
    """Gives a client for an application; each test runs with uvicorn, TestClient, ASGITransport."""
    return request.getfixturevalue(request.param)


# -- circuits


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def signals() -> RecordedSignals:
    return RecordedSignals()


@pytest.fixture
def policy(clock: ManualClock, signals: RecordedSignals) -> dict[str, Any]:
    """A breaker's settings: two failures open it, for 30 s of the clock."""
    return {
        "tripper": "MinRequests(2) & FailureRate(0.5)",
        "retry": "Cooldown(30)",
        "permit": "All()",
        "max_half_open_calls": 1,
        "clock": clock,
        "dice": LoadedDice(0.0),
        "listeners": [signals],
    }


@pytest.fixture
def registry(policy: dict[str, Any]) -> Registry:
    return Registry(**policy)


@pytest.fixture
def opened(registry: Registry) -> Callable[[str], CircuitBreaker]:
    """Opens a circuit of the registry, as an outage would."""

    def trip(name: str) -> CircuitBreaker:
        return tripped(registry[name])

    return trip


@pytest.fixture
def fresh_name(request: pytest.FixtureRequest) -> str:
    """A circuit's name that no other test has used in this process."""
    return f"{request.node.name}-{next(_numbers)}"


_numbers = itertools.count()


# -- a dependency of the application


class Upstream(ThreadingHTTPServer):
    """A server on loopback: healthy, or answering with a status, or dead; it counts its calls."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.status: int | None = 200
        """What it answers with; None hangs up instead."""
        self.gate = threading.Event()
        """Requests are kept waiting until it is set."""
        self.gate.set()
        self._reached = 0
        self._changed = threading.Condition()

    @property
    def reached(self) -> int:
        """How many requests have come."""
        return self._reached

    def arrive(self) -> None:
        with self._changed:
            self._reached += 1
            self._changed.notify_all()

    def wait_until_reached(self, calls: int) -> None:
        """Wait until so many requests have come in all."""
        with self._changed:
            came = self._changed.wait_for(lambda: self._reached >= calls, PATIENCE)
        assert came, f"{self._reached} of {calls} calls reached the upstream"

    def handle_error(self, *_: object) -> None:
        """A client that went away is none of its business."""


class _Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        self.server.arrive()
        assert self.server.gate.wait(PATIENCE)
        status = self.server.status
        if status is None:
            return
        body = b'{"fresh": true}'
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="upstream")
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()
    thread.join(PATIENCE)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody between the tests and loopback."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
