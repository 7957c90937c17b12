"""The state table, row by row, through every door of both fronts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from fluxgate import Outcome, SignalKind, State
from fluxgate._engine.machine import Machine
from fluxgate._engine.transitions import TRANSITIONS, Event
from fluxgate.permits import All
from fluxgate.policy import Policy
from fluxgate.retries import Cooldown
from fluxgate.trackers import TypeOf
from fluxgate.trippers import Closed, FailureRate, MinRequests, SlowRate
from fluxgate.windows import CountWindow, TimeWindow

if TYPE_CHECKING:
    from conftest import Protected

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
METRICS_ONLY, DISABLED, FORCED_OPEN = State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN

COOLDOWN = 64.0
SETTINGS: dict[str, Any] = {
    "window": CountWindow(8),
    "tracker": TypeOf(ConnectionError),
    "retry": Cooldown(COOLDOWN),
    "permit": All(),
}
TRIPPERS = {"classic": Closed() & FailureRate(0.5), "evidence": FailureRate(0.5)}


def enter(protected: Protected, state: State) -> None:
    """Bring a new breaker into `state`, as its users would."""
    match state:
        case State.OPEN:
            protected.fail()
        case State.HALF_OPEN:
            protected.fail()
            protected.clock.advance(COOLDOWN)
            protected.fail(ValueError("says nothing"))
        case State.METRICS_ONLY:
            protected.breaker.metrics_only()
        case State.DISABLED:
            protected.breaker.disable()
        case State.FORCED_OPEN:
            protected.breaker.force_open()
    assert protected.state is state
    protected.signals.clear()


def late_success(protected: Protected) -> None:
    protected.clock.advance(COOLDOWN)
    protected.succeed()


def late_failure(protected: Protected) -> None:
    protected.clock.advance(COOLDOWN)
    protected.fail()


EVENTS: dict[str, Callable[[Protected], Any]] = {
    "a success": lambda protected: protected.succeed(),
    "a failure": lambda protected: protected.fail(),
    "an untracked error": lambda protected: protected.fail(ValueError("no matter")),
    "a cancellation": lambda protected: protected.fail(asyncio.CancelledError()),
    "an interrupt": lambda protected: protected.fail(KeyboardInterrupt()),
    "a refusal": lambda protected: protected.refused(),
    "a success after the cooldown": late_success,
    "a failure after the cooldown": late_failure,
    "reset()": lambda protected: protected.breaker.reset(),
    "disable()": lambda protected: protected.breaker.disable(),
    "metrics_only()": lambda protected: protected.breaker.metrics_only(),
    "force_open()": lambda protected: protected.breaker.force_open(),
    "open_for()": lambda protected: protected.breaker.open_for(8.0),
    "update()": lambda protected: protected.breaker.update(max_half_open_calls=3),
    "info()": lambda protected: protected.breaker.info(),
}
CONTROLS = {
    "reset()": CLOSED,
    "disable()": DISABLED,
    "metrics_only()": METRICS_ONLY,
    "force_open()": FORCED_OPEN,
}
UNMOVED = ["an untracked error", "a cancellation", "an interrupt", "update()", "info()"]


def row(state: State, **moves: State) -> dict[str, State]:
    """What each event makes of `state`; the controls and the idle events are alike in all."""
    return {**dict.fromkeys(UNMOVED, state), **CONTROLS, **moves}


TABLE: dict[State, dict[str, State]] = {
    CLOSED: row(
        CLOSED,
        **{
            "a success": CLOSED,
            "a failure": OPEN,
            "a success after the cooldown": CLOSED,
            "a failure after the cooldown": OPEN,
            "open_for()": OPEN,
        },
    ),
    OPEN: {
        **CONTROLS,
        "a refusal": OPEN,
        "a success after the cooldown": CLOSED,
        "a failure after the cooldown": OPEN,
        "open_for()": OPEN,
        "update()": OPEN,
        "info()": OPEN,
    },
    HALF_OPEN: row(
        HALF_OPEN,
        **{"a success": CLOSED, "a failure": OPEN, "open_for()": OPEN},
    ),
    METRICS_ONLY: row(
        METRICS_ONLY,
        **{"a success": METRICS_ONLY, "a failure": METRICS_ONLY, "open_for()": METRICS_ONLY},
    ),
    DISABLED: row(
        DISABLED, **{"a success": DISABLED, "a failure": DISABLED, "open_for()": DISABLED}
    ),
    FORCED_OPEN: {
        **CONTROLS,
        "a refusal": FORCED_OPEN,
        "open_for()": FORCED_OPEN,
        "update()": FORCED_OPEN,
        "info()": FORCED_OPEN,
    },
}
ROWS = [
    pytest.param(old, event, new, id=f"{old}, {event}: {new}")
    for old, row_ in TABLE.items()
    for event, new in row_.items()
]


@pytest.mark.parametrize("tripper", TRIPPERS.values(), ids=TRIPPERS)
@pytest.mark.parametrize(("old", "event", "new"), ROWS)
def test_each_event_moves_each_state_as_the_table_says(
    protect: Callable[..., Protected], tripper: Any, old: State, event: str, new: State
) -> None:
    """Whatever happens in whatever state, through whichever door, the table says what follows."""
    protected = protect(**SETTINGS, tripper=tripper)
    enter(protected, old)
    EVENTS[event](protected)
    assert protected.state is new
    if protected.moves:
        # A move is told once, from where it began to where it ended, and never onto itself.
        assert protected.moves[0][0] is old
        assert protected.moves[-1][1] is new
        assert all(before is not after for before, after in protected.moves)
    else:
        assert old is new


@pytest.mark.parametrize("state", State)
def test_each_state_admits_or_refuses(protect: Callable[..., Protected], state: State) -> None:
    """OPEN and FORCED_OPEN refuse, the others let calls through."""
    protected = protect(**SETTINGS, tripper=FailureRate(0.5))
    enter(protected, state)
    rejected = protected.totals.rejected
    if state in (OPEN, FORCED_OPEN):
        error = protected.refused()
        assert (error.name, error.state) == ("api", state)
        assert protected.totals.rejected == rejected + 1
    else:
        protected.succeed()
        assert protected.totals.rejected == rejected


@pytest.mark.parametrize("state", [CLOSED, OPEN, HALF_OPEN, METRICS_ONLY, DISABLED, FORCED_OPEN])
def test_metrics_are_counted_only_where_the_state_records(
    protect: Callable[..., Protected], state: State
) -> None:
    """CLOSED, HALF_OPEN and METRICS_ONLY record into a window of their own, the others don't."""
    protected = protect(
        **{**SETTINGS, "window": CountWindow(8)}, tripper=MinRequests(4) & FailureRate(0.5)
    )
    match state:
        case State.OPEN | State.HALF_OPEN:
            protected.fail(times=4)
            if state is HALF_OPEN:
                protected.clock.advance(COOLDOWN)
                protected.fail()
        case _:
            enter(protected, state)
    before = protected.info.metrics.total_count
    if state in (OPEN, FORCED_OPEN):
        protected.refused()
    else:
        protected.succeed()
    records = state in (CLOSED, HALF_OPEN, METRICS_ONLY)
    assert protected.state is state
    assert protected.info.metrics.total_count == before + records


