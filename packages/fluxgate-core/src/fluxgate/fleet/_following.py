"""Following: the steps by which a circuit's machine takes the state that a store's view shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import BY_HAND, Beneath, Phase
from fluxgate.fleet._reverts import read_next
from fluxgate.fleet._verdict import read_reason
from fluxgate.fleet.store import View
from fluxgate.signals import Origin
from fluxgate.state import State

Step: TypeAlias = Callable[[Machine, float], Phase | None]
"""A step under the circuit's lock, at a clock time; the phase that it has begun for the fleet."""


def follow(view: View, origin: Origin) -> Step:
    """The step into the state of a view.

    Open, half-open, or set by hand for a time, the phase is the fleet's.
    """
    left = math.inf if view.remaining is None else view.remaining / 1000

    def step(machine: Machine, now: float) -> Phase:
        machine.advised = None
        refuses = view.state is State.OPEN or view.state is State.FORCED_OPEN
        until = now + left if view.state in BY_HAND else math.inf
        leases, reason = machine.phase.leases, read_reason(view.reason)
        phase = machine.follow(
            view.state,
            now,
            now + left if refuses else -math.inf,
            view.reopens,
            reason,
            origin,
            until,
            read_next(view).beneath(until) if until < math.inf else None,
        )
        if leases is not None and phase.leases is not None and phase.state is State.HALF_OPEN:
            phase.leases.wanted = leases.wanted
        return phase

    return step


def advise(view: View, origin: Origin, *, mine: bool) -> Step:
    """The step of an advisory member: an open fleet only lowers the circuit's threshold.

    Args:
        view: the circuit as the store has it, in no state that a hand has set.
        origin: who has moved it there.
        mine: whether the circuit's phase is one that the fleet has begun.
    """

    def step(machine: Machine, now: float) -> Phase | None:
        reason, phase = read_reason(view.reason), None
        if mine and machine.phase.state in BY_HAND:  # set by the fleet, and ended by it
            phase = machine.follow(State.CLOSED, now, -math.inf, 0, reason, origin)
        machine.advised = None if view.state is State.CLOSED else reason
        return phase

    return step


def stay(_: Machine, __: float) -> None:
    """The step of a circuit that is in that state already, or that a hand has set here alone."""


def stay_as_set(view: View) -> Step:
    """The step of a circuit that a hand has set here alone; once that is over, it is as in a view.

    Without it, what stood before the hand would stand again, which the fleet has left since.
    """
    left = math.inf if view.remaining is None else view.remaining / 1000

    def step(machine: Machine, now: float) -> None:
        phase = machine.phase
        if phase.until < math.inf:
            retry_at = now + left if view.state is State.OPEN else -math.inf
            reason = read_reason(view.reason)
            phase.beneath = Beneath(view.state, retry_at, view.reopens, reason)

    return step


def release(machine: Machine, _: float) -> None:
    """The step of a circuit whose store can't be reached: it owns its phase, and has no advice."""
    machine.release(machine.phase)
    machine.advised = None
