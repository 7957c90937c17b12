"""Which processes there are in a fleet, and circuits that are set without a breaker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, ConfigError, Origin, Signal, State
from fluxgate.fleet import Fleet, FleetCircuit, StoreError
from fluxgate.fleet._by_hand import checked, move_of
from fluxgate.fleet._circuits import circuit_of, process_of
from fluxgate.fleet._presence import ABSENT, NAME
from fluxgate.fleet.memory import Space
from fluxgate.fleet.store import Bucket, Counts, Report, View, circuits_in
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, MinRequests
from fluxgate.windows import TimeWindow

from .conftest import PATIENCE, Fleets, eventually

SETTINGS: dict[str, Any] = {
    "window": TimeWindow(60.0),
    "tripper": MinRequests(10) & FailureRate(0.5),
    "retry": Cooldown(600.0),
}


def test_who_has_a_breaker_is_there(url: str) -> None:
    with Fleet(url) as looking, Fleet(url) as other:
        assert looking.processes(PATIENCE) == []
        breaker = CircuitBreaker("x", fleet=other)
        eventually(lambda: looking.processes(PATIENCE))
        (process,) = looking.processes(PATIENCE)
        assert not process.absent
        assert process.age < ABSENT
        if not url.startswith("memory"):
            assert process.pid == os.getpid()
        assert looking.circuits(PATIENCE) == []  # it is no circuit
        breaker.call(int)
        other.flush(PATIENCE)
        assert [circuit.name for circuit in looking.circuits(PATIENCE)] == ["x"]


def test_who_ends_in_order_is_gone(url: str) -> None:
    with Fleet(url) as looking:
        with Fleet(url) as other:
            breaker = CircuitBreaker("x", fleet=other)
            eventually(lambda: looking.processes(PATIENCE))
        assert looking.processes(PATIENCE) == []
        assert breaker.state is State.CLOSED


def test_who_withdraws_may_come_back(url: str) -> None:
    with Fleet(url) as looking, Fleet(url) as other:
        other.withdraw()  # it has no circuit, and no thread
        breaker = CircuitBreaker("x", fleet=other)
        breaker.call(int)
        eventually(lambda: looking.processes(PATIENCE))
        other.withdraw(PATIENCE)
        assert looking.processes(PATIENCE) == []
        assert other.flush(PATIENCE)  # a flush alone doesn't bring it back
        assert looking.processes(PATIENCE) == []
        (circuit,) = looking.circuits(PATIENCE)
        assert circuit.calls == 1
        breaker.call(int)
        eventually(lambda: other.flush(PATIENCE) and looking.processes(PATIENCE))
    other.withdraw()  # it is closed


def test_who_goes_silent_is_absent(fleets: Fleets) -> None:
    dead, looking = fleets.make(), fleets.make()
    breaker = CircuitBreaker("x", fleet=dead)
    eventually(lambda: looking.processes(PATIENCE))
    dead._flusher._presence._left = True  # as if it were killed: no more reports, no farewell
    now = time.time_ns() // 1_000_000
    fleets.space.clock = lambda: now + round(ABSENT * 1000) + 1
    (process,) = looking.processes(PATIENCE)
    assert process.absent
    assert process.age >= ABSENT
    fleets.space.clock = lambda: now + 700_000
    assert looking.processes(PATIENCE) == []
    del breaker


CHILD = """
import sys, time
from fluxgate import CircuitBreaker
from fluxgate.fleet import Fleet
fleet = Fleet(sys.argv[1])
breaker = CircuitBreaker("x", fleet=fleet)
breaker.call(int)
fleet.flush(30.0)
while not fleet.processes(30.0):
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(600)
"""


def test_a_killed_process_says_no_farewell(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/fleet.db"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, url], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.kill()
    with Fleet(url) as looking:
        (process,) = looking.processes(PATIENCE)
        assert process.pid == child.pid


def test_a_parent_is_there_once_it_is_called(fleets: Fleets) -> None:
    """Of a server that forks its workers, the first process serves nobody."""
    parent, looking = fleets.make(), fleets.make()
    parent._flusher._presence.forked = True
    breaker = CircuitBreaker("x", fleet=parent)
    assert parent.flush(PATIENCE)
    assert looking.processes(PATIENCE) == []
    breaker.call(int)
    eventually(lambda: parent.flush(PATIENCE) and looking.processes(PATIENCE))


def test_calls_while_loading_serve_nobody(fleets: Fleets) -> None:
    """They were before the fork. Once called after it, a process stays, whatever it forks."""
    parent, looking = fleets.make(), fleets.make()
    breaker = CircuitBreaker("x", fleet=parent)
    breaker.call(int)
    gone = CircuitBreaker("y", fleet=parent)
    for _ in range(3):
        gone.call(int)
    eventually(lambda: parent.flush(PATIENCE) and looking.processes(PATIENCE))
    presence = parent._flusher._presence
    presence.forked = True
    eventually(lambda: parent.flush(PATIENCE) and not looking.processes(PATIENCE))
    del gone
    assert parent.flush(PATIENCE)
    assert looking.processes(PATIENCE) == []
    breaker.call(int)  # there are fewer in all than at the fork
    eventually(lambda: parent.flush(PATIENCE) and looking.processes(PATIENCE))
    presence.forked = True
    assert parent.flush(PATIENCE)
    assert looking.processes(PATIENCE)


PRELOADED = """
import os, sys, time
from fluxgate import CircuitBreaker
from fluxgate.fleet import Fleet
fleet = Fleet(sys.argv[1])
breaker = CircuitBreaker("x", fleet=fleet)
breaker.call(int)  # as a check while the application is loaded
while not fleet.processes(30.0):  # loading takes its time
    time.sleep(0.01)
