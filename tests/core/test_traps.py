"""Bugs that other breakers have had, one test for each. The trap is in the test's docstring.

Where a trap has a whole file to itself (threads, fork, cancellation), its test is there; the table
in docs/design.md says which.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker, Signal, State
from fluxgate.permits import All, Permit, RampUp, Random
from fluxgate.retries import Backoff, Cooldown
from fluxgate.testing import ManualClock
from fluxgate.trackers import Custom, TypeOf
from fluxgate.trippers import (
    Closed,
    FailureRate,
    FailureStreak,
    HalfOpened,
    MinRequests,
    SlowRate,
    Tripper,
)
from fluxgate.windows import CountWindow, TimeWindow

PATIENCE = 30.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Ignored(Exception):
    """What the tracker does not track."""


def fine() -> str:
    return "fine"


def fail() -> None:
    raise ConnectionError


def fail_through(breaker: CircuitBreaker) -> None:
    with pytest.raises(ConnectionError):
        breaker.call(fail)


def half_open(clock: ManualClock, **settings: Any) -> CircuitBreaker:
    """A circuit that takes probes now."""
    breaker = CircuitBreaker("api", clock=clock, **{"permit": All(), **settings})
    breaker.open_for(1.0)
    clock.advance(1.0)
    return breaker


# -- state


def _untracked(breaker: CircuitBreaker) -> None:
    with pytest.raises(Ignored):
        breaker.call(_raise, Ignored())


def _cancelled(breaker: CircuitBreaker) -> None:
    with pytest.raises(KeyboardInterrupt):
        breaker.call(_raise, KeyboardInterrupt())


def _dropped(breaker: CircuitBreaker) -> None:
    breaker.attempt()


def _thread_killed(breaker: CircuitBreaker) -> None:
    def probe() -> None:
        with suppress(SystemExit):
            _ = breaker.attempt()
            raise SystemExit

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join(PATIENCE)


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("end", [_untracked, _cancelled, _dropped, _thread_killed])
def test_a_probe_without_a_verdict_gives_its_slot_back(
    end: Callable[[CircuitBreaker], None], clock: ManualClock
) -> None:
    """Trap: a probe that is cancelled, ignored or killed keeps its slot: HALF_OPEN for ever."""
    breaker = half_open(clock, max_half_open_calls=1, tracker=~TypeOf(Ignored))
    for _ in range(3):
        end(breaker)
        info = breaker.info()
        assert (info.state, info.probes) == (State.HALF_OPEN, 0)
    assert breaker.call(fine) == "fine"


def test_a_hung_probe_is_reclaimed(clock: ManualClock) -> None:
    """Trap: a hung probe keeps its slot for ever; when it comes back at last, it counts."""
    tripper = MinRequests(2) & FailureRate(0.5)
    breaker = half_open(clock, max_half_open_calls=1, probe_timeout=5.0, tripper=tripper)
    hung = breaker.attempt()
    clock.advance(4.9)
    with pytest.raises(CallNotPermittedError):
        breaker.attempt()
    clock.advance(0.1)
    probe = breaker.attempt()
    hung.fail()
    info = breaker.info()
    assert (info.state, info.probes, info.totals.failures) == (State.HALF_OPEN, 1, 0)
    probe.succeed()
    assert breaker.call(fine) == "fine"
    assert breaker.state is State.CLOSED
    assert breaker.info().totals.ignored == 1


def test_a_result_from_before_a_transition_moves_nothing(clock: ManualClock) -> None:
    """Trap: a result from before a transition is counted after it."""
    breaker = CircuitBreaker("api", tripper=FailureStreak(2), permit=All(), clock=clock)
    late_failures = [breaker.attempt() for _ in range(4)]
    late_success = breaker.attempt()
    for attempt in late_failures[:2]:
        attempt.fail()
    assert breaker.state is State.OPEN
    clock.advance(60.0)
    probe = breaker.attempt()
    late_success.succeed()  # doesn't close it
    assert breaker.state is State.HALF_OPEN
    probe.succeed()
    for attempt in late_failures[2:]:
        attempt.fail()  # doesn't re-trip it
    info = breaker.info()
    assert (info.state, info.totals.stale, info.metrics.total_count) == (State.CLOSED, 3, 0)


@pytest.mark.parametrize("tripper", [Closed() & FailureStreak(1), FailureStreak(1)])
def test_a_cancelled_probe_proves_nothing(tripper: Tripper, clock: ManualClock) -> None:
    """Trap: a cancelled half-open call closes the circuit, or trips it."""
    breaker = half_open(clock, tripper=tripper)
    _cancelled(breaker)
    info = breaker.info()
    assert (info.state, info.reopens, info.totals.cancelled) == (State.HALF_OPEN, 0, 1)


def test_an_ignored_exception_is_no_success() -> None:
    """Trap: an ignored exception counts as success and zeroes the streak."""
    breaker = CircuitBreaker("api", tripper=FailureStreak(3), tracker=~TypeOf(Ignored))
    fail_through(breaker)
    fail_through(breaker)
    _untracked(breaker)
    metrics = breaker.info().metrics
    assert (metrics.failure_streak, metrics.total_count) == (2, 2)
    fail_through(breaker)
    assert breaker.state is State.OPEN


def test_closed_and_reopens(clock: ManualClock) -> None:
    """Trap: `Closed() & …` never re-opens from HALF_OPEN."""
    breaker = half_open(clock, tripper=Closed() & MinRequests(10) & FailureRate(0.5))
    fail_through(breaker)
    info = breaker.info()
    assert (info.state, info.reopens) == (State.OPEN, 1)


def test_a_ramp_does_not_close_on_its_first_probe(clock: ManualClock) -> None:
    """Trap: a ramp closes on its first probe."""
    tripper = MinRequests(3) & ((Closed() & FailureRate(0.6)) | (HalfOpened() & FailureRate(0.5)))
    permit = RampUp(initial=0.1, final=0.8, duration=60.0)
    breaker = half_open(clock, tripper=tripper, permit=permit, dice=lambda: 0.0)
    states = []
    for _ in range(3):
        breaker.call(fine)
        states.append(breaker.state)
    assert states == [State.HALF_OPEN, State.HALF_OPEN, State.CLOSED]


def test_half_open_does_not_let_everybody_through(clock: ManualClock) -> None:
    """Trap: half-open lets everybody through."""
    throws = iter([0.0, 0.49, 0.5, 0.99])
    breaker = half_open(clock, permit=Random(0.5), dice=lambda: next(throws))
    admitted = []
    for _ in range(4):
        try:
            breaker.attempt().ignore()
            admitted.append(True)
        except CallNotPermittedError:
            admitted.append(False)
    assert admitted == [True, True, False, False]


def test_half_open_does_not_queue_callers(clock: ManualClock) -> None:
    """Trap: half-open queues callers behind a slow probe."""
    breaker = half_open(clock, max_half_open_calls=1, tripper=Closed() & FailureStreak(1))
    entered, leave = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        assert leave.wait(PATIENCE)

    thread = threading.Thread(target=breaker.call, args=(slow,), daemon=True)
    thread.start()
    assert entered.wait(PATIENCE)
    with pytest.raises(CallNotPermittedError) as refusal:  # at once: the probe is still there
        breaker.call(fine)
    assert refusal.value.retry_after is None
    assert breaker.info().probes == 1
    leave.set()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("retry", [Cooldown(100.0, 0.5), Backoff(100.0, jitter_ratio=0.5)])
def test_jitter_is_drawn_once_per_opening(retry: Cooldown | Backoff, clock: ManualClock) -> None:
    """Trap: jitter drawn per call: the earliest draw wins, so jitter tightens the herd."""
    throws = [0.9, 0.0, 0.0, 0.0]
    breaker = CircuitBreaker(
        "api",
        tripper=FailureStreak(1),
        retry=retry,
        permit=All(),
        clock=clock,
        dice=lambda: throws.pop(0),
    )
    fail_through(breaker)
    for waited, step in ((0.0, 0.0), (50.0, 50.0), (100.0, 50.0), (139.0, 39.0)):
        clock.advance(step)
        with pytest.raises(CallNotPermittedError) as refusal:
            breaker.call(fine)
        assert refusal.value.retry_after == pytest.approx(140.0 - waited)
    clock.advance(1.5)
    assert breaker.call(fine) == "fine"
    assert throws == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_the_wall_clock_moves_nothing(
    jump: float, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: the wall clock moved: opens early, or stays shut for an hour."""
    wall = [time.time()]
    monkeypatch.setattr(time, "time", lambda: wall[0])
    breaker = CircuitBreaker(
        "api", tripper=FailureStreak(1), window=TimeWindow(60.0), permit=All(), clock=clock
    )
    breaker.call(fine)
    wall[0] += jump
    assert breaker.info().metrics.total_count == 1
    fail_through(breaker)
    wall[0] += jump
    clock.advance(59.0)
    with pytest.raises(CallNotPermittedError) as refusal:
        breaker.call(fine)
    assert refusal.value.retry_after == pytest.approx(1.0)
    clock.advance(1.0)
    assert breaker.call(fine) == "fine"


