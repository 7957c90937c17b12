"""`os.fork` in the middle of everything: the child goes on with the state and its own counts."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    Metrics,
    Signal,
    State,
    circuits,
)
from fluxgate._engine import living
from fluxgate._engine.machine import Machine
from fluxgate._locks import ProcessLock
from fluxgate.fleet._doorbell import Doorbell, hang
from fluxgate.permits import All, Permit
from fluxgate.retries import Backoff
from fluxgate.testing import ManualClock, RecordedSignals
from fluxgate.trippers import FailureRate, FailureStreak, MinRequests, Tripper
from fluxgate.windows import TimeWindow

T = TypeVar("T")

PATIENCE = 30.0

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform can't fork")
# Newer Pythons warn of a fork with threads about, which is what these tests are made of.
pytestmark = pytest.mark.filterwarnings(r"ignore:.*multi-threaded.*fork\(\):DeprecationWarning")


def in_child(work: Callable[[], T]) -> T:
    """What `work()` gives in a forked child, picklable; its error, or its hanging, fails here."""
    reader, writer = os.pipe()
    tracer = sys.gettrace()
    sys.settrace(None)  # a coverage tracer has a lock, whose holder the child may lack
    child = os.fork()
    if not child:  # never returns
        try:
            os.close(reader)
            try:
                answer: tuple[bool, Any] = (True, work())
            except BaseException:
                answer = (False, traceback.format_exc())
            os.write(writer, pickle.dumps(answer))
        finally:
            os._exit(0)
    sys.settrace(tracer)
    os.close(writer)
    try:
        if not select.select([reader], [], [], PATIENCE)[0]:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the child hangs")
        with os.fdopen(reader, "rb", closefd=False) as pipe:
            fine, result = pickle.loads(pipe.read())
    finally:
        os.close(reader)
        os.waitpid(child, 0)
    if not fine:
        pytest.fail(f"in the child: {result}")
    return result  # type: ignore[no-any-return]


class Inside(Tripper):
    """Never fires; stays under the circuit's lock until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()

    def fires(self, metrics: Metrics) -> bool:
        if not self.entered.is_set():
            self.entered.set()
            assert self.leave.wait(PATIENCE)
        return False


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` in a thread; it has to be done soon after the block."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the thread hangs"
    if errors:
        raise errors[0]


def fine() -> str:
    return "fine"


def fail() -> None:
    raise ConnectionError


def fail_through(breaker: CircuitBreaker) -> None:
    with pytest.raises(ConnectionError):
        breaker.call(fail)


@needs_fork
def test_the_child_of_a_process_whose_thread_holds_the_lock() -> None:
    """The holder doesn't exist in the child; calls, news and reads go on there all the same."""
    inside = Inside()
    breaker = CircuitBreaker("held", tripper=inside)

    def child() -> tuple[str, int, int, int]:
        assert breaker.info().totals.settled == 0
        answer = breaker.call(fine)
        fail_through(breaker)
        breaker.attempt().ignore()
        totals = breaker.info().totals
        breaker.force_open()
        with pytest.raises(CallNotPermittedError):
            breaker.call(fine)
        return answer, totals.successes, totals.failures, totals.ignored

    with meanwhile(lambda: fail_through(breaker)):
        assert inside.entered.wait(PATIENCE)
        try:
            assert in_child(child) == ("fine", 1, 1, 1)
        finally:
            inside.leave.set()
    info = breaker.info()
    assert (info.state, info.totals.settled, info.totals.failures) == (State.CLOSED, 1, 1)


EARLY = """
import os, threading

def early():  # runs before Fluxgate's own hook, as threading's does, and finalisers inside it
    breaker.attempt().fail()
    breaker.info()

os.register_at_fork(after_in_child=early)

from fluxgate import CircuitBreaker
from fluxgate.trippers import Tripper

class Inside(Tripper):
    def fires(self, metrics):
        if threading.current_thread() is not threading.main_thread():
            entered.set()
            leave.wait(30)
        return False

entered, leave = threading.Event(), threading.Event()
breaker = CircuitBreaker("x", tripper=Inside())
thread = threading.Thread(target=lambda: breaker.attempt().fail())
thread.start()
entered.wait(30)
child = os.fork()
if not child:
    breaker.attempt().succeed()
    os._exit(breaker.info().totals.settled != 1)
leave.set()
thread.join()
raise SystemExit(os.waitpid(child, 0)[1])
"""


@needs_fork
def test_the_child_before_our_hook() -> None:
    """Whoever runs in it earlier meets locks whose holders are not there, and doesn't wait."""
    command = [sys.executable, "-W", "ignore", "-c", EARLY]
    assert subprocess.run(command, timeout=PATIENCE, check=False).returncode == 0


@needs_fork
def test_the_child_starts_with_new_counts() -> None:
    """Also of what lay in the journal, among the refusals, and in the window."""
    breaker = CircuitBreaker("counted", tripper=MinRequests(50) & FailureRate(0.5))
    for _ in range(10):
        breaker.call(fine)
        fail_through(breaker)
    breaker.force_open()
    for _ in range(7):
        with pytest.raises(CallNotPermittedError):
            breaker.call(fine)
    breaker.reset()
    breaker.call(fine)

    def child() -> tuple[int, int, int]:
        info = breaker.info()
        return info.totals.settled, info.totals.rejected, info.metrics.total_count

    assert in_child(child) == (0, 0, 0)
    totals = breaker.info().totals
    assert (totals.settled, totals.rejected) == (21, 7)


@needs_fork
def test_the_child_keeps_state_deadline_and_reopens() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(
        "open",
        tripper=FailureStreak(1),
        retry=Backoff(8.0, multiplier=2.0),
        permit=All(),
        clock=clock,
    )
    fail_through(breaker)
    for delay in (8.0, 16.0):  # two recoveries that fail
        clock.advance(delay)
        fail_through(breaker)
    clock.advance(2.0)
    before = breaker.info()
    assert (before.state, before.reopens, before.retry_after) == (State.OPEN, 2, 30.0)

    def child() -> tuple[object, ...]:
        info = breaker.info()
        with pytest.raises(CallNotPermittedError) as refusal:
            breaker.call(fine)
        clock.advance(30.0)
        recovered = breaker.call(fine)
        return (
            info.state,
            info.reopens,
            info.retry_after,
            info.last_trip == before.last_trip,
            abs(info.since - before.since) < 5.0,
            refusal.value.retry_after,
            recovered,
            breaker.state,
        )

    assert in_child(child) == (State.OPEN, 2, 30.0, True, True, 30.0, "fine", State.CLOSED)
    assert breaker.info().state is State.OPEN  # the parent goes its own way


def seen(breaker: CircuitBreaker) -> tuple[object, ...]:
    info, phase = breaker.info(), breaker._circuit.phase
    return (
        (info.state, info.reopens, info.retry_after, info.open_for, info.reverts_in),
        (str(info.reason), str(info.last_trip)),
        (phase.tripped, phase.event),  # which a fleet goes by
    )


def _by_hand(breaker: CircuitBreaker, clock: ManualClock) -> None:
    breaker.open_for(40.0, note="upgrade")
    clock.advance(8.0)
    breaker.disable(seconds=16.0, by="alice")
    clock.advance(2.0)


def _half_open(breaker: CircuitBreaker, clock: ManualClock) -> None:
    breaker.open_for(8.0)
    clock.advance(16.0)
    breaker.attempt().ignore()


def _failing(breaker: CircuitBreaker, clock: ManualClock) -> None:
    clock.advance(3.0)
    fail_through(breaker)
    fail_through(breaker)


def _tripped(breaker: CircuitBreaker, clock: ManualClock) -> None:
    _failing(breaker, clock)
    fail_through(breaker)
    clock.advance(2.0)


class Elapsed(Permit):
    """Admits every probe, and notes after which time it was asked."""

    def __init__(self, noted: list[float]) -> None:
        self.noted = noted

    def ratio(self, elapsed: float) -> float:
        self.noted.append(elapsed)
        return 1.0


@needs_fork
@pytest.mark.parametrize("prepare", [_by_hand, _half_open, _failing, _tripped])
def test_the_child_goes_on_as_the_parent(
    prepare: Callable[[CircuitBreaker, ManualClock], None],
) -> None:
    """Same deadlines, streak and reasons, and the same follows; its signals go by its own steps."""
    clock, signals = ManualClock(100.0), RecordedSignals()
    noted: list[float] = []
    breaker = CircuitBreaker(
        "forked",
        tripper=FailureStreak(3),
        retry=Backoff(8.0, multiplier=2.0, jitter_ratio=0.0),
        permit=Elapsed(noted),
        window=TimeWindow(1000.0),
        clock=clock,
        listeners=[signals],
    )
    prepare(breaker, clock)
    before, generation = seen(breaker), signals[-1].generation if len(signals) else 0

    def goes_on() -> list[object]:
        lived: list[object] = [seen(breaker)]
        signals.clear()
        noted.clear()
        for _ in range(8):
            try:
                breaker.call(fail)
            except Exception as error:
                lived.append((type(error).__name__, seen(breaker)))
            clock.advance(4.0)
        lived.append([(signal.new_state, str(signal.reason)) for signal in signals])
        lived.append([signal.generation - generation for signal in signals])
        return [*lived, noted]

    child = in_child(goes_on)
    parent = goes_on()
    assert child[0] == before
    assert child[:-2] == parent[:-2]
    assert child[-1] == parent[-1], "permits are asked with the time since the cooldown ended"
    assert child[-2] == [each + 1 for each in parent[-2]], "the fork begins a generation"  # type: ignore[attr-defined]


@needs_fork
@pytest.mark.parametrize("collecting", [True, False])
def test_no_finaliser_comes_between(collecting: bool) -> None:
    """A circuit that begins anew is met by finalisers before or afterwards, never half-way."""
    breaker = CircuitBreaker("collected", tripper=FailureStreak(1))

    class Last:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            breaker.attempt().fail()

    def child() -> tuple[bool, State, int]:
        before = gc.isenabled()
        gc.set_threshold(1)
        Last()
        living._restart()  # as the fork has done, but now there is something to collect
        restored = gc.isenabled() is before
        gc.collect()
        return restored, breaker.state, breaker.info().totals.failures

    was = gc.isenabled()
    gc.collect()
    try:
        (gc.enable if collecting else gc.disable)()
        assert in_child(child) == (True, State.OPEN, 1)
    finally:
        (gc.enable if was else gc.disable)()


@needs_fork
def test_the_parents_probes_take_no_slots_in_the_child() -> None:
    """And what the parent had in flight moves nothing there."""
    clock = ManualClock()
    breaker = CircuitBreaker("probed", permit=All(), max_half_open_calls=2, clock=clock)
    breaker.open_for(1.0)
    clock.advance(1.0)
    probes = [breaker.attempt(), breaker.attempt()]
    with pytest.raises(CallNotPermittedError):
        breaker.attempt()

    def child() -> tuple[object, ...]:
        before = breaker.info()
        for probe in probes:
            probe.fail()  # the parent's
        after = breaker.info()
        mine = [breaker.attempt(), breaker.attempt()]
        assert all(attempt.probe for attempt in mine)
        with pytest.raises(CallNotPermittedError):
            breaker.attempt()
        return before.state, before.probes, after.state, after.totals.stale, after.totals.failures

    assert in_child(child) == (State.HALF_OPEN, 0, State.HALF_OPEN, 2, 0)
    assert breaker.info().probes == 2


@needs_fork
def test_a_call_that_forks_counts_once_in_each_process() -> None:
    """In the child as stale: it was admitted before the child began; the parent's own calls
    that were waiting to be counted are not the child's."""
    breaker = CircuitBreaker("forking")
    for _ in range(100):
        breaker.call(fine)

    def child() -> tuple[int, int]:
        # The rest of the protected call, as the child sees it.
        attempt.succeed()
        totals = breaker.info().totals
        return totals.successes, totals.stale

    attempt = breaker.attempt()
    assert in_child(child) == (0, 1)
    attempt.succeed()

    reader, writer = os.pipe()

    def forks() -> int:
        return os.fork()

    pid = breaker.call(forks)
    if not pid:
        try:
            totals = breaker.info().totals
            os.write(writer, f"{totals.successes} {totals.stale}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "0 1"
    os.waitpid(pid, 0)
    totals = breaker.info().totals
    assert (totals.successes, totals.stale) == (102, 0)


@needs_fork
def test_the_child_tells_its_own_signals_only() -> None:
    """The parent's listener is busy, with more in the queue; the child tells its own at once."""
    heard: list[tuple[int, State]] = []
    entered, leave = threading.Event(), threading.Event()
    parent = os.getpid()

    def listener(signal: Signal) -> None:
        if os.getpid() == parent and not heard:
            entered.set()
            assert leave.wait(PATIENCE)
        heard.append((os.getpid(), signal.new_state))

    breaker = CircuitBreaker("told", listeners=[listener])

    def child() -> list[State]:
        heard.clear()
        breaker.reset()
        return [state for _, state in heard]

    with meanwhile(breaker.force_open):
        assert entered.wait(PATIENCE)
        try:
            breaker.disable()  # waits in the parent's queue
            assert in_child(child) == [State.CLOSED]
        finally:
            leave.set()
    assert heard == [(parent, State.FORCED_OPEN), (parent, State.DISABLED)]


@needs_fork
def test_what_the_parent_is_about_to_tell() -> None:
    """A move whose thread has not come out of the lock yet: that thread is not in the child."""
    heard: list[State] = []
    moved, leave = threading.Event(), threading.Event()
    breaker = CircuitBreaker("moving", listeners=[lambda signal: heard.append(signal.new_state)])

    def moves(machine: Machine, now: float) -> None:
        machine.open_for(60.0, now)
        moved.set()
        assert leave.wait(PATIENCE)

    def child() -> list[State]:
        breaker.reset()
        return heard

    with meanwhile(lambda: breaker._circuit.step(moves)):
        assert moved.wait(PATIENCE)
        try:
            assert in_child(child) == [State.CLOSED]
        finally:
            leave.set()
    assert heard == [State.OPEN]


@needs_fork
def test_fork_in_mid_traffic() -> None:
    """Threads call, fail and reset without a pause, while the process forks again and again."""
    breakers = [CircuitBreaker(f"traffic {n}", tripper=FailureStreak(50)) for n in range(2)]
    stop = threading.Event()
    made = [0, 0]

    def traffic(n: int) -> None:
        breaker = breakers[n]
        while not stop.is_set():
            made[n] += 1
            breaker.call(fine)
            made[n] += 1
            try:
                breaker.call(fail)
            except ConnectionError:
                breaker.info()

    def child() -> list[int]:
        counts = []
        for breaker in breakers:
            for _ in range(30):
                breaker.call(fine)
            fail_through(breaker)
            breaker.force_open()
            breaker.reset()
            counts.append(breaker.info().totals.settled)
        return counts

    with meanwhile(lambda: traffic(0)), meanwhile(lambda: traffic(1)):
        try:
            for _ in range(30):
                assert in_child(child) == [31, 31]
        finally:
            stop.set()
    assert [breaker.info().totals.settled for breaker in breakers] == made


@needs_fork
def test_the_index_of_circuits_lives_on_in_the_child() -> None:
    breaker = CircuitBreaker("indexed by name")

    def child() -> tuple[bool, bool]:
        mine = CircuitBreaker("made in the child")
        names = [one.name for one in circuits()]
        return "indexed by name" in names, mine.name in names

    assert in_child(child) == (True, True)
    names = [one.name for one in circuits()]
    assert breaker.name in names
    assert "made in the child" not in names


@needs_fork
def test_a_doorbell_stays_with_the_parent() -> None:
    """It would wake the parent's flusher, of which the child has nothing but the memory."""
    breaker, rings = CircuitBreaker("at rest"), list[int]()
    circuit = breaker._circuit
    assert hang(circuit, lambda: rings.append(1))

    def child() -> tuple[bool, int, bool, int]:
        inherited = isinstance(circuit.lane, Doorbell)
        rings.clear()
        breaker.call(fine)
        before = len(rings)
        return inherited, before, hang(circuit, lambda: rings.append(1)), len(rings)

    assert in_child(child) == (False, 0, True, 0)
    assert isinstance(circuit.lane, Doorbell)
    breaker.call(fine)
    assert rings == [1]


@needs_fork
def test_a_refusal_crosses_processes_whole() -> None:
    """As from a process pool: the error, its reason and its message."""
    clock = ManualClock()
    breaker = CircuitBreaker("far away", tripper=FailureStreak(1), clock=clock)

    def child() -> tuple[CallNotPermittedError, str]:
        fail_through(breaker)
        with pytest.raises(CallNotPermittedError) as caught:
            breaker.call(fine)
        return caught.value, str(caught.value)

    error, message = in_child(child)
    assert isinstance(error, CallNotPermittedError)
    assert (error.name, error.state, error.retry_after) == ("far away", State.OPEN, 60.0)
    assert error.reason is not None
    assert error.reason.clause == "FailureStreak(1)"
    assert str(error) == message
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("front", [CircuitBreaker, AsyncCircuitBreaker])
@pytest.mark.parametrize(
    "duplicate",
    [
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(pickle.dumps, id="pickle"),
        pytest.param(lambda breaker: pickle.dumps(breaker, protocol=0), id="old pickle"),
        pytest.param(ForkingPickler.dumps, id="spawn"),
    ],
)
def test_a_breaker_refuses_to_be_doubled(
    front: type[CircuitBreaker], duplicate: Callable[[object], object]
) -> None:
    """Two copies would drift apart; `ForkingPickler` is what a spawned process is sent with."""
    breaker = front("single")
    with pytest.raises(TypeError, match=r"'single'.*can't be copied or pickled"):
        duplicate(breaker)


@needs_fork
def test_children_are_waited_for() -> None:
    """`in_child` itself: it reports an error of the child's instead of passing it over."""
    started = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match="ZeroDivisionError"):
        in_child(lambda: 1 // 0)
    assert time.monotonic() - started < PATIENCE


@needs_fork
def test_what_the_hooks_leave() -> None:
    """The collector is on again in the child, and nobody is taken for a process that forks."""
    assert in_child(lambda: (gc.isenabled(), living.is_forked())) == (True, False)
    assert living._forking == []


@needs_fork
def test_a_number_that_is_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child's child with its grandparent's number does not wait for that one's threads."""
    lock, held, leave, number = ProcessLock(), threading.Event(), threading.Event(), os.getpid()

    def hold() -> None:
        with lock.here():
            held.set()
            leave.wait(PATIENCE)

    def taken() -> bool:
        monkeypatch.setattr(os, "getpid", lambda: number)
        return lock.here().acquire(timeout=5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE)
    try:
        assert in_child(lambda: in_child(taken))
    finally:
        leave.set()
        thread.join(PATIENCE)
