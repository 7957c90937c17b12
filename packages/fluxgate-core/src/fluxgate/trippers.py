"""Trippers: rules for when a circuit opens. Clauses combine with `&` and `|`.

Every comparison is "at least": `FailureRate(0.5)` fires at 0.5.

For your own, subclass `Tripper`, write `fires` as a pure function of the metrics, and `describe`
for people who read the policy. A subclass that declares nothing else is asked after every call;
the attributes of `Tripper` let a circuit skip that for calls which can't change the answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from fluxgate._naming import safe_repr
from fluxgate._values import Binary, Composable, check_above_zero, check_count, check_ratio
from fluxgate._words import number, percent, seconds
from fluxgate.metric import Metrics
from fluxgate.signals import Reason
from fluxgate.state import State

__all__ = [
    "AvgLatency",
    "Closed",
    "FailureRate",
    "FailureStreak",
    "HalfOpened",
    "MinRequests",
    "SlowRate",
    "Tripper",
]


class Tripper(Composable, ABC):
    """A rule for when a circuit opens, from the numbers of the calls in a window.

    Attributes:
        needs_bad: it can't fire while the window holds neither a failure nor a slow call.
        steady: a fast success can't make it fire, once the `minimums` are reached.
        minimums: counts of calls at which it may begin to fire.
        least_failure_rate: it can't fire while a smaller share of the calls has failed (ratio 0-1).
        thresholds: durations (seconds) from which a call is slow, as it needs them counted.
        evidence: how many probes it needs before it can decide in half-open.
        fires_on_success: it fires on fast successes alone.
        mergeable: it can decide by the added counts of many processes. A tripper that isn't
            mergeable looks at each process's own calls, also in a fleet.
    """

    __slots__ = ()

    needs_bad: bool = False
    steady: bool = False
    minimums: tuple[int, ...] = ()
    least_failure_rate: float = 0.0
    thresholds: tuple[float, ...] = ()
    evidence: int = 1
    fires_on_success: bool = False
    mergeable: bool = False

    @abstractmethod
    def fires(self, metrics: Metrics) -> bool:
        """Whether the circuit should open."""

    def measure(self, metrics: Metrics) -> float | None:
        """The number that it compares, for the explanation; None if there is no single one."""
        return None

    def explain(self, metrics: Metrics) -> Reason:
        """The clause that made it fire, with what it measured."""
        return Reason(repr(self), self.measure(metrics), metrics.total_count)

    def has_evidence(self, metrics: Metrics) -> bool:
        """Whether the probes so far suffice to decide in half-open."""
        return metrics.total_count >= self.evidence

    def given(self, state: State) -> Tripper:
        """The tripper as it applies in `state`: its state clauses become true or false."""
        return self

    def merged(self) -> Tripper:
        """The part that can decide by added counts of many processes; `NEVER` without one."""
        return self if self.mergeable else NEVER

    def describe(self) -> str:
        """When it fires, as a clause that can follow "it opens when"."""
        return f"{safe_repr(self)} fires"

    def __and__(self, other: Tripper) -> Tripper:
        return _And(self, other) if isinstance(other, Tripper) else NotImplemented

    def __or__(self, other: Tripper) -> Tripper:
        return _Or(self, other) if isinstance(other, Tripper) else NotImplemented


class _Always(Tripper):
    __slots__ = ()
    mergeable = True
    steady = True
    fires_on_success = True

    def fires(self, metrics: Metrics) -> bool:
        return True


class _Never(Tripper):
    __slots__ = ()
    mergeable = True
    needs_bad = True
    steady = True

    def fires(self, metrics: Metrics) -> bool:
        return False


ALWAYS = _Always()
NEVER = _Never()


class Closed(Tripper):
    """True while the circuit is closed (or metrics-only)."""

    __slots__ = ()
    mergeable = True

    def given(self, state: State) -> Tripper:
        return NEVER if state is State.HALF_OPEN else ALWAYS

    def describe(self) -> str:
        return "the circuit is closed"

    def fires(self, metrics: Metrics) -> bool:
        raise TypeError("Closed() is folded away by given(state) before anything is judged")


class HalfOpened(Tripper):
    """True while the circuit is half-open."""

    __slots__ = ()
    mergeable = True

    def given(self, state: State) -> Tripper:
        return ALWAYS if state is State.HALF_OPEN else NEVER

    def describe(self) -> str:
        return "the circuit is half-open"

    def fires(self, metrics: Metrics) -> bool:
        raise TypeError("HalfOpened() is folded away by given(state) before anything is judged")


class MinRequests(Tripper):
    """True once the window holds `count` calls.

    Args:
        count: number of calls, 1 to 10,000,000.
    """

    __slots__ = ("count", "minimums")
    __match_args__ = ("count",)
    steady = True
    mergeable = True
    fires_on_success = True

    def __init__(self, count: int) -> None:
        self.count = count
        check_count(self, "count")
        self.minimums = (count,)

    @property
    def evidence(self) -> int:  # type: ignore[override]
        return self.count

    def fires(self, metrics: Metrics) -> bool:
        return metrics.total_count >= self.count

    def measure(self, metrics: Metrics) -> float:
        return metrics.total_count

    def describe(self) -> str:
        return f"there {'is' if self.count == 1 else 'are'} at least {number(self.count, 'call')}"


class FailureRate(Tripper):
    """Fires when failures / calls >= `ratio`.

    Args:
        ratio: in (0, 1].
    """

    __slots__ = ("least_failure_rate", "ratio")
    __match_args__ = ("ratio",)
    needs_bad = True
    steady = True
    mergeable = True

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        check_ratio(self, "ratio")
        self.least_failure_rate = ratio

    def fires(self, metrics: Metrics) -> bool:
        total = metrics.total_count
        return total > 0 and metrics.failure_count / total >= self.ratio

    def measure(self, metrics: Metrics) -> float | None:
        return metrics.failure_rate

    def describe(self) -> str:
        return f"at least {percent(self.ratio)} of the calls failed"


class SlowRate(Tripper):
    """Fires when slow calls / calls >= `ratio`; failed calls are timed, too.

    Args:
        ratio: in (0, 1].
        threshold: seconds, 1e-9 to 1e9; a call that takes as long is slow.
    """

    __slots__ = ("ratio", "threshold", "thresholds")
    __match_args__ = ("ratio", "threshold")
    needs_bad = True
    steady = True
    mergeable = True

    def __init__(self, ratio: float, threshold: float) -> None:
        self.ratio = ratio
        self.threshold = threshold
        check_ratio(self, "ratio")
        check_above_zero(self, "threshold")
        self.thresholds = (threshold,)

    def fires(self, metrics: Metrics) -> bool:
        total = metrics.total_count
        return total > 0 and metrics.slow_counts[self.threshold] / total >= self.ratio

    def measure(self, metrics: Metrics) -> float | None:
        return metrics.slow_rate(self.threshold)

    def describe(self) -> str:
        share, limit = percent(self.ratio), seconds(self.threshold)
        return f"at least {share} of the calls took {limit} or longer"


class AvgLatency(Tripper):
    """Fires when the mean duration of the calls in the window reaches `threshold`.

    Args:
        threshold: seconds, 1e-9 to 1e9.
    """

    __slots__ = ("threshold",)
    __match_args__ = ("threshold",)
    mergeable = True

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        check_above_zero(self, "threshold")

    def fires(self, metrics: Metrics) -> bool:
        mean = metrics.avg_duration
        return mean is not None and mean >= self.threshold

    def measure(self, metrics: Metrics) -> float | None:
        return metrics.avg_duration

    def describe(self) -> str:
        return f"the calls took {seconds(self.threshold)} or longer on average"


class FailureStreak(Tripper):
    """Fires when the last `count` calls have all failed.

    A streak is a property of the dependency, not of the window: it goes on through open and
    half-open, and only a success or `reset()` breaks it.

    Args:
        count: number of failures, 1 to 10,000,000.
    """

    __slots__ = ("count",)
    __match_args__ = ("count",)
    needs_bad = True
    steady = True

    def __init__(self, count: int) -> None:
        self.count = count
        check_count(self, "count")

    @property
    def evidence(self) -> int:  # type: ignore[override]
        return self.count

    def fires(self, metrics: Metrics) -> bool:
        return metrics.failure_streak >= self.count

    def has_evidence(self, metrics: Metrics) -> bool:
        last_succeeded = metrics.total_count > 0 and metrics.failure_streak == 0
        return last_succeeded or metrics.failure_streak >= self.count

    def measure(self, metrics: Metrics) -> float:
        return metrics.failure_streak

    def explain(self, metrics: Metrics) -> Reason:
        return Reason(repr(self), metrics.failure_streak, metrics.failure_streak)

    def describe(self) -> str:
        if self.count == 1:
            return "the last call failed"
        return f"the last {number(self.count, 'call')} all failed"


class _Both(Binary[Tripper], Tripper):
    """The common part of `&` and `|`."""

    __slots__ = ("evidence", "left", "mergeable", "minimums", "right", "steady", "thresholds")

    def __init__(self, left: Tripper, right: Tripper) -> None:
        super().__init__(left, right)
        self.steady = left.steady and right.steady
        self.mergeable = left.mergeable and right.mergeable
        self.minimums = tuple(sorted({*left.minimums, *right.minimums}))
        self.thresholds = tuple(sorted({*left.thresholds, *right.thresholds}))
        self.evidence = max(left.evidence, right.evidence)

    def has_evidence(self, metrics: Metrics) -> bool:
        return self.left.has_evidence(metrics) and self.right.has_evidence(metrics)


class _And(_Both):
    __slots__ = ("fires_on_success", "least_failure_rate", "needs_bad")
    symbol = "&"

    def __init__(self, left: Tripper, right: Tripper) -> None:
        super().__init__(left, right)
        self.needs_bad = left.needs_bad or right.needs_bad
        self.fires_on_success = left.fires_on_success and right.fires_on_success
        self.least_failure_rate = max(left.least_failure_rate, right.least_failure_rate)

    def fires(self, metrics: Metrics) -> bool:
        return self.left.fires(metrics) and self.right.fires(metrics)

    def explain(self, metrics: Metrics) -> Reason:
        cause = self.right if self.left.fires_on_success else self.left
        return cause.explain(metrics)

    def given(self, state: State) -> Tripper:
        return _and(self.left.given(state), self.right.given(state))

    def merged(self) -> Tripper:
        return _and(self.left.merged(), self.right.merged())


class _Or(_Both):
    __slots__ = ("fires_on_success", "least_failure_rate", "needs_bad")
    symbol = "|"

    def __init__(self, left: Tripper, right: Tripper) -> None:
        super().__init__(left, right)
        self.needs_bad = left.needs_bad and right.needs_bad
        self.fires_on_success = left.fires_on_success or right.fires_on_success
        self.least_failure_rate = min(left.least_failure_rate, right.least_failure_rate)

    def fires(self, metrics: Metrics) -> bool:
        return self.left.fires(metrics) or self.right.fires(metrics)

    def explain(self, metrics: Metrics) -> Reason:
        fired = self.left if self.left.fires(metrics) else self.right
        return fired.explain(metrics)

    def given(self, state: State) -> Tripper:
        return _or(self.left.given(state), self.right.given(state))

    def merged(self) -> Tripper:
        return _or(self.left.merged(), self.right.merged())


def _and(left: Tripper, right: Tripper) -> Tripper:
    """Both, with what is known already folded away."""
    if left is NEVER or right is NEVER:
        return NEVER
    if left is ALWAYS:
        return right
    return left if right is ALWAYS else _And(left, right)


def _or(left: Tripper, right: Tripper) -> Tripper:
    """Either, with what is known already folded away."""
    if left is ALWAYS or right is ALWAYS:
        return ALWAYS
    if left is NEVER:
        return right
    return left if right is NEVER else _Or(left, right)