def test_stale_buckets_stop_counting(clock: ManualClock) -> None:
    """Trap: stale time buckets keep counting, so that old successes hide an outage."""
    breaker = CircuitBreaker(
        "api",
        window=TimeWindow(10.0, buckets=10),
        tripper=MinRequests(4) & FailureRate(0.5),
        clock=clock,
    )
    for _ in range(100):
        breaker.call(fine)
    clock.advance(3600.0)
    assert breaker.info().metrics.total_count == 0  # forgotten on read, too
    for _ in range(4):
        fail_through(breaker)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize("window", [CountWindow(3), TimeWindow(3.0, buckets=3)])
def test_running_sums_do_not_drift(window: CountWindow | TimeWindow) -> None:
    """Trap: running float sums drift."""
    now = [0.0]
    breaker = CircuitBreaker(
        "api", window=window, tripper=FailureRate(1.0) & SlowRate(1.0, 1e9), clock=lambda: now[0]
    )
    for number in range(10_000):
        breaker.attempt().succeed(elapsed=1e5 / (number % 7 + 1) if number % 3 == 0 else 0.1)
        now[0] += 1.0
    for _ in range(3):
        breaker.attempt().fail(elapsed=0.1)
        now[0] += 1.0
    now[0] -= 1.0
    assert breaker.info().metrics.avg_duration == pytest.approx(0.1, rel=1e-9)


