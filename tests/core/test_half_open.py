"""HALF_OPEN: who is admitted as a probe, and what the probes' outcomes decide."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from fluxgate import State
from fluxgate.permits import All, Permit, RampUp, Random
from fluxgate.retries import Always, Backoff, Cooldown, Never
from fluxgate.testing import LoadedDice
from fluxgate.trackers import TypeOf
from fluxgate.trippers import (
    AvgLatency,
    Closed,
    FailureRate,
    FailureStreak,
    HalfOpened,
    MinRequests,
    SlowRate,
)
from fluxgate.windows import CountWindow, TimeWindow

if TYPE_CHECKING:
    from conftest import Protected

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
COOLDOWN = 64.0
CLASSIC = Closed() & FailureRate(0.5)
SEED = MinRequests(20) & ((Closed() & FailureRate(0.6)) | (HalfOpened() & FailureRate(0.5)))


def opened(make: Callable[..., Protected], **settings: Any) -> Protected:
    """An open breaker whose cooldown is over, so that the next call is a probe."""
    protected = make(
        **{
            "tracker": TypeOf(ConnectionError),
            "retry": Cooldown(COOLDOWN),
            "permit": All(),
            "tripper": CLASSIC,
            **settings,
        }
    )
    while protected.state is not OPEN:
        protected.fail()
    protected.clock.advance(COOLDOWN)
    return protected


# -- the classic rule


def test_a_successful_probe_closes_under_the_classic_rule(
    protect: Callable[..., Protected],
) -> None:
    """`Closed() & ...` is silent in half-open: one success closes, and starts afresh."""
    protected = opened(protect)
    protected.succeed()
    assert protected.state is CLOSED
    info = protected.info
    assert (info.reopens, info.metrics.total_count, info.probes) == (0, 0, 0)


def test_a_failed_probe_reopens_under_the_classic_rule(protect: Callable[..., Protected]) -> None:
    """`Closed() & ...` re-opens from half-open, which is what the tripper alone would never do."""
    protected = opened(protect)
    protected.fail()
    assert protected.state is OPEN
    assert protected.info.reopens == 1
    assert str(protected.info.last_trip) == "probe failed"


def test_a_slow_but_successful_probe_closes_under_the_classic_rule(
    protect: Callable[..., Protected],
) -> None:
    """The classic rule looks at nothing but the outcome."""
    protected = opened(protect, tripper=Closed() & (FailureRate(0.5) | SlowRate(0.5, 1.0)))
    protected.slow(seconds=8.0)
    assert protected.state is CLOSED


@pytest.mark.parametrize(
    "nothing", [ValueError("untracked"), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr
)
def test_a_probe_that_proves_nothing_moves_nothing_and_gives_its_slot_back(
    protect: Callable[..., Protected], nothing: BaseException
) -> None:
    """Ignored and cancelled probes can't wedge the circuit, close it, or trip it."""
    protected = opened(protect, max_half_open_calls=1)
    protected.fail(nothing, times=4)
    assert protected.state is HALF_OPEN
    assert protected.info.probes == 0
    assert protected.info.metrics.total_count == 0
    protected.succeed()
    assert protected.state is CLOSED


# -- the evidence rule


def test_the_default_breaker_does_not_close_on_its_first_probe(
    protect: Callable[..., Protected],
) -> None:
    """MinRequests(10) & FailureRate(0.5) waits for ten probes, the ramp notwithstanding."""
    protected = protect()
    protected.fail(times=10)
    assert protected.state is OPEN
    protected.clock.advance(60.0)
    for probes in range(1, 10):
        protected.succeed()
        assert protected.state is HALF_OPEN
        assert protected.info.metrics.total_count == probes
    protected.succeed()
    assert protected.state is CLOSED
    assert str(protected.signals[-1].reason) == "probes succeeded"


