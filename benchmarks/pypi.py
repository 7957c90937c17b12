"""PyPI's `fluxgate`, measured across a pipe: it has the import name of this project.

`Worker` starts this file with the other environment's interpreter and asks it for one
round at a time, so its rounds alternate with those of the peers here. It times the
thinnest wrapper next to the peer in each round: its ratios are its own process's.
"""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from kinds import floor_of, turn_of
from peers import fluxgate_on_pypi
from timing import Times, Turn, race


@dataclass(frozen=True, slots=True)
class Answer:
    """One round in the worker, in nanoseconds per call."""

    thin: float
    peer: float


class Worker:
    """The process in the other environment."""

    def __init__(self, python: Path, calls: int) -> None:
        # Without PYTHONPATH: a checkout on it would shadow the distribution from PyPI.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._calls = calls
        self._process = subprocess.Popen(
            [str(python), __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.version = str(self._read()["version"])

    def _read(self) -> dict[str, float | str]:
        if self._process.stdout is None:
            raise RuntimeError("the worker has no pipe")
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(
                "the interpreter given with --peer-fluxgate-python can't measure PyPI's "
                "fluxgate: is `pip install fluxgate` done in its environment?"
            )
        answer: dict[str, float | str] = json.loads(line)
        return answer

    def ask(self, kind: str) -> Answer:
        """One round of one kind of call."""
        if self._process.stdin is None:
            raise RuntimeError("the worker has no pipe")
        self._process.stdin.write(json.dumps({"kind": kind, "calls": self._calls}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return Answer(float(answer["thin"]), float(answer["peer"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)


def collect(answers: list[Answer]) -> Times:
    """What `race` returns, from the answers of a worker."""
    return Times({"thin": [one.thin for one in answers], "peer": [one.peer for one in answers]})


def serve() -> None:
    """The other end of the pipe: one line asks for a round, one line answers."""
    peer = fluxgate_on_pypi()
    print(json.dumps({"version": peer.version}), flush=True)
    with asyncio.Runner() as runner:
        turns: dict[str, dict[str, Turn]] = {}
        for number, line in enumerate(sys.stdin):
            question = json.loads(line)
            kind = question["kind"]
            if kind not in turns:
                mine = turn_of(kind, peer, runner)
                if mine is None:
                    raise RuntimeError(f"{peer.distribution} has no {kind} calls")
                turns[kind] = {"thin": floor_of(kind, runner), "peer": mine}
            order = sorted(turns[kind], reverse=bool(number % 2))
            pair = {name: turns[kind][name] for name in order}
            times = race(pair, rounds=1, calls=question["calls"])
            print(json.dumps({name: times.ns(name) for name in pair}), flush=True)


if __name__ == "__main__":
    serve()
