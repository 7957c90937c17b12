"""The head of a circuit in a fleet, as one process knows it: epoch, state, deadline and reason.

A store has the same; a store with a lower epoch than a process knows has lost something, and gets
this one back.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from fluxgate._engine.phase import BY_HAND
from fluxgate.fleet.store import DAY, MAX_DURATION, MIN_TTL, Move, View
from fluxgate.policy import Policy
from fluxgate.state import State

COUNTING: Final = frozenset({State.CLOSED, State.METRICS_ONLY})
"""The fleet's states whose calls are evidence."""


class Head(NamedTuple):
    """The state that the fleet is believed to be in.

    Attributes:
        epoch: the number of its last move; 0 before the first.
        state: its state.
        reopens: how often probing has failed since it was last closed.
        reason: why, as the store has it.
        until: clock time (of the flusher) at which an opening ends, or what was set by hand.
    """

    epoch: int = 0
    state: State = State.CLOSED
    reopens: int = 0
    reason: str = ""
    until: float = math.inf

    @classmethod
    def of(cls, view: View, now: float) -> Head:
        """The head of a view that has just come."""
        left = math.inf if view.remaining is None else view.remaining / 1000
        return cls(view.epoch, view.state, view.reopens, view.reason, now + left)

    @property
    def counting(self) -> bool:
        """Whether its calls are evidence."""
        return self.state in COUNTING

    def retry_after(self, now: float) -> float | None:
        """Seconds until a circuit that refuses may be probed; None where nobody knows."""
        left = self.until - now
        refuses = self.state is State.OPEN or self.state is State.FORCED_OPEN
        return max(left, 0.0) if refuses and left < math.inf else None

    def reassertion(self, name: str, view: View, policy: Policy, now: float) -> Move:
        """The move that brings this head back to a store that has lost it."""
        left = self.until - now
        return Move(
            name,
            expected=view.epoch,
            known=self.epoch,
            state=self.state,
            remaining=None if left == math.inf else max(round(left * 1000), 0),
            reopens=self.reopens,
            reason=self.reason,
            reassert=True,
            ttl=ttl_of(self.state, policy),
        )


def milliseconds(seconds: float | None) -> int | None:
    """A duration as it travels; None, and infinity, have no end."""
    if seconds is None or seconds == math.inf:
        return None
    return min(round(seconds * 1000), MAX_DURATION)


def ttl_of(state: State, policy: Policy) -> int:
    """Milliseconds for which the store keeps a circuit in that state once nobody touches it."""
    if state in BY_HAND:
        return DAY
    longest = max(policy.probe_timeout, getattr(policy.window, "size", 0.0))
    delay = getattr(policy.retry, "max_duration", getattr(policy.retry, "duration", 0.0))
    return min(max(MIN_TTL, round(2500 * max(longest, delay))), MAX_DURATION)
