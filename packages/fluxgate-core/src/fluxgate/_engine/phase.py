"""Phase: one period that a circuit spends in one state, with its window, slots and deadline.

An `Admission` is what a phase gives to each call that it lets in.

A phase is made whole and published by one assignment, so nobody ever sees the window of one state
with the deadline of another. A call keeps the phase that admitted it: that is its generation.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from fluxgate._engine.leases import Leases
from fluxgate._engine.transitions import Event
from fluxgate._tally import Tally
from fluxgate.policy import Policy
from fluxgate.signals import Origin, Reason, SignalKind
from fluxgate.state import State
from fluxgate.trippers import Tripper

if TYPE_CHECKING:
    from fluxgate._engine.dispatch import Delivery

RECORDING = frozenset({State.CLOSED, State.METRICS_ONLY})
"""The states whose calls go through a lane."""

BY_HAND = frozenset({State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN})
"""The states that a hand sets; a hand ends them, or the time that it gave."""

PASSING = frozenset({State.METRICS_ONLY, State.DISABLED})
"""Those of them that admit every call."""

LAST_ERRORS = 100
"""How many failures a phase remembers the errors of."""

Cause: TypeAlias = type[BaseException] | str
"""The cause of a failure: a type of error, or a few words. Never the error itself, whose traceback
would keep the frames of the failed call alive."""


def label_of(kind: type[BaseException]) -> str:
    """A type's name, with its module unless it is a builtin."""
    try:
        name, module = kind.__qualname__, kind.__module__
    except Exception:  # somebody else's metaclass, or a class that was made without a module
        return "Exception"
    return name if module == "builtins" else f"{module}.{name}"


