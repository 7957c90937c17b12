"""A replica: the fleet's state of a circuit as this process has it, which the circuit follows.

A newer epoch in the store replaces it; a store with an older one has lost something, and gets it
back. While the store can't be reached the circuit owns itself; what has happened to it meanwhile
decides whether it is the fleet's again afterwards, or the fleet is moved to where the circuit is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fluxgate._engine.circuit import Circuit
from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import BY_HAND, Phase
from fluxgate._engine.transitions import Event
from fluxgate.fleet._controls import Control, Controls
from fluxgate.fleet._decisions import Decision, moved_on
from fluxgate.fleet._deltas import Deltas, Seen
from fluxgate.fleet._following import Step, advise, follow, release, stay, stay_as_set
from fluxgate.fleet._head import Head
from fluxgate.fleet.store import Move, View
from fluxgate.signals import Origin, Reason
from fluxgate.state import State

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


class Replica:
    """The fleet's state of one circuit, and how the circuit takes a newer one.

    Used by the flusher alone, but for `head`, which anybody may read.

    Args:
        deltas: the circuit's, of which those of an older epoch are left behind.
        controls: states set by hand, which the store doesn't have yet.
        advisory: whether the fleet only lowers the circuit's threshold.
        clock: seconds, as of the flusher.

    Attributes:
        head: the state.
        joined: whether the store was ever asked.
    """

    def __init__(
        self, deltas: Deltas, controls: Controls, *, advisory: bool, clock: Callable[[], float]
    ) -> None:
        self.head = Head()
        self.joined = False
        self._deltas = deltas
        self._controls = controls
        self._advisory = advisory
        self._clock = clock
        self._phase: Phase | None = None  # which this process has begun for the fleet
        self._released = False  # whether the circuit was released while the fleet owned it
        self._moving: tuple[str, State] | None = None  # a move with no answer: author and state

    # -- moves of this process

    def moving(self, move: Move, author: str) -> None:
        """A move is about to be made: should its answer get lost, it may be made all the same."""
        self._moving = author, move.state

    def moved(self) -> None:
        """It was answered."""
        self._moving = None

    def confirm(self, circuit: Circuit, view: View, control: Control) -> None:
        """A control has arrived, and its state is here already: that phase is the fleet's.

        What was counted before it is of the older epoch.
        """
        self._phase = control.phase
        self._adopt(circuit, view, stay, until=control.seen)

    # -- views

    def compare(self, circuit: Circuit, view: View) -> Decision:
        """Follow a newer epoch; bring this one back if it is the newer one."""
        decision = Decision()
        if view.epoch > self.head.epoch:
            if not self.joined and view.state is CLOSED:
                # Nothing to follow: it began closed, and what it has counted counts.
                self.head, self._released = Head.of(view, self._clock()), False
            elif self._controls.override:
                self._adopt(circuit, view, stay)  # the control sets the state soon
            else:
                ours = self._moving == (view.author, view.state)  # its answer was lost
                self.follow(circuit, view, Origin.FLEET if ours else Origin.PEER)
            self._moving = None
        elif view.epoch < self.head.epoch:
            ours_again = self.head.reassertion(circuit.name, view, circuit.policy, self._clock())
            decision = Decision(ours_again)
        elif self._released:
            decision = self._return(circuit, view)
        self.joined = True
        return decision

    def rejoin(self, circuit: Circuit, view: View) -> Decision | None:
        """Take a circuit back that has owned itself, in a view of this epoch.

        Returns:
            The move that this asks for, if any; None where the circuit has not owned itself.
        """
        if self._released:
            return self._return(circuit, view)
        if self._came_back(circuit):
            self.follow(circuit, view, Origin.PEER)
            return Decision()
        return None

    def follow(self, circuit: Circuit, view: View, origin: Origin) -> None:
        """Be in the state of a view, as far as this circuit follows the fleet."""
        mine = circuit._machine.phase is self._phase
        if view.state in BY_HAND:
            step = follow(view, origin)
        elif circuit.state in BY_HAND and not mine:
            # What was set by hand here stays until a hand changes it, or until its time is over.
            step = stay if self._advisory else stay_as_set(view)
        elif self._advisory:
            step = advise(view, origin, mine=mine)
        else:
            step = follow(view, origin)
        self._adopt(circuit, view, step)

    def release(self, circuit: Circuit) -> None:
        """The store can't be reached: the circuit owns itself again."""
        machine = circuit._machine
        if machine.phase.leases is not None or machine.advised is not None:
            self._released = True
            circuit.step(release)

    def _adopt(self, circuit: Circuit, view: View, step: Step, until: Seen | None = None) -> None:
        """Take over a view's head, leave older counts behind, and take a step, all in one.

        In one, so that nobody who reads the circuit sees the new epoch with the old state.
        """

        def adopt(machine: Machine, now: float) -> Phase | None:
            self._deltas.pass_over(machine, counting=self.head.counting, until=until)
            self.head, self._released = Head.of(view, self._clock()), False
            return step(machine, now)

        phase = circuit.step(adopt)
        if phase is not None:
            self._phase = phase

    def _return(self, circuit: Circuit, view: View) -> Decision:
        """The store is back, and nothing has happened there meanwhile."""
        self._released = False
        phase, head = circuit._machine.phase, self.head
        shared = head.state in (OPEN, HALF_OPEN)
        if head.state in BY_HAND and head.until < math.inf and phase is self._phase:
            shared = True
        # Nor here, or it has opened again by itself meanwhile: it is the fleet's again.
        if self._advisory or (shared and (phase is self._phase or phase.state is OPEN)):
            self.follow(circuit, view, Origin.PEER)
        elif shared and not view.remaining:
            if phase.state is CLOSED and phase.event is Event.RECOVERED:  # not by hand
                return Decision(moved_on(circuit, head, CLOSED, Reason("probes succeeded")))
            self._released = phase.state is HALF_OPEN  # look again when it has decided
        return Decision()

    def _came_back(self, circuit: Circuit) -> bool:
        """Whether the time is over that a hand had given here alone, while the fleet isn't closed.

        What follows it is the fleet's again, or this process would probe beside the leases.
        """
        phase, state = circuit._machine.phase, self.head.state
        alone = phase.leases is None and phase is not self._phase
        shared = state in BY_HAND if self._advisory else state is not CLOSED
        return alone and shared and phase.event is None
