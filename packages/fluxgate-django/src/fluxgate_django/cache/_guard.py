"""Calls of the wrapped backend through the circuit, sync and async."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from django.core.cache.backends.base import BaseCache
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation

from fluxgate import Attempt, CallNotPermittedError
from fluxgate_django import breakers
from fluxgate_django.cache._entry import Outage, read

T = TypeVar("T")

_MISTAKES: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    ImproperlyConfigured,
    LookupError,
    NameError,
    RuntimeError,
    SynchronousOnlyOperation,
    TypeError,
    ValueError,
    Warning,
    pickle.PickleError,
)
"""The code's errors, and answers such as that of `incr` to a missing key: not of a server."""
_ANSWERS: Final = {
    f"{library}.exceptions.{name}"
    for library in ("redis", "valkey")
    for name in ("DataError", "ResponseError")
}
"""A server that is there refused the command. What means trouble is a class of its own."""

_log = logging.getLogger("fluxgate.django.cache")


class GuardedCache(BaseCache):
    """The circuit around each call of `CircuitBreakerCache`."""

    wrapped: BaseCache
    """The backend that does the work."""
    circuit_name: str
    """The circuit's name."""
    on_open: Outage
    """Result of a refused call: a miss or the exception."""
    on_error: Outage
    """Result of an error of the cache server: a miss or the exception."""

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        # Without BaseCache's: what it would set is the wrapped backend's, see __getattr__.
        self.circuit_name, self.on_open, self.on_error, self.wrapped = read(location, params)

    def _admit(self) -> Attempt | None:
        """The call, admitted; None if it is refused and that is to be a miss."""
        try:
            return breakers[self.circuit_name].attempt()
        except CallNotPermittedError:
            if self.on_open is Outage.RAISE:
                raise
            return None

    def _missed(self, attempt: Attempt, error: BaseException) -> bool:
        """Settle a call that raised `error`; whether that is to be a miss."""
        if isinstance(error, _MISTAKES) or _name(type(error)) in _ANSWERS:
            attempt.ignore()
            return False
        attempt.raised(error)
        if self.on_error is Outage.RAISE or not isinstance(error, Exception):
            return False
        if not isinstance(
            error, CallNotPermittedError
        ):  # another circuit's refusal, reported there
            _log.warning(
                "circuit %r: an error of the cache is answered as a miss: %r",
                self.circuit_name,
                error,
            )
        return True

    def _call(self, operation: Callable[..., T], *args: Any, missed: T, **more: Any) -> T:
        if (attempt := self._admit()) is None:
            return missed
        try:
            result = operation(*args, **more)
        except BaseException as error:
            if self._missed(attempt, error):
                return missed
            raise
        attempt.returned(result)
        return result

    async def _acall(
        self, operation: Callable[..., Awaitable[T]], *args: Any, missed: T, **more: Any
    ) -> T:
        if (attempt := self._admit()) is None:
            return missed
        try:
            result = await operation(*args, **more)
        except BaseException as error:
            if self._missed(attempt, error):
                return missed
            raise
        attempt.returned(result)
        return result


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
