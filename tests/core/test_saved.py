"""State that outlives the process: `info.save()`, `breaker.restore()`, and a registry's both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    ConfigError,
    Info,
    Reason,
    SavedInfo,
    State,
)
from fluxgate.fleet import Fleet
from fluxgate.metric import Metrics
from fluxgate.permits import All, RampUp
from fluxgate.registry import Registry
from fluxgate.retries import Backoff, Cooldown, Never
from fluxgate.testing import LoadedDice, ManualClock, RecordedSignals, tripped
from fluxgate.trippers import Closed, FailureStreak

HOUR = 3600.0
FRONTS = [CircuitBreaker, AsyncCircuitBreaker]


class Process:
    """A circuit of one process, with a monotonic clock of its own."""

    def __init__(self, start: float, **settings: Any) -> None:
        self.clock = ManualClock(start)
        self.signals = RecordedSignals()
        self.breaker = CircuitBreaker(
            "api",
            **{
                "tripper": FailureStreak(2),
                "retry": Cooldown(60.0),
                "permit": All(),
                "clock": self.clock,
                "listeners": [self.signals],
                **settings,
            },
        )

    @property
    def info(self) -> Info:
        return self.breaker.info()


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The wall clock, in hand."""
    clock = ManualClock(1_000_000.0)
    monkeypatch.setattr(time, "time", clock)
    return clock


def save_of(process: Process, **changes: Any) -> Any:
    """A save that went through JSON."""
    save = json.loads(json.dumps(process.info.save()))
    return {**save, **changes}


def opened(**settings: Any) -> Process:
    first = Process(5.0, **settings)
    tripped(first.breaker)
    return first


def test_the_shape_is_as_documented(wall: ManualClock) -> None:
    first = opened(error_messages=True)
    first.clock.advance(20.0)
    wall.advance(20.0)
    assert first.info.save() == {
        "fluxgate": 1,
        "name": "api",
        "state": "open",
        "elapsed": 20.0,
        "retry_after": 40.0,
        "reopens": 0,
        "last_trip": {
            "clause": "FailureStreak(2)",
            "measured": 2,
            "calls": 2,
            "window": "CountWindow(100)",
            "errors": [],
            "note": None,
            "by": None,
        },
        "saved_at": 1_000_020.0,
        "reverts_in": None,
        "note": None,
        "by": None,
    }
    assert set(SavedInfo.__annotations__) == set(first.info.save())


def test_messages_of_errors_stay_behind() -> None:
    first = Process(0.0, error_messages=True)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            first.breaker.call(_raise, ConnectionError("password"))
    assert "password" in repr(first.info.last_trip)
    assert "password" not in json.dumps(first.info.save())
    assert "ConnectionError" in json.dumps(first.info.save())


@pytest.mark.parametrize("given", ["dict", "text", "bytes", "info"])
@pytest.mark.parametrize("front", FRONTS)
def test_an_opening_goes_on(wall: ManualClock, front: type, given: str) -> None:
    """The process is gone for ten seconds; its successor's monotonic clock began elsewhere."""
    first = opened()
    first.clock.advance(20.0)
    wall.advance(20.0)
    info = first.info
    text = json.dumps(info.save())
    saved: dict[str, Any] = {
        "dict": info.save(),
        "text": text,
        "bytes": text.encode(),
        "info": info,
    }
    wall.advance(10.0)
    clock, signals = ManualClock(777.0), RecordedSignals()
    breaker = front("api", permit=All(), clock=clock, listeners=[signals])
    assert breaker.restore(saved[given]) is True
    second = breaker.info()
    assert (second.state, second.retry_after, second.reopens) == (State.OPEN, 30.0, 0)
    assert second.last_trip == info.last_trip
    assert second.since == info.since
    assert second.metrics.total_count == second.totals.settled == 0
    assert [(s.new_state, s.reason.clause) for s in signals] == [(State.OPEN, "restore()")]
    with pytest.raises(CallNotPermittedError, match=r"FailureStreak\(2\): 2") as refusal:
        breaker.attempt()
    assert refusal.value.retry_after == 30.0
    clock.advance(30.0)
    breaker.attempt().succeed()
    assert breaker.state is State.HALF_OPEN


