"""Controls that say who, why and for how long: `note=`, `by=`, `seconds=`."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from typing import Any

import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    ConfigError,
    FluxgateError,
    Origin,
    Reason,
    State,
)
from fluxgate.permits import RampUp
from fluxgate.problem import Problem
from fluxgate.retries import Cooldown
from fluxgate.testing import LoadedDice, ManualClock, RecordedSignals
from fluxgate.trippers import FailureStreak

FRONTS = (CircuitBreaker, AsyncCircuitBreaker)
CONTROLS = {
    "force_open": State.FORCED_OPEN,
    "disable": State.DISABLED,
    "metrics_only": State.METRICS_ONLY,
}


class Bench:
    """A breaker, its clock and its signals."""

    def __init__(self, front: type = CircuitBreaker, **settings: Any) -> None:
        self.clock = ManualClock()
        self.signals = RecordedSignals()
        settings = {
            "tripper": FailureStreak(2),
            "retry": Cooldown(60.0),
            "permit": RampUp(1.0, 1.0, 1.0),
            **settings,
        }
        self.breaker: Any = front(
            "api", clock=self.clock, dice=LoadedDice(0.5), listeners=[self.signals], **settings
        )
        sync = self.breaker
        self.sync: CircuitBreaker = sync if front is CircuitBreaker else sync.to_sync()

    def control(self, name: str, **said: Any) -> None:
        getattr(self.breaker, name)(**said)

    def state(self) -> State:
        found: State = self.breaker.state
        return found

    def succeeds(self) -> bool:
        """Whether a call passes."""
        try:
            self.sync.call(lambda: None)
        except CallNotPermittedError:
            return False
        return True

    def fails(self) -> None:
        with pytest.raises(ConnectionError):
            self.sync.call(_fail)

    def opens(self) -> None:
        self.fails()
        self.fails()
        assert self.state() is State.OPEN

    @property
    def said(self) -> list[tuple[str, str]]:
        """The new states and the reasons of the signals."""
        return [(str(signal.new_state), str(signal.reason)) for signal in self.signals]


def _fail() -> None:
    raise ConnectionError


# -- who and why


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("control", [*CONTROLS, "open_for"])
def test_the_signal_says_who(front: type, control: str) -> None:
    bench = Bench(front)
    seconds = {"seconds": 30} if control == "open_for" else {}
    bench.control(control, note="upgrade of the database", by="alice", **seconds)
    (signal,) = bench.signals
    assert (signal.reason.note, signal.reason.by) == ("upgrade of the database", "alice")
    assert signal.reason.clause == f"{control}()"
    measured = ": 30 s" if seconds else ""
    assert str(signal.reason) == f"{control}(){measured}, by alice: upgrade of the database"
    assert bench.breaker.info().reason == signal.reason
    assert signal.origin is Origin.LOCAL


def test_reset_says_who() -> None:
    bench = Bench()
    bench.opens()
    bench.breaker.reset(note="the provider is back", by="bob")
    assert bench.said[-1] == ("closed", "reset(), by bob: the provider is back")
    bench.breaker.reset(by="carol")  # no transition, and known all the same
    assert str(bench.breaker.info().reason) == "reset(), by carol"
    assert [signal.origin for signal in bench.signals] == [Origin.LOCAL] * 2


def test_again_without_a_word() -> None:
    """Who set it first, and why, stays known; no transition is reported."""
    bench = Bench()
    bench.breaker.force_open(note="maintenance", by="alice")
    bench.breaker.force_open()
    assert str(bench.breaker.info().reason) == "force_open(), by alice: maintenance"
    assert len(bench.signals) == 1


def test_a_refusal_says_who() -> None:
    bench = Bench()
    bench.breaker.force_open(note="maintenance", by="alice", seconds=900)
    with pytest.raises(CallNotPermittedError) as caught:
        bench.breaker.call(lambda: None)
    error = caught.value
    assert error.retry_after == 900
    assert "(force_open(): 900 s, by alice: maintenance)" in str(error)
    assert "try again in 900 s" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert again.reason == error.reason
    as_text = json.loads(json.dumps([*error.args[:3], repr(error.reason)]))
    assert CallNotPermittedError(*as_text).reason == error.reason
    problem = Problem.of(error, show_name=True)
    assert "by alice: maintenance" in problem.detail
    assert problem.headers == {"Retry-After": "900"}
    assert "alice" not in Problem.of(error).detail


def test_who_prolongs_an_opening() -> None:
    bench = Bench()
    bench.opens()
    bench.breaker.open_for(30, by="alice")  # shorter: changes nothing
    assert bench.breaker.info().reason == bench.breaker.info().last_trip
    bench.breaker.open_for(600, by="alice", note="told on the phone")
    with pytest.raises(CallNotPermittedError) as caught:
        bench.breaker.call(lambda: None)
    assert str(caught.value.reason) == "open_for(): 600 s, by alice: told on the phone"
    assert len(bench.signals) == 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("x" * 300, "x" * 199 + "…"),
        ("two\nlines\tof it", "two lines of it"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("rtl \u202e mark", r"rtl \u202e mark"),
        ("half \ud800", r"half \ud800"),
        ("정기 점검", "정기 점검"),
    ],
    ids=["long", "lines", "escapes", "bidi", "surrogate", "korean"],
)
def test_text_is_one_safe_line(given: str, kept: str) -> None:
    bench = Bench()
    bench.breaker.disable(note=given, by=given)
    reason = bench.signals[0].reason
    assert reason.note == kept
    assert reason.by is not None
    assert len(reason.by) <= 64
    assert str(reason).isprintable()


@pytest.mark.parametrize("control", [*CONTROLS, "reset", "open_for"])
@pytest.mark.parametrize("field", ["note", "by"])
@pytest.mark.parametrize(
    "given",
    [5, b"bytes", "", " \n", True, ["a"]],
    ids=["int", "bytes", "", "blank", "bool", "list"],
)
def test_bad_text_names_its_field(control: str, field: str, given: object) -> None:
    bench = Bench()
    seconds = {"seconds": 30} if control == "open_for" else {}
    with pytest.raises(ConfigError, match=rf"^{field} "):
        bench.control(control, **seconds, **{field: given})
    assert bench.state() is State.CLOSED
    assert not bench.signals


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("given", [0, -1, 1e10, float("nan"), float("inf"), "text", True])
def test_bad_seconds_name_theirs(control: str, given: object) -> None:
    bench = Bench()
    with pytest.raises(ConfigError, match=r"^seconds must be"):
        bench.control(control, seconds=given)
    assert bench.state() is State.CLOSED


def test_reset_takes_no_seconds() -> None:
    with pytest.raises(TypeError, match="seconds"):
        Bench().control("reset", seconds=5)


# -- for how long


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("control", ["disable", "metrics_only"])
def test_calls_passed_so_closed(front: type, control: str) -> None:
    """A fresh window: the failures from before, and those meanwhile, don't count."""
    bench = Bench(front)
    bench.fails()
    bench.control(control, seconds=10, by="alice", note="drill")
    for _ in range(5):
        bench.fails()
    assert bench.breaker.info().reverts_in == 10
    bench.clock.advance(9.5)
    assert bench.breaker.info().reverts_in == 0.5
    bench.clock.advance(0.5)
    assert bench.succeeds()  # the first one after it
    assert bench.succeeds()
    assert bench.state() is State.CLOSED
    assert bench.said[-1] == ("closed", f"{control}() over, by alice: drill")
    assert bench.signals[-1].origin is Origin.LOCAL
    assert bench.breaker.info().metrics.failure_count == 0
    assert bench.breaker.info().reverts_in is None
    bench.fails()
    bench.fails()
    assert bench.state() is State.OPEN


