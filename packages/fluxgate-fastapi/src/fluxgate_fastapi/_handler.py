"""From a refusal to a response: HTTP 503, a WebSocket's denial, or close code 1013."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from fastapi.requests import HTTPConnection, Request
from fastapi.websockets import WebSocket
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Send
from starlette.websockets import WebSocketDisconnect, WebSocketState

from fluxgate import CallNotPermittedError
from fluxgate.integration import log_others
from fluxgate.problem import MEDIA_TYPE, TYPE, Problem, refusal_in

Hook: TypeAlias = Callable[
    [Request, CallNotPermittedError], Response | Awaitable[Response | None] | None
]
"""Called with the request and the refusal, sync or async.

A WebSocket that is refused before it has been accepted is a request, too: that of its handshake.

The `Response` that it returns is sent; on None, the usual one. A sync hook must not wait for
anything: it is called on the event loop.
"""

TRY_AGAIN_LATER = 1013
"""The WebSocket close code that says what 503 says."""


@dataclass(frozen=True, slots=True)
class CircuitOpenHandler:
    """The exception handler that `install` adds; also for Starlette without FastAPI.

        handler = CircuitOpenHandler()
        app = Starlette(exception_handlers={CallNotPermittedError: handler})

    Exception groups are better left to `CircuitBreakerMiddleware` or `install`: Starlette makes a
    RuntimeError of what a handler is registered for and can't answer any more.

    A request gets a 503 with `Retry-After` in whole seconds, absent where nobody knows. A
    WebSocket that has not been accepted gets the same as denial response (or is closed, where the
    server can't send one); an accepted one is closed with 1013.

    Registered for exception groups, it handles those that hold a refusal; the errors beside it
    are logged, since the response doesn't show them. Other groups are raised again.

    Args:
        problem_json: whether the body is RFC 9457 problem+json, or else `{"detail": ...}` as of
            FastAPI's `HTTPException`.
        show_name: whether the body names the circuit, and says why it opened.
        hook: makes a response of the user's own.
        type: the problem's type, a URI.
    """

    problem_json: bool = True
    show_name: bool = False
    hook: Hook | None = None
    type: str = TYPE

    async def __call__(self, connection: HTTPConnection, error: Exception) -> Any:
        """The `Response` to a refusal; None for a WebSocket, which has been answered then.

        Raises:
            Exception: `error` itself, if there is no refusal in it.
        """
        refusal = refusal_in(error)
        if refusal is None:
            raise error
        log_others(error)
        if not isinstance(connection, WebSocket):
            return await self.response(connection, refusal)
        state = connection.application_state
        if state is WebSocketState.CONNECTING:
            # Past the object's own bookkeeping, which a class-based endpoint's does not share.
            await self.deny(connection, refusal, connection._send)
        elif state is connection.client_state is WebSocketState.CONNECTED:
            await self.close(refusal, connection.send)
        return None

    async def response(
        self, connection: HTTPConnection, refusal: CallNotPermittedError
    ) -> Response:
        """The response to a refusal."""
        if self.hook is not None:
            answer = self.hook(_request(connection), refusal)
            if inspect.isawaitable(answer):
                answer = await answer
            if answer is not None:
                return answer
        problem = self._problem(refusal)
        # A Retry-After is true for one moment: no cache may keep it.
        headers = {**problem.headers, "Cache-Control": "no-store"}
        if self.problem_json:
            return Response(problem.json(), problem.status, headers, MEDIA_TYPE)
        return JSONResponse({"detail": problem.detail}, problem.status, headers)

    async def deny(
        self, connection: HTTPConnection, refusal: CallNotPermittedError, send: Send
    ) -> None:
        """Answer a WebSocket that has not been accepted, as the server can."""
        if "websocket.http.response" in connection.scope.get("extensions", {}):
            response = await self.response(connection, refusal)
            with suppress(RuntimeError):  # it had been accepted after all, out of sight
                await response(connection.scope, _nothing, send)
                return
        await self.close(refusal, send)

    async def close(self, refusal: CallNotPermittedError, send: Send) -> None:
        """Close a WebSocket."""
        # A close frame holds 123 bytes.
        reason = self._problem(refusal).detail.encode()[:123].decode(errors="ignore")
        with suppress(OSError, WebSocketDisconnect):  # the client is gone
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": reason})

    def _problem(self, refusal: CallNotPermittedError) -> Problem:
        problem = Problem.of(refusal, show_name=self.show_name, type=self.type)
        if not self.show_name:
            return problem
        circuit = None if problem.circuit is None else encodable(problem.circuit)
        return replace(problem, detail=encodable(problem.detail), circuit=circuit)


def encodable(text: str) -> str:
    r"""The text as UTF-8 can carry it: a name may hold lone surrogates, shown as `\udc80` then."""
    return text.encode(errors="backslashreplace").decode()


def _request(connection: HTTPConnection) -> Request:
    """The HTTP request; for a WebSocket that of its handshake, a GET without a body."""
    if isinstance(connection, Request):
        return connection
    scope = dict(connection.scope)
    if scope["type"] == "websocket":
        scheme = "https" if scope.get("scheme") == "wss" else "http"
        scope.update(type="http", method="GET", scheme=scheme)
    return Request(scope)


async def _nothing() -> Message:
    raise RuntimeError("a response to a refusal reads no body")
