"""What must hold when two or three threads meet in one circuit or registry, in every order tried.

`interleaving.py` tries the orders: those with two preemptions in the long form, of eleven scenarios
those with one in the short form. Each scenario has a planted fault (a lock that lets everybody in,
a check left out, a bug that there was) which its search must find, or it would prove nothing.
"""

from __future__ import annotations
import __future__

import inspect
import logging
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import pytest

import fluxgate
from fluxgate import Attempt, CallNotPermittedError, CircuitBreaker, ConfigError, Signal, State
from fluxgate._circuit_cache import CircuitCache
from fluxgate._engine import living
from fluxgate._engine.circuit import Circuit
from fluxgate._engine.dispatch import Dispatch
from fluxgate._engine.lane import Lane
from fluxgate._engine.machine import Machine
from fluxgate.permits import All
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown
from fluxgate.signals import Origin, Reason, SignalKind, Subscription
from fluxgate.testing import ManualClock
from fluxgate.trippers import FailureStreak
from fluxgate.windows import CountWindow

from .interleaving import Broken, Lock, Run, Stage, explore, runs
from .places import SOURCES, Places
from .proving import LONG

gil = getattr(sys, "_is_gil_enabled", lambda: True)
pytestmark = [
    pytest.mark.skipif(not gil(), reason="the orders are those of a GIL"),
    pytest.mark.slow,
]

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
FORCED_OPEN, DISABLED = State.FORCED_OPEN, State.DISABLED


class World:
    """A circuit, its signals, and what the threads have done with it."""

    def __init__(self, failures: int = 1, slots: int = 1) -> None:
        self.clock = ManualClock(1024.0)
        self.signals: list[Signal] = []
        self.breaker = CircuitBreaker(
            "api",
            tripper=FailureStreak(failures),
            retry=Cooldown(30),
            permit=All(),
            max_half_open_calls=slots,
            probe_timeout=60.0,
            window=CountWindow(1000),
            listeners=[self.signals.append],
            clock=self.clock,
            dice=lambda: 0.5,
        )
        self.circuit = self.breaker._circuit
        self.late: list[Signal] = []
        self.asked: list[bool] = []
        self.held: list[Attempt] = []
        self.ended = self.refused = 0

    # -- how it begins

    def holding(self, count: int = 1) -> World:
        """That many calls are under way."""
        self.held.extend(self.breaker.attempt() for _ in range(count))
        return self

    def refusing(self, count: int) -> World:
        """Open, and so many refusals are not counted yet."""
        fail(self)
        for _ in range(count):
            begin(self)
        return self

    def cooled(self) -> World:
        """Open, and the next call is a probe."""
        fail(self)
        self.clock.advance(30)
        return self

    def later(self, seconds: float) -> World:
        self.clock.advance(seconds)
        return self

    def noted(self) -> World:
        """A note waits in the inbox."""
        end_ignored(self)
        assert self.circuit._inbox
        return self

    def journalled(self, count: int) -> World:
        """So many successes are in the lane, not counted yet."""
        for _ in range(count):
            succeed(self)
        return self

    # -- how it ends

    def moves(self) -> list[State]:
        """The states after the first, as the listener has heard them."""
        return [each.new_state for each in self.signals if each.kind is SignalKind.TRANSITION]

    def check(self) -> None:
        """Check what holds whatever has been done."""
        info, circuit = self.breaker.info(), self.circuit
        totals = info.totals
        settled = totals.successes + totals.failures + totals.ignored + totals.stale
        assert settled == self.ended, f"{self.ended} ended, {settled} are counted: {totals}"
        assert totals.rejected == self.refused
        assert info.probes == sum(each.probe for each in self.held)
        assert [each.generation for each in self.signals] == list(range(1, len(self.signals) + 1))
        states = [CLOSED, *self.moves()]
        assert [each.old_state for each in self.signals] == states[:-1]
        assert states[-1] is info.state
        assert not circuit._busy
        assert circuit._inbox == circuit._outbox == []
        assert circuit.lane is circuit._machine.lane
        assert info.metrics.total_count <= totals.successes + totals.failures


