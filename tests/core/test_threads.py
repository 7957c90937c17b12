"""Many threads on one circuit: no call is lost, none is counted twice, no signal out of order."""

from __future__ import annotations

import asyncio
import faulthandler
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    Metrics,
    Signal,
    State,
    _log,
)
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock
from fluxgate.trackers import TypeOf
from fluxgate.trippers import FailureRate, FailureStreak, MinRequests, SlowRate, Tripper
from fluxgate.windows import CountWindow, TimeWindow, Window

pytestmark = pytest.mark.slow

THREADS = 8
CALLS = 20_000
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _hasty_switching() -> Iterator[None]:
    """Let the interpreter change threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(*targets: Callable[[], object]) -> None:
    """Run each target in a thread of its own, all together; an error or a hang in one fails."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(targets))

    def run(target: Callable[[], object]) -> None:
        try:
            start.wait(PATIENCE)
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(target,), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        with tempfile.TemporaryFile("w+") as stacks:
            faulthandler.dump_traceback(stacks)
            stacks.seek(0)
            pytest.fail(f"threads hang:\n{stacks.read()}")


class OwnClock(threading.local):
    """A clock of its own for each thread, so that a thread can make its calls slow at will."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Ignored(Exception):
    """What the tracker does not track."""


class Interrupt(BaseException):
    """Ends a call as a cancellation does."""


# -- the front doors of a circuit


def by_decorator(breaker: CircuitBreaker, work: Callable[[str], str]) -> Callable[[str], str]:
    return breaker(work)


def by_call(breaker: CircuitBreaker, work: Callable[[str], str]) -> Callable[[str], str]:
    return lambda kind: breaker.call(work, kind)


def by_block(breaker: CircuitBreaker, work: Callable[[str], str]) -> Callable[[str], str]:
    def run(kind: str) -> str:
        with breaker:
            return work(kind)

    return run


def by_attempt(breaker: CircuitBreaker, work: Callable[[str], str]) -> Callable[[str], str]:
    def run(kind: str) -> str:
        with breaker.attempt():
            return work(kind)

    return run


def by_coroutine(breaker: CircuitBreaker, work: Callable[[str], str]) -> Callable[[str], str]:
    shared: AsyncCircuitBreaker = breaker.to_async()

    @shared
    async def protected(kind: str) -> str:
        return work(kind)

    def run(kind: str) -> str:
        try:
            protected(kind).send(None)
        except StopIteration as end:
            return str(end.value)
        raise AssertionError("it waits for nothing")

    return run


DOORS = (by_decorator, by_call, by_block, by_attempt, by_coroutine)


@pytest.mark.parametrize(
    "window",
    [CountWindow(100), CountWindow(THREADS * CALLS), TimeWindow(100_000.0, buckets=50)],
    ids=["small", "large", "time"],
)
def test_every_call_is_counted_exactly_once(window: Window) -> None:
    """8 threads × 20,000 calls through every front door, one in ten failed, one in twenty slow."""
    clock = OwnClock()
    breaker = CircuitBreaker(
        "exact",
        window=window,
        tracker=~TypeOf(Ignored),
        # It would take a hundred calls in a row that fail and are slow.
        tripper=MinRequests(100) & FailureRate(1.0) & SlowRate(1.0, 1.0),
        clock=clock,
    )

    def work(kind: str) -> str:
        if kind == "slow":
            clock.now += 1.5
        elif kind == "fast":
            clock.now += 0.001
        elif kind == "failing":
            raise ConnectionError
        elif kind == "ignored":
            raise Ignored
        else:
            raise Interrupt
        return kind

    kinds = ["slow", "failing", "failing", "ignored", "cancelled"] + 15 * ["fast"]
    counts = dict.fromkeys(kinds, 0)
    for number in range(CALLS):
        counts[kinds[number % len(kinds)]] += 1

    def caller(door: Callable[..., Callable[[str], str]]) -> None:
        protected = door(breaker, work)
        for number in range(CALLS):
            kind = kinds[number % len(kinds)]
            try:
                assert protected(kind) == kind
            except (ConnectionError, Ignored, Interrupt):
                assert kind in ("failing", "ignored", "cancelled")

    doors = [DOORS[n % len(DOORS)] for n in range(THREADS)]
    at_once(*(lambda door=door: caller(door) for door in doors))

    info = breaker.info()
    totals = info.totals
    recorded = THREADS * (counts["fast"] + counts["slow"] + counts["failing"])
    assert info.state is State.CLOSED
    assert totals.successes == THREADS * (counts["fast"] + counts["slow"])
    assert totals.failures == THREADS * counts["failing"]
    assert totals.ignored == THREADS * counts["ignored"]
    assert totals.cancelled == THREADS * counts["cancelled"]
    assert totals.slow_counts == {1.0: THREADS * counts["slow"]}
    assert totals.stale == totals.rejected == 0
    assert totals.settled == THREADS * CALLS
    assert info.metrics.total_count == min(recorded, window.capacity or recorded)
    if info.metrics.total_count == recorded:
        assert info.metrics.failure_count == totals.failures
        assert info.metrics.slow_counts == totals.slow_counts


def test_rejections_are_counted_exactly() -> None:
    """8 threads × 20,000 refused calls, then one figure."""
    breaker = CircuitBreaker("shut", initial_state=State.FORCED_OPEN)
    calls: list[None] = []
    protected = breaker(lambda: calls.append(None))

    def caller() -> None:
        for _ in range(CALLS):
            try:
                protected()
            except CallNotPermittedError:
                continue
            raise AssertionError("it was let in")

    at_once(*[caller] * THREADS)
    totals = breaker.info().totals
    assert (totals.rejected, totals.settled, calls) == (THREADS * CALLS, 0, [])


def test_totals_equal_the_calls_made_whatever_the_controls_do() -> None:
    """Callers of every outcome, and two threads that turn all the knobs meanwhile."""
    breaker = CircuitBreaker(
        "knobs",
        tracker=~TypeOf(Ignored),
        tripper=MinRequests(5) & FailureRate(0.5),
        retry=Cooldown(0.0001),
        permit=All(),
        window=CountWindow(10),
    )
    admitted: Counter[str] = Counter()
    outcomes = {"failed": ConnectionError, "ignored": Ignored, "cancelled": Interrupt}
    tally = threading.Lock()
    done = threading.Event()
    running = [THREADS - 2]

    def caller(seed: int) -> None:
        chance = random.Random(seed)
        mine: Counter[str] = Counter()

        def work(kind: str) -> str:
            mine["admitted"] += 1
            if kind in outcomes:
                raise outcomes[kind]
            return kind

        protected = DOORS[seed % len(DOORS)](breaker, work)
        try:
            for _ in range(5_000):
                try:
                    protected(chance.choice(["fine", "fine", "fine", *outcomes]))
                except CallNotPermittedError:
                    mine["rejected"] += 1
                except (ConnectionError, Ignored, Interrupt):
                    pass
        finally:
            with tally:
                admitted.update(mine)
                running[0] -= 1
                if not running[0]:
                    done.set()

    def knobs(seed: int) -> None:
        chance = random.Random(seed)
        controls: list[Callable[[], object]] = [
            breaker.reset,
            breaker.reset,
            breaker.force_open,
            breaker.metrics_only,
            lambda: breaker.open_for(0.0001),
            lambda: breaker.update(tripper=MinRequests(3) & FailureRate(0.9)),
            lambda: breaker.update(tripper=MinRequests(5) & FailureRate(0.3)),
            breaker.info,
        ]
        while not done.is_set():
            chance.choice(controls)()

    at_once(
        *(lambda seed=n: caller(seed) for n in range(THREADS - 2)),
        lambda: knobs(101),
        lambda: knobs(102),
    )
    info = breaker.info()
    assert info.totals.settled == admitted["admitted"]
    assert info.totals.rejected == admitted["rejected"]
    assert admitted.total() == (THREADS - 2) * 5_000
    assert info.totals.stale > 0  # or the knobs were never turned under a call
    assert info.probes == 0


@pytest.mark.parametrize("opens", [False, True], ids=["stays closed", "opens"])
def test_fifty_calls_in_flight_when_the_first_failure_comes(opens: bool) -> None:
    """None is lost: they count in the window, or as stale if that failure opened the circuit."""
    tripper = FailureRate(1.0) if opens else MinRequests(100) & FailureRate(1.0)
    breaker = CircuitBreaker("in flight", tripper=tripper)
    inside = threading.Barrier(51)
    failed = threading.Event()

    @breaker
    def slow_to_answer() -> None:
        inside.wait(PATIENCE)
        assert failed.wait(PATIENCE)

    def first_failure() -> None:
        inside.wait(PATIENCE)
        with pytest.raises(ConnectionError):
            breaker.call(fail)
        failed.set()

    at_once(*[slow_to_answer] * 50, first_failure)
    info = breaker.info()
    assert info.totals.failures == 1
    if opens:
        assert (info.state, info.totals.stale, info.totals.successes) == (State.OPEN, 50, 0)
    else:
        assert (info.state, info.totals.stale, info.totals.successes) == (State.CLOSED, 0, 50)
        assert (info.metrics.total_count, info.metrics.failure_count) == (51, 1)


def fail() -> None:
    raise ConnectionError


def test_never_more_probes_than_slots() -> None:
    """8 threads ask at once, time after time; exactly `max_half_open_calls` of them get in."""
    # Without the GIL a barrier of eight can take a busy machine a quarter of a second.
    rounds, slots = 300 if getattr(sys, "_is_gil_enabled", lambda: True)() else 30, 3
    clock = ManualClock()
    breaker = CircuitBreaker(
        "probed",
        tripper=MinRequests(slots) & FailureRate(0.5),
        permit=All(),
        max_half_open_calls=slots,
        clock=clock,
    )
    breaker.open_for(5.0)
    clock.advance(5.0)
    admitted = [0] * rounds
    refusals: list[CallNotPermittedError] = []
    meet = threading.Barrier(THREADS)

    def caller() -> None:
        for number in range(rounds):
            meet.wait(PATIENCE)
            try:
                attempt = breaker.attempt()
            except CallNotPermittedError as error:
                refusals.append(error)
                meet.wait(PATIENCE)
            else:
                assert attempt.probe
                meet.wait(PATIENCE)
                admitted[number] += 1  # only torn if the count were too high
                attempt.ignore()

    at_once(*[caller] * THREADS)
    info = breaker.info()
    assert admitted == [slots] * rounds
    assert {(error.state, error.retry_after) for error in refusals} == {(State.HALF_OPEN, None)}
    assert info.totals.ignored == slots * rounds
    assert info.totals.rejected == (THREADS - slots) * rounds
    assert (info.state, info.probes) == (State.HALF_OPEN, 0)


# -- listeners


def test_listeners_hear_everything_in_order_and_one_at_a_time() -> None:
    """8 threads move the circuit; the listener gives way to others in mid-sentence."""
    heard: list[Signal] = []
    talking = threading.Lock()
    concurrent: list[Signal] = []

    def listener(signal: Signal) -> None:
        if not talking.acquire(blocking=False):
            concurrent.append(signal)
            return
        try:
            time.sleep(0)  # gives way
            heard.append(signal)
        finally:
            talking.release()

    breaker = CircuitBreaker("heard", listeners=[listener])

    def mover() -> None:
        for _ in range(500):
            breaker.force_open()  # each real move begins one generation
            breaker.disable()

    at_once(*[mover] * THREADS)
    assert not concurrent
    # No gap and no swap: 1, 2, 3 …; each starts where the last one ended.
    assert [signal.generation for signal in heard] == list(range(1, len(heard) + 1))
    states = [State.CLOSED, *(signal.new_state for signal in heard)]
    assert [signal.old_state for signal in heard] == states[:-1]
    assert states[-1] is breaker.state
    assert len(heard) > THREADS


def test_a_listener_that_blocks_holds_up_nobody_else() -> None:
    """Others call and move the circuit meanwhile; it hears of that afterwards, in order."""
    heard: list[State] = []
    entered, release = threading.Event(), threading.Event()

    def listener(signal: Signal) -> None:
        if not heard:
            entered.set()
            assert release.wait(PATIENCE)
        heard.append(signal.new_state)

    breaker = CircuitBreaker("blocked", tripper=FailureStreak(1), listeners=[listener])

    def unlucky() -> None:
        with pytest.raises(ConnectionError):
            breaker.call(fail)

    def others() -> None:
        assert entered.wait(PATIENCE)
        try:
            with pytest.raises(CallNotPermittedError):
                breaker.call(fail)
            breaker.reset()
            assert breaker.call(lambda: "fine") == "fine"
            assert breaker.info().totals.successes == 1
            breaker.metrics_only()
            assert heard == []
        finally:
            release.set()

    at_once(unlucky, others)
    assert heard == [State.OPEN, State.CLOSED, State.METRICS_ONLY]


def test_a_listener_that_calls_back() -> None:
    """It resets, reads and calls the circuit it hears of; every move is told, in order."""
    heard: list[Signal] = []
    made: list[str] = []

    def listener(signal: Signal) -> None:
        heard.append(signal)
        if signal.new_state is State.OPEN:
            breaker.reset()
            assert breaker.info().totals.failures > 0
            made.append(breaker.call_with_fallback(lambda: "fine", lambda _: "refused"))

    breaker = CircuitBreaker("called back", tripper=FailureStreak(1), listeners=[listener])
    failed: list[None] = []

    def caller() -> None:
        for _ in range(200):
            with pytest.raises((ConnectionError, CallNotPermittedError)) as raised:
                breaker.call(fail)
            if raised.type is ConnectionError:
                failed.append(None)

    caller()  # alone, it is always closed again at once
    opened, closed = (State.CLOSED, State.OPEN), (State.OPEN, State.CLOSED)
    assert [(signal.old_state, signal.new_state) for signal in heard] == [opened, closed] * 200
    assert made == ["fine"] * 200

    at_once(*[caller] * 4)
    states = [State.CLOSED, *(signal.new_state for signal in heard)]
    assert [signal.old_state for signal in heard] == states[:-1]
    generations = [signal.generation for signal in heard]
    assert generations == sorted(set(generations))
    info = breaker.info()
    assert info.totals.settled == len(failed) + made.count("fine")
    assert info.totals.rejected == 5 * 200 - len(failed) + made.count("refused")


def test_a_listener_that_raises_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The caller's error arrives, the next listener hears all, the log says what happened."""
    heard: list[State] = []

    def broken(signal: Signal) -> None:
        raise ZeroDivisionError(f"at {signal.new_state}")

    breaker = CircuitBreaker(
        "raising",
        tripper=FailureStreak(1),
        listeners=[broken, lambda signal: heard.append(signal.new_state)],
    )

    def caller() -> None:
        for _ in range(50):
            with pytest.raises((ConnectionError, CallNotPermittedError)):
                breaker.call(fail)
            breaker.reset()

    at_once(*[caller] * 4)
    assert heard == [State.OPEN, State.CLOSED] * (len(heard) // 2)
    assert len(heard) >= 2
    (record,) = caplog.records  # the rest is summed up
    assert "broken" in record.getMessage()


class Broken(Tripper):
    """A tripper with a bug, which is asked after every call."""

    def fires(self, metrics: Metrics) -> bool:
        raise ZeroDivisionError("a bug in a tripper")


def test_a_raising_tripper_costs_no_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """8 threads report its faults at once: all are counted, and none reaches the caller."""
    now = [0.0]
    monkeypatch.setattr(_log, "monotonic", lambda: now[0])
    breaker = CircuitBreaker("broken", tripper=Broken())

    def caller() -> None:
        for _ in range(2_000):
            assert breaker.call(lambda: "fine") == "fine"

    at_once(*[caller] * THREADS)
    assert breaker.info().totals.successes == THREADS * 2_000
    assert len(caplog.records) == 1
    now[0] = 60.0
    breaker.call(int)
    assert f"({THREADS * 2_000 - 1} times more" in caplog.records[1].getMessage()


def test_a_settlement_comes_from_any_thread_and_only_the_first_counts() -> None:
    """Eight threads settle the same attempts, each its own way."""
    breaker = CircuitBreaker("settled", tripper=MinRequests(100) & FailureRate(1.0))
    attempts = [breaker.attempt() for _ in range(2_000)]
    ways = ["succeed", "fail", "ignore"]

    def settler(seed: int) -> None:
        for attempt in attempts:
            getattr(attempt, ways[seed % 3])(*([0.001] if seed % 3 == 0 else []))

    at_once(*(lambda seed=n: settler(seed) for n in range(THREADS)))
    totals = breaker.info().totals
    assert totals.settled == 2_000
    assert all(attempt.settled for attempt in attempts)


def test_event_loops_in_threads_share_the_counts() -> None:
    """Eight loops, each with a hundred tasks that yield in mid-call."""
    breaker = AsyncCircuitBreaker("loops", tripper=MinRequests(100) & FailureRate(1.0))

    @breaker
    async def work(number: int) -> int:
        await asyncio.sleep(0)
        if number % 5 == 0:
            raise ConnectionError
        return number

    async def crowd() -> None:
        answers = await asyncio.gather(*map(work, range(100)), return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, int)] == [
            number for number in range(100) if number % 5
        ]

    at_once(*[lambda: asyncio.run(crowd())] * THREADS)
    totals = breaker.info().totals
    assert (totals.successes, totals.failures) == (THREADS * 80, THREADS * 20)
