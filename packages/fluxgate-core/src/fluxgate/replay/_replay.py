"""`replay()`: policies, held against one trace."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from fluxgate import config
from fluxgate._settings.errors import SettingError
from fluxgate._values import count_in_range
from fluxgate._words import listed, number, percent
from fluxgate.policy import Policy
from fluxgate.replay._bench import Bench, Candidate
from fluxgate.replay._grid import has_streak, scaled
from fluxgate.replay._numpy import np
from fluxgate.replay._result import Outage, ReplayResult, Role, Timeline, TraceSummary
from fluxgate.replay._trace import Trace
from fluxgate.replay._truth import Truth, median_good, truth_of

MOST_UNKNOWN: Final = 0.2
"""The share of calls of unknown outcome above which nothing is recommended."""
MOST_UNUSABLE: Final = 0.01
"""The share of unusable rows above which a trace is not to be trusted."""
LEAST_OF_A_ROUTE: Final = 100
SLICES: Final = 240

LIMITS: Final = (
    "Nobody knows how refused calls would have ended: those that were refused when this was "
    "recorded are left out, counted, and bracketed (all failed, all succeeded).",
    "The dependency doesn't react: sparing it might have healed it sooner. Retries aren't "
    "modelled.",
    "This is one past. What is recommended holds on the last third of it, which it wasn't fitted "
    "to; the next outage is another.",
    "A sample shifts minimums (--sampled says what share it is), and one that prefers failures "
    "overstates them.",
    "One circuit over unlike routes hides outages: look at each route, too.",
)


def replay(
    trace: Trace,
    policies: Iterable[Policy | str | tuple[str, Policy]] = (),
    *,
    present: Policy | str | tuple[str, Policy] | None = None,
    outages: Iterable[tuple[float, float]] | None = None,
    slow: float | None = None,
    workers: int = 1,
    sampled: float | None = None,
    seed: int = 0,
    routes: int = 10,
) -> ReplayResult:
    """Hold policies against recorded calls: when would each have opened, at what cost?

    Args:
        trace: the calls.
        policies: each a `Policy`, a tripper's expression (`"FailureStreak(5)"`, the rest of the
            settings being the defaults), or a name and a `Policy`.
        present: the policy that was in force when the calls were recorded, if there was one.
        outages: (begin, end) in Unix seconds, if they are known; else a rule finds them.
        slow: seconds from which a call counts as bad although it didn't fail; by default five times
            the median of good calls, and at least 0.1.
        workers: circuits that the calls are dealt to, one after the other, as processes without a
            fleet have them.
        sampled: the share of the calls that the trace holds (ratio 0-1), if it is a random sample:
            counts in the policies are scaled by it. By default what the trace says.
        seed: of the dice, which decide about probes and jitter.
        routes: of the keys, how many get a result of their own, the most called first.

    Raises:
        ConfigError: an expression that can't be read.
        ValueError: an outage that ends before it begins, or a number out of range.
    """
    sampled = trace.sampled if sampled is None else sampled
    check(workers, sampled)
    candidates = candidates_of(policies, present, sampled)
    known = None if outages is None else list(outages)
    truth = truth_of(trace, known, slow)
    result = held_against(trace, truth, candidates, workers, seed, sampled)
    if trace.key is None or len(trace.key.names) < 2 or not routes:
        return result
    chosen, left_out = _routes(trace, routes)
    parts: list[ReplayResult] = []
    for places in chosen:
        part = trace.select(places)
        part_truth = truth_of(part, known, slow)
        parts.append(held_against(part, part_truth, candidates, workers, seed, sampled))
    return _with_routes(result, parts, left_out)


def check(workers: int, sampled: float) -> None:
    """Check the numbers of a replay.

    Raises:
        TypeError: they are none.
        ValueError: they are out of range.
    """
    count_in_range("workers", workers, most=1000)
    if isinstance(sampled, bool) or not isinstance(sampled, (int, float)):
        raise TypeError(f"sampled must be the share of calls in the trace (0-1), not {sampled!r}")
    if not 0 < sampled <= 1:
        raise ValueError(
            f"sampled must be the share of calls in the trace, above 0 and at most 1: {sampled!r}"
        )


def candidates_of(
    policies: Iterable[Policy | str | tuple[str, Policy]],
    present: Policy | str | tuple[str, Policy] | None,
    sampled: float,
) -> list[Candidate]:
    """The policies to measure, the present one first.

    Raises:
        ConfigError: an expression that can't be read.
    """
    given = [] if present is None else [(present, Role.PRESENT)]
    given += [(each, Role.GIVEN) for each in policies]
    return [candidate_of(policy, role, sampled) for policy, role in given]


def candidate_of(
    given: Policy | str | tuple[str, Policy], role: Role = Role.GIVEN, sampled: float = 1.0
) -> Candidate:
    """A policy to measure, from an expression, a policy, or a name and a policy."""
    if isinstance(given, str):
        try:
            name, policy = given, Policy(tripper=config.parse("tripper", given))
        except ValueError as error:
            if isinstance(error, SettingError):
                raise
            raise SettingError(str(error), "policy") from error
    elif isinstance(given, Policy):
        name, policy = repr(given.tripper), given
    else:
        name, policy = given
    return Candidate(name, policy, role, scaled(policy, sampled) if sampled < 1 else None)


def held_against(
    trace: Trace,
    truth: Truth,
    candidates: Iterable[Candidate],
    workers: int,
    seed: int,
    sampled: float,
) -> ReplayResult:
    """The result for one circuit's trace, without routes."""
    given = list(candidates)
    bench = Bench(trace, truth, workers, seed)
    measured = [bench.measure(each) for each in given]
    remarks = [
        f"{candidate.name}: {remark}"
        for candidate, each in zip(given, measured, strict=True)
        for remark in each.remarks
    ]
    return ReplayResult(
        trace=summary_of(trace, truth),
        timeline=_timeline(trace),
        outages=truth.outages,
        rule=truth.rule,
        policies=(bench.without(), *(each.result for each in measured)),
        workers=workers,
        limits=LIMITS,
        warnings=(*_warnings(trace, truth, given, sampled), *remarks),
    )


