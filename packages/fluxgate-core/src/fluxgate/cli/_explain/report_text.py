"""A report as plain text; on a terminal with rich installed, in colours."""

from __future__ import annotations

import re
import shutil
from typing import TextIO

from fluxgate._layout import wrapped
from fluxgate.cli._diagram.text import text_diagram
from fluxgate.cli._explain.report import WARNINGS, Report, Table
from fluxgate.state import State

_WIDEST = 96
_TOGETHER = re.compile(r"(?<=\d) (?=%|ms|s|min|h|d|calls?\b)")
_ASCII = str.maketrans("┌┐└┘─│▶▲▼↺»«…±•", "++++-|>^v@><.~*")


def show(report: Report, out: TextIO, *, plain: bool = False, marked: State | None = None) -> None:
    """Write a report, and the diagram.

    Args:
        report: what to write.
        out: where.
        plain: no colours, even if `out` is a terminal and rich is installed.
        marked: a state to point out in the diagram.
    """
    diagram = text_diagram(marked)
    if not plain and out.isatty():
        try:
            from fluxgate.cli._explain.report_rich import show_richly
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "rich":
                raise
        else:
            show_richly(report, diagram, out)
            return
    text = as_text(report, diagram, min(shutil.get_terminal_size().columns, _WIDEST))
    try:
        text.encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        text = text.translate(_ASCII)
        text = text.encode(out.encoding, "replace").decode(out.encoding)
    out.write(text)


def as_text(report: Report, diagram: str, width: int) -> str:
    """The report as lines of at most `width` characters, but for the diagram and tables."""
    lines = [report.title, "=" * len(report.title), ""]
    longest = max(len(key) for key, _ in report.settings)
    for key, value in report.settings:
        lines += _wrapped(value, f"{key:<{longest}}  ", width, " " * (longest + 2))
    for title, points, tables in report.sections:
        lines += ["", title, "-" * len(title)]
        for point in points:
            lines += _wrapped(point, "  • ", width, "    ")
        for table in tables:
            lines += ["", *_wrapped(table.note, "  ", width, "  "), *_columns(table)]
    if report.warnings:
        lines += ["", WARNINGS, "-" * len(WARNINGS)]
        for warning in report.warnings:
            lines += _wrapped(warning, "  ! ", width, "    ")
    lines += ["", *(f"  {line}".rstrip() for line in diagram.splitlines())]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, first: str, width: int, later: str) -> list[str]:
    return wrapped(text, width, first, later, together=_TOGETHER)


def _columns(table: Table) -> list[str]:
    rows = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    cells = [map(str.ljust, row, widths) for row in rows]
    return [("    " + "   ".join(row)).rstrip() for row in cells]
