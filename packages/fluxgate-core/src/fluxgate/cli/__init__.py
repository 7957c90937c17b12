"""The command line: `python -m fluxgate explain EXPRESSION`, `… diagram`, `… fleet`, …."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

# First: see _clash.py.
import fluxgate._naming  # noqa: F401  # pyright: ignore[reportUnusedImport]
from fluxgate import FluxgateError
from fluxgate.cli import _replay as replay
from fluxgate.cli._console import command as console
from fluxgate.cli._diagram import command as diagram
from fluxgate.cli._explain import command as explain
from fluxgate.cli._fleet import command as fleet_command

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 (a check failed) or 2 (bad input).

    Args:
        argv: the arguments after `python -m fluxgate`; by default those of this process.

    Raises:
        SystemExit: after `--help` and `--version` (0), and for arguments that are no command (2).
    """
    parser = _parser()
    given = parser.parse_args(argv)
    if given.command is None:
        parser.print_help()
        return 0
    try:
        code: int = given.run(given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # as in `... | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (FluxgateError, OSError) as error:
        print(f"{parser.prog} {given.command}: error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fluxgate",
        description="Circuit breakers: what a policy does or would have done; what a fleet has.",
    )
    parser.add_argument("--version", action=_Version, help="show the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    explain.add_to(commands)
    diagram.add_to(commands)
    fleet_command.add_to(commands)
    console.add_to(commands)
    replay.add_to(commands)
    return parser


class _Version(argparse.Action):
    """`--version`; the version is looked up only on demand, since that reads package metadata."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import fluxgate

        print(f"fluxgate {fluxgate.__version__}")
        parser.exit()
