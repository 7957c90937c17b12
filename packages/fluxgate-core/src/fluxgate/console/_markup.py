"""Pieces of HTML: escaped texts, states as word and shape, times, numbers, strips.

Whatever comes from a circuit or a person is hostile: it is escaped here, and nowhere else. Cells
and rows of tables have no end tags, which HTML allows (13.1.2.4): a page is a tenth smaller.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Final

from fluxgate._naming import printable
from fluxgate.console._view import Strip
from fluxgate.console._words import Words
from fluxgate.state import State

NAME: Final = 80
"""Characters of a name in a table; the detail has the name as the view has it."""
_MINUTE: Final = 4
"""Width of a minute in a strip's own units, whose height is 16."""
_HEIGHTS: Final = {
    State.CLOSED: 4,
    State.METRICS_ONLY: 4,
    State.DISABLED: 4,
    State.HALF_OPEN: 10,
    State.OPEN: 16,
    State.FORCED_OPEN: 16,
}
_UNIT: Final = re.compile(r"(?<=\d) (?=%|(?:ms|s|min|h|d)\b)")
"""The space before a unit. It is put in last: as part of a text it would be shown as an escape."""


def text(value: str, longest: int | None = None) -> str:
    """A text, escaped for an element or a quoted attribute; what isn't printable as escapes."""
    return escape(printable(value, longest))


def bdi(value: str, longest: int | None = None) -> str:
    """A text that others chose: its direction of writing can't leak into what stands beside it."""
    return f"<bdi>{text(value, longest)}</bdi>"


def prose(value: str, longest: int | None = None) -> str:
    """A sentence, escaped as by `bdi()`; no line of it ends between a number and its unit."""
    return _UNIT.sub("\N{NO-BREAK SPACE}", bdi(value, longest))


def name(words: Words, value: str, longest: int | None = NAME) -> str:
    """A circuit's name; words in its place where it is blank, so that its link can be seen."""
    return bdi(value, longest) if value.strip() else f"<i>{words('unnamed')}</i>"


def state(words: Words, value: State | None) -> str:
    """A state: its word, before which the style sheet draws its shape in its colour."""
    return f'<span class="s {value or "unknown"}">{words.state(value)}</span>'


def rate(value: float | None) -> str:
    """Events a second: `0.3`, `12`, `1,200`; empty where it isn't known."""
    if value is None:
        return ""
    return f"{value:.1f}" if 0 < value < 9.95 else f"{value:,.0f}"


def percent(ratio: float | None) -> str:
    """A ratio: `42 %`, `0.4 %`; empty where it isn't known. 99.9 % is never shown as all."""
    if ratio is None:
        return ""
    hundred = ratio * 100
    whole = hundred in (0, 100) or 0.95 <= hundred <= 99
    return f"{hundred:.0f} %" if whole else f"{min(99.9, max(0.1, hundred)):.1f} %"


def since(words: Words, at: float | None, now: float) -> str:
    """How long ago something was; the page's script goes on counting. Empty where nobody knows."""
    if at is None:
        return ""
    return f"<time data-since={int(at)}>{words.duration(now - at)}</time>"


def until(words: Words, key: str, seconds: float, now: float) -> str:
    """The time to something that is still to come, with the words of a key around it.

    The page's script counts down. `key` is `probe_in` or `reverts_in`.
    """
    shown = words(key, time=words.duration(seconds))
    return f"<time data-until={now + seconds:.0f} class={key}>{shown}</time>"


def moment(at: float, now: float) -> str:
    """A point in time, in UTC; the page's script shows it in the browser's zone."""
    there, today = time.gmtime(at), time.gmtime(now)
    form = "%H:%M:%S" if there[:3] == today[:3] else "%Y-%m-%d %H:%M:%S"
    return f'<time data-at={int(at)} datetime="{iso(at)}">{time.strftime(form, there)}</time>'


def iso(at: float) -> str:
    """A point in time as ISO 8601 has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def strip(words: Words, minutes: Strip) -> str:
    """The states of the last minutes, as bars that are the higher the less they let through."""
    runs = [(kind, len(list(run))) for kind, run in groupby(minutes)]
    spans: dict[State, list[str]] = {}
    totals: dict[State, int] = {}
    x = 0
    for kind, length in runs:
        width = length * _MINUTE
        if kind is not None:
            height = _HEIGHTS[kind]
            bar = f"M{x} {16 - height}h{width}v{height}h-{width}z"
            spans.setdefault(kind, []).append(bar)
            totals[kind] = totals.get(kind, 0) + length
        x += width
    said = [words("minutes", state=words.state(kind), n=count) for kind, count in totals.items()]
    label = ", ".join(said) or words("no_history")
    paths = "".join(f'<path class={kind} d="{"".join(bars)}"/>' for kind, bars in spans.items())
    return f'<svg class=strip viewBox="0 0 {x} 16" role=img aria-label="{label}">{paths}</svg>'


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already; what is too wide for the page scrolls by itself."""
    head = "".join(f"<th scope=col>{text(each)}" for each in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return (
        f'<div class=scroll tabindex=0 role=region aria-label="{text(caption)}">'
        f'<table class="{kind}"><caption class=hidden>{text(caption)}</caption>'
        f"<thead><tr>{head}<tbody>\n{body}\n</table></div>"
    )
