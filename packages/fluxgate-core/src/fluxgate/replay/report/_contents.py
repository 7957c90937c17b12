"""Contents of a report: titles, sentences and tables, the same in a terminal and on a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from fluxgate._naming import printable
from fluxgate._words import listed, number, percent
from fluxgate.replay._result import (
    Advice,
    Cell,
    PolicyResult,
    Recommendation,
    ReplayResult,
    Role,
    Scores,
    SweepResult,
)

Result: TypeAlias = ReplayResult | SweepResult
Scale: TypeAlias = Callable[[float], float]
"""Where a moment is on a picture."""
NONE: Final = "-"
"""The cell of a number that there is not."""


class Table(NamedTuple):
    """Rows under a head. A title of the head has at most two lines; `marked` rows stand out."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    marked: frozenset[int] = frozenset()


def base_of(result: Result) -> ReplayResult:
    """The policies beside a grid, or the result itself."""
    return result.base if isinstance(result, SweepResult) else result


def letters(policies: Sequence[PolicyResult]) -> list[str]:
    """A short name for each policy: A to Z, then numbers."""
    names = [chr(65 + place) for place in range(26)]
    return [names[place] if place < 26 else str(place + 1) for place in range(len(policies))]


def named(policy: PolicyResult, longest: int = 300) -> str:
    """The policy as it was named, and its part."""
    name = printable(policy.policy, longest)
    return f"{name} (present)" if policy.role is Role.PRESENT else name


def settings_of(policy: PolicyResult) -> str:
    """The settings of a policy that its name doesn't show."""
    shown = {name: text for name, text in policy.settings.items() if text != policy.policy}
    return ", ".join(f"{name} = {printable(text, 300)}" for name, text in shown.items())


# -- the parts, from the top


def title(result: Result) -> str:
    """The title of the report."""
    trace = base_of(result).trace
    whom = f" to {printable(trace.key, 60)}" if trace.key else ""
    return f"Replay of {number(trace.calls, 'call')}{whom}"


def summary(result: Result) -> list[str]:
    """Sentences on the trace and the truth."""
    base = base_of(result)
    trace = base.trace
    if not trace.calls:
        return ["The trace has no usable call."]
    lines = [
        f"{moment(trace.begin)} to {moment(trace.end)} UTC ({duration(trace.end - trace.begin)}): "
        f"{percent_of(trace.failed, trace.calls)} of the calls failed; the median takes "
        f"{duration(trace.median_duration)}, the longest {duration(trace.longest_duration)}."
    ]
    if trace.keys > 1:
        lines.append(f"The calls went to {number(trace.keys, 'key')}.")
    if trace.refused:
        lines.append(
            f"{number(trace.refused, 'call')} ({percent_of(trace.refused, trace.calls)}) were "
            "refused when this was recorded."
        )
    if base.workers > 1:
        lines.append(f"The calls were dealt to {base.workers} circuits, one after the other.")
    if base.outages:
        times = [f"{clock(each.begin)} to {clock(each.end)}" for each in base.outages[:6]]
        more = len(base.outages) - len(times)
        if more:
            times.append(f"{more} more")
        lines.append(f"{number(len(base.outages), 'outage')}: {listed(times)}.")
    else:
        lines.append("No outage.")
    lines.append(f"The truth: {printable(base.rule, 400)}.")
    return lines


def warnings(result: Result) -> list[str]:
    """Sentences that make the numbers doubtful."""
    return [printable(each, 1000) for each in base_of(result).warnings]


def left_out(result: Result) -> list[str]:
    """Rows and records that are in none of the numbers, with reasons."""
    trace = base_of(result).trace
    lines = [
        f"{number(each, 'row')} can't be used: {printable(why)}."
        for why, each in _largest(trace.rejected)
    ]
    lines += [
        f"{number(each, 'record')} left out as no calls: {printable(why)}."
        for why, each in _largest(trace.skipped)
    ]
    return lines


def limits(result: Result) -> list[str]:
    """Sentences on what no replay can know."""
    return list(base_of(result).limits)


