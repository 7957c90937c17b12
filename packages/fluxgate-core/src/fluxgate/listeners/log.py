"""`LogListener`: what circuits do, in the application's own log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from fluxgate._naming import safe_repr
from fluxgate.signals import Signal, SignalKind
from fluxgate.state import State

__all__ = ["LogListener"]

LEVELS: Final[Mapping[str, int]] = {
    State.OPEN: logging.WARNING,
    State.FORCED_OPEN: logging.WARNING,
    State.DISABLED: logging.WARNING,
}
"""What is not in it is `INFO`."""

_KEYS: Final = (*State, SignalKind.WOULD_OPEN, SignalKind.WOULD_CLOSE)


class LogListener:
    """Logs each signal in one line that says why, with the parts of it as `extra`.

    `circuit 'payments': closed -> open: FailureRate(0.5): 0.62 over 100 calls in CountWindow(100)`

    What leaves callers without the dependency, or the dependency without protection, is a
    `WARNING`: open, forced open, disabled. All else is `INFO`. Nothing is an `ERROR`: an open
    circuit is the answer to errors that have been reported where they were raised, and trackers
    such as Sentry make an event of every error that is logged.

    The `extra` of each record: `circuit`, `old_state`, `new_state`, `kind`, `shadow`,
    `generation`, and of the reason `reason` (its clause), `measured`, `calls`, `window`, `errors`
    (label: count). All are plain strings, numbers, dicts, booleans or None.

    Example:
        breaker = CircuitBreaker("payments", listeners=[LogListener()])

    Args:
        logger: a `logging.Logger`, or the name of one.
        levels: levels other than these, by new state (`State.OPEN` or `"open"`) or, for what
            would have happened, by kind (`"would_open"`, `"would_close"`). Each is a number or
            a name of `logging`.

    Raises:
        TypeError: the logger, or a level, is of the wrong kind.
        ValueError: a level's name or key is unknown.
    """

    __slots__ = ("_levels", "_logger")

    def __init__(
        self,
        *,
        logger: logging.Logger | str = "fluxgate",
        levels: Mapping[str, int | str] | None = None,
    ) -> None:
        if isinstance(logger, str):
            logger = logging.getLogger(logger)
        if not isinstance(logger, logging.Logger):
            raise TypeError(
                f"logger must be a logging.Logger or the name of one, not {safe_repr(logger)}"
            )
        self._logger = logger
        self._levels = {**LEVELS, **_checked({} if levels is None else levels)}

    def __call__(self, signal: Signal) -> None:
        """Log a signal."""
        transition = signal.kind is SignalKind.TRANSITION
        level = self._levels.get(signal.new_state if transition else signal.kind, logging.INFO)
        if not self._logger.isEnabledFor(level):
            return
        happened = f"{signal.old_state} -> {signal.new_state}" if transition else _verdict(signal)
        self._logger.log(
            level,
            "circuit %r: %s: %s",
            signal.circuit_name,
            happened,
            signal.reason.details,
            extra=_extra(signal),
        )

    def __repr__(self) -> str:
        return f"LogListener(logger={self._logger.name!r})"


def _verdict(signal: Signal) -> str:
    who = "the shadow tripper" if signal.shadow else f"the circuit ({signal.new_state})"
    return f"{who} {signal.kind.replace('_', ' ')}"


def _extra(signal: Signal) -> dict[str, Any]:
    """The parts of a signal, as JSON has them; no key is one of `LogRecord`'s, or structlog's."""
    reason = signal.reason
    return {
        "circuit": signal.circuit_name,
        "old_state": str(signal.old_state),
        "new_state": str(signal.new_state),
        "kind": str(signal.kind),
        "shadow": signal.shadow,
        "generation": signal.generation,
        "reason": reason.clause,
        "measured": reason.measured,
        "calls": reason.calls,
        "window": reason.window,
        "errors": dict(reason.errors),
    }


def _checked(levels: Mapping[str, int | str]) -> dict[str, int]:
    if not isinstance(levels, Mapping):
        raise TypeError(
            f"levels must be a mapping such as {{'open': 'ERROR'}}, not {safe_repr(levels)}"
        )
    known = logging.getLevelNamesMapping()
    checked: dict[str, int] = {}
    for key, level in levels.items():
        if key not in _KEYS:
            raise ValueError(f"levels: {key!r} is none of {', '.join(_KEYS)}")
        if isinstance(level, str):
            if level.upper() not in known:
                raise ValueError(
                    f"levels[{key!r}]: {safe_repr(level)} is none of {', '.join(known)}"
                )
            level = known[level.upper()]
        if isinstance(level, bool) or not isinstance(level, int):
            raise TypeError(f"levels[{key!r}] must be a level of logging, not {safe_repr(level)}")
        checked[str(key)] = level
    return checked
