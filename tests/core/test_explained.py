"""Why a circuit opened: clause, value, window, and what the last failures were."""

from __future__ import annotations

import gc
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxgate import CallNotPermittedError, CircuitBreaker, Reason, SignalKind, State, trackers
from fluxgate._engine import outcomes
from fluxgate._engine.circuit import inside_a_circuit
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, RecordedCalls, RecordedSignals, tripped
from fluxgate.trackers import TypeOf
from fluxgate.trippers import (
    AvgLatency,
    Closed,
    FailureRate,
    FailureStreak,
    MinRequests,
    SlowRate,
    Tripper,
)
from fluxgate.windows import CountWindow, TimeWindow, Window

if TYPE_CHECKING:
    from conftest import Protected

TEN = MinRequests(10) & FailureRate(0.5)


class Timeout(Exception):
    """An error with a module."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


class Unwritable:
    __str__ = Unprintable.__str__  # type: ignore[assignment]


def test_the_last_errors_are_told_by_type_and_count(protect: Callable[..., Protected]) -> None:
    protected = protect(tripper=TEN)
    protected.succeed(times=3)
    protected.fail(Timeout("secret"), times=2)
    protected.fail(times=5)
    reason = protected.signals[-1].reason
    assert reason == protected.info.last_trip == protected.refused().reason
    assert (reason.clause, reason.measured, reason.calls) == ("FailureRate(0.5)", 0.7, 10)
    assert reason.window == "CountWindow(100)"
    assert reason.errors == (("ConnectionError", 5), (f"{__name__}.Timeout", 2))
    assert reason.details == (
        "FailureRate(0.5): 0.7 over 10 calls in CountWindow(100); "
        f"last errors: 5 × ConnectionError, 2 × {__name__}.Timeout"
    )
    assert "secret" not in repr(protected.signals)


def test_only_errors_of_the_window_are_told(breaker: Callable[..., Protected]) -> None:
    protected = breaker(tripper=TEN, window=CountWindow(10))
    protected.fail(Timeout(), times=4)
    protected.succeed(times=10)
    protected.fail(times=5)
    assert protected.signals[-1].reason.errors == (("ConnectionError", 5),)

    protected = breaker(tripper=TEN, window=TimeWindow(60.0))
    protected.fail(Timeout(), times=4)
    protected.clock.advance(128.0)
    protected.fail(times=10)
    assert protected.signals[-1].reason.errors == (("ConnectionError", 10),)


def test_a_phase_begins_without_the_errors_of_the_last(breaker: Callable[..., Protected]) -> None:
    protected = breaker(tripper=Closed() & FailureRate(0.5), retry=Cooldown(8.0), permit=All())
    protected.fail(Timeout())
    protected.clock.advance(8.0)
    protected.fail()
    assert protected.signals[-1].reason == Reason("probe failed", errors=(("ConnectionError", 1),))
    assert protected.signals[-1].reason.details == "probe failed; last errors: 1 × ConnectionError"
    protected.breaker.reset()
    assert protected.signals[-1].reason.errors == ()


def test_probes_are_judged_in_a_window_of_their_own(breaker: Callable[..., Protected]) -> None:
    protected = breaker(tripper=TEN, window=TimeWindow(60.0), retry=Cooldown(8.0), permit=All())
    protected.fail(times=10)
    protected.clock.advance(8.0)
    protected.fail(times=10)
    assert protected.signals[-1].reason.window == "CountWindow(100)"


def test_however_many_failures_few_errors_are_kept() -> None:
    tripper = MinRequests(1000) & FailureRate(0.5)
    breaker = CircuitBreaker("api", tripper=tripper, window=CountWindow(1000))
    for _ in range(1000):
        breaker.attempt().fail(OSError())
    trip = breaker.info().last_trip
    assert trip is not None
    assert (trip.calls, trip.errors) == (1000, (("OSError", 100),))


def test_errors_themselves_are_not_kept() -> None:
    """Their tracebacks would keep the frames of failed calls alive."""
    breaker = CircuitBreaker("api")
    error = Timeout("down")
    breaker.attempt().fail(error)
    with pytest.raises(Timeout), breaker:
        raise error
    gone = weakref.ref(error)
    error.__traceback__ = None
    del error
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(
    sys.version_info < (3, 14) and not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="classes live for ever in CPython 3.13t",
)
@pytest.mark.parametrize(("narrow", "most"), [(False, 256), (True, 0)])
def test_few_types_of_errors_are_kept(
    narrow: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some libraries make a class for each error; only so many are remembered as failures."""
    monkeypatch.setattr(outcomes, "_plain", set())
    tracker = TypeOf(OSError) if narrow else trackers.All()
    breaker = CircuitBreaker("api", tracker=tracker, initial_state="metrics_only")
    kinds = []
    for number in range(300):
        kind = type(f"Error{number}", (OSError,), {})
        breaker.attempt().raised(kind())
        kinds.append(weakref.ref(kind))
    del kind
    breaker.reset()
    gc.collect()
    assert sum(each() is not None for each in kinds) == most