@pytest.mark.parametrize("front", FRONTS)
def test_calls_were_refused_so_probes(front: type) -> None:
    bench = Bench(front, max_half_open_calls=1)
    bench.breaker.force_open(seconds=10, by="alice")
    bench.clock.advance(9.5)
    assert not bench.succeeds()
    assert bench.breaker.info().retry_after == pytest.approx(0.5)
    bench.clock.advance(0.5)
    probe = bench.sync.attempt()
    assert probe.probe
    with pytest.raises(CallNotPermittedError, match=r"force_open\(\) over, by alice"):
        bench.sync.attempt()
    probe.succeed()
    assert bench.state() is State.CLOSED
    assert [state for state, _ in bench.said] == ["forced_open", "half_open", "closed"]


@pytest.mark.parametrize("control", CONTROLS)
def test_an_opening_that_lasts_longer(control: str) -> None:
    bench = Bench()
    bench.opens()
    trip = bench.breaker.info().reason
    bench.control(control, seconds=20)
    bench.clock.advance(20)
    # Recorded calls pass without a look at the time: the first one ends the state as it ends.
    assert bench.succeeds() is (control == "metrics_only")
    assert not bench.succeeds()
    info = bench.breaker.info()
    assert (info.state, info.retry_after, info.reason) == (State.OPEN, 40, trip)
    assert bench.said[-1] == ("open", f"{control}() over")
    bench.clock.advance(40)
    assert bench.succeeds()


