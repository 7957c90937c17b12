"""A fleet of circuits over a store in memory: what is shared, who decides, and who follows."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fluxgate import (
    CallNotPermittedError,
    CircuitBreaker,
    ConfigError,
    Origin,
    Reason,
    Signal,
    State,
)
from fluxgate._engine.leases import Lease, Leases
from fluxgate._engine.transitions import Event
from fluxgate.fleet import Fleet, FleetStatus
from fluxgate.fleet._controls import Controls
from fluxgate.fleet.memory import MemoryStore
from fluxgate.fleet.store import Move
from fluxgate.permits import All
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown, Never
from fluxgate.trippers import FailureRate, FailureStreak, MinRequests, SlowRate
from fluxgate.windows import CountWindow, TimeWindow

from .conftest import PATIENCE, Fleets, eventually

SETTINGS: dict[str, Any] = {
    "window": TimeWindow(600.0),
    "tripper": MinRequests(10) & FailureRate(0.5),
    "retry": Cooldown(600.0),
    "permit": All(),
    "max_half_open_calls": 1,
}


def breaker(fleet: Fleet, **more: Any) -> CircuitBreaker:
    made = CircuitBreaker("x", fleet=fleet, **{**SETTINGS, **more})
    assert fleet.flush(PATIENCE)
    return made


def fail(*breakers: CircuitBreaker, times: int = 1) -> None:
    for each in breakers:
        for _ in range(times):
            attempt = each.attempt()
            attempt.fail()


def succeed(*breakers: CircuitBreaker, times: int = 1) -> None:
    for each in breakers:
        for _ in range(times):
            each.call(int)


def states(*breakers: CircuitBreaker) -> set[State]:
    return {each.state for each in breakers}


def fleet_epoch(each: CircuitBreaker) -> int:
    view = each.info().fleet
    assert view is not None
    return view.epoch


# -- the window


def test_counts_are_added(fleets: Fleets) -> None:
    one, two = (breaker(fleets.make()) for _ in range(2))
    succeed(one, times=1000)
    succeed(two, times=500)
    fail(two, times=3)
    fleets.flush()
    for each in (one, two):
        view = each.info().fleet
        assert view is not None
        assert (view.state, view.epoch, view.attached) == (State.CLOSED, 0, True)
        assert (view.metrics.total_count, view.metrics.failure_count) == (1503, 3)
        assert view.retry_after is None
    assert one.info().metrics.total_count == 1000  # its own window is its own


def test_without_a_fleet() -> None:
    alone = CircuitBreaker("x")
    assert alone.info().fleet is None
    controls: list[Callable[..., None]] = [alone.reset, alone.disable, alone.metrics_only]
    for control in (*controls, alone.force_open):
        with pytest.raises(ConfigError, match="'x' is in no fleet"):
            control(fleet=True)
    with pytest.raises(ConfigError, match="in no fleet"):
        alone.open_for(1.0, fleet=True)
    assert alone.state is State.CLOSED


def test_no_process_alone_reaches_the_minimum(fleets: Fleets) -> None:
    """Four processes with three failing calls each are one circuit with twelve."""
    heard: list[Signal] = []
    breakers = [breaker(fleets.make(), listeners=[heard.append]) for _ in range(4)]
    fail(*breakers, times=3)
    assert states(*breakers) == {State.CLOSED}
    eventually(lambda: states(*breakers) == {State.OPEN})
    fleets.flush()
    assert sorted(signal.origin for signal in heard) == ["fleet", "peer", "peer", "peer"]
    assert {signal.reason.clause for signal in heard} == {"FailureRate(0.5)"}
    assert {signal.reason.calls for signal in heard} == {12}
    assert len({fleet_epoch(each) for each in breakers}) == 1
    with pytest.raises(CallNotPermittedError) as refusal:
        breakers[0].call(int)
    assert refusal.value.retry_after is not None


def test_one_bad_process_of_four(fleets: Fleets) -> None:
    """It opens its own circuit, and nobody else's."""
    bad, *good = [breaker(fleets.make()) for _ in range(4)]
    succeed(*good)
    fleets.flush()
    fail(bad, times=10)
    assert bad.state is State.OPEN
    fleets.flush()
    threading.Event().wait(0.5)  # longer than a verdict would have to wait
    fleets.flush()
    assert bad.state is State.OPEN
    assert states(*good) == {State.CLOSED}
    assert bad.info().fleet is not None
    assert fleet_epoch(bad) == 0


BUSY: dict[str, Any] = {"window": CountWindow(100)}
"""A window that a busy process fills many times a second."""


