"""Signals, which listeners receive, and the reasons in them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from fluxgate._values import Record
from fluxgate.state import State

__all__ = ["Listener", "Origin", "Reason", "Signal", "SignalKind"]


class Reason(Record):
    """Why a circuit changed: the clause that decided, and what it measured.

    Attributes:
        clause: the deciding clause as an expression (`FailureRate(0.5)`), the control that was
            called (`force_open()`), or the event (`probe failed`). Few distinct values: fit for
            a metrics label.
        measured: the value that the clause compared (ratio 0-1, seconds, or a count); None where
            nothing was measured.
        calls: how many calls it was measured over.
        window: the window that they are in, as an expression (`CountWindow(100)`).
        errors: what the last failures among them were, each with its count, the most frequent
            first: `("httpx.ConnectTimeout", 58)`. Types alone, unless the setting
            `error_messages=True` asks for the messages, which may hold secrets.
    """

    clause: str
    measured: float | None = None
    calls: int | None = None
    window: str | None = None
    errors: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        if self.measured is None:
            return self.clause
        over = "" if self.calls is None else f" over {self.calls} calls"
        return f"{self.clause}: {self.measured:.4g}{over}"

    @property
    def without_messages(self) -> Reason:
        """The same with the types of the last errors alone: for whoever must not see secrets."""
        counts: dict[str, int] = {}
        for label, count in self.errors:
            kind = label.partition(": ")[0]
            counts[kind] = counts.get(kind, 0) + count
        return Reason(self.clause, self.measured, self.calls, self.window, tuple(counts.items()))

    @property
    def details(self) -> str:
        """All of it in one line: what `str()` says, the window, and the last errors."""
        where = "" if self.window is None else f" in {self.window}"
        what = ", ".join(f"{count} × {label}" for label, count in self.errors)
        return f"{self}{where}{what and f'; last errors: {what}'}"


class SignalKind(StrEnum):
    """Kinds of signals, by what they report."""

    TRANSITION = "transition"
    """The circuit went from `old_state` to `new_state`."""
    WOULD_OPEN = "would_open"
    """A metrics-only circuit, or the shadow tripper, would have opened; the state is unchanged."""
    WOULD_CLOSE = "would_close"
    """The shadow tripper would have it closed, after `WOULD_OPEN` or probes; it is unchanged."""


class Origin(StrEnum):
    """Where a transition was decided."""

    LOCAL = "local"
    """In this process, about this process's own calls."""
    FLEET = "fleet"
    """In this process, for the whole fleet, which it moved."""
    PEER = "peer"
    """In another process of the fleet, which this one follows."""


class Signal(Record):
    """One event of one circuit, handed to its listeners.

    Attributes:
        circuit_name: the circuit's name.
        old_state: the state before.
        new_state: the state after; equal to `old_state` unless `kind` is a transition.
        timestamp: wall-clock time in seconds since the epoch, for display only.
        generation: the number of the circuit's phase that this began, or was said in; it never
            falls.
        reason: why.
        kind: a transition, or what would have been done.
        shadow: whether it is the shadow tripper that would have done it.
        origin: where the transition was decided; anything but `LOCAL` only in a fleet. Of all
            processes, one has `FLEET` for a transition of the fleet, the others `PEER`.
    """

    circuit_name: str
    old_state: State
    new_state: State
    timestamp: float
    generation: int
    reason: Reason
    kind: SignalKind = SignalKind.TRANSITION
    shadow: bool = False
    origin: Origin = Origin.LOCAL


Listener: TypeAlias = Callable[[Signal], object]
"""Any callable that takes a `Signal`; what it returns is not looked at.

It may have two methods more. `rejected(error)` is called with each `CallNotPermittedError`, on the
path of the call that is refused, so it must be quick; calls may come from several threads at
once. `close()`, or `async def aclose()`, is called when the application that has it in its
settings stops. What waits, or is `async`, is wrapped in `fluxgate.listeners.Background`.
"""
