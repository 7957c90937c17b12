"""A member: one circuit's part in a fleet, between the circuit and the store's views.

It hands in what the circuit has counted, and does what the answers ask for: follow a newer epoch,
bring ours back after a loss, take leases, move the fleet. It talks to no store itself: it makes
requests and moves, and reads answers. Its parts have modules of their own:

    _replica    the fleet's state as this process has it: which epoch holds, whose the circuit is
    _head       what such a state is made of
    _following  how the circuit takes it
    _controls   states set by hand that the store doesn't have yet
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

from fluxgate._controls import NOTHING_SAID, Said
from fluxgate._engine.circuit import Circuit
from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import BY_HAND
from fluxgate._engine.transitions import CONTROLS, Event
from fluxgate.fleet._controls import Control, Controls
from fluxgate.fleet._decisions import Decision, carried_out, decide
from fluxgate.fleet._deltas import Deltas
from fluxgate.fleet._doorbell import hang
from fluxgate.fleet._head import Head, ttl_of
from fluxgate.fleet._probes import Probes, policy_of
from fluxgate.fleet._replica import Replica
from fluxgate.fleet._reports import opened_alone, openings, write_report
from fluxgate.fleet._reverts import is_over
from fluxgate.fleet._verdict import of_openings
from fluxgate.fleet._window import metrics_of, shape_of
from fluxgate.fleet.store import Counts, Exchange, Move, Probe, Report, Shape, View, key_of
from fluxgate.metric import FleetView
from fluxgate.policy import Policy
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
        left: whether its fleet was closed, so that the circuit may join another.
        phase: the circuit's phase when it was last looked at.
        settled: successes and failures that had settled then.

    Args:
        circuit: the circuit; it holds the member, not the reverse.
        witnesses: how many processes must have seen a failure or slow call before the fleet opens.
        advisory: whether the fleet only lowers this circuit's threshold.
        wake: has the flusher look at its members now.
        alarm: has it do so soon; called under the circuit's lock, when failures pile up.
        clock: seconds, real ones, whatever clock the circuit has.
    """

    def __init__(
        self,
        circuit: Circuit,
        *,
        witnesses: int,
        advisory: bool,
        wake: Callable[[], None],
        alarm: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._ref = weakref.ref(circuit)
        self.name = circuit.name
        self.key = key_of(circuit.name)
        self._witnesses = witnesses
        self._advisory = advisory
        self._wake = wake
        self._clock = clock
        circuit._machine.alarm = alarm
        self._began_at(circuit)
        self._lost = False  # whether the store could not be reached when it was last tried
        self.attached = False
        self.left = False

    def _began_at(self, circuit: Circuit) -> None:
        self.stale = True  # whether it must be read before anything is handed in
        self._view: View | None = None
        self._deltas, self._controls, self._probes = Deltas(circuit._machine), Controls(), Probes()
        self._replica = Replica(
            self._deltas, self._controls, advisory=self._advisory, clock=self._clock
        )
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
    def circuit(self) -> Circuit | None:
        """The circuit, while it lives and is in no other fleet."""
        circuit = self._ref()
        return circuit if circuit is not None and circuit.fleet is self else None

    @property
    def epoch(self) -> int:
        """The epoch that this process knows."""
        return self._head.epoch

    @property
    def dropped(self) -> int:
        """Calls that were counted here and not in the store."""
        return self._deltas.dropped

    @property
    def _head(self) -> Head:
        return self._replica.head

    def leases(self) -> int:
        """The leases that this process holds, with a call in them or waiting for one."""
        circuit = self.circuit
        phase = None if circuit is None else circuit._machine.phase
        if phase is None or phase.leases is None:
            return 0
        return len(phase.leases.granted) + len(phase.probes)

    def owns(self) -> bool:
        """Whether the fleet owns the circuit's phase."""
        circuit = self.circuit
        return circuit is not None and circuit._machine.phase.leases is not None

    def shown(self) -> FleetView:
        """The circuit as the fleet has it."""
        circuit, view = self.circuit, self._view
        head = self._head
        return FleetView(
            state=head.state,
            epoch=head.epoch,
            retry_after=head.retry_after(self._clock()),
            attached=self.attached,
            metrics=metrics_of(view, None if circuit is None else circuit.policy),
        )

    def control(self, event: Event, said: Said = NOTHING_SAID) -> None:
        """Set the state of the whole fleet by hand: here at once, there soon."""
        circuit = self.circuit
        if circuit is None:
            return
        circuit.control(event, Origin.FLEET, said)
        until = math.inf
        if said.seconds is not None:
            until = self._clock() + said.seconds
            if not self._lost:  # no end of its own, however soon that comes
                circuit.hand_over()
        self._set(circuit, CONTROLS[event], said.reason(f"{event}()"), until)

    def open_for(self, seconds: float, said: Said = NOTHING_SAID) -> None:
        """Open the whole fleet for a stated time: here at once, there soon."""
        circuit = self.circuit
        if circuit is None:
            return
        circuit.open_for(seconds, Origin.FLEET, said)
        if circuit.state is OPEN:
            if not (self._lost or self._advisory):  # no probes of its own, however soon it ends
                circuit.hand_over()
            until = self._clock() + seconds
            reason = said._replace(seconds=seconds).reason("open_for()")
            self._set(circuit, OPEN, reason, until)

    def _set(self, circuit: Circuit, state: State, reason: Reason, until: float = math.inf) -> None:
        if self.left:
            return  # nobody would ever carry it out
        self._controls.add(circuit, self.epoch, state, reason, until)
        self.quiet = False
        self._wake()

    # -- what there is to do

    def due(self, circuit: Circuit, now: float) -> bool:
        """Whether there is anything to hand in or to ask; read without the circuit's lock."""
        return (
            self._waits()
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
        if self._waits() or self._recheck_at < math.inf or self._busy(circuit):
            self.quiet = False

    def rest(self, circuit: Circuit, rouse: Callable[[], None]) -> bool:
        """Have the circuit's next call rouse the flusher; whether nothing else can be due soon."""
        self.quieten(circuit)
        return self.quiet and hang(circuit, rouse) and circuit.looks_idle(self.phase, self.settled)

    def _waits(self) -> bool:
        """Whether something is to be read or handed in, whatever the circuit has counted since."""
        return self.stale or bool(self._controls) or self._deltas.unsent.calls > 0

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
        policy, head = policy_of(circuit), self._head
        shape = shape_of(policy) or Shape(1, 1, 0, ())
        delta, probes = circuit.step(lambda machine, at: self._take(machine, at, shape, policy))
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

    def _take(
        self, machine: Machine, now: float, shape: Shape, policy: Policy
    ) -> tuple[Counts, tuple[Probe, ...]]:
        """Take what has been counted, and what the leases have to say; under the lock."""
        self._note_counts(machine)
        delta = self._deltas.take(machine, shape, counting=self._head.counting)
        return delta, self._probes.take(machine.phase, policy, now)

    def _opened_alone(self, circuit: Circuit) -> Reason | None:
        """Why the circuit has opened here by its tripper, while the fleet is closed; else None."""
        return None if self._advisory else opened_alone(circuit, self._head)

    # -- answers

    def read(self, view: View) -> Move | None:
        """Learn from a view that was only read; the move to make, if any."""
        self.stale = False
        self._note(view)
        circuit = self.circuit
        return None if circuit is None else self._carry_on(self._replica.compare(circuit, view))

    def answered(self, view: View) -> Move | None:
        """Learn from the answer to the last request; the move to make, if any."""
        circuit = self.circuit
        if circuit is None:
            return None
        self._note(view)
        sent = self._deltas.sent.calls
        lost = sent and not view.applied
        if lost and view.epoch < self.epoch:
            self._deltas.put_back()  # nobody has counted it: once more, when ours is back
        elif lost:
            self._deltas.give_up()
        if view.epoch != self.epoch:
            if self._probes.wants:
                circuit.step(lambda machine, _: self._probes.want_again(machine))
            return self._carry_on(self._replica.compare(circuit, view))
        if view.tokens:
            circuit.step(lambda _, now: self._probes.grant(view.tokens, now))
        return self._decide(circuit, view)

    def asks_for_reports(self, view: View) -> bool:
        """Whether the processes' reports may decide, where the merged window didn't."""
        circuit = self.circuit
        return (
            circuit is not None
            and view.state is CLOSED
            and view.epoch == self.epoch
            and self._opened_alone(circuit) is not None
        )

    def reported(self, view: View, reports: list[Report]) -> Move | None:
        """Learn who has opened alone; the move to make, if any."""
        circuit = self.circuit
        reason = None if circuit is None else self._opened_alone(circuit)
        if circuit is None or reason is None:
            return None
        count = openings(reports, self.epoch)
        verdict = of_openings(reason, count, view, self._witnesses)
        return self._carry_on(carried_out(circuit, self._head, verdict))

    def unanswered(self, *, counted: bool) -> None:
        """The last request has failed; `counted` if its delta may have been counted."""
        if counted:
            self._deltas.give_up()
        else:
            self._deltas.put_back()
            self._probes.put_back()

    def moving(self, move: Move, author: str) -> None:
        """A move is about to be made: should its answer get lost, it may be made all the same."""
        self._replica.moving(move, author)

    def moved(self, move: Move, view: View) -> None:
        """Learn how a move went."""
        circuit = self.circuit
        self._recheck_at = math.inf
        self._replica.moved()
        control = self._controls.arrived(move)
        if circuit is None:
            return
        self._note(view)
        if move.reassert and view.epoch == self.epoch:
            return  # ours again
        if view.won and control is not None and control.stands(circuit, advisory=self._advisory):
            self._replica.confirm(circuit, view, control)
        elif view.epoch > self.epoch or view.won:
            won = view.won and not move.reassert
            self._replica.follow(circuit, view, Origin.FLEET if won else Origin.PEER)

    def waiting(self) -> Control | None:
        """The control that waits here while one from elsewhere is about to arrive in the store."""
        return self._controls.waiting()

    def overtaken(self, control: Control | None) -> None:
        """One from elsewhere has arrived, so this one is older, and forgotten."""
        if control is not None:
            self._controls.done(control)

    def wanted(self) -> Move | None:
        """The move that was asked for by hand, as of now."""
        return self._controls.send(self._head, self._clock())

    def _note(self, view: View) -> None:
        self._view = view
        self.attached, self._lost = True, False

    # -- decisions

    def _decide(self, circuit: Circuit, view: View) -> Move | None:
        """The move to make when the store is in the same epoch as this process, or None."""
        back = self._replica.rejoin(circuit, view)
        if back is not None:
            return self._carry_on(back)
        if shape_of(policy_of(circuit)) is None and not is_over(view):
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

    # -- the store goes, and the process forks

    def detach(self) -> None:
        """The store can't be reached: the circuit owns itself again."""
        self.attached, self._lost = False, True
        self.mark()
        circuit = self.circuit
        if circuit is not None:
            self._replica.release(circuit)

    def leave(self) -> None:
        """The fleet is closed: the circuit owns itself, and may join another."""
        self.left = True
        self._controls.clear()
        self.detach()

    def restart(self) -> None:
        """Begin anew in a forked child: what was counted is the parent's to hand in."""
        circuit = self.circuit
        if circuit is not None:
            self._began_at(circuit)
