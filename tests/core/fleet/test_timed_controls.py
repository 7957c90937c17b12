"""Controls of a whole fleet that say who, why and for how long."""

from __future__ import annotations

import contextlib
import json

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, Origin, Reason, Signal, State
from fluxgate.cli import main
from fluxgate.fleet import Fleet
from fluxgate.fleet._reverts import Next, after_control, read_next, successor
from fluxgate.fleet._verdict import read_reason, write_reason
from fluxgate.fleet.memory import MemoryStore
from fluxgate.fleet.store import LETTERS, MAX_REASON, Move, View
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureStreak

from .conftest import PATIENCE, Fleets, eventually

CONTROLS = {
    "force_open": State.FORCED_OPEN,
    "disable": State.DISABLED,
    "metrics_only": State.METRICS_ONLY,
}
AFTER = {
    "force_open": State.HALF_OPEN,
    "disable": State.CLOSED,
    "metrics_only": State.CLOSED,
}


class Process:
    """A breaker in a fleet of its own connection, and its signals."""

    def __init__(self, fleet: Fleet) -> None:
        self.signals: list[Signal] = []
        self.breaker = CircuitBreaker(
            "x",
            fleet=fleet,
            listeners=[self.signals.append],
            tripper=FailureStreak(2),
            retry=Cooldown(600.0),
            permit=All(),
        )
        assert fleet.flush(PATIENCE)

    @property
    def state(self) -> State:
        """As its listener has heard, which is a moment after it has changed."""
        return self.signals[-1].new_state if self.signals else State.CLOSED

    def calls(self) -> None:
        with contextlib.suppress(CallNotPermittedError):
            self.breaker.attempt().ignore()  # a probe that decides nothing

    @property
    def epoch(self) -> int:
        view = self.breaker.info().fleet
        assert view is not None
        return view.epoch


def processes(fleets: Fleets, count: int = 3) -> list[Process]:
    return [Process(fleets.make()) for _ in range(count)]


@pytest.mark.parametrize("control", CONTROLS)
def test_peers_know_who(fleets: Fleets, control: str) -> None:
    """Who, why, and what is left of the time."""
    first, *others = processes(fleets)
    getattr(first.breaker, control)(seconds=600, note="drill", by="alice", fleet=True)
    eventually(lambda: all(each.state is CONTROLS[control] for each in others))
    for each in others:
        (signal,) = each.signals
        assert signal.origin is Origin.PEER
        assert str(signal.reason) == f"{control}(): 600 s, by alice: drill"
        info = each.breaker.info()
        assert info.reason == signal.reason
        assert info.reverts_in is not None
        assert 500 < info.reverts_in <= 600
    if control == "force_open":
        with pytest.raises(CallNotPermittedError, match="by alice: drill") as caught:
            others[0].breaker.call(int)
        assert caught.value.retry_after is not None
        assert 500 < caught.value.retry_after <= 600


@pytest.mark.parametrize("control", ["reset", "open_for"])
def test_the_others_say_who_too(fleets: Fleets, control: str) -> None:
    first, second = processes(fleets, 2)
    if control == "reset":
        first.breaker.force_open(fleet=True)
        eventually(lambda: second.state is State.FORCED_OPEN)
        first.breaker.reset(note="over", by="alice", fleet=True)
        eventually(lambda: second.state is State.CLOSED)
        assert str(second.signals[-1].reason) == "reset(), by alice: over"
    else:
        first.breaker.open_for(600, note="told so", by="alice", fleet=True)
        eventually(lambda: second.state is State.OPEN)
        assert str(second.signals[-1].reason) == "open_for(): 600 s, by alice: told so"


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("traffic", [True, False], ids=["traffic", "idle"])
def test_all_end_it_once(fleets: Fleets, control: str, traffic: bool) -> None:
    """One epoch more, one signal a process, with calls and without."""
    each = processes(fleets)
    getattr(each[0].breaker, control)(seconds=0.4, by="alice", fleet=True)
    eventually(lambda: all(len(one.signals) == 1 for one in each))
    began = {one.epoch for one in each}

    def over() -> bool:
        for one in each if traffic else ():
            one.calls()
        return all(len(one.signals) >= 2 for one in each)

    eventually(over)
    for one in each:
        assert [str(signal.new_state) for signal in one.signals[:2]] == [
            str(CONTROLS[control]),
            str(AFTER[control]),
        ]
        assert str(one.signals[1].reason) == f"{control}() over, by alice"
        assert one.signals[1].origin is not Origin.LOCAL
    assert sum(one.signals[1].origin is Origin.FLEET for one in each) == 1
    if not traffic:
        fleets.flush()
        ended = {one.epoch for one in each}
        assert len(ended) == 1
        assert ended > began or min(ended) > min(began)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_hand_here_alone(fleets: Fleets, control: str, before: bool) -> None:
    """Its time over, the circuit is the fleet's again: open, and with no probes of its own."""
    first, second = processes(fleets, 2)
    if before:
        getattr(second.breaker, control)(seconds=0.3)
    first.breaker.open_for(600, fleet=True)
    eventually(lambda: second.epoch == first.epoch > 0)
    if not before:
        getattr(second.breaker, control)(seconds=0.3)
    assert second.state in (CONTROLS[control], State.OPEN)

    def is_the_fleets() -> bool:
        second.calls()
        second.breaker.info()  # an ignored call ends no metrics_only()
        circuit = second.breaker._circuit
        return circuit.fleet is not None and circuit.fleet.owns() and circuit.state is State.OPEN

    eventually(is_the_fleets)
    moves = [str(signal.new_state) for signal in second.signals]
    assert "half_open" not in moves  # not even for a moment
    assert first.state is State.OPEN