@pytest.mark.usefixtures("wall")
def test_reopens_go_on_growing_the_delay() -> None:
    settings: dict[str, Any] = {"retry": Backoff(10.0), "tripper": Closed() & FailureStreak(2)}
    first = opened(**settings)
    for delay in (10.0, 20.0):
        first.clock.advance(delay)
        first.breaker.attempt().fail()
    assert (first.info.reopens, first.info.retry_after) == (2, 40.0)
    second = Process(0.0, **settings)
    assert second.breaker.restore(save_of(first))
    second.clock.advance(40.0)
    second.breaker.attempt().fail()
    assert (second.info.reopens, second.info.retry_after) == (3, 80.0)
    assert [signal.generation for signal in second.signals] == [1, 2, 3]


def test_a_cooldown_that_is_over_probes_at_once(wall: ManualClock) -> None:
    saved = save_of(opened())
    wall.advance(HOUR)
    second = Process(0.0)
    assert second.breaker.restore(saved)
    assert (second.info.state, second.info.retry_after) == (State.OPEN, 0.0)
    second.breaker.attempt()
    assert second.info.state is State.HALF_OPEN


def test_half_open_goes_on_with_its_ramp(wall: ManualClock) -> None:
    first = opened(permit=RampUp(0.1, 1.0, 60.0), dice=LoadedDice(0.9))
    first.clock.advance(60.0)
    wall.advance(60.0)
    with pytest.raises(CallNotPermittedError):
        first.breaker.attempt()
    assert first.info.state is State.HALF_OPEN
    wall.advance(1.0)
    first.clock.advance(1.0)
    saved = save_of(first)
    wall.advance(29.0)
    second = Process(0.0, permit=RampUp(0.1, 1.0, 60.0), dice=LoadedDice(0.5))
    assert second.breaker.restore(saved)
    assert (second.info.state, second.info.probes) == (State.HALF_OPEN, 0)
    assert second.info.last_trip == first.info.last_trip
    second.breaker.attempt().succeed()  # after 30 s the ramp admits 0.55


@pytest.mark.parametrize("state", ["forced_open", "disabled", "metrics_only"])
def test_what_was_set_by_hand(wall: ManualClock, state: str) -> None:
    first, second = Process(0.0), Process(0.0)
    {"forced_open": first.breaker.force_open, "disabled": first.breaker.disable}.get(
        state, first.breaker.metrics_only
    )()
    saved = save_of(first)
    wall.advance(24 * HOUR)
    assert second.breaker.restore(saved)
    assert second.info.state == state
    if state == "forced_open":
        with pytest.raises(CallNotPermittedError):
            second.breaker.attempt()
    else:
        assert second.breaker.call(int) == 0
    assert second.info.totals.successes == (state == "metrics_only")
    second.breaker.reset()
    assert second.info.state is State.CLOSED


def test_a_closed_circuit_hands_on_its_last_reason() -> None:
    first = opened()
    first.breaker.reset()
    second = Process(0.0)
    assert second.breaker.restore(save_of(first))
    assert second.info.state is State.CLOSED
    assert second.info.last_trip == first.info.last_trip
    assert list(second.signals) == []
    assert second.breaker.call(int) == 0


def test_a_deadline_that_nobody_knew() -> None:
    """`Never` has none; a circuit whose own retry has one takes that, or it would stay for ever."""
    saved = save_of(opened(retry=Never()))
    assert saved["retry_after"] is None
    never, sixty = Process(0.0, retry=Never()), Process(0.0)
    assert never.breaker.restore(saved)
    assert sixty.breaker.restore(saved)
    assert never.info.retry_after is None
    assert sixty.info.retry_after == 60.0
    growing = Process(0.0, retry=Backoff(10.0))
    assert growing.breaker.restore({**saved, "reopens": 2})
    assert growing.info.retry_after == 40.0


@pytest.mark.usefixtures("wall")
def test_a_save_from_the_future() -> None:
    """A clock was set back: nothing is refused for longer than it was to be."""
    saved = save_of(opened(), saved_at=1_000_000.0 + 24 * HOUR)
    second = Process(0.0)
    assert second.breaker.restore(saved)
    assert second.info.retry_after == 60.0


