"""An exception of a signal handler can come between any two instructions of the engine.

Each scenario is interrupted at each bytecode of the engine, one after the other, as Ctrl-C or a
task's soft time limit might. Afterwards every transition has been heard once and in order, the
numbers agree with each other, slots are free, and the circuit goes on working.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, Info, Signal, State
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, RecordedCalls
from fluxgate.trippers import FailureStreak
from fluxgate.windows import TimeWindow

from .interrupting import interrupted

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
        for _ in range(300):
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


def check_story(heard: list[list[Signal]]) -> None:
    """Every listener heard every transition once, in order, and each begins where one ended."""
    first, *others = ([(s.generation, s.old_state, s.new_state) for s in each] for each in heard)
    assert all(other == first for other in others)
    generations = [generation for generation, _, _ in first]
    assert generations == sorted(set(generations))
    states = [State.CLOSED, *(new for _, _, new in first)]
    assert [old for _, old, _ in first] == states[:-1]


def check_numbers(info: Info) -> None:
    metrics, totals = info.metrics, info.totals
    assert 0 <= metrics.failure_count <= metrics.total_count
    assert metrics.total_duration >= 0
    assert metrics.total_count <= totals.successes + totals.failures
    assert metrics.failure_count <= totals.failures


@pytest.mark.parametrize("window", [None, TimeWindow(60)], ids=["count", "time"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_everybody_hears_once(scenario: str, window: TimeWindow | None) -> None:
    prepare, step = SCENARIOS[scenario]
    place = 0
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
        place += 1
    assert place > 50  # it was interrupted at all


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
