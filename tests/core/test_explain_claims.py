"""What `explain` says of a policy, held against breakers of that policy.

Each claim is read from the text as its reader would, and then tried, with real calls through
`breaker.call`, on circuits that the explanation has not seen.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fluxgate import CircuitBreaker, Policy, State
from fluxgate.cli._explain.explanation import RATES, explain
from fluxgate.cli._explain.report import Report
from fluxgate.permits import All
from fluxgate.retries import Always, Backoff, Cooldown, Never, Retry
from fluxgate.trippers import (
    AvgLatency,
    Closed,
    FailureRate,
    FailureStreak,
    HalfOpened,
    MinRequests,
    SlowRate,
    Tripper,
)
from fluxgate.windows import CountWindow, TimeWindow

LONG = 1_000
"""Calls after which "never" is believed."""


class Breaker:
    """A breaker of a policy, and calls that end as they are told to."""

    def __init__(self, policy: Policy) -> None:
        self.now = 0.0
        kept = {name: getattr(policy, name) for name in policy.__match_args__}
        changed: dict[str, Any] = {**kept, "permit": All()}
        self.breaker = CircuitBreaker("tried", clock=lambda: self.now, dice=lambda: 0.5, **changed)

    @property
    def state(self) -> State:
        return self.breaker.state

    def good(self, times: int = 1, *, seconds: float = 0.0, every: float = 0.0) -> None:
        for _ in range(times):
            self.breaker.call(self._take, seconds)
            self.now += every

    def bad(self, times: int = 1, *, every: float = 0.0) -> None:
        for _ in range(times):
            try:
                self.breaker.call(self._fail)
            except ConnectionError:
                self.now += every

    def _take(self, seconds: float) -> None:
        self.now += seconds

    def _fail(self) -> None:
        raise ConnectionError

    def open_up(self) -> None:
        """An outage, and then the time until it probes."""
        for _ in range(LONG):
            if self.state is State.OPEN:
                break
            self.bad()
        self.now += self.breaker.info().retry_after or 0.0


def text_of(report: Report) -> str:
    return "\n".join(point for section in report.sections for point in section.points)


def number(pattern: str, text: str) -> int | None:
    """The number that a sentence of that form has; None if there is no such sentence."""
    found = re.search(pattern, text)
    return None if found is None else int(found[1].replace(",", ""))


def table(report: Report, first: str) -> list[tuple[str, ...]]:
    """The rows of the table that begins with such a head."""
    tables = [each for section in report.sections for each in section.tables]
    return next((each.rows for each in tables if each.head[0] == first), [])


def calls(cell: str) -> int | None:
    return None if cell == "stays closed" else int(cell.split()[0].replace(",", ""))


def seconds(cell: str) -> float:
    """The duration that a cell shows."""
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
    if cell in ("at once", "never"):
        return {"at once": 0.0, "never": math.inf}[cell]
    words = cell.removeprefix("about ").split()
    pairs = zip(words[::2], words[1::2], strict=True)
    return sum(float(count) * units[unit] for count, unit in pairs)


leaves: st.SearchStrategy[Tripper] = st.one_of(
    st.builds(MinRequests, st.integers(1, 12)),
    st.builds(FailureRate, st.sampled_from([0.01, 0.07, 0.2, 0.5, 0.9, 1.0])),
    st.builds(SlowRate, st.sampled_from([0.1, 0.5, 1.0]), st.sampled_from([0.5, 2.0])),
    st.builds(AvgLatency, st.sampled_from([0.25, 1.0])),
    st.builds(FailureStreak, st.integers(1, 8)),
    st.just(Closed()),
    st.just(HalfOpened()),
)
trippers = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner), st.builds(lambda a, b: a | b, inner, inner)
    ),
    max_leaves=5,
)
windows = st.one_of(
    st.builds(CountWindow, st.integers(3, 30)),
    st.builds(TimeWindow, st.sampled_from([8.0, 60.0]), st.sampled_from([1, 4, 60])),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    try:
        return Policy(tripper=draw(trippers), window=draw(windows), retry=Cooldown(16.0))
    except ValueError:  # a policy that makes no sense is refused, and so never explained
        assume(False)
        raise


tried = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@tried
@given(policies())
@example(Policy())
@example(Policy(tripper=FailureStreak(5) | (Closed() & AvgLatency(1.0))))
def test_how_many_failures_open_it_at_the_start(policy: Policy) -> None:
    text = text_of(explain(policy))
    count = number(r"Just started, it opens after ([\d,]+) calls? if all of them fail", text)
    if "Just started, it opens on the first call, if that fails" in text:
        count = 1
    breaker = Breaker(policy)
    if count is None:
        assert "Failures: calls that fail fast never open it" in text
        breaker.bad(LONG)
        assert breaker.state is State.CLOSED
        return
    breaker.bad(count - 1)
    assert breaker.state is State.CLOSED
    breaker.bad()
    assert breaker.state is State.OPEN


@tried
@given(policies())
@example(Policy())
def test_good_calls(policy: Policy) -> None:
    """They open nothing by themselves, but one may be the last that is needed."""
    text = text_of(explain(policy))
    if "As long as all calls succeed in time, it stays closed" in text:
        breaker = Breaker(policy)
        breaker.good(LONG)
        assert breaker.state is State.CLOSED
    failures = number(r"([\d,]+) failures? and a success open it, too", text)
    if failures is not None:
        breaker = Breaker(policy)
        breaker.bad(failures)
        assert breaker.state is State.CLOSED
        breaker.good()
        assert breaker.state is State.OPEN


@tried
@given(policies())
@example(Policy())
def test_how_many_of_so_many_must_fail(policy: Policy) -> None:
    text = text_of(explain(policy))
    for found in re.finditer(r"Of ([\d,]+) calls, ([\d,]+) failures? open it", text):
        total, failures = (int(each.replace(",", "")) for each in found.groups())
        breaker = Breaker(policy)
        breaker.good(total - failures)
        for _ in range(failures):
            if breaker.state is State.CLOSED:  # it need not take the last
                breaker.bad()
        assert breaker.state is State.OPEN
        breaker = Breaker(policy)
        breaker.good(total - failures + 1)
        breaker.bad(failures - 1)
        assert breaker.state is State.CLOSED


@tried
@given(policies())
@example(Policy())
def test_what_opens_it(policy: Policy) -> None:
    """The table of troubles, row by row; "stays closed" is tried for longer than it was."""
    for what, cold, *warm in table(explain(policy), "trouble"):
        if (slow := re.fullmatch(r"every call succeeds, after (.*)", what)) is not None:
            share, elapsed = (1, 1), seconds(slow[1])
        elif what == "every call fails at once":
            share, elapsed = (1, 1), 0.0
        else:
            found = re.match(r"(\d+) in (\d+) calls fail", what)
            assert found is not None
            share, elapsed = (int(found[1]), int(found[2])), 0.0
        for good, cell in ((0, cold), (policy.window.capacity or 0, *warm))[: 1 + len(warm)]:
            breaker, wanted = Breaker(policy), calls(cell)
            breaker.good(good)
            for made in range(LONG if wanted is None else wanted):
                assert breaker.state is State.CLOSED, (what, made)
                attempt = breaker.breaker.attempt()
                some, of = share
                if elapsed or (made % of + 1) * some // of == made % of * some // of:
                    attempt.succeed(elapsed)
                else:
                    attempt.fail(elapsed=0.0)
            assert breaker.state is (State.CLOSED if wanted is None else State.OPEN), what


@tried
@given(policies())
@example(Policy(window=TimeWindow(60.0)))
@example(Policy(window=TimeWindow(60.0), tripper=FailureStreak(5)))
def test_how_soon_an_outage_shows(policy: Policy) -> None:
    report = explain(policy)
    notes = [t.note for section in report.sections for t in section.tables]
    if not any("if every call fails from then on" in note for note in notes):
        return  # it does not mind failures, and the table is about slow calls
    for rate, (_, cold, warm) in zip(RATES, table(report, "traffic"), strict=False):
        held = policy.window.capacity or math.ceil(getattr(policy.window, "size", 0) * rate) + 1
        if held > 700:
            continue
        for cell, good in ((cold, 0), (warm, held)):
            breaker, shown = Breaker(policy), seconds(cell)
            breaker.good(good, every=1 / rate)
            first = breaker.now
            for _ in range(400 if shown == math.inf else round(shown * rate) + 2):
                breaker.bad()
                if breaker.state is State.OPEN:
                    break
                breaker.now += 1 / rate
            assert (breaker.state is State.OPEN) is (shown < math.inf)
            if shown < math.inf:
                assert breaker.now - first == pytest.approx(shown, rel=0.01, abs=0.5)


@tried
@given(policies())
@example(Policy())
@example(Policy(tripper=Closed() & FailureRate(0.5)))
@example(Policy(tripper=FailureStreak(3)))
def test_what_probes_do(policy: Policy) -> None:
    text = text_of(explain(policy))
    breaker = Breaker(policy)
    breaker.open_up()
    if breaker.state is not State.OPEN:
        return  # failures don't open it
    closes = number(r"closes after ([\d,]+) good probes?", text)
    forgiven = number(r"and still if the first ([\d,]+) fail", text)
    reopens = number(r"opens again after ([\d,]+) failed probes?", text)
    if closes is None:
        assert "Good probes alone don't close it" in text
        breaker.good(LONG)
        assert breaker.state is State.HALF_OPEN
    else:
        breaker.good(closes - 1)
        assert breaker.state is (State.HALF_OPEN if closes > 1 else State.OPEN)
        breaker.good()
        assert breaker.state is State.CLOSED
    if forgiven is not None:
        assert closes is not None
        for failed, ends in ((forgiven, True), (forgiven + 1, False)):
            breaker = Breaker(policy)
            breaker.open_up()
            for probe in range(closes):
                if breaker.state is State.OPEN and probe:
                    break  # opened again
                breaker.bad() if probe < failed else breaker.good()
            assert (breaker.state is State.CLOSED) is ends
    breaker = Breaker(policy)
    breaker.open_up()
    if reopens is None:
        assert "Probes that fail fast don't open it again" in text
        for _ in range(policy.half_open.evidence):
            if breaker.state is not State.CLOSED:
                breaker.bad()
        assert breaker.state is not State.OPEN
    else:
        breaker.bad(reopens)
        assert breaker.state is State.OPEN
        assert breaker.breaker.info().reopens == 1


@tried
@given(policies())
@example(Policy(window=TimeWindow(60.0)))
def test_too_little_traffic(policy: Policy) -> None:
    """Fewer calls in a window than it needs: as bad as they may be, it stays closed."""
    text = text_of(explain(policy))
    fewest = number(r"with fewer than ([\d,]+) calls in", text)
    if fewest is None:
        return
    assert isinstance(policy.window, TimeWindow)
    breaker = Breaker(policy)
    for _ in range(20):  # bursts, a window apart
        for _ in range(fewest - 1):
            breaker.breaker.attempt().fail(elapsed=600.0)
        assert breaker.state is State.CLOSED
        breaker.now += policy.window.size
    for _ in range(fewest):
        breaker.breaker.attempt().fail(elapsed=600.0)
    assert breaker.state is State.OPEN


@tried
@given(policies())
def test_a_policy_that_sees_no_slow_calls(policy: Policy) -> None:
    text = text_of(explain(policy))
    breaker = Breaker(policy)
    for _ in range(LONG):
        breaker.breaker.attempt().succeed(elapsed=1e6)
        if breaker.state is not State.CLOSED:
            break
    assert (breaker.state is State.CLOSED) is ("Slowness: calls that succeed never open" in text)


@pytest.mark.parametrize(
    ("retry", "says", "delays"),
    [
        (Cooldown(60.0), "stays open 60 s.", [60.0, 60.0]),
        (Cooldown(1.5, 0.2), "stays open 1.5 s; each time ± 20 % by chance.", [1.5, 1.5]),
        (Always(), "stays open 0 s: the very next call probes.", [0.0]),
        (Never(), "stays open until somebody calls reset().", [math.inf]),
        (
            Backoff(1.0, max_duration=10.0),
            "stays open 1 s at first; after each failed recovery 2 s, 4 s, 8 s, 10 s from then on.",
            [1.0, 2.0, 4.0, 8.0, 10.0, 10.0],
        ),
        (
            Backoff(1.0),
            "1 s at first; after each failed recovery 2 s, 4 s, 8 s, 16 s, …, 5 min from then on.",
            [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0],
        ),
    ],
    ids=repr,
)
def test_how_long_it_stays_open(retry: Retry, says: str, delays: list[float]) -> None:
    policy = Policy(retry=retry, tripper=Closed() & FailureRate(0.5))
    assert says in text_of(explain(policy))
    breaker = Breaker(policy)
    for delay in delays:
        breaker.bad()
        info = breaker.breaker.info()
        assert (info.state, info.open_for) == (State.OPEN, None if delay == math.inf else delay)
        breaker.now += 0.0 if delay == math.inf else delay


def test_a_ramp_takes_as_long_as_it_says() -> None:
    """On average: the share that the permit admits, added up call by call."""
    rows = dict(table(explain(Policy(), state=State.HALF_OPEN), "traffic"))
    admitted, call = 0.0, 0
    while True:
        admitted += 0.1 + 0.9 * min(call / 60.0, 1.0)  # RampUp(0.1, 1.0, 60.0), 1 call/s
        if admitted >= 10:
            break
        call += 1
    assert seconds(rows["1 call/s"]) == pytest.approx(call, rel=0.05)
    assert seconds(rows["1 call/min"]) == pytest.approx(600, rel=0.1)