def test_a_timeout_is_slow(clock: ManualClock) -> None:
    """Trap: failed calls have no duration, so a timeout is never slow."""
    breaker = CircuitBreaker("api", tripper=MinRequests(2) & SlowRate(1.0, 5.0), clock=clock)

    def time_out() -> None:
        clock.advance(5.0)
        raise TimeoutError

    for _ in range(2):
        with pytest.raises(TimeoutError):
            breaker.call(time_out)
    info = breaker.info()
    assert info.state is State.OPEN
    assert info.totals.slow_counts == {5.0: 2}
    assert info.totals.duration == pytest.approx(10.0)


def test_disable_during_a_failing_call() -> None:
    """Trap: `disable()` during a failing call ends up `open`."""
    breaker = CircuitBreaker("api", tripper=FailureStreak(1))

    def disabled_meanwhile() -> None:
        breaker.disable()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        breaker.call(disabled_meanwhile)
    assert breaker.state is State.DISABLED
    fail_through(breaker)
    assert (breaker.state, breaker.info().totals.failures) == (State.DISABLED, 0)


def test_reset_of_a_closed_circuit_is_no_news() -> None:
    """Trap: `reset()` emits closed → closed."""
    heard: list[Signal] = []
    breaker = CircuitBreaker("api", listeners=[heard.append])
    fail_through(breaker)
    breaker.reset()
    assert heard == []
    assert breaker.info().metrics.total_count == 0  # but it did reset


# -- callers


def test_a_block_is_refused() -> None:
    """Trap: `with breaker:` that never refuses."""
    breaker = CircuitBreaker("api", initial_state=State.FORCED_OPEN)
    entered: list[str] = []
    with pytest.raises(CallNotPermittedError), breaker:
        entered.append("sync")

    async def block() -> None:
        async with breaker.to_async():
            entered.append("async")

    with pytest.raises(CallNotPermittedError):
        block().send(None)
    assert entered == []
    assert breaker.info().totals.rejected == 2


