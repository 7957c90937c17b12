"""Measure the breaker against what is possible and against the others, in one run.

`python3 noxfile.py -s benchmarks` prepares the environments and calls this. The method is in
README.md beside this file.
"""

import argparse
import asyncio
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cases import SECTIONS
from kinds import KINDS, floor_of, turn_of
from peers import PEERS, Peer, fluxgate_here
from pypi import Answer, Worker, collect
from report import Figure, PeerRow, Report, Row
from thin import dependency
from timing import Effort, Turn, healthy, race

PASSES = 3
HEADINGS = {
    "healthy": "healthy sync call",
    "rejected": "rejection when open",
    "failing": "10 % failing",
    "async": "healthy async call",
}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    python = "the interpreter of the environment that holds PyPI's fluxgate"
    add("--peer-fluxgate-python", type=Path, metavar="PATH", help=python)
    add("--rounds", type=int, default=200, help="rounds of each race (default: %(default)s)")
    add("--calls", type=int, default=2_000, help="calls in each turn (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    markdown = "write the tables between the two markers of FILE (a README)"
    add("--markdown", type=Path, metavar="FILE", help=markdown)
    names = [*SECTIONS, "peers"]
    only = f"measure this section only (may be repeated): {', '.join(names)}"
    add("--only", action="append", choices=names, metavar="NAME", help=only)
    add("--quick", action="store_true", help="a tenth of the rounds and one pass: a first look")
    parsed = parser.parse_args(given)
    if parsed.rounds < 1 or parsed.calls < 10:
        parser.error("at least one round, and ten calls in a turn")
    parsed.only = parsed.only or names
    if "peers" in parsed.only and parsed.peer_fluxgate_python is None:
        parser.error("the table of the peers needs --peer-fluxgate-python (or name --only others)")
    return parsed


class PeerTable:
    """The second table: every library with every kind of call."""

    def __init__(self, worker: Worker, effort: Effort) -> None:
        here = fluxgate_here()
        self._worker = worker
        self._effort = effort
        self._peers: dict[str, Peer] = {"fluxgate (this project)": here}
        self._peers |= {peer.distribution: peer for peer in (make() for make in PEERS)}
        rows = [PeerRow("bare function", ""), PeerRow("thinnest wrapper", "")]
        rows += [PeerRow(name, installed(peer)) for name, peer in self._peers.items()]
        rows.append(PeerRow("fluxgate on PyPI", worker.version))
        self.rows = {row.name: row for row in rows}

    def measure(self, kind: str) -> None:
        """One pass of one kind of call."""
        answers: list[Answer] = []
        with asyncio.Runner() as runner:
            turns: dict[str, Turn] = {"thinnest wrapper": floor_of(kind, runner)}
            if kind == "healthy":
                turns["bare function"] = healthy(dependency)
            for name, peer in self._peers.items():
                turn = turn_of(kind, peer, runner)
                if turn is not None:
                    turns[name] = turn
            times = race(
                turns,
                # Slow ones make long rounds; a quarter of them is as sure.
                max(5, self._effort.rounds // 4),
                self._effort.calls,
                after_round=lambda: answers.append(self._worker.ask(kind)),
            )
        for name in turns:
            # Refusals are held against a healthy call, which is no refusal itself.
            if name != "thinnest wrapper" or kind != "rejected":
                figure = times.ratio(name, "thinnest wrapper"), times.ns(name)
                self.rows[name].kinds.setdefault(HEADINGS[kind], []).append(figure)
        there = collect(answers)
        figure = there.ratio("peer", "thin"), there.ns("peer")
        self.rows["fluxgate on PyPI"].kinds.setdefault(HEADINGS[kind], []).append(figure)

    def sorted(self) -> list[PeerRow]:
        """The fastest first."""
        return sorted(self.rows.values(), key=lambda row: min(row.kinds[HEADINGS["healthy"]]))


def installed(peer: Peer) -> str:
    """Its version; a checkout that isn't installed has none."""
    try:
        return peer.version
    except PackageNotFoundError:
        return ""


def grouped(passes: Sequence[Sequence[Figure]]) -> Iterator[Row]:
    """The same figure of every pass in one row."""
    for figures in zip(*passes, strict=True):
        yield Row(figures)


def about(effort: Effort, passes: int) -> dict[str, object]:
    """What a figure is worth nothing without."""
    try:
        own = version("fluxgate-core")
    except PackageNotFoundError:
        own = "from a checkout"
    # Absent before 3.13, where there always is a GIL.
    with_gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
    return {
        "implementation": platform.python_implementation(),
        "python": platform.python_version() + ("" if with_gil else " without GIL"),
        "platform": f"{platform.system()} {platform.machine()}",
        "fluxgate-core": own,
        "rounds": effort.rounds,
        "calls_per_turn": effort.calls,
        "passes": passes,
    }


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    wanted = arguments(given)
    rounds = max(5, wanted.rounds // 10) if wanted.quick else wanted.rounds
    effort = Effort(rounds, wanted.calls)
    count = 1 if wanted.quick else PASSES
    passes: list[list[Figure]] = []
    table: PeerTable | None = None
    with ExitStack() as stack:
        if "peers" in wanted.only:
            worker = Worker(wanted.peer_fluxgate_python, effort.calls)
            table = PeerTable(stack.enter_context(worker), effort)
        for number in range(count):
            figures: list[Figure] = []
            for name, section in SECTIONS.items():
                if name in wanted.only:
                    print(f"pass {number + 1} of {count}: {name}", file=sys.stderr, flush=True)
                    figures += section(effort)
            passes.append(figures)
            if table is not None:
                for kind in KINDS:
                    print(f"pass {number + 1} of {count}: peers, {kind}", file=sys.stderr)
                    table.measure(kind)
    peers = table.sorted() if table is not None else []
    rows = list(grouped(passes))
    report = Report(about(effort, count), rows, peers, tuple(HEADINGS.values()))
    print(report.markdown(), end="")
    if wanted.json is not None:
        report.write_json(wanted.json)
    if wanted.markdown is not None:
        report.write_markdown(wanted.markdown)


if __name__ == "__main__":
    main()
