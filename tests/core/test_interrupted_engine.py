"""An exception of a signal handler can come between any two instructions of the engine.

Each scenario is interrupted at each bytecode of the engine, one after the other, as Ctrl-C or a
task's soft time limit might. Afterwards every transition has been heard once and in order, the
numbers agree with each other, slots are free, and the circuit goes on working.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from operator import or_
from typing import Any

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, Info, Signal, SignalKind, State
from fluxgate._engine.circuit import Circuit
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, RecordedCalls
from fluxgate.trippers import FailureRate, FailureStreak, SlowRate, Tripper
from fluxgate.windows import CountWindow, TimeWindow, Window

from .interrupting import Interrupt, interrupted, report
from .proving import LONG

pytestmark = pytest.mark.slow


class Rules:
    """A breaker that opens at the first failure, and three listeners that note what they hear."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.heard: list[list[Signal]] = [[], [], []]
        self.breaker = CircuitBreaker(
            "x",
            tripper=FailureStreak(1),
            retry=Cooldown(10),
            permit=All(),
            max_half_open_calls=1,
            clock=self.clock,
            listeners=[each.append for each in self.heard],
            **settings,
        )

    def fail(self) -> None:
        self.breaker.attempt().fail("down")

    def probe(self) -> None:
        self.breaker.attempt().succeed()

    def refused(self) -> None:
        with pytest.raises(CallNotPermittedError):
            self.breaker.call(int)

    def controls(self) -> None:
        self.breaker.force_open()
        self.breaker.reset()

    def drain(self) -> None:
        for _ in range(4):
            self.breaker.call(int)

    def open_for(self) -> None:
        self.breaker.open_for(5)

    def call(self) -> None:
        self.breaker.call(int)

    def call_in_a_call(self) -> None:
        self.breaker.call(self.breaker.call, int)

    def update(self) -> None:
        self.breaker.update(tripper=FailureStreak(1) | SlowRate(1.0, 60.0))

    def restore(self) -> None:
        other = Rules()
        opened(other)
        self.breaker.restore(other.breaker.info())

    def listen(self) -> None:
        with self.breaker.listen(RecordedCalls()):
            self.breaker.call(int)

    def info(self) -> None:
        self.breaker.info()

    def dropped(self) -> None:
        self.breaker.attempt().ignore()
        self.breaker.info()


def closed(rules: Rules) -> None:
    for _ in range(20):
        rules.breaker.call(int)


def opened(rules: Rules) -> None:
    closed(rules)
    rules.fail()


def cooled(rules: Rules) -> None:
    opened(rules)
    rules.clock.advance(10)


def idle(rules: Rules) -> None:
    for _ in range(254):  # so that the journal becomes full soon
        rules.breaker.call(int)


def disabled(rules: Rules) -> None:
    closed(rules)
    rules.breaker.disable(seconds=5)
    rules.clock.advance(10)  # it is over, and nobody has seen that


def recorded_alone(rules: Rules) -> None:
    closed(rules)
    rules.breaker.metrics_only(seconds=5)
    rules.clock.advance(10)


def shadowed(rules: Rules) -> None:
    rules.breaker.update(shadow=FailureStreak(1))
    closed(rules)


def refusing(rules: Rules) -> None:
    opened(rules)
    for _ in range(255):  # so that refusals are counted soon
        rules.refused()


ENGINE = (
    "circuit.py",
    "machine.py",
    "verdicts.py",
    "phase.py",
    "lane.py",
    "dispatch.py",
    "counters.py",
    "_tally.py",
)

DELIVERY = ("circuit.py", "dispatch.py", "calls.py")

SCENARIOS = {
    "fail": (closed, Rules.fail),
    "probe": (cooled, Rules.probe),
    "refused": (opened, Rules.refused),
    "controls": (closed, Rules.controls),
    "info": (closed, Rules.info),
    "dropped probe": (cooled, Rules.dropped),
}

MORE = {
    "open_for": (closed, Rules.open_for),
    "disabled is over": (disabled, Rules.call),
    "metrics_only is over": (recorded_alone, Rules.call),
    "update": (closed, Rules.update),
    "shadow": (shadowed, Rules.fail),
    "drain": (idle, Rules.drain),
    "refusals": (refusing, Rules.refused),
    "restore": (closed, Rules.restore),
    "listen": (closed, Rules.listen),
    "nested": (cooled, Rules.call_in_a_call),
}
STRIDE = 1 if LONG else 11
"""Of the latter, every how many bytecodes one is interrupted."""


def check_story(heard: list[list[Signal]]) -> None:
    """Every listener heard everything once, in order, and each move begins where one ended."""
    first, *others = heard
    assert all(other == first for other in others)
    keys = [(signal.generation, signal.kind) for signal in first]
    assert len(keys) == len(set(keys))
    generations = [generation for generation, _ in keys]
    assert generations == sorted(generations)
    moves = [signal for signal in first if signal.kind is SignalKind.TRANSITION]
    states = [State.CLOSED, *(move.new_state for move in moves)]
    assert [move.old_state for move in moves] == states[:-1]


def check_numbers(info: Info) -> None:
    metrics, totals = info.metrics, info.totals
    assert 0 <= metrics.failure_count <= metrics.total_count
    assert metrics.total_duration >= 0
    assert metrics.total_count <= totals.successes + totals.failures
    assert metrics.failure_count <= totals.failures


