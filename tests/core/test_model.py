"""Any order of anything, against a model that keeps a plain list of records.

The model knows the rules as design says them, and none of the machine's shortcuts: no lanes, no
journals, no folding of trippers, no running totals. It writes down each call, and looks at all of
them again whenever something has to be decided or read.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fluxgate import CallNotPermittedError, CircuitBreaker, Signal
from fluxgate.permits import All, Permit, RampUp, Random
from fluxgate.retries import Always, Backoff, Cooldown, Never, Retry
from fluxgate.trackers import TypeOf
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
from fluxgate.windows import CountWindow, TimeWindow, Window

from .proving import LONG

TICK = 1 / 64  # durations and steps are whole ticks: exact as floats, and as nanoseconds

# -- the rules of a tripper, as plain tuples

Spec = tuple[Any, ...]


def build(spec: Spec) -> Tripper:
    """The tripper that a spec stands for."""
    match spec:
        case ("and", left, right):
            return build(left) & build(right)
        case ("or", left, right):
            return build(left) | build(right)
        case (kind, *arguments):
            clauses: dict[str, Callable[..., Tripper]] = {
                "closed": Closed,
                "half-open": HalfOpened,
                "min": MinRequests,
                "rate": FailureRate,
                "slow": SlowRate,
                "avg": AvgLatency,
                "streak": FailureStreak,
            }
            return clauses[kind](*arguments)
    raise AssertionError(spec)


def possible(spec: Spec, half_open: bool) -> bool:
    """Whether anything could make it fire in half-open (or else in closed)."""
    match spec:
        case ("closed",):
            return not half_open
        case ("half-open",):
            return half_open
        case ("and", left, right):
            return possible(left, half_open) and possible(right, half_open)
        case ("or", left, right):
            return possible(left, half_open) or possible(right, half_open)
    return True


def clauses(spec: Spec, half_open: bool) -> list[Spec]:
    """The clauses that have a say in half-open (or else in closed)."""
    if not possible(spec, half_open):
        return []
    if spec[0] in ("and", "or"):
        return clauses(spec[1], half_open) + clauses(spec[2], half_open)
    return [spec]


@dataclass
class Record:
    """One call that succeeded or failed."""

    failed: bool
    elapsed: float
    ended: float
    slow: set[float]


@dataclass
class View:
    """What a tripper judges: the records of a window, and the streak."""

    records: list[Record]
    streak: int
    half_open: bool

    @property
    def failures(self) -> int:
        return sum(record.failed for record in self.records)

    @property
    def duration(self) -> float:
        return math.fsum(record.elapsed for record in self.records)

    def slow(self, threshold: float) -> int:
        return sum(threshold in record.slow for record in self.records)

    def fires(self, spec: Spec) -> bool:
        total = len(self.records)
        match spec:
            case ("closed",):
                return not self.half_open
            case ("half-open",):
                return self.half_open
            case ("and", left, right):
                return self.fires(left) and self.fires(right)
            case ("or", left, right):
                return self.fires(left) or self.fires(right)
            case ("min", count):
                return total >= count
            case ("rate", ratio):
                return total > 0 and self.failures / total >= ratio
            case ("slow", ratio, threshold):
                return total > 0 and self.slow(threshold) / total >= ratio
            case ("avg", threshold):
                return total > 0 and self.duration / total >= threshold
            case ("streak", count):
                return self.streak >= count
        raise AssertionError(spec)

    def has_evidence(self, spec: Spec) -> bool:
        """Whether each clause that has a say in half-open can judge."""
        for clause in clauses(spec, half_open=True):
            match clause:
                case ("half-open",):
                    judged = True
                case ("min", count):
                    judged = len(self.records) >= count
                case ("streak", count):
                    last_succeeded = bool(self.records) and not self.records[-1].failed
                    judged = last_succeeded or self.streak >= count
                case _:
                    judged = len(self.records) >= 1
            if not judged:
                return False
        return True


# -- settings


class Plan(NamedTuple):
    """A policy, in the model's terms and in the breaker's."""

    tripper: Spec
    window: tuple[float, ...]  # (calls,) or (seconds, buckets)
    retry: Retry
    permit: Permit
    slots: int
    timeout: float

    @property
    def settings(self) -> dict[str, Any]:
        window: Window = (
            CountWindow(int(self.window[0]))
            if len(self.window) == 1
            else TimeWindow(self.window[0], int(self.window[1]))
        )
        return {"window": window, "tracker": TypeOf(ConnectionError), **self.changes}

    @property
    def changes(self) -> dict[str, Any]:
        return {
            "tripper": build(self.tripper),
            "retry": self.retry,
            "permit": self.permit,
            "max_half_open_calls": self.slots,
            "probe_timeout": self.timeout,
        }

    @property
    def thresholds(self) -> set[float]:
        return {
            clause[2]
            for half_open in (False, True)
            for clause in clauses(self.tripper, half_open)
            if clause[0] == "slow"
        }


def delay(retry: Retry, reopens: int, roll: float) -> float:
    """How long an opening lasts, by the documented formulas."""
    match retry:
        case Always():
            return 0.0
        case Cooldown(duration, jitter):
            seconds = duration
        case Backoff(initial, multiplier, longest, jitter):
            seconds = min(initial * multiplier**reopens, longest)
        case _:
            return math.inf
    return seconds * (1 + jitter * (2 * roll - 1)) if jitter else seconds


def share(permit: Permit, elapsed: float) -> float:
    """Which share of the calls is admitted, by the documented formulas."""
    match permit:
        case Random(ratio):
            return ratio
        case RampUp(initial, final, duration):
            return initial + (final - initial) * min(elapsed / duration, 1.0)
    return 1.0


# -- the model


@dataclass(eq=False)
class Ticket:
    """A call that the model has let in."""

    generation: int
    state: str
    deadline: float | None = None
    settled: bool = False


@dataclass
class Model:
    """A circuit, the naive way."""

    plan: Plan
    state: str
    now: float
    roll: float = 0.0
    generation: int = 0
    reopens: int = 0
    streak: int = 0
    retry_at: float = math.inf
    opened: bool = False
    was_firing: bool = False
    records: list[Record] = field(default_factory=list)
    probes: list[Ticket] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    slow: Counter[float] = field(default_factory=Counter)
    duration: float = 0.0
    signals: list[tuple[str, str, str]] = field(default_factory=list)
    admitted: int = 0

    def __post_init__(self) -> None:
        self.cooled_at = self.now  # when the last cooldown ended
        self.settings = self.plan  # those of the phase; `plan` are the latest

    # the window

    def view(self) -> View:
        half_open = self.state == "half_open"
        window = self.settings.window
        if half_open:
            minimums = [c[1] for c in clauses(self.settings.tripper, True) if c[0] == "min"]
            held = max([window[0] if len(window) == 1 else 100, *minimums])
            records = self.records[-int(held) :]
        elif len(window) == 1:
            records = self.records[-int(window[0]) :]
        else:
            width = window[0] / window[1]
            first = self.now // width - window[1] + 1
            records = [record for record in self.records if record.ended // width >= first]
        return View(records, self.streak, half_open)

    # the verbs

    def acquire(self) -> Ticket | None:
        if self.state == "open" and self.now >= self.retry_at:
            self.cooled_at = self.retry_at
            self.move("half_open")
        if self.state in ("open", "forced_open"):
            self.counts["rejected"] += 1
            return None
        ticket = Ticket(self.generation, self.state)
        if self.state == "half_open":
            self.reclaim()
            ratio = share(self.settings.permit, self.now - self.cooled_at)
            if len(self.probes) >= self.settings.slots or not self.roll < ratio:
                self.counts["rejected"] += 1
                return None
            ticket.deadline = self.now + self.settings.timeout
            self.probes.append(ticket)
        if self.state != "disabled":
            self.admitted += 1
        return ticket

    def settle(self, ticket: Ticket, outcome: str, elapsed: float) -> None:
        if ticket.settled:
            return
        ticket.settled = True
        if ticket in self.probes:
            self.probes.remove(ticket)
            assert ticket.deadline is not None
            if self.now >= ticket.deadline:
                outcome = "ignored"  # overdue
        if ticket.state == "disabled":
            return
        if ticket.generation != self.generation:
            self.counts["stale"] += 1
        elif outcome in ("ignored", "cancelled"):
            self.counts[outcome] += 1
        else:
            self.record(outcome == "failures", elapsed)

    def record(self, failed: bool, elapsed: float) -> None:
        self.counts["failures" if failed else "successes"] += 1
        self.duration += elapsed
        slow = {threshold for threshold in self.settings.thresholds if elapsed >= threshold}
        self.slow.update(slow)
        before = len(self.view().records)
        fired = self.was_firing and self.view().fires(self.settings.tripper)
        self.records.append(Record(failed, elapsed, self.now, slow))
        self.streak = self.streak + 1 if failed else 0
        view, tripper = self.view(), self.settings.tripper
        if self.state == "half_open":
            if not possible(tripper, half_open=True):
                self.move("open" if failed else "closed")
            elif view.has_evidence(tripper):
                self.move("open" if view.fires(tripper) else "closed")
            return
        say = clauses(tripper, half_open=False)
        completes = any(c[0] == "min" and before < c[1] <= len(view.records) for c in say)
        if failed or slow or completes or any(clause[0] == "avg" for clause in say):
            self.was_firing = fired  # what has cleared in between is news when it comes again
            self.ask(view.fires(tripper))

    def ask(self, fires: bool) -> None:
        if self.state == "metrics_only":
            if fires and not self.was_firing:
                self.signals.append((self.state, self.state, "would_open"))
            self.was_firing = fires
        elif fires:
            self.move("open")

    def reclaim(self) -> None:
        for probe in list(self.probes):
            assert probe.deadline is not None
            if self.now >= probe.deadline:
                self.settle(probe, "ignored", 0.0)

    # what moves it

    def move(self, state: str, retry_at: float | None = None) -> None:
        old = self.state
        if state == "open":
            self.opened = True
            self.reopens += old == "half_open"
            if retry_at is None:
                retry_at = self.now + delay(self.plan.retry, self.reopens, self.roll)
        elif state == "closed":
            self.reopens = 0
        self.retry_at = math.inf if retry_at is None else retry_at
        self.state, self.settings = state, self.plan
        self.generation += 1
        self.records, self.probes, self.was_firing = [], [], False
        if state != old:
            self.signals.append((old, state, "transition"))

    def control(self, name: str) -> None:
        state = {"reset": "closed", "disable": "disabled", "force_open": "forced_open"}
        if name == "reset":
            self.streak = 0
        elif self.state == state.get(name, name):
            return
        self.move(state.get(name, name))

    def open_for(self, seconds: float) -> None:
        if self.state == "open":
            self.retry_at = max(self.retry_at, self.now + seconds)
        elif self.state in ("closed", "half_open"):
            self.move("open", self.now + seconds)

    def update(self, plan: Plan) -> None:
        self.plan = plan
        if self.state in ("closed", "metrics_only"):
            self.settings = plan
            for record in self.records:
                record.slow &= plan.thresholds

    @property
    def retry_after(self) -> float | None:
        if self.state != "open" or self.retry_at == math.inf:
            return None
        return max(self.retry_at - self.now, 0.0)


# -- what is played

small = st.integers(1, 6)
ratios = st.sampled_from([0.25, 0.5, 0.75, 1.0])
thresholds = st.sampled_from([0.5, 1.0, 2.0])
bad_news = st.one_of(
    st.tuples(st.just("rate"), ratios),
    st.tuples(st.just("slow"), ratios, thresholds),
    st.tuples(st.just("streak"), small),
    st.tuples(st.just("avg"), thresholds),
)
judges = st.recursive(
    bad_news,
    lambda inner: st.one_of(
        st.tuples(st.just("and"), inner, inner),
        st.tuples(st.just("or"), inner, inner),
        st.tuples(st.just("and"), st.tuples(st.just("min"), small), inner),
    ),
    max_leaves=4,
)
trippers: st.SearchStrategy[Spec] = st.one_of(
    st.tuples(st.just("and"), st.tuples(st.just("min"), small), bad_news),
    judges,
    judges.map(lambda judge: ("and", ("closed",), judge)),
    st.tuples(judges, judges).map(
        lambda pair: (
            "or",
            ("and", ("closed",), pair[0]),
            ("and", ("half-open",), pair[1]),
        )
    ),
    st.tuples(small, judges, judges).map(
        lambda drawn: (
            "and",
            ("min", drawn[0]),
            ("or", ("and", drawn[1], ("closed",)), ("and", ("half-open",), drawn[2])),
        )
    ),
)
windows = st.one_of(
    st.tuples(st.integers(6, 12)),
    st.tuples(st.sampled_from([4.0, 8.0]), st.sampled_from([1, 2, 4])),
)
retries = st.sampled_from(
    [
        Always(),
        Never(),
        Cooldown(4.0),
        Cooldown(8.0, 0.5),
        Backoff(2.0),
        Backoff(1.0, 4.0, 8.0, 0.5),
    ]
)
permits = st.sampled_from([All(), Random(0.5), RampUp(0.25, 1.0, 8.0)])
plans = st.builds(
    Plan, trippers, windows, retries, permits, st.integers(1, 3), st.sampled_from([2.0, 64.0])
)
steps = st.sampled_from([1, 7, 32, 64, 100, 256, 1000]).map(lambda ticks: ticks * TICK)
durations = st.sampled_from([0, 0, 0, 1, 32, 64, 100, 256]).map(lambda ticks: ticks * TICK)
rolls = st.sampled_from([0.0, 0.25, 0.5, 0.75])
outcomes = st.sampled_from(
    ["successes", "successes", "failures", "failures", "ignored", "cancelled"]
)
states = st.sampled_from(["closed", "closed", "metrics_only", "disabled", "forced_open"])
ERRORS: dict[str, Callable[[], BaseException]] = {
    "failures": ConnectionError,
    "ignored": ValueError,
    "cancelled": asyncio.CancelledError,
}


class Pause:
    """Awaited, it waits until the coroutine is resumed."""

    def __await__(self) -> Any:
        yield


class Flying(NamedTuple):
    """A call in flight, and what the model knows of it."""

    ticket: Ticket
    started: float
    end: Callable[[str, float], None]


class Breakers(RuleBasedStateMachine):
    """Two fronts of one circuit, driven together with the model."""

    @initialize(plan=plans, state=states)
    def begin(self, plan: Plan, state: str) -> None:
        self.now = 1024.0
        self.heard: list[tuple[str, str, str]] = []
        self.sync = CircuitBreaker(
            "api",
            listeners=[self.hear],
            initial_state=state,
            clock=lambda: self.now,
            dice=lambda: self.model.roll,
            **plan.settings,
        )
        self.asynchronous = self.sync.to_async()
        self.model = Model(plan, state, self.now)
        self.flying: list[Flying] = []

    def hear(self, signal: Signal) -> None:
        self.heard.append((str(signal.old_state), str(signal.new_state), str(signal.kind)))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.model.now = self.now

    # -- calls from beginning to end

    @rule(
        outcome=outcomes,
        seconds=durations,
        roll=rolls,
        door=st.sampled_from(["call", "decorated", "block", "async call", "async decorated"]),
    )
    def call(self, outcome: str, seconds: float, roll: float, door: str) -> None:
        self.model.roll = roll
        result = object()

        def body() -> object:
            self.advance(seconds)
            if outcome != "successes":
                raise error
            return result

        async def async_body() -> object:
            return body()

        error = ERRORS.get(outcome, Exception)()
        ticket = self.model.acquire()
        try:
            match door:
                case "call":
                    returned = self.sync.call(body)
                case "decorated":
                    returned = self.sync(body)()
                case "block":
                    with self.sync:
                        returned = body()
                case "async call":
                    returned = finish(self.asynchronous.call(async_body))
                case _:
                    returned = finish(self.asynchronous(async_body)())
        except CallNotPermittedError as refusal:
            self.compare_refusal(refusal, ticket)
            return
        except BaseException as raised:
            if raised is not error:
                raise
        else:
            assert returned is result
        assert ticket is not None, "admitted"
        self.model.settle(ticket, outcome, seconds)

    def compare_refusal(self, refusal: CallNotPermittedError, ticket: Ticket | None) -> None:
        assert ticket is None, f"refused: {refusal}"
        assert (refusal.state, refusal.retry_after) == (self.model.state, self.model.retry_after)

    @rule(count=st.sampled_from([2, 3, 5, 300]), roll=rolls)
    def call_many(self, count: int, roll: float) -> None:
        for _ in range(count):
            self.call("successes", 0.0, roll, "decorated")

    # -- calls that overlap with whatever else happens

    @rule(roll=rolls, suspended=st.booleans())
    def start(self, roll: float, suspended: bool) -> None:
        self.model.roll = roll
        ticket = self.model.acquire()
        try:
            end = self.start_coroutine() if suspended else self.start_attempt()
        except CallNotPermittedError as refusal:
            self.compare_refusal(refusal, ticket)
        else:
            assert ticket is not None
            self.flying.append(Flying(ticket, self.now, end))

    def start_attempt(self) -> Callable[[str, float], None]:
        held = [self.sync.attempt()]

        def end(outcome: str, elapsed: float) -> None:
            attempt = held.pop()
            match outcome:
                case "successes":
                    attempt.succeed(elapsed)
                    attempt.fail()
                case "failures":
                    attempt.fail(elapsed=elapsed)
                    attempt.succeed()
                case "ignored":
                    del attempt  # dropped unsettled
                case _:
                    attempt.raised(asyncio.CancelledError(), elapsed)

        return end

    def start_coroutine(self) -> Callable[[str, float], None]:
        async def body() -> None:
            await Pause()

        task = Context()  # as event loops give to each: calls in it would be nested in this one
        running = self.asynchronous(body)()
        task.run(running.send, None)

        def end(outcome: str, _elapsed: float) -> None:
            try:
                if outcome == "successes":
                    task.run(running.send, None)
                else:
                    task.run(running.throw, ERRORS[outcome]())
            except StopIteration:
                ended = "successes"
            except (ConnectionError, ValueError, asyncio.CancelledError) as error:
                ended = next(name for name, kind in ERRORS.items() if type(error) is kind)
            assert ended == outcome

        return end

    @rule(count=st.integers(1, 5), seconds=steps, roll=rolls)
    def fail_while_a_call_is_on_its_way(self, count: int, seconds: float, roll: float) -> None:
        """A call that was let in before the first bad news ends well after it."""
        self.start(roll, suspended=True)
        for _ in range(count):
            self.advance(seconds)
            self.call("failures", 0.0, roll, "decorated")
        if self.flying:
            self.end(-1, "successes", roll)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 100), outcome=outcomes, roll=rolls)
    def end(self, which: int, outcome: str, roll: float) -> None:
        self.model.roll = roll
        flying = self.flying.pop(which % len(self.flying))
        elapsed = self.now - flying.started
        flying.end(outcome, elapsed)
        self.model.settle(flying.ticket, outcome, elapsed)

    # -- time and controls

    @rule(seconds=steps)
    def wait(self, seconds: float) -> None:
        self.advance(seconds)

    @rule(name=st.sampled_from(["reset", "reset", "disable", "metrics_only", "force_open"]))
    def control(self, name: str) -> None:
        getattr(self.sync, name)()
        self.model.control(name)

    @rule(seconds=steps)
    def open_for(self, seconds: float) -> None:
        self.sync.open_for(seconds)
        self.model.open_for(seconds)

    @rule(plan=plans)
    def update(self, plan: Plan) -> None:
        plan = plan._replace(window=self.model.plan.window)
        self.asynchronous.update(**plan.changes)
        self.model.update(plan)

    # -- what must agree

    @rule()
    def look(self) -> None:
        """The whole picture. A rule, not an invariant: looking drains journals and reclaims
        slots, and most calls must do well without."""
        model, info = self.model, self.sync.info()
        model.reclaim()
        view = model.view()
        assert (info.state, info.reopens) == (model.state, model.reopens)
        assert info.probes == len(model.probes)
        assert info.retry_after == model.retry_after
        assert (info.last_trip is not None) == model.opened
        would_open = model.state == "metrics_only" and view.fires(model.settings.tripper)
        assert (info.would_open is not None) == would_open

        metrics = info.metrics
        assert metrics.total_count == len(view.records)
        assert metrics.failure_count == view.failures
        assert metrics.failure_streak == model.streak
        assert metrics.total_duration == view.duration
        assert metrics.slow_counts == {t: view.slow(t) for t in model.settings.thresholds}

        totals = info.totals
        named = ("successes", "failures", "ignored", "cancelled", "stale", "rejected")
        assert {name: getattr(totals, name) for name in named} == {
            name: model.counts[name] for name in named
        }
        assert totals.slow_counts == dict(model.slow)
        assert totals.duration == model.duration
        pending = sum(
            not flying.ticket.settled and flying.ticket.state != "disabled"
            for flying in self.flying
        )
        assert totals.settled + pending == model.admitted

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "model"):
            assert self.sync.state == self.asynchronous.state == self.model.state
            assert self.heard == self.model.signals

    def teardown(self) -> None:
        if hasattr(self, "model"):
            for _ in range(len(self.flying)):
                self.end(0, "successes", 0.0)
            self.look()
            assert self.model.admitted == self.sync.info().totals.settled


def finish(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine waits for something")


TestModel = Breakers.TestCase
TestModel.settings = settings(
    max_examples=5000 if LONG else 150,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
)