def test_a_clock_that_was_wrong(wall: ManualClock) -> None:
    """What goes on from a save of 1970 can be saved and restored in its turn."""
    second = Process(0.0)
    assert second.breaker.restore(save_of(opened(), saved_at=5.0))
    wall.advance(2e9)
    second.clock.advance(2e9)
    saved = json.dumps(second.info.save())
    assert Process(0.0).breaker.restore(saved)
    assert json.loads(saved)["elapsed"] == 1e9


class Odd(FailureStreak):
    """A tripper of a user's that measures what is no number."""

    def explain(self, metrics: Metrics) -> Reason:
        return Reason("Odd", measured=float("nan"))


def test_a_reason_without_a_number() -> None:
    odd = Process(0.0, tripper=Odd(1))
    odd.breaker.attempt().fail()
    saved = json.dumps(odd.info.save(), allow_nan=False)
    assert Process(0.0).breaker.restore(saved)


def test_a_save_that_is_too_old(wall: ManualClock) -> None:
    saved = save_of(opened())
    wall.advance(HOUR)
    second = Process(0.0)
    assert not second.breaker.restore(saved, max_age=HOUR - 1)
    assert second.info.state is State.CLOSED
    assert second.breaker.restore(saved, max_age=HOUR)
    for wrong, error in ((0, ValueError), (float("nan"), ValueError), ("1", TypeError)):
        with pytest.raises(error, match="max_age"):
            second.breaker.restore(saved, max_age=wrong)  # type: ignore[arg-type]


def test_what_has_moved_is_newer() -> None:
    saved = save_of(opened())
    moved = Process(0.0)
    moved.breaker.force_open()
    moved.breaker.reset()
    assert not moved.breaker.restore(saved)
    by_hand = Process(0.0, initial_state=State.METRICS_ONLY)
    assert not by_hand.breaker.restore(saved)
    assert by_hand.info.state is State.METRICS_ONLY
    twice = Process(0.0)
    assert twice.breaker.restore(saved)
    assert not twice.breaker.restore(saved)
    called = Process(0.0)
    called.breaker.call(int)  # calls are no moves
    assert called.breaker.restore(saved)


