"""The command `python -m fluxgate explain`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fluxgate.cli._diagram.svg import svg_diagram
from fluxgate.cli._explain import arguments
from fluxgate.cli._explain.explanation import explain
from fluxgate.cli._explain.report_text import show
from fluxgate.state import State

_EXAMPLES = """\
examples:
  python -m fluxgate explain "MinRequests(10) & FailureRate(0.5)"
  python -m fluxgate explain "FailureStreak(5)" --window "TimeWindow(60)" --retry "Backoff(1)"
  python -m fluxgate explain --config fluxgate.toml --name payments --svg payments.svg
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="say in words what a policy does, and what it can't do",
        description=(
            "Say in words what a policy does, and what it can't do. Its figures come from calls "
            "that are simulated on the real state machine. What is not given has its default."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "tripper",
        metavar="EXPRESSION",
        nargs="?",
        help='when it opens, such as "MinRequests(10) & FailureRate(0.5)"',
    )
    parser.add_argument("--config", metavar="FILE", help="take the settings of a TOML file")
    parser.add_argument("--name", help="the circuit's name (with --config: whose settings)")
    for key, what in arguments.OPTIONS.items():
        parser.add_argument(f"--{key.replace('_', '-')}", metavar="SETTING", help=what)
    parser.add_argument(
        "--state",
        metavar="STATE",
        type=_state,
        help=f"speak of one state alone: {', '.join(State)}",
    )
    parser.add_argument("--svg", metavar="FILE", type=Path, help="write the state diagram there")
    parser.add_argument("--plain", action="store_true", help="no colours, even on a terminal")
    parser.set_defaults(run=_run)


def _state(text: str) -> State:
    try:
        return State(text.strip().lower().replace("-", "_"))
    except ValueError:
        known = ", ".join(State)
        raise argparse.ArgumentTypeError(f"{text!r} is no state; there are {known}") from None


def _run(options: argparse.Namespace) -> int:
    given = arguments.read(options)
    report = explain(given.policy, name=given.name, starts=given.starts, state=options.state)
    if given.note:
        report.warnings.insert(0, given.note)
    if options.svg is not None:
        svg = svg_diagram(given.policy, name=given.name, marked=options.state)
        options.svg.write_text(svg, encoding="utf-8", newline="\n")
    show(report, sys.stdout, plain=options.plain, marked=options.state)
    if options.svg is not None:
        print(f"The diagram is in {options.svg}.")
    return 0
