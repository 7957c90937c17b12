"""Middleware that answers refusals: for any ASGI application, and around other middleware."""

from __future__ import annotations

import sys
from typing import Final, Self, cast

from fastapi.requests import Request
from fastapi.websockets import WebSocket
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fluxgate.integration import log_others
from fluxgate.problem import TYPE, refusal_in
from fluxgate_fastapi._handler import CircuitOpenHandler, Hook

_ANSWERS: Final = ("websocket.http.response.start", "websocket.close")
"""Messages after which the client of a WebSocket has its answer."""


class CircuitBreakerMiddleware:
    """Pure ASGI middleware that answers refusals from whatever it wraps, other middleware included.

        app.add_middleware(CircuitBreakerMiddleware)          # Starlette, FastAPI
        app = CircuitBreakerMiddleware(app, problem_json=False)   # any ASGI application

    Exception handlers don't see what other middleware raises. An application of Starlette's that
    it wraps, mounted ones included, answers a refusal that it doesn't know with a 500: this takes
    its place. Once another response has begun, a refusal is raised on: nothing else can be said
    to the client.

    It answers for what is added before it: `add_middleware` puts each around those before. So it
    comes before `CORSMiddleware`, which then adds its headers to the 503. `install` does that by
    itself.

    Args:
        app: the application.
        problem_json: as of `CircuitOpenHandler`, and so are the others.
        show_name: whether the body names the circuit.
        hook: makes a response of the user's own.
        type: the problem's type, a URI.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        problem_json: bool = True,
        show_name: bool = False,
        hook: Hook | None = None,
        type: str = TYPE,  # noqa: A002 - RFC 9457's name
    ) -> None:
        self.app = app
        self._handler = CircuitOpenHandler(problem_json, show_name, hook, type)

    @classmethod
    def with_handler(cls, app: ASGIApp, handler: CircuitOpenHandler) -> Self:
        """The middleware around `app`, with a handler that there is."""
        made = cls(app)
        made._handler = handler
        return made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        accepted = answered = False
        instead = cast("BaseException | None", None)
        """The refusal that was answered in place of a 500."""

        async def watched(message: Message) -> None:
            nonlocal accepted, answered, instead
            kind = message["type"]
            if kind == "http.response.start":
                if message["status"] == 500 and not answered:
                    # Starlette's ServerErrorMiddleware sends it while it handles the exception.
                    error = sys.exception()
                    if error is not None and refusal_in(error) is not None:
                        instead = error
                        await self._answer(scope, receive, send, error)
                answered = True
            elif kind == "websocket.accept":
                accepted = True
            elif kind in _ANSWERS:
                answered = True
            if instead is None:
                await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if error is instead:
                return
            if answered or refusal_in(error) is None:
                raise
            await self._answer(scope, receive, send, error, accepted=accepted)

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        error: BaseException,
        *,
        accepted: bool = False,
    ) -> None:
        refusal = refusal_in(error)
        assert refusal is not None
        handler = self._handler
        log_others(error)
        if scope["type"] == "http":
            response = await handler.response(Request(scope, receive), refusal)
            await response(scope, receive, send)
        elif accepted:
            await handler.close(refusal, send)
        else:
            await handler.deny(WebSocket(scope, receive, send), refusal, send)