def broken() -> None:
    raise ConnectionError


def call(world: World, function: Callable[[], object]) -> None:
    try:
        world.breaker.call(function)
    except CallNotPermittedError:
        world.refused += 1
        return
    except ConnectionError:
        pass
    world.ended += 1


def succeed(world: World) -> None:
    call(world, int)


def fail(world: World) -> None:
    call(world, broken)


def begin(world: World) -> None:
    try:
        world.held.append(world.breaker.attempt())
    except CallNotPermittedError:
        world.refused += 1


def end_well(world: World) -> None:
    world.held.pop(0).succeed()
    world.ended += 1


def end_badly(world: World) -> None:
    world.held.pop(0).fail()
    world.ended += 1


def end_ignored(world: World) -> None:
    world.held.pop(0).ignore()
    world.ended += 1


def drop(world: World) -> None:
    """Forget a call: its finaliser leaves a note."""
    del world.held[0]
    world.ended += 1


def look(world: World) -> None:
    world.breaker.info()


def ask(world: World) -> None:
    world.asked.append(world.breaker.available)


def hear(world: World) -> None:
    world.breaker.listen(world.late.append)


def reset(world: World) -> None:
    world.breaker.reset()


def force_open(world: World) -> None:
    world.breaker.force_open()


def disable(world: World) -> None:
    world.breaker.disable()


def trip_at_one(world: World) -> None:
    world.breaker.update(tripper=FailureStreak(1))


def follow(world: World) -> None:
    """Open, as the fleet says."""
    world.circuit.step(
        lambda machine, now: machine.follow(OPEN, now, now + 30, 0, Reason("fleet"), Origin.FLEET)
    )


# -- what must hold


def trips_once(world: World) -> None:
    world.check()
    assert world.moves() == [OPEN]
    assert world.breaker.info().totals.trips == {"FailureStreak(1)": 1}


def trips_with_the_second(world: World) -> None:
    world.check()
    assert world.moves() == [OPEN]
    assert world.breaker.info().totals.failures == 2


def one_probe(world: World) -> None:
    world.check()
    assert world.moves() == [OPEN, HALF_OPEN]
    assert len(world.held) == 1


def forgotten_or_stale(world: World) -> None:
    """A failure from before a reset isn't in the window after it, and trips nobody."""
    world.check()
    info = world.breaker.info()
    assert world.moves() in ([CLOSED], [OPEN, CLOSED], []), world.moves()
    assert info.state is CLOSED
    assert info.metrics.total_count == info.metrics.failure_streak == 0
    assert info.totals.failures == world.moves().count(OPEN)


def every_success_counts(count: int) -> Callable[[World], None]:
    def check(world: World) -> None:
        world.check()
        totals = world.breaker.info().totals
        assert totals.successes + totals.stale + world.refused == count
        assert totals.failures == 1
        assert world.moves() == [OPEN]

    return check


def all_in_the_window(world: World) -> None:
    world.check()
    info = world.breaker.info()
    assert info.metrics.total_count == info.totals.successes == 257


def ends_in(state: State) -> Callable[[World], None]:
    def check(world: World) -> None:
        world.check()
        assert world.breaker.state is state
        assert world.breaker.info().metrics.total_count == 0

    return check


def probed_once(world: World) -> None:
    """The slot had one holder at a time, and who lost it moves nothing."""
    world.check()
    totals = world.breaker.info().totals
    if world.breaker.state is CLOSED:  # it ended in time
        assert totals.successes == 1
    assert world.moves().count(HALF_OPEN) == 1


def fleets_phase(world: World) -> None:
    world.check()
    phase = world.circuit.phase
    assert phase.state is OPEN
    assert phase.leases is not None
    assert phase.reason == Reason("fleet")
    assert phase.retry_at == world.clock() + 30


