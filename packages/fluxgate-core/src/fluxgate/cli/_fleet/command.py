"""The command `python -m fluxgate fleet`: the circuits of a fleet, as its store has them."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from fluxgate.cli.fleet import SETTING, TIMED, UnknownCircuitError, run

_VERBS: Final = {
    "list": "every circuit, and the processes that report trouble with it",
    "show": "one circuit, and what each process reports of it",
    "open": "refuse every call, until reset or for a time",
    "reset": "close, and start afresh",
    "disable": "let every call pass and count nothing, until reset or for a time",
    "watch": "every circuit, and then each change, until interrupted",
}
_STATUSES: Final = (
    "Exit status: 0; 1 for a NAME that no process has reported (show); 2 where the store can't be "
    "reached or used. A file that isn't there is not made: that is for the processes to do."
)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "fleet",
        help="show and set the circuits that many processes share",
        description="Show and set the circuits of a fleet, as its store has them.",
        epilog=_STATUSES,
    )
    parser.add_argument("url", metavar="URL", help="such as redis://host:6379/0 or sqlite:///path")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, words in _VERBS.items():
        each = verbs.add_parser(verb, help=words, description=f"{words[0].upper()}{words[1:]}.")
        each.set_defaults(names=[], format="text", plain=False)
        each.set_defaults(seconds=None, note=None, by=None)
        if verb == "show":
            each.add_argument("names", metavar="NAME", nargs=1)
        elif verb in SETTING:
            each.add_argument("names", metavar="NAME", nargs="+")
            each.add_argument("--note", metavar="TEXT", help="why; it stands in every log")
            each.add_argument("--by", metavar="WHO", help="who; by default the user of this shell")
        if verb in TIMED:
            each.add_argument(
                "--seconds", type=float, metavar="S", help="after which it ends by itself"
            )
        if verb not in SETTING:
            each.add_argument("--format", choices=("text", "json"), default="text")
        if verb in ("list", "watch"):
            each.add_argument("--plain", action="store_true", help="no colours, even on a terminal")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    try:
        run(
            options.url,
            options.verb,
            options.names,
            command=f"python -m fluxgate fleet {options.verb}",
            as_json=options.format == "json",
            plain=options.plain,
            seconds=options.seconds,
            note=options.note,
            by=options.by,
        )
    except UnknownCircuitError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
