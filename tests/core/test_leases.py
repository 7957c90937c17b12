"""A phase that the fleet owns: probes by its leases, deadlines and reasons from outside.

The machine alone, without a store, so that the clock stands still between two steps. The fleet's
own tests are in `fleet/`.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from fluxgate import Origin, Reason, State
from fluxgate._controls import Said
from fluxgate._engine.leases import Ended, Lease, Leases
from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import Admission, Beneath
from fluxgate._engine.transitions import Event
from fluxgate.fleet._probes import Probes
from fluxgate.permits import All, Permit
from fluxgate.policy import Policy
from fluxgate.signals import Outcome
from fluxgate.trippers import FailureStreak

OUTAGE = Reason("FailureRate(0.5)", 0.75, 40)


class Elapsed(Permit):
    """Notes after which time it was asked, and admits from 10 s on."""

    def __init__(self) -> None:
        self.noted: list[float] = []

    def ratio(self, elapsed: float) -> float:
        self.noted.append(elapsed)
        return float(elapsed >= 10.0)


def machine(**settings: Any) -> Machine:
    settings = {"tripper": FailureStreak(3), "permit": All(), **settings}
    return Machine(Policy(**settings), State.CLOSED, 0.0, lambda: 0.5)


def follows(one: Machine, state: State, now: float, **changes: Any) -> None:
    """Follow the fleet, as a member does."""
    given = {"retry_at": -math.inf, "reopens": 0, "reason": OUTAGE, "origin": Origin.PEER}
    one.follow(state, now, **{**given, **changes})


def granted(one: Machine, *leases: Lease) -> None:
    assert one.phase.leases is not None
    one.phase.leases.granted.extend(leases)


def wanted(one: Machine) -> int:
    assert one.phase.leases is not None
    return one.phase.leases.wanted


def test_the_reason_of_an_opening_stays() -> None:
    """While the fleet probes and closes again; a probe that fails gives a new one."""
    one = machine()
    follows(one, State.OPEN, 1.0, retry_at=9.0)
    assert one.phase.last_trip == OUTAGE
    for state in (State.HALF_OPEN, State.CLOSED):
        follows(one, state, 9.0, reason=Reason("the fleet's"))
        assert (one.phase.last_trip, one.phase.reason) == (OUTAGE, Reason("the fleet's"))
    assert [(note.new_state, note.origin) for note in one.outbox] == [
        (State.OPEN, Origin.PEER),
        (State.HALF_OPEN, Origin.PEER),
        (State.CLOSED, Origin.PEER),
    ]
    assert [note.generation for note in one.outbox] == [1, 2, 3]


def test_a_call_without_a_lease_asks_for_one() -> None:
    one = machine()
    follows(one, State.OPEN, 0.0, retry_at=8.0)
    assert one.acquire(7.0) is None
    assert wanted(one) == 0, "before the end of the opening nobody wants to probe"
    for calls in (1, 2, 3):
        assert one.acquire(8.0) is None
        assert wanted(one) == calls


def test_the_permit_decides_who_asks() -> None:
    permit = Elapsed()
    one = machine(permit=permit)
    follows(one, State.OPEN, 0.0, retry_at=8.0)
    follows(one, State.HALF_OPEN, 20.0)
    assert not one.may_admit(15.0)
    assert one.acquire(15.0) is None
    assert wanted(one) == 0
    assert one.may_admit(19.0)
    assert one.acquire(19.0) is None
    assert wanted(one) == 1
    assert not one.may_admit(19.0), "a call has asked"
    assert permit.noted == [7.0, 7.0, 11.0, 11.0], "since the opening was over"


def test_a_lease_is_a_slot_until_its_deadline() -> None:
    one = machine()
    follows(one, State.HALF_OPEN, 0.0)
    granted(one, *(Lease(token, 30.0, 20.0) for token in (7, 8, 9)))
    assert one.may_admit(5.0)
    first, second = one.acquire(5.0), one.acquire(6.0)
    assert isinstance(first, Admission)
    assert isinstance(second, Admission)
    assert (first.probe, second.probe) == (7, 8)
    one.settle(first, Outcome.SUCCESS, 1.0, 7.0)
    third = one.acquire(8.0)
    assert isinstance(third, Admission)
    one.settle(third, Outcome.IGNORED, 1.0, 9.0)
    assert one.phase.state is State.HALF_OPEN, "the fleet decides"
    assert one.acquire(30.0) is None  # looks for slots, and finds one that is overdue
    assert (len(one.phase.probes), one.totals.ignored) == (0, 2)
    one.settle(second, Outcome.SUCCESS, 25.0, 31.0)
    leases = one.phase.leases
    assert leases is not None
    assert [(ended.token, ended.failed) for ended in leases.ended] == [(7, False), (9, None)]


@pytest.mark.parametrize("control", [Event.FORCE_OPEN, Event.DISABLE, Event.METRICS_ONLY])
def test_a_hand_here_ends_the_fleets_time(control: Event) -> None:
    """Though the state is the same: from then on this process alone decides when it is over."""
    one = machine()
    state = {
        Event.FORCE_OPEN: State.FORCED_OPEN,
        Event.DISABLE: State.DISABLED,
        Event.METRICS_ONLY: State.METRICS_ONLY,
    }[control]
    follows(one, state, 0.0, until=600.0, beneath=Beneath(State.CLOSED))
    one.control(control, 1.0, said=Said(seconds=10.0))
    assert one.phase.leases is None
    one.advance(11.0)
    assert one.phase.state is (State.HALF_OPEN if state is State.FORCED_OPEN else State.CLOSED)
    assert len(one.outbox) == 2


def test_what_is_handed_over_and_given_back() -> None:
    one = machine()
    one.hand_over()
    assert one.phase.leases is None, "a closed circuit decides by itself"
    one.open_for(8.0, 0.0)
    one.hand_over()
    opened = one.phase
    assert opened.leases is not None
    one.release(opened)
    assert opened.leases is None
    one.hand_over()
    one.control(Event.RESET, 1.0)
    one.release(opened)
    assert opened.leases is not None, "what is over stays as it was"


def test_a_forked_child_forgets_the_alarm() -> None:
    """The parent's flusher isn't there; the child's sets its own."""
    heard: list[str] = []
    one = machine(tripper=FailureStreak(100))

    def fail(times: int) -> None:
        for _ in range(times):
            admission = one.acquire(0.0)
            assert admission is not None
            one.settle(admission, Outcome.FAILURE, 0.1, 1.0)

    one.alarm, one.alarm_at = lambda: heard.append("failures pile up"), 3
    one.restart()
    fail(5)
    assert heard == []
    one.alarm_at = 7
    fail(5)
    assert heard == ["failures pile up"]


