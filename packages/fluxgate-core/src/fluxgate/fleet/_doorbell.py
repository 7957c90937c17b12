"""A doorbell: the first call of a circuit at rest wakes the flusher, and no call pays for it.

A healthy call leaves its duration in the lane and tells nobody, so somebody has to come and look.
While nothing happens that is a waste, and while it isn't looked at, a fleet would judge without the
calls of those that are well. So the flusher, before it sleeps for long, puts up a lane that lets
nothing through: the next call takes the lock as a failed one does, and the machine, which finds
that lane unfit for what it knows, puts up one of its own. Whatever takes a doorbell down, rings.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fluxgate._engine.circuit import Circuit
from fluxgate._engine.lane import Lane
from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import Phase


class Doorbell(Lane):
    """A lane that is down and over: whichever call ends next has the machine choose another.

    Args:
        phase: the circuit's.
        now: clock time of the circuit.
        ring: called under the circuit's lock when it is taken down; it must not wait or raise.
    """

    __slots__ = ("_ring",)

    def __init__(self, phase: Phase, now: float, ring: Callable[[], None]) -> None:
        super().__init__(phase, fast_below=-math.inf, until=-math.inf, at=now, steady=False)
        self._ring = ring

    def retire(self) -> None:
        """Ring: a call has ended, or the circuit has moved."""
        super().retire()
        self._ring()


def hang(circuit: Circuit, ring: Callable[[], None]) -> bool:
    """Have `ring` called when the next call of this circuit is counted; whether that is so.

    Calls that end meanwhile were counted before, or ring: who hangs it looks at the counts after.
    """
    if isinstance(circuit.lane, Doorbell):
        return True

    def put_up(machine: Machine, now: float) -> bool:
        if machine.lane is None:
            return False
        machine.lane = Doorbell(machine.phase, now, ring)
        return True

    return circuit.step(put_up)