def test_a_generator_is_protected(clock: ManualClock) -> None:
    """Trap: generators unprotected: what they raise later is never seen, nor how long it took."""
    breaker = CircuitBreaker(
        "api", tripper=FailureStreak(2) | SlowRate(1.0, 5.0), window=CountWindow(3), clock=clock
    )

    @breaker
    def items() -> Iterator[int]:
        clock.advance(1.0)
        yield 1
        clock.advance(100.0)  # the reader's time, not the dependency's
        raise ConnectionError

    for _ in range(2):
        assert breaker.state is State.CLOSED
        with pytest.raises(ConnectionError):
            list(items())
    assert breaker.info().totals.failures == 2
    assert breaker.info().totals.duration == pytest.approx(2.0)
    stream = items()  # nothing is asked before the first item
    with pytest.raises(CallNotPermittedError):
        next(stream)


def test_a_generator_that_is_closed_early_proves_nothing(clock: ManualClock) -> None:
    """Trap: generators unprotected: one that is left early keeps its slot, or gets a verdict."""
    breaker = half_open(clock, max_half_open_calls=1, tripper=Closed() & FailureStreak(1))

    @breaker
    def items() -> Iterator[int]:
        yield 1
        yield 2

    stream = items()
    assert next(stream) == 1
    with pytest.raises(CallNotPermittedError):
        next(items())
    stream.close()  # type: ignore[attr-defined]
    assert next(items()) == 1  # and this one is dropped
    info = breaker.info()
    assert (info.state, info.probes, info.totals.ignored) == (State.HALF_OPEN, 0, 2)
    assert list(items()) == [1, 2]
    assert breaker.state is State.CLOSED


def test_an_async_generator_is_protected() -> None:
    """Trap: async generators unprotected."""
    breaker = AsyncCircuitBreaker("api", tripper=FailureStreak(1))

    @breaker
    async def items() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError

    async def read() -> None:
        async for _ in items():
            pass

    with pytest.raises(ConnectionError):
        read().send(None)
    assert breaker.state is State.OPEN
    with pytest.raises(CallNotPermittedError):
        read().send(None)


def test_async_work_under_a_sync_breaker_is_refused() -> None:
    """Trap: `async def` under a sync breaker counted as success at creation."""
    breaker = CircuitBreaker("api")

    async def work() -> None: ...

    with pytest.raises(TypeError, match="use AsyncCircuitBreaker"):
        breaker(work)
    with pytest.raises(TypeError, match="use AsyncCircuitBreaker"):
        breaker.call(work)
    with pytest.raises(TypeError, match="use CircuitBreaker"):
        breaker.to_async()(fine)
    totals = breaker.info().totals
    assert totals.successes == totals.failures == 0


class Faulty(Tripper):
    def fires(self, metrics: object) -> bool:
        raise ZeroDivisionError


class FaultyPermit(Permit):
    def ratio(self, elapsed: float) -> float:
        raise ZeroDivisionError