def test_an_opening_beneath_stands_again() -> None:
    """Without the fleet, which knew why it was open: callers hear what has ended."""
    one = machine()
    follows(one, State.DISABLED, 0.0, until=10.0, beneath=Beneath(State.OPEN, 50.0))
    one.advance(20.0)
    assert one.phase.state is State.DISABLED, "the fleet ends it"
    one.release(one.phase)
    one.advance(20.0)
    assert (one.phase.state, one.phase.retry_at) == (State.OPEN, 50.0)
    assert str(one.phase.reason) == "disable() over"
    assert one.acquire(49.0) is None
    assert one.acquire(50.0) is not None


def test_what_is_reported_of_a_probe() -> None:
    """With the thresholds that it reached; of one that proved nothing only that it is over."""
    leases = Leases()
    leases.end(7, Outcome.FAILURE, 2.5, (1.0, 2.0))
    leases.end(8, Outcome.SUCCESS, 1.5, (1.0,))
    leases.end(9, Outcome.CANCELLED, 9.0, (1.0, 2.0))
    assert leases.ended == [
        Ended(7, failed=True, elapsed=2.5, reached=(1.0, 2.0)),
        Ended(8, failed=False, elapsed=1.5, reached=(1.0,)),
        Ended(9),
    ]


def test_a_lease_lasts_from_its_request() -> None:
    """It is over here before it is over in the store, however long the answer took."""
    one, probes = machine(probe_timeout=10.0), Probes()
    follows(one, State.HALF_OPEN, 100.0)
    assert one.acquire(100.0) is None
    probes.take(one.phase, one.policy, 101.0)
    assert probes.wants == 1
    probes.grant((7,), 103.0)
    assert one.phase.leases is not None
    assert list(one.phase.leases.granted) == [Lease(7, deadline=111.0, wanted_until=105.0)]


def test_a_request_that_is_lost_asks_again() -> None:
    one, probes = machine(max_half_open_calls=3), Probes()
    follows(one, State.HALF_OPEN, 0.0)
    for _ in range(2):
        assert one.acquire(0.0) is None
    probes.take(one.phase, one.policy, 0.0)
    assert (probes.wants, wanted(one)) == (2, 0)
    probes.want_again(one)
    assert wanted(one) == 2