def test_busy_processes_open_together(fleets: Fleets) -> None:
    """Each has opened by itself before the merged window, still full of successes, could fire."""
    many = [breaker(fleets.make(), **BUSY) for _ in range(4)]
    succeed(*many, times=2_000)
    fleets.flush()
    for each in many:
        while each.state is State.CLOSED:
            fail(each)
    eventually(lambda: {fleet_epoch(each) for each in many} - {0})
    eventually(lambda: len({fleet_epoch(each) for each in many}) == 1)
    assert states(*many) == {State.OPEN}
    trip = many[0].info().last_trip
    assert trip is not None
    assert trip.clause == "FailureRate(0.5)"
    many[0].reset(fleet=True)
    eventually(lambda: states(*many) == {State.CLOSED})


@pytest.mark.parametrize("bad", [1, 2])
def test_few_that_open_open_nobody_else(fleets: Fleets, bad: int) -> None:
    """Bad nodes: fewer than the witnesses, or no more than half of those that report."""
    many = [breaker(fleets.make(), **BUSY) for _ in range(4)]
    succeed(*many, times=500)
    fleets.flush()
    for each in many[:bad]:
        while each.state is State.CLOSED:
            fail(each)
    succeed(*many[bad:], times=100)
    fleets.flush()
    threading.Event().wait(0.7)  # longer than a verdict would have to wait, twice
    fleets.flush()
    assert states(*many[bad:]) == {State.CLOSED}
    assert {fleet_epoch(each) for each in many} == {0}


def test_streaks_give_no_vote(fleets: Fleets) -> None:
    """What can't be merged opens each process for itself, however many they are."""
    many = [breaker(fleets.make(), tripper=FailureStreak(3), **BUSY) for _ in range(3)]
    fail(*many, times=3)
    fleets.flush()
    threading.Event().wait(0.7)
    fleets.flush()
    assert {fleet_epoch(each) for each in many} == {0}


def test_opened_by_hand_gives_no_vote(fleets: Fleets) -> None:
    many = [breaker(fleets.make(), **BUSY) for _ in range(3)]
    succeed(*many, times=10)
    for each in many:
        each.open_for(60.0)
    fleets.flush()
    threading.Event().wait(0.7)
    fleets.flush()
    assert {fleet_epoch(each) for each in many} == {0}


def test_one_process_alone_needs_no_witness(fleets: Fleets) -> None:
    lonely = breaker(fleets.make(), tripper=MinRequests(10) & FailureRate(0.5))
    peer = breaker(fleets.make())
    fail(lonely, times=9)
    lonely.reset()  # its own window forgets; the fleet's does not
    fail(lonely, times=9)
    assert lonely.state is State.CLOSED
    eventually(lambda: states(lonely, peer) == {State.OPEN})


def test_a_verdict_waits_for_the_healthy(fleets: Fleets) -> None:
    """And is then looked at again, without any new traffic."""
    first, second = (breaker(fleets.make()) for _ in range(2))
    now = [10**12]
    fleets.space.clock = lambda: now[0]
    fail(first, second, times=6)
    fleets.flush()
    fleets.flush()
    assert states(first, second) == {State.CLOSED}
    now[0] += 300
    eventually(lambda: states(first, second) == {State.OPEN})


def test_slow_calls_are_witnessed(fleets: Fleets) -> None:
    ticks = [0.0]
    slow = {"tripper": MinRequests(4) & SlowRate(0.5, 1.0), "clock": lambda: ticks[0]}
    one, two = (breaker(fleets.make(), **slow) for _ in range(2))
    for each in (one, two):
        for _ in range(3):
            attempt = each.attempt()
            ticks[0] += 2.0
            attempt.succeed()
    eventually(lambda: states(one, two) == {State.OPEN})


def test_streaks_stay_local(fleets: Fleets) -> None:
    one, two = (breaker(fleets.make(), tripper=FailureStreak(3)) for _ in range(2))
    fail(one, two, times=2)
    fleets.flush()
    threading.Event().wait(0.4)
    fleets.flush()
    assert states(one, two) == {State.CLOSED}
    fail(one)
    assert (one.state, two.state) == (State.OPEN, State.CLOSED)


def test_a_delta_of_an_older_epoch_is_dropped(fleets: Fleets) -> None:
    fleet = fleets.make()
    one, two = breaker(fleet), breaker(fleets.make())
    fleets.space.down = True
    eventually(lambda: not fleet.status().attached)
    succeed(one, times=7)
    fleets.space.down = False
    fleets.space.deaf = True
    two.reset(fleet=True)
    eventually(lambda: fleet_epoch(one) == fleet_epoch(two) > 0)
    fleets.flush()
    assert fleet.status().dropped == 7
    view = one.info().fleet
    assert view is not None
    assert view.metrics.total_count == 0