def test_the_default_ramp_admits_a_tenth_at_first_and_all_in_the_end(
    breaker: Callable[..., Protected],
) -> None:
    """RampUp(0.1, 1.0, 60.0), read off the dice: a throw below the ratio is admitted."""
    protected = breaker()
    protected.fail(times=10)
    protected.clock.advance(60.0)
    protected.dice.load(0.125)
    error = protected.refused()
    assert (error.state, error.retry_after) == (HALF_OPEN, None)
    protected.dice.load(0.0625)
    protected.succeed()
    protected.clock.advance(30.0)
    protected.dice.load(0.5, 0.5625)
    protected.succeed()
    protected.refused()
    protected.clock.advance(30.0)
    protected.dice.load(0.999)
    protected.succeed()
    assert protected.info.metrics.total_count == 3


def test_the_seeds_thresholds_per_state_wait_for_twenty_probes(
    protect: Callable[..., Protected],
) -> None:
    """MinRequests(20) & (60 % while closed | 50 % while half-open): 10 of 20 re-open, 9 do not."""
    protected = opened(protect, tripper=SEED)
    assert protected.info.last_trip is not None
    assert protected.info.last_trip.clause == "FailureRate(0.6)"
    protected.succeed(times=10)
    protected.fail(times=9)
    assert protected.state is HALF_OPEN
    protected.fail()
    assert protected.state is OPEN
    assert str(protected.info.last_trip) == "FailureRate(0.5): 0.5 over 20 calls"

    protected.clock.advance(COOLDOWN)
    protected.succeed(times=10)
    protected.fail(times=9)
    protected.succeed()
    assert protected.state is CLOSED


def test_the_last_outcome_does_not_decide_when_the_evidence_says_otherwise(
    protect: Callable[..., Protected],
) -> None:
    """With the evidence in, a failed last probe closes if the rate is below the ratio."""
    protected = opened(protect, tripper=MinRequests(4) & FailureRate(0.5))
    protected.succeed(times=3)
    protected.fail()
    assert protected.state is CLOSED
    assert protected.info.metrics.failure_count == 0


@pytest.mark.parametrize(
    ("tripper", "probe", "state"),
    [
        (FailureRate(0.5), "fail", OPEN),
        (FailureRate(0.5), "succeed", CLOSED),
        (FailureRate(0.5) | SlowRate(0.5, 1.0), "slow", OPEN),
        (FailureRate(0.5) | AvgLatency(1.0), "slow", OPEN),
        (FailureRate(0.5) & SlowRate(0.5, 1.0), "slow", CLOSED),
        (FailureRate(0.5) & SlowRate(0.5, 1.0), "fail slowly", OPEN),
        (Closed() & FailureRate(0.5) | HalfOpened() & SlowRate(0.5, 1.0), "slow", OPEN),
        (Closed() & FailureRate(0.5) | HalfOpened() & SlowRate(0.5, 1.0), "fail", CLOSED),
    ],
    ids=str,
)
def test_clauses_without_a_minimum_judge_after_one_probe(
    protect: Callable[..., Protected], tripper: Any, probe: str, state: State
) -> None:
    """Everything but MinRequests and FailureStreak has its evidence with the first probe."""
    protected = protect(retry=Cooldown(COOLDOWN), permit=All(), tripper=tripper)
    protected.fail(seconds=2.0)
    assert protected.state is OPEN
    protected.clock.advance(COOLDOWN)
    match probe:
        case "slow":
            protected.slow(seconds=2.0)
        case "fail slowly":
            protected.fail(seconds=2.0)
        case _:
            getattr(protected, probe)()
    assert protected.state is state


@pytest.mark.parametrize(
    "tripper",
    [
        MinRequests(3) & FailureRate(0.5),
        MinRequests(3) & (MinRequests(2) & FailureRate(0.5) | SlowRate(1.0, 1.0)),
        (MinRequests(3) & FailureRate(0.5)) | SlowRate(1.0, 1.0),
    ],
    ids=repr,
)
def test_and_and_or_need_the_evidence_of_both_their_sides(
    protect: Callable[..., Protected], tripper: Any
) -> None:
    """The largest minimum anywhere in the expression is what is waited for."""
    protected = opened(protect, tripper=tripper)
    protected.fail(times=2)
    assert protected.state is HALF_OPEN
    protected.fail()
    assert protected.state is OPEN


