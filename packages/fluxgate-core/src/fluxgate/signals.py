"""Signals and calls, which listeners receive, and the reasons in them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Self, TypeAlias

from fluxgate._values import Record
from fluxgate.state import State

__all__ = [
    "Call",
    "Listener",
    "Origin",
    "Outcome",
    "Reason",
    "Signal",
    "SignalKind",
    "Subscription",
]


class Reason(Record):
    """Why a circuit changed: the clause that decided, and what it measured.

    Attributes:
        clause: the deciding clause as an expression (`FailureRate(0.5)`), the control that was
            called (`force_open()`), or the event (`probe failed`). Few distinct values: fit for
            a metrics label.
        measured: the value that the clause compared (ratio 0-1, seconds, or a count), or the
            seconds that a control was called for; None where there is neither.
        calls: how many calls it was measured over.
        window: the window that they are in, as an expression (`CountWindow(100)`).
        errors: what the last failures among them were, each with its count, the most frequent
            first: `("httpx.ConnectTimeout", 58)`. Types alone, unless the setting
            `error_messages=True` asks for the messages, which may hold secrets.
        note: why a control was called, as its caller said; None where nobody said.
        by: who called it, as its caller said; None where nobody said.
    """

    clause: str
    measured: float | None = None
    calls: int | None = None
    window: str | None = None
    errors: tuple[tuple[str, int], ...] = ()
    note: str | None = None
    by: str | None = None

    def __str__(self) -> str:
        who = "" if self.by is None else f", by {self.by}"
        why = "" if self.note is None else f": {self.note}"
        if self.measured is None:
            return f"{self.clause}{who}{why}"
        over = "" if self.calls is None else f" over {self.calls} calls"
        unit = " s" if self.clause in _TIMED else ""
        return f"{self.clause}: {self.measured:.4g}{unit}{over}{who}{why}"

    @property
    def without_messages(self) -> Reason:
        """The same with the types of the last errors alone: for whoever must not see secrets."""
        counts: dict[str, int] = {}
        for label, count in self.errors:
            kind = label.partition(": ")[0]
            counts[kind] = counts.get(kind, 0) + count
        errors = tuple(counts.items())
        return Reason(
            self.clause, self.measured, self.calls, self.window, errors, self.note, self.by
        )

    @property
    def details(self) -> str:
        """All of it in one line: what `str()` says, the window, and the last errors."""
        where = "" if self.window is None else f" in {self.window}"
        what = ", ".join(f"{count} × {label}" for label, count in self.errors)
        return f"{self}{where}{what and f'; last errors: {what}'}"


_TIMED: Final = frozenset({"open_for()", "force_open()", "disable()", "metrics_only()"})
"""Clauses whose `measured` is a time: the controls that take seconds."""


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


class Outcome(StrEnum):
    """How a call ended; `Totals` has a count of each."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"
    """It says nothing about the dependency, as an exception that the tracker leaves out."""
    CANCELLED = "cancelled"
    """It ended with anything but an `Exception`, such as a cancellation."""
    STALE = "stale"
    """It was admitted before the latest transition, and moved nothing."""
    REJECTED = "rejected"
    """The circuit refused it."""


class Call(Record):
    """One call that has ended, or was refused, for listeners that have `call_ended`.

    Attributes:
        circuit_name: the circuit's name.
        outcome: how it ended; never `STALE`.
        counted: the field of `Totals` that it was counted in. Not its outcome where that moved
            nothing: `STALE`, or `IGNORED` for a part of a probe, or a probe that took too long.
        duration: seconds; None of a refused call, and of one that was dropped unsettled.
        ended: when, in seconds of the circuit's clock; `ended - duration` is when it began.
        timestamp: when it was reported, wall-clock seconds since the epoch, for display only.
        generation: the number of the phase that admitted or refused it.
        state: the state of that phase.
        probe: whether it was a probe of a half-open circuit.
        slow: whether it took as long as the least slow-call threshold that the trippers declare.
        error: what it ended with, as in `Reason.errors`: the type's name (and the message, if the
            setting `error_messages` asks for it), or the words given to `fail()`. Never the
            exception itself, which would keep the frames of the call alive.
    """

    circuit_name: str
    outcome: Outcome
    counted: Outcome
    duration: float | None
    ended: float
    timestamp: float
    generation: int
    state: State
    probe: bool = False
    slow: bool = False
    error: str | None = None


Listener: TypeAlias = Callable[[Signal], object]
"""Any callable that takes a `Signal`; what it returns is not looked at.

It may have three methods more. `rejected(error)` is called with each `CallNotPermittedError`, and
`call_ended(call)` with each `Call`, refused ones included: on the path of that call, so they must
be quick, and from several threads at once. Where a listener has `call_ended`, each call takes the
circuit's lock. `close()`, or `async def aclose()`, is called when the application that has it in
its settings stops. What waits, or is `async`, is wrapped in `fluxgate.listeners.Background`.
"""


class Subscription:
    """The registration of a listener, as `listen` returns it: to call it ends it.

    Also a context manager, which ends it with the block. It may be ended more than once.
    """

    __slots__ = ("_end",)

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    def __call__(self) -> None:
        """End it: the listener hears of nothing that happens from now on."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end()
