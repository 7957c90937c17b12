"""Reports of a replay or a sweep: text for a terminal, a page of HTML.

JSON is `result.as_json()`. What a file said (keys, errors) is shown in one printable line of
bounded length, and escaped in HTML.
"""

from __future__ import annotations

import sys
from typing import TextIO

from fluxgate.replay._result import ReplayResult, SweepResult
from fluxgate.replay.report._html import page
from fluxgate.replay.report._text import ascii_only, lines_of

__all__ = ["render_html", "render_text", "show"]


def render_text(result: ReplayResult | SweepResult, *, width: int = 80) -> str:
    """The report as plain text.

    Args:
        result: of `replay()` or `sweep()`.
        width: characters of a line, 80 or more.
    """
    return "\n".join(lines_of(result, max(width, 80))) + "\n"


def render_html(result: ReplayResult | SweepResult) -> str:
    """The report as one page of HTML: no scripts, nothing to load, light and dark, printable."""
    return page(result)


def show(
    result: ReplayResult | SweepResult, out: TextIO | None = None, *, plain: bool = False
) -> None:
    """Write the report; in colours where `out` is a terminal and rich is installed.

    Args:
        result: of `replay()` or `sweep()`.
        out: by default the standard output.
        plain: no colours in any case.
    """
    to: TextIO = sys.stdout if out is None else out
    if not plain and to.isatty():
        try:
            from fluxgate.replay.report._rich import show_richly
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "rich":
                raise
        else:
            show_richly(result, to)
            return
    text = render_text(result)
    try:
        text.encode(to.encoding or "utf-8")
    except UnicodeEncodeError:
        text = ascii_only(text)
    to.write(text)
