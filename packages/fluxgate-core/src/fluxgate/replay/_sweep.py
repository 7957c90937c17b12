"""`sweep()`: a grid of policies, held against one trace, and which of them to take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import inf
from multiprocessing import get_context
from typing import Final, NamedTuple

from fluxgate._settings.errors import SettingError
from fluxgate._words import number, percent, seconds
from fluxgate.policy import DEFAULT, Policy
from fluxgate.replay._bench import Bench, Candidate, Measured, settings_of
from fluxgate.replay._grid import MAX_CELLS, axis_of, grid, scaled
from fluxgate.replay._replay import (
    MOST_UNKNOWN,
    candidate_of,
    candidates_of,
    check,
    held_against,
)
from fluxgate.replay._result import (
    Advice,
    Axis,
    Cell,
    Kind,
    PolicyResult,
    Recommendation,
    ReplayResult,
    Role,
    Scores,
    Step,
    SweepResult,
)
from fluxgate.replay._scores import Part
from fluxgate.replay._trace import Trace
from fluxgate.replay._truth import Truth, truth_of

LEAST_CALLS: Final = 100
HELD_OUT: Final = 1 / 3
WORTH_A_PROCESS: Final = 3_000_000
"""Calls times policies, from which on starting processes pays."""


def sweep(
    trace: Trace,
    grids: str | Iterable[str],
    *,
    base: Policy | str | tuple[str, Policy] = DEFAULT,
    present: Policy | str | tuple[str, Policy] | None = None,
    policies: Iterable[Policy | str | tuple[str, Policy]] = (),
    outages: Iterable[tuple[float, float]] | None = None,
    slow: float | None = None,
    workers: int = 1,
    sampled: float | None = None,
    seed: int = 0,
    processes: int = 1,
) -> SweepResult:
    """Hold a grid of policies against recorded calls, and recommend up to three of them.

    A policy is chosen by the first two thirds of the trace, and must hold on the last one.

    Args:
        trace: the calls.
        grids: what varies: `"FailureRate=0.1..0.9/9"`, or several such; `"Cooldown=5,30,60"` lists
            the numbers. A clause with several arguments names the one (`"SlowRate.threshold=..."`).
        base: the policy in which it varies.
        present: the policy that was in force when the calls were recorded, if there was one.
        policies: others to show beside the grid.
        outages: (begin, end) in Unix seconds, if they are known; else a rule finds them.
        slow: seconds from which a call counts as bad although it didn't fail.
        workers: circuits that the calls are dealt to.
        sampled: the share of the calls that the trace holds (ratio 0-1); by default what it says.
        seed: of the dice.
        processes: how many share the work, where there is enough of it; 0: one for each core.

    Raises:
        ConfigError: a grid or an expression that can't be read.
        ValueError: an outage that ends before it begins, or a number out of range.
    """
    sampled = trace.sampled if sampled is None else sampled
    check(workers, sampled)
    start = candidate_of(base, sampled=sampled)
    texts = [grids] if isinstance(grids, str) else list(grids)
    axes = tuple(axis_of(text, start.policy) for text in texts)
    _check_axes(axes)
    others = candidates_of(policies, present, sampled)
    truth = truth_of(trace, outages, slow)
    parts = _thirds(trace)
    candidates: list[tuple[tuple[int, ...], Candidate]] = []
    invalid: dict[str, str] = {}
    for place, policy in grid(start.policy, axes):
        if isinstance(policy, str):
            named = ", ".join(
                f"{axis.name}={axis.values[at]:g}" for axis, at in zip(axes, place, strict=True)
            )
            invalid[named] = policy
            continue
        replayed = scaled(policy, sampled) if sampled < 1 else None
        name = ", ".join(settings_of(policy).values())
        candidates.append((place, Candidate(name, policy, Role.GIVEN, replayed)))
    yours = others[0] if present is not None else start
    wanted = [candidate for _, candidate in candidates] + [yours]
    measured = _measured(
        _Job(trace, truth, workers, seed, parts), wanted, processes or os.cpu_count() or 1
    )
    *of_cells, of_yours = measured
    front = _front([each.parts[0] for each in of_cells])
    cells = tuple(
        Cell(
            place=place,
            result=each.result,
            on_front=index in front,
            fitted=each.parts[0],
            held_out=each.parts[1],
        )
        for index, ((place, _), each) in enumerate(zip(candidates, of_cells, strict=True))
    )
    compared = held_against(trace, truth, others, workers, seed, sampled)
    advice, why, recommendations = _advice(compared, axes, cells, of_yours, truth, parts)
    return SweepResult(
        base=compared,
        axes=axes,
        cells=cells,
        invalid=invalid,
        advice=advice,
        why=why,
        recommendations=recommendations,
    )


def _check_axes(axes: Sequence[Axis]) -> None:
    if not axes:
        raise SettingError("name what varies, such as FailureRate=0.1..0.9/9", "sweep")
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names):
        raise SettingError(f"each setting varies once, not twice: {', '.join(names)}", "sweep")
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MAX_CELLS:
        raise SettingError(
            f"{count:,} policies are more than {MAX_CELLS:,}: take fewer steps", "sweep"
        )


def _thirds(trace: Trace) -> tuple[Part, Part]:
    """The first two thirds of the trace's time, and the last one."""
    if not len(trace):
        return Part(), Part(inf, inf)
    begin, end = trace.start[0], trace.start[-1]
    cut = end - (end - begin) * HELD_OUT
    return Part(-inf, cut), Part(cut, inf)


