"""ASGI and WSGI: over real sockets, and by hand where no server would send such a thing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import httpx
import pytest
import trio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from fluxgate import CircuitBreaker, State
from fluxgate.console import Console, Request
from fluxgate.console._act import MAX_BODY
from fluxgate.console._names import id_of

from .asking import SECRET, console

NAME = "pay/ünïcode"


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass


@contextmanager
def wsgi_site(page: Console) -> Iterator[str]:
    """The URL of a console in a WSGI server of the standard library, below a mount."""

    def mounted(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        environ["SCRIPT_NAME"], path = "/ops", environ["PATH_INFO"]
        environ["PATH_INFO"] = path.removeprefix("/ops")
        return page.wsgi(environ, start)

    server = WSGIServer(("127.0.0.1", 0), Quiet)
    server.set_app(mounted)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ops/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def asgi_site(page: Console) -> Iterator[str]:
    """The URL of a console in uvicorn, mounted in a Starlette application."""
    app = Starlette(routes=[Mount("/ops", app=page.asgi)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/ops/"
    finally:
        server.should_exit = True
        thread.join()


SITES = pytest.mark.parametrize("site", [wsgi_site, asgi_site], ids=["wsgi", "asgi"])


@SITES
def test_a_control_by_the_form(site: Any) -> None:
    breaker = CircuitBreaker(NAME)
    seen: list[Request] = []

    def who(request: Request) -> str:
        seen.append(request)
        return "ann"

    with site(console(read=who, control=who)) as url, httpx.Client() as client:
        overview = client.get(url, params={"filter": "ÜNÏ", "x": ""})
        assert overview.status_code == 200
        assert NAME in overview.text
        assert overview.headers["content-encoding"] == "gzip"
        assert seen[0].query == {"filter": "ÜNÏ", "x": ""}
        assert (seen[0].root, seen[0].path, seen[0].peer) == ("/ops/", "", "127.0.0.1")
        circuit = f"{url}circuits/{id_of(NAME)}"
        dialog = client.get(f"{circuit}/force_open")
        assert 'action="/ops/circuits/' in dialog.text
        fields = {
            name: dialog.text.split(f'name="{name}" value="')[1].split('"')[0]
            for name in ("operation", "token")
        }
        origin = {"origin": url.removesuffix("/ops/")}
        form = {**fields, "note": "ein Übungsfall", "seconds": "60"}
        done = client.post(f"{circuit}/force_open", data=form, headers=origin)
        assert done.status_code == 303
        assert done.headers["location"].startswith(f"/ops/circuits/{id_of(NAME)}?operation=")
        assert breaker.state is State.FORCED_OPEN
        shown = client.get(url.removesuffix("/ops/") + done.headers["location"])
        assert "ein Übungsfall" in shown.text
        forged = client.post(
            f"{circuit}/reset", data=form, headers={"origin": "http://evil.example"}
        )
        assert forged.status_code == 403
        assert client.get(f"{url}static/console.js").status_code == 200
        assert client.get(f"{url}static/%2e%2e/_site.py").status_code == 404
        tag = overview.headers["etag"]
        assert client.get(url, headers={"if-none-match": tag}).status_code in (200, 304)
        assert client.head(url).content == b""
        assert client.request("DELETE", url).status_code == 405


@SITES
def test_nobody_is_let_in_by_an_error(site: Any) -> None:
    def who(_: Request) -> str:
        raise RuntimeError("1234")

    with site(console(read=who)) as url:
        response = httpx.get(url)
    assert response.status_code == 500
    assert "1234" not in response.text


@SITES
def test_a_long_body_is_refused(site: Any) -> None:
    breaker = CircuitBreaker(NAME)
    with site(console()) as url:
        response = httpx.post(
            f"{url}circuits/{id_of(NAME)}/disable",
            content=b"note=" + b"x" * 2 * MAX_BODY,
            headers={
                "origin": url.removesuffix("/ops/"),
                "content-type": "application/x-www-form-urlencoded",
            },
        )
    assert response.status_code == 413
    assert breaker.state is State.CLOSED


# -- by hand


def scope(**values: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 5),
        **values,
    }


async def asked(page: Console, given: dict[str, Any], *messages: dict[str, Any]) -> list[Any]:
    """What an ASGI application sends."""
    sent: list[Any] = []
    coming = iter(messages or ({"type": "http.request", "body": b""},))

    async def receive() -> dict[str, Any]:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    await page.asgi(given, receive, send)
    return sent


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_async_functions_are_awaited(run: Any) -> None:
    async def who(_: Request) -> str:
        return "ann"

    page = Console(read=who, control=who, secret=SECRET)
    try:

        async def main() -> list[Any]:
            return await asked(page, scope())

        start, body = run(main) if run is trio.run else run(main())
        assert start["status"] == 200
        assert b"ann" in body["body"]
    finally:
        page.close()


@pytest.mark.parametrize(
    ("mount", "path", "root", "below"),
    [
        ("", "/api/v1/state", "/", "api/v1/state"),
        ("/ops", "/ops/api/v1/state", "/ops/", "api/v1/state"),  # as ASGI has it
        ("/ops", "/api/v1/state", "/ops/", "api/v1/state"),  # by a proxy that cuts it off
        ("/ops/", "/ops", "/ops/", ""),
        ("/ops", "/opsy", "/ops/", "opsy"),
    ],
)
def test_the_mount_is_no_part_of_the_path(mount: str, path: str, root: str, below: str) -> None:
    seen: list[Request] = []
    page = console(read=lambda request: seen.append(request))
    asyncio.run(asked(page, scope(root_path=mount, path=path)))
    assert (seen[0].root, seen[0].path) == (root, below)


def test_repeated_headers_are_joined() -> None:
    seen: list[Request] = []
    page = console(read=lambda request: seen.append(request))
    headers = [(b"X-A", b"1"), (b"x-a", b"2"), (b"host", b"a")]
    asyncio.run(asked(page, scope(headers=headers, client=None, query_string=b"a=1&a=2&b")))
    assert seen[0].headers == {"x-a": "1, 2", "host": "a"}
    assert seen[0].peer is None
    assert seen[0].query == {"a": "2", "b": ""}
    asyncio.run(asked(page, scope(query_string=b"&".join([b"a=1"] * 100))))
    assert seen[1].query == {}


def test_who_hangs_up_gets_nothing() -> None:
    page = console()
    gone = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
    assert asyncio.run(asked(page, scope(method="POST"), *gone)) == []


def test_a_server_can_run_it_alone() -> None:
    page = console()
    life = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = asyncio.run(asked(page, {"type": "lifespan"}, *life))
    assert [each["type"] for each in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    sent = asyncio.run(asked(page, {"type": "websocket"}, {"type": "websocket.connect"}))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_no_event_loop_waits_for_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    page = console()
    threads: list[str] = []
    look = page._site._snapshots.look

    def watched(**how: bool) -> Any:
        threads.append(threading.current_thread().name)
        return look(**how)

    monkeypatch.setattr(page._site._snapshots, "look", watched)
    asyncio.run(asked(page, scope()))
    assert threads[0].startswith("fluxgate-console")
