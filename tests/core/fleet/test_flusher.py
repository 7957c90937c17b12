"""The flusher: when it comes, and what it never loses."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import random
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from fluxgate import CircuitBreaker, State
from fluxgate._bell import Bell, drained
from fluxgate.fleet import Fleet, _fleet, _flusher, _rhythm
from fluxgate.fleet._deltas import PILE
from fluxgate.fleet._doorbell import Doorbell
from fluxgate.fleet._flusher import Flusher
from fluxgate.fleet._rhythm import (
    HEARTBEAT,
    HURRY,
    IDLE,
    REST,
    SOON,
    SOONEST,
    TICK,
    Rhythm,
)
from fluxgate.fleet._verdict import SETTLING
from fluxgate.fleet.memory import MemoryStore, Space
from fluxgate.fleet.store import Exchange, Hint, Move, StoreBusy, StoreError, View
from fluxgate.trippers import FailureRate, MinRequests, SlowRate

from .conftest import PATIENCE, Fleets, eventually
from .test_fleet import SETTINGS, breaker, fail, fleet_epoch, states, succeed

PATIENT: dict[str, Any] = {"tripper": MinRequests(1000) & FailureRate(0.5)}


class ManualBell(Bell):
    """A bell whose waits pass by a manual clock, and that rings at given times."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.rings: deque[tuple[float, Callable[[], None]]] = deque()

    def wait(self, timeout: float) -> bool:
        if self.rings and self.rings[0][0] <= self.now + timeout:
            at, why = self.rings.popleft()
            self.now = max(self.now, at)
            why()
            return True
        self.now += timeout
        return False


def rhythm(**pace: tuple[float, float]) -> tuple[Rhythm, ManualBell]:
    bell = ManualBell()
    made = Rhythm(lambda: bell.now)
    made.bell = bell
    made.pace = pace.get("pace", TICK)
    return made, bell


def flusher() -> Flusher:
    return Flusher(MemoryStore(Space()), "memory")


def test_it_comes_with_jitter() -> None:
    each, bell = rhythm()
    times: list[float] = []
    for _ in range(50):
        began = bell.now
        each.sleep()
        times.append(bell.now - began)
    assert len(set(times)) > 40
    assert all(TICK[0] - 1e-9 <= time <= TICK[1] + 1e-9 for time in times)


def test_failures_that_pile_up_hasten_it() -> None:
    """Nothing was handed in for long, so it comes as soon as chance has it."""
    each, bell = rhythm(pace=(3600.0, 3600.0))
    bell.rings.append((107.0, each.alarm))
    each.sleep()
    assert bell.now <= 107.0 + SOON[1]


def test_a_request_hastens_it_more() -> None:
    each, bell = rhythm(pace=(3600.0, 3600.0))
    bell.rings.append((107.0, each.wake))
    each.sleep()
    assert bell.now == 107.0


def test_failures_never_make_a_storm() -> None:
    """An alarm every millisecond: as many flushes as the quickest pace has, and no more."""
    each, bell = rhythm()
    bell.rings.extend((100.0 + n / 1000, each.alarm) for n in range(10_000))
    came = [bell.now]
    while bell.now < 110.0:
        each.sleep()
        each.flushed_at = bell.now
        came.append(bell.now)
    gaps = [after - before for before, after in itertools.pairwise(came[1:])]
    assert min(gaps) >= SOONEST - 1e-9
    assert max(gaps) <= SOONEST + SOON[1] + 1e-9


def test_an_alarm_never_delays_it() -> None:
    each, bell = rhythm(pace=(0.01, 0.01))
    bell.rings.append((100.001, each.alarm))
    each.sleep()
    assert bell.now <= 100.01 + 1e-9


# -- at rest


def test_a_rest_ends_with_the_heartbeat() -> None:
    each, bell = rhythm(pace=IDLE)
    each.flushed_at = 99.0
    assert not each.tired()
    bell.now = 100.0 + REST
    assert each.tired()
    each.sleep(rest=True)
    assert 99.0 + HEARTBEAT + IDLE[0] <= bell.now <= 99.0 + HEARTBEAT + IDLE[1] + 1e-9
    assert each.heartbeat_due(bell.now)
    each.sleep(rest=True)  # none was made, since there is nobody to ask for
    assert bell.now <= 99.0 + HEARTBEAT + 2 * IDLE[1] + 1e-9