class Phase:
    """One stay in one state.

    Args:
        state: the state.
        policy: the settings.
        now: clock time of its beginning.
        generation: its number; a circuit's phases count up.
        streak: failures in a row so far, which outlive a window.
        reopens: how often probing has failed since the circuit was last closed.
        retry_at: clock time before which every call is refused without a look at anything else.
        cooled_at: clock time at which the cooldown before it ended; by default its beginning.
        reason: why it began.
        event: the event of this process that began it; None at first, and where the fleet did.
        tripped: whether a tripper has opened the circuit, which hasn't closed since.
        last_trip: why the circuit last opened.
        notice: the transition that it began with, for the listeners.
        until: clock time at which a state that was set by hand ends by itself.
        beneath: what stood when it was set by hand for a time; None: nothing but the defaults.
    """

    __slots__ = (
        "began",
        "beneath",
        "cooled_at",
        "dropped",
        "errors",
        "event",
        "fast_below",
        "generation",
        "last_trip",
        "leases",
        "minimum",
        "notice",
        "overdue_seen",
        "policy",
        "probes",
        "reason",
        "reopens",
        "retry_at",
        "shadow",
        "shadow_open",
        "state",
        "tally",
        "tripped",
        "tripper",
        "until",
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
        reopens: int = 0,
        retry_at: float = -math.inf,
        cooled_at: float | None = None,
        reason: Reason | None = None,
        event: Event | None = None,
        tripped: bool = False,
        leases: Leases | None = None,
        last_trip: Reason | None = None,
        notice: Notice | None = None,
        until: float = math.inf,
        beneath: Beneath | None = None,
    ) -> None:
        self.state = state
        self.generation = generation
        self.began = now
        # A permit counts from there: a ramp that waited for the first call would refuse that one.
        self.cooled_at = now if cooled_at is None else cooled_at
        self.shadow: Tripper | None = None
        self.shadow_open: bool | None = None
        self.take(policy)
        window = policy.probe_window if state is State.HALF_OPEN else policy.window
        self.tally: Tally = window.tally(policy.thresholds, streak)
        self.reopens = reopens
        self.retry_at = retry_at
        self.reason = reason
        self.event = event
        self.tripped = tripped
        # Where there are some, the fleet owns the phase: it decides, this process only probes.
        self.leases = leases
        self.last_trip = last_trip
        self.notice = notice
        self.until = until
        self.beneath = beneath
        self.probes: dict[int, float] = {}  # token -> deadline, the earliest first
        self.dropped: list[int] = []  # tokens whose admissions are gone, unsettled
        self.errors: deque[Cause | None] | None = None  # most phases never see one
        self.would_open = False
        self.overdue_seen = False

    def take(self, policy: Policy) -> None:
        """Adopt the settings that can change while a phase lasts."""
        self.policy = policy
        self.fast_below = policy.fast_below  # of its lane, while that is up
        half_open = self.state is State.HALF_OPEN
        self.tripper: Tripper = policy.half_open if half_open else policy.closed
        shadow = policy.shadow_half_open if half_open else policy.shadow_closed
        if shadow != self.shadow:  # the verdict was another shadow's
            # Probes have none until they are judged; a window that is empty would not open.
            self.shadow_open = None if half_open else False
        self.shadow = shadow
        # Both are asked where either may have something new to say.
        self.watched = self.tripper if self.shadow is None else self.tripper | self.shadow
        self.minimum = max(self.watched.minimums, default=0)

    def below(self, state: State) -> Beneath | None:
        """The state beneath `state`, if that is set for a time from this phase on.

        One that was set for a time itself is replaced, and what stood beneath it stands on.
        """
        if self.until < math.inf:
            return self.beneath
        if self.state is state and state in BY_HAND:
            return None  # nobody knows any more what stood before
        return Beneath(self.state, self.retry_at, self.reopens, self.reason)

    def successor(self, at: float) -> Beneath:
        """The state after one that was set by hand for a time, when that ends at `at`.

        What would stand without it. But where no calls were made, nobody knows how the dependency
        is: instead of closed, half-open.
        """
        beneath = self.beneath or Beneath(State.CLOSED)
        state = beneath.state
        cooled = state is State.OPEN and at >= beneath.retry_at
        if cooled or (state is State.CLOSED and self.state is State.FORCED_OPEN):
            state = State.HALF_OPEN
        refuses = state is State.OPEN or state is State.FORCED_OPEN
        return beneath._replace(state=state, retry_at=beneath.retry_at if refuses else -math.inf)

    def begin_errors(self, cause: Cause | None) -> None:
        """Remember the causes of failures from this one on, the first that anybody knows."""
        if cause is not None:
            self.errors = deque((cause,), LAST_ERRORS)

    def last_errors(self) -> tuple[tuple[str, int], ...]:
        """Causes of the last failures in the window with their counts, the most frequent first."""
        errors, failures = self.errors or (), self.tally.failure_count
        counts: dict[str, int] = {}
        for cause in list(errors)[-failures:] if failures else ():
            if cause is None:  # unknown; without its place here, an older one would count for it
                continue
            label = cause if isinstance(cause, str) else label_of(cause)
            counts[label] = counts.get(label, 0) + 1
        return tuple(sorted(counts.items(), key=lambda pair: -pair[1]))


class Beneath(NamedTuple):
    """The state beneath one that was set by hand for a time.

    Attributes:
        state: the state.
        retry_at: clock time before which it refuses every call.
        reopens: how often probing had failed since the circuit was last closed.
        reason: why it was in that state.
    """

    state: State
    retry_at: float = -math.inf
    reopens: int = 0
    reason: Reason | None = None


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


class Notice:
    """A change that listeners are to hear of.

    Attributes:
        delivery: hands it to the listeners, one with each step; None until the owner of the machine
            has put a date on it. It remembers who has heard, so that an interrupt between two
            listeners neither skips nor repeats one.
    """

    __slots__ = (
        "delivery",
        "generation",
        "kind",
        "new_state",
        "old_state",
        "origin",
        "reason",
        "shadow",
    )

    def __init__(
        self,
        old_state: State,
        new_state: State,
        generation: int,
        reason: Reason,
        kind: SignalKind = SignalKind.TRANSITION,
        shadow: bool = False,
        origin: Origin = Origin.LOCAL,
    ) -> None:
        self.old_state = old_state
        self.new_state = new_state
        self.generation = generation
        self.reason = reason
        self.kind = kind
        self.shadow = shadow
        self.origin = origin
        self.delivery: Delivery | None = None
