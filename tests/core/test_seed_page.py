"""`docs/examples.ko.md`, snippet by snippet and unchanged, against a real HTTP server.

The page calls hosts of example.com. Here a request leaves httpx on the last step, its transport,
for a server on loopback instead; everything above (clients, status codes, errors, JSON) and
below (sockets) is real. Names that the page leaves to its reader are handed in by each test.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import CodeType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker, State

from ..pages import blocks

PAGE = Path(__file__).parents[2] / "docs" / "examples.ko.md"


class Snippet:
    """One ```python block of the page, under its heading."""

    def __init__(self, heading: str, source: str) -> None:
        self.heading = heading
        self.code = self._compile(source)

    @staticmethod
    def _compile(source: str) -> CodeType:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return compile(source, str(PAGE), "exec", flags=flags, dont_inherit=True)

    def run(self, names: dict[str, Any]) -> dict[str, Any]:
        """Execute it; the names that it defines are added to `names`."""
        if self.code.co_flags & inspect.CO_COROUTINE:

            async def main() -> None:
                await eval(self.code, names)

            asyncio.run(main())
        else:
            exec(self.code, names)
        return names


def read(text: str) -> list[Snippet]:
    """The page's blocks, in order."""
    snippets = []
    lines = text.splitlines(keepends=True)
    for block in blocks(text, "python"):
        before = "".join(lines[: block.line])
        heading = re.findall(r"^#+ (.*?)(?: \{#.*\})?$", before, re.MULTILINE)[-1]
        snippets.append(Snippet(heading, block.source))
    return snippets


SNIPPETS = {snippet.heading: snippet for snippet in read(PAGE.read_text(encoding="utf-8"))}

HTTP = "HTTP API 보호"
FASTAPI = "FastAPI 통합"
SEVERAL = "여러 Circuit Breaker 관리"
ERRORS = "커스텀 에러 추적"
PER_STATE = "상태별 서로 다른 임계값"
DECORATOR = "데코레이터에서 fallback 사용"
CALL = "call_with_fallback 사용"
ASYNC = "비동기 fallback"
MANUAL = "수동 try/except 방식 (기존 방식)"
FACTORY = "팩토리 함수"


def test_every_snippet_of_the_page_is_executed_here() -> None:
    """No block has been added, renamed or lost; each is run by the test of its heading."""
    blocks = PAGE.read_text(encoding="utf-8").count("```python\n")
    assert list(SNIPPETS) == [
        HTTP,
        FASTAPI,
        SEVERAL,
        ERRORS,
        PER_STATE,
        DECORATOR,
        CALL,
        ASYNC,
        MANUAL,
        FACTORY,
    ]
    assert len(SNIPPETS) == blocks


class Upstream(ThreadingHTTPServer):
    """Answers every request, healthily or with a status that it is told."""

    daemon_threads = True
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, str]] = []


