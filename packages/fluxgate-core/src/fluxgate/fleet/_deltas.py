"""Deltas: the calls that a circuit has counted since it last handed in.

A delta is handed in once. One that certainly didn't arrive goes with the next; one that may have
arrived is dropped, so that no call is ever counted twice.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fluxgate._engine.machine import Machine
from fluxgate.fleet._window import added
from fluxgate.fleet.store import Counts, Shape

PILE: Final = 5
"""Failures since the last delta that have the flusher come sooner."""


class Seen(NamedTuple):
    """A circuit's lifetime counts at one time."""

    successes: int
    failures: int
    nanoseconds: int
    slow: dict[float, int]

    @property
    def settled(self) -> int:
        """Successes and failures."""
        return self.successes + self.failures


def read(machine: Machine) -> Seen:
    """A circuit's counts as they stand."""
    totals = machine.totals
    slow = dict(totals.slow_counts)
    return Seen(totals.successes, totals.failures, totals.nanoseconds, slow)


class Deltas:
    """The counts of one circuit that the store doesn't have yet. Used by the flusher alone.

    Attributes:
        sent: the delta of the last request.
        unsent: counts that were taken from the circuit, and certainly not counted in the store.
        dropped: calls that were evidence, and are not counted in the store.

    Args:
        machine: the circuit's; what it has counted so far is not handed in.
    """

    def __init__(self, machine: Machine) -> None:
        self.sent = Counts()
        self.unsent = Counts()
        self.dropped = 0
        self._seen = read(machine)
        machine.alarm_at = self._seen.failures + PILE

    def take(self, machine: Machine, shape: Shape, *, counting: bool) -> Counts:
        """Take what was counted since the last time; under the circuit's lock.

        Args:
            machine: the circuit's.
            shape: how the merged window is kept.
            counting: whether calls are evidence in the fleet's state; else they are passed over.
        """
        old, new = self._seen, read(machine)
        self._seen = new
        self.sent, unsent, self.unsent = Counts(), self.unsent, Counts()
        machine.alarm_at = new.failures + PILE
        if counting and shape.keep > 1:
            thresholds = machine.policy.thresholds
            taken = Counts(
                new.settled - old.settled,
                new.failures - old.failures,
                # Of the whole, so that what is rounded off adds up to nothing.
                new.nanoseconds // 1_000_000 - old.nanoseconds // 1_000_000,
                tuple(new.slow.get(each, 0) - old.slow.get(each, 0) for each in thresholds),
            )
            self.sent = added((taken, unsent), len(thresholds))
        return self.sent

    def put_back(self) -> None:
        """Keep the last delta for the next request: nobody has counted it."""
        self.unsent, self.sent = self.sent, Counts()

    def give_up(self) -> None:
        """Drop the last delta, which may have been counted, or is of an epoch that is over."""
        sent, self.sent = self.sent, Counts()
        self.dropped += sent.calls

    def pass_over(self, machine: Machine, *, counting: bool, until: Seen | None = None) -> None:
        """Leave behind what was counted in an older epoch; under the circuit's lock.

        Args:
            machine: the circuit's.
            counting: whether calls were evidence in the fleet's state.
            until: the counts when the newer epoch began; None, it begins now.
        """
        unsent, self.unsent = self.unsent, Counts()
        old, new = self._seen, read(machine) if until is None else until
        if new.settled > old.settled:
            self._seen = new
        if counting:
            self.dropped += max(new.settled - old.settled, 0) + unsent.calls
