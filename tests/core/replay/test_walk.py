"""A replay in batches equals one call after the other equals a live circuit."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxgate import (
    Attempt,
    CallNotPermittedError,
    CircuitBreaker,
    Signal,
    circuits,
    config,
    listen,
)
from fluxgate.metric import Metrics
from fluxgate.policy import Policy
from fluxgate.replay import Trace, _calls, replay
from fluxgate.replay._calls import Calls
from fluxgate.replay._walk import Move, Walk, fast, one_by_one
from fluxgate.state import State
from fluxgate.trippers import FailureStreak, Tripper


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def live(trace: Trace, policy: Policy, seed: int = 0) -> Walk:
    """The same calls, made through a breaker as its users make them."""
    clock = Clock(trace.start[0] if len(trace) else 0.0)
    moves: list[Move] = []

    def note(signal: Signal) -> None:
        moves.append(Move(clock.now, signal.new_state, str(signal.reason)))

    breaker = CircuitBreaker(
        "live",
        window=policy.window,
        tripper=policy.tripper,
        retry=policy.retry,
        permit=policy.permit,
        max_half_open_calls=policy.max_half_open_calls,
        probe_timeout=policy.probe_timeout,
        clock=clock,
        dice=random.Random(seed).random,
        listeners=[note],
    )
    flying: list[tuple[float, int, Attempt]] = []
    refused: list[tuple[int, int]] = []

    def end_until(now: float) -> None:
        while flying and flying[0][0] <= now:
            clock.now, place, attempt = heapq.heappop(flying)
            call = trace[place]
            if call.refused:
                attempt.ignore()
            elif call.failed:
                attempt.fail(call.error, call.duration)
            else:
                attempt.succeed(call.duration)

    for place, call in enumerate(trace):
        end_until(call.start)
        clock.now = call.start
        try:
            attempt = breaker.attempt()
        except CallNotPermittedError:
            refused.append((place, place + 1))
        else:
            heapq.heappush(flying, (call.start + call.duration, place, attempt))
    end_until(float("inf"))
    return Walk(moves, refused, breaker.info().totals)


def places(walk: Walk) -> list[int]:
    return [place for begin, end in walk.refused for place in range(begin, end)]


def assert_equal(left: Walk, right: Walk) -> None:
    assert left.moves == right.moves
    assert places(left) == places(right)
    for field in ("successes", "failures", "ignored", "cancelled", "stale", "rejected", "trips"):
        assert getattr(left.totals, field) == getattr(right.totals, field), field
    assert left.totals.slow_counts == right.totals.slow_counts
    assert left.totals.duration == pytest.approx(right.totals.duration)


# Of sums of such numbers no digit is lost, in whatever order they are added.
SIXTEENTHS = st.integers(0, 160).map(lambda number: number / 16)

counts = st.integers(1, 12)
ratios = st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0])
clauses = st.one_of(
    st.builds("FailureRate({})".format, ratios),
    st.builds("SlowRate({}, {})".format, ratios, st.sampled_from([0.5, 1.0, 4.0])),
    st.builds("AvgLatency({})".format, st.sampled_from([0.5, 1.0, 4.0])),
    st.builds("FailureStreak({})".format, counts),
    st.builds("MinRequests({})".format, counts),
    st.sampled_from(["Closed()", "HalfOpened()"]),
)
trippers = st.recursive(
    clauses, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("&|"), inner)
)
windows = st.one_of(
    st.builds("CountWindow({})".format, st.integers(1, 30)),
    st.builds("TimeWindow({}, {})".format, st.integers(1, 30), st.integers(1, 8)),
)
retries = st.one_of(
    st.builds("Cooldown({}, {})".format, st.integers(0, 20), st.sampled_from([0.0, 0.5])),
    st.builds("Backoff({}, 2.0, 60)".format, st.integers(1, 10)),
    st.sampled_from(["Always()", "Never()"]),
)
permits = st.sampled_from(["All()", "Random(0.4)", "RampUp(0.1, 1.0, 5)"])


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies by their expressions."""
    while True:
        try:
            return Policy(
                tripper=config.parse("tripper", draw(trippers)),
                window=config.parse("window", draw(windows)),
                retry=config.parse("retry", draw(retries)),
                permit=config.parse("permit", draw(permits)),
                max_half_open_calls=draw(st.integers(1, 4)),
                probe_timeout=draw(st.sampled_from([1.0, 5.0, 60.0])),
            )
        except ValueError:  # it could never open, or fires on fast successes alone
            continue


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Calls that overlap; among them some that nobody knows the end of, and hanging ones."""
    seed = draw(st.integers(0, 2**32))
    rng = random.Random(seed)
    every = draw(st.sampled_from([0, 1, 4, 16, 64]))  # sixteenths of a second between starts
    longest = draw(st.sampled_from([0, 2, 16, 160]))
    badness = draw(ratios)
    unknown = draw(st.sampled_from([0.0, 0.0, 0.1]))
    now, rows = draw(st.sampled_from([0, 16_000_000])), []
    for _ in range(draw(st.integers(0, 400))):
        now += rng.randint(0, every)
        bad = rng.random() < badness and (now // 256) % 2
        duration = rng.randint(0, longest) * (10 if rng.random() < 0.01 else 1)
        error = rng.choice(["Timeout", "Reset", None])
        rows.append((now / 16, duration / 16, bad, None, None, error, rng.random() < unknown))
    return Trace.from_rows(
        (start, 0.0 if refused else duration, bad, key, status, error, refused)
        for start, duration, bad, key, status, error, refused in rows
    )


@settings(deadline=None, max_examples=300)
@given(traces(), policies(), st.integers(0, 3))
def test_fast_is_one_by_one_is_live(trace: Trace, policy: Policy, seed: int) -> None:
    calls = Calls(trace)
    batches = fast(calls, policy, seed)
    assert_equal(batches, one_by_one(calls, policy, seed))
    assert_equal(batches, live(trace, policy, seed))
    recorded = fast(calls, policy, seed, as_recorded=True)
    assert_equal(recorded, one_by_one(calls, policy, seed, as_recorded=True))


@settings(deadline=None, max_examples=30)
@given(traces(), policies())
def test_without_numpy(trace: Trace, policy: Policy) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_calls, "np", None)
        plain = fast(Calls(trace), policy)
    assert plain == fast(Calls(trace), policy)


def test_settled_at_the_end() -> None:
    """Ten time-outs of five seconds open it when they end, and not when they begin."""
    trace = Trace.from_rows((100.0 + number / 10, 5.0, True) for number in range(20))
    walk = fast(Calls(trace), Policy())
    assert walk.moves == [Move(105.9, State.OPEN, "FailureRate(0.5): 1 over 10 calls")]
    assert walk.totals.stale == 10


def test_long_batches() -> None:
    """More calls than a journal holds, and a failure in between now and then."""
    trace = Trace.from_rows((place / 8, 0.125, place % 700 == 699) for place in range(5000))
    for text in ("CountWindow(1000)", "TimeWindow(60)"):
        policy = Policy(window=config.parse("window", text))
        assert_equal(fast(Calls(trace), policy), live(trace, policy))


def test_remarks_are_kept_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Probes that all exceed their time, and a tripper of the user's that raises."""

    class Broken(Tripper):
        def fires(self, metrics: Metrics) -> bool:
            raise ZeroDivisionError

    slow = Trace.from_rows((float(at), 100.0 if at > 20 else 0.1, at < 20) for at in range(2000))
    walk = fast(Calls(slow), Policy(tripper=FailureStreak(3)))
    (remark,) = walk.remarks
    assert remark.startswith("a probe took 60 s (probe_timeout=60) and was ignored")
    assert fast(Calls(slow), Policy(tripper=Broken())).remarks == (
        "the tripper raised ZeroDivisionError",
    )
    assert caplog.records == []
    result = replay(slow, ["FailureStreak(3)"])
    assert any("FailureStreak(3): a probe took" in warning for warning in result.warnings)


@pytest.fixture
def heard() -> Iterator[list[Signal]]:
    signals: list[Signal] = []
    with listen(signals.append):
        yield signals


def test_nobody_hears_of_it(heard: list[Signal]) -> None:
    trace = Trace.from_rows((float(place), 1.0, True) for place in range(20))
    before = len(circuits())
    assert fast(Calls(trace), Policy()).moves
    assert heard == []
    assert len(circuits()) == before
