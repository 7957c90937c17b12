"""The example project over real sockets: WSGI under gunicorn with threads, ASGI under uvicorn."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from .live_servers import (
    GUNICORN,
    PATIENCE,
    POSIX,
    UVICORN,
    Server,
    Upstream,
    an_upstream,
    eventually,
    served,
)

pytestmark = [POSIX, pytest.mark.slow]

COMMANDS = {
    "wsgi": (*GUNICORN, "--workers", "1", "shop.wsgi"),
    "asgi": (*UVICORN, "shop.asgi:application"),
}
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def running_upstream() -> Iterator[Upstream]:
    with an_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest, running_upstream: Upstream) -> Iterator[Server]:
    with served(*COMMANDS[request.param], upstream=running_upstream.url) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of the server, whose circuits are closed."""
    with server.client() as client:
        assert client.get("/_reset").status_code == 200
        yield client


@pytest.fixture
def upstream(running_upstream: Upstream) -> Iterator[Upstream]:
    """The service that the project depends on, as healthy as it is at first."""
    yield running_upstream
    running_upstream.answers(200)
    running_upstream.gate.set()


def order(client: httpx.Client) -> httpx.Response:
    return client.post("/orders", data={"item": "tea", "amount": "1"})


def receipt(client: httpx.Client) -> httpx.Response:
    return client.get("/receipts/1")


VIEWS = pytest.mark.parametrize("ask", [order, receipt], ids=["async-view", "sync-view"])
Ask = Callable[[httpx.Client], httpx.Response]


@VIEWS
def test_an_outage(client: httpx.Client, upstream: Upstream, ask: Ask) -> None:
    """Errors first, then 503s that cost the upstream nothing, then back to work."""
    assert ask(client).status_code == 200
    upstream.answers(500)
    assert ask(client).status_code == 502
    reached = upstream.reached()
    for view in (order, receipt):  # both on the one circuit, whichever opened it
        answer = view(client)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert upstream.reached() == reached

    client.get("/_advance/12")
    assert ask(client).headers["retry-after"] == "18"
    client.get("/_advance/18")
    assert [ask(client).status_code for _ in range(2)] == [502, 502]  # the probes failed
    assert ask(client).headers["retry-after"] == "30"
    assert upstream.reached() == reached + 2

    upstream.answers(200)
    client.get("/_advance/30")
    assert [ask(client).status_code for _ in range(3)] == [200, 200, 200]
    assert client.get("/_seen").json()["payments"]["state"] == "closed"


@pytest.fixture
def refusing(client: httpx.Client, upstream: Upstream) -> httpx.Client:
    """A client of the project, whose circuit `payments` is open."""
    upstream.answers(500)
    while receipt(client).status_code == 502:
        pass
    return client


@VIEWS
def test_what_a_program_is_told(refusing: httpx.Client, ask: Ask) -> None:
    for accept in ("*/*", "application/json", PROBLEM, "text/html;q=0.5,application/json"):
        refusing.headers["accept"] = accept
        answer = ask(refusing)
        assert answer.headers["content-type"].partition(";")[0] == PROBLEM
        problem = answer.json()
        assert problem["status"] == answer.status_code == 503
        assert str(problem["retry_after"]) == answer.headers["retry-after"] == "30"
        assert "payments" not in answer.text  # what we depend on is nobody's business


@VIEWS
def test_what_a_person_is_told(refusing: httpx.Client, ask: Ask) -> None:
    refusing.headers["accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"
    answer = ask(refusing)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "This part of the shop is closed for a moment" in answer.text  # the project's template
    assert "in 30 seconds" in answer.text


def test_while_one_probe_is_out_nobody_knows_when(client: httpx.Client, upstream: Upstream) -> None:
    upstream.answers(500)
    while receipt(client).status_code == 502:
        pass
    upstream.answers(200)
    client.get("/_advance/30")
    upstream.gate.clear()
    reached = upstream.reached()
    with ThreadPoolExecutor() as threads:
        probe = threads.submit(httpx.get, f"{client.base_url}/receipts/1", timeout=PATIENCE)
        upstream.wait_until_reached(reached + 1)
        answer = order(client)
        assert answer.status_code == 503
        assert "retry-after" not in answer.headers
        assert "retry_after" not in answer.json()
        upstream.gate.set()
        assert probe.result().status_code == 200
    assert upstream.reached() == reached + 1
    assert order(client).status_code == 200


def test_another_view_answers_for_one_whose_circuit_is_open(
    client: httpx.Client, upstream: Upstream
) -> None:
    whole = {"word": "tea", "results": ["here"], "complete": True}
    assert client.get("/search/tea").json() == whole
    upstream.answers(500)
    assert client.get("/search/tea").status_code == 502
    reached = upstream.reached()
    for _ in range(3):
        answer = client.get("/search/tea")
        assert answer.status_code == 200
        assert answer.json() == {"word": "tea", "results": [], "complete": False}
    assert upstream.reached() == reached

    upstream.answers(200)
    client.get("/_advance/30")
    assert client.get("/search/tea").json() == whole


def test_the_last_price_known(client: httpx.Client, upstream: Upstream) -> None:
    assert client.get("/prices/tea").json() == {"text": "here", "fresh": True}
    upstream.answers(500)
    answers = [client.get("/prices/tea").json() for _ in range(5)]
    assert answers == [{"text": "here", "fresh": False}] * 5
    assert client.get("/prices/coffee").status_code == 503  # nobody has ever known that one


def test_a_client_with_circuits_of_its_own(client: httpx.Client, upstream: Upstream) -> None:
    """The view knows of no circuit: the transport refuses, the middleware answers."""
    host = upstream.url.removeprefix("http://")
    assert client.get("/stock/tea").status_code == 200
    upstream.answers(500)
    assert client.get("/stock/tea").status_code == 502
    reached = upstream.reached()
    answer = client.get("/stock/tea")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.headers["content-type"] == PROBLEM
    assert upstream.reached() == reached
    assert client.get("/_seen").json()[host]["state"] == "open"
    assert receipt(client).status_code == 502  # another circuit, whose first failure this is


@pytest.mark.parametrize("server", ["asgi"], indirect=True)
def test_who_goes_away_gives_the_probe_back(client: httpx.Client, upstream: Upstream) -> None:
    """Under ASGI, Django cancels the view of a client that hangs up."""
    upstream.answers(500)
    while receipt(client).status_code == 502:
        pass
    upstream.answers(200)
    client.get("/_advance/30")
    upstream.gate.clear()
    before = client.get("/_seen").json()["payments"]["cancelled"]
    reached = upstream.reached()
    with socket.create_connection((client.base_url.host, client.base_url.port)) as hurried:
        body = b"item=tea&amount=1"
        hurried.sendall(
            b"POST /orders HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        upstream.wait_until_reached(reached + 1)
    assert eventually(lambda: client.get("/_seen").json()["payments"], {"cancelled": before + 1})
    upstream.gate.set()
    assert order(client).status_code == 200  # the slot was free