def trips_unless_before(world: World) -> None:
    """A failure trips by the new settings, or was counted by the old ones; the next one trips."""
    world.check()
    assert world.breaker.info().totals.failures == 1
    fail(world)
    world.check()
    assert world.breaker.state is OPEN


def heard_or_too_late(world: World) -> None:
    """A listener that comes while a transition is on its way hears it, or what follows."""
    world.check()
    before = len(world.late)
    world.breaker.reset()
    world.check()
    assert [each.new_state for each in world.late] == [OPEN] * before + [CLOSED]


def check_world(world: World) -> None:
    world.check()


# -- a registry


class Names:
    """A registry, and what the threads got of it."""

    def __init__(self, bound: int = 8, made: Sequence[str] = ()) -> None:
        self.registry = Registry(max_circuits=bound, tripper=FailureStreak(9))
        for name in made:
            self.registry[name]
        self.got: list[CircuitBreaker] = []
        self.refused = False

    def check(self) -> None:
        """Whoever holds a circuit shares it with all who look its name up."""
        for breaker in self.got:
            assert self.registry[breaker.name]._circuit is breaker._circuit
            assert dict(self.registry.items())[breaker.name]._circuit is breaker._circuit
        self.registry["c"]  # without the lock there may have been one too many until now
        assert len(self.registry._cache.kept) <= self.registry.max_circuits


def look_up_a(names: Names) -> None:
    names.got.append(names.registry["a"])


def look_up_b(names: Names) -> None:
    names.got.append(names.registry["b"])


def force_a_open(names: Names) -> None:
    names.registry["a"].force_open()


def is_forced_open(names: Names) -> None:
    assert names.registry["a"].state is FORCED_OPEN


def declare_a(names: Names) -> None:
    try:
        names.registry.declare("a", tripper=FailureStreak(1))
    except ConfigError:
        names.refused = True


def declared_or_refused(names: Names) -> None:
    (breaker,) = names.got
    assert names.refused is not (breaker.policy.tripper == FailureStreak(1))


def never_ignored(names: Names) -> None:
    """Without the lock an error may come although the settings were read; never the reverse."""
    (breaker,) = names.got
    assert names.refused or breaker.policy.tripper == FailureStreak(1)


class Meeting:
    """A new circuit, and a new listener of all circuits."""

    def __init__(self) -> None:
        for number, circuit in list(living._circuits.items()):
            if circuit.name == "new":  # an earlier run's, which the collector has yet to find
                del living._circuits[number]
        self.heard: list[Signal] = []
        self.breakers: list[CircuitBreaker] = []
        self.subscriptions: list[Subscription] = []


def make(meeting: Meeting) -> None:
    meeting.breakers.append(CircuitBreaker("new"))


def listen(meeting: Meeting) -> None:
    meeting.subscriptions.append(fluxgate.listen(meeting.heard.append))


def hears_the_new_one(meeting: Meeting) -> None:
    meeting.breakers[0].force_open()
    meeting.subscriptions[0]()
    assert [each.new_state for each in meeting.heard] == [FORCED_OPEN]


# -- what is explored


class Fault(NamedTuple):
    """A fault to plant: in the source of a method, `old` becomes `new`."""

    owner: type
    method: str
    old: str
    new: str

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole: FunctionType = getattr(self.owner, self.method)
        source = textwrap.dedent(inspect.getsource(whole))
        assert source.count(self.old) == 1, f"{self.old!r} in {self.method}: {source}"
        lines = "\n" * (whole.__code__.co_firstlineno - 1)  # its places have their own numbers
        code = compile(
            lines + source.replace(self.old, self.new),
            whole.__code__.co_filename,
            "exec",
            flags=__future__.annotations.compiler_flag,
        )
        made: dict[str, Any] = {}
        exec(code, whole.__globals__, made)
        monkeypatch.setattr(self.owner, self.method, made[self.method])


