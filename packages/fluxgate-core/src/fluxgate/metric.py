"""Records: `Metrics` (the numbers of a window, for trippers), `Info`, `Totals`.

Exported metrics stand in `listeners/_prometheus_families.py` and `listeners/_otel_instruments.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from fluxgate._values import Record
from fluxgate.signals import Reason
from fluxgate.state import State

__all__ = ["FleetView", "Info", "Metrics", "SavedInfo", "Snapshot", "Totals"]


class Metrics:
    """The numbers of the calls inside a window, which a tripper decides by.

    Attributes:
        total_count: calls that succeeded or failed.
        failure_count: calls that failed.
        failure_streak: failures since the last success; it outlives the window.
        total_duration: seconds that all these calls took, failed ones included.
        slow_counts: calls that took a threshold (seconds) or more, by the thresholds that the
            circuit's trippers declare.
    """

    __slots__ = ()

    total_count: int
    failure_count: int
    failure_streak: int
    total_duration: float
    slow_counts: dict[float, int]

    @property
    def failure_rate(self) -> float | None:
        """Share of calls that failed (ratio 0-1); None without calls."""
        return self.failure_count / self.total_count if self.total_count else None

    @property
    def avg_duration(self) -> float | None:
        """Mean duration of a call in seconds; None without calls."""
        return self.total_duration / self.total_count if self.total_count else None

    def slow_rate(self, threshold: float) -> float | None:
        """Share of calls (ratio 0-1) that took `threshold` seconds or more; None without calls.

        Raises:
            ValueError: no tripper of the circuit declares this threshold, so it isn't measured.
        """
        slow = self.slow_counts.get(threshold)
        if slow is None:
            known = ", ".join(map(str, self.slow_counts)) or "none"
            raise ValueError(
                f"slow_rate({threshold}): not measured (measured are: {known}); "
                f"SlowRate(ratio, {threshold}) in the tripper makes it so"
            )
        return slow / self.total_count if self.total_count else None


class Snapshot(Record, Metrics):
    """The metrics of a window as they stood when it was read."""

    total_count: int
    failure_count: int
    failure_streak: int
    total_duration: float
    slow_counts: dict[float, int]


class Totals(Record):
    """Counts since the circuit was made (since the fork, in a forked child).

    Every admitted call is counted once, when it settles: `settled` is the sum of the five
    disjoint outcomes. A refused call was never admitted.

    Attributes:
        successes: calls that succeeded.
        failures: calls that failed by the tracker's judgement.
        ignored: neither: untracked exceptions, other circuits' refusals, reclaimed probes.
        cancelled: calls that ended with anything but an `Exception`, such as a cancellation.
        stale: calls that were admitted before the latest transition, and moved nothing.
        rejected: calls that were refused.
        slow_counts: calls that took a threshold (seconds) or more, by threshold.
        duration: seconds that successes and failures took together.
        trips: how often it opened, by the clause of the reason (or "other", past fifty).
        transitions: how often it entered a state, by that state; those that it never entered are
            not there.
        histogram: how many successes and failures took at most so many seconds: by bound,
            ascending, the last one infinity; empty without the setting `buckets`.
    """

    successes: int
    failures: int
    ignored: int
    cancelled: int
    stale: int
    rejected: int
    slow_counts: Mapping[float, int]
    duration: float
    trips: Mapping[str, int]
    transitions: Mapping[State, int]
    histogram: Mapping[float, int]

    @property
    def settled(self) -> int:
        """Calls that have ended, whatever their outcome."""
        return self.successes + self.failures + self.ignored + self.cancelled + self.stale


class FleetView(Record):
    """A circuit as its fleet has it, as of the last answer of the store.

    Attributes:
        state: the fleet's state; this process's own is in `Info.state`.
        epoch: the number of the fleet's last transition; 0 before the first.
        retry_after: seconds until the fleet may probe; None where nobody knows.
        attached: whether the store answered when it was last asked.
        metrics: the calls of all processes inside the merged window.
    """

    state: State
    epoch: int
    retry_after: float | None
    attached: bool
    metrics: Snapshot


class SavedInfo(TypedDict):
    """A circuit's state for another process, in JSON types: `Info.save()`, `breaker.restore()`.

    Attributes:
        fluxgate: the number of this shape, 1. Another is refused; fields that are not listed here
            are left out of account.
        name: the circuit's name.
        state: its state, such as `open`.
        elapsed: seconds that it had been in that state when it was saved.
        retry_after: seconds until it probes, as of then; None as in `Info`.
        reopens: how often probing has failed since it was last closed.
        last_trip: why it last opened, without the messages of errors: an object with the fields
            of `Reason`, `errors` a list of pairs; None if it never did.
        reverts_in: seconds until a state that was set by hand ends by itself, as of then; None,
            or left out: it doesn't.
        note: why it was set by hand; None, or left out, where nobody said.
        by: who set it by hand; the same.
        saved_at: when that was, wall-clock seconds since the epoch.
    """

    fluxgate: int
    name: str
    state: str
    elapsed: float
    retry_after: float | None
    reopens: int
    last_trip: dict[str, Any] | None
    reverts_in: NotRequired[float | None]
    note: NotRequired[str | None]
    by: NotRequired[str | None]
    saved_at: float


class Info(Record):
    """A circuit at one moment.

    Attributes:
        name: the circuit's name.
        state: its state.
        since: when it entered that state, wall-clock seconds since the epoch, for display only.
        retry_after: seconds until a circuit probes that is open, or forced open for a time; None in
            other states and under `Never`.
        open_for: seconds that this opening lasts in all; None where `retry_after` is.
        reopens: how often probing has failed since the circuit was last closed.
        probes: probes in flight.
        metrics: the calls inside the window of this state.
        totals: lifetime counts.
        last_trip: why the circuit last opened; None if it never did.
        would_open: in `State.METRICS_ONLY`, why the circuit would open now; None if it would not.
        shadow: while calls are recorded, why the shadow tripper would open the circuit now; None
            if it would not, or there is none.
        fleet: the circuit as the whole fleet has it; None where it is in none.
        at: the moment, wall-clock seconds since the epoch.
        reason: why it is in its state; of a control with who called it and why.
        reverts_in: seconds until a state that was set by hand for a time ends by itself; None
            otherwise.
    """

    name: str
    state: State
    since: float
    retry_after: float | None
    open_for: float | None
    reopens: int
    probes: int
    metrics: Snapshot
    totals: Totals
    last_trip: Reason | None
    would_open: Reason | None
    shadow: Reason | None
    fleet: FleetView | None = None
    at: float = 0.0
    reason: Reason | None = None
    reverts_in: float | None = None

    def save(self) -> SavedInfo:
        """The state that a new breaker goes on from, for `json.dumps` and `breaker.restore()`.

        State, deadline, reopens and the last reason; neither window nor counts.
        """
        from fluxgate import _saved  # not at import: few need it

        return _saved.written(self)
