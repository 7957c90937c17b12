"""Nothing that a breaker does over and over makes the process grow.

What is measured is what Python has allocated (tracemalloc), before and after. A leak grows with
the number of rounds, and the smallest thing that can leak, a reference in a list, has 8 bytes: so
20,000 rounds within 64 KiB are flat at any number, a million included.
"""

from __future__ import annotations

import gc
import logging
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    State,
    circuits,
)
from fluxgate.permits import All
from fluxgate.trippers import FailureRate, FailureStreak, SlowRate
from fluxgate.windows import TimeWindow

pytestmark = pytest.mark.slow

ROUNDS = 20_000
FLAT = 64 * 1024
NEVER_FIRES = FailureRate(1.0) & SlowRate(1.0, 3600.0)


def growth(work: Callable[[], object], rounds: int = ROUNDS) -> int:
    """Bytes that are allocated after `rounds` more calls of `work()`, and weren't before."""
    for _ in range(2_000):  # caches, and every buffer that has a bound, fill up
        work()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(rounds):
            work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_the_yardstick_sees_a_leak_of_one_reference_a_round() -> None:
    leak: list[None] = []
    assert growth(lambda: leak.append(None)) > 1.5 * FLAT


class Error(ConnectionError):
    """One that can be referred to weakly."""


def fail() -> None:
    raise Error


# -- decorating, as an endpoint does that decorates at each request


def test_decorating_sync_functions_leaves_nothing_behind() -> None:
    breaker = CircuitBreaker("decorates", tripper=NEVER_FIRES)

    def endpoint() -> None:
        @breaker
        def fetch() -> str:
            return "fine"

        assert fetch() == "fine"

    assert growth(endpoint) < FLAT


def test_decorating_with_a_fallback_leaves_nothing_behind() -> None:
    breaker = CircuitBreaker("decorates", tripper=NEVER_FIRES)

    def endpoint() -> None:
        @breaker(fallback=lambda _: "fallback")
        def fetch() -> str:
            raise Error

        assert fetch() == "fallback"

    assert growth(endpoint) < FLAT


def test_decorating_async_functions_leaves_nothing_behind() -> None:
    breaker = AsyncCircuitBreaker("decorates", tripper=NEVER_FIRES)

    def endpoint() -> None:
        @breaker
        async def fetch() -> str:
            return "fine"

        with pytest.raises(StopIteration, match="fine"):
            fetch().send(None)

    assert growth(endpoint) < FLAT


def test_decorating_generators_leaves_nothing_behind() -> None:
    breaker = CircuitBreaker("decorates", tripper=NEVER_FIRES)

    def endpoint() -> None:
        @breaker
        def items() -> Iterator[int]:
            yield from range(3)

        assert sum(items()) == 3

    assert growth(endpoint) < FLAT


def test_what_is_decorated_goes_without_the_collector() -> None:
    """By reference counts alone: a wrapper is in no cycle, and the breaker holds none."""
    breaker = CircuitBreaker("decorates")
    gc.collect()
    gc.disable()
    try:

        def fetch() -> None: ...

        gone = [weakref.ref(fetch), weakref.ref(breaker(fetch))]
        protected = breaker(fetch)
        gone.append(weakref.ref(protected))
        protected()
        del fetch, protected
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()


# -- calls


@pytest.mark.parametrize(
    "state", [State.CLOSED, State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN]
)
def test_calls_of_every_outcome_leave_nothing_behind(state: State) -> None:
    """Nobody reads the numbers meanwhile: journal, refusals and window bound themselves."""
    breaker = CircuitBreaker("calls", tripper=NEVER_FIRES, initial_state=state)

    def calls() -> None:
        for work in (int, int, fail):
            with suppress(Error, CallNotPermittedError):
                breaker.call(work)

    assert growth(calls) < FLAT
    totals = breaker.info().totals
    calls_made = 0 if state is State.DISABLED else 3 * (ROUNDS + 2_000)
    assert totals.settled + totals.rejected == calls_made


def test_only_successes_and_nobody_ever_asks() -> None:
    """The journal drains itself."""
    breaker = CircuitBreaker("healthy")
    assert growth(lambda: breaker.call(int), 100_000) < FLAT
    assert breaker.info().totals.successes == 102_000


def test_a_time_window_stays_as_small_as_its_buckets() -> None:
    now = [0.0]
    breaker = CircuitBreaker(
        "timed", tripper=NEVER_FIRES, window=TimeWindow(60.0), clock=lambda: now[0]
    )

    def calls() -> None:
        now[0] += 0.5
        for work in (int, fail):
            with suppress(Error):
                breaker.call(work)

    assert growth(calls) < FLAT
    assert breaker.info().metrics.total_count in range(2 * 118, 2 * 121)


def test_moves_leave_nothing_behind() -> None:
    """Each makes a phase with all that belongs to it, and drops the last one."""
    heard: list[int] = [0]

    def listener(_: object) -> None:
        heard[0] += 1

    breaker = CircuitBreaker("moves", tripper=FailureStreak(1), listeners=[listener])

    def moves() -> None:
        with pytest.raises(Error):
            breaker.call(fail)
        breaker.reset()

    assert growth(moves, 5_000) < FLAT // 4
    assert heard == [2 * 7_000]


