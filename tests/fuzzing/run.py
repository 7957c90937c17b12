"""The long form of fuzzing: atheris, led by coverage, on each target for so many seconds.

    python -m tests.fuzzing.run                              every target, a minute each
    python -m tests.fuzzing.run --seconds 600 expression     one of them, for longer

Each target has a process of its own, which ends at the first input that the target doesn't take.
That is kept in `dist/fuzzing/`, beside the inputs that have reached new code, from which the next
run goes on. The planted faults come first, and must be found; then what may grow is doubled.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from .every import FAULTY, TARGETS
from .growing import search
from .targets import Target

FOLDER: Final = Path("dist", "fuzzing")
SHARED: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where files are in memory, if that is known."""
PATIENCE: Final = 300
"""Seconds more for a process: its start, and an input that takes too long."""
PLANTED: Final = 20
"""Seconds in which a planted fault must be found."""


class Run(NamedTuple):
    """How one target went.

    Attributes:
        executions: inputs that were tried.
        problem: the end of what the process has said, if it has found something.
    """

    executions: int
    problem: str = ""


def fuzz(target: Target, seconds: int) -> Run:
    """Fuzz a target in a process of its own."""
    folder = FOLDER / target.name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"{__package__}.one", target.name, str(folder), str(seconds)]
    with tempfile.TemporaryDirectory(prefix="fluxgate-", dir=SHARED) as files:
        code, said = _said(command, files, seconds + PATIENCE)
    found = re.search(r"stat::number_of_executed_units: (\d+)", said)
    executions = int(found[1]) if found else 0
    if code == 0 and executions:
        return Run(executions)
    # From the exception on; libFuzzer's own lines before it are of no use.
    problem = said[said.find("=== Uncaught Python exception") :][:4000] or said[-4000:]
    return Run(executions, f"{problem}\nThe input is in {folder}/.")


def _said(command: Sequence[str], files: str, patience: float) -> tuple[int | None, str]:
    """What a process says, and its exit code; None where it had to be ended."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": files},
        start_new_session=True,  # with a server of its own: both end together
    )
    try:
        said = process.communicate(timeout=patience)[1]
        return process.returncode, said.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        return None, f"it was still running after {patience} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets; the exit code."""
    parser = argparse.ArgumentParser(prog="fuzzing", description="Fuzz what reads foreign input.")
    parser.add_argument("names", nargs="*", help="targets; by default all of them")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    given = parser.parse_args(arguments)
    if unknown := {*given.names} - {*TARGETS}:
        parser.error(f"no target is called {min(unknown)}; known are {', '.join(sorted(TARGETS))}")
    logging.disable()
    failures: list[str] = []
    if not fuzz(FAULTY["wrong_error"], PLANTED).problem:
        failures.append("wrong_error: atheris has not found the planted fault")
    if search(FAULTY["too_slow"], PLANTED, random.Random(1))[1] is None:
        failures.append("too_slow: the search for growth has not found the planted fault")
    print(f"{'target':<20} {'inputs':>10} {'grown':>7}")
    total = 0
    for name in given.names or sorted(TARGETS):
        run = fuzz(TARGETS[name], given.seconds)
        total += run.executions
        if run.problem:
            failures.append(f"{name}: {run.problem}")
        tried, growth = 0, None
        if TARGETS[name].grown is not None:
            tried, growth = search(TARGETS[name], given.seconds / 4, random.Random())
        if growth is not None:
            failures.append(f"{name}: {growth}")
        said = "" if not run.problem and growth is None else "  FOUND SOMETHING"
        print(f"{name:<20} {run.executions:>10,} {tried or '':>7}{said}", flush=True)
    print(f"{total:,} inputs in all")
    for failure in failures:
        print(f"\n{failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
