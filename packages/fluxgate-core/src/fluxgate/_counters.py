"""Lifetime counts of one circuit."""

from __future__ import annotations

from fluxgate.metric import Totals


class Counters:
    """The running form of `Totals`; durations in whole nanoseconds, so that they never drift."""

    __slots__ = (
        "cancelled",
        "failures",
        "ignored",
        "nanoseconds",
        "rejected",
        "slow",
        "stale",
        "successes",
    )

    def __init__(self) -> None:
        self.successes = 0
        self.failures = 0
        self.ignored = 0
        self.cancelled = 0
        self.stale = 0
        self.rejected = 0
        self.nanoseconds = 0
        self.slow: dict[float, int] = {}

    def snapshot(self) -> Totals:
        """The counts as they stand."""
        return Totals(
            successes=self.successes,
            failures=self.failures,
            ignored=self.ignored,
            cancelled=self.cancelled,
            stale=self.stale,
            rejected=self.rejected,
            slow=dict(self.slow),
            duration=self.nanoseconds / 1e9,
        )
