"""Lifetime counts of one circuit."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import inf
from typing import Final

from fluxgate.metric import Totals
from fluxgate.state import State

MAX_CLAUSES: Final = 50
"""Number of clauses with a count of trips of their own; further ones count as "other"."""


class Histogram:
    """How many calls took how long.

    Args:
        bounds: seconds, ascending; a call belongs to the first that it doesn't exceed.
    """

    __slots__ = ("_bounds", "_counts")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)

    def add(self, elapsed: float) -> None:
        """Count one call."""
        self._counts[bisect_left(self._bounds, elapsed)] += 1

    def add_all(self, batch: list[float]) -> None:
        """Count many; sorting them first is cheaper than to look for each one's place."""
        durations, counts, done = sorted(batch), self._counts, 0
        for place, bound in enumerate(self._bounds):
            if done == len(durations):
                return
            reached = bisect_right(durations, bound)
            counts[place] += reached - done
            done = reached
        counts[-1] += len(durations) - done

    def snapshot(self) -> dict[float, int]:
        """By bound, infinity the last: how many calls didn't exceed it."""
        cumulative: dict[float, int] = {}
        count = 0
        for bound, more in zip((*self._bounds, inf), self._counts, strict=True):
            cumulative[bound] = count = count + more
        return cumulative


class Counters:
    """The running form of `Totals`; durations in whole nanoseconds, so that they never drift.

    Args:
        buckets: the bounds of the histogram (seconds); none, no histogram.
    """

    __slots__ = (
        "cancelled",
        "failures",
        "histogram",
        "ignored",
        "nanoseconds",
        "slow_counts",
        "stale",
        "successes",
        "transitions",
        "trips",
    )

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self.successes = 0
        self.failures = 0
        self.ignored = 0
        self.cancelled = 0
        self.stale = 0
        self.nanoseconds = 0
        self.slow_counts: dict[float, int] = {}
        self.trips: dict[str, int] = {}
        self.transitions: dict[State, int] = {}
        self.histogram = Histogram(buckets) if buckets else None

    def add_slow(self, reached: tuple[float, ...]) -> None:
        """Count a call by the slow-call thresholds (seconds) that it reached."""
        for threshold in reached:
            self.slow_counts[threshold] = self.slow_counts.get(threshold, 0) + 1

    def trip(self, clause: str) -> None:
        """Count an opening by what caused it; a tripper of the user's may say anything."""
        trips = self.trips
        if clause not in trips and len(trips) >= MAX_CLAUSES:
            clause = "other"
        trips[clause] = trips.get(clause, 0) + 1

    def enter(self, state: State) -> None:
        """Count a transition by the state that it leads to."""
        self.transitions[state] = self.transitions.get(state, 0) + 1

    def snapshot(self, rejected: int) -> Totals:
        """The counts as they stand, and that of the calls that were refused."""
        return Totals(
            successes=self.successes,
            failures=self.failures,
            ignored=self.ignored,
            cancelled=self.cancelled,
            stale=self.stale,
            rejected=rejected,
            slow_counts=dict(self.slow_counts),
            duration=self.nanoseconds / 1e9,
            trips=dict(self.trips),
            transitions=dict(self.transitions),
            histogram=self.histogram.snapshot() if self.histogram is not None else {},
        )