class Scenario(NamedTuple):
    """What meets what.

    Attributes:
        setup: makes what the threads share.
        workers: one for each thread.
        check: what must hold at the end.
        fault: what its search must find.
        lockless: whether locks that let everybody in are a part of that fault, or all of it.
        impatient: whether the lock of a registry is given up at once, and not after a second.
        needs: the preemptions by which the fault can be found.
    """

    setup: Callable[[], Any]
    workers: Sequence[Callable[[Any], object]]
    check: Callable[[Any], None]
    fault: Fault | None = None
    lockless: bool = False
    impatient: bool = False
    needs: int = 1

    def explore(self, bound: int, *, lockless: bool = False) -> int:
        stage = Stage(impatient=self.impatient, lockless=lockless)
        return explore(self.setup, self.workers, self.check, bound=bound, stage=stage)


class Homes:
    """A circuit, and two registries that take it up."""

    def __init__(self) -> None:
        self.circuit = CircuitBreaker("api")._circuit
        self.homes = (Registry(), Registry())

    def enter(self, number: int) -> None:
        self.circuit.enter(self.homes[number])


def in_both(homes: Homes) -> None:
    assert all(homes.circuit.is_of(each) for each in homes.homes)


NO_GENERATIONS = Fault(Machine, "settle", "if phase is not self.phase:", "if False:")
NO_RETIREMENT = Fault(Lane, "retire", "self[:0] = _FULL", "pass")

NO_SECOND_LOOK = Fault(CircuitCache, "_note", "if other is not None:", "if False:")
FORGETFUL = Fault(
    CircuitCache,
    "_make_room",
    "elif (gone := kept.pop(key, None)) is not None:",
    "elif (gone := kept.pop(key, None)) is not None and self.known.pop(key):",
)
NOT_PUT_BACK = Fault(Circuit, "_stay", "keeper.keep()", "pass")
NO_THIRD_LOOK = Fault(CircuitCache, "_make_room", "if not gone.is_evictable():", "if False:")
COPIED = Fault(
    Circuit,
    "_catch_up",
    "starmap(call, iter(partial(inbox.pop, 0), None)):",
    "(*starmap(call, inbox.copy()), inbox.clear()):",
)

EXCHANGED = Fault(
    Circuit,
    "enter",
    "self._homes.append(ref(home, self._homes.remove))",
    "self._homes = [*self._homes, ref(home)]",
)

LISTED_LAST = Fault(
    Circuit,
    "__init__",
    """living.add(self)
    # Last: whoever registers a listener of all circuits meets this one from here on.
    if listeners or everywhere.listeners:
        self._perform(self._gather)
""",
    """if listeners or everywhere.listeners:
        self._perform(self._gather)
    living.add(self)
""",
)

