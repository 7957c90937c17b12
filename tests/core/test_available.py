"""`breaker.available`: whether a call made now may be admitted; to look changes nothing."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker, State
from fluxgate._engine.leases import Lease
from fluxgate.fleet import Fleet
from fluxgate.permits import All, Permit, RampUp, Random
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown, Never
from fluxgate.signals import Origin, Reason
from fluxgate.testing import LoadedDice, ManualClock, RecordedSignals, tripped
from fluxgate.trippers import Closed, FailureStreak

from .conftest import THREADS_INHERIT

if TYPE_CHECKING:
    from conftest import Protected

ONE = Closed() & FailureStreak(1)


def test_through_an_outage(protect: Callable[..., Protected]) -> None:
    """Closed, open, cooled down (when `state` still says open), half-open, closed."""
    protected = protect(tripper=ONE, retry=Cooldown(64.0), permit=All())
    assert protected.breaker.available
    protected.fail()
    assert not protected.breaker.available
    protected.clock.advance(63.0)
    assert not protected.breaker.available
    protected.clock.advance(1.0)
    assert protected.breaker.available
    assert protected.state is State.OPEN
    protected.succeed()
    assert protected.breaker.available
    assert protected.state is State.CLOSED


def test_looking_changes_nothing(breaker: Callable[..., Protected], dice: LoadedDice) -> None:
    """No move, no signal, no throw of the dice, no count."""
    protected = breaker(tripper=ONE, retry=Cooldown(64.0), permit=Random(0.5))
    protected.fail()
    protected.clock.advance(64.0)
    before, thrown, moves = protected.info, dice.thrown, protected.moves
    for _ in range(10):
        assert protected.breaker.available
    after = protected.info
    assert (after.state, after.totals, after.probes) == (State.OPEN, before.totals, 0)
    assert (dice.thrown, protected.moves) == (thrown, moves)


@pytest.mark.parametrize("front", [CircuitBreaker, AsyncCircuitBreaker])
@pytest.mark.parametrize(
    ("set_by_hand", "expected"),
    [("disable", True), ("metrics_only", True), ("force_open", False), ("reset", True)],
)
def test_set_by_hand(front: Any, set_by_hand: str, expected: bool) -> None:
    breaker = front("api")
    getattr(breaker, set_by_hand)()
    assert breaker.available is expected


def test_a_retry_that_never_ends(clock: ManualClock) -> None:
    breaker = CircuitBreaker("api", retry=Never(), clock=clock)
    tripped(breaker)
    clock.advance(1e9)
    assert not breaker.available


class NoProbes(Permit):
    """Admits nobody, however long it waits."""

    def ratio(self, elapsed: float) -> float:
        return 0.0


def test_a_state_for_good_beneath(clock: ManualClock) -> None:
    """What follows admits every call, though no probe would be admitted."""
    breaker = CircuitBreaker("api", permit=NoProbes(), clock=clock)
    breaker.disable()
    breaker.force_open(seconds=10.0)
    clock.advance(9.0)
    assert not breaker.available
    clock.advance(1.0)
    assert breaker.available
    assert breaker.call(int) == 0


def test_slots_that_an_interrupt_left(clock: ManualClock) -> None:
    """Their admissions are gone, unsettled: the slots are free before anybody takes them back."""
    breaker = CircuitBreaker("api", permit=All(), max_half_open_calls=2, clock=clock)
    breaker.open_for(1.0)
    clock.advance(1.0)
    probes = [breaker.attempt(), breaker.attempt()]
    assert not breaker.available
    dropped = breaker._circuit._machine.phase.dropped
    for probe in probes:
        dropped.append(probe._admission.probe or 0)
        assert breaker.available
    assert breaker.info().totals.ignored == 2
    for probe in probes:
        probe.ignore()  # late, and counted already
    assert breaker.info().totals.ignored == 2


def test_slots(clock: ManualClock) -> None:
    """Free, taken, given back, overdue."""
    breaker = CircuitBreaker(
        "api", tripper=ONE, permit=All(), max_half_open_calls=2, probe_timeout=8.0, clock=clock
    )
    tripped(breaker)
    clock.advance(60.0)
    first = breaker.attempt()
    assert breaker.available
    second = breaker.attempt()
    assert not breaker.available
    first.ignore()
    assert breaker.available
    first = breaker.attempt()
    assert not breaker.available
    del first  # a finaliser's note in the inbox
    assert breaker.available
    first = breaker.attempt()
    assert not breaker.available
    clock.advance(8.0)
    assert breaker.available
    assert breaker.info().probes == 0
    assert not first.settled
    assert not second.settled


def test_settings_of_the_next_phase(clock: ManualClock) -> None:
    """A half-open circuit keeps its slots and permit, whatever the next one will have."""
    made = CircuitBreaker(
        "x", tripper=ONE, retry=Cooldown(10), permit=All(), max_half_open_calls=1, clock=clock
    )
    breaker = tripped(made)
    clock.advance(10)
    probe = breaker.attempt()
    breaker.update(max_half_open_calls=2)
    assert not breaker.available
    with pytest.raises(CallNotPermittedError):
        breaker.call(int)
    probe.succeed()
    assert breaker.available


def test_inside_a_probe(clock: ManualClock) -> None:
    """A nested call is a part of the probe, so it is admitted."""
    breaker = CircuitBreaker("api", tripper=ONE, permit=All(), max_half_open_calls=1, clock=clock)
    tripped(breaker)
    clock.advance(60.0)
    seen: list[bool] = []
    other = threading.Thread(target=lambda: seen.append(breaker.available))
    with breaker:
        assert breaker.available
        other.start()
        other.join()
    assert seen == [THREADS_INHERIT]


class Closing(Permit):
    """Admits nobody for ten seconds."""

    def ratio(self, elapsed: float) -> float:
        return float(elapsed >= 10.0)


class Broken(Permit):
    """Raises; a call is admitted then."""

    def ratio(self, elapsed: float) -> float:
        raise ZeroDivisionError


def test_a_permits_chance_is_enough(clock: ManualClock) -> None:
    """A chance above 0 is available, without a promise; none is not."""
    ramp = CircuitBreaker("a", permit=RampUp(0.1, 1.0, 60.0), clock=clock, dice=LoadedDice(0.5))
    none = CircuitBreaker("b", permit=Closing(), clock=clock)
    broken = CircuitBreaker("c", permit=Broken(), clock=clock)
    for each in (ramp, none, broken):
        tripped(each)
    clock.advance(60.0)
    assert (ramp.available, none.available, broken.available) == (True, False, True)
    with pytest.raises(CallNotPermittedError):
        ramp.attempt()
    clock.advance(10.0)
    assert none.available
    assert none.attempt().probe


def test_in_a_listener(clock: ManualClock) -> None:
    """A listener may look, as it may call."""
    seen: list[bool] = []
    breaker = CircuitBreaker("api", tripper=ONE, clock=clock)
    breaker.listen(lambda _: seen.append(breaker.available))
    tripped(breaker)
    breaker.reset()
    assert seen == [False, True]


def test_of_a_registry(clock: ManualClock) -> None:
    """By name, on both fronts; a name that nobody has called is closed."""
    registry = Registry(clock=clock)
    assert registry["api"].available
    registry["api"].open_for(10.0)
    assert not registry["api"].available
    assert not registry.asynchronous["api"].available


def test_eight_threads(clock: ManualClock) -> None:
    """Beside threads that take slots and give them back."""
    breaker = CircuitBreaker("api", tripper=ONE, permit=All(), max_half_open_calls=3, clock=clock)
    tripped(breaker)
    clock.advance(60.0)
    breaker.attempt().ignore()
    done = threading.Event()
    errors: list[BaseException] = []

    def probe() -> None:
        try:
            for _ in range(300):
                with suppress(CallNotPermittedError):
                    breaker.attempt().ignore()
        except BaseException as error:
            errors.append(error)

    def look() -> None:
        try:
            while not done.is_set():
                assert breaker.available in (True, False)
        except BaseException as error:
            errors.append(error)

    probing = [threading.Thread(target=probe) for _ in range(6)]
    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in (*looking, *probing):
        thread.start()
    for thread in probing:
        thread.join()
    done.set()
    for thread in looking:
        thread.join()
    assert not errors
    assert breaker.available


def test_a_fleets_leases(clock: ManualClock) -> None:
    """Owned by the fleet: by lease; and before the first one was asked for, since a call asks."""
    breaker = CircuitBreaker("api", permit=All(), clock=clock, tripper=ONE)
    tripped(breaker)
    breaker._circuit.hand_over()
    assert not breaker.available
    clock.advance(60.0)
    assert breaker.available
    with pytest.raises(CallNotPermittedError):
        breaker.attempt()
    assert not breaker.available  # asked for
    leases = breaker._circuit.phase.leases
    assert leases is not None
    leases.granted.append(Lease(1, clock() + 5.0, clock() + 2.0))
    assert breaker.available
    clock.advance(5.0)
    assert not breaker.available


def test_in_a_fleet(clock: ManualClock) -> None:
    """A member of a real fleet is available while closed, and not once it is open."""
    signals = RecordedSignals()
    with Fleet("memory://") as fleet:
        breaker = CircuitBreaker("shared", fleet=fleet, clock=clock, listeners=[signals])
        assert breaker.available
        breaker.open_for(30.0, fleet=True)
        assert not breaker.available


def test_asked_while_leases_come_and_go() -> None:
    """Asked without the lock, it looks at one picture of them."""
    breaker = CircuitBreaker("api")
    circuit, done = breaker._circuit, threading.Event()
    circuit.step(
        lambda machine, now: machine.follow(
            State.HALF_OPEN, now, -math.inf, 0, Reason("fleet"), Origin.PEER
        )
    )
    leases = circuit.phase.leases
    assert leases is not None
    leases.wanted = 1

    def come_and_go() -> None:
        for _ in range(3000):
            leases.granted.extend(Lease(token, -1.0, -2.0) for token in range(50))
            leases.give_back(0.0)
        done.set()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    while not done.is_set():
        assert not breaker.available
    thread.join()