@pytest.mark.parametrize("window", [CountWindow(2), TimeWindow(8.0, 4)], ids=repr)
def test_the_half_open_window_holds_the_evidence_asked_for(
    protect: Callable[..., Protected], window: Any
) -> None:
    """Probes come in seldom: neither a small window nor the passing of time loses them."""
    tripper = FailureStreak(2) & Closed() | HalfOpened() & MinRequests(5) & FailureRate(0.5)
    protected = opened(protect, tripper=tripper, window=window)
    protected.fail(times=3)
    for _ in range(2):
        assert protected.state is HALF_OPEN
        protected.clock.advance(16.0)
        protected.succeed()
    assert protected.state is OPEN
    assert str(protected.info.last_trip) == "FailureRate(0.5): 0.6 over 5 calls"


# -- a streak


def test_a_streak_goes_on_through_open_so_one_failed_probe_reopens(
    protect: Callable[..., Protected],
) -> None:
    """FailureStreak(4): the fifth failure in a row, a probe, re-opens at once."""
    protected = opened(protect, tripper=FailureStreak(4))
    assert protected.info.metrics.failure_streak == 4
    protected.fail()
    assert protected.state is OPEN
    assert str(protected.info.last_trip) == "FailureStreak(4): 5 over 5 calls"


def test_a_success_breaks_a_streak_and_closes(protect: Callable[..., Protected]) -> None:
    """One successful probe is all the evidence that a streak needs against it."""
    protected = opened(protect, tripper=FailureStreak(4))
    protected.succeed()
    assert protected.state is CLOSED
    protected.fail(times=3)
    assert protected.state is CLOSED
    protected.fail()
    assert protected.state is OPEN


def test_a_streak_that_was_reset_has_to_grow_anew(protect: Callable[..., Protected]) -> None:
    """reset() breaks a streak, and nothing else that is done by hand does."""
    protected = opened(protect, tripper=FailureStreak(4))
    protected.breaker.metrics_only()
    assert protected.info.metrics.failure_streak == 4
    protected.breaker.reset()
    assert protected.info.metrics.failure_streak == 0
    protected.fail(times=3)
    assert protected.state is CLOSED


def test_a_streak_waits_in_half_open_when_something_else_opened_the_circuit(
    protect: Callable[..., Protected],
) -> None:
    """After open_for() the streak is 0: failures count up to it, a success closes."""
    protected = protect(tripper=FailureStreak(3), retry=Cooldown(COOLDOWN), permit=All())
    protected.breaker.open_for(8.0)
    protected.clock.advance(8.0)
    protected.fail(times=2)
    assert protected.state is HALF_OPEN
    protected.fail()
    assert protected.state is OPEN


# -- who is admitted


def test_the_slots_bound_the_probes_in_flight_and_nobody_queues(
    protect: Callable[..., Protected],
) -> None:
    """With all slots taken a call is refused; a settled probe makes room for the next."""
    protected = opened(protect, tripper=SEED, max_half_open_calls=3)
    probes = [protected.breaker.attempt() for _ in range(3)]
    assert all(probe.probe for probe in probes)
    assert protected.info.probes == 3
    error = protected.refused()
    assert (error.state, error.retry_after) == (HALF_OPEN, None)
    assert error.reason == protected.info.last_trip
    probes[1].succeed()
    assert protected.breaker.attempt().probe
    assert protected.info.metrics.total_count == 1


def test_ten_probes_at_once_are_the_default(protect: Callable[..., Protected]) -> None:
    """Half-open doesn't let everybody through."""
    protected = opened(protect)
    probes = [protected.breaker.attempt() for _ in range(10)]
    protected.refused()
    assert protected.info.probes == len(probes)


def test_a_call_is_no_probe_while_closed(protect: Callable[..., Protected]) -> None:
    """`Attempt.probe` tells probes from ordinary calls."""
    protected = protect()
    assert not protected.breaker.attempt().probe


@pytest.mark.parametrize(("throw", "admitted"), [(0.0, True), (0.4375, True), (0.5, False)])
def test_a_random_permit_admits_what_the_dice_say(
    protect: Callable[..., Protected], throw: float, admitted: bool
) -> None:
    """A throw below the ratio is admitted, the ratio itself is not."""
    protected = opened(protect, permit=Random(0.5))
    protected.dice.load(throw)
    if admitted:
        protected.succeed()
    else:
        protected.refused()
    assert protected.state is (CLOSED if admitted else HALF_OPEN)