HEAD: Final = (
    "",
    "outages\nseen",
    "opens\nafter",
    "at\nworst",
    "false\nopenings",
    "good\nrefused",
    "bad\nspared",
    "bad\nlet in",
    "waiting\nsaved",
    "closed\nafter",
)
LEGEND: Final = (
    "Good and bad: how the calls of the recording went; a bad one failed or was slow. Opens after, "
    "closed after: from an outage's begin and end, the median."
)


def policies_table(result: ReplayResult) -> Table:
    """The table of policies; each has its letter."""
    rows = [
        (letter, *scores_cells(policy))
        for letter, policy in zip(letters(result.policies), result.policies, strict=True)
    ]
    present = {place for place, policy in enumerate(result.policies) if policy.role is Role.PRESENT}
    return Table("Policies", HEAD, rows, frozenset(present))


def brackets(result: ReplayResult) -> list[str]:
    """Sentences on calls of unknown outcome: had all failed, had all succeeded."""
    lines: list[str] = []
    for letter, policy in zip(letters(result.policies), result.policies, strict=True):
        if (bracket := policy.bracket) is None or policy.role is Role.NO_BREAKER:
            continue
        failed, fine = bracket.all_failed, bracket.all_succeeded
        lines.append(
            f"{letter}: {policy.unknown:,} of the calls it refused have no known end. Had all such "
            f"calls failed: {_brief(failed)}. Had all succeeded: {_brief(fine)}."
        )
    return lines


def scores_cells(scores: Scores) -> tuple[str, ...]:
    """The numbers of one policy, as `HEAD` has them."""
    outages = scores.outages_seen + scores.outages_missed
    return (
        f"{scores.outages_seen} of {outages}" if outages else NONE,
        duration(scores.seconds_to_open.median),
        duration(scores.seconds_to_open.worst),
        compact(scores.false_openings),
        compact(scores.good_refused),
        compact(scores.bad_spared),
        compact(scores.bad_let_through),
        duration(scores.waiting_saved),
        duration(scores.seconds_to_closed.median),
    )


def openings(policy: PolicyResult, most: int) -> tuple[list[tuple[str, str]], int]:
    """Time and reason of the first openings, and how many more there are.

    A false one is outside every outage.
    """
    shown = [
        (
            clock(each.at),
            printable(each.reason) + ("" if each.outage else " (false)"),
        )
        for each in policy.openings[:most]
    ]
    return shown, max(0, len(policy.openings) - most)


def routes_table(result: ReplayResult) -> Table | None:
    """A row for each route and policy beside no breaker; None without routes."""
    rows = [
        (printable(route.trace.key or NONE, 24), f"{route.trace.calls:,}", letter, *cells)
        for route in result.routes
        for letter, policy in zip(letters(route.policies), route.policies, strict=True)
        if policy.role is not Role.NO_BREAKER
        for cells in [scores_cells(policy)[:5]]
    ]
    if not rows:
        return None
    return Table("Each route for itself", ("route", "calls", *HEAD[:6]), rows)


def routes_note(result: ReplayResult) -> str:
    """Keys that have no report of their own; empty if there are none."""
    if not result.routes_left_out:
        return ""
    return f"{number(result.routes_left_out, 'key')} more, with fewer calls, not shown."


# -- a grid


def answer(result: SweepResult) -> str:
    """The advice in a sentence."""
    prefix = {
        Advice.RECOMMENDED: "",
        Advice.YOURS_IS_BEST: "Yours is best. ",
        Advice.TOO_LITTLE_DATA: "Too little data. ",
    }.get(result.advice, "No recommendation. ")
    return prefix + printable(result.why, 1000)


def recommendation(given: Recommendation) -> tuple[str, list[str]]:
    """A title, and the sentences of one recommended policy."""
    lines = [printable(each, 500) for each in given.reasons]
    lines += [
        f"{step.axis} at {step.value:g} instead: {printable(step.change, 300)}."
        for step in given.steps
    ]
    return f"{str(given.kind).capitalize()}: {given.cell.result.policy}", lines


def pasted(given: Recommendation) -> str:
    """The lines to paste into a TOML file."""
    return f"[breakers.NAME]\n{given.cell.result.toml}"


