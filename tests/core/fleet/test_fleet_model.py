"""A fleet whose store loses, delays and forgets, against a sequential model of epochs and leases.

A few members share one circuit through a store in memory. Nothing runs by itself: the flushers are
stepped by hand, all clocks are one number, and each verb of the store may be lost on its way there
or back, come late, be refused, or find that everything is gone or as it was an hour ago.

`Rounds` is the model: a list of moves, and the leases of the last one. It says what the store has
to answer, and what a fleet must never do, whatever its members believe.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fluxgate import Attempt, CallNotPermittedError, CircuitBreaker, Signal, State
from fluxgate.fleet import Fleet
from fluxgate.fleet._flusher import Flusher
from fluxgate.fleet.memory import MemoryStore, Space
from fluxgate.fleet.store import Exchange, Hint, Move, StoreBusy, StoreError, View
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, MinRequests
from fluxgate.windows import CountWindow

from ..proving import LONG

pytestmark = pytest.mark.slow

SLOTS = 2
PROBE_TIMEOUT = 20.0
COOLDOWN = 15.0
BOUND = 12.0
"""Seconds after which all agree, once messages flow: the heartbeat of idle ones, and some."""
HAND = {State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN}
FAULTS = ("lost", "unanswered", "late", "busy", "failed alone", "read-only")
numbers = itertools.count()


# -- the model


class Round(NamedTuple):
    """What one move has begun; times are milliseconds of the store."""

    epoch: int = 0
    state: State = State.CLOSED
    until: float = math.inf


class Rounds:
    """Epochs and leases, one after the other."""

    def __init__(self) -> None:
        self.current: Round | None = None  # None: nothing is stored
        self.leases: dict[int, float] = {}  # token -> end
        self.states: dict[int, State] = {}  # of every epoch that there ever was
        self.hands = 0  # controls on their way, or arrived

    def move(self, move: Move, view: View, now: int) -> None:
        """Check the answer to a move, and make it."""
        stored = self.current or Round()
        may = move.expected in (None, stored.epoch)
        if move.reassert:
            may = may and stored.epoch < move.known
        assert view.won == may, (move, view)
        if not may:
            return
        epoch = max(stored.epoch + 1, move.known + 1, now)
        if move.reassert:
            epoch = move.known + (move.state is State.HALF_OPEN)
        assert view.epoch == epoch > stored.epoch
        self._check(move, stored, now)
        assert self.states.setdefault(epoch, move.state) is move.state, "one epoch, two states"
        until = math.inf if move.remaining is None else now + move.remaining
        self.current, self.leases = Round(epoch, move.state, until), {}

    def _check(self, move: Move, stored: Round, now: int) -> None:
        """Nobody but a hand moves a circuit elsewhere than the table of states says."""
        if move.reassert:
            before = self.states.get(move.known)
            assert before is move.state, f"{move} brings back what never was"
            return
        if move.expected is None:
            return  # by hand
        over = now >= stored.until
        if stored.state in HAND:
            assert over, f"{move} ends what a hand has set"
        elif stored.state is State.OPEN:
            assert over, f"{move} ends an opening before its time"
            assert move.state in (State.HALF_OPEN, State.CLOSED)
        elif stored.state is State.HALF_OPEN:
            assert move.state in (State.OPEN, State.CLOSED)
        else:
            assert move.state is State.OPEN

    def exchange(self, request: Exchange, view: View, now: int) -> None:
        """Check the answer to an exchange, and make its leases."""
        stored = self.current or Round()
        assert view.epoch == stored.epoch or not view.known
        self.leases = {token: end for token, end in self.leases.items() if end > now}
        if request.epoch != stored.epoch:
            assert not view.tokens
            assert not view.applied
            return
        for probe in request.probes:
            self.leases.pop(probe.token, None)
        for token in view.tokens:
            assert token not in self.leases
            self.leases[token] = now + request.lease
        assert not view.tokens or stored.state is State.HALF_OPEN
        assert len(self.leases) <= SLOTS, "more leases than slots"
        counts = stored.state in (State.CLOSED, State.METRICS_ONLY)
        assert not view.applied or (counts and request.delta.calls)


# -- the store, and the processes


class World:
    """The time, the store's contents, and what is on its way."""

    def __init__(self) -> None:
        self.ms = 1_764_000_000_000
        self.space = Space()
        self.space.clock = lambda: self.ms
        self.rounds = Rounds()
        self.late: list[Callable[[], object]] = []
        self.applied: Counter[str] = Counter()
        self.rolled_back: set[int] = set()

    def now(self) -> float:
        return (self.ms - 1_764_000_000_000) / 1000 + 1000.0