def test_in_a_fleet_the_store_knows_better() -> None:
    with Fleet("memory://") as fleet:
        breaker = CircuitBreaker("saved-in-fleet", fleet=fleet)
        first = CircuitBreaker("saved-in-fleet")
        first.force_open()
        assert not breaker.restore(first.info())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "other"}, "saved.name: it is the save of 'other', and this circuit is 'api'"),
        ({"fluxgate": 2}, "saved.fluxgate: saved in the shape 2, and this Fluxgate reads 1"),
        ({"fluxgate": True}, "saved: it has no number in 'fluxgate'"),
        ({"state": "opne"}, r"saved.state: 'opne' is not one of .*; did you mean 'open'\?"),
        ({"state": 5}, "saved.state: 5 is not one of"),
        ({"elapsed": -1.0}, "saved.elapsed: -1.0 is not seconds"),
        ({"elapsed": None}, "saved.elapsed: None is not seconds"),
        ({"retry_after": float("nan")}, "saved.retry_after: nan is not seconds, or null"),
        ({"retry_after": 1e10}, "saved.retry_after: .* is not seconds, or null"),
        ({"reopens": -1}, "saved.reopens: -1 is not a whole number"),
        ({"reopens": 1.5}, "saved.reopens: 1.5 is not a whole number"),
        ({"elapsed": 10**400}, "saved.elapsed: 1000.* is not seconds"),
        ({"reopens": 10**400}, "saved.reopens: 1000.* is not a whole number"),
        ({"saved_at": "now"}, "saved.saved_at: 'now' is not seconds since the epoch"),
        ({"saved_at": float("inf")}, "saved.saved_at: inf is not seconds"),
        ({"saved_at": 10**400}, "saved.saved_at: 1000.* is not seconds"),
        ({"last_trip": []}, "saved.last_trip: .* is not a reason"),
        ({"last_trip": {"clause": 5}}, "5 fields of a save can't be used"),
        ({"last_trip": None, "reopens": None, "state": None}, "2 fields of a save"),
    ],
)
def test_fields_that_are_wrong(changes: dict[str, Any], message: str) -> None:
    second = Process(0.0)
    with pytest.raises(ConfigError, match=message):
        second.breaker.restore(save_of(opened(), **changes))
    assert second.info.state is State.CLOSED


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ("", "saved: it is no JSON"),
        ("[" * 100_000, "saved: it is no JSON"),
        (b"\xff", "saved: it is no JSON"),
        ("[]", r"saved: \[\] is no save: info.save\(\) makes one"),
        (5, "saved: 5 is no save"),
        ({}, "saved: it has no number in 'fluxgate'"),
        ({"fluxgate": 1}, "7 fields of a save can't be used:\n  saved.name: it is missing"),
    ],
    ids=["empty", "deep", "bytes", "list", "number", "foreign", "bare"],
)
def test_what_is_no_save(saved: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Process(0.0).breaker.restore(saved)


def test_unknown_fields_are_left_alone() -> None:
    assert Process(0.0).breaker.restore(save_of(opened(), added="later"))


def test_a_registry_all_at_once(wall: ManualClock) -> None:
    def circuits() -> Registry:
        return Registry(tripper=FailureStreak(2), retry=Cooldown(60.0))

    first = circuits()
    tripped(first["open"])
    first["off"].disable()
    first["closed"].call(int)
    text = json.dumps(first.save())
    assert set(json.loads(text)) == {"open", "off"}
    wall.advance(10.0)
    second = circuits()
    there = second["open"]
    assert second.restore(text) == ["open"]
    assert there.info().retry_after == pytest.approx(50.0, abs=1.0)
    assert second.asynchronous["off"].state is State.DISABLED  # made by now
    assert second["closed"].state is State.CLOSED
    assert second.restore(first.save(), max_age=5.0) == []
    assert second.restore({}) == []


def test_a_registry_evicts_none_that_was_restored() -> None:
    first = Registry()
    first["off"].force_open()
    second = Registry(max_circuits=2)
    second.restore(first.save())
    assert second["off"].state is State.FORCED_OPEN
    for number in range(10):
        second[str(number)].call(int)
    assert second["off"].state is State.FORCED_OPEN


def test_a_registry_names_every_mistake() -> None:
    first = Registry()
    first["a"].disable()
    first["b"].disable()
    saves: Any = first.save()
    saves["a"]["state"] = "of"
    saves["b"]["name"] = "c"
    second = Registry()
    with pytest.raises(ConfigError, match="2 saves can't be used") as caught:
        second.restore(saves)
    assert "saved['a'].state: 'of' is not one of" in str(caught.value)
    assert "saved['b'].name: it is the save of 'c'" in str(caught.value)
    assert second["a"].state is second["b"].state is State.CLOSED
    with pytest.raises(ConfigError, match=r"5 is no mapping: registry.save\(\) makes one"):
        second.restore(5)  # type: ignore[arg-type]


def test_threads_that_restore_at_once() -> None:
    saved, second = save_of(opened()), Process(0.0)
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(second.breaker.restore(saved)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]
    assert len(second.signals) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform can't fork")
@pytest.mark.filterwarnings(r"ignore:.*multi-threaded.*fork\(\):DeprecationWarning")
def test_in_a_worker_after_the_fork() -> None:
    """A server that has made its circuits before it forks may restore them in each worker."""
    saved, second = save_of(opened()), Process(0.0)
    child = os.fork()
    if not child:
        os._exit(0 if second.breaker.restore(saved) and second.info.retry_after else 1)
    assert os.waitpid(child, 0)[1] == 0


PROCESS = """
import sys, time
from fluxgate import CircuitBreaker, State
from fluxgate.fleet import Fleet

fleet = Fleet(sys.argv[1])
breaker = CircuitBreaker("api", fleet=fleet)
if sys.argv[2] == "first":
    breaker.force_open(fleet=True)
for _ in range(500):
    if breaker.info().fleet.attached and breaker.state is State.FORCED_OPEN:
        break
    time.sleep(0.02)
print(breaker.state, flush=True)
fleet.close()
"""


def test_a_file_of_a_fleet_outlives_its_processes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    for which in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, url, which],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.stdout.strip(), done.stderr) == ("forced_open", "")


def _raise(error: BaseException) -> Any:
    raise error
