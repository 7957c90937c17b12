"""The lane for integrations: a ticket is worth what an attempt is."""

from __future__ import annotations

from typing import Any

import pytest

from fluxgate import State
from fluxgate._engine.lane import Lane
from fluxgate._engine.phase import Phase
from fluxgate.integration import attempt_of, enter, leave
from fluxgate.permits import All
from fluxgate.policy import Policy
from fluxgate.registry import Registry
from fluxgate.testing import ManualClock
from fluxgate.trippers import FailureRate, FailureStreak, MinRequests, SlowRate
from fluxgate.windows import TimeWindow


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def known(**settings: Any) -> Registry:
    """A registry whose circuit `a` has been asked for often enough to be entered."""
    registry = Registry(**{"tripper": FailureStreak(2), **settings})
    assert registry["a"] is registry["a"]
    return registry


def test_an_unknown_circuit_is_not_made_by_asking() -> None:
    registry = Registry()
    assert enter(registry, "a") is None
    assert "a" not in registry


def test_a_ticket_counts_as_a_success_with_its_duration(clock: ManualClock) -> None:
    registry = known(clock=clock)
    ticket = enter(registry, "a")
    clock.advance(0.25)
    leave(ticket)
    info = registry["a"].info()
    assert (info.totals.successes, info.totals.settled) == (1, 1)
    assert info.metrics.avg_duration == 0.25


def test_a_slow_call_is_judged_at_once(clock: ManualClock) -> None:
    registry = known(clock=clock, tripper=SlowRate(0.5, 1.0))
    ticket = enter(registry, "a")
    clock.advance(1.5)
    leave(ticket)
    assert registry["a"].state is State.OPEN


def test_the_result_tracker_sees_the_result() -> None:
    registry = known(result_tracker=lambda result: result == "bad")
    leave(enter(registry, "a"), "good")
    leave(enter(registry, "a"), "bad")
    totals = registry["a"].info().totals
    assert (totals.successes, totals.failures) == (1, 1)


def test_a_ticket_becomes_an_attempt_that_began_with_it(clock: ManualClock) -> None:
    registry = known(clock=clock)
    ticket = enter(registry, "a")
    clock.advance(3)
    attempt = attempt_of(ticket)
    assert (attempt.elapsed, attempt.probe, attempt.settled) == (3, False, False)
    attempt.fail("HTTP 503")
    info = registry["a"].info()
    assert info.totals.failures == 1
    assert info.metrics.avg_duration == 3


def test_a_ticket_of_an_older_phase_moves_nothing() -> None:
    registry = known()
    old = [enter(registry, "a") for _ in range(3)]
    registry["a"].reset()
    leave(old[0])
    for ticket in old[1:]:
        attempt_of(ticket).fail()
    info = registry["a"].info()
    assert info.state is State.CLOSED
    assert (info.totals.stale, info.totals.successes, info.totals.failures) == (3, 0, 0)


def test_a_full_journal_is_drained() -> None:
    registry = known()
    for _ in range(1000):
        leave(enter(registry, "a"))
    assert len(enter(registry, "a")[1]) < 256
    assert registry["a"].info().totals.successes == 1000


def test_calls_that_outlast_a_bucket(clock: ManualClock) -> None:
    """They are noted in the lane of the next one, still without the lock; it is drained as well."""
    registry = known(clock=clock, window=TimeWindow(60.0))
    attempts = [registry["a"].attempt() for _ in range(600)]
    clock.advance(2.0)
    registry["a"].call(int)  # which begins the lane of this bucket
    lane = registry["a"]._circuit.lane
    assert lane is not None
    for settled, attempt in enumerate(attempts, 1):
        attempt.succeed(elapsed=0.25)
        assert registry["a"]._circuit.lane is lane
        assert len(lane) == settled % 256
    assert registry["a"].info().totals.successes == 601


def test_it_is_up_once_the_minimum_is_reached() -> None:
    """After a failure each call takes the lock until the tripper's minimum is there."""
    registry = known(tripper=MinRequests(4) & FailureRate(0.9))
    registry["a"].attempt().fail()
    up = []
    for _ in range(5):
        leave(enter(registry, "a"))
        lane = registry["a"]._circuit.lane
        assert lane is not None
        up.append(lane.fast_below > 0)
    assert up == [False, False, True, True, True]
    assert registry["a"].info().totals.successes == 5


def test_a_dropped_ticket_is_not_counted() -> None:
    registry = known()
    enter(registry, "a")
    assert registry["a"].info().totals.settled == 0


@pytest.mark.parametrize("state", ["open_for", "force_open", "disable"])
def test_there_is_no_lane_where_every_call_is_asked_for(state: str) -> None:
    registry = known()
    getattr(registry["a"], state)(*([30] if state == "open_for" else []))
    assert enter(registry, "a") is None


def test_half_open_asks_for_every_call(clock: ManualClock) -> None:
    registry = known(clock=clock, permit=All())
    registry["a"].open_for(30)
    clock.advance(30)
    assert enter(registry, "a") is None
    assert registry["a"].attempt().probe


def test_a_forgotten_circuit_is_not_entered_any_more() -> None:
    registry = known()
    assert enter(registry, "a") is not None
    del registry["a"]
    assert enter(registry, "a") is None


def test_entering_keeps_a_circuit_from_being_let_go() -> None:
    """What is entered is looked up: of the others, those go first that nobody came back to."""
    registry = Registry(max_circuits=2)
    used = registry["used"]
    for number in range(20):
        registry["used"]
        if enter(registry, "used") is None:
            registry["used"].attempt().succeed()
        registry[f"once-{number}"]
    assert registry["used"] is used


@pytest.mark.parametrize("late", [1, 300])
def test_what_is_appended_to_a_retired_lane_is_counted(late: Any) -> None:
    """By whoever appends: it finds the lane full."""
    registry = known()
    registry["a"].call(int)
    tickets = [ticket for _ in range(late) if (ticket := enter(registry, "a")) is not None]
    registry["a"].force_open()
    assert registry["a"].info().totals.successes == 1
    for settled, ticket in enumerate(tickets, 1):
        leave(ticket)
        assert len(ticket[1]) == 256, "nothing is left behind but what makes it full"
        if settled % 100 == 1:
            assert registry["a"].info().totals.stale == settled
    assert registry["a"].info().totals.stale == len(tickets) == late


def test_a_lane_gives_each_duration_once() -> None:
    lane = Lane(Phase(State.CLOSED, Policy(), now=0.0), 1.0, 10.0, 0.0, True)
    lane.append(0.5)
    lane.retire()
    lane.retire()
    lane.append(0.75)
    assert len(lane) > 255, "who appends from now on finds it full, and drains it"
    assert lane.take() == [0.5, 0.75]
    assert lane.take() == []
