"""What listeners receive, and why a circuit did what it did."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from fluxgate._record import Record
from fluxgate.state import State

__all__ = ["Listener", "Reason", "Signal", "SignalKind"]


class Reason(Record):
    """Why a circuit changed: the clause that decided, and what it measured.

    Attributes:
        clause: the deciding clause as an expression (`FailureRate(0.5)`), the control that was
            called (`force_open()`), or the event (`probe failed`). Few distinct values: fit for
            a metrics label.
        measured: the value that the clause compared (ratio 0-1, seconds, or a count); None where
            nothing was measured.
        calls: how many calls it was measured over.
    """

    clause: str
    measured: float | None = None
    calls: int | None = None

    def __str__(self) -> str:
        if self.measured is None:
            return self.clause
        over = "" if self.calls is None else f" over {self.calls} calls"
        return f"{self.clause}: {self.measured:.4g}{over}"


class SignalKind(StrEnum):
    """What a signal reports."""

    TRANSITION = "transition"
    """The circuit went from `old_state` to `new_state`."""
    WOULD_OPEN = "would_open"
    """A metrics-only circuit would have opened; its state is unchanged."""


class Signal(Record):
    """One event of one circuit, handed to its listeners.

    Attributes:
        circuit_name: the circuit's name.
        old_state: the state before.
        new_state: the state after; equal to `old_state` unless `kind` is a transition.
        timestamp: wall-clock time in seconds since the epoch, for display only.
        generation: the number of the circuit's phase that this began; it only grows.
        reason: why.
        kind: a transition, or what a metrics-only circuit would have done.
    """

    circuit_name: str
    old_state: State
    new_state: State
    timestamp: float
    generation: int
    reason: Reason
    kind: SignalKind = SignalKind.TRANSITION


Listener: TypeAlias = Callable[[Signal], object]
"""Any callable that takes a `Signal`; what it returns is not looked at."""
