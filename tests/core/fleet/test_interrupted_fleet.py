"""An exception between any two instructions of a fleet leaves it whole.

A control, calls whose failures pile up, and a circuit's joining run on the caller's thread, where a
signal handler can raise; a flush doesn't, but an error of any kind (no memory) may end one all the
same. Afterwards no call has been counted twice, later ones arrive, and all processes agree.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from fluxgate import CallNotPermittedError, State

from ..interrupting import interrupted, report
from ..proving import LONG
from .test_fleet_model import Process, World

HIT = (
    *("_bell.py", "_controls.py", "_decisions.py", "_deltas.py", "_fleet.py", "_flusher.py"),
    *("_following.py", "_head.py", "_member.py", "_probes.py", "_replica.py", "_reports.py"),
    "_reverts.py",
)


class Pair:
    """Two processes of one fleet, with some calls behind them."""

    def __init__(self) -> None:
        self.world = World()
        self.processes = [Process(self.world, advisory=False) for _ in range(2)]
        self.first = self.processes[0]
        self.calls(3)
        self.flush(2)
        self.calls(2)  # not handed in yet

    def calls(self, count: int) -> None:
        for process in self.processes:
            for _ in range(count):
                process.breaker.attempt().succeed()

    def flush(self, times: int) -> None:
        for _ in range(times):
            for process in self.processes:
                process.flusher.listen()
                process.tick()
            self.world.ms += 250

    @property
    def applied(self) -> int:
        return sum(self.world.applied.values())

    @property
    def settled(self) -> int:
        return sum(each.settled for each in self.processes)

    # -- what is interrupted

    def control(self) -> None:
        self.first.breaker.force_open(seconds=60.0, fleet=True)

    def open_for(self) -> None:
        self.first.breaker.open_for(60.0, fleet=True)

    def fail(self) -> None:
        for _ in range(3):  # the last one rings, and opens nobody
            self.first.breaker.attempt().fail()

    def tick(self) -> None:
        self.first.tick()

    def moving_tick(self) -> None:
        self.first.breaker.force_open(fleet=True)
        self.first.tick()

    def probing_tick(self) -> None:
        self.first.breaker.open_for(1.0, fleet=True)
        self.flush(1)
        self.world.ms += 2000
        for _ in range(3):
            with suppress(CallNotPermittedError):  # which asks for a lease
                self.first.breaker.attempt().succeed()
            self.first.tick()

    def join(self) -> None:
        self.processes.append(Process(self.world, advisory=False))


STRIDES = {"flush": 17, "moving flush": 29, "probing flush": 211}
"""In the short form, every how many bytecodes they are interrupted; the others at each seventh."""

STEPS: dict[str, Callable[[Pair], None]] = {
    "control": Pair.control,
    "open_for": Pair.open_for,
    "fail": Pair.fail,
    "flush": Pair.tick,
    "moving flush": Pair.moving_tick,
    "probing flush": Pair.probing_tick,
    "join": Pair.join,
}


@pytest.mark.parametrize("step", STEPS)
def test_it_is_whole_afterwards(step: str) -> None:
    place, going_on, stride = 0, True, 1 if LONG else STRIDES.get(step, 7)
    while going_on:
        pair = Pair()
        going_on = interrupted(partial(STEPS[step], pair), place, *HIT, finalisers=False)
        pair.flush(8)
        assert pair.applied <= pair.settled, place
        epochs = {each.member.epoch for each in pair.processes}
        assert len(epochs) == 1, place
        pair.first.breaker.reset(fleet=True)
        pair.flush(3)
        assert {each.circuit.state for each in pair.processes} == {State.CLOSED}, place
        assert len({each.member.epoch for each in pair.processes}) == 1, place
        before = pair.applied
        pair.calls(4)
        pair.flush(3)
        assert pair.applied == before + 4 * len(pair.processes), place
        for process in pair.processes:
            states = [State.CLOSED, *(each.new_state for each in process.heard)]
            assert [each.old_state for each in process.heard] == states[:-1], place
        place += stride
    assert place > 20  # it was interrupted at all
    report(f"fleet, {step}", place // stride)