def test_a_ramp_grows_from_the_end_of_the_cooldown(
    protect: Callable[..., Protected],
) -> None:
    """The share is asked with the time since the cooldown ended, whenever the first call came."""
    protected = opened(protect, tripper=SEED, permit=RampUp(0.25, 0.75, 32.0))
    for seconds, below, above in [
        (8.0, 0.3125, 0.375),
        (8.0, 0.4375, 0.5),
        (16.0, 0.6875, 0.75),
        (64.0, 0.6875, 0.75),
    ]:
        protected.clock.advance(seconds)
        protected.dice.load(below, above)
        protected.succeed()
        protected.refused()


def test_one_call_an_hour_is_admitted(breaker: Callable[..., Protected]) -> None:
    """The default ramp is over by then, whatever the dice: each call probes, and ten close."""
    rare = breaker()
    rare.fail(times=10)
    for number in range(10):
        assert rare.state is (HALF_OPEN if number else OPEN)
        rare.clock.advance(3600)
        rare.dice.load(0.999)
        rare.succeed()
    assert rare.state is CLOSED
    assert rare.totals.rejected == 0


def test_a_failed_probe_starts_its_ramp_anew(breaker: Callable[..., Protected]) -> None:
    """Each cooldown has a ramp of its own, from its own end."""
    rare = breaker(tripper=CLASSIC, permit=RampUp(0.25, 1.0, 32.0), retry=Cooldown(COOLDOWN))
    rare.fail()
    rare.clock.advance(3600)
    rare.dice.load(0.999)
    rare.fail()
    rare.clock.advance(COOLDOWN)
    rare.dice.load(0.25)
    rare.refused()
    rare.clock.advance(32.0)
    rare.dice.load(0.999)
    rare.succeed()
    assert rare.state is CLOSED


def test_a_permit_that_admits_all_throws_no_dice(
    breaker: Callable[..., Protected], dice: LoadedDice
) -> None:
    """Chance is asked only where it decides."""
    protected = opened(breaker)
    protected.succeed()
    assert dice.thrown == 0


# -- leases


def test_a_lost_probe_is_reclaimed_after_its_timeout(protect: Callable[..., Protected]) -> None:
    """A hung probe holds its slot for probe_timeout, no moment longer, and counts as ignored."""
    protected = opened(protect, max_half_open_calls=1, probe_timeout=16.0)
    lost = protected.breaker.attempt()
    protected.clock.advance(15.5)
    protected.refused()
    protected.clock.advance(0.5)
    protected.succeed()
    assert protected.state is CLOSED
    totals = protected.totals
    assert (totals.ignored, totals.successes, totals.rejected) == (1, 1, 1)
    assert not lost.settled


@pytest.mark.parametrize("outcome", ["succeed", "fail", "ignore"])
def test_the_late_outcome_of_a_reclaimed_probe_is_neither_counted_nor_heard(
    protect: Callable[..., Protected], outcome: str
) -> None:
    """It was settled when its slot was taken back, and settles only once."""
    protected = opened(protect, probe_timeout=16.0)
    late = protected.breaker.attempt()
    protected.clock.advance(16.0)
    before = protected.info
    assert (before.probes, before.totals.ignored) == (0, 1)
    getattr(late, outcome)()
    after = protected.info
    assert after.state is HALF_OPEN
    assert after.totals == before.totals
    assert after.metrics == before.metrics


@pytest.mark.parametrize("outcome", ["succeed", "fail"])
def test_a_probe_that_ends_after_its_timeout_moves_nothing_even_if_nobody_looked(
    breaker: Callable[..., Protected], outcome: str
) -> None:
    """Whether somebody read info() in the meantime must not change what a circuit decides."""
    protected = opened(breaker, probe_timeout=16.0)
    late = protected.breaker.attempt()
    protected.clock.advance(16.0)
    getattr(late, outcome)()
    assert protected.state is HALF_OPEN
    totals = protected.totals
    assert (totals.ignored, totals.successes, totals.failures, totals.stale) == (1, 0, 1, 0)