def _warnings(
    trace: Trace, truth: Truth, candidates: list[Candidate], sampled: float
) -> Iterable[str]:
    if not len(trace):
        yield "There is no usable call."
        return
    share = trace.unusable / (len(trace) + trace.unusable)
    if share > MOST_UNUSABLE:
        yield f"{percent(share)} of the rows can't be used: see why before you trust the rest."
    unknown = sum(trace.refused or b"") / len(trace)
    if unknown > MOST_UNKNOWN:
        yield (
            f"{percent(unknown)} of the calls were refused when this was recorded, so their ends "
            f"are unknown; above {percent(MOST_UNKNOWN)}, nothing is recommended."
        )
    if not truth.outages:
        yield "No outage was found, so nothing says how soon a policy sees one; --outage names one."
    streaks = [each.name for each in candidates if has_streak(each.policy)]
    if sampled < 1 and streaks:
        yield f"A sample doesn't keep calls in a row: {listed(streaks)} can't be judged by it."


def summary_of(trace: Trace, truth: Truth) -> TraceSummary:
    """A trace in numbers."""
    names = () if trace.key is None else trace.key.names
    used: set[int] = set() if trace.key is None else set(trace.key.codes) - {-1}
    if np is not None and len(trace):
        end = float((np.frombuffer(trace.start) + np.frombuffer(trace.duration)).max())
    else:
        end = max(map(float.__add__, trace.start, trace.duration), default=0.0)
    return TraceSummary(
        calls=len(trace),
        failed=sum(trace.failed),
        refused=sum(trace.refused or b""),
        unusable=trace.unusable,
        rejected=dict(trace.rejected),
        skipped=dict(trace.skipped),
        begin=trace.start[0] if len(trace) else 0.0,
        end=end,
        keys=len(used),
        key=names[used.pop()] if len(used) == 1 else None,
        median_duration=median_good(trace),
        longest_duration=max(trace.duration, default=0.0),
        slow=truth.slow,
    )


def _timeline(trace: Trace) -> Timeline:
    """The calls by slices of time."""
    if not len(trace):
        return Timeline(begin=0.0, width=1.0, calls=(), failed=(), duration=())
    begin, end = trace.start[0], trace.start[-1]
    width = max((end - begin) / SLICES, 1e-3)
    count = int((end - begin) / width) + 1
    calls, failed, waits = [0] * count, [0] * count, [0.0] * count
    if np is not None:
        places = ((np.frombuffer(trace.start) - begin) / width).astype(np.intp)
        flags = np.frombuffer(trace.failed, dtype=np.uint8)
        durations = np.frombuffer(trace.duration)
        calls = np.bincount(places, minlength=count).tolist()
        failed = np.bincount(places, weights=flags, minlength=count).astype(int).tolist()
        waits = np.bincount(places, weights=durations, minlength=count).tolist()
    else:
        for start, flag, duration in zip(trace.start, trace.failed, trace.duration, strict=True):
            place = int((start - begin) / width)
            calls[place] += 1
            failed[place] += flag
            waits[place] += duration
    means = (wait / count if count else 0.0 for wait, count in zip(waits, calls, strict=True))
    return Timeline(
        begin=begin, width=width, calls=tuple(calls), failed=tuple(failed), duration=tuple(means)
    )


def _routes(trace: Trace, most: int) -> tuple[list[Sequence[int]], int]:
    """The places of the calls of the most called keys, and how many other keys there are."""
    assert trace.key is not None
    codes = trace.key.codes
    counts = Counter(codes)
    counts.pop(-1, None)
    chosen = [code for code, count in counts.most_common(most) if count >= LEAST_OF_A_ROUTE]
    if np is not None:  # sooner, and without an object for each place
        seen = np.frombuffer(codes, dtype=codes.typecode)
        return [np.flatnonzero(seen == code) for code in chosen], len(counts) - len(chosen)
    places: dict[int, array[int]] = {code: array("q") for code in chosen}
    for place, code in enumerate(codes):
        if code in places:
            places[code].append(place)
    return list(places.values()), len(counts) - len(chosen)


def _with_routes(result: ReplayResult, routes: list[ReplayResult], left_out: int) -> ReplayResult:
    """A result with those of its routes, and a warning of outages that only these have."""
    hidden = [
        f"{route.trace.key} ({number(len(alone), 'outage')})"
        for route in routes
        if (alone := [each for each in route.outages if not _overlaps(each, result.outages)])
    ]
    warnings = result.warnings
    if hidden:
        warnings += (
            f"Outages of single routes that all calls together don't show: {listed(hidden)}. A "
            "circuit for each route would see them.",
        )
    return replace(result, routes=tuple(routes), routes_left_out=left_out, warnings=warnings)


def _overlaps(outage: Outage, others: Iterable[Outage]) -> bool:
    return any(outage.begin < other.end and other.begin < outage.end for other in others)
