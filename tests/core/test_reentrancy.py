"""Code that comes between: finalisers and signal handlers, inside a circuit's own lock.

A tripper is the one piece of handed-in code that runs under the lock. `Inside` is such a tripper:
it lets a test stand where the garbage collector or a signal handler might, with no luck needed.
The tests with a real collector and a real timer come after those with it.
"""

from __future__ import annotations

import faulthandler
import gc
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    Attempt,
    CallNotPermittedError,
    CircuitBreaker,
    Info,
    Metrics,
    Signal,
    State,
)
from fluxgate._engine.circuit import Circuit, inside_a_circuit
from fluxgate._engine.machine import Machine
from fluxgate.permits import All
from fluxgate.testing import RecordedSignals
from fluxgate.trippers import FailureRate, FailureStreak, SlowRate, Tripper

PATIENCE = 30.0
NEVER_FIRES = FailureRate(1.0) & SlowRate(1.0, 3600.0)


class Inside(Tripper):
    """Never fires; does what it is told while it is asked, which is under the lock."""

    def __init__(self) -> None:
        self.actions: list[Callable[[], object]] = []

    def fires(self, metrics: Metrics) -> bool:
        while self.actions:
            self.actions.pop(0)()
        return False


class Hang(BaseException):
    """The main thread did not get on."""


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    """Get the main thread out of a deadlock: waiting for a lock ends when a handler raises."""

    def bark(*_: object) -> None:
        raise Hang

    if not hasattr(signal, "pthread_kill"):
        pytest.skip("no way to interrupt a main thread that waits for a lock")
    main = threading.main_thread().ident
    assert main is not None
    old = signal.signal(signal.SIGUSR1, bark)
    timer = threading.Timer(2 * PATIENCE, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()
    timer.join()
    signal.signal(signal.SIGUSR1, old)


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


def fail() -> None:
    raise ConnectionError


def fail_through(breaker: CircuitBreaker) -> None:
    with pytest.raises(ConnectionError):
        breaker.call(fail)


def fine() -> str:
    return "fine"


# -- inside the lock of one's own circuit


def test_calls_from_inside_are_made_and_counted() -> None:
    """A success and a failure, through both fronts, while the circuit decides."""
    inside = Inside()
    breaker = CircuitBreaker("busy", tripper=inside)
    answers: list[object] = []

    async def afine() -> str:
        return "async"

    def call_async() -> None:
        shared: AsyncCircuitBreaker = breaker.to_async()
        try:
            shared.call(afine).send(None)
        except StopIteration as end:
            answers.append(end.value)

    inside.actions.extend(
        [
            lambda: answers.append(breaker.call(fine)),
            lambda: fail_through(breaker),
            call_async,
        ]
    )
    fail_through(breaker)
    totals = breaker.info().totals
    assert answers == ["fine", "async"]
    assert (totals.successes, totals.failures, totals.settled) == (2, 2, 4)


def test_settlements_from_inside_go_to_the_inbox_and_are_counted() -> None:
    """Every way to settle, and an attempt that is dropped; the lock is never waited for."""
    inside = Inside()
    breaker = CircuitBreaker("busy", tripper=inside)
    attempts = [breaker.attempt() for _ in range(4)]
    kept: list[Attempt] = []
    inside.actions.extend(
        [
            attempts.pop(0).succeed,
            attempts.pop(0).fail,
            attempts.pop(0).ignore,
            attempts.clear,  # the last one dies here
            lambda: kept.append(breaker.attempt()),
        ]
    )
    fail_through(breaker)
    kept[0].succeed()
    totals = breaker.info().totals
    assert (totals.successes, totals.failures, totals.ignored) == (2, 2, 2)


@pytest.mark.parametrize("looked_before", [True, False], ids=["seen", "never seen"])
def test_info_from_inside_is_the_last_picture(looked_before: bool) -> None:
    """Nothing half-done shows, and looking disturbs nothing."""
    inside = Inside()
    breaker = CircuitBreaker("busy", tripper=inside)
    pictures: list[Info] = []
    if looked_before:
        breaker.call(fine)
        before = breaker.info()
    inside.actions.append(lambda: pictures.append(breaker.info()))
    fail_through(breaker)
    assert len(pictures) == 1
    assert pictures[0].name == "busy"
    assert pictures[0].state is State.CLOSED
    if looked_before:
        assert pictures[0] == before
    assert breaker.info().totals.failures == 1


@pytest.mark.parametrize(
    ("control", "state"),
    [
        ("reset", State.CLOSED),
        ("force_open", State.FORCED_OPEN),
        ("disable", State.DISABLED),
        ("metrics_only", State.METRICS_ONLY),
    ],
)
def test_controls_from_inside_take_effect_before_the_call_is_over(
    control: str, state: State
) -> None:
    inside = Inside()
    heard: list[State] = []
    breaker = CircuitBreaker(
        "busy", tripper=inside, listeners=[lambda signal: heard.append(signal.new_state)]
    )
    inside.actions.append(getattr(breaker, control))
    fail_through(breaker)
    assert breaker.state is state
    assert heard == ([] if state is State.CLOSED else [state])


def test_open_for_and_update_from_inside() -> None:
    inside = Inside()
    breaker = CircuitBreaker("busy", tripper=inside)
    inside.actions.extend(
        [
            lambda: breaker.update(tripper=FailureStreak(3)),
            lambda: breaker.open_for(60.0),
        ]
    )
    fail_through(breaker)
    assert breaker.state is State.OPEN
    assert breaker.policy.tripper == FailureStreak(3)


def test_no_probe_is_taken_from_inside() -> None:
    """Who stands inside a half-open circuit's lock is refused, and its slot stays free."""
    inside = Inside()
    now = [0.0]
    breaker = CircuitBreaker("busy", tripper=inside, permit=All(), clock=lambda: now[0])
    breaker.open_for(1.0)
    now[0] = 1.0
    refusals: list[CallNotPermittedError] = []

    def knock() -> None:
        with pytest.raises(CallNotPermittedError) as caught:
            breaker.attempt()
        refusals.append(caught.value)

    probe = breaker.attempt()
    inside.actions.append(knock)
    probe.succeed()
    assert [refusal.state for refusal in refusals] == [State.HALF_OPEN]
    info = breaker.info()
    assert (info.state, info.probes) == (State.CLOSED, 0)
    assert (info.totals.rejected, info.totals.successes) == (1, 1)


@pytest.mark.parametrize(
    ("control", "passes"), [("disable", True), ("metrics_only", True), ("force_open", False)]
)
def test_a_time_that_is_over_from_inside(control: str, passes: bool) -> None:
    """Nobody can end the state there: calls pass, or are refused, as they were in it."""
    now = [0.0]
    breaker = CircuitBreaker("busy", clock=lambda: now[0])
    for seconds in (20.0, 10.0):
        getattr(breaker, control)(seconds=seconds)
    now[0] = 10.0
    answers: list[str] = []

    def knock(*_: object) -> None:
        try:
            answers.append(breaker.call(fine))
        except CallNotPermittedError as refusal:
            answers.append(str(refusal.state))

    breaker._circuit.step(knock)
    assert answers == ["fine" if passes else "forced_open"]
    assert breaker.info().state is (State.CLOSED if passes else State.HALF_OPEN)


def test_a_restore_from_inside() -> None:
    """It is done as soon as the lock is free."""
    other = CircuitBreaker("busy")
    other.open_for(60.0)
    saved = other.info().save()
    breaker = CircuitBreaker("busy", listeners=[signals := RecordedSignals()])
    answers: list[bool] = []
    breaker._circuit.step(lambda *_: answers.append(breaker.restore(saved)))
    assert answers == [True]
    assert breaker.state is State.OPEN
    assert [signal.new_state for signal in signals] == [State.OPEN]


def test_numbers_after_an_interrupt() -> None:
    """A step that was broken off between a record and its count: the counts are derived anew."""
    breaker = CircuitBreaker("busy", tripper=NEVER_FIRES)
    for _ in range(3):
        fail_through(breaker)

    def interrupted(machine: Machine, _: float) -> None:
        machine.phase.tally.failure_count = 99
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaker._circuit.step(interrupted)
    metrics = breaker._circuit._machine.phase.tally.snapshot()
    assert (metrics.failure_count, metrics.total_count) == (3, 3)


def test_what_moves_nothing_waits_for_nobody() -> None:
    """A cancelled call is settled though another thread holds the lock, and counted later."""
    inside, entered, let_go = Inside(), threading.Event(), threading.Event()
    breaker = CircuitBreaker("busy", tripper=inside)
    waited: list[bool] = []

    def holds() -> None:
        entered.set()
        waited.append(let_go.wait(PATIENCE))

    def interrupted() -> None:
        raise KeyboardInterrupt

    def calls() -> None:
        assert entered.wait(PATIENCE)
        with pytest.raises(KeyboardInterrupt):
            breaker.call(interrupted)
        let_go.set()

    inside.actions.append(holds)
    at_once(lambda: fail_through(breaker), calls)
    assert waited == [True]
    totals = breaker.info().totals
    assert (totals.failures, totals.cancelled) == (1, 1)


@pytest.mark.parametrize("move", ["trip", "control"])
def test_signals_wait_for_another_circuits_lock(move: str) -> None:
    """A finaliser inside one circuit moves a second: its listeners are called outside of both."""
    inside = Inside()
    outer = CircuitBreaker("outer", tripper=inside)
    places: list[bool] = []
    inner = CircuitBreaker(
        "inner",
        tripper=FailureStreak(1),
        listeners=[lambda _: places.append(inside_a_circuit())],
    )
    inside.actions.append(inner.force_open if move == "control" else lambda: fail_through(inner))
    fail_through(outer)
    assert places == [False]
    assert inner.state is (State.FORCED_OPEN if move == "control" else State.OPEN)


# -- inside the lock of one circuit, with the other busy


def drop_a_cycle(breaker: CircuitBreaker) -> Callable[[], object]:
    """Leave an attempt in a cycle, which only the collector finds; gives what makes it look."""

    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.attempt = breaker.attempt()

    Cycle()
    return gc.collect


REACHES: dict[str, tuple[Callable[[CircuitBreaker], Callable[[], object]], str | None]] = {
    "orphan": (drop_a_cycle, "ignored"),
    "call": (lambda other: lambda: other.call(fine), "successes"),
    "failing call": (lambda other: lambda: fail_through(other), "failures"),
    "settlement": (lambda other: other.attempt().succeed, "successes"),
    "info": (lambda other: other.info, None),
    "reset": (lambda other: other.reset, None),
    "open_for": (lambda other: lambda: other.open_for(60.0), None),
}


@pytest.mark.parametrize("action", REACHES)
def test_two_circuits_reach_for_each_other_from_inside(action: str) -> None:
    """Each thread holds one lock and wants the other: neither waits, and nothing is lost."""
    reach, outcome = REACHES[action]
    insides = Inside(), Inside()
    breakers = [CircuitBreaker(f"busy {n}", tripper=insides[n]) for n in range(2)]
    both_inside = threading.Barrier(2)

    def meet() -> None:
        both_inside.wait(PATIENCE)

    for inside, other in zip(insides, reversed(breakers), strict=True):
        # Both are inside, reach over, and stay until both have done so.
        inside.actions.extend([meet, reach(other), meet])

    at_once(*(lambda breaker=breaker: fail_through(breaker) for breaker in breakers))

    expected = {"failures": 1, "successes": 0, "ignored": 0}
    if outcome is not None:
        expected[outcome] += 1
    for breaker in breakers:
        info = breaker.info()
        assert {name: getattr(info.totals, name) for name in expected} == expected
        assert info.state is (State.OPEN if action == "open_for" else State.CLOSED)


def test_an_attempt_dies_under_a_lock_that_another_thread_waits_for() -> None:
    """Its finaliser leaves a note; the thread that waits goes on as soon as the lock is free."""
    inside = Inside()
    breaker = CircuitBreaker("busy", tripper=inside)
    attempts = [breaker.attempt()]
    held, waiting = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        assert waiting.wait(PATIENCE)
        attempts.clear()

    def other() -> None:
        assert held.wait(PATIENCE)
        waiting.set()
        fail_through(breaker)

    inside.actions.append(hold)
    at_once(lambda: fail_through(breaker), other)
    totals = breaker.info().totals
    assert (totals.failures, totals.ignored) == (2, 1)


# -- a real collector


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Collect garbage at every opportunity."""
    threshold = gc.get_threshold()
    gc.collect()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*threshold)
    gc.collect()


class Orphan:
    """A cycle that does something to a breaker when the collector finds it, or drops an attempt."""

    def __init__(self, last_words: Callable[[], object], attempt: Attempt | None = None) -> None:
        self.me = self
        self.attempt = attempt
        self.last_words = last_words

    def __del__(self) -> None:
        self.last_words()


@pytest.mark.usefixtures("eager_collector")
def test_finalisers_call_read_and_settle() -> None:
    """The collector runs all the time, inside the lock, too; every call is counted once."""
    breaker = CircuitBreaker("collected", tripper=NEVER_FIRES)
    said: list[str] = []

    def call() -> None:
        breaker.call(fine)
        said.append("success")

    def failing_call() -> None:
        try:
            breaker.call(fail)
        except ConnectionError:
            said.append("failure")

    def look() -> None:
        assert breaker.info().name == "collected"
        said.append("look")

    rounds = 1_000
    for _ in range(rounds):
        attempt = breaker.attempt()
        for last_words in (call, failing_call, look, attempt.succeed, attempt.fail):
            Orphan(last_words)
        Orphan(lambda: None, breaker.attempt())
        del attempt, last_words
        try:
            breaker.call(fail)
        except ConnectionError:
            breaker.call(fine)
    gc.collect()

    assert {word: said.count(word) for word in said} == dict.fromkeys(
        ("success", "failure", "look"), rounds
    )
    totals = breaker.info().totals
    assert totals.settled == 6 * rounds
    # One attempt a round is dropped. Of the other, its own finaliser may come before its orphans'.
    assert rounds <= totals.ignored <= 2 * rounds
    assert totals.successes >= 2 * rounds
    assert totals.failures >= 2 * rounds


@pytest.mark.usefixtures("eager_collector")
def test_orphans_of_two_circuits_die_under_each_others_lock() -> None:
    """Two threads use two circuits, and leave garbage whose finaliser calls the other one."""
    rounds = 2_000
    breakers = [CircuitBreaker(f"parent {n}", tripper=NEVER_FIRES) for n in range(2)]
    calls = [0, 0]
    said: list[int] = []

    def thread(mine: int) -> None:
        breaker, other = breakers[mine], breakers[1 - mine]

        def last_words() -> None:
            other.info()
            try:
                other.call(fail)
            except ConnectionError:
                said.append(1 - mine)

        for _ in range(rounds):
            calls[mine] += 1
            try:
                breaker.call(fail)
            except ConnectionError:
                Orphan(last_words)
                Orphan(lambda: None, other.attempt())

    at_once(lambda: thread(0), lambda: thread(1))
    gc.collect()
    assert calls == [rounds, rounds]
    for n, breaker in enumerate(breakers):
        totals = breaker.info().totals
        assert totals.failures == rounds + said.count(n)
        assert totals.ignored == rounds
        assert said.count(n) == rounds


# -- a real signal handler


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer here")
def test_a_signal_handler_uses_the_circuit_it_interrupts() -> None:
    """Every millisecond a handler calls, fails and reads; not one call is lost or doubled."""
    heard: list[Signal] = []
    breaker = CircuitBreaker("interrupted", tripper=NEVER_FIRES, listeners=[heard.append])
    handled = [0]
    errors: list[BaseException] = []

    def handler(*_: object) -> None:
        try:
            handled[0] += 1
            breaker.call(fine)
            with suppress(ConnectionError):
                breaker.call(fail)
            breaker.attempt()  # dropped
            breaker.info()
        except BaseException as error:
            errors.append(error)

    made = 0
    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while handled[0] < 500:
            made += 1
            breaker.call(fine)
            try:
                breaker.call(fail)
            except ConnectionError:
                breaker.info()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, old)
    assert errors == []
    totals = breaker.info().totals
    assert totals.successes == totals.failures == made + handled[0]
    assert totals.ignored == handled[0]
    assert heard == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer here")
def test_a_signal_handler_moves_the_circuit_it_interrupts() -> None:
    """It opens and resets; listeners hear each move, and refusals and calls add up."""
    heard: list[Signal] = []
    breaker = CircuitBreaker("moved", tripper=FailureStreak(3), listeners=[heard.append])
    handled = [0]
    errors: list[BaseException] = []

    def handler(*_: object) -> None:
        try:
            handled[0] += 1
            (breaker.force_open if handled[0] % 2 else breaker.reset)()
        except BaseException as error:
            errors.append(error)

    made = refused = 0
    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while handled[0] < 400:
            try:
                breaker.call(fail)
            except ConnectionError:
                made += 1
            except CallNotPermittedError:
                refused += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, old)
    assert errors == []
    info = breaker.info()
    assert (info.totals.settled, info.totals.rejected) == (made, refused)
    states = [State.CLOSED, *(signal.new_state for signal in heard)]
    assert [signal.old_state for signal in heard] == states[:-1]
    # Half of the 400; fewer, as one handler may interrupt another before it has done its part.
    assert states.count(State.FORCED_OPEN) >= 100
    assert states[-1] is info.state


def test_a_note_at_each_moment_of_emptying() -> None:
    """A finaliser or another thread leaves a note while the inbox is being emptied."""
    place, came = 0, True
    while came:
        came = note_comes_at(place)
        place += 1
    assert place > 10


def note_comes_at(place: int) -> bool:
    """Whether the inbox was emptied as far as that bytecode, when an attempt was dropped."""
    breaker = CircuitBreaker("x")
    attempts = [breaker.attempt(), breaker.attempt()]
    attempts.pop().ignore()
    left = place

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code is not Circuit._catch_up.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0 and attempts:
                attempts.pop().ignore()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        breaker.attempt().fail("down")
    finally:
        sys.settrace(before)
    came = not attempts
    attempts.clear()
    totals = breaker.info().totals
    assert (totals.failures, totals.ignored) == (1, 2)
    return came