def test_an_opening_stands_again(fleets: Fleets) -> None:
    first, second = processes(fleets, 2)
    first.breaker.open_for(600, by="bob", fleet=True)
    eventually(lambda: second.state is State.OPEN)
    first.breaker.disable(seconds=0.3, by="alice", fleet=True)
    eventually(lambda: len(first.signals) == len(second.signals) == 3)
    for each in (first, second):
        assert [signal.new_state for signal in each.signals[1:]] == [State.DISABLED, State.OPEN]
        left = each.breaker.info().retry_after
        assert left is not None
        assert 500 < left < 600


def test_a_hand_for_good_stands_again(fleets: Fleets) -> None:
    first, second = processes(fleets, 2)
    first.breaker.force_open(by="bob", fleet=True)
    eventually(lambda: second.state is State.FORCED_OPEN)
    second.breaker.metrics_only(seconds=0.3, by="alice", fleet=True)
    eventually(lambda: len(first.signals) == len(second.signals) == 3)
    for each in (first, second):
        assert each.state is State.FORCED_OPEN
        assert each.breaker.info().reverts_in is None


@pytest.mark.parametrize("control", CONTROLS)
def test_it_ends_without_a_store(fleets: Fleets, control: str) -> None:
    """A process that has lost the store ends it by itself."""
    first, second = processes(fleets, 2)
    getattr(first.breaker, control)(seconds=0.5, fleet=True)
    eventually(lambda: second.state is CONTROLS[control])
    fleets.made[1].close()
    eventually(lambda: second.breaker.info().state is AFTER[control])
    assert len(second.signals) == 2


@pytest.mark.parametrize("control", CONTROLS)
def test_set_while_the_store_is_gone(fleets: Fleets, control: str) -> None:
    first, second = processes(fleets, 2)
    fleets.space.down = True
    eventually(lambda: not fleets.made[0].status().attached)
    getattr(first.breaker, control)(seconds=600, by="alice", fleet=True)
    assert first.state is CONTROLS[control]
    fleets.space.down = False
    eventually(lambda: second.state is CONTROLS[control])
    assert second.breaker.info().reason == first.breaker.info().reason
    assert len(first.signals) == 1


def test_over_before_the_store_is_back(fleets: Fleets) -> None:
    first, second = processes(fleets, 2)
    fleets.space.down = True
    eventually(lambda: not fleets.made[0].status().attached)
    first.breaker.disable(seconds=0.1, fleet=True)
    eventually(lambda: first.breaker.info().state is State.CLOSED)
    fleets.space.down = False
    fleets.flush()
    eventually(lambda: fleets.made[0].status().attached)
    fleets.flush()
    assert second.signals == []
    assert first.state is State.CLOSED


def test_a_newcomer_knows_it(fleets: Fleets) -> None:
    (first,) = processes(fleets, 1)
    first.breaker.force_open(seconds=600, by="alice", fleet=True)
    fleets.flush()
    late = Process(fleets.make())
    eventually(lambda: late.state is State.FORCED_OPEN)
    info = late.breaker.info()
    assert info.reverts_in is not None
    assert info.reason is not None
    assert info.reason.by == "alice"


