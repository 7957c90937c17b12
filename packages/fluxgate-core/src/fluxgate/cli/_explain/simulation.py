"""Simulated calls on a real breaker with a manual clock, to find out how a policy reacts."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from itertools import chain, cycle, repeat
from typing import Any, NamedTuple

from fluxgate import permits
from fluxgate._values import Binary, Composable
from fluxgate.breaker import CircuitBreaker
from fluxgate.policy import Policy
from fluxgate.state import State
from fluxgate.testing import LoadedDice, ManualClock
from fluxgate.windows import TimeWindow

MOST = 20_000
"""The most calls in one trial."""

LONG = 3600.0
"""Seconds that a slow call takes where no clause has a threshold."""


def clauses(strategy: Composable) -> list[Composable]:
    """The single clauses that a strategy is made of."""
    if not isinstance(strategy, Binary):
        return [strategy]
    both: Binary[Any] = strategy  # pyright: ignore[reportUnknownVariableType]
    return [*clauses(both.left), *clauses(both.right)]


class Call(NamedTuple):
    """How a call ends: whether it fails, and after how many seconds."""

    failed: bool
    elapsed: float = 0.0


GOOD, BAD = Call(failed=False), Call(failed=True)


class Trial:
    """A closed breaker of a policy. Its dice draw no jitter, and its permit admits every probe."""

    def __init__(self, policy: Policy) -> None:
        given = policy.replace(permit=permits.All(), shadow=None, buckets=())
        settings: Any = {name: getattr(given, name) for name in given.__match_args__}
        self.clock = ManualClock()
        self.breaker = CircuitBreaker("trial", clock=self.clock, dice=LoadedDice(0.5), **settings)

    @property
    def state(self) -> State:
        """The circuit's state."""
        return self.breaker.state

    def call(self, call: Call) -> None:
        """Make one call. A probe takes its time; other calls are made beside each other."""
        attempt = self.breaker.attempt()
        if attempt.probe:
            self.clock.advance(call.elapsed)
        if call.failed:
            attempt.fail(elapsed=call.elapsed)
        else:
            attempt.succeed(elapsed=call.elapsed)

    def play(self, calls: Iterator[Call], most: int, *, every: float = 0.0) -> int | None:
        """Make calls until the state changes, and return how many; None if `most` change nothing.

        Args:
            calls: how the calls end, in order.
            most: the most calls to make.
            every: seconds from one call to the next.
        """
        before = self.state
        for count in range(1, most + 1):
            self.call(next(calls))
            if self.state is not before:
                return count
            self.clock.advance(every)
        return None

    def wait(self) -> bool:
        """Wait until an open circuit is half-open; False if it never would be."""
        delay = self.breaker.info().retry_after
        if delay is None:
            return False
        self.clock.advance(delay)
        self.breaker.attempt().ignore()
        return self.state is State.HALF_OPEN


def enough(policy: Policy) -> int:
    """`wanted`, or `MOST` if that is less."""
    return min(wanted(policy), MOST)


def wanted(policy: Policy) -> int:
    """After how many calls of a kind more of them change nothing, for clauses of Fluxgate's own.

    Then the window is full, every clause has its evidence, and `mixed` has gone round twice.
    """
    needed = max(policy.closed.evidence, policy.half_open.evidence, *policy.closed.minimums, 0)
    return (policy.window.capacity or 0) + needed + 200


