"""Any order of anything, against a naive model (`naive.py`) that keeps a plain list of calls."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fluxgate import (
    AsyncCircuitBreaker,
    Attempt,
    CallNotPermittedError,
    CircuitBreaker,
    Signal,
    Subscription,
    in_probe,
)
from fluxgate.config import parse
from fluxgate.integration import attempt_of, enter, leave
from fluxgate.registry import Registry
from fluxgate.testing import RecordedCalls
from fluxgate.windows import Window

from . import naive
from .naive import Model, Plan, Save, Spec, Ticket, Transient, Words
from .proving import LONG

pytestmark = pytest.mark.slow

numbers = itertools.count()
TICK = 1 / 64  # durations and steps are whole ticks: exact as floats, and as nanoseconds

# -- policies, generated from the grammar of expressions

small = st.integers(1, 6)
ratios = st.sampled_from([0.25, 0.5, 0.75, 1.0])
thresholds = st.sampled_from([0.5, 1.0, 2.0])
lengths = st.sampled_from([0.25, 1.0, 2.0, 4.0, 8.0])


def a(kind: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Spec]:
    """A strategy's expression, with its arguments drawn."""
    return st.tuples(st.just(kind), *arguments)


def joined(inner: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    return st.one_of(a("and", inner, inner), a("or", inner, inner))


bad_news = st.one_of(
    a("FailureRate", ratios),
    a("SlowRate", ratios, thresholds),
    a("FailureStreak", small),
    a("AvgLatency", thresholds),
)
deciding = st.recursive(
    bad_news,
    lambda inner: st.one_of(joined(inner), a("and", a("MinRequests", small), inner)),
    max_leaves=4,
)
usual = st.one_of(
    a("and", a("MinRequests", small), bad_news),
    deciding,
    a("and", a("Closed"), deciding),
    a("or", a("and", a("Closed"), deciding), a("and", a("HalfOpened"), deciding)),
)
anything = st.recursive(
    st.one_of(bad_news, a("MinRequests", small), a("Closed"), a("HalfOpened")),
    joined,
    max_leaves=6,
)
trippers = st.one_of(usual, anything)
windows = st.one_of(
    a("CountWindow", st.integers(4, 12)),
    a("TimeWindow", st.sampled_from([4.0, 8.0]), st.sampled_from([1, 2, 4])),
)
retries = st.one_of(
    a("Always"),
    a("Never"),
    a("Cooldown", lengths, st.sampled_from([0.0, 0.5])),
    a(
        "Backoff",
        lengths,
        st.sampled_from([1.0, 2.0, 4.0]),
        st.just(8.0),
        st.sampled_from([0, 0.5]),
    ),
)
permits = st.one_of(
    a("All"),
    a("Random", ratios),
    a("RampUp", st.just(0.25), ratios, lengths),
)
kinds = st.lists(st.sampled_from(sorted(naive.KINDS)), min_size=1, max_size=2)
trackers = st.recursive(
    st.one_of(
        a("All"),
        kinds.map(lambda names: ("TypeOf", *names)),
        kinds.map(lambda names: ("CausedBy", *names)),
        st.just(("Custom", f"{naive.__name__}.is_transient")),
    ),
    lambda inner: st.one_of(joined(inner), a("not", inner)),
    max_leaves=3,
)
all_plans = st.builds(
    Plan,
    windows,
    trippers,
    retries,
    permits,
    slots=st.integers(1, 3),
    timeout=st.sampled_from([2.0, 64.0]),
    tracker=st.one_of(st.just(("TypeOf", "builtins.ConnectionError")), trackers),
    healthy=st.one_of(st.none(), st.none(), trackers),
    judges_results=st.sampled_from([False, False, False, True]),
    cancelled_after=st.sampled_from([None, None, 1.0]),
    shadow=st.one_of(st.none(), trippers),
)
plans = all_plans.filter(lambda plan: plan.makes_sense)


class Bad:
    """A result that a result tracker takes for a failure."""


def is_bad(result: object) -> bool:
    return isinstance(result, Bad)


def settings_of(plan: Plan) -> dict[str, Any]:
    """What a breaker is made with; the strategies are read from their expressions."""
    return {
        "tripper": parse("tripper", naive.text(plan.tripper)),
        "retry": parse("retry", naive.text(plan.retry)),
        "permit": parse("permit", naive.text(plan.permit)),
        "max_half_open_calls": plan.slots,
        "probe_timeout": plan.timeout,
        "tracker": parse("tracker", naive.text(plan.tracker)),
        "healthy": None if plan.healthy is None else parse("tracker", naive.text(plan.healthy)),
        "result_tracker": is_bad if plan.judges_results else None,
        "cancelled_after": plan.cancelled_after,
        "shadow": None if plan.shadow is None else parse("tripper", naive.text(plan.shadow)),
    }


def window_of(plan: Plan) -> Window:
    return parse("window", naive.text(plan.window))


# -- what calls end with


def wrapped(inner: BaseException) -> Exception:
    try:
        raise RuntimeError from inner
    except RuntimeError as error:
        return error


def refusal() -> Exception:
    """Another circuit's refusal."""
    with (
        pytest.raises(CallNotPermittedError) as caught,
        CircuitBreaker("other", initial_state="forced_open"),
    ):
        raise AssertionError
    return caught.value


ERRORS: dict[str, Callable[[], BaseException]] = {
    "connection": ConnectionError,
    "a subclass": ConnectionResetError,
    "timeout": TimeoutError,
    "key": KeyError,
    "transient": Transient,
    "value": ValueError,
    "wrapped": lambda: wrapped(ConnectionError()),
    "wrapped twice": lambda: wrapped(wrapped(TimeoutError())),
    "group": lambda: ExceptionGroup("", [ValueError(), ConnectionError()]),
    "healthy group": lambda: ExceptionGroup("", [KeyError(), ExceptionGroup("", [IndexError()])]),
    "group of refusals": lambda: ExceptionGroup("", [refusal()]),
    "wrapped group": lambda: wrapped(ExceptionGroup("", [ConnectionError()])),
    "cancelled group": lambda: BaseExceptionGroup("", [asyncio.CancelledError(), ValueError()]),
    "refusal": refusal,
    "cancelled": asyncio.CancelledError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "closed": GeneratorExit,
    "stop": StopIteration,
}
endings = st.one_of(
    st.sampled_from(["well", "connection"]), st.sampled_from(["well", "bad", *ERRORS])
)
steps = st.sampled_from([1, 7, 32, 64, 100, 256, 1000]).map(lambda ticks: ticks * TICK)
durations = st.sampled_from([0, 0, 0, 1, 32, 64, 100, 256]).map(lambda ticks: ticks * TICK)
rolls = st.sampled_from([0.0, 0.25, 0.5, 0.75])
states = st.sampled_from(["closed", "closed", "closed", *naive.BY_HAND])
words = st.one_of(
    st.just(naive.WORDLESS), st.tuples(st.just("migration"), st.sampled_from([None, "alice"]))
)
DOORS = (
    *("call", "decorated", "block", "fallback", "decorated fallback", "attempt", "ticket"),
    *("generator", "async call", "async decorated", "async block", "async fallback"),
    *("async decorated fallback", "async attempt", "async generator"),
)
VERDICTS = {
    "succeed": "successes",
    "return": "successes",
    "return bad": "failures",
    "fail": "failures",
    "fail in words": "failures",
    "ignore": "ignored",
}
STARTS = ("attempt", "coroutine", "async block", "generator", "block in a generator")


class Pause:
    """Awaited, it waits until the coroutine is resumed."""

    def __await__(self) -> Any:
        yield


@dataclass
class Flying:
    """A call in flight, and what the model knows of it."""

    kind: str
    ticket: Ticket
    started: float
    end: Callable[[BaseException | None], None]
    elapsed: float | None = None
    held: list[Attempt] = field(default_factory=list)


def finish(coroutine: Coroutine[Any, Any, object]) -> object:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine waits for something")


class Breakers(RuleBasedStateMachine):
    """Two fronts of one circuit, driven together with the model."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1024.0
        self.wall = 2.0**30
        self.patch = patch.object(time, "time", lambda: self.wall)
        self.patch.start()
        self.flying: list[Flying] = []
        self.held: list[Attempt] = []  # of the call that is just being started
        self.saves: list[tuple[str, Save]] = []

    @initialize(plan=plans, state=states)
    def begin(self, plan: Plan, state: str) -> None:
        self.model = Model(plan, state, self.now, self.wall)
        self.make(plan, state)

    def make(self, plan: Plan, state: str) -> None:
        self.heard: list[tuple[str, str, str, bool]] = []
        self.calls = RecordedCalls()
        self.listening: Subscription | None = None
        self.sync = CircuitBreaker(
            f"api-{next(numbers)}",  # the context may hold probes of an example before
            listeners=[self.hear],
            initial_state=state,
            clock=lambda: self.now,
            dice=lambda: self.model.roll,
            window=window_of(plan),
            **settings_of(plan),
        )
        self.asynchronous: AsyncCircuitBreaker = self.sync.to_async()
        self.registry = Registry(factory=lambda _: self.sync)
        for _ in range(2):  # from the second look-up on, tickets are given
            self.registry[self.sync.name]

    def hear(self, signal: Signal) -> None:
        moved = (str(signal.old_state), str(signal.new_state), str(signal.kind))
        self.heard.append((*moved, signal.shadow))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds
        self.model.now, self.model.wall = self.now, self.wall

    # -- calls from beginning to end

    @rule(ending=endings, seconds=durations, roll=rolls, door=st.sampled_from(DOORS))
    def call(self, ending: str, seconds: float, roll: float, door: str) -> None:
        self.run(ending, seconds, roll, door)

    @rule(
        outer=st.sampled_from(["well", "connection"]),
        inner=st.sampled_from(["well", "connection", "value"]),
        seconds=durations,
        doors=st.tuples(st.sampled_from(DOORS), st.sampled_from(DOORS)),
    )
    def call_in_a_call(self, outer: str, inner: str, seconds: float, doors: Any) -> None:
        """A call of the circuit that makes two more calls of the circuit."""

        def nested() -> None:
            for _ in range(2):
                self.run(inner, seconds, 0.0, doors[1])

        self.run(outer, seconds, 0.0, doors[0], nested)

    def run(
        self,
        ending: str,
        seconds: float,
        roll: float,
        door: str,
        inside: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a call through that door, and have the model do the same."""
        model = self.model
        model.roll = roll
        if ending == "stop" and ("generator" in door or "async" in door):
            return  # Python makes a RuntimeError of it
        result: object = Bad() if ending == "bad" else object()
        error = ERRORS[ending]() if ending in ERRORS else None
        ticket, started = model.acquire(), self.now
        asks_tracker = door not in ("block", "async block", "generator", "async generator")

        def body() -> object:
            assert ticket is not None, "let in"
            model.enter(ticket)
            assert in_probe(self.sync.name) == model.in_probe()
            self.advance(seconds)
            inside()
            if error is not None:
                raise error
            return result

        try:
            returned = self.through(door, body)
        except CallNotPermittedError as refused:
            if refused is not error:
                self.compare_refusal(refused, ticket)
                return
        except BaseException as raised:
            if raised is not error:
                raise
        else:
            if returned is not result:
                assert "fallback" in door
                assert isinstance(returned, Exception)
                if returned is not error:
                    assert isinstance(returned, CallNotPermittedError)
                    self.compare_refusal(returned, ticket)
                    return
        assert ticket is not None, "refused"
        elapsed = self.now - started
        if error is not None:
            model.end(ticket, error, elapsed)
        elif asks_tracker and ending == "bad" and model.settings.judges_results:
            model.settle(ticket, "failures", elapsed)
        else:
            model.settle(ticket, "successes", elapsed)

    def through(self, door: str, body: Callable[[], object]) -> object:
        """What comes out of a call that is made in one of many ways."""

        async def async_body() -> object:
            return body()

        match door:
            case "call":
                return self.sync.call(body)
            case "decorated":
                return self.sync(body)()
            case "fallback":
                return self.sync.call_with_fallback(body, lambda error: error)
            case "block":
                with self.sync:
                    return body()
            case "decorated fallback":
                return self.sync(body, fallback=lambda error: error)()
            case "attempt":
                return attempted(self.sync.attempt(), body)
            case "async attempt":
                return attempted(self.asynchronous.attempt(), body)
            case "ticket":
                ticket = enter(self.registry, self.sync.name)
                if ticket is None:
                    return attempted(self.registry[self.sync.name].attempt(), body)
                try:
                    result = body()
                except BaseException as error:
                    attempt_of(ticket).raised(error)
                    raise
                leave(ticket, result)
                return result
            case "generator":

                def items() -> Iterator[object]:
                    yield body()

                (item,) = self.sync(items)()
                return item
            case "async call":
                return finish(self.asynchronous.call(async_body))
            case "async decorated":
                return finish(self.asynchronous(async_body)())
            case "async fallback":
                return finish(self.asynchronous.call_with_fallback(async_body, lambda error: error))
            case "async decorated fallback":
                return finish(self.asynchronous(async_body, fallback=lambda error: error)())
            case "async block":

                async def block() -> object:
                    async with self.asynchronous:
                        return body()

                return finish(block())
            case "async generator":

                async def async_items() -> Any:
                    yield body()

                async def read() -> object:
                    (item,) = [item async for item in self.asynchronous(async_items)()]
                    return item

                return finish(read())
        raise AssertionError(door)

    def compare_refusal(self, refused: CallNotPermittedError, ticket: Ticket | None) -> None:
        model = self.model
        assert ticket is None, f"refused: {refused}"
        assert (refused.state, refused.retry_after) == (model.state, model.retry_after)
        said = (refused.reason.note, refused.reason.by) if refused.reason else naive.WORDLESS
        assert said == (model.trip_words if model.half_open and model.opened else model.words)

    @rule(count=st.sampled_from([2, 3, 5, 300]), roll=rolls)
    def call_many(self, count: int, roll: float) -> None:
        for _ in range(count):
            self.run("well", 0.0, roll, "decorated")

    # -- calls that overlap with whatever else happens

    @rule(roll=rolls, kind=st.sampled_from(STARTS))
    def start(self, roll: float, kind: str) -> None:
        model = self.model
        model.roll = roll
        inside = model.entered
        if kind in ("coroutine", "async block"):
            model.entered = []  # a task of its own
        ticket = model.acquire()
        model.entered = inside
        try:
            end = getattr(self, f"start_{kind.replace(' ', '_')}")()
        except CallNotPermittedError as refused:
            self.compare_refusal(refused, ticket)
            return
        assert ticket is not None, "refused"
        if kind == "block in a generator":
            model.enter(ticket)
        flying = Flying(kind, ticket, self.now, end)
        if kind == "attempt":
            flying.held, self.held = self.held, []
        if kind == "generator":
            flying.elapsed = 0.0  # the time to its first item
        self.flying.append(flying)

    def start_attempt(self) -> Callable[[BaseException | None], None]:
        held = self.held = [self.sync.attempt()]

        def end(error: BaseException | None) -> None:
            attempt = held.pop()
            if error is None:
                attempt.succeed()
                attempt.fail()
            else:
                attempt.raised(error)
                attempt.succeed()
                attempt.ignore()

        return end

    def start_coroutine(self) -> Callable[[BaseException | None], None]:
        async def body() -> None:
            await Pause()

        return self.start_task(self.asynchronous(body)())

    def start_async_block(self) -> Callable[[BaseException | None], None]:
        async def body() -> None:
            async with self.asynchronous:
                await Pause()

        return self.start_task(body())

    def start_task(self, running: Coroutine[Any, Any, Any]) -> Callable[[Any], None]:
        context = Context()  # as event loops give to each task
        context.run(running.send, None)

        def end(error: BaseException | None) -> None:
            with suppress(StopIteration):
                raised_by(context.run, lambda: running.send(None), running.throw, error)

        return end

    def start_generator(self) -> Callable[[BaseException | None], None]:
        @self.sync
        def items() -> Iterator[None]:
            yield

        return self.start_items(items())

    def start_block_in_a_generator(self) -> Callable[[BaseException | None], None]:
        def items() -> Iterator[None]:
            with self.sync:
                yield

        return self.start_items(items())

    def start_items(self, running: Any) -> Callable[[BaseException | None], None]:
        next(running)

        def end(error: BaseException | None) -> None:
            if isinstance(error, GeneratorExit):
                running.close()
                return
            with suppress(StopIteration):
                raised_by(lambda step, *a: step(*a), lambda: next(running), running.throw, error)

        return end

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 100), ending=endings, roll=rolls)
    def end(self, which: int, ending: str, roll: float) -> None:
        model = self.model
        model.roll = roll
        flying = self.flying.pop(which % len(self.flying))
        error = ERRORS[ending]() if ending in ERRORS and ending != "stop" else None
        elapsed = self.now - flying.started if flying.elapsed is None else flying.elapsed
        flying.end(error)
        if error is None:
            model.settle(flying.ticket, "successes", elapsed)
        elif flying.kind == "generator" and isinstance(error, GeneratorExit):
            model.settle(flying.ticket, "ignored", elapsed)  # whoever read it needs no more
        else:
            model.end(flying.ticket, error, elapsed)

    @precondition(lambda self: any(each.kind == "attempt" for each in self.flying))
    @rule(
        which=st.integers(0, 100),
        verdict=st.sampled_from(sorted(VERDICTS)),
        seconds=st.one_of(st.none(), durations),
        roll=rolls,
    )
    def decide(self, which: int, verdict: str, seconds: float | None, roll: float) -> None:
        """An attempt is settled by who made it, with a duration of its own or without."""
        model = self.model
        model.roll = roll
        attempts = [each for each in self.flying if each.kind == "attempt"]
        flying = attempts[which % len(attempts)]
        self.flying.remove(flying)
        attempt = flying.held.pop()
        elapsed, outcome = self.now - flying.started, VERDICTS[verdict]
        assert (attempt.settled, attempt.elapsed) == (False, elapsed)
        match verdict:
            case "succeed":
                attempt.succeed(elapsed=seconds)
            case "return" | "return bad":
                bad = verdict == "return bad"
                attempt.returned(Bad() if bad else object(), elapsed=seconds)
                if bad and not model.settings.judges_results:
                    outcome = "successes"
            case "fail":
                attempt.fail(KeyError(), elapsed=seconds)
            case "fail in words":
                attempt.fail("HTTP 503", elapsed=seconds)
            case "ignore":
                attempt.ignore()
        assert attempt.settled
        if seconds is not None and verdict != "ignore":
            elapsed = seconds
        model.settle(flying.ticket, outcome, elapsed)

    @rule(verdict=st.sampled_from(sorted(VERDICTS)), took=durations, seconds=durations, roll=rolls)
    def call_by_hand(self, verdict: str, took: float, seconds: float, roll: float) -> None:
        """An attempt that is settled after a time, as if it had taken another."""
        before = len(self.flying)
        self.start(roll, "attempt")
        self.advance(took)
        if len(self.flying) > before:
            attempts = sum(each.kind == "attempt" for each in self.flying)
            self.decide(attempts - 1, verdict, seconds, roll)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 100))
    def drop(self, which: int) -> None:
        """A call that nobody ends: its attempt, task or generator is forgotten."""
        flying = self.flying.pop(which % len(self.flying))
        elapsed = self.now - flying.started if flying.elapsed is None else flying.elapsed
        del flying.end
        flying.held.clear()
        if flying.kind in ("attempt", "generator"):
            self.model.settle(flying.ticket, "ignored", elapsed)
        else:  # Python throws a GeneratorExit into it
            self.model.end(flying.ticket, GeneratorExit(), elapsed)

    @rule(count=st.integers(1, 5), seconds=steps, roll=rolls)
    def fail_while_a_call_is_on_its_way(self, count: int, seconds: float, roll: float) -> None:
        """A call that was let in before the first bad news ends well after it."""
        self.start(roll, "coroutine")
        for _ in range(count):
            self.advance(seconds)
            self.run("connection", 0.0, roll, "decorated")
        if self.flying:
            self.end(-1, "well", roll)

    # -- time and controls

    @rule(seconds=steps)
    def wait(self, seconds: float) -> None:
        self.advance(seconds)

    @rule(seconds=st.sampled_from([-3600.0, -1.0, 0.5, 86400.0]))
    def set_the_wall_clock(self, seconds: float) -> None:
        self.wall += seconds
        self.model.wall = self.wall

    @rule(
        name=st.sampled_from(["reset", "reset", "disable", "metrics_only", "force_open"]),
        seconds=st.one_of(st.none(), lengths),
        words=words,
    )
    def control(self, name: str, seconds: float | None, words: Words) -> None:
        timed = {} if name == "reset" else {"seconds": seconds}
        getattr(self.sync, name)(note=words[0], by=words[1], **timed)
        self.model.control(name, None if name == "reset" else seconds, words)

    @rule(seconds=steps, words=words)
    def open_for(self, seconds: float, words: Words) -> None:
        self.sync.open_for(seconds, note=words[0], by=words[1])
        self.model.open_for(seconds, words)

    @rule(plan=all_plans)
    def update(self, plan: Plan) -> None:
        plan = plan._replace(window=self.model.plan.window)
        if plan.makes_sense:
            self.asynchronous.update(**settings_of(plan))
            self.model.update(plan)
            return
        before = self.sync.policy
        with pytest.raises(ValueError, match=r"never|alone"):
            self.sync.update(**settings_of(plan))
        assert self.sync.policy is before

    @rule()
    def listen_to_calls(self) -> None:
        """A listener of each call comes, or goes."""
        if self.listening is None:
            self.listening = self.sync.listen(self.calls)
        else:
            self.listening()
            self.listening = None
        self.model.listening = self.listening is not None
        if self.model.state == "metrics_only":
            self.model.expire()  # another lane is looked for

    # -- another process

    @rule(roll=rolls)
    def save(self, roll: float) -> None:
        self.model.roll = roll
        self.look()
        saved = {**self.sync.info().save(), "name": "api"}
        self.saves.append((json.dumps(saved), self.model.save()))

    @precondition(lambda self: self.saves)
    @rule(
        which=st.integers(0, 100),
        fresh=st.booleans(),
        roll=rolls,
        max_age=st.sampled_from([math.inf, math.inf, 16.0]),
    )
    def restore(self, which: int, fresh: bool, roll: float, max_age: float) -> None:
        model = self.model
        model.roll = roll
        if fresh:  # as after a start; calls of the old process are nobody's business here
            self.flying.clear()
            self.model = Model(model.plan, "closed", self.now, self.wall, roll)
            self.make(model.plan, "closed")
        text, save = self.saves[which % len(self.saves)]
        text = text.replace('"api"', f'"{self.sync.name}"')
        restored = self.wall - save.wall <= max_age and self.model.restore(save)
        assert self.sync.restore(text, max_age=max_age) == restored

    # -- what must agree

    @rule()
    def look(self) -> None:
        """The whole picture. A rule, not an invariant: looking drains journals and reclaims
        slots, and most calls must do well without."""
        model = self.model
        assert self.sync.available == model.available()
        info = self.sync.info()
        model.look()
        view = model.view()
        assert (info.state, info.reopens) == (model.state, model.reopens)
        assert info.since == self.wall - (self.now - model.began)
        assert info.probes == len(model.probes)
        assert info.retry_after == model.retry_after
        assert info.reverts_in == model.save().reverts_in
        assert info.reason is not None
        assert (info.reason.note, info.reason.by) == model.words
        assert (info.last_trip is not None) == model.opened
        would_open = model.state == "metrics_only" and view.fires(model.tripper)
        assert (info.would_open is not None) == would_open
        recording = model.state in naive.RECORDING
        shadow = model.shadow is not None and recording and view.fires(model.shadow)
        assert (info.shadow is not None) == shadow

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
        moves = [new for _, new, kind, _ in model.signals if kind == "transition"]
        assert dict(totals.transitions) == dict(Counter(moves))
        pending = sum(
            not flying.ticket.settled and flying.ticket.state != "disabled"
            for flying in self.flying
        )
        assert totals.settled + pending == model.admitted
        counted = Counter(PLURALS.get(call.counted, str(call.counted)) for call in self.calls)
        assert counted == +model.heard

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "model"):
            if len(self.heard) < len(self.model.signals):
                self.look()  # successes have cleared the shadow: it is seen when they are counted
            assert self.sync.state == self.asynchronous.state == self.model.state
            assert self.heard == self.model.signals

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                for _ in range(len(self.flying)):
                    self.end(0, "well", 0.0)
                self.look()
                assert self.model.admitted == self.sync.info().totals.settled
        finally:
            self.patch.stop()


def attempted(attempt: Attempt, body: Callable[[], object]) -> object:
    with attempt:
        result = body()
        attempt.returned(result)
    return result


PLURALS = {"success": "successes", "failure": "failures"}


def raised_by(
    run: Callable[..., Any],
    go_on: Callable[[], Any],
    throw: Callable[[BaseException], Any],
    error: BaseException | None,
) -> None:
    """Go on with what is suspended, or throw into it; the error comes out as it is."""
    if error is None:
        run(go_on)
        return
    try:
        run(throw, error)
    except BaseException as raised:
        if raised is not error:
            raise


TestModel = Breakers.TestCase
TestModel.settings = settings(
    max_examples=5_000 if LONG else 150,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
)