# -- measuring, in this process or in several


class _Job(NamedTuple):
    trace: Trace
    truth: Truth
    workers: int
    seed: int
    parts: tuple[Part, Part]

    def bench(self) -> Bench:
        return Bench(self.trace, self.truth, self.workers, self.seed)


_at_work: list[tuple[Bench, tuple[Part, Part]]] = []
"""The job of a process that a pool has started."""


def _begin(job: _Job) -> None:
    _at_work[:] = [(job.bench(), job.parts)]


def _measure(candidate: Candidate) -> Measured:
    bench, parts = _at_work[0]
    return bench.measure(candidate, parts)


def _measured(job: _Job, candidates: list[Candidate], processes: int) -> list[Measured]:
    if processes > 1 and len(candidates) * len(job.trace) >= WORTH_A_PROCESS:
        # Not forked: a library's threads (polars') would be missing in the child.
        context = get_context("spawn")
        with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(job,)) as pool:
            return list(pool.map(_measure, candidates, chunksize=4))
    bench = job.bench()
    return [bench.measure(each, job.parts) for each in candidates]


# -- the front


def _objectives(scores: Scores) -> tuple[float, ...]:
    """Numbers of which less is better.

    Outages missed, false openings, seconds to open, bad calls let through, good calls refused.
    """
    median = scores.seconds_to_open.median
    return (
        scores.outages_missed,
        scores.false_openings,
        inf if median is None else median,
        scores.bad_let_through,
        scores.good_refused,
    )


