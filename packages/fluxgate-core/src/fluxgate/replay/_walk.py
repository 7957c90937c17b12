"""One policy over one trace: the real circuit, a clock that the trace sets, seeded dice.

A call is admitted at its start and settled at its end. To settle it at its start would flatter: a
call that times out after five seconds would open the circuit five seconds too early.

`one_by_one` is the plain form. `fast` gives the same answers with fewer steps:

- **Closed**, every call is admitted, so starts need no look, and only ends can move the circuit.
  Runs of fast successes go through the lane's journal in batches, up to the next failed or slow
  call or the end of the lane's time bucket. Those two go one by one.
- **Open**, the calls up to `retry_at` are found by binary search, and counted.
- **Half-open**, calls go one by one; where all slots are taken, those that start before the next
  one is free are counted.

A transition makes all calls in flight stale, whenever they end; so none is kept beyond it.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import repeat
from math import inf
from typing import Final, NamedTuple

from fluxgate._engine.circuit import Circuit
from fluxgate._engine.lane import BATCH, Lane
from fluxgate._engine.phase import Admission, Phase, label_of
from fluxgate.errors import CallNotPermittedError
from fluxgate.metric import Totals
from fluxgate.policy import Policy
from fluxgate.replay._calls import Calls
from fluxgate.signals import Outcome
from fluxgate.state import State
from fluxgate.trackers import All

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
SUCCESS, FAILURE, IGNORED = Outcome.SUCCESS, Outcome.FAILURE, Outcome.IGNORED

_NEVER_ADMITTED: Final = 1 - 2**-53
"""The greatest throw of the dice: only a permit's ratio of 1 is above it."""


class Move(NamedTuple):
    """A transition.

    Attributes:
        at: Unix seconds.
        state: the state that it leads to.
        reason: why, with what was measured.
    """

    at: float
    state: State
    reason: str


class Walk(NamedTuple):
    """The course of a policy on a trace.

    Attributes:
        moves: every transition; the circuit was closed at first.
        refused: the refused calls, as ranges of places (begin, end) in the order of starts.
        totals: the circuit's own counts.
        remarks: what the circuit would have logged, once for each kind.
    """

    moves: list[Move]
    refused: list[tuple[int, int]]
    totals: Totals
    remarks: tuple[str, ...] = ()


def replayed(policy: Policy) -> Policy:
    """A policy without what a trace has no use for: it knows which calls failed."""
    return policy.replace(tracker=All(), healthy=None, result_tracker=None, shadow=None, buckets=())


def fast(calls: Calls, policy: Policy, seed: int = 0, *, as_recorded: bool = False) -> Walk:
    """Replay a policy, most calls in batches.

    Args:
        calls: the calls.
        policy: the settings; of trackers and shadow it has no use.
        seed: of the dice.
        as_recorded: whether the permit decides as it did when this was recorded: a call that was
            made is admitted, and one that was refused is not. For the policy that was in force;
            to throw dice again would thin the probes out twice.
    """
    walking = _Walking(calls, policy, seed, as_recorded)
    while walking.place < len(calls) or walking.flying:
        state = walking.circuit.state
        if state is CLOSED:
            walking.closed()
        elif state is OPEN:
            walking.open()
        else:
            walking.half_open()
    return walking.walk()


def one_by_one(calls: Calls, policy: Policy, seed: int = 0, *, as_recorded: bool = False) -> Walk:
    """The same, one call after the other."""
    walking = _Walking(calls, policy, seed, as_recorded)
    while walking.place < len(calls) or walking.flying:
        walking.step()
    return walking.walk()


class _Replayed(Circuit):
    """A circuit that keeps what it has to say: a log of now is not for what happened then."""

    __slots__ = ("remarks",)

    def __init__(self, policy: Policy, clock: _Clock, dice: Callable[[], float]) -> None:
        self.remarks: dict[str, str] = {}
        super().__init__(
            "replay",
            policy,
            listeners=(),
            initial_state=CLOSED,
            clock=clock,
            dice=dice,
            listed=False,
        )

    def _report(self) -> None:
        for what, error in self._machine.verdicts.take_faults():
            if error is None:
                self.remarks.setdefault("", what)
            else:
                self.remarks.setdefault(what, f"the {what} raised {label_of(type(error))}")
        self._dispatch.deliver()


