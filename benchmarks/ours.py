"""This project's breakers in the conditions that are measured."""

from collections.abc import Callable
from contextlib import suppress
from itertools import chain, count, islice

from peers import DAY, trip
from thin import Down, Fn, dependency
from timing import PATTERN, Turn, failing, healthy, rejected

from fluxgate import CallNotPermittedError, CircuitBreaker, State
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, FailureStreak, MinRequests
from fluxgate.windows import CountWindow, TimeWindow

SLOW_TICK = 1 / 1024
FAST_TICK = 1 / 65_536
"""Seconds that pass per reading of the simulated clock, while filling and afterwards.

A call reads it twice: some 500 calls a second fill an hour, then come 32,000 a second.
"""

Clock = Callable[[], float]


def simulated_clock(seconds: float) -> Clock:
    """A clock that hurries through that many seconds, then slows down.

    Nobody wants to wait for an hour until a window of an hour is full. It's made of parts
    written in C, so that a reading costs what a reading of the real clock does.
    """
    start = 1_000.0
    hurry = islice(count(start, SLOW_TICK), int(seconds / SLOW_TICK))
    return chain(hurry, count(start + seconds, FAST_TICK)).__next__


def fill(fn: Fn, enough: Callable[[], bool], pattern: tuple[bool, ...]) -> None:
    """Call until there are enough."""
    while not enough():
        for fail in pattern:
            with suppress(Down):
                fn(fail)


def must_be(breaker: CircuitBreaker, state: State) -> None:
    """A breaker in another state than supposed measures something else."""
    if breaker.info().state is not state:
        raise RuntimeError(f"the breaker is {breaker.info().state}, not {state}")


def counted(size: int, kind: str) -> Turn:
    """A full `CountWindow` of that size."""
    breaker = CircuitBreaker(
        f"count-{size}-{kind}",
        window=CountWindow(size),
        tripper=(MinRequests(10) & FailureRate(0.5)) | FailureStreak(10),
        retry=Cooldown(DAY),
    )
    return filled(breaker, kind, passes(size))


def timed(seconds: int, kind: str) -> Turn:
    """A `TimeWindow` of that many seconds, full, on the simulated clock."""
    clock = simulated_clock(seconds)
    breaker = CircuitBreaker(
        f"time-{seconds}-{kind}",
        window=TimeWindow(seconds),
        tripper=(MinRequests(10) & FailureRate(0.5)) | FailureStreak(10),
        retry=Cooldown(DAY),
        clock=clock,
    )
    full = clock() + seconds
    return filled(breaker, kind, lambda: clock() >= full)


def passes(calls: int) -> Callable[[], bool]:
    """True once asked for as many tens of calls."""
    rest = iter(range(calls // len(PATTERN)))
    return lambda: next(rest, None) is None


def filled(breaker: CircuitBreaker, kind: str, enough: Callable[[], bool]) -> Turn:
    """Fill the window with the kind of calls that will be timed."""
    fn = breaker(dependency)
    healthy_calls = (False,) * len(PATTERN)
    fill(fn, enough, PATTERN if kind == "failing" else healthy_calls)
    must_be(breaker, State.CLOSED)
    if kind == "rejected":
        trip(fn, CallNotPermittedError)
        must_be(breaker, State.OPEN)
        return rejected(fn, CallNotPermittedError)
    return failing(fn) if kind == "failing" else healthy(fn)


def attempting(breaker: CircuitBreaker, fn: Fn) -> Fn:
    """What an integration writes: admit, call, settle."""

    def call() -> None:
        attempt = breaker.attempt()
        fn()
        attempt.succeed()

    return call


def attempt_block(breaker: CircuitBreaker, fn: Fn) -> Fn:
    """`with breaker.attempt():` around the call."""

    def call() -> None:
        with breaker.attempt():
            fn()

    return call


def breaker_block(breaker: CircuitBreaker, fn: Fn) -> Fn:
    """`with breaker:` around the call."""

    def call() -> None:
        with breaker:
            fn()

    return call
