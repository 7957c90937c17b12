"""What one stay in one state is made of."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, TypeAlias

from fluxgate._engine.leases import Leases
from fluxgate._tally import Tally
from fluxgate.policy import Policy
from fluxgate.signals import Origin, Reason, SignalKind
from fluxgate.state import State
from fluxgate.trippers import Tripper

RECORDING = frozenset({State.CLOSED, State.METRICS_ONLY})
"""The states whose calls go through a lane."""


LAST_ERRORS = 100
"""How many failures a phase remembers the errors of."""

Cause: TypeAlias = type[BaseException] | str
"""What a call failed with: a type of error, or a few words."""


def label_of(kind: type[BaseException]) -> str:
    """A type's name, with its module unless it is a builtin."""
    try:
        name, module = kind.__qualname__, kind.__module__
    except Exception:  # somebody else's metaclass, or a class that was made without a module
        return "Exception"
    return name if module == "builtins" else f"{module}.{name}"


class Phase:
    """All that belongs to one stay in one state, made together and published by one assignment."""

    __slots__ = (
        "began",
        "dropped",
        "errors",
        "generation",
        "leases",
        "minimum",
        "overdue_seen",
        "policy",
        "probes",
        "reason",
        "retry_at",
        "shadow",
        "shadow_open",
        "state",
        "tally",
        "tripper",
        "watched",
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
        leases: Leases | None = None,
    ) -> None:
        self.state = state
        self.generation = generation
        self.began = now
        self.shadow: Tripper | None = None
        self.shadow_open: bool | None = None if state is State.HALF_OPEN else False
        self.take(policy)
        window = policy.probe_window if state is State.HALF_OPEN else policy.window
        self.tally: Tally = window.tally(policy.thresholds, streak)
        # Before this clock time every call is refused without a look at anything else.
        self.retry_at = retry_at
        self.reason = reason
        # Where there are some, the fleet owns the phase: it decides, this process only probes.
        self.leases = leases
        self.probes: dict[int, float] = {}  # token -> deadline, the earliest first
        self.dropped: list[int] = []  # tokens whose admissions are gone, unsettled
        self.errors: deque[Cause | None] | None = None  # most phases never see one
        self.would_open = False
        self.overdue_seen = False

    def take(self, policy: Policy) -> None:
        """Go by `policy`."""
        self.policy = policy
        half_open = self.state is State.HALF_OPEN
        self.tripper: Tripper = policy.half_open if half_open else policy.closed
        shadow = policy.shadow_half_open if half_open else policy.shadow_closed
        if shadow != self.shadow:  # another one has yet to say something; of probes, anything
            self.shadow_open = None if half_open else False
        self.shadow = shadow
        # Both are asked where either may have something new to say.
        self.watched = self.tripper if self.shadow is None else self.tripper | self.shadow
        self.minimum = max(self.watched.minimums, default=0)

    def note(self, cause: Cause | None) -> None:
        """Remember what a call failed with."""
        if self.errors is None:
            if cause is None:
                return
            self.errors = deque(maxlen=LAST_ERRORS)
        self.errors.append(cause)

    def last_errors(self) -> tuple[tuple[str, int], ...]:
        """What the last failures in the window were, the most frequent first."""
        errors, failures = self.errors or (), self.tally.failure_count
        counts: dict[str, int] = {}
        for cause in list(errors)[-failures:] if failures else ():
            if cause is None:  # nobody said; it has its place, lest an older one be told for it
                continue
            label = cause if isinstance(cause, str) else label_of(cause)
            counts[label] = counts.get(label, 0) + 1
        return tuple(sorted(counts.items(), key=lambda pair: -pair[1]))


class Admission(NamedTuple):
    """A call that was let in: through which phase, and with which probe slot, if any.

    The slot goes back when nothing holds the admission any more: a signal handler can raise between
    any two steps on the way from the machine to whoever is going to settle the call.
    """

    phase: Phase
    probe: int | None = None

    def __del__(self) -> None:
        if self.probe in self.phase.probes:
            self.phase.dropped.append(self.probe)  # a finaliser only leaves a note


class Notice(NamedTuple):
    """Something that listeners should hear."""

    old_state: State
    new_state: State
    generation: int
    reason: Reason
    kind: SignalKind = SignalKind.TRANSITION
    shadow: bool = False
    origin: Origin = Origin.LOCAL