@pytest.mark.parametrize(
    ("given", "label"),
    [
        (OSError("x"), "OSError"),
        ("HTTP 503", "HTTP 503"),
        ("x" * 500, f"{'x' * 199}…"),
        ("two\n lines", "two lines"),
    ],
    ids=["error", "words", "too many words", "two lines"],
)
def test_an_attempt_says_what_it_failed_with(given: Any, label: str) -> None:
    breaker = CircuitBreaker("api", tripper=FailureStreak(1))
    breaker.attempt().fail(given)
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.errors == ((label, 1),)


def test_an_attempt_need_not_say_what_it_failed_with() -> None:
    breaker = CircuitBreaker("api", tripper=FailureStreak(2))
    breaker.attempt().fail()
    breaker.attempt().fail()
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.errors == ()
    assert trip.details == "FailureStreak(2): 2 over 2 calls in CountWindow(100)"


def test_what_cannot_be_said_is_left_out() -> None:
    breaker = CircuitBreaker("api", tripper=FailureStreak(2))
    breaker.attempt().fail(Unprintable())
    broken: Any = Unwritable()
    breaker.attempt().fail(broken)
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.errors == ((f"{__name__}.Unprintable", 1),)


def test_a_failure_that_says_nothing_takes_the_place_of_an_older_one() -> None:
    breaker = CircuitBreaker(
        "api", tripper=MinRequests(3) & FailureRate(1.0), window=CountWindow(3), retry=Cooldown(1)
    )
    breaker.attempt().fail(ValueError())
    breaker.attempt().fail(ValueError())
    breaker.attempt().succeed()
    for _ in range(3):
        breaker.attempt().fail()
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.errors == ()


def test_a_streak_may_have_begun_before_the_window() -> None:
    breaker = CircuitBreaker("api", tripper=FailureStreak(5), window=CountWindow(3))
    for _ in range(5):
        breaker.attempt().fail()
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.details == "FailureStreak(5): 5 over 5 calls"


def test_a_class_without_a_module_is_an_exception_like_any_other() -> None:
    """Naming it must not keep a half-open circuit from being judged."""
    names: dict[str, Any] = {}
    exec('Nameless = type("Nameless", (Exception,), {})', names)  # where there is no __name__
    nameless = names["Nameless"]
    clock = ManualClock()
    breaker = CircuitBreaker(
        "api", tripper=Closed() & FailureStreak(1), retry=Cooldown(8.0), permit=All(), clock=clock
    )
    for _ in range(2):
        with pytest.raises(nameless), breaker:
            raise nameless
        assert breaker.state is State.OPEN
        clock.advance(8.0)
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.errors == (("Exception", 1),)


