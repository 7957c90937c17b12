"""The circuits of a fleet in colours, once or live. Imported only if rich is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fluxgate._layout import width_of
from fluxgate._words import number
from fluxgate.cli._fleet.circuits import Look
from fluxgate.cli._fleet.report_text import HEADINGS, NONE, NOTE, cells_of, cells_of_process
from fluxgate.fleet._circuits import process_of

_COLOURS: Final = {
    "closed": "green",
    "open": "bold red",
    "half_open": "yellow",
    "forced_open": "bold red",
    "disabled": "magenta",
    "metrics_only": "cyan",
}
_AROUND: Final = 7
"""Lines of a terminal that the circuits don't have: headings, note, error, cursor."""
_GAP: Final = 2
"""Characters between two columns."""
_LEAST: Final = 20
"""Characters that a long name leaves to the last column, if that needs them."""


def show(look: Look, out: TextIO) -> None:
    """Write every circuit to a terminal."""
    console = Console(file=out, highlight=False)
    console.print(page(look, console.width))


def show_live(look: Callable[[], Look], wait: Callable[[], None], out: TextIO) -> None:
    """Keep the circuits on a terminal up to date until interrupted.

    Args:
        look: reads the store.
        wait: returns when it is time for another look.
        out: the terminal.
    """
    console = Console(file=out, highlight=False)
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            room = max(console.height - _AROUND, 1)
            live.update(page(look(), console.width, room), refresh=True)
            wait()


def page(look: Look, width: int, room: int | None = None) -> Group:
    """A look at the store; of more than `room` lines the first, and those with trouble come first.

    Args:
        look: what was found.
        width: characters of a line. Long names and reasons give way: they are folded, or cut off
            where there is a `room`.
        room: lines for circuits and processes; None, as many as there are.
    """
    rows = look.rows
    if room is not None and len(rows) + sum(map(len, look.reports.values())) > room:
        rows = sorted(rows, key=lambda row: row.quiet)
    lines: list[tuple[tuple[str, ...], str, str]] = []
    for row in rows:
        lines.append((cells_of(row), "bold", _COLOURS.get(row.worst, "")))
        lines += [
            (cells_of_process(each), "dim", _COLOURS.get(each.state or "", ""))
            for each in map(process_of, look.reports.get(row.name, ()))
        ]
    shown = lines[:room]
    grid = Table(box=None, header_style="dim", pad_edge=False, padding=(0, _GAP, 0, 0))
    widths = _widths([HEADINGS, *(line[0] for line in shown)], width)
    for title, wide in zip(HEADINGS, widths, strict=True):
        grid.add_column(
            title,
            justify="right" if title in ("CALLS", "FAILED") else "left",
            width=wide,
            no_wrap=room is not None,
            overflow="fold" if room is None else "ellipsis",
        )
    for (name, state, *rest), style, colour in shown:
        others = (Text(cell, "" if style == "bold" else style) for cell in rest)
        grid.add_row(Text(name, style), Text(state, colour), *others)
    parts: list[Table | Text] = [grid] if shown else [Text(NONE, "dim")]
    if len(lines) > len(shown):
        parts.append(Text(f"and {number(len(lines) - len(shown), 'line')} more", "dim"))
    if look.reports:
        parts.append(Text(f"\n{NOTE}", "dim"))
    if look.error:
        parts.append(Text(f"\n{look.error}", "bold red"))
    return Group(*parts)


def _widths(cells: Sequence[tuple[str, ...]], width: int) -> list[int]:
    """The widths of the columns: the first and the last share what the others leave."""
    first, *others, last = (max(map(width_of, column)) for column in zip(*cells, strict=True))
    rest = max(width - sum(others) - _GAP * (len(others) + 1), 2 * _LEAST)
    first = min(first, rest - min(last, _LEAST))
    return [first, *others, min(last, rest - first)]
