"""Controls: states set by hand for the whole fleet, on their way to the store.

A control obeys here at once, on the calling thread. The flusher carries it to the store; until it
has arrived it waits here, and a later one replaces it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fluxgate._engine.circuit import Circuit
from fluxgate._engine.phase import Phase
from fluxgate.fleet._deltas import Seen, read
from fluxgate.fleet._head import Head, milliseconds, ttl_of
from fluxgate.fleet._reverts import after_phase
from fluxgate.fleet._verdict import write_reason
from fluxgate.fleet.store import Move
from fluxgate.signals import Reason
from fluxgate.state import State


class Control(NamedTuple):
    """A state that was set by hand.

    Attributes:
        circuit: the circuit, which lives until the control has arrived.
        move: what it asks of the store.
        phase: the circuit's phase since then.
        seen: the circuit's counts at that time: older calls belong to the older epoch.
        until: clock time (of the flusher) at which an opening ends, or what was set for a time.
    """

    circuit: Circuit
    move: Move
    phase: Phase
    seen: Seen
    until: float

    def now(self, head: Head, now: float) -> Move | None:
        """The move to make now; None if there is nothing left to do."""
        move = self.move
        if self.until < math.inf:
            phase = self.circuit._machine.phase
            alone = move.state is not State.OPEN and phase.leases is None
            if now >= self.until and (alone or phase is not self.phase):
                return None  # the store was away all the time, and the circuit has gone on
            if move.state is head.state is State.OPEN and head.until >= self.until:
                return None  # `open_for` never shortens an opening
            move = move._replace(remaining=milliseconds(max(self.until - now, 0.0)))
        return move._replace(known=max(move.known, head.epoch))

    def stands(self, circuit: Circuit, *, advisory: bool) -> bool:
        """Whether its phase is the circuit's still, and may be the fleet's as it is."""
        phase = circuit._machine.phase
        if phase is not self.phase:
            return False
        if self.until == math.inf or phase.leases is not None:
            return True
        return self.move.state is State.OPEN and advisory


class Controls:
    """The controls of one circuit that the store doesn't have yet, of which the last one counts.

    Any thread adds one; only the flusher removes them.
    """

    def __init__(self) -> None:
        self._waiting: list[Control] = []
        self._sent: Control | None = None  # which is on its way

    def add(
        self, circuit: Circuit, epoch: int, state: State, reason: Reason, until: float = math.inf
    ) -> None:
        """Note that the circuit has just been set by hand."""
        machine = circuit._machine
        move = Move(
            circuit.name,
            expected=None,
            known=epoch,
            state=state,
            reason=write_reason(reason, after_phase(machine.phase) or ""),
            ttl=ttl_of(state, circuit.policy),
        )
        self._waiting.append(Control(circuit, move, machine.phase, read(machine), until))

    def latest(self) -> Control | None:
        """The one to carry out; the older ones are forgotten."""
        count = len(self._waiting)
        del self._waiting[: count - 1]
        return self._waiting[0] if count else None

    def send(self, head: Head, now: float) -> Move | None:
        """The move to make for the latest one, as of now."""
        control = self.latest()
        if control is None:
            return None
        move = control.now(head, now)
        if move is None:
            self.done(control)
        else:
            self._sent = control
        return move

    def arrived(self, move: Move) -> Control | None:
        """The control that a move which was answered has carried out; None, if it was none."""
        if move.expected is not None or (control := self._sent) is None:
            return None
        self._sent = None
        self.done(control)
        return control

    def waiting(self) -> Control | None:
        """The one that waits here while one from elsewhere is about to arrive in the store."""
        self._sent = None
        return self.latest()

    def done(self, control: Control) -> None:
        """Forget one that was carried out, or is pointless; not one that has come meanwhile."""
        if self._waiting and self._waiting[0] is control:
            del self._waiting[0]

    def clear(self) -> None:
        """Forget all of them."""
        self._sent = None
        self._waiting.clear()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def override(self) -> bool:
        """Whether the last one sets a state whatever the fleet is in."""
        return bool(self._waiting) and self._waiting[-1].move.state is not State.OPEN