class UnreliableStore(MemoryStore):
    """A store whose verbs meet faults, one each, in the order in which they are given."""

    def __init__(self, world: World) -> None:
        super().__init__(world.space)
        self.world = world
        self.faults: deque[str] = deque()

    def exchange(self, requests: list[Exchange]) -> list[View | StoreError]:
        fault = self._meet(lambda: self._exchanged(requests))
        answers = self._exchanged(requests)
        self._answer(fault)
        if fault == "failed alone":
            return [StoreError("this one has failed") for _ in answers]
        return answers

    def _exchanged(self, requests: list[Exchange]) -> list[View | StoreError]:
        self._forget_what_is_too_old()
        answers = super().exchange(requests)
        for request, view in zip(requests, answers, strict=True):
            assert isinstance(view, View)
            if request.name != "x":
                continue  # the processes' own entry, which no circuit has
            self.world.rounds.exchange(request, view, self.world.ms)
            self.world.applied[self.process] += request.delta.calls if view.applied else 0
        return answers

    def move(self, move: Move) -> View:
        fault = self._meet(lambda: self._moved(move))
        view = self._moved(move)
        self._answer(fault)
        return view

    def _moved(self, move: Move) -> View:
        self._forget_what_is_too_old()
        view = super().move(move)
        self.world.rounds.move(move, view, self.world.ms)
        return view

    def read(self, names: list[str]) -> list[View]:
        fault = self._meet(None)
        self._forget_what_is_too_old()
        views = super().read(names)
        self._answer(fault)
        return views

    def _forget_what_is_too_old(self) -> None:
        self.world.ms += 5  # each verb takes some time
        circuit = self.world.space.circuits.get("x")
        if circuit is None or self.world.ms >= circuit.expires:
            self.world.rounds.current = None

    def _meet(self, late: Callable[[], object] | None) -> str:
        fault = self.faults.popleft() if self.faults else ""
        if fault == "busy":
            raise StoreBusy("somebody else has it")
        if fault == "lost" or (fault == "read-only" and late is not None):
            raise StoreError("lost on its way there")
        if fault == "late":
            if late is not None:
                self.world.late.append(late)
            raise StoreError("no answer in time")
        return fault

    def _answer(self, fault: str) -> None:
        if fault == "unanswered":
            raise StoreError("lost on its way back")


class SteppedFlusher(Flusher):
    """A flusher without threads, whose clock is the world's."""

    store: UnreliableStore

    def __init__(self, world: World) -> None:
        super().__init__(UnreliableStore(world), "memory")
        self.clock = world.now
        self.troubles: list[Exception] = []

    def start(self) -> None:
        """Nothing runs by itself."""

    def listen(self) -> None:
        """What the listener's thread does when pushes have come."""
        self._hints.extend(self.store.wait(0.0))

    def _trouble(self, error: Exception) -> None:
        self.troubles.append(error)
        super()._trouble(error)


class Process:
    """One process: a flusher, a breaker, the calls that it has in flight."""

    def __init__(self, world: World, advisory: bool) -> None:
        self.world = world
        self.advisory = advisory
        self.heard: list[Signal] = []
        self.flying: list[Attempt] = []
        self.fleet = Fleet(f"memory://model-{next(numbers)}", advisory=advisory)
        self.flusher = self.fleet._flusher = SteppedFlusher(world)
        self.breaker = CircuitBreaker(
            "x",
            fleet=self.fleet,
            listeners=[self.heard.append],
            window=CountWindow(20),
            tripper=MinRequests(4) & FailureRate(0.5),
            retry=Cooldown(COOLDOWN),
            permit=All(),
            max_half_open_calls=SLOTS,
            probe_timeout=PROBE_TIMEOUT,
            clock=world.now,
            dice=lambda: 0.0,
        )
        self.circuit = self.breaker._circuit
        member = self.circuit.fleet
        assert member is not None
        self.member = member
        self.epoch = 0
        self.apart = -1  # the epoch in which a hand has set this circuit alone

    def tick(self, *faults: str) -> None:
        self.flusher.store.faults = deque(faults)
        self.flusher._tick()
        self.flusher.store.faults.clear()

    @property
    def live_leases(self) -> int:
        """Leases that a call has or may take."""
        phase, now = self.circuit.phase, self.world.now()
        if phase.leases is None:
            return 0
        granted = sum(now < lease.wanted_until for lease in phase.leases.granted)
        return granted + sum(now < deadline for deadline in phase.probes.values())

    @property
    def settled(self) -> int:
        totals = self.breaker.info().totals
        return totals.successes + totals.failures

    def follows(self) -> bool:
        """Whether nothing but the fleet has a say in its state."""
        hand = self.circuit.state in HAND and not self.member.owns()
        return not (self.advisory or hand or self.apart == self.member.epoch)