SCENARIOS: dict[str, Scenario] = {
    "two failures, each would trip": Scenario(World, (fail, fail), trips_once, NO_GENERATIONS),
    "two failures that trip together": Scenario(
        lambda: World(failures=2), (fail, fail), trips_with_the_second, lockless=True
    ),
    "one slot, two probes": Scenario(
        lambda: World().cooled(), (begin, begin), one_probe, lockless=True
    ),
    "a failure against a reset": Scenario(
        lambda: World().holding(), (end_badly, reset), forgotten_or_stale, NO_GENERATIONS
    ),
    "a success against a failure": Scenario(
        World, (succeed, fail), every_success_counts(1), NO_RETIREMENT
    ),
    "a full lane against a failure": Scenario(
        lambda: World().journalled(255), (succeed, fail), every_success_counts(256), NO_RETIREMENT
    ),
    "two successes in a full lane": Scenario(
        lambda: World().journalled(255),
        (succeed, succeed),
        all_in_the_window,
        Fault(Circuit, "_locked", "del lane[: len(batch)]", "del lane[:]"),
    ),
    "a probe's end against force_open": Scenario(
        lambda: World().cooled().holding(),
        (end_well, force_open),
        ends_in(FORCED_OPEN),
        Fault(
            Dispatch,
            "deliver",
            'if turn.get("") is me:  # one look',
            'if "" in turn and turn[""] is me:  # one look',
        ),
        needs=2,
    ),
    "a failure against disable": Scenario(
        lambda: World().holding(), (end_badly, disable), ends_in(DISABLED), NO_GENERATIONS
    ),
    "an overdue probe against its successor": Scenario(
        lambda: World().cooled().holding().later(60), (end_well, begin), probed_once, lockless=True
    ),
    "a note against a look": Scenario(
        lambda: World().holding(2).noted(),
        (look, end_ignored),
        check_world,
        Fault(Circuit, "_catch_up", "if not is_end(error):", "if inbox:"),
    ),
    "a finaliser's note against a look": Scenario(
        lambda: World().holding(2).noted(), (look, drop), check_world, COPIED
    ),
    "available against a probe": Scenario(
        lambda: World(slots=2).cooled().holding(),
        (ask, begin),
        check_world,
        Fault(Machine, "may_admit", "held = phase.probes.copy()", "held = phase.probes"),
    ),
    "two refusals in a full journal": Scenario(
        lambda: World().refusing(254),
        (begin, begin),
        check_world,
        Fault(
            Circuit,
            "_count_rejections",
            "rejections[:count] = [sum(rejections[:count])]",
            "rejections[:] = [sum(rejections[:count])]",
        ),
    ),
    "a new listener against a failure": Scenario(
        World, (hear, fail), heard_or_too_late, lockless=True
    ),
    "a failure against an update": Scenario(
        lambda: World(failures=2), (fail, trip_at_one), trips_unless_before, lockless=True
    ),
    "a failure against the fleet": Scenario(
        lambda: World().holding(), (end_badly, follow), fleets_phase, NO_GENERATIONS
    ),
    "get or create, twice": Scenario(
        Names, (look_up_a, look_up_a), Names.check, NO_SECOND_LOOK, lockless=True
    ),
    "get or create, twice, without the lock": Scenario(
        Names, (look_up_a, look_up_a), Names.check, NO_SECOND_LOOK, impatient=True
    ),
    "get or create against evict": Scenario(
        lambda: Names(bound=1, made="a"),
        (look_up_a, look_up_b),
        Names.check,
        FORGETFUL,
    ),
    "get or create against evict, without the lock": Scenario(
        lambda: Names(bound=1, made="a"),
        (look_up_a, look_up_b),
        Names.check,
        FORGETFUL,
        impatient=True,
    ),
    "a control against evict": Scenario(
        lambda: Names(bound=1, made="a"), (force_a_open, look_up_b), is_forced_open, NOT_PUT_BACK
    ),
    "evict against a control": Scenario(
        lambda: Names(bound=1, made="a"), (force_a_open, look_up_b), is_forced_open, NO_THIRD_LOOK
    ),
    "declare against the first use": Scenario(
        Names, (declare_a, look_up_a), declared_or_refused, lockless=True
    ),
    "declare against the first use, without the lock": Scenario(
        Names,
        (declare_a, look_up_a),
        never_ignored,
        Fault(CircuitCache, "_make", "self._making.append(key)", "pass"),
        impatient=True,
    ),
    "a new circuit against a listener of all": Scenario(
        Meeting, (make, listen), hears_the_new_one, LISTED_LAST
    ),
    "two homes of one circuit": Scenario(
        Homes, (lambda homes: homes.enter(0), lambda homes: homes.enter(1)), in_both, EXCHANGED
    ),
    "three failures, each would trip": Scenario(
        lambda: World().holding(3), (end_badly, end_badly, end_badly), trips_once, NO_GENERATIONS
    ),
    "one slot, three probes": Scenario(
        lambda: World().cooled(), (begin, begin, begin), one_probe, lockless=True
    ),
    "two successes against a failure": Scenario(
        lambda: World().holding(3),
        (end_well, end_well, end_badly),
        every_success_counts(2),
        NO_RETIREMENT,
    ),
}


