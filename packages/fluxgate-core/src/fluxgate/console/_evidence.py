"""Evidence: the numbers that decide about a circuit, against the thresholds of its policy."""

from __future__ import annotations

from collections.abc import Callable

from fluxgate.console._words import Words
from fluxgate.metric import Metrics, Snapshot
from fluxgate.policy import Policy
from fluxgate.state import State
from fluxgate.trippers import Tripper


def evidence_of(
    state: State, metrics: Metrics, policy: Policy | None, probes: int, say: Words
) -> tuple[str, ...]:
    """The numbers that decide, in sentences: `42 of 100 calls failed; opens at 50`.

    Args:
        state: the circuit's state.
        metrics: the calls in its window; half-open, the probes that have ended.
        policy: its policy; None where no breaker here has it.
        probes: probes that are going on.
        say: the words of a language.
    """
    calls = metrics.total_count
    if state is State.HALF_OPEN:
        failed = f"{metrics.failure_count:,}"
        return (say("evidence_probes", n=calls, failed=failed, going=f"{probes:,}"),)
    if state not in (State.CLOSED, State.METRICS_ONLY):
        return (say(f"evidence_{state}"),)
    tripper = None if policy is None else policy.closed
    failed = say("evidence_failed", n=calls, failed=f"{metrics.failure_count:,}")
    found = [_limited(failed, _limit(tripper, metrics, _failures), say)]
    for threshold, slow in metrics.slow_counts.items():
        if tripper is None or threshold not in tripper.thresholds:
            continue

        def with_slow(metrics: Metrics, count: int, threshold: float = threshold) -> Metrics:
            return _with(metrics, slow={**metrics.slow_counts, threshold: count})

        took = say("evidence_slow", n=calls, slow=f"{slow:,}", time=say.seconds(threshold))
        found.append(_limited(took, _limit(tripper, metrics, with_slow), say))
    if metrics.failure_streak > 1:
        found.append(say("evidence_streak", n=metrics.failure_streak))
    needed = max(tripper.minimums, default=0) if tripper is not None else 0
    if calls < needed:
        found.append(say("evidence_more", n=needed - calls))
    return tuple(found)


def _limited(sentence: str, limit: int | None, say: Words) -> str:
    return sentence if limit is None else say("evidence_limit", sentence=sentence, n=limit)


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
) -> int | None:
    """The number, of as many calls, that would open it; None where they can't."""
    if tripper is None:
        return None
    try:
        if not tripper.fires(become(metrics, metrics.total_count)):
            return None
        least, most = 1, metrics.total_count
        while least < most:
            middle = (least + most) // 2
            if tripper.fires(become(metrics, middle)):
                most = middle
            else:
                least = middle + 1
    except Exception:  # a tripper of the user's; the circuit itself logs it
        return None
    return most
