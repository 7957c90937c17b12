"""What an explanation is made of, before it is shown."""

from __future__ import annotations

from typing import Final, NamedTuple

WARNINGS: Final = "Worth a second look"
"""The title above the warnings."""


class Table(NamedTuple):
    """Rows under a head; `note` says what they are."""

    note: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Section(NamedTuple):
    """Sentences under a title, and tables that go with them."""

    title: str
    points: list[str]
    tables: list[Table]


class Report(NamedTuple):
    """A whole explanation.

    Attributes:
        title: whose policy it is.
        settings: what is set, as name and expression.
        sections: in the order in which they are read.
        warnings: what is likely to be a mistake.
    """

    title: str
    settings: list[tuple[str, str]]
    sections: list[Section]
    warnings: list[str]