def bug(*_: object) -> bool:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"tracker": Custom(bug)}, id="tracker"),
        pytest.param({"tripper": Faulty()}, id="tripper"),
        pytest.param({"tripper": FailureStreak(1), "listeners": [bug]}, id="listener"),
    ],
)
def test_the_callers_error_arrives_whatever_breaks(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Trap: the breaker's own error replaces the caller's."""
    breaker = CircuitBreaker("api", **settings)
    error = ConnectionError("the caller's own")
    with pytest.raises(ConnectionError) as caught:
        breaker.call(_raise, error)
    assert caught.value is error
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"result_tracker": bug}, id="result tracker"),
        pytest.param({"tripper": Faulty()}, id="tripper"),
        pytest.param({"permit": FaultyPermit(), "listeners": [bug]}, id="permit and listener"),
    ],
)
def test_a_good_result_arrives_whatever_breaks(
    settings: dict[str, Any], clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap: a raising tracker, tripper or listener loses a good result."""
    result = object()
    breaker = half_open(clock, **settings)
    assert breaker.call(lambda: result) is result
    breaker.reset()
    assert breaker.call(lambda: result) is result
    assert "ZeroDivisionError" in caplog.text


def test_a_refusal_by_another_circuit_is_ignored() -> None:
    """Trap: the breaker's own error counts as the dependency's: nested breakers open in a row."""
    inner = CircuitBreaker("inner", initial_state=State.FORCED_OPEN)
    outer = CircuitBreaker("outer", tripper=FailureStreak(1))
    with pytest.raises(CallNotPermittedError, match="'inner'") as caught:
        outer.call(inner.call, fine)
    with pytest.raises(ExceptionGroup):
        outer.call(_raise, ExceptionGroup("both", [caught.value, caught.value]))
    info = outer.info()
    assert (info.state, info.totals.ignored, info.totals.failures) == (State.CLOSED, 2, 0)


def test_a_fallback_is_not_asked_after_a_good_result() -> None:
    """Trap: a raising fallback loses a good result; and what it raises is what the caller gets."""
    breaker = CircuitBreaker("api")
    assert breaker.call_with_fallback(fine, bug) == "fine"  # type: ignore[arg-type]
    assert breaker(fallback=bug)(fine)() == "fine"
    with pytest.raises(ZeroDivisionError) as caught:
        breaker.call_with_fallback(fail, bug)
    assert isinstance(caught.value.__context__, ConnectionError)
    assert breaker.info().totals.failures == 1  # the call's; the fallback is not counted


def test_a_fallback_gets_every_exception_and_nothing_else() -> None:
    """Trap: a fallback swallows programming errors silently. The seed's get every `Exception`, as
    its docstring says; an interrupt or a cancellation never."""
    breaker = CircuitBreaker("api", tracker=TypeOf(ConnectionError), tripper=FailureStreak(1))
    given: list[Exception] = []

    def note(error: Exception) -> None:
        given.append(error)

    for error in (TypeError("a bug"), ConnectionError("down"), ConnectionError("refused")):
        breaker.call_with_fallback(_raise, note, error)
    assert [type(error) for error in given] == [TypeError, ConnectionError, CallNotPermittedError]
    breaker.reset()
    with pytest.raises(KeyboardInterrupt):
        breaker.call_with_fallback(_raise, note, KeyboardInterrupt())
    assert len(given) == 3
    for documented in (CircuitBreaker.call_with_fallback, AsyncCircuitBreaker.call_with_fallback):
        assert "programming errors" in (documented.__doc__ or "")


def test_an_async_fallback_is_awaited() -> None:
    """Trap: an async fallback never awaited; a sync breaker, which can't, refuses it."""
    breaker = AsyncCircuitBreaker("api")

    async def work() -> str:
        raise ConnectionError

    async def fallback(error: Exception) -> str:
        return f"awaited {type(error).__name__}"

    for call in (breaker(fallback=fallback)(work)(), breaker.call_with_fallback(work, fallback)):
        with pytest.raises(StopIteration, match="awaited ConnectionError"):
            call.send(None)
    with pytest.raises(TypeError, match="AsyncCircuitBreaker"):
        breaker.to_sync()(fallback=fallback)(fail)


def test_no_lock_is_held_through_the_call() -> None:
    """Trap: a lock held through the call serialises every thread."""
    breaker = CircuitBreaker("api")
    all_inside = threading.Barrier(3)
    threads = [
        threading.Thread(target=breaker.call, args=(all_inside.wait, PATIENCE), daemon=True)
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    breaker.call(all_inside.wait, PATIENCE)  # a third; BrokenBarrierError if they take turns
    for thread in threads:
        thread.join(PATIENCE)
    assert breaker.info().totals.successes == 3


def test_a_listener_may_call_back() -> None:
    """Trap: a listener called under the lock deadlocks when it calls back; here even when it
    leaves that to another thread and waits for it."""
    seen: list[State] = []

    def listener(_: Signal) -> None:
        def look() -> None:
            with pytest.raises(CallNotPermittedError):
                breaker.call(fine)
            seen.append(breaker.info().state)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(PATIENCE)

    breaker = CircuitBreaker("api", tripper=FailureStreak(1), listeners=[listener])
    fail_through(breaker)
    assert seen == [State.OPEN]


def test_settling_never_awaits() -> None:
    """Trap: `await` in an `except` block inside a cancelled scope raises again. A breaker's own
    code gives the loop nothing but what the call itself gives it."""
    breaker = AsyncCircuitBreaker("api", tripper=FailureStreak(1))
    marker = SimpleNamespace()

    class Once:
        def __await__(self) -> Any:
            yield marker

    async def work() -> None:
        await Once()
        raise ConnectionError

    async def block() -> None:
        async with breaker:
            await work()

    for coroutine in (breaker.call(work), breaker(work)(), block()):
        breaker.reset()
        assert coroutine.send(None) is marker
        with pytest.raises(ConnectionError):
            coroutine.send(None)
        assert breaker.state is State.OPEN