@pytest.mark.parametrize("outcome", ["succeed", "fail", "ignore"])
@pytest.mark.parametrize(
    ("state", "control"),
    [
        (state, control)
        for state in (CLOSED, HALF_OPEN, METRICS_ONLY, DISABLED)
        for control, new in CONTROLS.items()
        # Setting the state that there is begins no phase; only reset() does.
        if new is not state or control == "reset()"
    ],
)
def test_a_call_that_outlives_its_phase_moves_nothing(
    breaker: Callable[..., Protected], state: State, control: str, outcome: str
) -> None:
    """What was admitted before a move settles as stale, and the new phase never hears of it."""
    protected = breaker(**SETTINGS, tripper=FailureRate(0.5))
    enter(protected, state)
    attempt = protected.breaker.attempt()
    EVENTS[control](protected)
    before = protected.info
    getattr(attempt, outcome)()
    after = protected.info
    assert after.state is CONTROLS[control]
    assert after.metrics == before.metrics
    # What DISABLED let in is counted nowhere.
    assert after.totals.stale - before.totals.stale == (state is not DISABLED)
    assert after.totals.settled - before.totals.settled == (state is not DISABLED)


def test_a_late_failure_never_trips_a_recovered_circuit(
    protect: Callable[..., Protected],
) -> None:
    """Calls from before the outage fail after the recovery: the circuit stays closed."""
    protected = protect(**SETTINGS, tripper=FailureRate(0.5))
    old = [protected.breaker.attempt() for _ in range(4)]
    enter(protected, OPEN)
    late_success(protected)
    for attempt in old:
        attempt.fail()
    assert protected.state is CLOSED
    assert protected.info.metrics.failure_count == 0
    assert protected.totals.stale == 4