@pytest.mark.parametrize("control", CONTROLS)
def test_an_opening_that_is_over(control: str) -> None:
    bench = Bench()
    bench.opens()
    bench.control(control, seconds=70)
    bench.clock.advance(70)
    assert bench.breaker.info().state is State.HALF_OPEN
    bench.fails()
    assert bench.state() is State.OPEN


@pytest.mark.parametrize("timed", CONTROLS)
@pytest.mark.parametrize("for_good", CONTROLS)
def test_what_a_hand_set_for_good(timed: str, for_good: str) -> None:
    bench = Bench()
    bench.control(for_good, by="bob", note="for good")
    bench.control(timed, seconds=10, by="alice")
    assert bench.state() is CONTROLS[timed]
    bench.clock.advance(10)
    info = bench.breaker.info()
    if timed == for_good:  # it has replaced that one
        after = State.HALF_OPEN if timed == "force_open" else State.CLOSED
        assert info.state is after
        return
    assert info.state is CONTROLS[for_good]
    assert info.reverts_in is None
    if for_good == "force_open":
        with pytest.raises(CallNotPermittedError, match="by bob: for good"):
            bench.breaker.call(lambda: None)


@pytest.mark.parametrize("first", CONTROLS)
@pytest.mark.parametrize("second", CONTROLS)
def test_the_last_time_counts(first: str, second: str) -> None:
    """Of two controls with a time, the later is the only one; beneath stands what did before."""
    bench = Bench()
    bench.control(first, seconds=5, by="alice")
    bench.control(second, seconds=50, by="bob")
    bench.clock.advance(49)
    assert bench.breaker.info().state is CONTROLS[second]
    bench.clock.advance(1)
    after = State.HALF_OPEN if second == "force_open" else State.CLOSED
    assert bench.breaker.info().state is after
    assert str(bench.breaker.info().reason) == f"{second}() over, by bob"


@pytest.mark.parametrize("control", CONTROLS)
def test_sooner_later_and_for_good(control: str) -> None:
    bench = Bench()
    bench.control(control, seconds=100)
    bench.control(control, seconds=10)
    bench.control(control, seconds=30, by="alice")
    info = bench.breaker.info()
    assert (info.reverts_in, str(info.reason)) == (30, f"{control}(): 30 s, by alice")
    bench.control(control)
    assert bench.breaker.info().reverts_in is None
    bench.clock.advance(1e6)
    assert bench.breaker.info().state is CONTROLS[control]
    assert len(bench.signals) == 1  # of all that, one was a transition


@pytest.mark.parametrize("control", CONTROLS)
def test_a_reset_ends_it(control: str) -> None:
    bench = Bench()
    bench.control(control, seconds=10)
    bench.breaker.reset()
    bench.clock.advance(100)
    assert bench.succeeds()
    assert [state for state, _ in bench.said] == [str(CONTROLS[control]), "closed"]


@pytest.mark.parametrize("control", CONTROLS)
def test_nobody_knows_what_stood_before(control: str) -> None:
    """For good, then for a time: what ends is followed by a fresh start."""
    bench = Bench()
    bench.control(control)
    bench.control(control, seconds=10)
    bench.clock.advance(10)
    info = bench.breaker.info()
    half_open = control == "force_open"
    assert info.state is (State.HALF_OPEN if half_open else State.CLOSED)
    assert (info.reopens, str(info.reason)) == (0, f"{control}() over")


def test_what_is_over_obstructs_nothing() -> None:
    """A control finds what a look would have found, though nobody has looked or called."""
    bench = Bench()
    bench.breaker.disable(seconds=10)
    bench.clock.advance(20)
    bench.breaker.open_for(30)  # by hand it would be disabled, and left alone
    assert bench.state() is State.OPEN
    assert not bench.succeeds()

    other = Bench()
    other.breaker.force_open(seconds=10)
    other.clock.advance(20)
    other.breaker.disable(seconds=10)  # over half-open: nobody has called since
    other.clock.advance(10)
    assert other.breaker.info().state is State.HALF_OPEN


def test_it_ends_for_a_look_as_well() -> None:
    """A circuit that nobody calls is shown as it is."""
    bench = Bench()
    bench.breaker.disable(seconds=10)
    bench.clock.advance(11)
    assert bench.state() is State.DISABLED  # read without a lock, as after a cooldown
    assert bench.breaker.info().state is State.CLOSED
    assert bench.state() is State.CLOSED
    assert len(bench.signals) == 2


