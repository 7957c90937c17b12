"""`fleet.circuits()`: all circuits of all processes, over each store."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from fluxgate import CircuitBreaker, State
from fluxgate.fleet import Fleet, FleetCircuit, FleetProcess, StoreError
from fluxgate.fleet._circuits import circuit_of, process_of
from fluxgate.fleet.memory import MemoryStore
from fluxgate.fleet.store import Bucket, Counts, Report, View
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, FailureStreak, MinRequests
from fluxgate.windows import TimeWindow

from .conftest import PATIENCE, Fleets, eventually

SETTINGS: dict[str, Any] = {
    "window": TimeWindow(600.0),
    "tripper": MinRequests(10) & FailureRate(0.5),
    "retry": Cooldown(600.0),
    "permit": All(),
    "max_half_open_calls": 1,
}


def test_everything_that_a_page_needs(url: str) -> None:
    with Fleet(url) as fleet, Fleet(url) as other:
        assert fleet.circuits(PATIENCE) == []  # no breaker in this process, and none in any
        one = CircuitBreaker("pay/ments", fleet=other, **SETTINGS)
        quiet = CircuitBreaker("quiet", fleet=other, **SETTINGS)
        alone = CircuitBreaker("alone", fleet=other, **{**SETTINGS, "tripper": FailureStreak(2)})
        for each in (one, quiet, alone):
            each.call(int)
        one.attempt().fail()
        for _ in range(2):
            alone.attempt().fail()
        assert other.flush(PATIENCE)
        one.open_for(500.0, fleet=True)
        assert other.flush(PATIENCE)

        def found() -> dict[str, FleetCircuit]:
            return {circuit.name: circuit for circuit in fleet.circuits(PATIENCE)}

        eventually(lambda: found()["pay/ments"].processes)
        circuits = found()
        assert [*circuits] == ["alone", "pay/ments", "quiet"]

        opened = circuits["pay/ments"]
        (process,) = opened.processes
        assert (opened.state, opened.reopens, opened.author) == (State.OPEN, 0, process.process)
        assert opened.epoch > 0
        assert opened.retry_after is not None
        assert 400.0 < opened.retry_after <= 500.0
        assert opened.reason is not None
        assert opened.reason.clause == "open_for()"
        assert (process.state, process.calls, process.failures) == (State.OPEN, 2, 1)
        assert process.reason == "open_for()"
        assert 0.0 <= process.age < 10.0
        if not url.startswith("memory"):
            assert process.pid == os.getpid()
            assert process.host

        closed = circuits["quiet"]
        assert (closed.state, closed.epoch, closed.processes) == (State.CLOSED, 0, ())
        assert (closed.calls, closed.failures, closed.reporters) == (1, 0, 1)
        assert (closed.reason, closed.author, closed.retry_after) == (None, None, None)
        assert closed.reporter == process.process

        here = circuits["alone"]  # open in one process, closed in the fleet
        (its,) = here.processes
        assert (here.state, its.state, its.reason) == (
            State.CLOSED,
            State.OPEN,
            "FailureStreak(2)",
        )
        assert (here.calls, here.failures, here.witnesses) == (3, 2, 1)


def test_probes_of_a_half_open_circuit(url: str) -> None:
    with Fleet(url) as fleet:
        one = CircuitBreaker("x", fleet=fleet, **SETTINGS)
        one.open_for(0.001, fleet=True)
        held: list[Any] = []

        def probing() -> bool:
            try:
                held.append(one.attempt())
            except Exception:
                return False
            return True

        eventually(probing)
        (circuit,) = fleet.circuits(PATIENCE)
        assert (circuit.state, circuit.probes, circuit.calls) == (State.HALF_OPEN, 1, 0)
        held[0].fail()
        eventually(lambda: fleet.circuits(PATIENCE)[0].failures == 1)


def test_many_take_three_requests(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = fleets.make()
    kept = [CircuitBreaker(f"circuit {n}", fleet=fleet, **SETTINGS) for n in range(300)]
    for each in kept:
        each.call(int)
    assert fleet.flush(PATIENCE)
    asked: list[str] = []
    real = MemoryStore._reach

    def reach(self: MemoryStore) -> None:
        if threading.current_thread().name == "fluxgate-fleet-flusher":
            asked.append("")
        real(self)

    reader = fleets.make()
    assert len(reader.circuits(PATIENCE)) == 300
    fleet.close()
    monkeypatch.setattr(MemoryStore, "_reach", reach)
    assert len(reader.circuits(PATIENCE)) == 300
    assert len(asked) == 3


def test_the_store_is_down(fleets: Fleets) -> None:
    fleet = fleets.make()
    fleets.space.down = True
    with pytest.raises(StoreError, match="is down"):
        fleet.circuits(PATIENCE)
    fleets.space.down = False
    assert fleet.circuits(PATIENCE) == []
    fleet.close()
    with pytest.raises(StoreError, match="the fleet is closed"):
        fleet.circuits()


def test_a_store_that_takes_too_long(fleets: Fleets) -> None:
    fleet = fleets.make()
    fleets.space.delay = 0.5
    with pytest.raises(StoreError, match=r"has not answered within 0\.01 s"):
        fleet.circuits(0.01)
    fleets.space.delay = 0.0
    assert fleet.circuits(PATIENCE) == []


def test_in_an_async_application(fleets: Fleets) -> None:
    fleet = fleets.make()
    assert asyncio.run(asyncio.to_thread(fleet.circuits, PATIENCE)) == []  # type: ignore[arg-type]


def test_inside_a_listener(fleets: Fleets) -> None:
    """On the flusher's own thread it asks at once."""
    fleet, names = fleets.make(), list[str]()
    peer = CircuitBreaker("x", fleet=fleets.make(), **SETTINGS)
    one = CircuitBreaker(
        "x",
        fleet=fleet,
        listeners=[lambda _: names.extend(each.name for each in fleet.circuits(PATIENCE))],
        **SETTINGS,
    )
    assert fleet.flush(PATIENCE)
    peer.force_open(fleet=True)
    eventually(lambda: names == ["x"])
    assert one.state is State.FORCED_OPEN