class _Clock:
    __slots__ = ("now",)

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class _Walking:
    """A replay that is going on.

    Attributes:
        circuit: the circuit.
        place: the next call to start.
        flying: calls of the current phase that were admitted one by one: (end, place, admission).
    """

    def __init__(self, calls: Calls, policy: Policy, seed: int, as_recorded: bool) -> None:
        self._calls = calls
        self._clock = _Clock(calls.start[0] if len(calls) else 0.0)
        self._random = random.Random(seed).random
        self._starting: int | None = None
        self._policy = replayed(policy)
        dice = self._throw if as_recorded else self._random
        self.circuit = _Replayed(self._policy, self._clock, dice)
        self._phase: Phase = self.circuit.phase
        self.place = 0
        self.flying: list[tuple[float, int, Lane | Admission]] = []
        self._moves: list[Move] = []
        self._refused: list[tuple[int, int]] = []

    def walk(self) -> Walk:
        """The course so far."""
        totals = self.circuit.info().totals
        return Walk(self._moves, self._refused, totals, tuple(self.circuit.remarks.values()))

    # -- one by one

    def step(self) -> None:
        """Settle the next call that ends, or let the next one start: ends come first."""
        place, start = self.place, self._calls.start
        if self.flying and (place >= len(start) or self.flying[0][0] <= start[place]):
            end, ended, admission = heappop(self.flying)
            self._settle(ended, admission, end)
        else:
            self._start(place)

    def _start(self, place: int) -> None:
        calls = self._calls
        self.place = place + 1
        self._clock.now = calls.start[place]
        self._starting = place
        try:
            admission = self.circuit.admit()
        except CallNotPermittedError:
            self._refuse(place, place + 1)
        else:
            heappush(self.flying, (calls.end[place], place, admission))
        self._starting = None
        self._look()

    def _throw(self) -> float:
        """The dice of the policy that was in force: a permit's throw is known, a jitter's isn't."""
        if self._starting is None:
            return self._random()
        unknown = self._calls.unknown
        return _NEVER_ADMITTED if unknown is not None and unknown[self._starting] else 0.0

    def _settle(self, place: int, admission: Lane | Admission, end: float) -> None:
        calls = self._calls
        self._clock.now = end
        if calls.unknown is not None and calls.unknown[place]:
            outcome, cause = IGNORED, None
        elif calls.failed[place]:
            outcome, cause = FAILURE, calls.cause(place)
        else:
            outcome, cause = SUCCESS, None
        self.circuit.settle(admission, outcome, calls.duration[place], end, cause)
        self._look()

    def _look(self) -> None:
        """Note the transition, if there was one."""
        phase = self.circuit.phase
        if phase is not self._phase:
            self._phase = phase
            self._moves.append(Move(phase.began, phase.state, str(phase.reason)))

    def _refuse(self, begin: int, end: int) -> None:
        refused = self._refused
        if refused and refused[-1][1] == begin:
            begin = refused.pop()[0]
        refused.append((begin, end))

    # -- in batches

    def closed(self) -> None:
        """Settle the calls that start from here on, until the circuit opens."""
        calls, circuit, phase, first = self._calls, self.circuit, self._phase, self.place
        self._land()
        count, ends, order = len(calls), calls.ends, calls.order
        bad = calls.bad(self._policy.fast_below)
        # Before this one, only calls end that were admitted before, or refused.
        position = bisect_left(ends, calls.start[first]) if first < count else count
        earlier = calls.reach(first)
        next_bad = bisect_left(bad, position)
        settled = 0
        while position < count:
            lane = circuit.lane
            assert lane is not None
            if lane.fast_below > -inf and ends[position] > earlier:
                stop = bad[next_bad]
                if lane.until < inf:
                    stop = bisect_left(ends, lane.until, position, stop)
                if stop > position:
                    self._pass(lane, position, stop)
                    settled += stop - position
                    position = stop
                    continue
            place = order[position]
            if position == bad[next_bad]:
                next_bad += 1
            position += 1
            if place < first:
                continue
            settled += 1
            end = ends[position - 1]
            self._settle(place, lane, end)
            if circuit.phase is phase:
                continue
            # Those that start at this very moment start after it, unless it is one of them.
            late = calls.start[place] == end
            self.place = place + 1 if late else bisect_left(calls.start, end)
            stale = self.place - first - settled
            while stale > 0:
                circuit.pass_through(lane, repeat(0.0, min(stale, BATCH + 1)))
                stale -= BATCH + 1
            return
        self.place = count

    def _pass(self, lane: Lane, begin: int, end: int) -> None:
        durations, circuit = self._calls.durations, self.circuit
        while begin < end:
            stop = min(end, begin + BATCH + 1 - len(lane))
            circuit.pass_through(lane, durations[begin:stop])
            begin = stop

    def open(self) -> None:
        """Count the calls that are refused, and let the next one try."""
        self._land()
        start = self._calls.start
        self._refuse_until(bisect_left(start, self._phase.retry_at, self.place))
        if self.place < len(start):
            self._start(self.place)

    def half_open(self) -> None:
        """Go on one by one until the state changes."""
        phase, start = self._phase, self._calls.start
        slots = self._policy.max_half_open_calls
        while self._phase is phase and (self.flying or self.place < len(start)):
            if len(phase.probes) >= slots and self.flying:
                free = min(self.flying[0][0], next(iter(phase.probes.values())))
                self._refuse_until(bisect_left(start, free, self.place))
            if self.flying or self.place < len(start):
                self.step()

    def _refuse_until(self, place: int) -> None:
        if place > self.place:
            self.circuit.refuse(place - self.place)
            self._refuse(self.place, place)
            self.place = place

    def _land(self) -> None:
        """Settle the calls of earlier phases, which move nothing, whenever they end."""
        for end, place, admission in sorted(self.flying, key=lambda each: each[:2]):
            self._settle(place, admission, end)
        self.flying.clear()
