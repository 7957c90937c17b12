"""The report as text of 80 columns, with a timeline of characters."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from fluxgate._layout import width_of, wrapped
from fluxgate.replay._result import Cell, PolicyResult, ReplayResult, SweepResult
from fluxgate.replay.report import _contents as contents
from fluxgate.replay.report._contents import Result, Table
from fluxgate.state import State

BARS: Final = " ▁▂▃▄▅▆▇█"
STATES: Final = {State.CLOSED: "·", State.HALF_OPEN: "▒", State.OPEN: "█"}
_ASCII: Final = str.maketrans("▁▂▃▄▅▆▇█▒·━★…×", "..::--==+.-*.x")
_LABEL: Final = 9
_MOST_OPENINGS: Final = 6
_WIDEST_GRID: Final = 8
_TOGETHER: Final = re.compile(r"(?<=\d) (?=%|ms\b|s\b|min\b|h\b|d\b|calls?\b|\d\d:\d\d)")


def ascii_only(text: str) -> str:
    """The same in characters that every terminal has."""
    return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")


def lines_of(result: Result, width: int) -> list[str]:
    """The report, in lines of at most `width` characters."""
    base = contents.base_of(result)
    lines = [contents.title(result), "=" * len(contents.title(result)), ""]
    for sentence in contents.summary(result):
        lines += paragraph(sentence, width)
    for warning in contents.warnings(result):
        lines += paragraph(warning, width, "! ", "  ")
    if isinstance(result, SweepResult):
        lines += ["", *_heading("Recommendation"), *_advice(result, width)]
    lines += ["", *_heading("Policies"), *_policies(base, width)]
    if base.trace.calls:
        lines += ["", *_heading("Timeline"), *timeline(base, width)]
        for letter, policy in zip(contents.letters(base.policies), base.policies, strict=True):
            lines += _openings(letter, policy, width)
    if isinstance(result, SweepResult):
        lines += ["", *_heading("The grid"), *_grid(result, width)]
    if (routes := contents.routes_table(base)) is not None:
        lines += ["", *_heading(routes.title), *columns(routes, width)]
        lines += paragraph(contents.routes_note(base), width)
    if out := contents.left_out(result):
        lines += ["", *_heading("Left out")]
        for sentence in out:
            lines += paragraph(sentence, width, "- ", "  ")
    lines += ["", *_heading("Limits")]
    for sentence in contents.limits(result):
        lines += paragraph(sentence, width, "- ", "  ")
    return [line.rstrip() for line in lines]


def _heading(title: str) -> list[str]:
    return [title, "-" * len(title)]


def _policies(result: ReplayResult, width: int) -> list[str]:
    lines: list[str] = []
    for letter, policy in zip(contents.letters(result.policies), result.policies, strict=True):
        lines += paragraph(contents.named(policy), width, f"{letter}  ", "   ")
        lines += paragraph(contents.settings_of(policy), width, "   ", "   ")
    lines += ["", *columns(contents.policies_table(result), width)]
    lines += ["", *paragraph(contents.LEGEND, width)]
    for sentence in contents.brackets(result):
        lines += paragraph(sentence, width)
    return lines


def _advice(result: SweepResult, width: int) -> list[str]:
    lines = paragraph(contents.answer(result), width)
    for given in result.recommendations:
        title, sentences = contents.recommendation(given)
        lines += ["", *paragraph(title, width, "", "  ")]
        for sentence in sentences:
            lines += paragraph(sentence, width, "  - ", "    ")
        lines += ["", *(f"    {line}" for line in contents.pasted(given).splitlines())]
    return lines


def _grid(result: SweepResult, width: int) -> list[str]:
    lines: list[str] = []
    across = result.axes[1].values if len(result.axes) > 1 else (0.0,)
    if len(across) <= _WIDEST_GRID and len(result.axes) <= 2:
        for measure in contents.MEASURES:
            for _, cells in contents.planes(result):
                lines += [*columns(heat_table(result, cells, measure), width), ""]
        lines += paragraph("* on the Pareto front", width)
        lines.append("")
    table, more = contents.front_table(result)
    while _width(table) > width and len(table.head) > len(result.axes) + 2:
        table = _without_column(table, len(table.head) - 2)
    lines += [f"{table.title}:", *columns(table, width)]
    if more:
        lines.append(f"and {more} more rows")
    lines += paragraph(contents.FRONT_NOTE, width)
    for what, why in list(result.invalid.items())[:5]:
        lines += paragraph(f"{what} makes no policy: {why}", width, "- ", "  ")
    return lines


def heat_table(
    result: SweepResult,
    cells: dict[tuple[int, int], Cell],
    measure: contents.Measure,
) -> Table:
    """A heat map as numbers; those of the Pareto front have a star."""
    down = result.axes[0]
    across = result.axes[1] if len(result.axes) > 1 else None
    heads = [f"{value:g}" for value in across.values] if across else ["all calls"]

    def shown(cell: Cell | None) -> str:
        if cell is None:
            return contents.NONE
        return contents.measured(cell, measure)[1] + ("*" if cell.on_front else " ")

    rows = [
        (f"{value:g}", *(shown(cells.get((column, row))) for column in range(len(heads))))
        for row, value in enumerate(down.values)
    ]
    corner = down.name if across is None else f"{down.name} \\ {across.name}"
    return Table(measure.title, (f"{measure.title}\n{corner}", *heads), rows)


def _openings(letter: str, policy: PolicyResult, width: int) -> list[str]:
    shown, more = contents.openings(policy, _MOST_OPENINGS)
    lines: list[str] = []
    for place, (at, reason) in enumerate(shown):
        head = f"{letter} opened  " if place == 0 else " " * (len(letter) + 9)
        lines += paragraph(f"{at}  {reason}", width, head, " " * (len(head) + 2))
    if shown:
        lines.insert(0, "")
    if more:
        lines.append(f"{' ' * (len(letter) + 9)}and {more:,} more (--json has all)")
    return lines


# -- the timeline


def timeline(result: ReplayResult, width: int) -> list[str]:
    """The failed share, the latency, and a strip of states for each policy."""
    trace, slices = result.trace, result.timeline
    places = width - _LABEL - 12
    begin, end = trace.begin, max(trace.end, trace.begin + 1e-3)
    step = (end - begin) / places
    calls, failed, waits = [0] * places, [0] * places, [0.0] * places
    for place, count in enumerate(slices.calls):
        at = min(int((slices.begin + (place + 0.5) * slices.width - begin) / step), places - 1)
        calls[at] += count
        failed[at] += slices.failed[place]
        waits[at] += slices.duration[place] * count
    shares = [part / whole if whole else None for part, whole in zip(failed, calls, strict=True)]
    means = [part / whole if whole else None for part, whole in zip(waits, calls, strict=True)]
    longest = max((mean for mean in means if mean is not None), default=0.0) or 1.0
    lines = [
        f"{contents.clock(begin):<{_LABEL + places // 2}}"
        f"{contents.clock(end) + ' UTC':>{places - places // 2}}",
        _row("failed", (_bar(share) for share in shares), "to 100 %"),
        _row(
            "latency",
            (_bar(None if mean is None else mean / longest) for mean in means),
            f"to {contents.duration(longest)}",
        ),
        _row("outages", _marks(result, begin, step, places), ""),
    ]
    for letter, policy in zip(contents.letters(result.policies), result.policies, strict=True):
        if len(policy.spans) > 1:
            lines.append(_row(letter, strip(policy, begin, step, places), ""))
        else:
            lines.append(_row(letter, STATES[State.CLOSED] * places, "closed"))
    several = ", of any of its circuits" if result.workers > 1 else ""
    lines += ["", f"· closed  █ open  ▒ half-open{several}  ({contents.duration(step)} a column)"]
    return lines


def _row(label: str, characters: Iterable[str], scale: str) -> str:
    return f"{label:<{_LABEL}}{''.join(characters)}  {scale}"


def _bar(share: float | None) -> str:
    if share is None:
        return " "
    return BARS[min(8, math.ceil(share * 8 - 0.08))] if share > 0.01 else " "


def _marks(result: ReplayResult, begin: float, step: float, places: int) -> str:
    marks = [" "] * places
    for outage in result.outages:
        for place in _covered(outage.begin, outage.end, begin, step, places):
            marks[place] = "━"
    return "".join(marks)


def strip(policy: PolicyResult, begin: float, step: float, places: int) -> str:
    """The states of a policy by columns: the one that refuses most, if there are several."""
    order = list(STATES)
    worst = [0] * places
    for span in policy.spans:
        rank = order.index(span.state) if span.state in STATES else 0
        for place in _covered(span.begin, span.end, begin, step, places):
            worst[place] = max(worst[place], rank)
    return "".join(STATES[order[rank]] for rank in worst)


def _covered(begin: float, end: float, first: float, step: float, places: int) -> range:
    low = max(0, int((begin - first) / step))
    high = min(places - 1, int((end - first) / step))
    return range(low, high + 1)


# -- layout


def paragraph(text: str, width: int, first: str = "", later: str = "") -> list[str]:
    """A paragraph in lines of the width; numbers stay with units, days with times."""
    return wrapped(text, width, first, later, together=_TOGETHER)


def columns(table: Table, width: int) -> list[str]:
    """A table, numbers to the right; two spaces between columns, or one where it is tight."""
    rows = _rows(table)
    widths = _widths(rows)
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= width else " "
    rows.insert(len(rows) - len(table.rows), tuple("-" * each for each in widths))
    return [gap.join(map(_aligned, range(len(row)), row, widths)).rstrip() for row in rows]


def _aligned(place: int, text: str, width: int) -> str:
    """A cell: the first of a row to the left, the others to the right."""
    blank = " " * (width - width_of(text))
    return blank + text if place else text + blank


def _rows(table: Table) -> list[Sequence[str]]:
    """The head, in as many rows as its titles have lines, and the rows."""
    heads = [title.split("\n") for title in table.head]
    tall = max(map(len, heads))
    top = [[""] * (tall - len(each)) + each for each in heads]
    return [*(tuple(each[line] for each in top) for line in range(tall)), *table.rows]


def _widths(rows: list[Sequence[str]]) -> list[int]:
    return [max(map(width_of, column)) for column in zip(*rows, strict=True)]


def _width(table: Table) -> int:
    return sum(_widths(_rows(table))) + len(table.head) - 1


def _without_column(table: Table, place: int) -> Table:
    head, *rows = ((*row[:place], *row[place + 1 :]) for row in (table.head, *table.rows))
    return table._replace(head=head, rows=rows)