# -- open, half-open, closed


def opened(fleets: Fleets, count: int = 2, **more: Any) -> list[CircuitBreaker]:
    """Breakers whose fleet has just opened, and may be probed at once."""
    settings = {"retry": Cooldown(0.0), **more}
    breakers = [breaker(fleets.make(), **settings) for _ in range(count)]
    breakers[0].open_for(0.001, fleet=True)
    eventually(lambda: states(*breakers) == {State.OPEN})
    return breakers


def probe(each: CircuitBreaker) -> Any:
    """A probe of the fleet, when it is granted."""
    attempts: list[Any] = []

    def granted() -> bool:
        try:
            attempts.append(each.attempt())
        except CallNotPermittedError:
            return False
        return True

    eventually(granted)
    return attempts[0]


def test_a_probe_needs_a_lease(fleets: Fleets) -> None:
    """One at a time in the whole fleet, whoever wants it."""
    one, two = opened(fleets)
    held = probe(one)
    assert held.probe
    fleets.flush()
    for _ in range(20):
        with pytest.raises(CallNotPermittedError) as refusal:
            two.call(int)
        assert refusal.value.retry_after is None
    fleets.flush()
    with pytest.raises(CallNotPermittedError):
        two.call(int)
    assert states(one, two) == {State.HALF_OPEN}
    held.succeed()
    fleets.flush()
    probe(two).ignore()


def test_good_probes_close_everybody(fleets: Fleets) -> None:
    heard: list[Signal] = []
    simple = MinRequests(2) & FailureRate(0.5)
    one, two = opened(fleets, tripper=simple, listeners=[heard.append])
    probe(one).succeed()
    probe(two).succeed()
    eventually(lambda: states(one, two) == {State.CLOSED})
    epochs = {fleet_epoch(one), fleet_epoch(two)}
    assert len(epochs) == 1
    moves = [(signal.new_state, signal.origin) for signal in heard]
    for state in (State.OPEN, State.HALF_OPEN, State.CLOSED):
        assert sorted(origin for new, origin in moves if new is state) == ["fleet", "peer"]


def test_a_bad_probe_opens_everybody(fleets: Fleets) -> None:
    settings = {"tripper": MinRequests(1) & FailureRate(0.5), "retry": Cooldown(0.0)}
    one, two = opened(fleets, **settings)
    probe(one).fail()
    eventually(lambda: one.info().reopens == two.info().reopens == 1)
    probe(two).succeed()
    eventually(lambda: states(one, two) == {State.CLOSED})
    assert one.info().reopens == two.info().reopens == 0


def test_settings_of_the_next_round(fleets: Fleets) -> None:
    """A round keeps its slots and its tripper, whatever `update` brings for the next phase."""
    one, two = opened(fleets, tripper=MinRequests(2) & FailureRate(0.5))
    held = probe(one)
    eventually(lambda: states(one, two) == {State.HALF_OPEN})
    for each in (one, two):
        each.update(max_half_open_calls=3, tripper=MinRequests(1) & FailureRate(0.9))
    for _ in range(3):
        for each in (one, two):
            with pytest.raises(CallNotPermittedError):
                each.call(int)
        fleets.flush()
    held.fail()
    fleets.flush()
    assert states(one, two) == {State.HALF_OPEN}  # it takes two probes, as when it began
    probe(two).succeed()
    eventually(lambda: one.info().reopens == two.info().reopens == 1)  # half of them
    probes = [probe(one), probe(two), probe(one)]  # the next round has the new ones
    assert all(each.probe for each in probes)


def test_an_unused_lease_goes_on(fleets: Fleets) -> None:
    """A process that got one, and then no call, gives it back."""
    one, two = opened(fleets)
    with pytest.raises(CallNotPermittedError):
        one.attempt()
    eventually(lambda: _leases(one))
    probe(two).ignore()


def _leases(each: CircuitBreaker) -> bool:
    leases = each._circuit._machine.phase.leases
    return leases is not None and bool(leases.granted)


def test_a_local_opening_becomes_the_fleets(fleets: Fleets) -> None:
    """No cooldown and no probes of its own then."""
    one, two = (breaker(fleets.make(), retry=Cooldown(0.0)) for _ in range(2))
    fail(one, times=10)
    assert one.state is State.OPEN
    two.open_for(600.0, fleet=True)
    eventually(lambda: fleet_epoch(one) == fleet_epoch(two) > 0)
    info = one.info()
    assert info.state is State.OPEN
    assert info.retry_after is not None
    assert info.retry_after > 500.0
    two.reset(fleet=True)
    eventually(lambda: states(one, two) == {State.CLOSED})
    assert one.info().metrics.total_count == 0