def test_of_a_group_the_error_that_was_tracked_is_told(protect: Callable[..., Protected]) -> None:
    protected = protect(tripper=FailureStreak(1), tracker=TypeOf(OSError))
    group = ExceptionGroup("two", [ValueError(), ExceptionGroup("one", [TimeoutError()])])
    protected.fail(group)
    assert protected.signals[-1].reason.errors == (("TimeoutError", 1),)


def test_messages_are_told_if_asked_for(protect: Callable[..., Protected]) -> None:
    protected = protect(tripper=FailureStreak(5), error_messages=True)
    protected.fail(OSError("no route\n  to host"), times=2)
    protected.fail(ValueError("x" * 500))
    protected.fail(ValueError())
    protected.fail(Unprintable())
    errors = dict(protected.signals[-1].reason.errors)
    assert errors == {
        "OSError: no route to host": 2,
        f"ValueError: {'x' * 199}…": 1,
        "ValueError": 1,
        f"{__name__}.Unprintable": 1,
    }
    breaker = CircuitBreaker("api", tripper=FailureStreak(1), error_messages=True)
    breaker.attempt().fail(OSError("no route"))
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.errors == (("OSError: no route", 1),)


def test_a_refusal_with_all_its_reasons_is_picklable() -> None:
    breaker = CircuitBreaker("api", tripper=FailureStreak(1))
    breaker.attempt().fail(OSError())
    with pytest.raises(CallNotPermittedError) as caught:
        breaker.call(int)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert copied.reason.errors == (("OSError", 1),)


def test_trips_are_counted_by_clause(breaker: Callable[..., Protected]) -> None:
    protected = breaker(tripper=Closed() & FailureRate(0.5), retry=Cooldown(8.0), permit=All())
    protected.fail()
    protected.clock.advance(8.0)
    protected.fail()
    protected.clock.advance(8.0)
    protected.fail()
    protected.breaker.force_open()  # no trip: a hand did it
    protected.breaker.reset()
    protected.breaker.open_for(5)
    assert protected.totals.trips == {"FailureRate(0.5)": 1, "probe failed": 2, "open_for()": 1}


def test_clauses_without_number_end_up_in_one() -> None:
    breaker = CircuitBreaker("api", tripper=FailureStreak(1))
    for count in range(60):
        breaker.update(tripper=FailureStreak(1) | FailureRate(0.5 + count / 1000))
        breaker.update(tripper=FailureRate(0.5 + count / 1000))
        breaker.attempt().fail()
        breaker.reset()
    trips = breaker.info().totals.trips
    assert (len(trips), trips["other"], sum(trips.values())) == (51, 10, 60)


# -- shadow


def shadowed(**settings: Any) -> tuple[CircuitBreaker, ManualClock, RecordedSignals]:
    clock, signals = ManualClock(), RecordedSignals()
    breaker = CircuitBreaker(
        "api", **{"clock": clock, "listeners": [signals], "permit": All(), **settings}
    )
    return breaker, clock, signals


def told(signals: RecordedSignals) -> list[tuple[str, bool, str]]:
    return [(signal.kind.value, signal.shadow, str(signal.reason)) for signal in signals]


def test_a_shadow_reports_and_does_nothing() -> None:
    breaker, _, signals = shadowed(tripper=TEN, shadow=FailureStreak(2), window=CountWindow(10))
    breaker.attempt().fail(OSError())
    assert breaker.info().shadow is None
    breaker.attempt().fail(OSError())
    breaker.attempt().fail(OSError())
    assert told(signals) == [("would_open", True, "FailureStreak(2): 2 over 2 calls")]
    signal = signals[0]
    assert (signal.old_state, signal.new_state) == (State.CLOSED, State.CLOSED)
    assert signal.reason.errors == (("OSError", 2),)
    why = breaker.info().shadow
    assert why is not None
    assert why.measured == 3
    assert breaker.state is State.CLOSED
    breaker.call(int)  # a fast success: it is noticed when the journal is read
    assert breaker.info().shadow is None
    assert told(signals)[1:] == [("would_close", True, "FailureStreak(2) cleared")]
    breaker.attempt().fail()
    breaker.attempt().fail()
    assert [kind for kind, *_ in told(signals)] == ["would_open", "would_close", "would_open"]


