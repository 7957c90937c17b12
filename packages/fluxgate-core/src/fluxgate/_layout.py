"""Layout of text in a terminal: paragraphs, and tables whose columns stand under each other."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from unicodedata import combining, east_asian_width


def wrapped(
    text: str, width: int, first: str = "", later: str = "", *, together: re.Pattern[str]
) -> list[str]:
    """A paragraph in lines of the width.

    Args:
        text: the paragraph.
        width: columns of the terminal; 40 at least.
        first: what the first line begins with.
        later: what the other lines begin with.
        together: the blanks at which no line may end.
    """
    lines = textwrap.wrap(
        together.sub("\xa0", text),
        max(width, 40),
        initial_indent=first,
        subsequent_indent=later,
        break_on_hyphens=False,
    )
    return [line.replace("\xa0", " ") for line in lines]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, their columns under each other."""
    widths = [max(map(width_of, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text + " " * (width - width_of(text)) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes: two for a wide character, as of Chinese."""
    return len(text) + sum(map(_is_wide, text)) - sum(map(bool, map(combining, text)))


def _is_wide(character: str) -> bool:
    return east_asian_width(character) in ("W", "F")