# -- what is played

who = st.integers(0, 2)
faults = st.lists(st.sampled_from(["", "", *FAULTS]), max_size=4)


class Members(RuleBasedStateMachine):
    """Three processes and their store."""

    @initialize(advisory=st.sampled_from([False, False, False, True]))
    def begin(self, advisory: bool) -> None:
        self.world = World()
        self.processes = [Process(self.world, advisory and number == 2) for number in range(3)]
        self.gone: list[Process] = []
        self.snapshot: tuple[Any, Any] = ({}, (None, {}))

    # -- calls

    @rule(which=who, failed=st.booleans(), count=st.sampled_from([1, 1, 3, 6, 30]))
    def call(self, which: int, failed: bool, count: int) -> None:
        breaker = self.processes[which].breaker
        for _ in range(count):
            try:
                attempt = breaker.attempt()
            except CallNotPermittedError:
                continue
            if failed:
                attempt.fail()
            else:
                attempt.succeed()

    @rule(which=who)
    def start(self, which: int) -> None:
        process = self.processes[which]
        try:
            process.flying.append(process.breaker.attempt())
        except CallNotPermittedError:
            return

    @rule(which=who, ending=st.sampled_from(["succeed", "succeed", "fail", "ignore"]))
    def end(self, which: int, ending: str) -> None:
        """A call that was let in some time ago ends; the others hang."""
        process = self.processes[which]
        if process.flying:
            getattr(process.flying.pop(0), ending)()

    # -- messages and time

    @rule(which=who, met=faults)
    def flush(self, which: int, met: list[str]) -> None:
        self.processes[which].tick(*met)

    @rule(met=faults, seconds=st.sampled_from([0.0, 0.25]))
    def flush_all(self, met: list[str], seconds: float) -> None:
        for process in self.processes:
            self.wait(seconds)
            process.tick(*met)

    @rule(which=who, lost=st.booleans())
    def push(self, which: int, lost: bool) -> None:
        flusher = self.processes[which].flusher
        flusher.listen()
        if lost:
            flusher._hints.clear()

    @rule(which=who, epoch=st.sampled_from([0, 1, 2**52]))
    def forge(self, which: int, epoch: int) -> None:
        """A push that nobody has sent."""
        self.processes[which].flusher._hints.append(Hint("x", epoch, "nobody"))

    @rule(seconds=st.sampled_from([0.1, 0.25, 0.5, 1.0, 5.0, COOLDOWN, 2 * PROBE_TIMEOUT]))
    def wait(self, seconds: float) -> None:
        self.world.ms += round(seconds * 1000)

    @precondition(lambda self: self.world.late)
    @rule(which=st.integers(0, 100))
    def arrive(self, which: int) -> None:
        """A message that was given up arrives after all."""
        late = self.world.late
        late.pop(which % len(late))()

    # -- the store loses something

    @rule()
    def forget(self) -> None:
        self.world.space.forget()
        self.world.rounds.current, self.world.rounds.leases = None, {}

    @rule()
    def back_up(self) -> None:
        rounds = self.world.rounds
        self.snapshot = deepcopy((self.world.space.circuits, (rounds.current, rounds.leases)))

    @rule()
    def roll_back(self) -> None:
        """The store is as it was: a replica that lagged behind has taken over."""
        circuits, (current, leases) = deepcopy(self.snapshot)
        self.world.space.circuits = circuits
        self.world.rounds.current, self.world.rounds.leases = current, leases
        if current is not None:
            self.world.rolled_back.add(current.epoch)  # what was granted since is granted again

    # -- hands

    @rule(
        which=who,
        name=st.sampled_from(["reset", "force_open", "disable", "metrics_only", "open_for"]),
        seconds=st.sampled_from([None, None, 5.0]),
        fleet=st.sampled_from([True, True, False]),
    )
    def control(self, which: int, name: str, seconds: float | None, fleet: bool) -> None:
        process = self.processes[which]
        if name == "open_for":
            process.breaker.open_for(seconds or COOLDOWN, fleet=fleet)
        elif name == "reset":
            process.breaker.reset(fleet=fleet)
        else:
            getattr(process.breaker, name)(seconds=seconds, fleet=fleet)
        if not fleet:
            process.apart = process.member.epoch

    @rule(which=who)
    def kill(self, which: int) -> None:
        """A process dies with its leases; another takes its place."""
        old = self.processes[which]
        self.gone.append(old)
        self.processes[which] = Process(self.world, old.advisory)

    # -- what must hold

    @invariant()
    def epochs_never_go_back(self) -> None:
        for process in self.processes:
            epoch = process.member.epoch
            assert epoch >= process.epoch
            if epoch != process.epoch:
                assert self.world.rounds.states[epoch] is process.member._replica.head.state
            process.epoch = epoch

    @invariant()
    def leases_are_few(self) -> None:
        """In one round there are never more probes than slots, in all processes together."""
        live: Counter[int] = Counter()
        for process in (*self.processes, *self.gone):
            if process.circuit.phase is process.member._replica._phase:
                live[process.member.epoch] += process.live_leases
        for epoch, count in live.items():
            assert count <= SLOTS or epoch in self.world.rolled_back, live

    @invariant()
    def stories_are_whole(self) -> None:
        for process in self.processes:
            states = [State.CLOSED, *(each.new_state for each in process.heard)]
            assert [each.old_state for each in process.heard] == states[:-1]
            assert states[-1] is process.circuit.state
            assert process.flusher.troubles == []

    @invariant()
    def nothing_counts_twice(self) -> None:
        for process in (*self.processes, *self.gone):
            assert self.world.applied[process.flusher.store.process] <= process.settled

    @rule()
    def agree(self) -> None:
        """Messages flow again: within the bound all are where the store is."""
        highest = max(self.processes, key=lambda each: each.member.epoch).member._replica.head
        for _ in range(round(BOUND / 0.25)):
            for process in self.processes:
                process.breaker.info()  # a look ends what is over
                process.flusher.listen()
                process.tick()
            self.wait(0.25)
        stored = self.world.rounds.current or Round()
        assert stored.epoch >= highest.epoch, "an epoch was lost"
        if stored.epoch == highest.epoch:
            assert stored.state is highest.state
        for process in self.processes:
            view = process.breaker.info().fleet
            assert view is not None
            assert view.attached
            assert (view.epoch, view.state) == (stored.epoch, stored.state)
            if not process.follows():
                continue
            if stored.state is State.CLOSED:
                assert process.circuit.state not in HAND
            elif stored.state is State.OPEN and self.world.ms >= stored.until:
                assert process.circuit.state in (State.OPEN, State.HALF_OPEN)
            else:
                assert process.circuit.state is stored.state

    def teardown(self) -> None:
        """The dependency is well, and nobody has a hand in it: all circuits close."""
        if not hasattr(self, "processes"):
            return
        self.world.late.clear()
        self.agree()
        for process in self.processes:
            process.flying.clear()
            if process.circuit.state in HAND:
                process.breaker.reset(fleet=True)
        for _ in range(round((COOLDOWN + PROBE_TIMEOUT + BOUND) / 0.25)):
            for number, process in enumerate(self.processes):
                self.call(number, failed=False, count=1)
                process.flusher.listen()
                process.tick()
            self.wait(0.25)
        assert {process.circuit.state for process in self.processes} == {State.CLOSED}
        self.agree()


TestFleetModel = Members.TestCase
TestFleetModel.settings = settings(
    max_examples=2_000 if LONG else 50,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
)