def test_a_shadow_is_told_before_the_live_one_acts() -> None:
    breaker, _, signals = shadowed(tripper=FailureStreak(3), shadow=FailureStreak(3))
    for _ in range(3):
        breaker.attempt().fail()
    assert [kind for kind, *_ in told(signals)] == ["would_open", "transition"]
    assert breaker.info().shadow is None  # it isn't asked while the circuit is open


def test_a_shadow_sees_time_pass() -> None:
    breaker, clock, signals = shadowed(
        tripper=MinRequests(100) & FailureRate(0.5),
        shadow=MinRequests(2) & FailureRate(0.5),
        window=TimeWindow(64.0),
    )
    breaker.attempt().fail()
    breaker.attempt().fail()
    clock.advance(128.0)
    assert breaker.info().shadow is None
    breaker.attempt().fail()
    assert [kind for kind, *_ in told(signals)] == ["would_open", "would_close"]


@pytest.mark.parametrize("place", ["shadow", "metrics_only"])
def test_time_clears_what_the_next_failure_renews(place: str) -> None:
    settings: dict[str, Any] = {"tripper": FailureRate(0.5), "initial_state": "metrics_only"}
    if place == "shadow":
        settings = {"tripper": MinRequests(100) & FailureRate(0.5), "shadow": FailureRate(0.5)}
    breaker, clock, signals = shadowed(window=TimeWindow(64.0), **settings)
    breaker.attempt().fail()
    breaker.attempt().fail()
    clock.advance(128.0)
    breaker.attempt().fail()
    opened = [kind for kind, *_ in told(signals) if kind == "would_open"]
    assert len(opened) == 2
    assert str(signals[-1].reason) == "FailureRate(0.5): 1 over 1 calls"


def test_a_new_shadow_waits_for_bad_news() -> None:
    """Also where the live tripper has reported, and is looked at with each success."""
    breaker, _, signals = shadowed(tripper=FailureRate(0.1), initial_state="metrics_only")
    breaker.listen(RecordedCalls())  # so each of them takes the lock
    breaker.attempt().fail()
    breaker.update(shadow=FailureRate(0.5))
    for _ in range(2):
        breaker.attempt().succeed()
    breaker.info()
    assert [(kind, shadow) for kind, shadow, _ in told(signals)] == [("would_open", False)]
    for _ in range(3):
        breaker.attempt().fail()
    assert [(kind, shadow) for kind, shadow, _ in told(signals)][1:] == [("would_open", True)]


def test_a_shadow_has_its_say_about_probes() -> None:
    breaker, clock, signals = shadowed(
        tripper=Closed() & FailureRate(0.5),
        shadow=MinRequests(2) & FailureRate(0.5),
        retry=Cooldown(8.0),
    )
    breaker.attempt().fail()
    clock.advance(8.0)
    first, second = breaker.attempt(), breaker.attempt()
    first.succeed()
    second.succeed()  # stale by now: the live one needs a single probe
    assert told(signals)[-1] == ("transition", False, "probe succeeded")

    breaker, clock, signals = shadowed(
        tripper=MinRequests(2) & FailureRate(0.5),
        shadow=Closed() & FailureRate(0.5),
        retry=Cooldown(8.0),
    )
    breaker.attempt().fail()
    breaker.attempt().fail()
    signals.clear()
    clock.advance(8.0)
    breaker.attempt().fail(OSError())
    assert told(signals)[1:] == [("would_open", True, "probe failed")]
    breaker.attempt().succeed()
    assert told(signals)[2:4] == [
        ("would_close", True, "probe succeeded"),
        ("transition", False, "FailureRate(0.5): 0.5 over 2 calls"),
    ]


