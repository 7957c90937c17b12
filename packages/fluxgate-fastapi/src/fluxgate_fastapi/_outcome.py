"""Settles an endpoint's attempt from its response or exception.

The failing statuses are an argument; their default is `fluxgate.integration.FAILING_STATUSES`.
"""

from __future__ import annotations

from typing import Final

from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException, WebSocketException
from starlette.websockets import WebSocketDisconnect

from fluxgate import Attempt

# RFC 6455 and its registry: internal error, restart, try again later, bad gateway.
_CLOSE_CODES: Final = frozenset({1011, 1012, 1013, 1014})


def settle_raised(attempt: Attempt, error: BaseException, statuses: frozenset[int]) -> None:
    """Settle the attempt of an endpoint that ended with `error`.

    An `HTTPException` is an answer, and counts by its status. Errors and disconnects
    of the client are ignored. The tracker decides about the rest.
    """
    if isinstance(error, HTTPException):
        if error.status_code in statuses:
            attempt.fail(error)
        else:
            attempt.succeed()
    elif isinstance(
        error, (RequestValidationError, WebSocketRequestValidationError, WebSocketDisconnect)
    ):
        attempt.ignore()
    elif isinstance(error, WebSocketException):
        if error.code in _CLOSE_CODES:
            attempt.fail(error)
        else:
            attempt.succeed()
    else:
        attempt.raised(error)