class Measure(NamedTuple):
    """A number that a heat map shows; the less the better, unless `more` says otherwise."""

    title: str
    more: bool


MEASURES: Final = (
    Measure("False openings", False),
    Measure("Seconds to open (median)", False),
    Measure("Bad calls spared", True),
)


def measured(cell: Cell, measure: Measure) -> tuple[float | None, str]:
    """A cell's number, and how it is shown."""
    scores = cell.result
    if measure is MEASURES[0]:
        return scores.false_openings, compact(scores.false_openings)
    if measure is MEASURES[1]:
        seconds = scores.seconds_to_open.median
        return seconds, "never" if seconds is None else f"{seconds:.3g}"
    return scores.bad_spared, compact(scores.bad_spared)


def planes(result: SweepResult) -> Iterator[tuple[str, dict[tuple[int, int], Cell]]]:
    """Cells by column and row, the first axis running down; one plane for each other combination.

    A grid of one axis has one column.
    """
    others: dict[tuple[int, ...], dict[tuple[int, int], Cell]] = {}
    for cell in result.cells:
        row, column, *rest = (*cell.place, 0) if len(cell.place) == 1 else cell.place
        others.setdefault(tuple(rest), {})[column, row] = cell
    for others_at, cells in others.items():
        fixed = zip(result.axes[2:], others_at, strict=True)
        yield ", ".join(f"{axis.name} = {axis.values[at]:g}" for axis, at in fixed), cells


def front_table(result: SweepResult, most: int = 20) -> tuple[Table, int]:
    """The policies of the Pareto front, and how many more there are.

    Of those with the same numbers there is one row, which says how many they are.
    """
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in sorted(result.front, key=_in_order):
        groups.setdefault(scores_cells(cell.result), []).append(cell)
    rows = [
        (
            *(f"{axis.values[at]:g}" for axis, at in zip(result.axes, cells[0].place, strict=True)),
            *numbers[:6],
            f"{len(cells) - 1} more" if len(cells) > 1 else "",
        )
        for numbers, cells in list(groups.items())[:most]
    ]
    head = (*(_broken(axis.name) for axis in result.axes), *HEAD[1:7], "with the\nsame numbers")
    return Table("The Pareto front", head, rows), max(0, len(groups) - most)


def _in_order(cell: Cell) -> tuple[float, ...]:
    scores = cell.result
    opens = scores.seconds_to_open.median
    return (-scores.outages_seen, scores.false_openings, opens or 0.0, *cell.place)


FRONT_NOTE: Final = (
    "No other policy of the grid is better in one number and worse in none: what you take of these "
    "is a matter of taste."
)


# -- numbers in few characters


def compact(value: int) -> str:
    """A count: `7,232`, `123k`, `12M`."""
    if value < 100_000:
        return f"{value:,}"
    return f"{value / 1000:,.0f}k" if value < 10_000_000 else f"{value / 1e6:,.0f}M"


def duration(seconds: float | None) -> str:
    """A duration: `270 ms`, `2.3 s`, `12 min`, `3.1 h`, `4.2 d`."""
    if seconds is None:
        return NONE
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.1f} d"


def percent_of(part: int, whole: int) -> str:
    """A share: `12.3 %`; never 0 % or 100 % by rounding."""
    if not whole or part in (0, whole):
        return percent(part / whole if whole else 0.0)
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f} %"


def moment(at: float) -> str:
    """A moment, in UTC: `2026-11-28 07:04:55`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def clock(at: float) -> str:
    """A moment as the report's lists have it: `11-28 07:04:55`, in UTC."""
    when = datetime.fromtimestamp(at, UTC)
    return f"{when:%m-%d %H:%M:%S}"


def _brief(scores: Scores) -> str:
    seen = scores_cells(scores)
    return (
        f"{seen[0]} outages seen, {number(scores.false_openings, 'false opening')}, "
        f"{number(scores.good_refused, 'good call')} refused, {scores.bad_spared:,} bad spared"
    )


def _broken(name: str) -> str:
    """A name of an axis in two lines where it is long."""
    owner, dot, argument = name.partition(".")
    return f"{owner}\n{argument}" if dot else name


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