print(os.getpid(), flush=True)
child = os.fork()
if not child:
    breaker.call(int)
    while os.getpid() not in [each.pid for each in fleet.processes(30.0)]:
        time.sleep(0.01)
    print(os.getpid(), flush=True)
    time.sleep(600)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform can't fork")
def test_a_parent_that_was_there_is_gone(url: str) -> None:
    """Of `gunicorn --preload`: it has said that it is there before it forked its workers."""
    if url.startswith("memory"):
        pytest.skip("a store of one process")
    command = [sys.executable, "-W", "ignore", "-c", PRELOADED, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) == parent.pid
        child = int(parent.stdout.readline())
        try:
            with Fleet(url) as looking:
                eventually(lambda: [each.pid for each in looking.processes(PATIENCE)] == [child])
        finally:
            os.kill(child, signal.SIGKILL)
            parent.kill()


def test_reserved_names_are_hidden(url: str) -> None:
    with Fleet(url) as fleet, Fleet(url) as other:
        breaker = CircuitBreaker("x", fleet=other)
        breaker.call(int)
        eventually(lambda: fleet.processes(PATIENCE))
        store = fleet._open_again()
        assert NAME in store.scan()
        assert NAME not in circuits_in(store)
        store.close()


def test_a_reserved_name_joins_no_fleet(fleets: Fleets, caplog: pytest.LogCaptureFixture) -> None:
    fleet = fleets.make()
    breaker = CircuitBreaker(name=NAME, fleet=fleet)
    assert breaker.call(str, 1) == "1"
    assert breaker.info().fleet is None
    assert fleet.circuits(PATIENCE) == []
    assert "names that begin with NUL are the fleet's own" in caplog.text
    with pytest.raises(ConfigError, match="the name of a circuit"):
        fleet.control(NAME, "disable")


# -- set without a breaker


def controlled(fleet: Fleet, action: str, **words: Any) -> FleetCircuit:
    return fleet.control("pay", action, timeout=PATIENCE, **words)


def test_every_process_follows(url: str) -> None:
    with Fleet(url) as page, Fleet(url) as one, Fleet(url) as two:
        breakers = [CircuitBreaker("pay", fleet=each) for each in (one, two)]
        for each in breakers:
            each.call(int)

        def all_in(state: State) -> None:
            eventually(lambda: all(each.state is state for each in breakers))

        circuit = controlled(page, "force_open", seconds=600.0, note="drill", by="ann")
        assert circuit.state is State.FORCED_OPEN
        assert circuit.reason is not None
        assert (circuit.reason.note, circuit.reason.by) == ("drill", "ann")
        all_in(State.FORCED_OPEN)
        reason = breakers[0].info().reason
        assert reason is not None
        assert (reason.clause, reason.note, reason.by) == ("force_open()", "drill", "ann")
        assert controlled(page, "reset").state is State.CLOSED
        all_in(State.CLOSED)
        assert controlled(page, "disable").state is State.DISABLED
        all_in(State.DISABLED)
        assert controlled(page, "metrics_only").reverts_in is None
        all_in(State.METRICS_ONLY)
        controlled(page, "reset")
        opened = controlled(page, "open_for", seconds=500.0)
        assert opened.state is State.OPEN
        assert opened.retry_after is not None
        assert 490.0 < opened.retry_after <= 500.0
        all_in(State.OPEN)