SHADOWS = (
    FailureStreak(2),
    MinRequests(3) & FailureRate(0.5),
    SlowRate(0.4, 2.0),
    AvgLatency(1.5),
    MinRequests(2) & (FailureRate(0.6) | SlowRate(0.5, 1.0)),
)


@given(
    shadow=st.sampled_from(SHADOWS),
    size=st.integers(3, 8),
    calls=st.lists(st.tuples(st.booleans(), st.sampled_from((0.0, 1.0, 2.0, 4.0))), max_size=40),
)
def test_a_shadow_against_a_plain_list(
    shadow: Tripper, size: int, calls: list[tuple[bool, float]]
) -> None:
    """It reports each change of what it would say about the last `size` calls, and no more."""
    breaker, clock, signals = shadowed(
        tripper=FailureStreak(1000), shadow=shadow, window=CountWindow(size)
    )
    oracle = CountWindow(size).tally(shadow.thresholds)
    expected: list[SignalKind] = []
    fired = False
    for failed, seconds in calls:
        attempt = breaker.attempt()
        clock.advance(seconds)
        if failed:
            attempt.fail()
        else:
            attempt.succeed()
        info = breaker.info()  # reads what fast successes have left
        slow = tuple(t for t in shadow.thresholds if seconds >= t)
        oracle.add(failed, slow, seconds, round(seconds * 1e9), clock())
        if shadow.fires(oracle) is not fired:
            fired = not fired
            expected.append(SignalKind.WOULD_OPEN if fired else SignalKind.WOULD_CLOSE)
        assert (info.shadow is not None) is fired
    assert [signal.kind for signal in signals] == expected
    assert breaker.state is State.CLOSED


LIVE = (
    FailureStreak(3),
    MinRequests(3) & FailureRate(0.5),
    Closed() & FailureRate(0.5),
    MinRequests(5) & FailureStreak(3) & FailureRate(0.5),
    MinRequests(2) & (FailureRate(0.6) | SlowRate(0.5, 2.0)),
    AvgLatency(1.5),
)


@given(
    live=st.sampled_from(LIVE),
    shadow=st.sampled_from((*SHADOWS, FailureStreak(50), AvgLatency(1000.0))),
    window=st.sampled_from((CountWindow(5), CountWindow(8), TimeWindow(16.0, buckets=4))),
    calls=st.lists(
        st.tuples(st.booleans(), st.sampled_from((0.0, 1.0, 2.0)), st.sampled_from((0, 1, 12))),
        max_size=40,
    ),
)
def test_a_shadow_changes_nothing(
    live: Tripper, shadow: Tripper, window: Window, calls: list[tuple[bool, float, int]]
) -> None:
    """With it and without it, a circuit makes the same moves for the same reasons."""
    told_by: list[list[Any]] = []
    for tried in (None, shadow):
        breaker, clock, signals = shadowed(
            tripper=live, shadow=tried, window=window, retry=Cooldown(8.0)
        )
        for failed, seconds, pause in calls:
            clock.advance(pause)
            try:
                attempt = breaker.attempt()
            except CallNotPermittedError:
                continue
            clock.advance(seconds)
            if failed:
                attempt.fail()
            else:
                attempt.succeed()
        moves = [signal for signal in signals if signal.kind is SignalKind.TRANSITION]
        told_by.append([(move.old_state, move.new_state, move.reason) for move in moves])
    assert told_by[0] == told_by[1]


def test_a_shadow_of_probes_says_it_once() -> None:
    """However many more probes the live tripper needs."""
    breaker, clock, signals = shadowed(
        tripper=MinRequests(4) & FailureRate(0.5),
        shadow=MinRequests(2) & FailureRate(0.9),
        retry=Cooldown(8.0),
        max_half_open_calls=4,
    )
    tripped(breaker)
    clock.advance(8.0)
    signals.clear()
    for _ in range(3):
        breaker.attempt().succeed()
    assert [signal.kind for signal in signals] == ["transition", "would_close"]