def test_what_opens_locally_closes_locally(fleets: Fleets) -> None:
    one = breaker(fleets.make(), retry=Cooldown(0.0), tripper=FailureStreak(3))
    two = breaker(fleets.make())
    fail(one, times=3)
    assert one.state is State.OPEN
    one.call(int)
    assert one.state is State.CLOSED
    assert two.state is State.CLOSED


# -- controls


@pytest.mark.parametrize(
    ("control", "state"),
    [
        ("force_open", State.FORCED_OPEN),
        ("disable", State.DISABLED),
        ("metrics_only", State.METRICS_ONLY),
    ],
)
def test_controls_for_everybody(fleets: Fleets, control: str, state: State) -> None:
    heard: list[Signal] = []
    one, two = (breaker(fleets.make(), listeners=[heard.append]) for _ in range(2))
    getattr(one, control)(fleet=True)
    assert one.state is state  # at once
    eventually(lambda: two.state is state)
    late = breaker(fleets.make())
    assert late.state is state  # a newcomer knows
    one.reset(fleet=True)
    eventually(lambda: states(one, two, late) == {State.CLOSED})
    assert [signal.origin for signal in heard if signal.new_state is state] == [
        Origin.FLEET,
        Origin.PEER,
    ]


def test_controls_here_alone(fleets: Fleets) -> None:
    one, two = (breaker(fleets.make()) for _ in range(2))
    one.disable()
    two.open_for(600.0, fleet=True)
    eventually(lambda: fleet_epoch(one) == fleet_epoch(two) > 0)
    assert (one.state, two.state) == (State.DISABLED, State.OPEN)
    view = one.info().fleet
    assert view is not None
    assert view.state is State.OPEN
    assert view.retry_after is not None


def test_a_local_reset_ends_ownership(fleets: Fleets) -> None:
    one, two = (breaker(fleets.make()) for _ in range(2))
    two.open_for(600.0, fleet=True)
    eventually(lambda: one.state is State.OPEN)
    one.reset()
    fleets.flush()
    fleets.flush()
    assert (one.state, two.state) == (State.CLOSED, State.OPEN)


def test_open_for_never_shortens(fleets: Fleets) -> None:
    one, two = (breaker(fleets.make()) for _ in range(2))
    one.open_for(600.0, fleet=True)
    eventually(lambda: two.state is State.OPEN)
    two.open_for(1.0, fleet=True)
    fleets.flush()
    for each in (one, two):
        left = each.info().retry_after
        assert left is not None
        assert left > 500.0


def test_never_is_until_reset(fleets: Fleets) -> None:
    breakers = [breaker(fleets.make(), retry=Never()) for _ in range(2)]
    fail(*breakers, times=6)
    eventually(lambda: states(*breakers) == {State.OPEN})
    assert [each.info().retry_after for each in breakers] == [None, None]
    breakers[0].reset(fleet=True)
    eventually(lambda: states(*breakers) == {State.CLOSED})


def test_a_control_while_the_store_is_down(fleets: Fleets) -> None:
    one, two = (breaker(fleets.make()) for _ in range(2))
    fleets.space.down = True
    one.force_open(fleet=True)
    assert one.state is State.FORCED_OPEN
    fleets.space.down = False
    eventually(lambda: two.state is State.FORCED_OPEN)


# -- the store goes, and comes back


def test_a_store_that_is_down(fleets: Fleets, caplog: pytest.LogCaptureFixture) -> None:
    fleet = fleets.make()
    one = breaker(fleet)
    assert fleet.status() == FleetStatus(True, 1, 0, None)
    fleets.space.down = True
    eventually(lambda: not fleet.status().attached)
    assert fleet.flush(0.5) is False
    assert fleet.status().last_error == "the memory store is down"
    fail(one, times=10)
    assert one.state is State.OPEN  # alone
    assert one.info().fleet is not None
    fleets.space.down = False
    eventually(lambda: "the store is back" in caplog.text)  # said a moment after it is attached
    assert fleet.status().attached
    said = [record.getMessage() for record in caplog.records if record.name == "fluxgate"]
    assert len(said) == 2
    assert "every process goes on by itself" in said[0]
    assert "the store is back" in said[1]


