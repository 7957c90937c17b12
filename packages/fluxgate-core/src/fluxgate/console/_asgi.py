"""The console as an ASGI application, on asyncio and trio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import parse_qsl

from fluxgate.console._act import MAX_BODY
from fluxgate.console._exchange import Request, Response

if TYPE_CHECKING:
    from fluxgate.console._console import Console

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

THREADS: Final = 4
"""Requests that are worked on at once. Of our own: an outage may hold all of the application's."""


class Asgi:
    """A console for ASGI servers and frameworks: `app.mount("/circuits", console.asgi)`.

    Responses are made in a thread, since they may wait for the fleet's store.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._threads: ThreadPoolExecutor | None = None
        self._limiter: Any = None  # trio's

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        if body is None:
            return  # nobody waits for a response
        response = await self._respond(_request(scope, body))
        await send(
            {
                "type": "http.response.start",
                "status": response.status,
                "headers": [(name.encode(), value.encode()) for name, value in response.headers],
            }
        )
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(self, request: Request) -> Response:
        try:
            actor = await self._console.admit_async(request)
        except Exception:
            return self._console.failed(request)
        return await self._in_thread(lambda: self._console.respond(request, actor))

    async def _in_thread(self, function: Callable[[], Response]) -> Response:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            trio: Any = sys.modules["trio"]
            if self._limiter is None:
                self._limiter = trio.CapacityLimiter(THREADS)
            response: Response = await trio.to_thread.run_sync(function, limiter=self._limiter)
            return response
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "fluxgate-console")
        return await loop.run_in_executor(self._threads, function)


def _request(scope: Scope, body: bytes) -> Request:
    # A server leaves the mount in the path, as ASGI has it; some frameworks once took it off.
    mount = str(scope.get("root_path", "")).rstrip("/")
    path = str(scope["path"])
    if mount and (path == mount or path.startswith(f"{mount}/")):
        path = path[len(mount) :]
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    client = scope.get("client")
    query = bytes(scope.get("query_string", b"")).decode("latin-1")
    return Request(
        method=str(scope["method"]).upper(),
        path=path.removeprefix("/"),
        root=f"{mount}/",
        query=parameters(query),
        headers=headers,
        body=body,
        peer=client[0] if client else None,
        secure=scope.get("scheme") == "https",
    )


def parameters(query: str) -> dict[str, str]:
    """The parameters of a URL; none where they can't be read."""
    with suppress(ValueError):
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=50))
    return {}


async def _body(receive: Receive) -> bytes | None:
    """The body, as far as it may be long and a byte more; None if the client has gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY:
            return body[: MAX_BODY + 1]
        if not message.get("more_body", False):
            return body


async def _lifespan(receive: Receive, send: Send) -> None:
    """Where a server runs the console alone."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