def test_a_shadow_that_is_exchanged_or_taken_away_takes_its_word_back() -> None:
    breaker, _, signals = shadowed(tripper=TEN, shadow=FailureStreak(2))
    for _ in range(3):
        breaker.attempt().fail()
    breaker.update(shadow=FailureStreak(3))
    breaker.attempt().fail()
    breaker.update(shadow=FailureStreak(500))
    breaker.call(int)
    breaker.update(retry=Cooldown(5))  # another setting doesn't touch it
    assert told(signals) == [
        ("would_open", True, "FailureStreak(2): 2 over 2 calls"),
        ("would_close", True, "update()"),
        ("would_open", True, "FailureStreak(3): 4 over 4 calls"),
        ("would_close", True, "update()"),
    ]


def test_a_reset_of_a_closed_circuit_takes_a_shadows_word_back() -> None:
    breaker, _, signals = shadowed(tripper=TEN, shadow=FailureStreak(1))
    breaker.attempt().fail()
    breaker.reset()
    breaker.attempt().fail()
    heard = [(kind, shadow) for kind, shadow, _ in told(signals)]
    assert heard == [("would_open", True), ("would_close", True), ("would_open", True)]


def test_a_tripper_may_answer_with_anything() -> None:
    class Truthy(FailureRate):
        __slots__ = ()

        def fires(self, metrics: Any) -> Any:
            return metrics.failure_rate and metrics.failure_count

    breaker, _, signals = shadowed(tripper=TEN, shadow=Truthy(0.5))
    for _ in range(3):
        breaker.attempt().fail()
    assert [kind for kind, *_ in told(signals)] == ["would_open"]


def test_what_a_shadow_needs_counts_for_the_lane() -> None:
    """An own tripper that declares nothing is asked after every call, as a shadow, too."""

    class Asked(FailureRate):
        __slots__ = ()
        needs_bad = False
        steady = False
        count = 0

        def fires(self, metrics: Any) -> bool:
            Asked.count += 1
            return False

    breaker, _, _ = shadowed(tripper=TEN, shadow=Asked(0.5))
    for _ in range(20):
        breaker.call(int)
    assert Asked.count == 20
    breaker.update(shadow=None)
    for _ in range(20):
        breaker.call(int)
    assert Asked.count == 20


@pytest.mark.parametrize("place", ["tripper", "shadow"])
def test_nobody_is_asked_without_news(place: str) -> None:
    """A failure is news, and the success that completes a minimum; no success after that."""
    asked: list[int] = []

    class Asked(FailureRate):
        __slots__ = ()

        def fires(self, metrics: Any) -> bool:
            asked.append(metrics.total_count)
            return False

    strategies: dict[str, Tripper] = {"tripper": MinRequests(100) & FailureRate(0.5)}
    strategies[place] = MinRequests(3) & Asked(0.1)
    breaker, _, _ = shadowed(**strategies)
    breaker.listen(RecordedCalls())  # so each call takes the lock
    for failed in (True, False, False, False, False, True, False):
        attempt = breaker.attempt()
        (attempt.fail if failed else attempt.succeed)()
    assert asked == [3, 6]


def test_a_shadows_thresholds_are_counted() -> None:
    breaker, _, signals = shadowed(tripper=TEN, shadow=SlowRate(0.5, 2.0))
    breaker.attempt().succeed(elapsed=3.0)
    assert breaker.info().metrics.slow_counts == {2.0: 1}
    assert told(signals) == [("would_open", True, "SlowRate(0.5, 2.0): 1 over 1 calls")]


def test_a_raising_shadow_moves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FailureRate):
        __slots__ = ()

        def fires(self, metrics: Any) -> bool:
            raise RuntimeError("broken")

    breaker, _, signals = shadowed(tripper=FailureStreak(2), shadow=Broken(0.5))
    breaker.attempt().fail()
    breaker.attempt().fail()
    assert [kind for kind, *_ in told(signals)] == ["transition"]
    assert "tripper raised RuntimeError" in caplog.text