SHORT = (
    "two failures that trip together",
    "one slot, two probes",
    "a failure against a reset",
    "two successes in a full lane",
    "a success against a failure",
    "a probe's end against force_open",
    "a note against a look",
    "get or create against evict",
    "a control against evict",
    "a failure against the fleet",
    "two homes of one circuit",
)
"""What is explored in the short form as well."""


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A warning of each run is too much to keep."""
    caplog.set_level(logging.CRITICAL, logger="fluxgate")


@pytest.mark.parametrize("name", SCENARIOS if LONG else SHORT)
def test_it_holds_while_preempted(name: str) -> None:
    bound = 2 if LONG else 1
    count = SCENARIOS[name].explore(bound)
    print(f"\n{name}: {count:,} runs with {bound} preemptions at most")
    assert count > 2


@pytest.mark.parametrize("name", SCENARIOS if LONG else SHORT)
def test_its_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = SCENARIOS[name]
    if scenario.needs > 1 and not LONG:
        pytest.skip("its fault takes two preemptions: the long form looks for it")
    if scenario.fault is not None:
        scenario.fault.plant(monkeypatch)
    with pytest.raises(Broken) as found:
        scenario.explore(scenario.needs, lockless=scenario.lockless)
    print(f"\n{name}: {found.value}")


# -- the search itself


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> None:
        self.count += 1


def test_a_lost_update_is_found() -> None:
    def check(counter: Counter) -> None:
        assert counter.count == 2

    workers, here = (Counter.add, Counter.add), Places(Path(__file__))
    assert explore(Counter, workers, check, bound=0, places=here) == 2
    with pytest.raises(Broken, match=r"assert 1 == 2(.|\n)*thread 0 until .*\(Counter.add\)"):
        explore(Counter, workers, check, bound=1, places=here)


class Pair:
    def __init__(self, stage: Stage) -> None:
        self.left, self.right = Lock(stage), Lock(stage)

    def one_way(self) -> None:
        with self.left, self.right:
            pass

    def the_other(self) -> None:
        with self.right, self.left:
            pass


def test_a_deadlock_is_found() -> None:
    stage, here = Stage(), Places(Path(__file__))

    def run(*workers: Callable[[Pair], None]) -> int:
        return explore(
            lambda: Pair(stage), workers, lambda _: None, bound=1, stage=stage, places=here
        )

    with pytest.raises(Broken, match="every thread waits for a lock"):
        run(Pair.one_way, Pair.the_other)
    assert run(Pair.one_way, Pair.one_way) > 3


@pytest.mark.parametrize(
    "name",
    ["two refusals in a full journal"]
    + ["a success against a failure", "one slot, two probes", "a failure against the fleet"] * LONG,
)
def test_places_are_where_it_matters(name: str) -> None:
    """To be preempted before each bytecode leads to nothing else: the places leave nothing out."""
    scenario = SCENARIOS[name]

    def outcomes(*, each: bool) -> list[str]:
        stage, places = Stage(lockless=True), Places(SOURCES, each=each)
        return [
            outcome(run)
            for run in runs(scenario.setup, scenario.workers, bound=1, stage=stage, places=places)
        ]

    few, many = outcomes(each=False), outcomes(each=True)
    print(f"\n{name}: {len(few):,} runs instead of {len(many):,}, {len(set(few))} outcomes")
    assert set(few) == set(many)
    assert len(few) < len(many)


def outcome(run: Run[World]) -> str:
    """How it ended, in words."""
    world = run.world
    try:
        info = world.breaker.info()
    except Exception as error:  # there were no locks
        return f"{run.errors} {error!r}"
    numbers = (info.state, info.probes, info.metrics, info.totals, world.ended, world.refused)
    return f"{run.errors} {numbers} {world.moves()}"
