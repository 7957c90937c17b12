"""A member: one circuit's part in a fleet, between the circuit and the store's views.

It hands in what the circuit has counted, and does what the answers ask for: follow a newer epoch,
bring ours back after a loss, take leases, move the fleet. It talks to no store itself: it makes
requests and moves, and reads answers. Its parts have modules of their own:

    _head       what this process knows of the fleet
    _deltas     calls that are not handed in yet
    _probes     leases, and the outcomes of probes
    _reports    what this process says of itself
    _decisions  which move a view asks for

Of its methods, `control`, `open_for`, `shown` and `owns` may be called anywhere; the others belong
to the flusher.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Final

from fluxgate._engine.circuit import Circuit
from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import Phase
from fluxgate._engine.transitions import CONTROLS, Event
from fluxgate.fleet._decisions import Decision, carried_out, decide, moved_on
from fluxgate.fleet._deltas import Deltas
from fluxgate.fleet._head import BY_HAND, Head, milliseconds, ttl_of
from fluxgate.fleet._probes import Probes
from fluxgate.fleet._reports import opened_alone, openings, write_report
from fluxgate.fleet._verdict import of_openings, read_reason, write_reason
from fluxgate.fleet._window import metrics_of, shape_of
from fluxgate.fleet.store import Counts, Exchange, Move, Probe, Report, Shape, View, key_of
from fluxgate.metric import FleetView
from fluxgate.signals import Origin, Reason
from fluxgate.state import State

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN

TOUCH: Final = 1.0
"""Seconds after which a circuit that isn't closed is touched, so that a loss is noticed."""


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
        self._head = Head()
        self._view: View | None = None
        self._viewed_at = 0.0
        self._phase: Phase | None = None  # which this process has begun for the fleet
        self._deltas = Deltas(circuit._machine)
        self._probes = Probes()
        self._let_go = False  # whether it was released while the fleet owned it
        self._wanted: Move | None = None  # by hand
        self._set: Phase | None = None  # which the last control by hand has begun here
        self._held: Circuit | None = None  # while a control is on its way: its breaker may be gone
        self._recheck_at = math.inf
        self._touched_at = 0.0
        self._reported = ""
        self._note_counts(circuit._machine)
        self.quiet = False

    def _note_counts(self, machine: Machine) -> None:
        totals = machine.totals
        self.phase, self.settled = machine.phase, totals.successes + totals.failures

    # -- anywhere

    @property
    def epoch(self) -> int:
        """The epoch that this process knows."""
        return self._head.epoch

    def owns(self) -> bool:
        """Whether the fleet owns the circuit's phase."""
        circuit = self._circuit()
        phase = None if circuit is None else circuit._machine.phase
        return phase is not None and phase is self._phase and phase.leases is not None

    def shown(self) -> FleetView:
        """The circuit as the fleet has it."""
        circuit, view = self._circuit(), self._view
        head = self._head
        return FleetView(
            state=head.state,
            epoch=head.epoch,
            retry_after=head.retry_after(self._clock()),
            attached=self.attached,
            metrics=metrics_of(view, None if circuit is None else circuit.policy),
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
        self._held = circuit  # first: the flusher lets it go once the move is made
        self._wanted = Move(
            self.name,
            expected=None,
            known=self.epoch,
            state=state,
            remaining=milliseconds(seconds),
            reason=write_reason(reason),
            ttl=ttl_of(state, circuit.policy),
        )
        self._phase = self._set = circuit._machine.phase
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
            or self._deltas.unsent.calls > 0
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
            or self._deltas.unsent.calls > 0
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
        return self._head.state is not CLOSED or circuit.state is not CLOSED

    def request(self, circuit: Circuit, now: float) -> Exchange:
        """The exchange to send to the store: the counts and probes since the last one."""
        policy, head = circuit.policy, self._head
        shape = shape_of(policy) or Shape(1, 1, 0, ())
        delta, probes = circuit.step(lambda machine, at: self._take(machine, at, shape))
        self._touched_at, self._recheck_at, self.quiet = now, math.inf, False
        report = None
        if self._busy(circuit) or self._reported:
            opened = self._opened_alone(circuit) is not None
            report = self._reported = write_report(circuit, head, opened=opened)
        bad = delta.failures or any(delta.slow) or not policy.closed.merged().needs_bad
        return Exchange(
            self.name,
            head.epoch,
            shape,
            delta,
            witness=bool(delta.calls and bad),
            wants=self._probes.wants,
            slots=policy.max_half_open_calls,
            lease=max(round(policy.probe_timeout * 1000), 1),
            probes=probes,
            report=report,
            ttl=ttl_of(head.state, policy),
        )

    def _take(self, machine: Machine, now: float, shape: Shape) -> tuple[Counts, tuple[Probe, ...]]:
        """Take what has been counted, and what the leases have to say; under the lock."""
        phase = machine.phase
        self._note_counts(machine)
        delta = self._deltas.take(machine, shape, counting=self._head.counting)
        leases = phase.leases if phase is self._phase else None
        return delta, self._probes.take(leases, machine.policy, now)

    def _opened_alone(self, circuit: Circuit) -> Reason | None:
        """Why the circuit has opened here by its tripper, while the fleet is closed; else None."""
        return None if self._advisory else opened_alone(circuit, self._head)

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
        sent = self._deltas.sent.calls
        lost = sent and not view.applied
        if lost and view.epoch < self.epoch:
            self._deltas.put_back()  # nobody has counted it: once more, when ours is back
        elif lost:
            self.dropped += sent
        if view.epoch != self.epoch:
            if self._probes.wants:
                circuit.step(lambda machine, _: self._probes.want_again(machine))
            return self._compare(view)
        if view.tokens:
            circuit.step(lambda machine, now: self._grant(machine, view.tokens, now))
        return self._decide(circuit, view)

    def _grant(self, machine: Machine, tokens: tuple[int, ...], now: float) -> None:
        if self._phase is not None:
            self._probes.grant(machine, self._phase, tokens, now)

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
        count = openings(reports, self.epoch)
        verdict = of_openings(reason, count, view, self._witnesses)
        return self._carry_on(carried_out(circuit, self._head, verdict))

    def unanswered(self, *, counted: bool) -> None:
        """The last request has failed; `counted` if its delta may have been counted."""
        if counted:
            self.dropped += self._deltas.sent.calls
        else:
            self._deltas.put_back()
            self._probes.put_back()

    def moved(self, move: Move, view: View) -> Move | None:
        """Learn how a move went; the next one to make, if any."""
        circuit = self._circuit()
        self._recheck_at = math.inf
        if self._wanted is move:
            self._wanted = self._held = None
        if circuit is None:
            return None
        self._note(view)
        if move.reassert and view.epoch == self.epoch:
            return None  # ours again
        # Not where a peer's move, which came first, was followed meanwhile.
        here = move.expected is None and circuit._machine.phase is self._set
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
        if move.state is OPEN and self._head.state is OPEN:
            left = self._head.until - self._clock()
            if move.remaining is not None and left * 1000 >= move.remaining:
                self._wanted = self._held = None  # `open_for` never shortens an opening
                return None
        self._wanted = move = move._replace(known=max(move.known, self.epoch))
        return move

    def _note(self, view: View) -> None:
        self._view = view
        self.attached, self._lost = True, False

    def _believe(self, view: View) -> None:
        self._head = Head.of(view, self._clock())
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
            return self._head.reassertion(self.name, view, circuit.policy, self._clock())
        elif self._let_go:
            self.joined = True
            return self._return(circuit, view)
        self.joined = True
        return None

    def _return(self, circuit: Circuit, view: View) -> Move | None:
        """The store is back, and nothing has happened there meanwhile."""
        self._let_go = False
        phase = self._phase
        if phase is circuit._machine.phase and self._head.state in (OPEN, HALF_OPEN):
            self._follow(circuit, view, Origin.PEER)  # nor here: it is the fleet's again
            return None
        if self._head.state in (OPEN, HALF_OPEN) and circuit.state is OPEN:
            self._follow(circuit, view, Origin.PEER)  # it has opened again by itself meanwhile
            return None
        if self._head.state in (OPEN, HALF_OPEN) and not view.remaining:
            why = circuit._machine.phase.reason
            recovered = why is not None and why.clause.startswith("probe")  # not by hand
            if circuit.state is CLOSED and recovered:
                return self._moved_on(circuit, CLOSED, Reason("probes succeeded"))
            self._let_go = circuit.state in (OPEN, HALF_OPEN)  # look again when it has
        return None

    def _follow(
        self, circuit: Circuit, view: View, origin: Origin, move: Move | None = None
    ) -> None:
        mine = circuit._machine.phase is self._phase
        before = self._head
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
            self.dropped += self._deltas.pass_over(machine, counting=before.counting)
            phase = machine.follow(view.state, now, retry_at, view.reopens, reason, origin)
            if leases is not None and phase.leases is not None and phase.state is HALF_OPEN:
                phase.leases.wanted = leases.wanted
            return phase

        self._phase = circuit.step(follow)

    def _advise(self, machine: Machine, reason: Reason | None, before: Head) -> None:
        machine.advised = reason
        self.dropped += self._deltas.pass_over(machine, counting=before.counting)

    # -- decisions

    def _decide(self, circuit: Circuit, view: View) -> Move | None:
        """The move to make when the store is in the same epoch as this process, or None."""
        if self._let_go:
            return self._return(circuit, view)
        if shape_of(circuit.policy) is None:
            return None
        if circuit.state in BY_HAND and view.state not in BY_HAND:
            return None
        decision = decide(
            circuit,
            self._head,
            view,
            witnesses=self._witnesses,
            advisory=self._advisory,
            wants=self.owns() and self._probes.wants > 0,
        )
        move = decision.move
        if move is not None and move.state is HALF_OPEN:
            circuit.step(lambda machine, _: self._probes.want_again(machine))
        return self._carry_on(decision)

    def _carry_on(self, decision: Decision) -> Move | None:
        """Look again when there is something to wait for; a move waits until it is made."""
        if decision.wait or decision.move is not None:
            self._recheck_at = self._clock() + decision.wait
            self.quiet = False
        return decision.move

    def _moved_on(self, circuit: Circuit, state: State, reason: Reason) -> Move | None:
        return self._carry_on(Decision(moved_on(circuit, self._head, state, reason)))

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