@pytest.mark.parametrize(
    ("shadow", "error", "complaint"),
    [
        ("FailureRate(0.5)", TypeError, "shadow must be a Tripper"),
        (MinRequests(3), ValueError, r"shadow MinRequests\(3\) fires on fast successes alone"),
        (MinRequests(500) & FailureRate(0.5), ValueError, "never reached"),
    ],
)
def test_a_wrong_shadow_is_refused(shadow: Any, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        CircuitBreaker("api", shadow=shadow)


# -- refusals


class Refusals:
    """A listener that hears of refusals, too."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def __call__(self, signal: Any) -> None:
        self.heard.append(signal.new_state)

    def rejected(self, error: Any) -> None:
        self.heard.append(error)


def test_a_listener_may_hear_of_each_refusal(protect: Callable[..., Protected]) -> None:
    listener = Refusals()
    protected = protect(listeners=[listener], initial_state="forced_open")
    assert protected.breaker.listeners[1:] == (listener,)
    errors = [protected.refused() for _ in range(3)]
    assert listener.heard == errors


def test_a_listener_may_come_later(protect: Callable[..., Protected]) -> None:
    """It hears of what happens from then on, refusals included."""
    protected, listener = protect(), Refusals()
    protected.breaker.disable()
    protected.breaker.listen(listener)
    protected.breaker.force_open()
    assert listener.heard == [State.FORCED_OPEN]
    error = protected.refused()
    assert listener.heard[1:] == [error]
    assert protected.breaker.listeners[-1] is listener
    with pytest.raises(TypeError, match="listeners must be callable with a Signal: 5"):
        protected.breaker.listen(5)


def test_a_listener_that_raises_on_a_refusal_is_logged(
    protect: Callable[..., Protected], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Refusals):
        def rejected(self, error: Any) -> None:
            raise RuntimeError("broken")

    listener = Refusals()
    protected = protect(listeners=[Broken(), listener], initial_state="forced_open")
    assert listener.heard == [protected.refused()]
    assert "raised RuntimeError" in caplog.text


def test_a_refusal_inside_another_circuit_is_told_when_it_is_out() -> None:
    """No code of the user's runs inside a circuit: a tripper (say) may make calls itself."""
    listener, calls = Refusals(), RecordedCalls()
    inner = CircuitBreaker("inner", listeners=[listener, calls], initial_state="forced_open")
    heard: list[tuple[int, int]] = []

    class Calls(FailureRate):
        __slots__ = ()

        def fires(self, metrics: Any) -> bool:
            with pytest.raises(Exception, match="inner"):
                inner.call(int)
            heard.append((len(listener.heard), len(calls)))
            return False

    outer = CircuitBreaker("outer", tripper=Calls(0.5))
    outer.attempt().fail()
    assert heard == [(0, 0)]
    assert (len(listener.heard), len(calls)) == (1, 1), "a refusal, and a call that was refused"


@pytest.mark.parametrize("touch", ["info", "fail"])
def test_nobody_else_tells_it_inside_that_circuit(touch: str) -> None:
    """A finaliser inside one circuit is refused by a second, and uses a third."""
    inside: list[bool] = []

    class Looks(Refusals):
        def rejected(self, error: Any) -> None:
            inside.append(inside_a_circuit())

    refusing = CircuitBreaker("refusing", listeners=[Looks()], initial_state="forced_open")
    third = CircuitBreaker("third")

    class Dropped:
        def __del__(self) -> None:
            with pytest.raises(CallNotPermittedError):
                refusing.call(int)
            if touch == "info":
                third.info()
            else:
                third.attempt().fail()

    class Drops(FailureRate):
        __slots__ = ()

        def fires(self, metrics: Any) -> bool:
            Dropped()
            return False

    first = CircuitBreaker("first", tripper=Drops(0.5))
    first.attempt().fail()
    assert inside == [False]


def test_an_interrupt_in_a_hook_goes_on_once_all_are_told(
    protect: Callable[..., Protected],
) -> None:
    class Interrupted(Refusals):
        def rejected(self, error: Any) -> None:
            raise KeyboardInterrupt

    listener = Refusals()
    protected = protect(listeners=[Interrupted(), listener], initial_state="forced_open")
    with pytest.raises(KeyboardInterrupt):
        protected.run(int)
    assert len(listener.heard) == 1


def test_a_hook_that_is_async_is_refused() -> None:
    class Waits(Refusals):
        async def rejected(self, error: Any) -> None:  # type: ignore[override]
            """Nobody would wait for it."""

    with pytest.raises(TypeError, match=r"rejected of listener .* is async: it would never run"):
        CircuitBreaker("api", listeners=[Waits()])


# -- the histogram


def test_a_histogram_counts_what_succeeds_and_what_fails(
    breaker: Callable[..., Protected],
) -> None:
    protected = breaker(buckets=(0.5, 1.0, 2.0), tripper=MinRequests(100) & FailureRate(0.5))
    assert protected.totals.histogram == {0.5: 0, 1.0: 0, 2.0: 0, float("inf"): 0}
    protected.succeed(times=300)
    protected.succeed(0.5)  # a bound belongs to its bucket
    protected.fail(seconds=1.5)
    protected.succeed(64.0)
    with pytest.raises(KeyboardInterrupt):
        protected.run(lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    totals = protected.totals
    assert totals.histogram == {0.5: 301, 1.0: 301, 2.0: 302, float("inf"): 303}
    assert list(totals.histogram) == sorted(totals.histogram)
    assert totals.histogram[float("inf")] == totals.successes + totals.failures


def test_without_buckets_there_is_no_histogram(breaker: Callable[..., Protected]) -> None:
    protected = breaker()
    protected.succeed()
    assert protected.totals.histogram == {}


def test_infinity_may_be_among_the_buckets() -> None:
    assert CircuitBreaker("api", buckets=[1, float("inf")]).policy.buckets == (1,)


@pytest.mark.parametrize(
    ("buckets", "error", "complaint"),
    [
        (5, TypeError, "buckets must be a list of seconds"),
        ("0.1", TypeError, "buckets must be a list of seconds"),
        (b"12", TypeError, "buckets must be a list of seconds"),
        ({0.1: 1}, TypeError, "buckets must be a list of seconds"),
        ([0.1, "1"], TypeError, "buckets must be a number of seconds, not '1'"),
        ([0, 1], ValueError, "buckets must be 1e-9 to 1e9 seconds, not 0"),
        ([1, float("nan")], ValueError, "buckets must be 1e-9 to 1e9 seconds, not nan"),
        ([1, 1], ValueError, "buckets must ascend"),
    ],
)
def test_wrong_buckets_are_refused(buckets: Any, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint):
        CircuitBreaker("api", buckets=buckets)


def test_error_messages_is_true_or_false() -> None:
    with pytest.raises(TypeError, match="error_messages must be True or False: 'yes'"):
        CircuitBreaker("api", error_messages="yes")  # type: ignore[arg-type]


def test_causes_by_count_without_the_unknown() -> None:
    breaker = CircuitBreaker("api", tripper=MinRequests(6) & FailureRate(0.1))
    for cause in ("rare", None, "often", "often", None, "often"):
        breaker.attempt().fail(cause)
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.errors == (("often", 3), ("rare", 1))


def test_generations_count_up_by_one() -> None:
    signals = RecordedSignals()
    breaker = CircuitBreaker("api", listeners=[signals])
    for move in (breaker.force_open, breaker.disable, breaker.reset):
        move()
    assert [each.generation for each in signals] == [1, 2, 3]
