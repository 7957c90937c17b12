"""The report in colours. Imported only if rich is installed (the extra `cli`)."""

from __future__ import annotations

import re
from typing import TextIO

from rich.console import Console
from rich.text import Text

from fluxgate.replay.report._contents import Result
from fluxgate.replay.report._text import lines_of

_STYLES = (
    (re.compile(r"^! .*"), "yellow"),
    (re.compile(r"^[A-Z0-9]+  (?=\S)"), "bold cyan"),
    (re.compile(r"━+"), "bold magenta"),
    (re.compile(r"\(false\)"), "yellow"),
    (re.compile(r"(?<=\d)\*"), "bold green"),
)
# By how a line begins: the same block is a bar in one, and the open state in another.
_BARS = {"failed ": "red", "latency ": "blue"}
_STATES = ((re.compile(r"█+"), "red"), (re.compile(r"▒+"), "yellow"), (re.compile(r"·+"), "green"))
_STRIP = re.compile(r"(?:[A-Z]|\d+) +[·▒█]|· closed")


def show_richly(result: Result, out: TextIO) -> None:
    """Write the report to a terminal: the same lines as without rich, in colours."""
    console = Console(file=out, highlight=False)
    lines = lines_of(result, min(console.width, 100))
    for place, line in enumerate(lines):
        below = lines[place + 1] if place + 1 < len(lines) else ""
        if line and set(line) <= {"=", "-"} and place and len(lines[place - 1]) == len(line):
            continue  # the line under a heading, which is bold instead
        shown = Text(line, no_wrap=True, overflow="ignore")
        if line and set(below) in ({"="}, {"-"}) and len(below) == len(line):
            shown.stylize("bold")
        elif line and set(line) <= {"-", " "}:
            shown.stylize("dim")
        else:
            for pattern, style in (*_STYLES, *(_STATES if _STRIP.match(line) else ())):
                shown.highlight_regex(pattern, style)
            for begins, style in _BARS.items():
                if line.startswith(begins):
                    shown.highlight_regex(r"[▁-█]+", style)
        console.print(shown, soft_wrap=True)