def test_the_first_call_ends_a_rest() -> None:
    """It comes within a tick of it, as it would have come to a process that doesn't rest."""
    each, bell = rhythm(pace=IDLE)
    each.flushed_at, bell.now = 100.0, 106.0
    bell.rings.append((107.0, each.rouse))
    each.sleep(rest=True)
    assert 107.0 + TICK[0] <= bell.now <= 107.0 + TICK[1] + 1e-9
    assert not each.tired()


def test_failures_hasten_the_end_of_a_rest() -> None:
    each, bell = rhythm(pace=IDLE)
    each.flushed_at, bell.now = 100.0, 106.0
    bell.rings.extend([(107.0, each.rouse), (107.001, each.alarm)])
    each.sleep(rest=True)
    assert bell.now <= 107.001 + SOON[1]


@pytest.fixture
def rested(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> CircuitBreaker:
    """A breaker whose fleet rests, and would not look at it again within an hour."""
    monkeypatch.setattr(_rhythm, "HEARTBEAT", 3600.0)
    monkeypatch.setattr(_rhythm, "REST", 0.0)
    real, heard = Flusher._take, list[Hint]()

    def take(self: Flusher, hints: list[Hint]) -> None:
        heard.extend(hints)
        real(self, hints)

    monkeypatch.setattr(Flusher, "_take", take)
    fleet = fleets.make()
    one = breaker(fleet, **{**PATIENT, "tripper": PATIENT["tripper"] & SlowRate(0.5, 1.0)})
    succeed(one, times=3)
    eventually(lambda: heard)  # the listener's first, which wakes the flusher
    assert fleet.flush(PATIENCE)
    at_rest(one)
    monkeypatch.setattr(_rhythm, "REST", 3600.0)  # not once more
    return one


def at_rest(one: CircuitBreaker) -> None:
    eventually(lambda: isinstance(one._circuit.lane, Doorbell))


def merged(one: CircuitBreaker) -> int:
    view = one.info().fleet
    assert view is not None
    return view.metrics.total_count


def block(one: CircuitBreaker) -> None:
    with one:
        pass


def attempt(one: CircuitBreaker) -> None:
    one.attempt().succeed()


async def call_async(one: CircuitBreaker) -> None:
    await one.to_async().call(asyncio.sleep, 0)


@pytest.mark.parametrize(
    "call",
    [
        succeed,
        fail,
        block,
        attempt,
        lambda one: one(int)(),
        lambda one: asyncio.run(call_async(one)),
        lambda one: one.attempt().succeed(2.0),
    ],
    ids=["success", "failure", "block", "attempt", "decorated", "async", "slow"],
)
def test_any_call_ends_a_rest(rested: CircuitBreaker, call: Callable[[Any], None]) -> None:
    call(rested)
    assert not isinstance(rested._circuit.lane, Doorbell)
    eventually(lambda: merged(rested) == 4)


def test_calls_in_flight_end_a_rest(
    monkeypatch: pytest.MonkeyPatch, rested: CircuitBreaker
) -> None:
    """They were let in by the lane before, and end while its successor is a bell."""
    succeed(rested)
    attempt = rested.attempt()
    assert not isinstance(attempt._admission, Doorbell)
    monkeypatch.setattr(_rhythm, "REST", 0.0)
    eventually(lambda: merged(rested) == 4)
    at_rest(rested)
    attempt.succeed()
    eventually(lambda: merged(rested) == 5)


def test_calls_after_a_rest_cost_nothing(rested: CircuitBreaker) -> None:
    """One goes by the lock; what follows is left in a lane as ever."""
    succeed(rested)
    lane = rested._circuit.lane
    assert lane is not None
    succeed(rested, times=2)
    assert rested._circuit.lane is lane
    assert lane.fast_below == 1.0


def test_a_look_ends_no_rest(rested: CircuitBreaker) -> None:
    bell = rested._circuit.lane
    rested.info()
    with suppress(ZeroDivisionError), rested.attempt() as each:
        each.ignore()
    rested.info()
    assert rested._circuit.lane is bell


def test_a_push_ends_a_rest(fleets: Fleets, rested: CircuitBreaker) -> None:
    breaker(fleets.make()).force_open(fleet=True)
    eventually(lambda: rested.state is State.FORCED_OPEN)


def test_a_page_ends_a_rest(fleets: Fleets, rested: CircuitBreaker) -> None:
    """What is set in the store by hand is obeyed in the process that asked for it."""
    fleets.made[0].control("x", "force_open", timeout=PATIENCE)
    eventually(lambda: rested.state is State.FORCED_OPEN)


def test_no_rest_while_a_circuit_is_open(
    monkeypatch: pytest.MonkeyPatch, rested: CircuitBreaker
) -> None:
    """It is touched once a second, so that a loss is noticed."""
    monkeypatch.setattr(_rhythm, "REST", 0.0)
    rested.open_for(600.0)
    flusher = rested._circuit.fleet
    eventually(lambda: flusher is not None and not flusher.quiet)
    assert not isinstance(rested._circuit.lane, Doorbell)


def test_no_call_is_lost_in_rests(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies down after every look, while four threads call now and then."""
    monkeypatch.setattr(_rhythm, "REST", 0.0)
    for name in ("TICK", "IDLE"):
        monkeypatch.setattr(_rhythm, name, (0.0, 0.002))
        monkeypatch.setattr(_flusher, name, (0.0, 0.002))
    fleet = fleets.make()
    one = breaker(fleet, **PATIENT)

    def call() -> None:
        for number in range(300):
            succeed(one)
            threading.Event().wait(0.0005 * (number % 3))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: merged(one) == 1200)
    assert fleet.status().dropped == 0


def test_failures_are_handed_in_at_once(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them it would come in an hour."""
    one = breaker(fleets.make(), **PATIENT)
    for name in ("TICK", "IDLE"):
        monkeypatch.setattr(_flusher, name, (3600.0, 3600.0))
    assert fleets.made[0].flush(PATIENCE)
    fail(one, times=PILE)
    eventually(lambda: one.info().fleet.metrics.failure_count == PILE)  # type: ignore[union-attr]
    succeed(one, times=1000)
    fail(one, times=PILE)
    eventually(lambda: one.info().fleet.metrics.failure_count == 2 * PILE)  # type: ignore[union-attr]


def test_few_failures_hasten_nothing(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    one = breaker(fleets.make(), **PATIENT)
    alarms: list[int] = []
    machine = one._circuit._machine
    monkeypatch.setattr(machine, "alarm", lambda: alarms.append(machine.totals.failures))
    machine.alarm_at = PILE
    fail(one, times=PILE - 1)
    assert alarms == []
    machine.alarm_at = machine.totals.failures + PILE
    fail(one, times=PILE)
    assert len(alarms) == 1


def test_a_bell_in_a_finaliser() -> None:
    """It may be rung inside itself, any number of times, and wakes once."""
    bell = Bell()
    for _ in range(3):
        bell.ring()
    assert bell.wait(0.0)
    assert not bell.wait(0.0)
    threading.Timer(0.01, bell.ring).start()
    assert bell.wait(PATIENCE)


def test_a_queue_loses_nothing() -> None:
    """Others append while it is drained."""
    queue: deque[int] = deque()

    def append(start: int) -> None:
        for number in range(start, start + 5000):
            queue.append(number)

    threads = [threading.Thread(target=append, args=(n * 5000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    taken: list[int] = []
    while any(thread.is_alive() for thread in threads):
        taken += drained(queue)
    taken += drained(queue)
    assert sorted(taken) == list(range(20_000))


def test_too_many_pushes_are_one_for_all(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_flusher, "MAX_HINTS", 3)
    one = breaker(fleets.make())
    member = one._circuit.fleet
    assert member is not None
    each = flusher()
    each._members[0] = member
    member.stale = False
    each._take([Hint("y", 7)] * 2)
    assert not member.stale
    each._take([Hint("y", 7)] * 3)
    assert member.stale


def test_two_breakers_of_one_name(fleets: Fleets) -> None:
    """In one process and fleet: a push of the one is news for the other."""
    fleet = fleets.make()
    one, two = breaker(fleet), breaker(fleet)
    eventually(lambda: two._circuit.fleet.quiet)  # type: ignore[union-attr]
    one.force_open(fleet=True)
    eventually(lambda: two.state is State.FORCED_OPEN, timeout=5.0)


def test_a_busy_store_in_one_place(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    """One circuit's exchange was certainly not made: its calls go with the next one."""
    fleet = fleets.make()
    one = breaker(fleet, **PATIENT)
    real, left = MemoryStore.exchange, [3]

    def exchange(self: MemoryStore, requests: list[Exchange]) -> list[View | StoreError]:
        if left[0] and any(request.delta.calls for request in requests):
            left[0] -= 1
            return [StoreBusy("busy") for _ in requests]
        return real(self, requests)

    monkeypatch.setattr(MemoryStore, "exchange", exchange)
    succeed(one, times=7)
    assert fleet.flush(PATIENCE)
    view = one.info().fleet
    assert view is not None
    assert (view.metrics.total_count, fleet.status().dropped, left) == (7, 0, [0])


def test_an_unexpected_error_is_counted(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what became of the delta: it is dropped, and the thread goes on."""
    fleet = fleets.make()
    one = breaker(fleet, **PATIENT)
    real, left = MemoryStore.exchange, [1]

    def exchange(self: MemoryStore, requests: list[Exchange]) -> list[View | StoreError]:
        if left[0] and any(request.delta.calls for request in requests):
            left[0] -= 1
            raise ZeroDivisionError
        return real(self, requests)

    monkeypatch.setattr(MemoryStore, "exchange", exchange)
    succeed(one, times=7)
    assert fleet.flush(PATIENCE)
    assert fleet.status().dropped == 7
    assert "ZeroDivisionError" in (fleet.status().last_error or "")


def test_a_flush_inside_a_listener(fleets: Fleets) -> None:
    """On the flusher's own thread there is nothing to wait for."""
    said: list[bool] = []
    fleet = fleets.make()
    breaker(fleets.make()).force_open(fleet=True)
    one = CircuitBreaker(
        "x", fleet=fleet, listeners=[lambda _: said.append(fleet.flush(2 * PATIENCE))]
    )
    eventually(lambda: one.state is State.FORCED_OPEN)
    eventually(lambda: said == [False])
    assert fleet.flush(PATIENCE)


# -- the end of a fleet


def test_a_breaker_after_close(fleets: Fleets) -> None:
    """It goes on alone, in every state, and nothing waits for a fleet that is no more."""
    fleet = fleets.make()
    fleet.close()
    simple = {**SETTINGS, "tripper": MinRequests(1) & FailureRate(0.5)}
    one = CircuitBreaker("x", fleet=fleet, **simple)
    assert fleet.status().circuits == 0
    one.open_for(0.001, fleet=True)
    eventually(lambda: one.info().retry_after == 0.0)
    one.call(int)
    one.force_open(fleet=True)
    one.reset(fleet=True)
    assert one.state is State.CLOSED


def test_another_fleet_after_close(fleets: Fleets) -> None:
    old, new = fleets.make(), fleets.make()
    one, two = breaker(old), breaker(fleets.make())
    old.close()
    new._join(one._circuit)
    one.force_open(fleet=True)
    eventually(lambda: two.state is State.FORCED_OPEN)
    assert new.status().circuits == 1
    one.reset(fleet=True)
    eventually(lambda: two.state is State.CLOSED)
    two.open_for(600.0, fleet=True)
    eventually(lambda: one.state is State.OPEN)
    old._flusher._leave()  # a slow store may have its thread do that only now
    member = one._circuit.fleet
    assert member is not None
    assert member.owns()
    assert old.status().circuits == 0


def test_a_slow_store_at_the_end(fleets: Fleets) -> None:
    """The thread outlives `close`, and what it follows then isn't left without an owner."""
    fleet = fleets.make()
    one, two = breaker(fleet), breaker(fleets.make())
    fleets.space.delay = 0.3
    two.open_for(0.001, fleet=True)
    eventually(lambda: two._circuit.fleet.epoch)  # type: ignore[union-attr]
    fleet.close(0.01)
    fleets.space.delay = 0.0
    eventually(lambda: not fleet._flusher._flushing.is_alive())
    member = one._circuit.fleet
    assert member is not None
    assert not member.owns()


# -- forks


def test_a_fleet_that_only_circuits_remember(
    fleets: Fleets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lets go of its store before a fork all the same."""
    fleet = Fleet(fleets.url)
    flusher = fleet._flusher
    one = CircuitBreaker("x", fleet=fleet)
    del fleet
    gc.collect()
    asked: list[str] = []
    monkeypatch.setattr(MemoryStore, "before_fork", lambda self: asked.append(self.process))
    monkeypatch.setattr(MemoryStore, "after_fork_in_parent", lambda _: asked.append(""))
    _fleet._before_fork()
    _fleet._after_fork_in_parent()
    assert len(asked) >= 2
    assert one._circuit.fleet is not None
    flusher.close(1.0)


def test_two_threads_fork_at_once(fleets: Fleets) -> None:
    """Each gives back what it has taken, whoever is first."""
    breaker(fleets.make())
    done = threading.Event()

    def fork() -> None:
        _fleet._before_fork()  # waits for the other
        _fleet._after_fork_in_parent()
        done.set()

    _fleet._before_fork()
    thread = threading.Thread(target=fork)
    thread.start()
    eventually(lambda: len(_fleet._forking) == 2)
    _fleet._after_fork_in_parent()
    assert done.wait(PATIENCE)
    thread.join()
    assert fleets.made[0].flush(PATIENCE)


def test_other_constants() -> None:
    """A hastened flush is no quicker than the quickest tick, and idle ones are within the pace.

    The fleet waits long enough for all that have calls to have handed them in, at rest or not.
    """
    assert HURRY[1] <= TICK[0] <= SOONEST
    assert max(TICK[1], IDLE[1]) < SETTLING / 1000
    assert TICK[0] <= IDLE[0] <= IDLE[1] <= TICK[1]
    assert random.uniform(*SOON) <= SOON[1]


# -- moves


def test_a_move_whose_answer_is_lost(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was made: who made it reports it as the fleet's, the others as a peer's."""
    heard: list[Any] = []
    many = [breaker(fleets.make(), listeners=[heard.append]) for _ in range(2)]
    real, lost = MemoryStore.move, list[View]()

    def move(self: MemoryStore, each: Move) -> View:
        view = real(self, each)
        if view.won and not lost:
            lost.append(view)
            raise StoreError("the answer was lost")
        return view

    monkeypatch.setattr(MemoryStore, "move", move)
    fail(*many, times=6)
    eventually(lambda: states(*many) == {State.OPEN})
    eventually(lambda: len({fleet_epoch(each) for each in many}) == 1)
    assert sorted(signal.origin for signal in heard) == ["fleet", "peer"]


@pytest.mark.parametrize("_", range(6))  # at once is at once in most of them
def test_breakers_made_at_once(fleets: Fleets, _: int) -> None:
    """By the threads of a server, with its first requests: one flusher serves them all."""
    fleet, ready = fleets.make(), threading.Barrier(8)

    def make(number: int) -> None:
        ready.wait(PATIENCE)
        CircuitBreaker(f"c{number}", fleet=fleet).force_open()

    before = threading.enumerate()
    makers = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for each in makers:
        each.start()
    for each in makers:
        each.join(PATIENCE)
    new = Counter(each.name for each in threading.enumerate() if each not in before)
    assert new == {"fluxgate-fleet-flusher": 1, "fluxgate-fleet-listener": 1}


@pytest.mark.parametrize("name", ["close", "flush"])
def test_closed_in_the_middle(fleets: Fleets, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As a handler of SIGTERM does, in whatever locks the main thread holds meanwhile."""
    for at in itertools.count(1):
        returns: list[str] = []
        fleet = fleets.make()
        one = breaker(fleet)
        succeed(one)
        assert fleet.flush(PATIENCE)

        def interrupt(
            frame: Any, event: str, _: Any, *, returns: list[str] = returns, fleet: Fleet = fleet
        ) -> None:
            if event == "return" and frame.f_code.co_filename == threading.__file__:
                returns.append(frame.f_code.co_qualname)
                if len(returns) == at:  # noqa: B023
                    fleet.close(0.05)

        def step(fleet: Fleet = fleet, interrupt: Any = interrupt) -> None:
            sys.setprofile(interrupt)
            try:
                getattr(fleet, name)(0.05)
            finally:
                sys.setprofile(None)

        with monkeypatch.context() as patches:
            if name == "flush":
                patches.setattr(MemoryStore, "exchange", busy)
            thread = threading.Thread(target=step, daemon=True)
            thread.start()
            thread.join(PATIENCE)
        assert not thread.is_alive(), f"it hangs in {returns[-1:]}"
        if len(returns) < at:
            break
    assert at > 3


def busy(*_: object) -> list[View | StoreError]:
    raise StoreBusy("another process is at it")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform can't fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_counts_its_own_losses(fleets: Fleets) -> None:
    """What the parent has dropped, of circuits that are gone, too, is the parent's."""
    fleet = fleets.make()
    one = breaker(fleet)
    member = one._circuit.fleet
    assert member is not None
    fleet._flusher._dropped, member._deltas.dropped = 3, 4
    child = os.fork()
    if not child:
        os._exit(fleet.status().dropped)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert fleet.status().dropped == 7