# -- attempts


@pytest.mark.parametrize("state", [State.CLOSED, State.HALF_OPEN])
def test_attempts_dropped_in_bulk_stay_bounded(state: State) -> None:
    """Nobody calls or reads in between; the notes that they leave are read now and then."""
    now = [0.0]
    breaker = CircuitBreaker("dropped", permit=All(), clock=lambda: now[0])
    if state is State.HALF_OPEN:
        breaker.open_for(1.0)
        now[0] = 1.0
    assert growth(breaker.attempt) < FLAT
    info = breaker.info()
    assert (info.state, info.probes, info.totals.ignored) == (state, 0, ROUNDS + 2_000)


def test_attempts_that_all_die_at_once() -> None:
    breaker = CircuitBreaker("dropped")
    attempts = [breaker.attempt() for _ in range(ROUNDS)]
    attempts.clear()
    assert breaker.info().totals.ignored == ROUNDS


def test_blocks_leave_nothing_in_the_context() -> None:
    breaker = CircuitBreaker("blocks", tripper=NEVER_FIRES)

    def block() -> None:
        with pytest.raises(Error), breaker:
            fail()

    assert growth(block, 5_000) < FLAT // 4


# -- breakers


def test_a_dropped_breaker_goes_at_once_and_leaves_the_index() -> None:
    """Also after use through both fronts, a wrapper, and a move; without the collector's help."""
    gc.collect()
    before = len(circuits())
    gc.disable()
    try:
        breaker = CircuitBreaker("short-lived", tripper=FailureStreak(2))
        wrapper = breaker(fail)
        shared = breaker.to_async()
        for _ in range(2):
            with pytest.raises(Error):
                wrapper()
        with pytest.raises(CallNotPermittedError):
            breaker.call(fail)
        breaker.info()
        assert [one.name for one in circuits()[before:]] == ["short-lived"]
        del breaker, shared
        assert len(circuits()) == before + 1  # the wrapper still needs the circuit
        del wrapper
        assert len(circuits()) == before
    finally:
        gc.enable()


def test_breakers_come_and_go() -> None:
    def short_lived() -> None:
        breaker = CircuitBreaker("short-lived", tripper=FailureStreak(1))
        with pytest.raises(Error):
            breaker.call(fail)

    gc.collect()
    before = len(circuits())
    assert growth(short_lived, 3_000) < FLAT // 4
    assert len(circuits()) == before


# -- exceptions


def by_call(breaker: CircuitBreaker) -> None:
    breaker.call(fail)


def by_decorator(breaker: CircuitBreaker) -> None:
    breaker(fail)()


def by_block(breaker: CircuitBreaker) -> None:
    with breaker:
        fail()


def by_attempt(breaker: CircuitBreaker) -> None:
    with breaker.attempt():
        fail()


def by_hand(breaker: CircuitBreaker) -> None:
    attempt = breaker.attempt()
    try:
        fail()
    except Error as error:
        attempt.fail(error)
        raise


def by_generator(breaker: CircuitBreaker) -> None:
    def items() -> Iterator[int]:
        yield 1
        fail()

    list(breaker(items)())


def by_coroutine(breaker: CircuitBreaker) -> None:
    async def work() -> None:
        fail()

    breaker.to_async().call(work).send(None)


@pytest.mark.parametrize("state", [State.CLOSED, State.DISABLED], ids=["lane", "no lane"])
@pytest.mark.parametrize(
    "door", [by_call, by_decorator, by_block, by_attempt, by_hand, by_generator, by_coroutine]
)
def test_no_exception_is_kept_alive(door: Callable[[CircuitBreaker], None], state: State) -> None:
    """Nor put into a cycle: it goes, and its frames with it, when the caller is done with it."""
    breaker = CircuitBreaker("lets go", tripper=NEVER_FIRES, initial_state=state)
    gc.collect()
    gc.disable()
    try:
        gone: weakref.ref[Error] | None = None
        try:
            door(breaker)
        except Error as error:
            gone = weakref.ref(error)
        assert gone is not None
        assert gone() is None
    finally:
        gc.enable()


def test_a_result_is_not_kept_alive() -> None:
    class Result:
        pass

    breaker = CircuitBreaker("lets go", result_tracker=lambda _: False)
    gone = weakref.ref(breaker.call(Result))
    assert gone() is None
    assert breaker.info().totals.successes == 1


def test_a_faulty_tripper_keeps_nothing_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its own error nor the one that it was asked about stays behind."""
    logged: list[str] = []
    # Logging's own handlers may keep the record, and the error with it.
    monkeypatch.setattr(
        logging.getLogger("fluxgate"), "handle", lambda record: logged.append(record.getMessage())
    )
    gone: list[weakref.ref[BaseException]] = []

    class Faulty(FailureStreak):
        def fires(self, metrics: object) -> bool:
            error = Error("a bug in a tripper")
            gone.append(weakref.ref(error))
            raise error

    breaker = CircuitBreaker("lets go", tripper=Faulty(1))
    try:
        breaker.call(fail)
    except Error as error:
        gone.append(weakref.ref(error))
    assert len(logged) == 1
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
