"""Strategies that raise: it is logged, and the caller's result or error arrives as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from fluxgate import CircuitBreaker, State
from fluxgate.permits import All, Permit, Random
from fluxgate.retries import Always, Cooldown, Retry
from fluxgate.testing import ManualClock
from fluxgate.trackers import Custom, Tracker
from fluxgate.trippers import Closed, FailureRate, Tripper

if TYPE_CHECKING:
    from conftest import Protected

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
CLASSIC = Closed() & FailureRate(0.5)


def broken(*_given: object) -> Any:
    raise LookupError("a bug in the user's own code")


class BrokenTracker(Tracker):
    def tracks(self, error: Exception) -> bool:
        return broken(error)


class BrokenTripper(Tripper):
    def fires(self, metrics: Any) -> bool:
        return broken(metrics)


class BrokenExplanation(FailureRate):
    def explain(self, metrics: Any) -> Any:
        return broken(metrics)


class BrokenEvidence(FailureRate):
    def has_evidence(self, metrics: Any) -> bool:
        return broken(metrics)


class BrokenRetry(Retry):
    def delay(self, reopens: int) -> float:
        return broken(reopens)


class OddRetry(Retry):
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def delay(self, reopens: int) -> float:
        return self.answer


class BrokenPermit(Permit):
    def ratio(self, elapsed: float) -> float:
        return broken(elapsed)


def logged(caplog: pytest.LogCaptureFixture, what: str) -> int:
    """How often `what` was reported; nothing else may have been."""
    for record in caplog.records:
        assert (record.name, record.levelname) == ("fluxgate", "ERROR")
        assert record.getMessage().startswith(f"circuit 'api': {what}")
        assert record.exc_info is not None
    return len(caplog.records)


@pytest.mark.parametrize("tracker", [BrokenTracker(), Custom(broken)], ids=["own", "custom"])
def test_a_raising_tracker_makes_the_call_ignored(
    protect: Callable[..., Protected], caplog: pytest.LogCaptureFixture, tracker: Tracker
) -> None:
    """Nobody can say what the error means, so it means nothing; the caller gets it all the same."""
    protected = protect(tracker=tracker, tripper=FailureRate(0.5))
    protected.fail()
    protected.fail(ExceptionGroup("leaves", [ValueError()]))
    assert protected.state is CLOSED
    assert (protected.totals.ignored, protected.totals.settled) == (2, 2)
    assert logged(caplog, "tracker") == 1


def test_a_raising_tracker_gives_the_probe_slot_back(
    protect: Callable[..., Protected], caplog: pytest.LogCaptureFixture
) -> None:
    protected = protect(
        tracker=BrokenTracker(), tripper=CLASSIC, permit=All(), max_half_open_calls=1
    )
    protected.breaker.open_for(8.0)
    protected.clock.advance(8.0)
    protected.fail(times=3)
    assert protected.state is HALF_OPEN
    assert protected.info.probes == 0
    assert logged(caplog, "tracker") == 1


@pytest.mark.parametrize("half_open", [False, True])
def test_a_raising_result_tracker_makes_the_call_ignored(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, half_open: bool
) -> None:
    """A good result is never lost to it."""
    breaker = CircuitBreaker(
        "api", result_tracker=broken, tripper=CLASSIC, retry=Always(), permit=All(), clock=clock
    )
    if half_open:
        breaker.attempt().fail()
    before = breaker.state
    assert breaker.call(str, "result") == "result"
    assert breaker(str)("result") == "result"
    assert breaker.state is (HALF_OPEN if half_open else before)
    assert breaker.info().totals.ignored == 2
    assert logged(caplog, "result_tracker") == 1


def test_a_raising_tripper_does_not_fire(
    protect: Callable[..., Protected], caplog: pytest.LogCaptureFixture
) -> None:
    """The calls are recorded, so that a better tripper can take over."""
    protected = protect(tripper=BrokenTripper())
    protected.succeed()
    protected.fail()
    assert protected.state is CLOSED
    assert logged(caplog, "tripper") == 1
    assert (protected.totals.successes, protected.totals.failures) == (1, 1)
    protected.breaker.update(tripper=FailureRate(0.5))
    protected.fail()
    assert protected.state is OPEN


def test_a_raising_tripper_is_reported_by_info_in_metrics_only(
    breaker: Callable[..., Protected], caplog: pytest.LogCaptureFixture
) -> None:
    protected = breaker(tripper=BrokenTripper(), initial_state="metrics_only")
    assert protected.info.would_open is None
    assert logged(caplog, "tripper") == 1


def test_a_tripper_that_cannot_explain_itself_is_named(
    protect: Callable[..., Protected], caplog: pytest.LogCaptureFixture
) -> None:
    """It has fired, and that counts."""
    protected = protect(tripper=BrokenExplanation(0.5))
    protected.fail()
    assert protected.state is OPEN
    assert protected.info.last_trip is not None
    assert protected.info.last_trip.clause == "BrokenExplanation(0.5)"
    assert logged(caplog, "tripper") == 1


@pytest.mark.parametrize(("outcome", "state"), [("succeed", CLOSED), ("fail", OPEN)])
def test_a_tripper_that_cannot_weigh_its_evidence_judges_after_one_probe(
    protect: Callable[..., Protected],
    caplog: pytest.LogCaptureFixture,
    outcome: str,
    state: State,
) -> None:
    """HALF_OPEN must not wedge on a bug."""
    protected = protect(tripper=BrokenEvidence(0.5), retry=Cooldown(8.0), permit=All())
    protected.fail()
    protected.clock.advance(8.0)
    getattr(protected, outcome)()
    assert protected.state is state
    assert logged(caplog, "tripper") == 1


@pytest.mark.parametrize(
    "retry",
    [BrokenRetry(), OddRetry(-1.0), OddRetry(float("nan")), OddRetry("soon"), OddRetry(None)],
    ids=["raises", "negative", "nan", "text", "nothing"],
)
def test_a_raising_retry_gives_a_minute(
    protect: Callable[..., Protected], caplog: pytest.LogCaptureFixture, retry: Retry
) -> None:
    """A circuit that is open for no stated time would be open for ever, or not at all."""
    protected = protect(tripper=CLASSIC, retry=retry, permit=All())
    protected.fail()
    assert protected.info.retry_after == 60.0
    assert logged(caplog, "retry") == 1
    protected.clock.advance(60.0)
    protected.succeed()
    assert protected.state is CLOSED


def test_a_raising_permit_leaves_it_to_the_slots(
    protect: Callable[..., Protected], caplog: pytest.LogCaptureFixture
) -> None:
    """Refusing all would wedge the circuit; the slots bound what admitting can do."""
    protected = protect(
        tripper=CLASSIC, retry=Cooldown(8.0), permit=BrokenPermit(), max_half_open_calls=1
    )
    protected.fail()
    protected.clock.advance(8.0)
    probe = protected.breaker.attempt()
    assert probe.probe
    protected.refused()
    probe.succeed()
    assert protected.state is CLOSED
    assert logged(caplog, "permit") == 1


def test_raising_dice_are_a_fault_like_any_other(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = CircuitBreaker(
        "api",
        tripper=CLASSIC,
        retry=Cooldown(8.0, 0.5),
        permit=Random(0.5),
        clock=clock,
        dice=broken,
    )
    breaker.attempt().fail()
    assert breaker.info().retry_after == 60.0
    clock.advance(60.0)
    breaker.call(str)
    assert breaker.state is CLOSED
    assert len(caplog.records) == 2
