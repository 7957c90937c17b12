"""A report in colours. Imported only if rich is installed (the extra `cli`)."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from fluxgate.cli._explain.report import WARNINGS, Report, Table


def show_richly(report: Report, diagram: str, out: TextIO) -> None:
    """Write a report, and the diagram, to a terminal."""
    console = Console(file=out, highlight=False)
    console.print(f"[bold]{escape(report.title)}[/]")
    settings = Grid.grid(padding=(0, 2))
    for key, value in report.settings:
        settings.add_row(Text(key, "dim"), Text(value, "cyan"))
    console.print(Padding(settings, (1, 2, 0, 2)))
    for title, points, tables in report.sections:
        console.print(f"\n[bold]{escape(title)}[/]")
        console.print(_points(points, Text("•", "dim")))
        for table in tables:
            console.print(Padding(Text(table.note, "italic"), (1, 2, 0, 2)))
            console.print(Padding(_table(table), (0, 2)))
    if report.warnings:
        console.print(f"\n[bold yellow]{WARNINGS}[/]")
        console.print(_points(report.warnings, Text("!", "bold yellow")))
    console.print(Padding(Text(diagram, no_wrap=True), (1, 2)))


def _points(points: list[str], mark: Text) -> Padding:
    grid = Grid.grid(padding=(0, 1))
    for point in points:
        grid.add_row(mark, Text(point))
    return Padding(grid, (0, 2))


def _table(table: Table) -> Grid:
    grid = Grid(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
    for title in table.head:
        grid.add_column(title)
    for row in table.rows:
        grid.add_row(*(Text(cell, _style(cell)) for cell in row))
    return grid


def _style(cell: str) -> str:
    return "yellow" if cell in ("stays closed", "never") else ""
