"""Pictures of a report as inline SVG: the timeline, and heat maps of two settings.

Each part has a `<title>`, which browsers show under the pointer and screen readers read; what
colours say is said by words in a table, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from fluxgate._naming import printable
from fluxgate._words import number
from fluxgate.replay._result import Cell, PolicyResult, ReplayResult, SweepResult
from fluxgate.replay.report import _contents as contents
from fluxgate.state import State

WIDTH: Final = 960
_LEFT: Final = 84
_RIGHT: Final = 64
_CHART: Final = 64
_STRIP: Final = 22
_KIND: Final = {State.OPEN: "open", State.FORCED_OPEN: "open", State.HALF_OPEN: "half"}
_MOST_PARTS: Final = 4000
"""Spans of a strip: what is drawn beyond them can't be told apart."""


def timeline(result: ReplayResult) -> str:
    """The failed share, the latency, the outages, and a strip of states for each policy."""
    trace, slices = result.trace, result.timeline
    begin, end = trace.begin, max(trace.end, trace.begin + 1e-3)
    scale = (WIDTH - _LEFT - _RIGHT) / (end - begin)

    def x(at: float) -> float:
        return _LEFT + (min(max(at, begin), end) - begin) * scale

    longest = max(slices.duration, default=0.0) or 1.0
    shares = [
        failed / calls if calls else None
        for failed, calls in zip(slices.failed, slices.calls, strict=True)
    ]
    means = [
        mean / longest if calls else None
        for mean, calls in zip(slices.duration, slices.calls, strict=True)
    ]
    tops = [8, 8 + _CHART + 22]
    strips = tops[1] + _CHART + 26
    height = strips + len(result.policies) * (_STRIP + 8) + 34
    bands = [
        f'<rect class="outage" x="{x(each.begin):.1f}" y="{tops[0]}" '
        f'width="{max(1.0, x(each.end) - x(each.begin)):.1f}" height="{height - 40 - tops[0]}">'
        f"<title>outage from {contents.clock(each.begin)} to {contents.clock(each.end)} UTC, "
        f"up to {each.peak:.0%} bad calls in a minute</title></rect>"
        for each in result.outages
    ]
    parts = [
        *bands,
        *_bars(result, shares, tops[0], x, "failed", "failed", "100 %"),
        *_bars(result, means, tops[1], x, "late", "latency", contents.duration(longest)),
    ]
    for place, (letter, policy) in enumerate(
        zip(contents.letters(result.policies), result.policies, strict=True)
    ):
        parts += _strip(policy, letter, strips + place * (_STRIP + 8), x, result.workers)
    parts += _axis(begin, end, height - 22, x)
    policies = number(len(result.policies), "policy", "policies")
    return _svg(height, f"Timeline of {number(trace.calls, 'call')} and {policies}", parts)


def _bars(
    result: ReplayResult,
    shares: list[float | None],
    top: int,
    x: contents.Scale,
    kind: str,
    label: str,
    full: str,
) -> Iterator[str]:
    slices = result.timeline
    base = top + _CHART
    yield f'<line class="base" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>'
    yield f'<text class="label" x="{_LEFT - 8}" y="{base}">{label}</text>'
    yield f'<text class="small" x="{WIDTH - _RIGHT + 6}" y="{top + 10}">{escape(full)}</text>'
    for place, share in enumerate(shares):
        if not share:
            continue
        at = slices.begin + place * slices.width
        left = x(at)
        wide = max(0.6, x(at + slices.width) - left - 0.4)
        tall = max(1.0, share * _CHART)
        calls, failed = slices.calls[place], slices.failed[place]
        yield (
            f'<rect class="{kind}" x="{left:.1f}" y="{base - tall:.1f}" width="{wide:.1f}" '
            f'height="{tall:.1f}"><title>{contents.clock(at)} UTC: {calls:,} calls, {failed:,} '
            f"failed, {contents.duration(slices.duration[place])} on average</title></rect>"
        )