@pytest.mark.parametrize("looked", [True, False], ids=["reclaimed", "settled late"])
def test_probes_that_are_overdue_are_logged_once(
    breaker: Callable[..., Protected], looked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """If every probe takes too long, nothing can close the circuit; the log says what to change."""
    protected = opened(breaker, probe_timeout=30.0)
    probes = [protected.breaker.attempt() for _ in range(3)]
    protected.clock.advance(35.5)
    if looked:
        assert protected.info.probes == 0
    for probe in probes:
        probe.succeed()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert (
        "a probe took 35.5 s (probe_timeout=30) and was ignored; "
        "choose a probe_timeout above your longest good call"
    ) in record.getMessage()
    assert (protected.state, protected.totals.ignored) == (HALF_OPEN, 3)


def test_reclaimed_slots_are_free_for_others_one_by_one(protect: Callable[..., Protected]) -> None:
    """Each probe has a deadline of its own."""
    protected = opened(protect, max_half_open_calls=2, probe_timeout=16.0)
    first = protected.breaker.attempt()
    protected.clock.advance(8.0)
    second = protected.breaker.attempt()
    protected.clock.advance(8.0)
    assert protected.info.probes == 1
    third = protected.breaker.attempt()
    protected.refused()
    first.fail()
    assert protected.state is HALF_OPEN
    second.ignore()
    third.succeed()
    assert protected.state is CLOSED


def test_a_dropped_probe_gives_its_slot_back_at_once(protect: Callable[..., Protected]) -> None:
    """An attempt that nobody holds any more is ignored."""
    protected = opened(protect, max_half_open_calls=1)
    probe = protected.breaker.attempt()
    protected.refused()
    del probe
    protected.succeed()
    assert protected.state is CLOSED
    assert protected.totals.ignored == 1


def test_the_probes_of_an_older_half_open_phase_are_stale(
    protect: Callable[..., Protected],
) -> None:
    """They hold no slot of the new phase, and their outcomes don't decide it."""
    protected = opened(protect, max_half_open_calls=2)
    old, failing = protected.breaker.attempt(), protected.breaker.attempt()
    failing.fail()
    protected.clock.advance(COOLDOWN)
    fresh = [protected.breaker.attempt() for _ in range(2)]
    old.succeed()
    assert protected.state is HALF_OPEN
    assert protected.info.probes == 2
    assert protected.totals.stale == 1
    fresh[0].succeed()
    assert protected.state is CLOSED


def test_half_open_never_wedges_however_many_probes_are_lost(
    protect: Callable[..., Protected],
) -> None:
    """Round after round of hung probes: there is always a next one."""
    protected = opened(protect, max_half_open_calls=2, probe_timeout=16.0)
    hung = []
    for _ in range(50):
        hung += [protected.breaker.attempt() for _ in range(2)]
        protected.refused()
        protected.clock.advance(16.0)
    protected.succeed()
    assert protected.state is CLOSED
    assert protected.totals.ignored == len(hung) == 100


# -- how long it stays open


def test_backoff_grows_with_each_failed_recovery_and_starts_over_after_a_success(
    protect: Callable[..., Protected],
) -> None:
    """8 s, 16 s, 32 s, then capped at 40 s; closing zeroes the count."""
    protected = protect(tripper=CLASSIC, retry=Backoff(8.0, max_duration=40.0), permit=All())
    protected.fail()
    for reopens, delay in enumerate([8.0, 16.0, 32.0, 40.0, 40.0]):
        info = protected.info
        assert (info.state, info.reopens, info.retry_after) == (OPEN, reopens, delay)
        protected.clock.advance(delay - 0.5)
        assert protected.refused().retry_after == 0.5
        protected.clock.advance(0.5)
        protected.fail()
    protected.clock.advance(40.0)
    protected.succeed()
    assert protected.info.reopens == 0
    protected.fail()
    assert protected.info.retry_after == 8.0


def test_jitter_is_drawn_once_per_opening(
    breaker: Callable[..., Protected], dice: LoadedDice
) -> None:
    """Asking often can't tighten the herd: the deadline is known from the moment it opens."""
    protected = breaker(tripper=CLASSIC, retry=Cooldown(64.0, jitter_ratio=0.5), permit=All())
    dice.load(0.25)
    protected.fail()
    assert dice.thrown == 1
    assert protected.info.retry_after == 48.0
    for _ in range(40):
        protected.clock.advance(1.0)
        protected.refused()
    assert dice.thrown == 1
    protected.clock.advance(8.0)
    dice.load(1 - 2**-10)
    protected.fail()
    assert protected.info.retry_after == pytest.approx(96.0, abs=0.1)
    assert dice.thrown == 2


def test_always_probes_with_the_very_next_call(protect: Callable[..., Protected]) -> None:
    """No time has to pass."""
    protected = protect(tripper=CLASSIC, retry=Always(), permit=All())
    protected.fail(times=3)
    assert protected.info.reopens == 2
    protected.succeed()
    assert protected.state is CLOSED


def test_never_stays_open_until_somebody_resets_it(protect: Callable[..., Protected]) -> None:
    """retry_after is None, since nobody knows; never 0, never infinity."""
    protected = protect(tripper=CLASSIC, retry=Never(), permit=All())
    protected.fail()
    protected.clock.advance(2.0**40)
    assert protected.refused().retry_after is None
    assert protected.info.retry_after is None
    assert protected.state is OPEN
    protected.breaker.reset()
    protected.succeed()
    assert protected.state is CLOSED


def test_retry_after_is_known_only_where_a_deadline_is(protect: Callable[..., Protected]) -> None:
    """Seconds in OPEN; None in every other state."""
    protected = protect(tripper=CLASSIC, retry=Cooldown(COOLDOWN), permit=All())
    assert protected.info.retry_after is None
    protected.fail()
    protected.clock.advance(24.0)
    assert protected.info.retry_after == 40.0
    protected.clock.advance(40.0)
    protected.fail(asyncio.CancelledError())
    assert (protected.info.state, protected.info.retry_after) == (HALF_OPEN, None)
    protected.breaker.force_open()
    assert protected.refused().retry_after is None
    assert protected.info.retry_after is None


def test_open_for_ends_with_a_probe_whatever_the_retry_says(
    breaker: Callable[..., Protected],
) -> None:
    """A stated time is a deadline of its own, and the signal doesn't blame the retry for it."""
    protected = breaker(tripper=CLASSIC, retry=Never(), permit=All())
    protected.breaker.open_for(8.0)
    assert protected.refused().retry_after == 8.0
    protected.clock.advance(8.0)
    protected.succeed()
    assert protected.moves == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]
    assert str(protected.signals[0].reason) == "open_for(): 8 s"
    assert "Never" not in protected.signals[1].reason.clause