def mixed(bad: Call, share: tuple[int, int]) -> Iterator[Call]:
    """Endless good calls, with bad ones among them: `share` is (bad, of), evenly spread."""
    some, of = share
    return cycle([bad if (i + 1) * some // of > i * some // of else GOOD for i in range(of)])


def slow_limits(policy: Policy) -> list[float]:
    """Durations (seconds) from which a success counts as slow; `LONG` if no clause has one."""
    limits = {*policy.closed.thresholds}
    limits |= {getattr(each, "threshold", 0.0) for each in clauses(policy.closed)} - {0.0}
    return sorted(limits) or [LONG]


def outage(policy: Policy) -> Call | None:
    """The first kind of bad call that opens it: failing, slow or both; None if none does."""
    slow = slow_limits(policy)[-1]
    calls = (BAD, Call(failed=False, elapsed=slow), worst(policy))
    return next((each for each in calls if opens_after(policy, repeat(each))), None)


def worst(policy: Policy) -> Call:
    """A call that fails, and slowly."""
    return Call(failed=True, elapsed=slow_limits(policy)[-1])


def opens_after(policy: Policy, calls: Iterator[Call], *, warm: int = 0) -> int | None:
    """How many calls open it, after `warm` good ones (0: these do); None if they never do."""
    trial = Trial(policy)
    if trial.play(repeat(GOOD), warm) is not None:
        return 0
    return trial.play(calls, enough(policy))


def failures_that_open(policy: Policy, total: int) -> int | None:
    """How many of `total` calls must fail, the last ones, to open it; None if not even all do."""

    def opens(failures: int) -> bool:
        calls = chain(repeat(GOOD, total - failures), repeat(BAD, failures))
        return Trial(policy).play(calls, total) is not None

    found = bisect_left(range(total + 1), True, key=opens)
    return found if found <= total else None


def outage_lasts(policy: Policy, bad: Call, rate: float, *, warm: bool) -> float | None:
    """Seconds from the first bad call to the opening, at `rate` calls a second.

    Args:
        policy: what to try.
        bad: how each call ends.
        rate: calls per second.
        warm: whether a window of good calls comes first.

    Returns:
        Infinity if it never opens; None if that takes too many calls to try.
    """
    window = policy.window
    if isinstance(window, TimeWindow):
        held = math.ceil(window.size * rate) + 1
        most = max(2 * held, enough(policy))
    else:
        held, most = window.capacity or 0, enough(policy)
    if max(held, most) > MOST:
        return None
    trial = Trial(policy)
    if warm and trial.play(repeat(GOOD), held, every=1 / rate) is not None:
        return 0.0
    began = trial.clock()
    opened = trial.play(repeat(bad), most, every=1 / rate)
    return math.inf if opened is None else trial.clock() - began


class Recovery(NamedTuple):
    """How a half-open circuit reacts to probes.

    Attributes:
        closes: good probes in a row that close it; None if they never do.
        reopens: failed probes in a row that open it again; None if they never do.
        forgiven: of as many probes as `closes`, how many may fail, the first ones, and the last
            still closes it.
        slow: the state after probes that succeed slowly.
    """

    closes: int | None
    reopens: int | None
    forgiven: int
    slow: State


def recovery(policy: Policy, bad: Call, slow: Call | None) -> Recovery | None:
    """The reaction to probes after an outage of `bad` calls; None if it does not get half-open."""
    if not _half_open(policy, bad):
        return None

    def ends(calls: Iterator[Call]) -> tuple[State, int]:
        trial = _half_open(policy, bad)
        assert trial is not None
        count = trial.play(calls, enough(policy))
        return trial.state, count or 0

    state, good = ends(repeat(GOOD))
    closes = good if state is State.CLOSED else None
    state, failed = ends(repeat(BAD))
    reopens = failed if state is State.OPEN else None
    forgiven = 0
    if closes is not None:
        forgiven = bisect_left(
            range(1, closes + 1),
            True,
            key=lambda some: (
                ends(chain(repeat(BAD, some), repeat(GOOD, closes - some), repeat(BAD)))
                != (State.CLOSED, closes)
            ),
        )
    slowly = State.HALF_OPEN if slow is None else ends(repeat(slow))[0]
    return Recovery(closes, reopens, forgiven, slowly)


def _half_open(policy: Policy, bad: Call) -> Trial | None:
    """A half-open circuit, after an outage of `bad` calls; None if they don't open it."""
    trial = Trial(policy)
    opened = trial.play(repeat(bad), enough(policy))
    return trial if opened is not None and trial.wait() else None


def time_for(policy: Policy, probes: int, rate: float) -> float | None:
    """About how many seconds it takes the permit to admit so many probes.

    `rate` is calls per second.

    None if more calls are needed than are tried.
    """
    admitted = 0.0
    for call in range(MOST):
        try:
            admitted += min(policy.permit.ratio(call / rate), 1.0)
        except Exception:
            admitted += 1.0  # as a circuit takes it
        if admitted >= probes - 1e-9:
            return call / rate
    return None