def test_a_late_success_never_closes_an_open_circuit(protect: Callable[..., Protected]) -> None:
    """Calls from before the outage succeed while the circuit is open, and later half-open."""
    protected = protect(**SETTINGS, tripper=FailureRate(0.5))
    first, second = protected.breaker.attempt(), protected.breaker.attempt()
    enter(protected, OPEN)
    first.succeed()
    assert protected.state is OPEN
    protected.clock.advance(COOLDOWN)
    probe = protected.breaker.attempt()
    second.succeed()
    assert protected.state is HALF_OPEN
    probe.fail()
    assert protected.state is OPEN
    assert protected.totals.stale == 2


def test_disabling_during_a_failing_call_leaves_it_disabled(
    protect: Callable[..., Protected],
) -> None:
    """The failure that ends after disable() belongs to the phase before."""
    protected = protect(**SETTINGS, tripper=FailureRate(0.5))

    def body() -> None:
        protected.breaker.disable()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        protected.run(body)
    assert protected.state is DISABLED
    assert protected.moves == [(CLOSED, DISABLED)]


def test_closed_asks_the_tripper_when_a_success_completes_the_minimum(
    protect: Callable[..., Protected],
) -> None:
    """Three failures are not enough to judge by; the fourth call is a success and completes."""
    protected = protect(**SETTINGS, tripper=MinRequests(4) & FailureRate(0.75))
    protected.fail(times=3)
    assert protected.state is CLOSED
    protected.succeed()
    assert protected.state is OPEN


@pytest.mark.parametrize("window", [CountWindow(1024), TimeWindow(64.0)], ids=repr)
def test_closed_opens_at_the_ratio_and_not_one_call_before(
    protect: Callable[..., Protected], window: Any
) -> None:
    """Seven of a hundred reach FailureRate(0.07): comparisons are 'at least'."""
    protected = protect(**{**SETTINGS, "window": window}, tripper=FailureRate(0.07))
    protected.succeed(times=93)
    protected.fail(times=6)
    assert protected.state is CLOSED
    protected.fail()
    assert protected.state is OPEN
    assert protected.info.last_trip is not None
    assert str(protected.info.last_trip) == "FailureRate(0.07): 0.07 over 100 calls"


@pytest.mark.parametrize("outcome", ["slow", "fail"])
def test_closed_opens_on_slow_calls_whether_they_fail_or_not(
    protect: Callable[..., Protected], outcome: str
) -> None:
    """A timeout is slow: failed calls have durations. A call of the threshold itself is slow."""
    protected = protect(**SETTINGS, tripper=MinRequests(2) & SlowRate(1.0, 0.5))
    call = getattr(protected, outcome)
    call(seconds=0.5)
    assert protected.state is CLOSED
    call(seconds=0.5)
    assert protected.state is OPEN
    assert protected.totals.slow_counts == {0.5: 2}


def test_expiry_alone_never_trips_the_next_bad_news_does(
    protect: Callable[..., Protected],
) -> None:
    """The successes that diluted two failures are forgotten: nothing happens until the next."""
    protected = protect(
        **{**SETTINGS, "window": TimeWindow(64.0, 4)}, tripper=MinRequests(2) & FailureRate(0.75)
    )
    protected.succeed(times=8)
    protected.clock.advance(32.0)
    protected.fail(times=3)
    protected.clock.advance(32.0)
    assert protected.info.metrics.total_count == 3
    protected.succeed()
    assert protected.state is CLOSED
    protected.fail()
    assert protected.state is OPEN


