"""`LogListener`: transitions and verdicts of circuits, in the application's own log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

from fluxgate._naming import printable, safe_repr
from fluxgate.signals import Signal, SignalKind
from fluxgate.state import State

__all__ = ["LogListener"]

LEVELS: Final[Mapping[str, int]] = {
    State.OPEN: logging.WARNING,
    State.FORCED_OPEN: logging.WARNING,
    State.DISABLED: logging.WARNING,
}
"""Levels by new state; every other signal is `INFO`."""
VERDICTS: Final = 6
"""Verdicts of one tripper on trial that are logged within `PERIOD`."""
PERIOD: Final = 60.0
"""Seconds."""
MOST_TRIALS: Final = 1000
"""Trippers on trial whose verdicts are counted; beyond that, counting begins anew."""

_KEYS: Final = (*State, SignalKind.WOULD_OPEN, SignalKind.WOULD_CLOSE)


class _Trial:
    """The verdicts of one tripper on trial since `began`."""

    __slots__ = ("began", "held", "logged")

    def __init__(self, began: float, held: int) -> None:
        self.began = began
        self.logged = 0
        self.held = held  # kept back since the last line


class LogListener:
    """Logs each signal in one line that gives the reason, with the signal's parts as `extra`.

    `circuit 'payments': closed -> open: FailureRate(0.5): 0.62 over 100 calls in CountWindow(100)`

    A state in which calls are refused, or pass unprotected, is a `WARNING`: open, forced open,
    disabled. All else is `INFO`. Nothing is an `ERROR`: an open circuit is the answer to errors
    that have been reported where they were raised, and trackers such as Sentry make an event of
    every error that is logged.

    Of a tripper on trial (metrics-only, or shadow), whose verdict may change with each call, at
    most six verdicts a minute are logged; the last one says that more will be kept back, and the
    next one how many were.

    The `extra` of each record: `circuit`, `old_state`, `new_state`, `kind`, `shadow`,
    `generation`, and of the reason `reason` (its clause), `measured`, `calls`, `window`, `note`,
    `by`, `errors` (label: count). All are plain strings, numbers, dicts, booleans or None. Control
    characters, bidirectional marks and lone surrogates in names and messages are written as
    escapes.

    Example:
        breaker = CircuitBreaker("payments", listeners=[LogListener()])

    Args:
        logger: a `logging.Logger`, or the name of one.
        levels: levels other than these, by new state (`State.OPEN` or `"open"`) or, for verdicts
            that are not carried out, by kind (`"would_open"`, `"would_close"`). Each is a number
            or a name of `logging`.

    Raises:
        TypeError: the logger, or a level, is of the wrong kind.
        ValueError: a level's name or key is unknown.
    """

    __slots__ = ("_levels", "_logger", "_trials")

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
        self._trials: dict[tuple[str, bool], _Trial] = {}

    def __call__(self, signal: Signal) -> None:
        """Log a signal."""
        transition = signal.kind is SignalKind.TRANSITION
        level = self._levels.get(signal.new_state if transition else signal.kind, logging.INFO)
        if not self._logger.isEnabledFor(level):
            return
        if transition:
            happened, note = f"{signal.old_state} -> {signal.new_state}", ""
        else:
            added = self._note(signal)
            if added is None:
                return
            happened, note = _verdict(signal), added
        self._logger.log(
            level,
            "circuit %r: %s: %s",
            signal.circuit_name,
            happened,
            printable(signal.reason.details, None) + note,
            extra=_extra(signal),
        )

    def _note(self, signal: Signal) -> str | None:
        """The end of a verdict's line; None if there have been too many verdicts."""
        trials, key, now = self._trials, (signal.circuit_name, signal.shadow), monotonic()
        trial = trials.get(key)
        if trial is None or now - trial.began >= PERIOD:
            if len(trials) >= MOST_TRIALS:
                trials.clear()  # atomic: signals of other circuits come from other threads
            trial = trials[key] = _Trial(now, 0 if trial is None else trial.held)
        if trial.logged >= VERDICTS:
            trial.held += 1
            return None
        trial.logged += 1
        notes = ""
        if trial.held:
            notes = f" ({trial.held} verdicts before this one were not logged)"
            trial.held = 0
        if trial.logged == VERDICTS:
            notes += f" (it changes often: further verdicts are not logged for up to {PERIOD:g} s)"
        return notes

    def __repr__(self) -> str:
        return f"LogListener(logger={self._logger.name!r})"


def _verdict(signal: Signal) -> str:
    who = "the shadow tripper" if signal.shadow else f"the circuit ({signal.new_state})"
    return f"{who} {signal.kind.replace('_', ' ')}"


def _extra(signal: Signal) -> dict[str, Any]:
    """The parts of a signal as JSON types; no key is one of `LogRecord`'s, or structlog's."""
    reason = signal.reason
    return {
        "circuit": printable(signal.circuit_name, None),
        "old_state": str(signal.old_state),
        "new_state": str(signal.new_state),
        "kind": str(signal.kind),
        "shadow": signal.shadow,
        "generation": signal.generation,
        "reason": printable(reason.clause, None),
        "measured": reason.measured,
        "calls": reason.calls,
        "window": reason.window,
        "note": reason.note,
        "by": reason.by,
        "errors": {printable(label, None): count for label, count in reason.errors},
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