# -- what is hostile or old


@pytest.mark.parametrize(
    ("text", "state", "reason"),
    [
        ("open 3/4 @1f FailureRate(0.5)", State.OPEN, "FailureRate(0.5)"),
        ("forced_open 3/4 force_open()", State.FORCED_OPEN, "force_open()"),
        ("half_open 3/4 ", State.HALF_OPEN, ""),
        ("ajar 3/4 x", None, "ajar 3/4 x"),
        (f"open {'9' * 99}/4 x", None, f"open {'9' * 99}/4 x"),
        ("\0\n", None, "\0\n"),
    ],
)
def test_whatever_a_process_reports(text: str, state: State | None, reason: str) -> None:
    process = process_of(Report("web-1:123:ab12", text, 1500))
    assert (process.state, process.reason, process.age) == (state, reason, 1.5)
    assert (process.calls, process.failures) == ((4, 3) if state else (0, 0))
    assert (process.host, process.pid) == ("web-1", 123)


@pytest.mark.parametrize("name", ["", "x", "x:y:z", f"x:{'9' * 99}:z", ":::"])
def test_whatever_a_process_is_called(name: str) -> None:
    process = process_of(Report(name, "open 1/1 x"))
    assert process == FleetProcess(name, "", None, State.OPEN, 1, 1, "x", 0.0)


def test_old_buckets_are_left_out() -> None:
    """Nobody has called for long, so the store still has them."""
    view = View(
        "x", known=True, tick=1000, buckets=(Bucket(900, Counts(5, 5)), Bucket(990, Counts(2, 1)))
    )
    circuit = circuit_of(view, [])
    assert (circuit.calls, circuit.failures) == (2, 1)
