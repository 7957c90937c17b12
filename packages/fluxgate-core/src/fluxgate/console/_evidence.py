"""Evidence: the numbers that decide about a circuit, against the thresholds of its policy."""

from __future__ import annotations

from collections.abc import Callable

from fluxgate._words import number, seconds
from fluxgate.metric import Metrics, Snapshot
from fluxgate.policy import Policy
from fluxgate.state import State
from fluxgate.trippers import Tripper


def evidence_of(
    state: State, metrics: Metrics, policy: Policy | None, probes: int
) -> tuple[str, ...]:
    """The numbers that decide, in sentences: `42 of 100 calls failed; opens at 50`.

    Args:
        state: the circuit's state.
        metrics: the calls in its window; half-open, the probes that have ended.
        policy: its policy; None where no breaker here has it.
        probes: probes that are going on.
    """
    calls = metrics.total_count
    if state is State.HALF_OPEN:
        return (
            f"{number(calls, 'probe')} ended, {metrics.failure_count:,} of them failed; "
            f"{probes:,} going on",
        )
    if state not in (State.CLOSED, State.METRICS_ONLY):
        return ()
    tripper = None if policy is None else policy.closed
    found = [f"{metrics.failure_count:,} of {number(calls, 'call')} failed"]
    found[0] += _limit(tripper, metrics, _failures)
    for threshold, slow in metrics.slow_counts.items():
        if tripper is None or threshold not in tripper.thresholds:
            continue

        def with_slow(metrics: Metrics, count: int, threshold: float = threshold) -> Metrics:
            return _with(metrics, slow={**metrics.slow_counts, threshold: count})

        words = f"{slow:,} of {number(calls, 'call')} took {seconds(threshold)} or longer"
        found.append(words + _limit(tripper, metrics, with_slow))
    if metrics.failure_streak > 1:
        found.append(f"{metrics.failure_streak:,} failures in a row")
    needed = max(tripper.minimums, default=0) if tripper is not None else 0
    if calls < needed:
        found.append(f"{number(needed - calls, 'more call')} before anything is decided")
    return tuple(found)


def _with(
    metrics: Metrics, *, failures: int | None = None, slow: dict[float, int] | None = None
) -> Metrics:
    return Snapshot(
        metrics.total_count,
        metrics.failure_count if failures is None else failures,
        metrics.failure_streak,
        metrics.total_duration,
        metrics.slow_counts if slow is None else slow,
    )


def _failures(metrics: Metrics, count: int) -> Metrics:
    return _with(metrics, failures=count)


def _limit(
    tripper: Tripper | None, metrics: Metrics, become: Callable[[Metrics, int], Metrics]
) -> str:
    """`; opens at 50`: of as many calls, how many it takes; empty where they can't open it."""
    if tripper is None:
        return ""
    try:
        if not tripper.fires(become(metrics, metrics.total_count)):
            return ""
        least, most = 1, metrics.total_count
        while least < most:
            middle = (least + most) // 2
            if tripper.fires(become(metrics, middle)):
                most = middle
            else:
                least = middle + 1
    except Exception:  # a tripper of the user's; the circuit itself logs it
        return ""
    return f"; opens at {most:,}"
