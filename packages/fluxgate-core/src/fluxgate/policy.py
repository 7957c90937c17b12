"""A breaker's settings, checked together and folded per state once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, TypedDict

from fluxgate._naming import safe_repr, which
from fluxgate._values import Strategy, count_in_range, seconds_in_range
from fluxgate.permits import Permit, RampUp
from fluxgate.retries import Cooldown, Retry
from fluxgate.state import State
from fluxgate.trackers import All, Tracker
from fluxgate.trippers import NEVER, FailureRate, MinRequests, Tripper
from fluxgate.windows import CountWindow, Window

__all__ = ["Policy", "Settings"]

ResultTracker = Callable[[Any], object]


class Settings(TypedDict, total=False):
    """The keyword arguments of a `Policy`."""

    window: Window
    tracker: Tracker
    healthy: Tracker | None
    result_tracker: ResultTracker | None
    tripper: Tripper
    retry: Retry
    permit: Permit
    max_half_open_calls: int
    probe_timeout: float
    cancelled_after: float | None
    shadow: Tripper | None
    buckets: Iterable[float]
    error_messages: bool


class Policy(Strategy):
    """Everything that decides what a circuit does. Frozen; many circuits may share one.

    Args:
        window: the calls that the tripper looks at.
        tracker: which exceptions are failures.
        healthy: which exceptions are successes, since they show that the dependency works, such as
            a "not found"; asked before `tracker`. None: no exception is one.
        result_tracker: called with each returned value; a true answer makes the call a failure.
        tripper: when the circuit opens.
        retry: how long it stays open.
        permit: which share of the calls it admits while half-open.
        max_half_open_calls: probes in flight at once, 1 to 10,000,000.
        probe_timeout: seconds (1e-9 to 1e9) after which a probe that has not ended gives its slot
            back and is ignored, whatever becomes of it; choose it above your longest good call.
        cancelled_after: seconds (1e-9 to 1e9) from which a call that is cancelled counts as a
            failure: its caller has waited long enough to blame the dependency. None: a cancelled
            call says nothing, however long it ran.
        shadow: another tripper to try on the same calls: what it would do is reported, and never
            done.
        buckets: upper bounds (seconds, 1e-9 to 1e9) of a histogram of durations, for collectors;
            none, no histogram.
        error_messages: whether explanations quote the messages of errors, not their types alone.
            Messages may hold secrets, and explanations go to logs and chats.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the settings contradict each other, or the tripper could never do its work.
    """

    __slots__ = (
        "buckets",
        "cancelled_after",
        "closed",
        "error_messages",
        "fast_below",
        "half_open",
        "healthy",
        "least_threshold",
        "max_half_open_calls",
        "permit",
        "probe_timeout",
        "probe_window",
        "result_tracker",
        "retry",
        "shadow",
        "shadow_closed",
        "shadow_half_open",
        "thresholds",
        "tracker",
        "tracks_all",
        "tripper",
        "window",
    )
    __match_args__ = (
        "window",
        "tracker",
        "healthy",
        "result_tracker",
        "tripper",
        "retry",
        "permit",
        "max_half_open_calls",
        "probe_timeout",
        "cancelled_after",
        "shadow",
        "buckets",
        "error_messages",
    )

    def __init__(
        self,
        *,
        window: Window = CountWindow(100),
        tracker: Tracker = All(),
        healthy: Tracker | None = None,
        result_tracker: ResultTracker | None = None,
        tripper: Tripper = MinRequests(10) & FailureRate(0.5),
        retry: Retry = Cooldown(60.0),
        permit: Permit = RampUp(0.1, 1.0, 60.0),
        max_half_open_calls: int = 10,
        probe_timeout: float = 60.0,
        cancelled_after: float | None = None,
        shadow: Tripper | None = None,
        buckets: Iterable[float] = (),
        error_messages: bool = False,
    ) -> None:
        _check_kind("window", window, Window)
        _check_kind("tracker", tracker, Tracker)
        if healthy is not None:
            _check_kind("healthy", healthy, Tracker)
        _check_kind("tripper", tripper, Tripper)
        _check_kind("retry", retry, Retry)
        _check_kind("permit", permit, Permit)
        if result_tracker is not None and not callable(result_tracker):
            raise TypeError(
                f"result_tracker must be callable with the result: {safe_repr(result_tracker)}"
            )
        count_in_range("max_half_open_calls", max_half_open_calls)
        seconds_in_range("probe_timeout", probe_timeout)
        if cancelled_after is not None:
            seconds_in_range("cancelled_after", cancelled_after)
        if shadow is not None:
            _check_kind("shadow", shadow, Tripper)
        if not isinstance(error_messages, bool):
            raise TypeError(f"error_messages must be True or False: {safe_repr(error_messages)}")
        self.window = window
        self.tracker = tracker
        self.healthy = healthy
        # Whether an error's type alone says that it is a failure.
        self.tracks_all = type(tracker) is All and healthy is None
        self.result_tracker = result_tracker
        self.tripper = tripper
        self.retry = retry
        self.permit = permit
        self.max_half_open_calls = max_half_open_calls
        self.probe_timeout = probe_timeout
        self.cancelled_after = cancelled_after
        self.shadow = shadow
        self.buckets = _bounds(buckets)
        self.error_messages = error_messages

        self.closed, self.half_open = self._folded("tripper", tripper)
        shadows = () if shadow is None else self._folded("shadow", shadow)
        self.shadow_closed: Tripper | None
        self.shadow_half_open: Tripper | None
        self.shadow_closed, self.shadow_half_open = shadows or (None, None)
        asked = (self.closed, self.half_open, *shadows)
        self.thresholds = tuple(sorted({t for each in asked for t in each.thresholds}))
        self.least_threshold = min(self.thresholds, default=math.inf)
        # A success below every threshold needs no look at the tripper; but a result tracker must
        # see each result.
        self.fast_below = self.least_threshold if result_tracker is None else -math.inf
        # The live tripper's alone: a shadow must not change what that one sees.
        self.probe_window = CountWindow(max(window.capacity or 100, self.half_open.evidence))

    def _folded(self, name: str, tripper: Tripper) -> tuple[Tripper, Tripper]:
        """A tripper as it reads when closed, and when half-open; checked."""
        closed, half_open = tripper.given(State.CLOSED), tripper.given(State.HALF_OPEN)
        if closed is NEVER:
            raise ValueError(
                f"{name} {safe_repr(tripper)} can never fire in the closed state: "
                "add a clause that does, such as Closed() & FailureRate(0.5)"
            )
        for state, folded in ((State.CLOSED, closed), (State.HALF_OPEN, half_open)):
            if folded.fires_on_success:
                raise ValueError(
                    f"{name} {safe_repr(tripper)} fires on fast successes alone when {state}: "
                    "join it with a clause on failures or latency, such as & FailureRate(0.5)"
                )
        capacity = self.window.capacity
        if capacity is not None and max(closed.minimums, default=0) > capacity:
            raise ValueError(
                f"MinRequests({max(closed.minimums)}) is never reached: {safe_repr(self.window)} "
                f"holds {capacity} calls; lower the one or enlarge the other"
            )
        return closed, half_open

    def thresholds_reached(self, elapsed: float) -> tuple[float, ...]:
        """The slow-call thresholds (seconds) that a call of `elapsed` seconds reached."""
        if elapsed < self.least_threshold:
            return ()
        return tuple(threshold for threshold in self.thresholds if elapsed >= threshold)

    def replace(self, **changes: Any) -> Policy:
        """A copy with other settings. Unknown names raise a TypeError that lists the known."""
        unknown = changes.keys() - set(self.__match_args__)
        if unknown:
            raise TypeError(
                f"unknown setting {', '.join(sorted(unknown))}; "
                f"known are {', '.join(self.__match_args__)}"
            )
        return Policy(**{**self._values(), **changes})

    def __repr__(self) -> str:
        return f"Policy({', '.join(f'{k}={v!r}' for k, v in self._values().items())})"


def _bounds(buckets: Iterable[float]) -> tuple[float, ...]:
    """The bounds of a histogram; infinity, which ends every one, may be left out."""
    if isinstance(buckets, (str, bytes, Mapping)) or not isinstance(buckets, Iterable):
        shown = safe_repr(buckets)  # pyright: ignore[reportUnknownArgumentType]
        raise TypeError(f"buckets must be a list of seconds, such as (0.1, 0.5, 1.0): {shown}")
    bounds = tuple(buckets)
    if bounds and bounds[-1] == math.inf:
        bounds = bounds[:-1]
    for bound in bounds:
        seconds_in_range("buckets", bound)
    if any(left >= right for left, right in pairwise(bounds)):
        raise ValueError(f"buckets must ascend: {bounds!r}")
    return bounds


def _check_kind(name: str, value: object, kind: type[Strategy]) -> None:
    if isinstance(value, kind):
        return
    hint = ""
    if isinstance(value, str):
        hint = "; fluxgate.config reads expression strings"
    elif isinstance(value, type) and issubclass(value, kind):
        hint = f"; did you mean {value.__name__}(...)?"
    shown = which(value)  # pyright: ignore[reportUnknownArgumentType]
    raise TypeError(f"{name} must be a {kind.__name__} from {kind.__module__}, not {shown}{hint}")


DEFAULT = Policy()