@pytest.mark.parametrize("window", [None, TimeWindow(60)], ids=["count", "time"])
@pytest.mark.parametrize("scenario", [*SCENARIOS, *MORE])
def test_everybody_hears_once(scenario: str, window: TimeWindow | None) -> None:
    prepare, step = (SCENARIOS | MORE)[scenario]
    place, stride = 0, 1 if scenario in SCENARIOS else STRIDE
    while True:
        rules = Rules(**({} if window is None else {"window": window}))
        prepare(rules)
        going_on = interrupted(partial(step, rules), place, *ENGINE, finalisers=False)
        state = rules.breaker.state
        if state is State.HALF_OPEN:
            assert rules.breaker.info().probes == 0, place
        rules.breaker.reset()
        rules.breaker.force_open()
        rules.breaker.disable()
        rules.breaker.reset()
        for each in rules.heard:
            assert each[-1].new_state is State.CLOSED, place
            assert each[-2].new_state is State.DISABLED, place
        check_story(rules.heard)
        check_numbers(rules.breaker.info())
        rules.breaker.call(int)
        assert rules.breaker.info().metrics.total_count == 1, place
        rules.fail()
        assert rules.breaker.state is State.OPEN, place
        if not going_on:
            break
        place += stride
    assert place > 50  # it was interrupted at all
    report(f"{scenario}, {window!r}", place // stride)


AGAIN = ("fail", "controls", "probe", "update", "open_for")


@pytest.mark.parametrize("scenario", AGAIN)
def test_putting_right_is_broken_off(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second interrupt comes where the step is put right: the next step does that."""
    prepare, step = (SCENARIOS | MORE)[scenario]
    put_right, broken = Circuit._put_right, list[bool]()

    def once_broken(circuit: Circuit) -> None:
        if not broken:
            broken.append(True)
            raise Interrupt
        put_right(circuit)

    monkeypatch.setattr(Circuit, "_put_right", once_broken)
    place, stride, found = 0, 1 if LONG else 5, 0
    while True:
        rules = Rules()
        prepare(rules)
        broken.clear()
        going_on = interrupted(partial(step, rules), place, *ENGINE, finalisers=False)
        found += bool(broken)
        broken.append(True)
        check_numbers(rules.breaker.info())
        rules.breaker.reset()
        check_story(rules.heard)
        rules.fail()
        assert rules.breaker.state is State.OPEN, place
        if not going_on:
            break
        place += stride
    assert found > 5


def listened(rules: Rules) -> None:
    """A listener of calls comes and goes."""
    with rules.breaker.listen(RecordedCalls()):
        rules.breaker.call(int)


@pytest.mark.parametrize(
    "step", [Rules.fail, Rules.dropped, listened], ids=["fail", "ignored", "listened"]
)
def test_calls_are_heard_by_all_or_none(step: Callable[[Rules], object]) -> None:
    """And by nobody twice. A call may be counted and not heard, if the interrupt is in between."""
    place = 0
    while True:
        rules = Rules()
        calls = [RecordedCalls() for _ in range(3)]
        for each in calls:
            rules.breaker.listen(each)
        closed(rules)
        going_on = interrupted(partial(step, rules), place, *DELIVERY, finalisers=False)
        rules.breaker.reset()
        rules.breaker.call(int)
        first, *others = (list(each) for each in calls)
        assert others == [first, first], place
        assert len({id(call) for call in first}) == len(first), place
        assert first[-1].outcome == "success", place
        settled = rules.breaker.info().totals.settled
        assert settled - 1 <= len(first) <= settled, place
        if not going_on:
            break
        place += 1
    assert place > 50
    report(f"calls heard, {step.__name__}", place)


@pytest.mark.parametrize("window", [CountWindow(8), TimeWindow(60)], ids=["count", "time"])
@pytest.mark.parametrize(
    ("old", "new"), [((1, 2), (2, 4)), ((1, 2), ()), ((), (2,))], ids=["other", "fewer", "more"]
)
def test_an_interrupted_update(window: Window, old: list[int], new: list[int]) -> None:
    """Afterwards either settings are in force, and slow calls are counted by their thresholds."""

    def tripper(thresholds: list[int]) -> Tripper:
        slow = [FailureRate(1.0) & SlowRate(1.0, seconds) for seconds in thresholds]
        return reduce(or_, slow, FailureRate(1.0) & FailureStreak(99))

    place, stride = 0, 1 if LONG else 3
    while True:
        clock = ManualClock()
        breaker = CircuitBreaker("x", tripper=tripper(old), window=window, clock=clock)
        for seconds in (0, 1, 2, 4):
            breaker.call(clock.advance, seconds)
        update = partial(breaker.update, tripper=tripper(new))
        going_on = interrupted(update, place, *ENGINE)
        thresholds = new if breaker.policy.tripper == tripper(new) else old
        for after in (2, 5, 1, 7):  # by the time of the last, a count window drops the first ones
            breaker.call(clock.advance, after)
        before = [each for each in thresholds if each in old]
        assert breaker.info().metrics.slow_counts == {
            each: sum(after >= each for after in (2, 5, 1, 7))
            + (sum(seconds >= each for seconds in (0, 1, 2, 4)) if each in before else 0)
            for each in thresholds
        }, place
        for _ in range(8):
            breaker.call(clock.advance, 3)
        clock.advance(60)
        breaker.call(clock.advance, 5)
        breaker.info()
        if not going_on:
            break
        place += stride
    assert place > 50
    report(f"update of thresholds, {window!r}", place // stride)
