"""A member: one circuit's part in a fleet, between the circuit and the store's views.

It takes what the circuit has counted since the last time, hands it in, and does what the answer
asks for: follow a newer epoch, bring ours back after a loss, take leases, decide about the merged
window. It talks to no store itself: it makes requests and moves, and reads answers.

Of its methods, `control`, `open_for`, `shown` and `owns` may be called anywhere; the others belong
to the flusher.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Final, NamedTuple

from fluxgate._engine.circuit import Circuit
from fluxgate._engine.leases import Ended, Lease
from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import Phase
from fluxgate._engine.transitions import CONTROLS, Event
from fluxgate.fleet._verdict import (
    Verdict,
    of_openings,
    of_probes,
    of_window,
    read_reason,
    write_reason,
)
from fluxgate.fleet._window import added, merged, shape_of, snapshot
from fluxgate.fleet.store import (
    DAY,
    MAX_DURATION,
    MAX_REPORT,
    MIN_TTL,
    Counts,
    Exchange,
    Move,
    Probe,
    Report,
    Shape,
    View,
    key_of,
)
from fluxgate.metric import FleetView, Snapshot
from fluxgate.policy import Policy
from fluxgate.signals import Origin, Reason
from fluxgate.state import State

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
BY_HAND: Final = frozenset({State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN})
COUNTING: Final = frozenset({CLOSED, State.METRICS_ONLY})
"""The fleet's states whose calls are evidence."""

TOUCH: Final = 1.0
"""Seconds after which a circuit that isn't closed is touched, so that a loss is noticed."""
IDLE_LEASE: Final = 2.0
"""Seconds for which a lease waits for a call, at most."""


class Taken(NamedTuple):
    """Counts and probes taken from a circuit, to be sent to the store."""

    delta: Counts
    probes: tuple[Probe, ...]
    wants: int


