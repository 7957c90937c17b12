"""Counts after a hundred million calls, of a nanosecond to eleven days each, are exact.

The calls are real: they go through the circuit's lane as the fronts append them, 256 at once, by
the door that `fluxgate.replay` uses; each 500th batch is followed by a failure and a slow call
through an attempt. Durations are whole nanoseconds, so what they add up to is known.
"""

from __future__ import annotations

import random
from collections import deque
from typing import NamedTuple

import pytest

from fluxgate import CircuitBreaker
from fluxgate.testing import ManualClock
from fluxgate.trippers import FailureRate, MinRequests, SlowRate
from fluxgate.windows import CountWindow, TimeWindow, Window

from .proving import LONG

CALLS = 100_000_000 if LONG else 500_000
BATCH = 256
NANOSECONDS = [digit * 10**power for power in range(15) for digit in (1, 3, 7)] + [10**15]
SLOW = 10**15  # nanoseconds: only what goes through an attempt takes as long
BAR = SLOW / 1e9
CHECKS = 25


class Batch(NamedTuple):
    """Calls that ended together: their durations, and what they add up to (nanoseconds)."""

    nanoseconds: list[int]
    total: int
    failed: bool = False
    slow: bool = False

    @classmethod
    def of(cls, nanoseconds: list[int], *, failed: bool = False) -> Batch:
        return cls(nanoseconds, sum(nanoseconds), failed, nanoseconds == [SLOW])


def batches(dice: random.Random) -> list[Batch]:
    """Batches of durations: mixed, all of the shortest, all of the longest."""
    mixed = [dice.choices(NANOSECONDS[:-1], k=BATCH) for _ in range(50)]
    return [Batch.of(each) for each in [*mixed, [1] * BATCH, [NANOSECONDS[-2]] * BATCH]]


class Sums:
    """What a window and a lifetime add up to."""

    def __init__(self, window: Window) -> None:
        self.size = window.size if isinstance(window, CountWindow) else 0
        self.width = window.size / window.buckets if isinstance(window, TimeWindow) else 1.0
        self.buckets = window.buckets if isinstance(window, TimeWindow) else 0
        self.recent: deque[tuple[int, Batch]] = deque()
        self.calls = self.failures = self.total = self.slow = self.held = 0

    def add(self, batch: Batch, now: float) -> None:
        self.calls += len(batch.nanoseconds)
        self.total += batch.total
        self.failures += batch.failed
        self.slow += batch.slow
        self.held += len(batch.nanoseconds)
        self.recent.append((int(now // self.width), batch))
        self.forget(now)

    def forget(self, now: float) -> None:
        """Drop what the window no longer reaches."""
        recent = self.recent
        while (self.size and self.held - len(recent[0][1].nanoseconds) >= self.size) or (
            self.buckets and recent[0][0] <= now // self.width - self.buckets
        ):
            self.held -= len(recent.popleft()[1].nanoseconds)

    def window(self, now: float) -> tuple[int, int, float, int]:
        """Calls, failures, seconds and slow calls of the window."""
        self.forget(now)
        batches = [batch for _, batch in self.recent]
        left = self.held - self.size if self.size and self.held > self.size else 0
        total = sum(batch.total for batch in batches) - sum(batches[0].nanoseconds[:left])
        return (
            self.held - left,
            sum(batch.failed for batch in batches),
            total / 1e9,
            sum(batch.slow for batch in batches),
        )


@pytest.mark.parametrize(
    "window",
    [CountWindow(100), CountWindow(1000), CountWindow(100_000), TimeWindow(60.0, 6)],
    ids=["100", "1000", "100000", "time"],
)
def test_nothing_drifts(window: Window) -> None:
    clock, dice, sums = ManualClock(), random.Random(1), Sums(window)
    rare = MinRequests(10) & (FailureRate(1.0) | SlowRate(1.0, BAR))  # so the lane stays up
    breaker = CircuitBreaker("x", window=window, tripper=rare, clock=clock, buckets=(1e-6, 1.0))
    circuit, pool = breaker._circuit, batches(dice)
    seconds = [[each / 1e9 for each in batch.nanoseconds] for batch in pool]
    below = [sum(each <= 1000 for each in batch.nanoseconds) for batch in pool]
    short, failed, slow = Batch.of([1]), Batch.of([1], failed=True), Batch.of([SLOW])
    rounds, shortest = CALLS // BATCH, 0
    for number in range(rounds):
        place = number % len(pool)
        lane = circuit.lane
        assert lane is not None
        circuit.pass_through(lane, seconds[place])
        sums.add(pool[place], clock())
        shortest += below[place]
        if number % 500 == 499:
            breaker.attempt().fail(elapsed=1e-9)
            sums.add(failed, clock())
            breaker.attempt().succeed(SLOW / 1e9)
            sums.add(slow, clock())
            clock.advance(0.25 if LONG else 30.0)
            breaker.attempt().succeed(1e-9)  # which finds the bucket's lane over
            sums.add(short, clock())
            shortest += 2
        if number % (rounds // CHECKS) == 0 or number == rounds - 1:
            info = breaker.info()
            totals, metrics = info.totals, info.metrics
            assert totals.successes + totals.failures == sums.calls
            assert totals.failures == sums.failures
            assert totals.duration == sums.total / 1e9
            assert totals.slow_counts.get(BAR, 0) == sums.slow
            assert totals.histogram[1e-6] == shortest
            assert sums.window(clock()) == (
                metrics.total_count,
                metrics.failure_count,
                metrics.total_duration,
                metrics.slow_counts[BAR],
            )
    print(f"\n{window!r}: {sums.calls:,} calls, {sums.total / 1e9:.9f} s, to the last digit")
