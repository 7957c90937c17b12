"""What one stay in one state is made of."""

from __future__ import annotations

import math
from typing import NamedTuple

from fluxgate._tally import Tally
from fluxgate.policy import Policy
from fluxgate.signals import Reason, SignalKind
from fluxgate.state import State
from fluxgate.trippers import Tripper

RECORDING = frozenset({State.CLOSED, State.METRICS_ONLY})
"""The states whose calls go through a lane."""


class Phase:
    """All that belongs to one stay in one state, made together and published by one assignment."""

    __slots__ = (
        "began",
        "generation",
        "minimum",
        "overdue_seen",
        "policy",
        "probes",
        "reason",
        "retry_at",
        "state",
        "tally",
        "tripper",
        "would_open",
    )

    def __init__(
        self,
        state: State,
        policy: Policy,
        *,
        now: float,
        generation: int = 0,
        streak: int = 0,
        retry_at: float = -math.inf,
        reason: Reason | None = None,
    ) -> None:
        self.state = state
        self.generation = generation
        self.began = now
        self.take(policy)
        window = policy.probe_window if state is State.HALF_OPEN else policy.window
        self.tally: Tally = window.tally(policy.thresholds, streak)
        # Before this clock time every call is refused without a look at anything else.
        self.retry_at = retry_at
        self.reason = reason
        self.probes: dict[int, float] = {}  # token -> deadline, the earliest first
        self.would_open = False
        self.overdue_seen = False

    def take(self, policy: Policy) -> None:
        """Go by `policy`."""
        self.policy = policy
        self.tripper: Tripper = policy.tripper_in(self.state)
        self.minimum = max(self.tripper.minimums, default=0)


class Admission(NamedTuple):
    """A call that was let in: through which phase, and with which probe slot, if any."""

    phase: Phase
    probe: int | None = None


class Notice(NamedTuple):
    """Something that listeners should hear."""

    old_state: State
    new_state: State
    generation: int
    reason: Reason
    kind: SignalKind = SignalKind.TRANSITION