# -- what travels


@pytest.mark.parametrize(
    "reason",
    [
        Reason("force_open()", 900.0, note="n" * 200, by="b" * 64),
        Reason("disable()", note="정기 점검"),
        Reason("reset()", by="alice"),
        Reason("FailureRate(0.5)", 0.62, 100, "CountWindow(100)"),
        Reason("a"),
    ],
    ids=["long", "note", "by", "measured", "clause"],
)
def test_a_reason_travels(reason: Reason) -> None:
    written = write_reason(reason, Next(State.OPEN, 5000))
    assert len(written) <= MAX_REASON
    assert read_reason(written) == reason
    assert read_next(View("x", state=State.DISABLED, reason=written)) == Next(State.OPEN, 5000)


@pytest.mark.parametrize("stored", ["", "\t" * 20, "a\tb\tc\td\tO99999999999999999\t\x00\t\x1b"])
def test_whatever_is_stored(stored: str) -> None:
    """Anybody may have written to the store: what is shown is printable, and has an end."""
    assert str(read_reason(stored)).isprintable()
    view = View("x", state=State.FORCED_OPEN, remaining=0, reason=stored)
    assert successor(view).state in (State.HALF_OPEN, State.OPEN)


@pytest.mark.parametrize("state", CONTROLS.values())
@pytest.mark.parametrize(
    ("view", "then"),
    [
        (View("x", state=State.CLOSED), Next(State.CLOSED)),
        (View("x", state=State.HALF_OPEN), Next(State.HALF_OPEN)),
        (View("x", state=State.OPEN, remaining=30_000), Next(State.OPEN, 20_000)),
        (View("x", state=State.OPEN, remaining=9_000), Next(State.HALF_OPEN)),
        (
            View("x", state=State.DISABLED, remaining=4_000, reason="disable()\t\t\t\tO8000"),
            Next(State.OPEN, 2_000),
        ),
    ],
    ids=["closed", "half-open", "open", "open-shortly", "timed"],
)
def test_what_follows(state: State, view: View, then: Next) -> None:
    """As `Phase.successor` has it, for a command that has no circuit."""
    assert after_control(view, state, 10_000) == then
    assert after_control(view, state, None) is None
    assert str(then)[0] == LETTERS[then.state]


# -- the command


def test_the_command_says_who(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/fleet.db"
    with Fleet(url) as fleet:
        one = Process(fleet)
        options = ["--seconds", "600", "--note", "drill", "--by", "alice"]
        assert main(["fleet", url, "open", "x", *options]) == 0
        assert "x: forced open for 10 min (epoch" in capsys.readouterr().out
        eventually(lambda: one.state is State.FORCED_OPEN)
        assert str(one.signals[0].reason) == "force_open(): 600 s, by alice: drill"
        assert main(["fleet", url, "list", "--format", "json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)["circuits"]
        assert (row["by"], row["note"]) == ("alice", "drill")
        assert 500 < row["reverts_in"] == row["retry_after"] <= 600
        assert main(["fleet", url, "list"]) == 0
        assert "by alice" in capsys.readouterr().out
        assert main(["fleet", url, "show", "x"]) == 0
        assert "force_open(): 600 s, by alice: drill" in capsys.readouterr().out
        assert main(["fleet", url, "disable", "x", "--seconds", "0.3"]) == 0
        eventually(lambda: one.state is State.CLOSED)  # in place of the first, over nothing


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["open", "x", "--seconds", "0"], "seconds must be above 0"),
        (["disable", "x", "--note", " "], "note is empty"),
        (["reset", "x", "--by", ""], "by is empty"),
    ],
)
def test_bad_options(
    options: list[str], message: str, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path}/fleet.db"
    with Fleet(url) as fleet:
        one = Process(fleet)
        assert main(["fleet", url, *options]) == 2
        assert message in capsys.readouterr().err
        assert one.state is State.CLOSED


def test_a_move_of_any_store(fleets: Fleets) -> None:
    """A time goes with every state, and comes back as what is left of it."""
    store = MemoryStore(fleets.space)
    for state in CONTROLS.values():
        view = store.move(Move("y", None, 0, state, remaining=60_000))
        assert view.remaining is not None
        assert 50_000 < view.remaining <= 60_000
