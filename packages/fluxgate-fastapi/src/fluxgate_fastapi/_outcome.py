"""What an endpoint's end says about it: by status, or by exception."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException, WebSocketException
from starlette.websockets import WebSocketDisconnect

from fluxgate import Attempt

STATUSES: Final = frozenset({500, 502, 503, 504})
"""The statuses that mean failure, unless others are given."""

# RFC 6455 and its registry: internal error, restart, try again later, bad gateway.
_CLOSE_CODES: Final = frozenset({1011, 1012, 1013, 1014})


def checked_statuses(statuses: Iterable[int]) -> frozenset[int]:
    """The statuses as a set.

    Raises:
        TypeError: one is no whole number.
        ValueError: one is no HTTP status.
    """
    checked = frozenset(statuses)
    for status in checked:
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError(f"statuses are whole numbers such as 503, not {status!r}")
        if not 100 <= status <= 599:
            raise ValueError(f"statuses lie between 100 and 599: {status}")
    return checked


def settle_raised(attempt: Attempt, error: BaseException, statuses: frozenset[int]) -> None:
    """Settle the attempt of an endpoint that ended with `error`.

    An `HTTPException` is an answer, and counts by its status. What the client did wrong, or its
    going away, says nothing. The tracker judges the rest.
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
