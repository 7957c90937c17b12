"""Deltas: the calls that a circuit has counted since it last handed in.

A delta is handed in once. One that certainly didn't arrive goes with the next; one that may have
arrived is dropped, so that no call is ever counted twice.
"""

from __future__ import annotations

from fluxgate._engine.machine import Machine
from fluxgate.fleet._window import added
from fluxgate.fleet.store import Counts, Shape


class Deltas:
    """The counts of one circuit that the store doesn't have yet. Used by the flusher alone.

    Attributes:
        sent: the delta of the last request.
        unsent: counts that were taken from the circuit, and certainly not counted in the store.

    Args:
        machine: the circuit's; what it has counted so far is not handed in.
    """

    def __init__(self, machine: Machine) -> None:
        self.sent = Counts()
        self.unsent = Counts()
        self._seen = _read(machine)

    def take(self, machine: Machine, shape: Shape, *, counting: bool) -> Counts:
        """Take what was counted since the last time; under the circuit's lock.

        Args:
            machine: the circuit's.
            shape: how the merged window is kept.
            counting: whether calls are evidence in the fleet's state; else they are passed over.
        """
        totals = machine.totals
        successes, failures, nanoseconds, slow = self._seen
        self._seen = _read(machine)
        self.sent, unsent, self.unsent = Counts(), self.unsent, Counts()
        if counting and shape.keep > 1:
            thresholds = machine.policy.thresholds
            taken = Counts(
                totals.successes + totals.failures - successes - failures,
                totals.failures - failures,
                # Of the whole, so that what is rounded off adds up to nothing.
                totals.nanoseconds // 1_000_000 - nanoseconds // 1_000_000,
                tuple(totals.slow_counts.get(each, 0) - slow.get(each, 0) for each in thresholds),
            )
            self.sent = added((taken, unsent), len(thresholds))
        return self.sent

    def put_back(self) -> None:
        """Keep the last delta for the next request: nobody has counted it."""
        self.unsent = self.sent

    def pass_over(self, machine: Machine, *, counting: bool) -> int:
        """Leave behind what was counted in an older epoch; under the circuit's lock.

        Returns:
            How many calls that were, if they were evidence.
        """
        unsent, self.unsent = self.unsent, Counts()
        totals = machine.totals
        successes, failures, *_ = self._seen
        self._seen = _read(machine)
        if not counting:
            return 0
        return totals.successes + totals.failures - successes - failures + unsent.calls


def _read(machine: Machine) -> tuple[int, int, int, dict[float, int]]:
    totals = machine.totals
    return totals.successes, totals.failures, totals.nanoseconds, dict(totals.slow_counts)