def _strip(
    policy: PolicyResult, letter: str, top: int, x: contents.Scale, workers: int
) -> Iterator[str]:
    name = escape(contents.named(policy, 120))
    yield f'<text class="label" x="{_LEFT - 8}" y="{top + 16}">{letter}</text>'
    yield (
        f'<rect class="closed" x="{_LEFT}" y="{top}" width="{WIDTH - _LEFT - _RIGHT}" '
        f'height="{_STRIP}"><title>{name}: closed where nothing else is drawn</title></rect>'
    )
    tall = _STRIP / workers
    spans = [span for span in policy.spans if span.state in _KIND]
    for span in spans[:_MOST_PARTS]:
        left = x(span.begin)
        state = str(span.state).replace("_", "-")
        whose = f", circuit {span.worker + 1} of {workers}" if workers > 1 else ""
        yield (
            f'<rect class="{_KIND[span.state]}" x="{left:.1f}" y="{top + span.worker * tall:.1f}" '
            f'width="{max(0.8, x(span.end) - left):.1f}" height="{tall:.1f}"><title>{letter}: '
            f"{state} from {contents.clock(span.begin)} to {contents.clock(span.end)} UTC{whose}"
            "</title></rect>"
        )
    for opening in policy.openings[:_MOST_PARTS]:
        at = x(opening.at)
        where = "in an outage" if opening.outage else "false: no outage"
        kind = "seen" if opening.outage else "false"
        yield (
            f'<path class="{kind}" d="M{at:.1f},{top + 1} l-4,-7 h8 z"><title>{letter} opened at '
            f"{contents.clock(opening.at)} UTC ({where}): "
            f"{escape(printable(opening.reason))}</title></path>"
        )


def _axis(begin: float, end: float, top: int, x: contents.Scale) -> Iterator[str]:
    for part in range(5):
        at = begin + (end - begin) * part / 4
        anchor = ("start", "middle", "middle", "middle", "end")[part]
        yield (
            f'<text class="small" text-anchor="{anchor}" x="{x(at):.1f}" y="{top + 14}">'
            f"{contents.clock(at)}</text>"
        )


def heat_map(
    result: SweepResult, cells: dict[tuple[int, int], Cell], measure: contents.Measure
) -> str:
    """A number over two settings: the darker, the better; a star and a frame mark the front."""
    down = result.axes[0]
    across = result.axes[1] if len(result.axes) > 1 else None
    heads = [f"{value:g}" for value in across.values] if across else [""]
    wide = min(96, max(40, (WIDTH - 120) // len(heads)))
    tall, left, top = 30, 116, 34
    known = [
        value
        for cell in cells.values()
        if (value := contents.measured(cell, measure)[0]) is not None
    ]
    low, high = min(known, default=0.0), max(known, default=0.0)
    parts = [
        f'<text class="axis" x="{left - 8}" y="20" text-anchor="end">{escape(down.name)}</text>',
        f'<text class="axis" x="{left}" y="12">{escape(across.name if across else "")}</text>',
    ]
    parts += [
        f'<text class="small" text-anchor="middle" x="{left + column * wide + wide / 2:.0f}" '
        f'y="28">{head}</text>'
        for column, head in enumerate(heads)
    ]
    for row, setting in enumerate(down.values):
        y = top + row * tall
        parts.append(
            f'<text class="small" text-anchor="end" x="{left - 8}" y="{y + 20}">{setting:g}</text>'
        )
        for column in range(len(heads)):
            cell = cells.get((column, row))
            if cell is not None:
                parts.append(_cell(cell, measure, low, high, left + column * wide, y, wide, tall))
    height = top + len(down.values) * tall + 8
    width = left + len(heads) * wide + 8
    return _svg(
        height,
        f"{measure.title} by {' and '.join(each.name for each in result.axes[:2])}",
        parts,
        width,
    )


def _cell(
    cell: Cell,
    measure: contents.Measure,
    low: float,
    high: float,
    x: float,
    y: float,
    wide: float,
    tall: float,
) -> str:
    value, shown = contents.measured(cell, measure)
    good = 0.0
    if value is not None:
        good = 0.5 if high == low else (value - low) / (high - low)
        good = good if measure.more or high == low else 1 - good
    front = " front" if cell.on_front else ""
    said = ", on the Pareto front" if cell.on_front else ""
    policy = escape(printable(cell.result.policy, 200))
    return (
        f'<g class="cell{front}"><title>{policy}: {escape(measure.title.lower())} {shown}{said}'
        f'</title><rect class="heat" fill-opacity="{0.06 + 0.6 * good:.2f}" x="{x + 1:.0f}" '
        f'y="{y + 1:.0f}" width="{wide - 2:.0f}" height="{tall - 2:.0f}"/>'
        f'<text text-anchor="middle" x="{x + wide / 2:.0f}" y="{y + 20:.0f}">{shown}'
        f"{' ★' if cell.on_front else ''}</text></g>"
    )


def _svg(height: float, title: str, parts: list[str], width: float = WIDTH) -> str:
    return (
        f'<svg role="img" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">'
        f"<title>{escape(title)}</title>\n" + "\n".join(parts) + "\n</svg>"
    )