def _dominates(left: Scores, right: Scores) -> bool:
    """Whether `left` is better in one number and worse in none."""
    pairs = list(zip(_objectives(left), _objectives(right), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _front(scores: Sequence[Scores]) -> set[int]:
    """The indexes of those that no other dominates."""
    front: list[int] = []
    # What dominates another is before it in this order, so the front so far is enough to ask.
    for index in sorted(range(len(scores)), key=lambda place: _objectives(scores[place])):
        if not any(_dominates(scores[other], scores[index]) for other in front):
            front.append(index)
    return set(front)


# -- the recommendation


def _cost(scores: Scores) -> float:
    """Calls that went wrong in one way or the other: good ones refused, bad ones let through."""
    return scores.good_refused + scores.bad_let_through


_ORDERS: Final[dict[Kind, Callable[[Cell], tuple[float, ...]]]] = {
    Kind.CAUTIOUS: lambda cell: (
        cell.fitted.false_openings,
        cell.fitted.good_refused,
        *_objectives(cell.fitted),
    ),
    Kind.BALANCED: lambda cell: (_cost(cell.fitted), *_objectives(cell.fitted)),
    Kind.QUICK: lambda cell: (
        _objectives(cell.fitted)[2],
        cell.fitted.bad_let_through,
        cell.fitted.false_openings,
    ),
}


def _advice(
    base: ReplayResult,
    axes: Sequence[Axis],
    cells: Sequence[Cell],
    yours: Measured,
    truth: Truth,
    parts: tuple[Part, Part],
) -> tuple[Advice, str, tuple[Recommendation, ...]]:
    """The answer of a sweep, in a word and in a sentence, and what it recommends."""
    calls, unknown = base.trace.calls, base.trace.refused
    if unknown > MOST_UNKNOWN * calls:
        why = (
            f"{percent(unknown / calls)} of the calls were refused when this was recorded: nobody "
            f"knows how they would have ended. Above {percent(MOST_UNKNOWN)}, nothing is "
            "recommended. Record with the circuit in metrics_only, which refuses nobody."
        )
        return Advice.TOO_MANY_UNKNOWN, why, ()
    early = [outage for outage in truth.outages if outage.begin < parts[0].end]
    if calls < LEAST_CALLS or not early or not cells:
        why = (
            f"{number(calls, 'call')} with {number(len(early), 'outage')} in the first two thirds "
            "say too little: a longer trace, with an outage in it, would say more."
        )
        return Advice.TOO_LITTLE_DATA, why, ()
    front = [cell for cell in cells if cell.on_front]
    least_missed = min(cell.fitted.outages_missed for cell in front)
    fit = [cell for cell in front if cell.fitted.outages_missed == least_missed]
    least_late = min(cell.held_out.outages_missed for cell in cells)
    holding = [cell for cell in fit if _holds(cell, least_late)]
    if not holding:
        why = (
            "No policy of the front does as well on the last third of the trace, which it wasn't "
            "fitted to: the grid fits this past and not the next."
        )
        return Advice.NONE_HOLDS, why, ()
    best = min(holding, key=_ORDERS[Kind.BALANCED])
    mine, held = yours.parts
    if (
        not any(_dominates(cell.fitted, mine) for cell in holding)
        and mine.outages_missed <= least_missed
        and _cost(mine) <= _cost(best.fitted)
        and held.outages_missed <= best.held_out.outages_missed
    ):
        why = (
            f"Beside {yours.result.policy}, no policy of the grid that holds on the last third is "
            "better in one number (outages missed, false openings, time to open, bad calls let "
            "through, good calls refused) and worse in none."
        )
        return Advice.YOURS_IS_BEST, why, ()
    chosen: dict[int, tuple[Kind, Cell]] = {}
    for kind in (Kind.BALANCED, Kind.CAUTIOUS, Kind.QUICK):
        cell = min(holding, key=_ORDERS[kind])
        chosen.setdefault(id(cell), (kind, cell))
    order = list(Kind)
    recommended = tuple(
        Recommendation(
            kind=kind,
            cell=cell,
            reasons=tuple(_reasons(cell, yours.result, truth, parts)),
            steps=tuple(_steps(cell, axes, cells)),
        )
        for kind, cell in sorted(chosen.values(), key=lambda pair: order.index(pair[0]))
    )
    on_front = f"{len(front):,} {'is' if len(front) == 1 else 'are'} on the front"
    hold = f"{len(holding):,} of these hold{'s' * (len(holding) == 1)} on the last third"
    why = (
        f"Of {number(len(cells), 'policy', 'policies')}, {on_front} (no other is better in one "
        f"number and worse in none), and {hold}."
    )
    return Advice.RECOMMENDED, why, recommended


def _holds(cell: Cell, least_missed: int) -> bool:
    """Whether a policy does on the last third what it did before.

    It misses no outage that another policy of the grid sees, and it opens falsely at most once more
    than it did in the first two thirds, for as long a time.

    Args:
        cell: the policy.
        least_missed: outages of the last third that every policy of the grid misses.
    """
    expected = cell.fitted.false_openings * HELD_OUT / (1 - HELD_OUT)
    return (
        cell.held_out.outages_missed <= least_missed
        and cell.held_out.false_openings <= expected + 1
    )


def _reasons(
    cell: Cell, yours: PolicyResult, truth: Truth, parts: tuple[Part, Part]
) -> Iterable[str]:
    result = cell.result
    outages = result.outages_seen + result.outages_missed
    median = result.seconds_to_open.median
    soon = "" if median is None else f", {seconds(median)} after they began (the median)"
    yield f"It opened in {result.outages_seen} of {number(outages, 'outage')}{soon}."
    yield (
        f"It opened {number(result.false_openings, 'time')} without an outage, and refused "
        f"{number(result.good_refused, 'good call')}."
    )
    yield (
        f"It spared {number(result.bad_spared, 'bad call')} and let "
        f"{result.bad_let_through:,} through."
    )
    late = [outage for outage in truth.outages if outage.begin >= parts[1].begin]
    held = cell.held_out
    if late:
        yield (
            f"On the last third, which it wasn't fitted to, it opened in {held.outages_seen} of "
            f"{number(len(late), 'outage')}, and {number(held.false_openings, 'time')} without one."
        )
    else:
        yield (
            "The last third, which it wasn't fitted to, holds no outage; it opened there "
            f"{number(held.false_openings, 'time')}."
        )
    yield f"Beside {yours.policy}: {_difference(yours, result)}."


def _steps(cell: Cell, axes: Sequence[Axis], cells: Sequence[Cell]) -> Iterable[Step]:
    """The policies one step either way on each axis."""
    by_place = {each.place: each for each in cells}
    for index, axis in enumerate(axes):
        for offset in (-1, 1):
            place = list(cell.place)
            place[index] += offset
            beside = by_place.get(tuple(place))
            if beside is not None:
                yield Step(
                    axis=axis.name,
                    value=axis.values[place[index]],
                    change=_difference(cell.result, beside.result),
                    scores=beside.result,
                )


def _difference(before: Scores, after: Scores) -> str:
    """The differences of the second from the first, in words."""
    numbers = (
        (after.outages_missed - before.outages_missed, "outage", "missed"),
        (after.false_openings - before.false_openings, "false opening", ""),
        (after.good_refused - before.good_refused, "good call", "refused"),
        (after.bad_let_through - before.bad_let_through, "bad call", "let through"),
    )
    words = [_more_or_fewer(*each) for each in numbers if each[0]]
    old, new = before.seconds_to_open.median, after.seconds_to_open.median
    if old is not None and new is not None and abs(new - old) >= 1e-3:
        words.insert(0, f"it opens {seconds(abs(new - old))} {'later' if new > old else 'sooner'}")
    return ", ".join(words) or "no difference"


def _more_or_fewer(difference: int, noun: str, what: str) -> str:
    more = "more" if difference > 0 else "fewer"
    count, _, named = number(abs(difference), noun).partition(" ")
    return f"{count} {more} {named} {what}".strip()