def test_the_window_goes_on_when_prolonged() -> None:
    """A trial that is prolonged keeps what it has seen."""
    bench = Bench()
    bench.breaker.metrics_only(seconds=10)
    bench.fails()
    bench.clock.advance(9)
    bench.breaker.metrics_only(seconds=10)
    bench.clock.advance(9)
    bench.fails()
    info = bench.breaker.info()
    assert info.state is State.METRICS_ONLY
    assert info.metrics.failure_count == 2
    assert info.would_open is not None


@pytest.mark.parametrize("before", [None, 100])
def test_fast_calls_alone_end_it(before: float | None) -> None:
    """They pass by the lane, which knows the time; one may end in the state before."""
    bench = Bench()
    bench.breaker.metrics_only(seconds=before)
    assert bench.succeeds()
    bench.breaker.metrics_only(seconds=10)
    for _ in range(100):
        bench.clock.advance(0.5)
        assert bench.succeeds()
    assert bench.state() is State.CLOSED
    totals = bench.breaker.info().totals
    assert totals.settled == 101
    assert totals.stale == 0


@pytest.mark.parametrize("again", [False, True])
def test_the_first_end_ends_it(again: bool) -> None:
    """A recorded call passes without a look at the time, also where the state was set again."""
    bench = Bench()
    if again:
        bench.breaker.metrics_only()
    bench.breaker.metrics_only(seconds=10)
    bench.clock.advance(20)
    bench.fails()
    assert bench.state() is State.CLOSED
    info = bench.breaker.info()
    assert (info.totals.failures, info.metrics.failure_count) == (1, 0)  # in the old window


def test_a_call_that_outlasts_it() -> None:
    bench = Bench()
    bench.breaker.disable(seconds=10)
    attempt = bench.sync.attempt()
    bench.clock.advance(20)
    bench.fails()
    attempt.fail()
    assert bench.state() is State.CLOSED
    assert bench.breaker.info().metrics.failure_count == 1


def test_settings_change_meanwhile() -> None:
    bench = Bench()
    bench.breaker.metrics_only(seconds=10)
    bench.breaker.update(tripper=FailureStreak(1))
    bench.clock.advance(10)
    bench.fails()  # still in the old state, which ends with it
    bench.fails()
    assert bench.state() is State.OPEN


def test_saved_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state with an end keeps it in the next process, by the wall clock."""
    wall = ManualClock(1_000_000.0)
    monkeypatch.setattr("time.time", wall)
    for control, state in CONTROLS.items():
        first, second = Bench(), Bench()
        first.control(control, seconds=100, by="alice", note="drill")
        saved = json.loads(json.dumps(first.breaker.info().save()))
        wall.advance(30)
        assert second.breaker.restore(saved)
        info = second.breaker.info()
        assert (info.state, info.reverts_in) == (state, 70)
        assert str(info.reason) == "restore(), by alice: drill"
        second.clock.advance(70)
        assert second.breaker.info().state is not state


@pytest.mark.parametrize("field", ["reverts_in", "note", "by"])
def test_a_save_with_a_bad_field(field: str) -> None:
    saved = {**Bench().breaker.info().save(), field: [1]}
    with pytest.raises(ConfigError, match=field):
        Bench().breaker.restore(saved)
    del saved[field]  # one that was made before there was the field
    assert Bench().breaker.restore(saved)


def test_the_log_and_slack() -> None:
    reason = Reason("disable()", 900.0, note="drill", by="alice")
    assert reason.details == "disable(): 900 s, by alice: drill"
    assert reason.without_messages == reason
    assert issubclass(ConfigError, FluxgateError)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("opened", [True, False])
def test_available_knows_the_end(control: str, opened: bool) -> None:
    """Asking changes nothing, and says what a call then meets."""
    bench = Bench()
    if opened:
        bench.opens()
    bench.control(control, seconds=20)
    before = bench.state()
    assert bench.breaker.available is (control != "force_open")
    bench.clock.advance(20)
    available = bench.breaker.available
    assert bench.state() is before
    assert bench.succeeds() is available
    assert available is (not opened or control == "metrics_only")
    bench.clock.advance(40)
    assert bench.breaker.available
    assert bench.succeeds()


def test_generations_only_rise() -> None:
    bench = Bench()
    for seconds in (5, 10):
        for control in CONTROLS:
            bench.control(control, seconds=seconds)
            bench.clock.advance(seconds)
            bench.breaker.info()
    numbers = [signal.generation for signal in bench.signals]
    assert all(left < right for left, right in pairwise(numbers))
