"""The command `python -m fluxgate diagram`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fluxgate.cli._diagram.svg import svg_diagram


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "diagram",
        help="draw the states of a circuit as SVG",
        description="Draw the states of a circuit as SVG, from the machine's own table.",
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="write it there; by default it is printed"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if FILE is not up to date"
    )
    parser.set_defaults(run=_run, complain=parser.error)


def _run(options: argparse.Namespace) -> int:
    if options.check and options.output is None:
        options.complain("--check needs --output FILE, to look at")
    svg = svg_diagram()
    if options.output is None:
        sys.stdout.write(svg)
    elif not options.check:
        options.output.write_text(svg, encoding="utf-8", newline="\n")
    elif not options.output.exists() or options.output.read_text(encoding="utf-8") != svg:
        print(
            f"{options.output} is not up to date: "
            f"python -m fluxgate diagram --output {options.output}",
            file=sys.stderr,
        )
        return 1
    return 0