def test_set_before_a_breaker_is_made(url: str) -> None:
    """Who has waited for a flush lets nobody through."""
    with Fleet(url) as console, Fleet(url) as fleet:
        console.control("x", "force_open", timeout=PATIENCE)
        breaker = CircuitBreaker("x", fleet=fleet)
        assert fleet.flush(PATIENCE)
        assert breaker.state is State.FORCED_OPEN
        assert breaker.info().totals.settled == 0
        with pytest.raises(CallNotPermittedError):
            breaker.call(int)


def test_calls_before_the_first_answer(fleets: Fleets) -> None:
    """They pass, since none waits for the store; none that comes after it does."""
    console, fleet = fleets.make(), fleets.make()
    console.control("x", "force_open", timeout=PATIENCE)
    with fleets.space.changed:  # the store answers nobody
        breaker = CircuitBreaker("x", fleet=fleet)
        for _ in range(3):
            breaker.call(int)
        assert breaker.state is State.CLOSED
    assert fleet.flush(PATIENCE)
    with pytest.raises(CallNotPermittedError):
        breaker.call(int)
    assert breaker.info().totals.settled == 3


def test_the_process_that_sets_it_obeys_at_once(fleets: Fleets) -> None:
    page, other = fleets.make(), fleets.make()
    here, there = CircuitBreaker("pay", fleet=page), CircuitBreaker("pay", fleet=other)
    fleets.flush()
    heard: list[Signal] = []
    here.listen(heard.append)
    there.listen(heard.append)
    controlled(page, "force_open")
    assert here.state is State.FORCED_OPEN
    eventually(lambda: there.state is State.FORCED_OPEN)
    assert sorted(signal.origin for signal in heard) == [Origin.FLEET, Origin.PEER]


def test_it_overtakes_one_that_waits(fleets: Fleets) -> None:
    """A control that could not reach the store yet is older than one that now does."""
    page = fleets.make()
    here = CircuitBreaker("pay", fleet=page)
    fleets.flush()
    fleets.space.down = True
    here.disable(fleet=True)
    with pytest.raises(StoreError):
        controlled(page, "force_open")
    fleets.space.down = False
    controlled(page, "force_open")
    fleets.flush()
    assert here.state is State.FORCED_OPEN
    assert page.circuits(PATIENCE)[0].state is State.FORCED_OPEN


def view(state: State, remaining: int | None) -> View:
    return View("x", known=True, epoch=5, state=state, remaining=remaining)


@pytest.mark.parametrize(
    ("state", "remaining", "moves"),
    [
        (State.CLOSED, None, True),
        (State.HALF_OPEN, None, True),
        (State.OPEN, 9_000, True),
        (State.OPEN, 10_000, False),
        (State.OPEN, None, False),
        (State.DISABLED, None, False),
        (State.FORCED_OPEN, 1, False),
    ],
)
def test_an_opening_is_never_shortened(state: State, remaining: int | None, moves: bool) -> None:
    move = move_of(view(state, remaining), *checked("open_for", seconds=10.0))
    assert (move is not None) == moves
    if move is not None:
        assert (move.expected, move.state, move.remaining) == (5, State.OPEN, 10_000)