def test_a_loss_while_open(fleets: Fleets) -> None:
    """It is put right, and nobody is let in; a newcomer finds it open."""
    one, two = (breaker(fleets.make()) for _ in range(2))
    one.open_for(600.0, fleet=True)
    eventually(lambda: two.state is State.OPEN)
    epoch = fleet_epoch(one)
    fleets.space.forget()
    eventually(lambda: "x" in fleets.space.circuits)
    fleets.flush()
    assert states(one, two, breaker(fleets.make())) == {State.OPEN}
    assert fleet_epoch(one) == fleet_epoch(two) == epoch


def test_a_loss_of_a_state_set_by_hand(fleets: Fleets) -> None:
    one = breaker(fleets.make())
    one.force_open(fleet=True)
    fleets.flush()
    fleets.space.forget()
    eventually(lambda: "x" in fleets.space.circuits)
    assert breaker(fleets.make()).state is State.FORCED_OPEN


def test_a_loss_while_closed_loses_no_later_call(fleets: Fleets) -> None:
    one = breaker(fleets.make())
    one.reset(fleet=True)
    fleets.flush()
    fleets.space.forget()
    succeed(one, times=5)
    fleets.flush()
    view = one.info().fleet
    assert view is not None
    assert view.metrics.total_count == 5


def test_detached_it_probes_for_itself(fleets: Fleets) -> None:
    fleet = fleets.make()
    one = breaker(fleet, tripper=MinRequests(1) & FailureRate(0.5))
    one.open_for(0.001, fleet=True)
    fleets.flush()
    fleets.space.down = True
    eventually(lambda: not fleet.status().attached)
    one.call(int)
    assert one.state is State.CLOSED
    fleets.space.down = False
    fleets.flush()
    view = one.info().fleet
    assert view is not None
    assert (one.state, view.state) == (State.CLOSED, State.CLOSED)  # which the others hear


def test_back_before_the_end_of_the_opening(fleets: Fleets) -> None:
    """Nothing has happened meanwhile: the fleet owns it again, and nobody hears of it twice."""
    heard: list[Signal] = []
    fleet = fleets.make()
    one = breaker(fleet, listeners=[heard.append])
    one.open_for(600.0, fleet=True)
    fleets.flush()
    for down in (True, False):
        fleets.space.down = down
        eventually(lambda: fleet.status().attached is not down)  # noqa: B023
    fleets.flush()
    member = one._circuit.fleet
    assert member is not None
    assert member.owns()
    assert len(heard) == 1


def test_missed_pushes_are_made_up_for(fleets: Fleets) -> None:
    fleets.space.deaf = True
    one, two = (breaker(fleets.make()) for _ in range(2))
    one.open_for(600.0, fleet=True)
    fleets.flush()
    assert two.state is State.OPEN


# -- advisory


def test_peers_only_lower_the_threshold(fleets: Fleets) -> None:
    calm, *others = [breaker(fleets.make(advisory=True)) for _ in range(3)]
    fail(*others, times=6)
    eventually(lambda: fleet_epoch(calm) > 0)
    assert states(calm, *others) == {State.CLOSED}
    succeed(calm, times=5)
    assert calm.state is State.CLOSED
    fail(calm)
    assert calm.state is State.OPEN


# -- the rest of the surface


def test_a_registry(fleets: Fleets) -> None:
    one = Registry(fleet=fleets.make(), **SETTINGS)
    two = Registry(fleet=fleets.make(), **SETTINGS)
    one["a"].force_open(fleet=True)
    eventually(lambda: two["a"].state is State.FORCED_OPEN)
    assert two.asynchronous["a"].state is State.FORCED_OPEN
    assert two["b"].state is State.CLOSED


def test_the_registry_keeps_what_the_fleet_owns(fleets: Fleets) -> None:
    registry = Registry(fleet=fleets.make(), max_circuits=1, **SETTINGS)
    registry["a"].open_for(600.0, fleet=True)
    assert fleets.made[0].flush(PATIENCE)
    for n in range(20):
        registry[f"other {n}"].call(int)
    assert registry["a"].state is State.OPEN


