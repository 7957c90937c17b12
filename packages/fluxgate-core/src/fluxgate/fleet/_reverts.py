"""Reverts: the state that follows one that was set by hand for a time, in the whole fleet.

What stands beneath it is known when the control is called (`Phase.below`), so it travels with the
reason: a letter for the state and, where that is open, the milliseconds that it will have left.
Whichever process sees first that the time is over moves the fleet there; the others follow.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from fluxgate._engine.phase import BY_HAND, Beneath, Phase
from fluxgate._engine.transitions import CONTROL_OF
from fluxgate.fleet._verdict import read_reason, written_fields
from fluxgate.fleet.store import LETTERS, MAX_DURATION, STATES, View
from fluxgate.signals import Reason
from fluxgate.state import State

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


class Next(NamedTuple):
    """The state that stands beneath one that was set by hand.

    Attributes:
        state: the state.
        left: milliseconds that it has left when that one is over, if it is open.
    """

    state: State = CLOSED
    left: int = 0

    def __str__(self) -> str:
        return f"{LETTERS[self.state]}{self.left if self.state is OPEN else ''}"

    @property
    def remaining(self) -> int | None:
        """The same as a move has it."""
        return self.left if self.state is OPEN else None

    def beneath(self, until: float) -> Beneath:
        """The same for a machine, whose state that was set by hand ends at `until`."""
        retry_at = -math.inf
        if self.state is OPEN:
            retry_at = until + self.left / 1000
        elif self.state is State.FORCED_OPEN:
            retry_at = math.inf
        return Beneath(self.state, retry_at)


NEXT: Final = Next()


def after_phase(phase: Phase) -> Next | None:
    """The state beneath a phase when its time is over; None if it has no end."""
    if phase.until == math.inf:
        return None
    beneath = phase.beneath or Beneath(CLOSED)
    if beneath.state is not OPEN:
        return Next(beneath.state)
    if beneath.retry_at == math.inf:
        return Next(OPEN, MAX_DURATION)
    return _opened(round((beneath.retry_at - phase.until) * 1000))


def after_control(view: View, state: State, remaining: int | None) -> Next | None:
    """The same of `state`, if it is set for `remaining` ms in a circuit that is as in `view`."""
    if remaining is None or state not in BY_HAND:
        return None
    left = MAX_DURATION if view.remaining is None else view.remaining - remaining
    if view.state is OPEN:
        return _opened(left)
    if view.state not in BY_HAND:
        return Next(view.state)
    if view.remaining is None:
        return NEXT if view.state is state else Next(view.state)
    known = read_next(view)  # set for a time itself, which this one takes the place of
    return _opened(known.left + left) if known.state is OPEN else known


def _opened(left: int) -> Next:
    return Next(OPEN, min(left, MAX_DURATION)) if left > 0 else Next(HALF_OPEN)


def read_next(view: View) -> Next:
    """The state beneath that of a view; whatever is stored, there is one."""
    text = written_fields(view.reason)[4]
    state = STATES.get(text[:1])
    if state is None:
        return NEXT
    digits = text[1:14]
    return Next(state, min(int(digits), MAX_DURATION) if digits.isdecimal() else 0)


def is_over(view: View) -> bool:
    """Whether a state that was set by hand for a time has come to its end."""
    return view.state in BY_HAND and view.remaining == 0


def successor(view: View) -> Next:
    """The state after one that is over, as `Phase.successor` has it for one process."""
    found = read_next(view)
    if found.state is CLOSED and view.state is State.FORCED_OPEN:
        return Next(HALF_OPEN)
    return found


def reason_of_end(view: View) -> Reason:
    """The reason why the state of a view is over."""
    why = read_reason(view.reason)
    return Reason(f"{CONTROL_OF[view.state]}() over", note=why.note, by=why.by)