class Member:
    """A circuit in a fleet.

    Attributes:
        stale: whether it must be read before anything is handed in.
        quiet: whether nothing but its circuit's counts can make it due.
        phase: the circuit's phase when it was last looked at.
        settled: successes and failures that had settled then.

    Args:
        circuit: the circuit; it holds the member, not the reverse.
        witnesses: how many processes must have seen a failure or slow call before the fleet opens.
        advisory: whether the fleet only lowers this circuit's threshold.
        wake: has the flusher look at its members now.
        clock: seconds, real ones, whatever clock the circuit has.
    """

    def __init__(
        self,
        circuit: Circuit,
        *,
        witnesses: int,
        advisory: bool,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._circuit = weakref.ref(circuit)
        self.name = circuit.name
        self.key = key_of(circuit.name)
        self.dropped = 0
        self._witnesses = witnesses
        self._advisory = advisory
        self._wake = wake
        self._clock = clock
        self._began_at(circuit)
        self._lost = False  # whether the store could not be reached when it was last tried
        self.attached = False

    def _began_at(self, circuit: Circuit) -> None:
        self.joined = False  # whether the store was ever asked
        self.stale = True  # whether it must be read before anything is handed in
        self.epoch = 0
        self.state = CLOSED  # the fleet's, as it is believed to be
        self._reopens = 0
        self._reason = ""
        self._until = math.inf  # when an opening ends
        self._view: View | None = None
        self._viewed_at = 0.0
        self._phase: Phase | None = None  # which this process has begun for the fleet
        self._sent = Taken(Counts(), (), 0)
        self._sent_at = 0.0  # clock time
        self._let_go = False  # whether it was released while the fleet owned it
        self._unsent = Counts()  # taken, and certainly not counted
        self._unsaid: tuple[Probe, ...] = ()  # the same of probes
        self._wanted: Move | None = None  # by hand
        self._recheck_at = math.inf
        self._touched_at = 0.0
        self._reported = ""
        self._seen = _read(circuit._machine)
        self.phase, self.settled = circuit._machine.phase, self._seen[0] + self._seen[1]
        self.quiet = False

    # -- anywhere

    def owns(self) -> bool:
        """Whether the fleet owns the circuit's phase."""
        circuit = self._circuit()
        phase = None if circuit is None else circuit._machine.phase
        return phase is not None and phase is self._phase and phase.leases is not None

    def shown(self) -> FleetView:
        """The circuit as the fleet has it."""
        circuit, view = self._circuit(), self._view
        policy = None if circuit is None else circuit.policy
        shape = None if policy is None else shape_of(policy)
        left = self._until - self._clock()
        return FleetView(
            state=self.state,
            epoch=self.epoch,
            retry_after=max(left, 0.0) if self.state is OPEN and left < math.inf else None,
            attached=self.attached,
            metrics=_metrics(view, shape, policy),
        )

    def control(self, event: Event) -> None:
        """Set the state of the whole fleet by hand: here at once, there soon."""
        circuit = self._circuit()
        if circuit is None:
            return
        circuit.control(event, Origin.FLEET)
        self._move_by_hand(circuit, CONTROLS[event], None, Reason(f"{event}()"))

    def open_for(self, seconds: float) -> None:
        """Open the whole fleet for a stated time: here at once, there soon."""
        circuit = self._circuit()
        if circuit is None:
            return
        circuit.open_for(seconds, Origin.FLEET)
        if circuit.state is OPEN:
            if not self._lost:  # no probes of its own, however soon it ends
                circuit.hand_over()
            self._move_by_hand(circuit, OPEN, seconds, Reason("open_for()", seconds))

    def _move_by_hand(
        self, circuit: Circuit, state: State, seconds: float | None, reason: Reason
    ) -> None:
        remaining = None if seconds is None else min(round(seconds * 1000), MAX_DURATION)
        move = Move(self.name, None, self.epoch, state, remaining, 0, write_reason(reason))
        self._wanted = move._replace(ttl=_ttl(state, circuit.policy))
        self._phase = circuit._machine.phase
        self.quiet = False
        self._wake()

    # -- what there is to do

    @property
    def circuit(self) -> Circuit | None:
        """The circuit, while it lives."""
        return self._circuit()

    def due(self, circuit: Circuit, now: float) -> bool:
        """Whether there is anything to hand in or to ask; read without the circuit's lock."""
        return (
            self.stale
            or self._wanted is not None
            or self._unsent.calls > 0
            or now >= self._recheck_at
            or (self._busy(circuit) and now >= self._touched_at + TOUCH)
            or not circuit.looks_idle(self.phase, self.settled)
        )

    def mark(self) -> None:
        """Have it read before anything is handed in: the store may know better."""
        self.stale = True
        self.quiet = False

    def quieten(self, circuit: Circuit) -> None:
        """See whether its circuit's counts alone can make it due; `quiet` is cleared by others."""
        self.quiet = True  # first: who clears it meanwhile is heard
        if (
            self.stale
            or self._wanted is not None
            or self._unsent.calls > 0
            or self._recheck_at < math.inf
            or self._busy(circuit)
        ):
            self.quiet = False

    def probing(self, circuit: Circuit) -> bool:
        """Whether this process has leases, or outcomes of probes that others wait for."""
        phase = circuit._machine.phase
        leases = phase.leases
        return leases is not None and bool(phase.probes or leases.granted or leases.ended)

    def _busy(self, circuit: Circuit) -> bool:
        """Whether the circuit isn't quietly closed, here or in the fleet."""
        return self.state is not CLOSED or circuit.state is not CLOSED

    def request(self, circuit: Circuit, now: float) -> Exchange:
        """The exchange to send to the store: the counts and probes since the last one."""
        policy = circuit.policy
        shape = shape_of(policy) or Shape(1, 1, 0, ())
        taken = circuit.step(lambda machine, at: self._take(machine, at, shape))
        self._touched_at, self._recheck_at, self.quiet = now, math.inf, False
        self._sent_at = circuit.clock()
        self._sent = taken
        report = self._report(circuit) if self._busy(circuit) or self._reported else None
        delta = taken.delta
        bad = delta.failures or any(delta.slow) or not policy.closed.merged().needs_bad
        return Exchange(
            self.name,
            self.epoch,
            shape,
            delta,
            witness=bool(delta.calls and bad),
            wants=taken.wants,
            slots=policy.max_half_open_calls,
            lease=max(round(policy.probe_timeout * 1000), 1),
            probes=taken.probes,
            report=report,
            ttl=_ttl(self.state, policy),
        )

    def _take(self, machine: Machine, now: float, shape: Shape) -> Taken:
        """Take what has been counted, and what the leases have to say; under the lock."""
        totals, phase = machine.totals, machine.phase
        successes, failures, nanoseconds, slow = self._seen
        self._seen = _read(machine)
        self.phase, self.settled = phase, totals.successes + totals.failures
        delta = Counts()
        unsent, self._unsent = self._unsent, Counts()
        if self.state in COUNTING and shape.keep > 1:
            thresholds = machine.policy.thresholds
            taken = Counts(
                totals.successes + totals.failures - successes - failures,
                totals.failures - failures,
                # Of the whole, so that what is rounded off adds up to nothing.
                totals.nanoseconds // 1_000_000 - nanoseconds // 1_000_000,
                tuple(totals.slow_counts.get(each, 0) - slow.get(each, 0) for each in thresholds),
            )
            delta = added((taken, unsent), len(thresholds))
        unsaid, self._unsaid = self._unsaid, ()
        leases = phase.leases if phase is self._phase else None
        if leases is None:
            return Taken(delta, (), 0)
        leases.give_back(now)
        ended, leases.ended = leases.ended, []
        wants, leases.wanted = leases.wanted, 0
        most = machine.policy.max_half_open_calls - len(leases.granted)
        probes = (*unsaid, *(_probe(each, machine.policy) for each in ended))
        return Taken(delta, probes, max(min(wants, most), 0))

    def _report(self, circuit: Circuit) -> str:
        """This process's state in a few words; nothing while it is quietly closed."""
        state = circuit.state
        if state is CLOSED and self.state is CLOSED:
            report = ""
        else:
            totals, reason = circuit._machine.totals, circuit._machine.phase.reason
            clause = "" if reason is None else reason.clause
            opened = "" if self._opened_alone(circuit) is None else f" @{self.epoch:x}"
            count = totals.successes + totals.failures
            report = f"{state} {totals.failures}/{count}{opened} {clause}"
        self._reported = report
        return report[:MAX_REPORT]

    def _opened_alone(self, circuit: Circuit) -> Reason | None:
        """Why the circuit has opened here by its tripper, while the fleet is closed; else None."""
        phase, closed = circuit._machine.phase, circuit.policy.closed
        if self.state is not CLOSED or phase.leases is not None or self._advisory:
            return None
        if phase.state not in (OPEN, HALF_OPEN) or closed.merged() != closed:
            return None  # what can't be merged is each process's own affair
        reason = phase.last_trip
        return None if reason is None or reason.clause == "open_for()" else reason

    # -- answers

    def read(self, view: View) -> Move | None:
        """Learn from a view that was only read; the move to make, if any."""
        self.stale = False
        self._note(view)
        return self._compare(view)

    def answered(self, view: View) -> Move | None:
        """Learn from the answer to the last request; the move to make, if any."""
        circuit = self._circuit()
        if circuit is None:
            return None
        self._note(view)
        sent = self._sent
        lost = sent.delta.calls and not view.applied
        if lost and view.epoch < self.epoch:
            self._unsent = sent.delta  # nobody has counted it: once more, when ours is back
        elif lost:
            self.dropped += sent.delta.calls
        if view.epoch != self.epoch:
            if sent.wants:
                circuit.step(lambda machine, _: self._want(machine, sent.wants))
            return self._compare(view)
        if view.tokens:
            circuit.step(lambda machine, now: self._grant(machine, view.tokens, now))
        return self._decide(circuit, view)

    def asks_for_reports(self, view: View) -> bool:
        """Whether the processes' reports may decide, where the merged window didn't."""
        circuit = self._circuit()
        return (
            circuit is not None
            and view.state is CLOSED
            and view.epoch == self.epoch
            and self._opened_alone(circuit) is not None
        )

    def reported(self, view: View, reports: list[Report]) -> Move | None:
        """Learn who has opened alone; the move to make, if any."""
        circuit = self._circuit()
        reason = None if circuit is None else self._opened_alone(circuit)
        if circuit is None or reason is None:
            return None
        mark = f"@{self.epoch:x}"
        openings = sum(mark in report.text.split(" ")[2:3] for report in reports)
        verdict = of_openings(reason, openings, view, self._witnesses)
        if verdict.wait:
            self._recheck_at = self._clock() + verdict.wait
            self.quiet = False
        return self._carry_out(circuit, verdict)

    def unanswered(self, *, counted: bool) -> None:
        """The last request has failed; `counted` if its delta may have been counted."""
        sent = self._sent
        if counted:
            self.dropped += sent.delta.calls
        else:
            self._unsent, self._unsaid = sent.delta, sent.probes

    def moved(self, move: Move, view: View) -> Move | None:
        """Learn how a move went; the next one to make, if any."""
        circuit = self._circuit()
        self._recheck_at = math.inf
        if self._wanted is move:
            self._wanted = None
        if circuit is None:
            return None
        self._note(view)
        if move.reassert and view.epoch == self.epoch:
            return None  # ours again
        here = move.expected is None and circuit._machine.phase is self._phase
        if view.won and here and (move.state is not OPEN or self.owns()):
            self._believe(view)  # done by hand, and here already
        elif view.epoch > self.epoch or view.won:
            self._follow(circuit, view, Origin.FLEET if view.won else Origin.PEER, move)
        return None

    def wanted(self) -> Move | None:
        """The move that was asked for by hand, as of now."""
        move = self._wanted
        if move is None:
            return None
        if move.state is OPEN and self.state is OPEN:
            left = self._until - self._clock()
            if move.remaining is not None and left * 1000 >= move.remaining:
                self._wanted = None  # `open_for` never shortens an opening
                return None
        self._wanted = move = move._replace(known=max(move.known, self.epoch))
        return move

    def _note(self, view: View) -> None:
        self._view = view
        self.attached, self._lost = True, False

    def _believe(self, view: View) -> None:
        self.epoch, self.state = view.epoch, view.state
        self._reopens, self._reason = view.reopens, view.reason
        left = math.inf if view.remaining is None else view.remaining / 1000
        self._until = self._clock() + left
        self._let_go = False

    def _compare(self, view: View) -> Move | None:
        """Follow a newer epoch; bring ours back if it is the newer one."""
        circuit = self._circuit()
        if circuit is None:
            return None
        if view.epoch > self.epoch:
            if not self.joined and view.state is CLOSED:
                self._believe(view)  # nothing to follow: it began closed, and counts already
            else:
                self._follow(circuit, view, Origin.PEER)
        elif view.epoch < self.epoch:
            self.joined = True
            return self._reassertion(circuit, view)
        elif self._let_go:
            self.joined = True
            return self._return(circuit, view)
        self.joined = True
        return None

    def _reassertion(self, circuit: Circuit, view: View) -> Move:
        left = self._until - self._clock()
        return Move(
            self.name,
            expected=view.epoch,
            known=self.epoch,
            state=self.state,
            remaining=None if left == math.inf else max(round(left * 1000), 0),
            reopens=self._reopens,
            reason=self._reason,
            reassert=True,
            ttl=_ttl(self.state, circuit.policy),
        )

    def _return(self, circuit: Circuit, view: View) -> Move | None:
        """The store is back, and nothing has happened there meanwhile."""
        self._let_go = False
        phase = self._phase
        if phase is circuit._machine.phase and self.state in (OPEN, HALF_OPEN):
            self._follow(circuit, view, Origin.PEER)  # nor here: it is the fleet's again
            return None
        if self.state in (OPEN, HALF_OPEN) and circuit.state is OPEN:
            self._follow(circuit, view, Origin.PEER)  # it has opened again by itself meanwhile
            return None
        if self.state in (OPEN, HALF_OPEN) and not view.remaining:
            why = circuit._machine.phase.reason
            recovered = why is not None and why.clause.startswith("probe")  # not by hand
            if circuit.state is CLOSED and recovered:
                return self._move(circuit, CLOSED, None, Reason("probes succeeded"))
            self._let_go = circuit.state in (OPEN, HALF_OPEN)  # look again when it has
        return None

    def _follow(
        self, circuit: Circuit, view: View, origin: Origin, move: Move | None = None
    ) -> None:
        mine = circuit._machine.phase is self._phase
        before = self.state
        self._believe(view)
        reason = read_reason(view.reason)
        if move is not None and move.reassert:
            origin = Origin.PEER
        advisory = self._advisory and view.state not in BY_HAND
        # What was set by hand here stays until a hand changes it.
        stays = circuit.state in BY_HAND and not mine and view.state not in BY_HAND
        if advisory or stays:
            advised = reason if advisory and view.state is not CLOSED else None
            circuit.step(lambda machine, _: self._advise(machine, advised, before))
            return
        left = math.inf if view.remaining is None else view.remaining / 1000

        def follow(machine: Machine, now: float) -> Phase:
            retry_at = now + left if view.state is OPEN else -math.inf
            if view.state is State.FORCED_OPEN:
                retry_at = math.inf
            leases = machine.phase.leases
            self.dropped += self._pass_over(machine, before)
            phase = machine.follow(view.state, now, retry_at, view.reopens, reason, origin)
            if leases is not None and phase.leases is not None and phase.state is HALF_OPEN:
                phase.leases.wanted = leases.wanted
            return phase

        self._phase = circuit.step(follow)

    def _advise(self, machine: Machine, reason: Reason | None, state: State) -> None:
        machine.advised = reason
        self.dropped += self._pass_over(machine, state)

    def _pass_over(self, machine: Machine, state: State) -> int:
        """Leave what was counted in an older epoch behind; how many calls that were."""
        unsent, self._unsent = self._unsent, Counts()
        totals = machine.totals
        successes, failures, *_ = self._seen
        self._seen = _read(machine)
        if state not in COUNTING:
            return 0
        return totals.successes + totals.failures - successes - failures + unsent.calls

    # -- leases

    def _want(self, machine: Machine, wants: int) -> None:
        leases = machine.phase.leases
        if leases is not None:
            leases.wanted += wants

    def _grant(self, machine: Machine, tokens: tuple[int, ...], now: float) -> None:
        phase, timeout = machine.phase, machine.policy.probe_timeout
        deadline = self._sent_at + timeout  # from before it was granted: never longer than there
        until = min(now + IDLE_LEASE, self._sent_at + timeout / 2)
        if phase is self._phase and phase.leases is not None:
            phase.leases.granted.extend(Lease(token, deadline, until) for token in tokens)

    # -- decisions

    def _decide(self, circuit: Circuit, view: View) -> Move | None:
        """The move to make when the store is in the same epoch as this process, or None."""
        policy = circuit.policy
        shape = shape_of(policy)
        if self._let_go:
            return self._return(circuit, view)
        if shape is None or (circuit.state in BY_HAND and view.state not in BY_HAND):
            return None
        if view.state is CLOSED:
            return self._decide_on_window(circuit, view, shape)
        if view.state is OPEN and view.remaining == 0:
            if self._advisory:
                return self._move(circuit, CLOSED, None, Reason("cooldown over"))
            if self.owns() and self._sent.wants:
                wants = self._sent.wants
                circuit.step(lambda machine, _: self._want(machine, wants))
                return self._move(circuit, HALF_OPEN, None, Reason("cooldown over"))
        if view.state is HALF_OPEN:
            probes = snapshot(view.probes, policy.thresholds)
            return self._carry_out(circuit, of_probes(policy, probes))
        return None

    def _decide_on_window(self, circuit: Circuit, view: View, shape: Shape) -> Move | None:
        metrics = merged(view, shape, circuit.policy.thresholds)
        verdict = of_window(circuit.policy, metrics, view, self._witnesses)
        if verdict.wait:
            self._recheck_at = self._clock() + verdict.wait
            self.quiet = False
        return self._carry_out(circuit, verdict)

    def _carry_out(self, circuit: Circuit, verdict: Verdict) -> Move | None:
        if verdict.fires is None or verdict.reason is None:
            return None
        if not verdict.fires:
            return self._move(circuit, CLOSED, None, verdict.reason)
        reopens = self._reopens + 1 if self.state is HALF_OPEN else 0
        delay = circuit.step(lambda machine, _: machine.verdicts.delay(machine.policy, reopens))
        return self._move(circuit, OPEN, delay, verdict.reason, reopens)

    def _move(
        self,
        circuit: Circuit,
        state: State,
        seconds: float | None,
        reason: Reason,
        reopens: int | None = None,
    ) -> Move:
        if reopens is None:
            reopens = 0 if state is CLOSED else self._reopens
        endless = seconds is None or seconds == math.inf
        self._recheck_at = self._clock()  # until it is made
        self.quiet = False
        return Move(
            self.name,
            expected=self.epoch,
            known=self.epoch,
            state=state,
            remaining=None if endless else min(round((seconds or 0.0) * 1000), MAX_DURATION),
            reopens=reopens,
            reason=write_reason(reason),
            ttl=_ttl(state, circuit.policy),
        )

    # -- the store goes, and the process forks

    def detach(self) -> None:
        """The store can't be reached: the circuit owns itself again."""
        self.attached, self._lost = False, True
        self.mark()
        circuit = self._circuit()
        phase = self._phase
        if circuit is not None and phase is not None and self.owns():
            self._let_go = True
            circuit.step(lambda machine, _: machine.release(phase))

    def restart(self) -> None:
        """Begin anew in a forked child: what was counted is the parent's to hand in."""
        circuit = self._circuit()
        if circuit is not None:
            self.dropped = 0
            self._began_at(circuit)


def _read(machine: Machine) -> tuple[int, int, int, dict[float, int]]:
    totals = machine.totals
    return totals.successes, totals.failures, totals.nanoseconds, dict(totals.slow_counts)


def _probe(ended: Ended, policy: Policy) -> Probe:
    if ended.failed is None:
        return Probe(ended.token)
    slow = tuple(int(threshold in ended.reached) for threshold in policy.thresholds)
    return Probe(ended.token, Counts(1, int(ended.failed), round(ended.elapsed * 1000), slow))


def _ttl(state: State, policy: Policy) -> int:
    """Milliseconds for which the store keeps a circuit that nobody touches."""
    if state in BY_HAND:
        return DAY
    longest = max(policy.probe_timeout, getattr(policy.window, "size", 0.0))
    delay = getattr(policy.retry, "max_duration", getattr(policy.retry, "duration", 0.0))
    return min(max(MIN_TTL, round(2500 * max(longest, delay))), MAX_DURATION)


def _metrics(view: View | None, shape: Shape | None, policy: Policy | None) -> Snapshot:
    if view is None or shape is None or policy is None:
        return Snapshot(0, 0, 0, 0.0, {})
    if view.state is HALF_OPEN:
        return snapshot(view.probes, policy.thresholds)
    return merged(view, shape, policy.thresholds)