def test_one_fleet_a_url(fleets: Fleets) -> None:
    one = CircuitBreaker("x", fleet=fleets.url)
    two = CircuitBreaker("y", fleet=fleets.url)
    members = [each._circuit.fleet for each in (one, two)]
    assert all(member is not None for member in members)
    registry = Registry(fleet=fleets.url)
    assert registry.fleet is not None
    assert registry.fleet.status().circuits == 2
    registry.fleet.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"witnesses": 0}, "witnesses must be from 1"),
        ({"witnesses": True}, "witnesses must be a whole number"),
        ({"witnesses": 1.5}, "witnesses must be a whole number"),
        ({"advisory": "yes"}, "advisory must be True or False"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Fleet("memory://bad", **arguments)
    with pytest.raises(ConfigError, match="a Fleet or a URL"):
        CircuitBreaker("x", fleet=7)  # type: ignore[arg-type]


def test_no_password_is_shown() -> None:
    fleet = Fleet("redis://user:hunter2@127.0.0.1:1/0")
    assert repr(fleet) == "<Fleet redis://user:***@127.0.0.1:1/0>"
    one = CircuitBreaker("x", fleet=fleet)
    eventually(lambda: fleet.status().last_error is not None)
    assert "hunter2" not in f"{fleet!r} {fleet.status()!r} {one.info()!r}"
    fleet.close()


def test_no_call_touches_the_store(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any state, whatever is asked of a breaker."""
    threads: list[str] = []
    real = MemoryStore._reach

    def reach(self: MemoryStore) -> None:
        threads.append(threading.current_thread().name)
        real(self)

    monkeypatch.setattr(MemoryStore, "_reach", reach)
    fleet = fleets.make()
    one = breaker(fleet, tripper=MinRequests(5) & FailureRate(0.5), retry=Cooldown(0.0))
    asynchronous = one.to_async()
    other = breaker(fleets.make())

    def everything() -> None:
        for _ in range(300):
            for failing in (False, True):
                with contextlib.suppress(CallNotPermittedError, ZeroDivisionError):
                    one.call(lambda: 1 // (not failing))  # noqa: B023
            with contextlib.suppress(CallNotPermittedError):
                one.attempt().ignore()
        one.info()
        asyncio.run(one_more())

    async def one_more() -> None:
        with contextlib.suppress(CallNotPermittedError):
            async with asynchronous:
                pass

    everything()
    for control in ("force_open", "disable", "metrics_only", "reset"):
        getattr(one, control)(fleet=True)
        everything()
        other.call(lambda: None) if other.state is State.CLOSED else other.info()
    one.open_for(0.001, fleet=True)
    eventually(lambda: other.state is not State.CLOSED)
    everything()
    fleet.status()
    assert set(threads) <= {"fluxgate-fleet-flusher", "fluxgate-fleet-listener"}
    assert threads


def test_a_touch_follows_a_quiet_time(fleets: Fleets) -> None:
    """A circuit that was quiet for long, and then opens alone, is reported."""
    fleet = fleets.make()
    one = breaker(fleet, tripper=FailureStreak(3))
    succeed(one)
    assert fleet.flush(PATIENCE)
    member = one._circuit.fleet
    assert member is not None
    eventually(lambda: member.quiet)
    fail(one, times=3)
    reader = MemoryStore(fleets.space)
    eventually(lambda: reader.reports(["x"]) != [[]])
    ((report,),) = reader.reports(["x"])
    assert re.fullmatch(r"open 3/4/0/\d+/\d+ FailureStreak\(3\)", report.text)
    one.reset()
    eventually(lambda: reader.reports(["x"]) == [[]])


def test_threads(fleets: Fleets) -> None:
    """None before the first breaker, two then, none after `close`."""

    def running() -> list[str]:
        names = [thread.name for thread in threading.enumerate()]
        return [name for name in names if name.startswith("fluxgate-fleet")]

    eventually(lambda: running() == [])
    with fleets.make() as fleet:
        assert running() == []
        kept = [CircuitBreaker(f"circuit {n}", fleet=fleet) for n in range(100)]
        assert len(running()) == 2
        assert all(t.daemon for t in threading.enumerate() if t.name in running())
        assert fleet.status().circuits == len(kept)
        del kept
        assert fleet.flush(PATIENCE)
        assert fleet.status().circuits == 0
    eventually(lambda: running() == [])


def test_after_close_it_goes_on_alone(fleets: Fleets) -> None:
    fleet = fleets.make()
    one = breaker(fleet, tripper=MinRequests(1) & FailureRate(0.5))
    one.open_for(0.001, fleet=True)
    fleets.flush()
    fleet.close()
    assert fleet.status().attached is False
    assert fleet.flush(0.1) is False
    probe(one).succeed()
    assert one.state is State.CLOSED


def test_a_listener_that_raises(fleets: Fleets) -> None:
    def listen(_: Signal) -> None:
        raise ZeroDivisionError

    one, two = (breaker(fleets.make(), listeners=[listen]) for _ in range(2))
    one.force_open(fleet=True)
    eventually(lambda: two.state is State.FORCED_OPEN)
    one.reset(fleet=True)
    eventually(lambda: two.state is State.CLOSED)


def test_what_opened_again_alone_is_shared(fleets: Fleets) -> None:
    """The store was away, and the probes of each have failed: back, they probe by lease again."""
    one, two = opened(fleets, tripper=MinRequests(1) & FailureRate(0.5), retry=Cooldown(0.05))
    fleets.space.down = True
    eventually(lambda: not any(fleet.status().attached for fleet in fleets.made))
    for each in (one, two):

        def failed(each: CircuitBreaker = each) -> bool:
            fail_if_admitted(each)
            return each.info().reopens > 0

        eventually(failed)
    assert states(one, two) <= {State.OPEN, State.HALF_OPEN}
    fleets.space.down = False
    eventually(lambda: all(fleet.status().attached for fleet in fleets.made))
    held = probe(one)
    fleets.flush()
    for _ in range(20):
        with pytest.raises(CallNotPermittedError):
            two.call(int)
    held.succeed()
    eventually(lambda: states(one, two) == {State.CLOSED})


def fail_if_admitted(each: CircuitBreaker) -> None:
    try:
        attempt = each.attempt()
    except CallNotPermittedError:
        return
    attempt.fail()


def test_two_hands_while_the_store_is_gone(fleets: Fleets) -> None:
    """What both set is put into the store in some order; the last is what all of them have."""
    one, two, three = (CircuitBreaker("x", fleet=fleets.make()) for _ in range(3))
    fleets.flush()
    for _ in range(4):
        fleets.space.down = True
        eventually(lambda: not any(fleet.status().attached for fleet in fleets.made))
        one.force_open(fleet=True)
        two.disable(fleet=True)
        fleets.space.down = False

        def agreed() -> bool:
            views = [each.info().fleet for each in (one, two, three)]
            states = {view.state for view in views if view is not None}
            epochs = {view.epoch for view in views if view is not None}
            return len(epochs) == 1 and states == {each.state for each in (one, two, three)}

        eventually(agreed)


def test_a_control_whose_breaker_is_gone(fleets: Fleets) -> None:
    """A script of one line: `CircuitBreaker("x", fleet=url).force_open(fleet=True)`."""
    peer = CircuitBreaker("x", fleet=fleets.make())
    fleet = fleets.make()
    CircuitBreaker("x", fleet=fleet).force_open(fleet=True)
    gc.collect()
    eventually(lambda: peer.state is State.FORCED_OPEN)

    def forgotten() -> bool:
        gc.collect()
        return fleet.status().circuits == 0

    eventually(forgotten)


# -- what is set by hand


def test_a_reset_clears_what_is_not_handed_in(fleets: Fleets) -> None:
    """Calls from before it belong to the window that it clears; later ones to the new one."""
    fleet = fleets.make()
    one = breaker(fleet)
    fleets.space.down = True
    eventually(lambda: not fleet.status().attached)
    fail(one, times=5)
    one.reset(fleet=True)
    succeed(one, times=2)
    fleets.space.down = False
    eventually(lambda: fleet_epoch(one) > 0)
    fleets.flush()
    view = one.info().fleet
    assert view is not None
    assert (view.metrics.total_count, view.metrics.failure_count) == (2, 0)
    assert fleet.status().dropped == 5


def test_a_reset_outranks_a_peer(fleets: Fleets) -> None:
    """Nobody who has reset the fleet hears of an opening that came before it."""
    heard: list[Signal] = []
    one, two = (breaker(fleets.make()) for _ in range(2))
    one.listen(heard.append)
    fleets.space.deaf = fleets.space.down = True
    eventually(lambda: not any(fleet.status().attached for fleet in fleets.made))
    one.reset(fleet=True)
    store = MemoryStore(fleets.space)
    fleets.space._down = False  # nobody is woken
    store.move(Move("x", None, 0, State.OPEN, 600_000))
    eventually(lambda: two.state is State.CLOSED and fleet_epoch(two) > 0)
    fleets.flush()
    assert states(one, two) == {State.CLOSED}
    assert heard == []


def test_an_opening_that_is_over(fleets: Fleets) -> None:
    """`open_for` while the store was away, for less time than it was: nobody else opens."""
    heard: list[Signal] = []
    simple = MinRequests(1) & FailureRate(0.5)
    one, two = (breaker(fleets.make(), tripper=simple) for _ in range(2))
    two.listen(heard.append)
    fleets.space.down = True
    eventually(lambda: not any(fleet.status().attached for fleet in fleets.made))
    one.open_for(0.001, fleet=True)
    eventually(lambda: one.info().retry_after == 0.0)
    succeed(one)
    assert one.state is State.CLOSED
    fleets.space.down = False
    fleets.flush()
    assert heard == []
    assert states(one, two) == {State.CLOSED}


def test_a_control_is_not_lost_to_another(fleets: Fleets) -> None:
    """One that comes while an older one is carried out is carried out next."""
    one = breaker(fleets.make())
    controls = Controls()
    controls.add(one._circuit, 0, State.FORCED_OPEN, Reason("force_open()"))
    carried = controls.latest()
    assert carried is not None
    controls.add(one._circuit, 0, State.CLOSED, Reason("reset()"))
    controls.done(carried)
    last = controls.latest()
    assert last is not None
    assert last.move.state is State.CLOSED
    controls.done(last)
    assert controls.latest() is None


def test_a_touch_makes_up_for_a_lost_push(fleets: Fleets) -> None:
    """Who isn't closed asks once a second, without traffic."""
    fleets.space.deaf = True
    one, two = (breaker(fleets.make()) for _ in range(2))
    one.force_open(fleet=True)
    fleets.flush()
    assert two.state is State.FORCED_OPEN
    one.reset(fleet=True)
    eventually(lambda: two.state is State.CLOSED)


# -- probes


def test_a_local_reset_gives_the_lease_back(fleets: Fleets) -> None:
    """The others need not wait until the lease is over."""
    one, two = opened(fleets, probe_timeout=600.0)
    with pytest.raises(CallNotPermittedError):
        one.attempt()
    eventually(lambda: _leases(one))
    one.reset()
    probe(two).ignore()


def test_a_probe_that_a_local_reset_overtakes(fleets: Fleets) -> None:
    """Its outcome is the fleet's all the same."""
    simple = MinRequests(1) & FailureRate(0.5)
    one, two = opened(fleets, tripper=simple, probe_timeout=600.0)
    held = probe(one)
    one.reset()
    fleets.flush()
    held.succeed()
    eventually(lambda: two.state is State.CLOSED)


def test_a_lease_is_not_taken_late() -> None:
    """A probe that begins at the end of its lease would go on beside its successor's."""
    leases = Leases()
    leases.granted.append(Lease(1, deadline=10.0, wanted_until=5.0))
    assert leases.take(6.0) is None
    assert [each.token for each in leases.ended] == [1]
    leases.granted.append(Lease(2, deadline=10.0, wanted_until=5.0))
    assert leases.take(4.0) == Lease(2, 10.0, 5.0)


def test_who_has_opened_a_circuit() -> None:
    """Known from the event, whatever the words of the reason are."""
    one = CircuitBreaker("x", **{**SETTINGS, "retry": Cooldown(0.0)})
    machine = one._circuit._machine
    one.open_for(0.001)
    assert (machine.phase.event, machine.phase.tripped) == (Event.OPEN_FOR, False)
    one.reset()
    fail(one, times=10)
    assert (machine.phase.event, machine.phase.tripped) == (Event.TRIPPED, True)
    held = one.attempt()
    assert (machine.phase.event, machine.phase.tripped) == (Event.COOLED, True)
    held.fail()
    for _ in range(10):
        one.attempt().succeed()
    assert (machine.phase.event, machine.phase.tripped) == (Event.RECOVERED, False)


# -- advisory, and hands


def test_a_hand_ends_what_a_hand_began(fleets: Fleets) -> None:
    """Advisory, too: a peer's reset frees what a peer's hand has set."""
    one, two = (breaker(fleets.make(advisory=True)) for _ in range(2))
    for control, state in (("force_open", State.FORCED_OPEN), ("disable", State.DISABLED)):
        getattr(two, control)(fleet=True)
        eventually(lambda: one.state is state)  # noqa: B023
        two.reset(fleet=True)
        eventually(lambda: one.state is State.CLOSED)


def test_advisory_and_opened_by_hand(fleets: Fleets) -> None:
    """`open_for` opens this circuit alone, which probes for itself."""
    simple = MinRequests(1) & FailureRate(0.5)
    one, two = (breaker(fleets.make(advisory=True), tripper=simple) for _ in range(2))
    one.open_for(0.001, fleet=True)
    fleets.flush()
    probe(one).succeed()
    assert states(one, two) == {State.CLOSED}


def test_advice_ends_with_the_store(fleets: Fleets) -> None:
    """Alone, one failure opens nothing; when the store is back, one does again."""
    fleet = fleets.make(advisory=True)
    one, other = breaker(fleet), breaker(fleets.make(advisory=True))
    other.open_for(600.0, fleet=True)
    eventually(lambda: fleet_epoch(one) > 0)
    fleets.space.down = True
    eventually(lambda: not fleet.status().attached)
    succeed(one, times=20)
    fail(one)
    assert one.state is State.CLOSED
    fleets.space.down = False
    eventually(lambda: fleet.status().attached)
    fleets.flush()
    fail(one)
    assert one.state is State.OPEN