def test_old_successes_do_not_hide_an_outage_after_a_quiet_spell(
    protect: Callable[..., Protected],
) -> None:
    """A batch of healthy calls, an hour of nothing, an outage: only the outage counts."""
    protected = protect(
        **{**SETTINGS, "window": TimeWindow(64.0)}, tripper=MinRequests(4) & FailureRate(0.5)
    )
    protected.succeed(times=1000)
    protected.clock.advance(4096.0)
    protected.fail(times=4)
    assert protected.state is OPEN
    assert protected.info.last_trip is not None
    assert protected.info.last_trip.calls == 4


def test_an_ignored_call_neither_breaks_a_streak_nor_counts(
    protect: Callable[..., Protected],
) -> None:
    """Untracked errors and cancellations between failures change no number of the window."""
    protected = protect(**SETTINGS, tripper=MinRequests(4) & FailureRate(0.5))
    protected.fail()
    protected.fail(ValueError("untracked"))
    protected.fail(asyncio.CancelledError())
    protected.fail()
    metrics = protected.info.metrics
    assert (metrics.total_count, metrics.failure_streak) == (2, 2)
    totals = protected.totals
    assert (totals.failures, totals.ignored, totals.cancelled, totals.settled) == (2, 1, 1, 4)


def test_resetting_a_closed_circuit_forgets_and_tells_nobody(
    protect: Callable[..., Protected],
) -> None:
    """closed → closed is no transition."""
    protected = protect(**SETTINGS, tripper=MinRequests(4) & FailureRate(0.5))
    protected.fail(times=3)
    protected.breaker.reset()
    assert protected.signals == []
    assert protected.info.metrics.total_count == 0
    assert protected.info.metrics.failure_streak == 0
    protected.fail(times=3)
    assert protected.state is CLOSED


def test_a_whole_life_is_told_in_order(protect: Callable[..., Protected]) -> None:
    """Closed, open, half-open, open, half-open, closed: five signals, each with its reason."""
    protected = protect(**SETTINGS, tripper=Closed() & FailureRate(0.5))
    protected.fail()
    late_failure(protected)
    late_success(protected)
    told = [(s.old_state, s.new_state, str(s.reason)) for s in protected.signals]
    assert told == [
        (CLOSED, OPEN, "FailureRate(0.5): 1 over 1 calls"),
        (OPEN, HALF_OPEN, "cooldown over"),
        (HALF_OPEN, OPEN, "probe failed"),
        (OPEN, HALF_OPEN, "cooldown over"),
        (HALF_OPEN, CLOSED, "probe succeeded"),
    ]
    assert {signal.circuit_name for signal in protected.signals} == {"api"}
    assert {signal.kind for signal in protected.signals} == {SignalKind.TRANSITION}
    generations = [signal.generation for signal in protected.signals]
    assert generations == sorted(set(generations))


def test_the_machine_names_every_state_and_every_control() -> None:
    """The published table is complete, and what was set by hand is left by hand alone."""
    controls = {Event.RESET, Event.FORCE_OPEN, Event.DISABLE, Event.METRICS_ONLY}
    assert set(TRANSITIONS) == set(State)
    for state, moves in TRANSITIONS.items():
        assert controls <= set(moves)
        if state in (METRICS_ONLY, DISABLED, FORCED_OPEN):
            assert set(moves) == controls
    assert {event for moves in TRANSITIONS.values() for event in moves} == set(Event)


@pytest.mark.parametrize("outcome", list(Outcome)[:4])  # those with which a call ends
def test_the_machine_alone_needs_neither_clock_nor_lock(outcome: Outcome) -> None:
    """Time and dice are arguments; what there is to tell lies in the outbox."""
    policy = Policy(tripper=FailureRate(0.5), retry=Cooldown(8.0), permit=All())
    machine = Machine(policy, CLOSED, 0.0, lambda: 0.0)
    admission = machine.acquire(0.0)
    assert admission is not None
    machine.settle(admission, outcome, 0.25, 1.0)
    tripped = outcome is Outcome.FAILURE
    assert machine.phase.state is (OPEN if tripped else CLOSED)
    assert [notice.new_state for notice in machine.outbox] == [OPEN] * tripped
    assert machine.totals.snapshot(0).settled == 1
    assert (machine.acquire(8.5) is None) is tripped