class Handler(BaseHTTPRequestHandler):
    server: Upstream

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((self.command, self.headers["host"], self.path))
        body = json.dumps({"path": self.path, "sent": json.loads(sent or "null")}).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_request(self, *_: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    """A server on loopback, which answers for every host of example.com."""
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def here(request: httpx.Request) -> None:
        assert request.url.host.endswith(".example.com")
        assert request.url.scheme == "https"
        # The Host header, set before, still names the host that was asked for.
        request.url = request.url.copy_with(
            scheme="http", host="127.0.0.1", port=server.server_address[1]
        )

    handle, handle_async = (
        httpx.HTTPTransport.handle_request,
        httpx.AsyncHTTPTransport.handle_async_request,
    )

    def redirected(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        here(request)
        return handle(self, request)

    async def redirected_async(
        self: httpx.AsyncHTTPTransport, request: httpx.Request
    ) -> httpx.Response:
        here(request)
        return await handle_async(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", redirected)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", redirected_async)
    # TLS settings are loaded anew for every client, at twenty times the cost of a request.
    context = httpx.create_ssl_context()
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", lambda **_: context)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10.0)


def now(function: Callable[..., Any], *args: object) -> Any:
    """What `function(*args)` gives, awaited if it must be."""
    answer = function(*args)
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


def until_it_opens(
    breaker: CircuitBreaker | AsyncCircuitBreaker, call: Callable[[], object]
) -> None:
    """Call until the circuit opens: at the call at which half of ten or more have failed."""
    while breaker.state is State.CLOSED:
        failed = breaker.info().totals.failures
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            call()
        assert breaker.info().totals.failures == failed + 1
    assert breaker.state is State.OPEN


def test_http_api(upstream: Upstream) -> None:
    names = SNIPPETS[HTTP].run({})
    charge, breaker = names["charge_payment"], names["cb"]
    for amount in range(5):
        assert charge(amount) == {"path": "/charge", "sent": {"amount": amount}}
    assert upstream.requests == 5 * [("POST", "api.example.com", "/charge")]

    upstream.status = 503
    until_it_opens(breaker, functools.partial(charge, 1.0))
    assert len(upstream.requests) == 10
    with pytest.raises(CallNotPermittedError, match="'payment_api' is open") as refusal:
        charge(1.0)
    assert len(upstream.requests) == 10
    assert refusal.value.retry_after == pytest.approx(60.0, abs=5.0)
    assert str(refusal.value.reason) == "FailureRate(0.5): 0.5 over 10 calls"


def test_fastapi(upstream: Upstream) -> None:
    """The endpoint decorates at each request, and all its requests share one circuit."""
    names = SNIPPETS[FASTAPI].run({})
    app = names["app"]
    assert isinstance(app, FastAPI)

    async def requests() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            response = await client.get("/data")
            assert (response.status_code, response.json()) == (200, {"path": "/data", "sent": None})

            upstream.status = 503
            statuses = [(await client.get("/data")).status_code for _ in range(9)]
            assert statuses == [500] * 9
            assert len(upstream.requests) == 10

            response = await client.get("/data")
            assert response.status_code == 503
            assert response.json() == {"detail": "Service unavailable"}
            assert len(upstream.requests) == 10

    asyncio.run(requests())
    assert names["cb"].state is State.OPEN


def test_several_breakers(upstream: Upstream) -> None:
    """One service down, the other stays up."""
    names = SNIPPETS[SEVERAL].run({})
    charge, check = names["charge_payment"], names["check_inventory"]
    assert now(charge, 9.5) == {"path": "/charge", "sent": {"amount": 9.5}}
    assert now(check, "a1") == {"path": "/products/a1", "sent": None}
    assert upstream.requests == [
        ("POST", "payment.example.com", "/charge"),
        ("GET", "inventory.example.com", "/products/a1"),
    ]
    upstream.status = 503
    until_it_opens(names["payment_cb"], lambda: now(charge, 1.0))
    upstream.status = 200
    assert now(check, "a2") == {"path": "/products/a2", "sent": None}
    with pytest.raises(CallNotPermittedError, match="payment_service"):
        now(charge, 1.0)


def test_custom_errors(upstream: Upstream) -> None:
    """404 is nobody's outage; 503 is."""
    names = SNIPPETS[ERRORS].run({})
    breaker = names["cb"]

    @breaker
    def get() -> httpx.Response:
        return httpx.get("https://api.example.com/users/1").raise_for_status()

    assert get().json() == {"path": "/users/1", "sent": None}
    upstream.status = 404
    for _ in range(30):
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            get()
    assert (breaker.state, breaker.info().totals.ignored) == (State.CLOSED, 30)
    upstream.status = 503
    until_it_opens(breaker, get)
    assert breaker.info().totals.failures == 19  # MinRequests(20), the first was fine
    with pytest.raises(CallNotPermittedError):
        get()

    breaker.reset()

    def refused() -> None:
        raise httpx.ConnectError("refused")

    with pytest.raises(httpx.ConnectError):
        breaker.call(refused)
    assert breaker.info().metrics.failure_count == 1


def test_thresholds_per_state() -> None:
    """It takes 60 % of 20 calls while closed; probes are judged by a threshold of their own."""
    breaker: CircuitBreaker = SNIPPETS[PER_STATE].run({})["cb"]

    def call(fine: bool) -> None:
        if fine:
            breaker.call(lambda: None)
        else:
            with pytest.raises(ConnectionError):
                breaker.call(unreachable)

    def unreachable() -> None:
        raise ConnectionError

    for number in range(20):
        call(number >= 11)
    assert breaker.state is State.CLOSED  # 55 %
    for _ in range(10):
        if breaker.state is State.CLOSED:
            call(False)
    assert breaker.state is State.OPEN
    assert breaker.info().last_trip is not None
    assert breaker.info().last_trip.clause == "FailureRate(0.6)"
    assert breaker.policy.permit.ratio(0.0) == pytest.approx(0.1)
    assert breaker.policy.permit.ratio(60.0) == pytest.approx(0.8)


class Reader:
    """What the page leaves to its reader."""

    def __init__(self) -> None:
        self.up = True
        self.fetched = 0
        self.user_id = 42

    def names(self) -> dict[str, Any]:
        return {
            "fetch_from_api": self.fetch_from_api,
            "get_cached_data": self.get_cached_data,
            "fetch_user_data": self.fetch_user_data,
            "user_id": self.user_id,
        }

    def fetch_from_api(self) -> dict[str, Any]:
        self.fetched += 1
        if not self.up:
            raise ConnectionError("down")
        return {"fresh": True}

    def fetch_user_data(self, user_id: int) -> dict[str, Any]:
        return {"user_id": user_id, **self.fetch_from_api()}

    def get_cached_data(self) -> dict[str, Any]:
        return {"fresh": False}


def test_fallback_in_the_decorator() -> None:
    """The page's handler answers for connections that fail, and passes a refusal on."""
    reader = Reader()
    names = SNIPPETS[DECORATOR].run(reader.names())
    fetch, breaker = names["fetch_data"], names["cb"]
    assert names["result"] == {"fresh": True}
    reader.up = False
    for _ in range(9):
        assert fetch() == {"fresh": False}
    assert (breaker.state, reader.fetched) == (State.OPEN, 10)
    with pytest.raises(CallNotPermittedError):
        fetch()
    assert reader.fetched == 10


def test_call_with_fallback() -> None:
    """It follows the block before it on the page, whose `cb` it uses."""
    reader = Reader()
    names = SNIPPETS[DECORATOR].run(reader.names())
    assert SNIPPETS[CALL].run(names)["result"] == {"user_id": 42, "fresh": True}
    reader.up = False
    for _ in range(20):
        assert SNIPPETS[CALL].run(names)["result"] == {"user_id": 42, "cached": True}
    assert names["cb"].state is State.OPEN  # and the fallbacks went on
    assert reader.fetched < 12


def test_async_fallback(upstream: Upstream) -> None:
    reader = Reader()

    async def fetch_from_api() -> dict[str, Any]:
        return reader.fetch_from_api()

    def names() -> dict[str, Any]:
        return {**reader.names(), "httpx": httpx, "fetch_from_api": fetch_from_api}

    defined = SNIPPETS[ASYNC].run(names())
    assert defined["result"] == {"fresh": True}
    assert isinstance(defined["cb"], AsyncCircuitBreaker)
    assert now(defined["fetch_data"]) == {"path": "/data", "sent": None}
    assert upstream.requests == [("GET", "api.example.com", "/data")]
    upstream.shutdown()
    upstream.server_close()  # down for good: connections are refused
    for _ in range(20):
        assert now(defined["fetch_data"]) == {"status": "fallback"}
    assert defined["cb"].state is State.OPEN

    reader.up = False
    assert SNIPPETS[ASYNC].run(names())["result"] == {"fresh": False}


def test_try_and_except_by_hand() -> None:
    """It uses the `cb` of the section's first block; each of its three ways out is taken."""
    reader = Reader()
    names = SNIPPETS[DECORATOR].run(reader.names())
    assert SNIPPETS[MANUAL].run(names)["result"] == {"fresh": True}
    reader.up = False
    assert SNIPPETS[MANUAL].run(names)["result"] == {"fresh": False}
    fetched = reader.fetched
    names["cb"].force_open()
    assert SNIPPETS[MANUAL].run(names)["result"] == {"fresh": False}
    assert reader.fetched == fetched


def test_factory() -> None:
    """Each endpoint has a circuit of its own, with its own thresholds."""
    names = SNIPPETS[FACTORY].run({})
    charge = names["charge_cb"]
    assert isinstance(charge, AsyncCircuitBreaker)
    assert charge.name == "payment_charge"
    assert repr(charge.policy.tripper) == (
        "Closed() & MinRequests(10) & (FailureRate(0.3) | SlowRate(0.5, 2.0))"
    )
    assert repr(names["history_cb"].policy.tripper) == (
        "Closed() & MinRequests(10) & (FailureRate(0.5) | SlowRate(0.5, 0.5))"
    )
    assert now(names["charge_payment"], 1.0) is None
    for _ in range(10):
        charge.attempt().succeed(elapsed=2.5)
    assert charge.state is State.OPEN
    assert charge.info().last_trip.clause == "SlowRate(0.5, 2.0)"
    assert names["refund_cb"].state is State.CLOSED