@pytest.mark.parametrize(
    ("name", "action", "words", "message"),
    [
        ("", "reset", {}, "name must be"),
        ("x", "open", {}, "action must be one of"),
        ("x", "rest", {}, "did you mean 'reset'"),
        ("x", "open_for", {}, "seconds is missing"),
        ("x", "reset", {"seconds": 1.0}, "every control but reset"),
        ("x", "disable", {"seconds": 0}, "seconds must be above 0"),
        ("x", "disable", {"note": " "}, "note is empty"),
        ("x", "disable", {"by": 1}, "by must be text"),
    ],
)
def test_arguments_that_can_not_be_used(
    fleets: Fleets, name: str, action: str, words: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fleets.make().control(name, action, **words)


def test_a_store_that_is_down_is_said(fleets: Fleets) -> None:
    fleet = fleets.make()
    fleets.space.down = True
    with pytest.raises(StoreError):
        fleet.control("x", "reset")
    with pytest.raises(StoreError):
        fleet.processes()


# -- what a circuit of the fleet says beside


def test_refusals_are_reported() -> None:
    found = process_of(Report("host:12:ab", "open 3/4/9 @1f FailureRate(0.5)", 500))
    assert (found.failures, found.calls, found.refused) == (3, 4, 9)
    assert found.reason == "FailureRate(0.5)"
    older = process_of(Report("host:12:ab", "open 3/4 FailureRate(0.5)", 500))
    assert (older.calls, older.refused) == (4, None)
    assert (
        (found.state_age, found.retry_after) == (older.state_age, older.retry_after) == (None, None)
    )
    unreadable = process_of(Report("host:12:ab", "opened 3/4/9", 500))
    assert (unreadable.state, unreadable.refused) == (None, None)


def test_times_are_reported() -> None:
    """As of the report, so the report's own age is added."""
    found = process_of(Report("host:12:ab", "open 3/4/9/35/2 @1f FailureRate(0.5)", 500))
    assert (found.refused, found.state_age, found.retry_after) == (9, 35.5, 1.5)
    assert found.reason == "FailureRate(0.5)"
    late = process_of(Report("host:12:ab", "open 3/4/9/35/2 FailureRate(0.5)", 9_000))
    assert (late.state_age, late.retry_after) == (44.0, 0.0)
    half_open = process_of(Report("host:12:ab", "half_open 3/4/9/35 cooldown over"))
    assert (half_open.state_age, half_open.retry_after) == (35.0, None)
    assert half_open.reason == "cooldown over"


def test_refusals_are_counted_while_open(fleets: Fleets) -> None:
    fleet = fleets.make()
    breaker = CircuitBreaker("x", fleet=fleet, **SETTINGS)
    breaker.call(int)
    breaker.force_open(fleet=True)
    for _ in range(7):
        with pytest.raises(Exception, match="forced open"):
            breaker.call(int)
    eventually(
        lambda: [each.refused for c in fleet.circuits(PATIENCE) for each in c.processes] == [7]
    )


@pytest.mark.parametrize(
    ("label", "buckets", "rate"),
    [
        ("1", {}, 0.0),
        ("1", {100: 999}, 0.0),  # the current second is not over
        ("1", {99: 6, 98: 4}, 5.0),
        ("1", {99: 10}, 5.0),
        ("1", dict.fromkeys(range(80, 101), 7), 7.0),
        ("10", {99: 50, 98: 999}, 5.0),
    ],
)
def test_the_rate_is_of_whole_seconds(label: str, buckets: dict[int, int], rate: float) -> None:
    counted = tuple(Bucket(tick, Counts(calls)) for tick, calls in sorted(buckets.items()))
    found = circuit_of(View("x", known=True, tick=100, label=label, buckets=counted), [])
    assert found.rate == rate


def test_the_age_is_that_of_the_last_move(fleets: Fleets) -> None:
    fleet = fleets.make()
    breaker = CircuitBreaker("x", fleet=fleet)
    breaker.call(int)
    fleets.flush()
    assert fleet.circuits(PATIENCE)[0].age is None
    breaker.force_open(fleet=True)
    fleets.flush()
    now = Space.named(fleets.url.removeprefix("memory://")).clock()
    fleets.space.clock = lambda: now + 5_000
    age = fleet.circuits(PATIENCE)[0].age
    assert age is not None
    assert 3.0 <= age <= 60.0


def test_an_epoch_ahead_of_the_clock_has_no_age() -> None:
    """As after another boot, of which a file's clock knows nothing."""
    found = circuit_of(View("x", known=True, epoch=500_000, tick=100, label="1"), [])
    assert found.age is None


def test_slow_calls_are_by_threshold() -> None:
    counts = Counts(10, 1, 1000, (4, 2))
    shown = circuit_of(
        View("x", known=True, tick=5, label="1.500000.2000000", buckets=(Bucket(5, counts),)), []
    )
    assert shown.slow_counts == {0.5: 4, 2.0: 2}
