"""The same answers for any ASGI application, and for what exception handlers don't see."""

from __future__ import annotations

from typing import Final

from fastapi.requests import Request
from fastapi.websockets import WebSocket
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fluxgate.integration import log_others
from fluxgate.problem import TYPE, refusal_in
from fluxgate_fastapi._handler import CircuitOpenHandler, Hook

_ANSWERS: Final = ("http.response.start", "websocket.http.response.start", "websocket.close")
"""Messages after which the client has its answer."""


class CircuitBreakerMiddleware:
    """Pure ASGI middleware that answers refusals from whatever it wraps, other middleware included.

        app.add_middleware(CircuitBreakerMiddleware)          # Starlette, FastAPI
        app = CircuitBreakerMiddleware(app, problem_json=False)   # any ASGI application

    Exception handlers, those of `install` among them, don't see what other middleware raises.
    Once a response has begun, a refusal is raised on: nothing else can be said to the client.

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        accepted = answered = False

        async def watched(message: Message) -> None:
            nonlocal accepted, answered
            accepted = accepted or message["type"] == "websocket.accept"
            answered = answered or message["type"] in _ANSWERS
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            refusal = refusal_in(error)
            if refusal is None or answered:
                raise
            handler = self._handler
            log_others(error)
            if scope["type"] == "http":
                response = await handler.response(Request(scope, receive), refusal)
                await response(scope, receive, send)
            elif accepted:
                await handler.close(refusal, send)
            else:
                await handler.deny(WebSocket(scope, receive, send), refusal, send)