class Counting(Permit):
    """A permit that says how much time it was told of."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def ratio(self, elapsed: float) -> float:
        self.asked.append(elapsed)
        return 1.0


def test_the_call_that_ends_the_cooldown_is_decided_on_in_half_open(
    protect: Callable[..., Protected],
) -> None:
    """It is the first probe, and its permit knows how late it is; that may refuse it."""
    permit = Counting()
    protected = opened(protect, permit=permit, tripper=SEED)
    protected.clock.advance(8.0)
    protected.succeed()
    protected.clock.advance(2.0)
    protected.succeed()
    assert permit.asked == [8.0, 10.0]

    refusing = opened(protect, permit=Random(0.5))
    refusing.dice.load(0.75)
    assert refusing.refused().state is HALF_OPEN
    assert refusing.moves[-1] == (OPEN, HALF_OPEN)


def test_transitions_are_counted(breaker: Callable[..., Protected]) -> None:
    """By the state that they lead to; setting the state that there is isn't one."""
    flapping = breaker(tripper=CLASSIC, retry=Cooldown(8.0), permit=All(), max_half_open_calls=1)
    assert flapping.totals.transitions == {}
    for _ in range(3):
        flapping.breaker.open_for(8.0)
        flapping.clock.advance(8.0)
        while flapping.state is not State.CLOSED:
            flapping.succeed()
    flapping.breaker.reset()
    flapping.breaker.disable()
    flapping.breaker.disable()
    assert flapping.totals.transitions == {
        State.OPEN: 3,
        State.HALF_OPEN: 3,
        State.CLOSED: 3,
        State.DISABLED: 1,
    }
