"""The data of a report: sections, tables and warnings, before they are formatted."""

from __future__ import annotations

from typing import Final, NamedTuple

WARNINGS: Final = "Worth a second look"
"""The title above the warnings."""


class Table(NamedTuple):
    """Rows under a head; `note` stands above them."""

    note: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Section(NamedTuple):
    """Sentences under a title, and tables that go with them."""

    title: str
    points: list[str]
    tables: list[Table]


class Report(NamedTuple):
    """A whole report.

    Attributes:
        title: the name of the circuit or policy.
        settings: name and expression of each setting to show.
        sections: in the order in which they are read.
        warnings: likely mistakes.
    """

    title: str
    settings: list[tuple[str, str]]
    sections: list[Section]
    warnings: list[str]
