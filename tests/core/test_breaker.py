"""The two fronts: what they protect, how calls settle, what they tell, and what they refuse."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import math
import pickle
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    FluxgateError,
    Signal,
    SignalKind,
    State,
    WrongFrontError,
    circuits,
)
from fluxgate.permits import All
from fluxgate.retries import Always, Cooldown, Never
from fluxgate.signals import Reason
from fluxgate.testing import ManualClock
from fluxgate.trackers import TypeOf
from fluxgate.trippers import Closed, FailureRate, FailureStreak, MinRequests, SlowRate
from fluxgate.windows import CountWindow, TimeWindow

if TYPE_CHECKING:
    from conftest import Protected

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
METRICS_ONLY, DISABLED, FORCED_OPEN = State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN
Run = Callable[[Coroutine[Any, Any, Any]], Any]

NEVER_TRIPS = MinRequests(100) & FailureRate(1.0)
ONE_FAILURE = FailureRate(0.5)


@pytest.fixture
def sync(clock: ManualClock) -> CircuitBreaker:
    return CircuitBreaker("api", tripper=NEVER_TRIPS, clock=clock)


@pytest.fixture
def asynchronous(clock: ManualClock) -> AsyncCircuitBreaker:
    return AsyncCircuitBreaker("api", tripper=NEVER_TRIPS, clock=clock)


def fail(error: BaseException | None = None) -> None:
    raise ConnectionError if error is None else error


async def fail_async(error: BaseException | None = None) -> None:
    fail(error)


def counts(breaker: CircuitBreaker | AsyncCircuitBreaker) -> dict[str, int]:
    """The totals that are not 0."""
    totals = breaker.info().totals
    names = ("successes", "failures", "ignored", "cancelled", "stale", "rejected")
    return {name: getattr(totals, name) for name in names if getattr(totals, name)}


# -- decorators keep what they decorate


def plain(a: int, /, b: str = "x", *rest: float, c: bool, **more: object) -> tuple[Any, ...]:
    """A signature with everything in it."""
    return a, b, rest, c, more


async def coroutine(a: int, /, b: str = "x", *rest: float, c: bool, **more: object) -> Any:
    """A signature with everything in it."""
    return a, b, rest, c, more


def test_a_decorated_function_keeps_its_signature_name_and_kind(
    sync: CircuitBreaker, asynchronous: AsyncCircuitBreaker, run_coroutine: Run
) -> None:
    for breaker, fn in ((sync, plain), (asynchronous, coroutine)):
        for fallback in (None, lambda error: error):
            wrapped = breaker(fn, fallback=fallback)  # type: ignore[operator]
            assert inspect.signature(wrapped) == inspect.signature(fn)
            assert inspect.unwrap(wrapped) is fn
            assert (wrapped.__name__, wrapped.__doc__) == (fn.__name__, fn.__doc__)
            assert wrapped.__module__ == fn.__module__
            assert inspect.iscoroutinefunction(wrapped) is inspect.iscoroutinefunction(fn)
            result = wrapped(1, "b", 2.0, c=True, d=None)
            if fn is coroutine:
                result = run_coroutine(result)
            assert result == (1, "b", (2.0,), True, {"d": None})


class Service:
    """Methods of every kind."""

    def method(self, x: int) -> tuple[object, int]:
        return self, x

    @staticmethod
    def static(x: int) -> int:
        return x

    @classmethod
    def of_class(cls, x: int) -> tuple[type, int]:
        return cls, x

    def __call__(self, x: int) -> int:
        return x


class AsyncService:
    async def method(self, x: int) -> tuple[object, int]:
        return self, x

    @staticmethod
    async def static(x: int) -> int:
        return x

    @classmethod
    async def of_class(cls, x: int) -> tuple[type, int]:
        return cls, x

    async def __call__(self, x: int) -> int:
        return x


def test_methods_of_every_kind_can_be_decorated(sync: CircuitBreaker) -> None:
    class Decorated(Service):
        method = sync(Service.method)
        static = sync(Service.__dict__["static"])
        of_class = sync(Service.__dict__["of_class"])

    service = Decorated()
    assert service.method(1) == (service, 1)
    assert service.static(2) == Decorated.static(2) == 2
    assert service.of_class(3) == Decorated.of_class(3) == (Decorated, 3)
    assert isinstance(inspect.getattr_static(Decorated, "static"), staticmethod)
    assert isinstance(inspect.getattr_static(Decorated, "of_class"), classmethod)
    assert counts(sync) == {"successes": 5}


def test_async_methods_of_every_kind_can_be_decorated(
    asynchronous: AsyncCircuitBreaker, run_coroutine: Run
) -> None:
    class Decorated(AsyncService):
        method = asynchronous(AsyncService.method)
        static = asynchronous(AsyncService.__dict__["static"])
        of_class = asynchronous(AsyncService.__dict__["of_class"])

    service = Decorated()
    assert run_coroutine(service.method(1)) == (service, 1)
    assert run_coroutine(service.static(2)) == 2
    assert run_coroutine(Decorated.of_class(3)) == (Decorated, 3)
    assert counts(asynchronous) == {"successes": 3}


def test_bound_methods_partials_objects_and_classes_can_be_decorated(sync: CircuitBreaker) -> None:
    service = Service()
    assert sync(service.method)(1) == (service, 1)
    assert sync(functools.partial(service.method, 2))() == (service, 2)
    assert sync(functools.partial(functools.partial(plain, 1), c=False))()[0] == 1
    assert sync(service)(3) == 3
    assert sync(int)("4") == 4
    assert sync(len)("five!") == 5
    assert counts(sync) == {"successes": 6}


def test_async_partials_and_objects_can_be_decorated(
    asynchronous: AsyncCircuitBreaker, run_coroutine: Run
) -> None:
    service = AsyncService()
    partial = asynchronous(functools.partial(service.method, 2))
    assert inspect.iscoroutinefunction(partial)
    assert run_coroutine(partial()) == (service, 2)
    assert run_coroutine(asynchronous(service)(3)) == 3
    assert counts(asynchronous) == {"successes": 2}


def test_a_decorator_with_parentheses_is_the_same(sync: CircuitBreaker) -> None:
    @sync()
    def without() -> int:
        return 1

    @sync(fallback=lambda _error: 3)
    def with_fallback() -> int:
        raise ConnectionError

    assert (without(), with_fallback()) == (1, 3)


@pytest.mark.parametrize("thing", [None.__class__, 5, "text"], ids=repr)
def test_what_cannot_be_called_cannot_be_decorated(sync: CircuitBreaker, thing: Any) -> None:
    if callable(thing):
        assert sync(thing)() is None
    else:
        with pytest.raises(TypeError, match="this can't be called"):
            sync(thing)


# -- the wrong front


async def async_generator() -> AsyncIterator[int]:
    yield 1


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    "fn",
    [
        coroutine,
        async_generator,
        functools.partial(coroutine, 1),
        AsyncService(),
        AsyncService().method,
        AsyncService.__dict__["static"],
        AsyncService.__dict__["of_class"],
    ],
    ids=lambda fn: getattr(fn, "__qualname__", type(fn).__name__),
)
def test_a_sync_breaker_refuses_async_code_and_names_the_class_to_use(
    sync: CircuitBreaker, fn: Any
) -> None:
    with pytest.raises(TypeError, match="is async: use AsyncCircuitBreaker, or to_async"):
        sync(fn)


@pytest.mark.parametrize(
    "fn",
    [plain, generator, Service(), functools.partial(plain, 1), Service().method],
    ids=["function", "generator", "object", "partial", "method"],
)
def test_an_async_breaker_refuses_sync_code_and_names_the_class_to_use(
    asynchronous: AsyncCircuitBreaker, fn: Any
) -> None:
    with pytest.raises(TypeError, match="is not async: use CircuitBreaker, or to_sync"):
        asynchronous(fn)


@pytest.mark.parametrize("state", [CLOSED, HALF_OPEN, METRICS_ONLY, DISABLED])
def test_a_coroutine_handed_to_a_sync_call_is_refused_in_every_state(
    clock: ManualClock, state: State
) -> None:
    """It would count as a success at its creation; and nothing may hang on the state."""
    for handed in ("called", "decorated"):
        breaker = CircuitBreaker(
            "api", tripper=Closed() & ONE_FAILURE, retry=Always(), permit=All(), clock=clock
        )
        if state is HALF_OPEN:
            breaker.attempt().fail()
        elif state is not CLOSED:
            getattr(breaker, state)() if state is METRICS_ONLY else breaker.disable()

        def hidden() -> Coroutine[Any, Any, Any]:
            return fail_async()

        with pytest.raises(WrongFrontError, match="hidden is async: use AsyncCircuitBreaker"):
            breaker.call(hidden) if handed == "called" else breaker(hidden)()
        assert breaker.state is state
        assert counts(breaker).keys() <= {"failures", "ignored"}
        assert breaker.info().totals.successes == 0


@pytest.mark.parametrize("state", [CLOSED, DISABLED])
def test_a_sync_function_handed_to_an_async_call_is_refused(
    run_coroutine: Run, state: State
) -> None:
    breaker = AsyncCircuitBreaker("api", initial_state=state)
    with pytest.raises(WrongFrontError, match="plain is not async: use CircuitBreaker"):
        run_coroutine(breaker.call(plain, 1, c=True))  # type: ignore[arg-type]
    totals = breaker.info().totals
    assert (totals.successes, totals.failures) == (0, 0)


def test_an_async_fallback_is_refused_on_a_sync_breaker(sync: CircuitBreaker) -> None:
    """It would never be awaited."""
    with pytest.raises(TypeError, match="fail_async is async"):
        sync(fail, fallback=fail_async)
    with pytest.raises(TypeError, match="is async"):
        sync.call_with_fallback(fail, lambda error: fail_async(error))
    with pytest.raises(TypeError, match="is async"):
        sync(fail, fallback=lambda error: fail_async(error))()


@pytest.mark.parametrize("fallback", [5, "text"])
def test_a_fallback_must_be_callable(sync: CircuitBreaker, fallback: Any) -> None:
    with pytest.raises(TypeError, match="fallback must be callable with the exception"):
        sync(fail, fallback=fallback)


# -- call and fallbacks


def test_call_passes_all_arguments_on(
    sync: CircuitBreaker, asynchronous: AsyncCircuitBreaker, run_coroutine: Run
) -> None:
    expected = (1, "b", (2.0,), True, {"fn": 3, "self": 4})
    given: dict[str, Any] = {"c": True, "fn": 3, "self": 4}
    assert sync.call(plain, 1, "b", 2.0, **given) == expected
    assert run_coroutine(asynchronous.call(coroutine, 1, "b", 2.0, **given)) == expected
    given = {"c": True, "fallback": 3}
    expected = (1, "b", (), True, {"fallback": 3})
    unused: Any = fail
    assert sync.call_with_fallback(plain, unused, 1, "b", **given) == expected
    assert (
        run_coroutine(asynchronous.call_with_fallback(coroutine, unused, 1, "b", **given))
        == expected
    )


ERRORS = [ConnectionError("down"), ValueError("a programming error"), FluxgateError("ours")]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_a_fallback_gets_every_exception(
    sync: CircuitBreaker,
    asynchronous: AsyncCircuitBreaker,
    run_coroutine: Run,
    error: Exception,
) -> None:
    def same(given: Exception) -> Any:
        return given

    async def same_async(given: Exception) -> Any:
        return given

    assert sync.call_with_fallback(fail, same, error) is error
    assert sync(fail, fallback=same)(error) is error
    for fallback in (same, same_async):
        coro = asynchronous.call_with_fallback(fail_async, fallback, error)
        assert run_coroutine(coro) is error
        assert run_coroutine(asynchronous(fail_async, fallback=fallback)(error)) is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_a_fallback_never_gets_what_is_no_exception(
    sync: CircuitBreaker,
    asynchronous: AsyncCircuitBreaker,
    run_coroutine: Run,
    error: BaseException,
) -> None:
    asked: list[BaseException] = []
    for step in (
        lambda: sync.call_with_fallback(fail, asked.append, error),
        lambda: sync(fail, fallback=asked.append)(error),
        lambda: run_coroutine(asynchronous.call_with_fallback(fail_async, asked.append, error)),
        lambda: run_coroutine(asynchronous(fail_async, fallback=asked.append)(error)),
    ):
        with pytest.raises(type(error)):
            step()
    assert asked == []
    assert counts(sync) == counts(asynchronous) == {"cancelled": 2}


def test_a_fallback_gets_refusals(
    sync: CircuitBreaker, asynchronous: AsyncCircuitBreaker, run_coroutine: Run
) -> None:
    sync.force_open()
    asynchronous.force_open()

    def names(error: Exception) -> Any:
        assert isinstance(error, CallNotPermittedError)
        return error.name

    assert sync.call_with_fallback(fail, names) == "api"
    assert sync(fail, fallback=names)() == "api"
    assert run_coroutine(asynchronous.call_with_fallback(fail_async, names)) == "api"
    assert counts(sync) == {"rejected": 2}


def test_an_error_in_a_fallback_arrives_and_the_call_has_settled(sync: CircuitBreaker) -> None:
    def fallback(error: Exception) -> None:
        raise KeyError("no cache") from error

    with pytest.raises(KeyError) as caught:
        sync(fail, fallback=fallback)()
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert counts(sync) == {"failures": 1}


def test_a_fallback_is_not_asked_after_a_success(sync: CircuitBreaker) -> None:
    assert sync.call_with_fallback(str, fail) == ""  # type: ignore[arg-type]
    assert sync(str, fallback=fail)() == ""


# -- outcomes


def test_a_group_of_errors_is_judged_by_its_leaves(protect: Callable[..., Protected]) -> None:
    """Any tracked leaf makes a failure, however deep; refusals of others say nothing."""
    protected = protect(tracker=TypeOf(ConnectionError), tripper=NEVER_TRIPS)
    refusal = CallNotPermittedError("other", OPEN)
    for group in (
        ExceptionGroup("tracked", [ValueError(), ConnectionError()]),
        ExceptionGroup("deep", [ExceptionGroup("inner", [ConnectionResetError()])]),
        ExceptionGroup("with a refusal", [refusal, ConnectionError()]),
    ):
        protected.fail(group)
    assert counts(protected.breaker) == {"failures": 3}
    protected.fail(ExceptionGroup("untracked", [ValueError(), KeyError()]))
    protected.fail(ExceptionGroup("refused", [refusal]))
    assert counts(protected.breaker) == {"failures": 3, "ignored": 2}
    protected.fail(BaseExceptionGroup("interrupted", [ConnectionError(), KeyboardInterrupt()]))
    assert counts(protected.breaker) == {"failures": 3, "ignored": 2, "cancelled": 1}


def test_refusals_do_not_cascade_through_nested_breakers(clock: ManualClock) -> None:
    """The inner circuit is open; the outer one sees no failure of its own dependency."""
    inner = CircuitBreaker("inner", initial_state="forced_open", clock=clock)
    outer = CircuitBreaker("outer", tripper=ONE_FAILURE, clock=clock)
    for _ in range(20):
        with pytest.raises(CallNotPermittedError, match="'inner'"):
            outer(inner(plain))(1, c=True)
    assert outer.state is CLOSED
    assert counts(outer) == {"ignored": 20}
    assert counts(inner) == {"rejected": 20}


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()],
    ids=repr,
)
def test_whatever_is_no_exception_counts_as_cancelled(
    protect: Callable[..., Protected], error: BaseException
) -> None:
    protected = protect(tripper=ONE_FAILURE)
    protected.fail(error)
    assert protected.state is CLOSED
    assert counts(protected.breaker) == {"cancelled": 1}
    assert protected.info.metrics.total_count == 0


@pytest.mark.parametrize("window", [CountWindow(100), TimeWindow(64.0)], ids=repr)
def test_a_result_tracker_makes_failures_of_results(
    clock: ManualClock, run_coroutine: Run, window: Any
) -> None:
    """The caller gets its result all the same."""
    breaker = CircuitBreaker(
        "api",
        window=window,
        result_tracker=lambda result: result >= 500,
        tripper=MinRequests(4) & FailureRate(0.5),
        clock=clock,
    )

    async def answer(status: int) -> int:
        return status

    assert breaker.call(int, 200) == 200
    assert breaker(int)(503) == 503
    assert run_coroutine(breaker.to_async().call(answer, 200)) == 200
    assert counts(breaker) == {"successes": 2, "failures": 1}
    assert run_coroutine(breaker.to_async()(answer)(503)) == 503
    assert breaker.state is OPEN
    assert breaker.info().last_trip == Reason(
        "FailureRate(0.5)",
        0.5,
        4,
        window=repr(breaker.policy.window),
        errors=(("result_tracker", 2),),
    )


def test_durations_of_all_recorded_calls_are_counted(protect: Callable[..., Protected]) -> None:
    protected = protect(tripper=MinRequests(9) & (FailureRate(1.0) | SlowRate(1.0, 2.0)))
    protected.succeed(seconds=0.5)
    protected.fail(seconds=2.0)
    protected.fail(asyncio.CancelledError(), seconds=8.0)
    metrics, totals = protected.info.metrics, protected.totals
    assert metrics.total_duration == totals.duration == 2.5
    assert metrics.avg_duration == 1.25
    assert metrics.slow_rate(2.0) == 0.5
    assert metrics.failure_rate == 0.5
    assert totals.slow_counts == {2.0: 1}


def test_a_late_success_that_completes_the_minimum_opens_for_the_whole_cooldown(
    clock: ManualClock,
) -> None:
    """It was let in before the first failure; the cooldown begins when it ends, not before."""
    breaker = CircuitBreaker(
        "api", tripper=MinRequests(2) & FailureRate(0.5), retry=Cooldown(64.0), clock=clock
    )
    clock.advance(1024.0)
    guarded = breaker(fail)

    @breaker
    def overlapping() -> None:
        with pytest.raises(ConnectionError):
            guarded()

    overlapping()
    info = breaker.info()
    assert info.state is OPEN
    assert info.retry_after == 64.0
    with pytest.raises(CallNotPermittedError):
        guarded()


def test_a_call_that_spans_an_update_is_measured_by_the_new_threshold(clock: ManualClock) -> None:
    """It was let in when nothing was slow, and ends when it is."""
    breaker = CircuitBreaker("api", tripper=ONE_FAILURE, clock=clock)

    @breaker
    def spanning() -> None:
        breaker.update(tripper=SlowRate(1.0, 0.5))
        clock.advance(1.0)

    spanning()
    assert breaker.info().totals.slow_counts == {0.5: 1}
    assert breaker.state is OPEN


# -- attempts


@pytest.mark.parametrize("first", ["succeed", "fail", "ignore"])
@pytest.mark.parametrize("second", ["succeed", "fail", "ignore"])
def test_an_attempt_settles_once_and_the_first_verdict_wins(
    sync: CircuitBreaker, first: str, second: str
) -> None:
    attempt = sync.attempt()
    assert not attempt.settled
    getattr(attempt, first)()
    getattr(attempt, second)()
    assert attempt.settled
    outcome = {"succeed": "successes", "fail": "failures", "ignore": "ignored"}[first]
    assert counts(sync) == {outcome: 1}


def test_an_attempt_is_timed_from_admission_unless_told_otherwise(
    clock: ManualClock,
) -> None:
    breaker = CircuitBreaker("api", tripper=MinRequests(9) & SlowRate(1.0, 2.0), clock=clock)
    timed, told, failed = breaker.attempt(), breaker.attempt(), breaker.attempt()
    clock.advance(4.0)
    timed.succeed()
    told.succeed(elapsed=0.5)
    failed.fail(TimeoutError(), elapsed=2.0)
    assert breaker.info().metrics.total_duration == 6.5
    assert breaker.info().totals.slow_counts == {2.0: 2}


@pytest.mark.parametrize("elapsed", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize("settle", ["succeed", "fail"])
def test_an_attempt_refuses_a_duration_that_is_none(
    sync: CircuitBreaker, settle: str, elapsed: float
) -> None:
    """It is refused before anything is counted, and the attempt is still open."""
    attempt = sync.attempt()
    with pytest.raises(ValueError, match="elapsed"):
        getattr(attempt, settle)(elapsed=elapsed)
    assert counts(sync) == {}
    attempt.ignore()
    assert counts(sync) == {"ignored": 1}


def test_fail_is_final_and_asks_no_tracker(clock: ManualClock) -> None:
    breaker = CircuitBreaker("api", tracker=~TypeOf(Exception), tripper=ONE_FAILURE, clock=clock)
    breaker.attempt().fail(ValueError())
    assert breaker.state is OPEN


def test_a_dropped_attempt_is_ignored(sync: CircuitBreaker) -> None:
    attempts = [sync.attempt() for _ in range(300)]
    attempts[0].succeed()
    del attempts[:]
    gc.collect()
    assert counts(sync) == {"successes": 1, "ignored": 299}


@pytest.mark.parametrize(
    "error", [None, ConnectionError(), ValueError(), KeyboardInterrupt()], ids=repr
)
def test_an_attempt_is_a_context_manager_whose_errors_go_to_the_tracker(
    clock: ManualClock, run_coroutine: Run, error: BaseException | None
) -> None:
    breaker = CircuitBreaker(
        "api", tracker=TypeOf(ConnectionError), tripper=NEVER_TRIPS, clock=clock
    )

    async def block() -> None:
        async with breaker.to_async().attempt() as attempt:
            assert not attempt.probe
            if error is not None:
                raise error

    def sync_block() -> None:
        with breaker.attempt():
            if error is not None:
                raise error

    for step in (sync_block, lambda: run_coroutine(block())):
        if error is None:
            step()
        else:
            with pytest.raises(type(error)):
                step()
    names: dict[Any, str] = {
        type(None): "successes",
        ConnectionError: "failures",
        ValueError: "ignored",
        KeyboardInterrupt: "cancelled",
    }
    assert counts(breaker) == {names[type(error)]: 2}


def test_an_attempt_settled_inside_its_block_is_not_settled_again(sync: CircuitBreaker) -> None:
    with sync.attempt() as attempt:
        attempt.fail()
    with sync as attempt, suppress(ValueError):
        attempt.ignore()
        raise ValueError
    assert counts(sync) == {"failures": 1, "ignored": 1}


def test_an_attempt_says_what_it_is(sync: CircuitBreaker) -> None:
    attempt = sync.attempt()
    assert repr(attempt) == "<Attempt: call of 'api'>"
    attempt.succeed()
    assert repr(attempt) == "<Attempt: call of 'api', settled>"


# -- blocks


def test_blocks_nest_in_one_another(sync: CircuitBreaker, clock: ManualClock) -> None:
    """The innermost entry is the one that is left first, of the same breaker and of others."""
    other = CircuitBreaker("other", clock=clock)
    with sync as outer, other, sync as inner:
        assert inner is not outer
        clock.advance(1.0)
    assert outer.settled
    assert inner.settled
    assert counts(sync) == {"successes": 2}
    assert counts(other) == {"successes": 1}


def test_a_block_that_is_refused_is_not_entered(sync: CircuitBreaker) -> None:
    sync.force_open()
    with pytest.raises(CallNotPermittedError), sync:
        raise AssertionError("entered")
    with pytest.raises(RuntimeError):
        sync.__exit__(None, None, None)


def test_leaving_what_was_not_entered_names_attempt(
    sync: CircuitBreaker, asynchronous: AsyncCircuitBreaker, run_coroutine: Run
) -> None:
    with pytest.raises(RuntimeError, match=r"use attempt\(\)"):
        sync.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match=r"use attempt\(\)"):
        run_coroutine(asynchronous.__aexit__(None, None, None))
    with asynchronous.to_sync(), pytest.raises(RuntimeError, match=r"use attempt\(\)"):
        sync.__exit__(None, None, None)
    assert counts(sync) == {}


# -- generators


def numbers(count: int, error: Exception | None = None) -> Generator[int, Any, str]:
    yield from range(count)
    if error is not None:
        raise error
    return "done"


def test_a_generator_is_admitted_at_its_first_item_and_settles_at_its_end(
    sync: CircuitBreaker,
) -> None:
    guarded = sync(numbers)
    assert inspect.isgeneratorfunction(guarded)
    items = guarded(2)
    assert counts(sync) == {}
    assert next(items) == 0
    assert next(items) == 1
    assert counts(sync) == {}
    with pytest.raises(StopIteration) as end:
        next(items)
    assert end.value.value == "done"
    assert counts(sync) == {"successes": 1}


def test_the_duration_of_a_generator_is_the_time_to_its_first_item(
    sync: CircuitBreaker, asynchronous: AsyncCircuitBreaker, clock: ManualClock, run_coroutine: Run
) -> None:
    @sync
    def slow() -> Iterator[int]:
        clock.advance(0.5)
        yield 1
        clock.advance(8.0)
        yield 2

    @asynchronous
    async def slow_async() -> AsyncIterator[int]:
        clock.advance(0.5)
        yield 1
        clock.advance(8.0)
        yield 2

    async def collect() -> list[int]:
        return [item async for item in slow_async()]

    assert list(slow()) == run_coroutine(collect()) == [1, 2]
    assert sync.info().metrics.total_duration == 0.5
    assert asynchronous.info().metrics.total_duration == 0.5


def test_a_refused_generator_refuses_at_the_first_item(sync: CircuitBreaker) -> None:
    sync.force_open()
    items = sync(numbers)(2)
    with pytest.raises(CallNotPermittedError):
        next(items)


def test_a_generator_that_fails_counts_as_the_tracker_says(sync: CircuitBreaker) -> None:
    error = ConnectionError()
    with pytest.raises(ConnectionError) as caught:
        list(sync(numbers)(2, error))
    assert caught.value is error
    assert counts(sync) == {"failures": 1}


def test_a_generator_that_is_closed_early_is_ignored(sync: CircuitBreaker) -> None:
    items = sync(numbers)(2)
    next(items)
    items.close()
    dropped = sync(numbers)(2)
    next(dropped)
    del dropped
    gc.collect()
    assert counts(sync) == {"ignored": 2}


def test_a_generator_that_fails_while_it_is_closed_is_ignored(
    sync: CircuitBreaker, asynchronous: AsyncCircuitBreaker, run_coroutine: Run
) -> None:
    """Whoever closed it had what it wanted; sync and async agree on that."""

    @sync
    def untidy() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise ConnectionError

    @asynchronous
    async def untidy_async() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise ConnectionError

    async def close_early() -> None:
        items = untidy_async()
        await anext(items)
        await items.aclose()

    items: Any = untidy()
    next(items)
    with pytest.raises(ConnectionError):
        items.close()
    with pytest.raises(ConnectionError):
        run_coroutine(close_early())
    assert counts(asynchronous) == {"ignored": 1}
    assert counts(sync) == {"ignored": 1}


def test_send_and_throw_reach_the_generator(sync: CircuitBreaker) -> None:
    @sync
    def echo() -> Generator[Any, Any, None]:
        answer = "ready"
        while True:
            try:
                answer = yield answer
            except ValueError as error:
                answer = f"caught {error}"

    items = echo()
    assert next(items) == "ready"
    assert items.send("hello") == "hello"
    assert items.throw(ValueError("it")) == "caught it"
    with pytest.raises(ConnectionError):
        items.throw(ConnectionError())
    assert counts(sync) == {"failures": 1}


async def numbers_async(count: int, error: BaseException | None = None) -> AsyncGenerator[int, Any]:
    for number in range(count):
        yield number
    if error is not None:
        raise error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "successes"),
        (ConnectionError(), "failures"),
        (asyncio.CancelledError(), "cancelled"),
    ],
    ids=repr,
)
def test_an_async_generator_settles_when_it_ends(
    asynchronous: AsyncCircuitBreaker,
    run_coroutine: Run,
    error: BaseException | None,
    outcome: str,
) -> None:
    guarded = asynchronous(numbers_async)
    assert inspect.isasyncgenfunction(guarded)

    async def consume() -> list[int]:
        items = []
        ending = nullcontext() if error is None else pytest.raises(type(error))
        with ending:
            async for item in guarded(3, error):
                items.append(item)
                assert counts(asynchronous) == {}
        return items

    assert run_coroutine(consume()) == [0, 1, 2]
    assert counts(asynchronous) == {outcome: 1}


def test_an_async_generator_that_is_closed_early_is_ignored(
    asynchronous: AsyncCircuitBreaker, run_coroutine: Run
) -> None:
    async def consume() -> None:
        items = asynchronous(numbers_async)(3)
        assert await anext(items) == 0
        await items.aclose()

    run_coroutine(consume())
    assert counts(asynchronous) == {"ignored": 1}


def test_asend_and_athrow_reach_the_async_generator(
    asynchronous: AsyncCircuitBreaker, run_coroutine: Run
) -> None:
    @asynchronous
    async def echo() -> AsyncGenerator[Any, Any]:
        answer = "ready"
        while True:
            try:
                answer = yield answer
            except ValueError as error:
                answer = f"caught {error}"

    async def talk() -> None:
        items = echo()
        assert await anext(items) == "ready"
        assert await items.asend("hello") == "hello"
        assert await items.athrow(ValueError("it")) == "caught it"
        with pytest.raises(ConnectionError):
            await items.athrow(ConnectionError())

    run_coroutine(talk())
    assert counts(asynchronous) == {"failures": 1}


def test_generators_take_no_fallback(
    sync: CircuitBreaker, asynchronous: AsyncCircuitBreaker
) -> None:
    """After its first items nothing can take its place."""
    with pytest.raises(TypeError, match="numbers is a generator"):
        sync(numbers, fallback=repr)
    with pytest.raises(TypeError, match="numbers_async is a generator"):
        asynchronous(numbers_async, fallback=repr)


# -- two fronts, one circuit


def test_both_fronts_share_one_circuit(clock: ManualClock, run_coroutine: Run) -> None:
    breaker = CircuitBreaker("api", tripper=FailureStreak(2), retry=Never(), clock=clock)
    asynchronous = breaker.to_async()
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    with pytest.raises(ConnectionError):
        run_coroutine(asynchronous.call(fail_async))
    assert breaker.state is asynchronous.state is asynchronous.to_sync().state is OPEN
    assert breaker.info().totals == asynchronous.info().totals
    assert asynchronous.name == breaker.name == "api"
    asynchronous.reset()
    assert breaker.state is CLOSED


def test_every_circuit_is_listed_while_it_lives(clock: ManualClock) -> None:
    """Equal names are separate circuits; fronts and decorated functions are none."""
    gc.collect()
    before = len(circuits())
    one, two = CircuitBreaker("twin", clock=clock), AsyncCircuitBreaker("twin", clock=clock)
    one.to_async()
    guarded = one(plain)
    twins = circuits()[before:]
    assert [front.name for front in twins] == ["twin", "twin"]
    one.force_open()
    assert [front.state for front in twins] == [FORCED_OPEN, CLOSED]
    del twins, two
    gc.collect()
    assert len(circuits()) == before + 1
    del one
    gc.collect()
    assert len(circuits()) == before + 1
    del guarded
    gc.collect()
    assert len(circuits()) == before


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"]
)
def test_copying_or_pickling_a_breaker_raises(
    sync: CircuitBreaker, asynchronous: AsyncCircuitBreaker, duplicate: Callable[[Any], Any]
) -> None:
    for breaker in (sync, asynchronous):
        with pytest.raises(TypeError, match="can't be copied or pickled"):
            duplicate(breaker)


def test_a_breaker_says_what_it_is(sync: CircuitBreaker, asynchronous: AsyncCircuitBreaker) -> None:
    assert repr(sync) == "<CircuitBreaker 'api': closed>"
    asynchronous.force_open()
    assert repr(asynchronous) == "<AsyncCircuitBreaker 'api': forced_open>"


# -- the refusal

REFUSALS = [
    (
        CallNotPermittedError("api", OPEN, 12.3456, Reason("FailureRate(0.5)", 0.62, 100)),
        "circuit 'api' is open (FailureRate(0.5): 0.62 over 100 calls): "
        "the call was not made; try again in 12.3 s",
    ),
    (
        CallNotPermittedError("api", OPEN, None, Reason("probe failed")),
        "circuit 'api' is open (probe failed): "
        "the call was not made; it stays so until reset() is called",
    ),
    (
        CallNotPermittedError("api", HALF_OPEN),
        "circuit 'api' is half open: "
        "it is probing whether the dependency is back; try again shortly",
    ),
    (
        CallNotPermittedError(name="api", state=FORCED_OPEN, reason=Reason("force_open()")),
        "circuit 'api' is forced open (force_open()): "
        "the call was not made; it stays so until reset() is called",
    ),
]


@pytest.mark.parametrize(("error", "message"), REFUSALS, ids=repr)
def test_a_refusal_says_why_and_what_to_do_and_survives_pickling(
    error: CallNotPermittedError, message: str
) -> None:
    assert str(error) == message
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        same = pickle.loads(pickle.dumps(error, protocol))
        assert type(same) is CallNotPermittedError
        assert str(same) == message
        assert (same.name, same.state, same.retry_after, same.reason) == (
            error.name,
            error.state,
            error.retry_after,
            error.reason,
        )
    assert copy.copy(error).retry_after == error.retry_after


def test_a_refusal_of_a_tripped_circuit_carries_its_reason(
    protect: Callable[..., Protected],
) -> None:
    protected = protect(tripper=Closed() & FailureRate(0.5), retry=Cooldown(64.0))
    protected.fail()
    protected.clock.advance(24.0)
    error = protected.refused()
    assert (error.name, error.state, error.retry_after) == ("api", OPEN, 40.0)
    assert protected.info.last_trip == error.reason
    assert error.reason == Reason(
        "FailureRate(0.5)", 1.0, 1, window="CountWindow(100)", errors=(("ConnectionError", 1),)
    )
    assert isinstance(error, FluxgateError)
    protected.breaker.force_open()
    assert protected.refused().reason == Reason("force_open()")


def test_rejections_are_counted_exactly(protect: Callable[..., Protected]) -> None:
    protected = protect(initial_state=FORCED_OPEN)
    for _ in range(700):
        protected.refused()
    assert counts(protected.breaker) == {"rejected": 700}


# -- states that are set by hand


def test_metrics_only_reports_what_it_would_do_and_never_does_it(
    protect: Callable[..., Protected],
) -> None:
    """Once when it begins to fire, not with each call; again after it has stopped."""
    protected = protect(
        initial_state=METRICS_ONLY, tripper=MinRequests(2) & FailureRate(0.5), window=CountWindow(4)
    )
    protected.fail()
    assert protected.signals == []
    protected.fail(times=10)
    assert protected.state is METRICS_ONLY
    (signal,) = protected.signals
    assert (signal.kind, signal.old_state, signal.new_state) == (
        SignalKind.WOULD_OPEN,
        METRICS_ONLY,
        METRICS_ONLY,
    )
    assert str(signal.reason) == "FailureRate(0.5): 1 over 2 calls"
    assert protected.info.would_open == Reason(
        "FailureRate(0.5)", 1.0, 4, window="CountWindow(4)", errors=(("ConnectionError", 4),)
    )
    assert protected.info.last_trip is None
    protected.succeed(times=4)
    assert protected.info.would_open is None
    protected.fail()
    assert len(protected.signals) == 1
    protected.fail()
    assert [s.kind for s in protected.signals] == [SignalKind.WOULD_OPEN] * 2


def test_would_open_is_silent_outside_metrics_only(protect: Callable[..., Protected]) -> None:
    protected = protect(tripper=ONE_FAILURE)
    assert protected.info.would_open is None
    protected.fail()
    assert protected.info.would_open is None


def test_disabled_counts_nothing(protect: Callable[..., Protected]) -> None:
    protected = protect(initial_state=DISABLED, tripper=ONE_FAILURE)
    protected.succeed()
    protected.fail(times=9)
    protected.fail(asyncio.CancelledError())
    protected.breaker.attempt().ignore()
    assert counts(protected.breaker) == {}
    assert protected.info.metrics.total_count == 0


@pytest.mark.parametrize("state", [CLOSED, METRICS_ONLY, DISABLED, FORCED_OPEN])
@pytest.mark.parametrize("kind", [State, str])
def test_a_breaker_starts_where_it_is_told_to(
    breaker: Callable[..., Protected], state: State, kind: type
) -> None:
    protected = breaker(initial_state=kind(state))
    assert protected.state is state
    assert protected.signals == []
    if state is FORCED_OPEN:
        assert protected.refused().reason == Reason("initial_state=forced_open")


def test_setting_the_state_that_there_is_tells_nobody(breaker: Callable[..., Protected]) -> None:
    protected = breaker()
    for control in ("force_open", "disable", "metrics_only"):
        getattr(protected.breaker, control)()
        getattr(protected.breaker, control)()
    protected.breaker.reset()
    assert protected.moves == [
        (CLOSED, FORCED_OPEN),
        (FORCED_OPEN, DISABLED),
        (DISABLED, METRICS_ONLY),
        (METRICS_ONLY, CLOSED),
    ]


def test_open_for_lengthens_an_opening_and_never_shortens_it(
    protect: Callable[..., Protected],
) -> None:
    protected = protect(tripper=ONE_FAILURE, retry=Cooldown(64.0), permit=All())
    protected.fail()
    protected.breaker.open_for(8.0)
    assert protected.info.retry_after == 64.0
    protected.breaker.open_for(128.0)
    assert protected.info.retry_after == 128.0
    assert len(protected.signals) == 1
    protected.clock.advance(128.0)
    protected.succeed()
    assert protected.state is CLOSED


def test_open_for_in_half_open_counts_as_a_failed_recovery(
    protect: Callable[..., Protected],
) -> None:
    protected = protect(tripper=ONE_FAILURE, retry=Cooldown(64.0), permit=All())
    protected.fail()
    protected.clock.advance(64.0)
    protected.fail(asyncio.CancelledError())
    protected.breaker.open_for(8.0)
    info = protected.info
    assert (info.state, info.reopens, info.retry_after) == (OPEN, 1, 8.0)
    assert info.last_trip is not None
    assert info.last_trip.clause.startswith("open_for(")


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [
        (0, ValueError),
        (-1.0, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        ("8", TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
    ids=repr,
)
def test_open_for_refuses_what_is_no_duration(
    sync: CircuitBreaker, seconds: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="open_for"):
        sync.open_for(seconds)
    assert sync.state is CLOSED


# -- update


def test_an_update_keeps_state_and_window(protect: Callable[..., Protected]) -> None:
    """A closed circuit takes it at once; what the window holds is judged by the new rule."""
    protected = protect(tripper=MinRequests(50) & FailureRate(0.5))
    protected.fail(times=8)
    protected.breaker.update(tripper=MinRequests(9) & FailureRate(0.5), tracker=TypeOf(OSError))
    assert protected.state is CLOSED
    assert protected.signals == []
    assert protected.info.metrics.failure_count == 8
    protected.fail(ValueError("no longer tracked"))
    assert protected.state is CLOSED
    protected.fail()
    assert protected.state is OPEN


def test_a_new_slow_threshold_counts_from_nothing(protect: Callable[..., Protected]) -> None:
    protected = protect(tripper=MinRequests(9) & SlowRate(1.0, 2.0))
    protected.slow(seconds=4.0)
    protected.breaker.update(tripper=MinRequests(9) & (SlowRate(1.0, 2.0) | SlowRate(1.0, 1.0)))
    assert protected.info.metrics.slow_counts == {1.0: 0, 2.0: 1}
    protected.slow(seconds=4.0)
    assert protected.info.metrics.slow_counts == {1.0: 1, 2.0: 2}
    protected.breaker.update(tripper=MinRequests(9) & SlowRate(1.0, 1.0))
    assert protected.info.metrics.slow_counts == {1.0: 1}


def test_an_open_circuit_takes_an_update_with_its_next_phase(
    protect: Callable[..., Protected],
) -> None:
    """Its deadline stands; the probes go by the new settings."""
    protected = protect(tripper=Closed() & ONE_FAILURE, retry=Cooldown(64.0), permit=All())
    protected.fail()
    protected.breaker.update(retry=Cooldown(8.0), max_half_open_calls=1)
    assert protected.info.retry_after == 64.0
    protected.clock.advance(64.0)
    probe = protected.breaker.attempt()
    protected.refused()
    probe.fail()
    assert protected.info.retry_after == 8.0


def test_a_half_open_circuit_takes_an_update_with_its_next_phase(
    protect: Callable[..., Protected],
) -> None:
    protected = protect(tripper=Closed() & ONE_FAILURE, retry=Cooldown(64.0), permit=All())
    protected.fail()
    protected.clock.advance(64.0)
    protected.fail(asyncio.CancelledError())
    protected.breaker.update(tripper=MinRequests(5) & FailureRate(0.5), max_half_open_calls=1)
    probes = [protected.breaker.attempt() for _ in range(3)]
    probes[0].succeed()
    assert protected.state is CLOSED
    protected.fail(times=4)
    assert protected.state is CLOSED
    protected.fail()
    assert protected.state is OPEN


def test_a_result_tracker_can_be_added_at_run_time(clock: ManualClock) -> None:
    breaker = CircuitBreaker("api", tripper=NEVER_TRIPS, clock=clock)
    guarded = breaker(str)
    guarded("x")
    breaker.update(result_tracker=lambda result: result == "x")
    guarded("x")
    breaker.update(result_tracker=None)
    guarded("x")
    assert counts(breaker) == {"successes": 2, "failures": 1}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"buckets": (1.0,)}, TypeError, "buckets can't be exchanged"),
        ({"window": CountWindow(5)}, TypeError, "window can't be exchanged"),
        ({"colour": "red"}, TypeError, "unknown setting colour"),
        ({"retry": 5}, TypeError, "retry must be a Retry"),
        ({"retry": Never(), "tripper": MinRequests(3)}, ValueError, "fires on fast successes"),
    ],
    ids=str,
)
def test_a_wrong_update_changes_nothing(
    sync: CircuitBreaker, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    before = sync.policy
    with pytest.raises(kind, match=message):
        sync.update(**changes)
    assert sync.policy.retry == before.retry
    assert sync.policy.tripper == NEVER_TRIPS


# -- info


def test_info_shows_a_circuit_at_one_moment(breaker: Callable[..., Protected]) -> None:
    protected = breaker(
        tripper=MinRequests(3) & (FailureRate(0.5) | SlowRate(1.0, 2.0)), retry=Cooldown(64.0)
    )
    protected.succeed(seconds=1.0)
    protected.fail(seconds=3.0)
    info = protected.info
    assert (info.name, info.state, info.reopens, info.probes) == ("api", CLOSED, 0, 0)
    assert (info.retry_after, info.last_trip, info.would_open) == (None, None, None)
    assert (info.metrics.total_count, info.metrics.failure_count) == (2, 1)
    assert (info.metrics.failure_rate, info.metrics.avg_duration) == (0.5, 2.0)
    assert info.metrics.slow_rate(2.0) == 0.5
    with pytest.raises(ValueError, match=r"SlowRate\(ratio, 9.0\) in the tripper makes it so"):
        info.metrics.slow_rate(9.0)
    assert info.totals.settled == 2
    protected.fail()
    protected.clock.advance(4.0)
    opened = protected.info
    assert (opened.state, opened.retry_after) == (OPEN, 60.0)
    assert str(opened.last_trip) == "FailureRate(0.5): 0.6667 over 3 calls"
    assert time.time() - opened.since == pytest.approx(4.0, abs=2.0)
    with pytest.raises(AttributeError):
        info.state = OPEN  # type: ignore[misc]


def test_an_info_does_not_change_afterwards(breaker: Callable[..., Protected]) -> None:
    protected = breaker(tripper=NEVER_TRIPS)
    protected.fail()
    before = protected.info
    protected.fail()
    assert (before.metrics.total_count, before.totals.failures) == (1, 1)


# -- listeners


def test_listeners_are_told_in_order_and_all_of_them(clock: ManualClock) -> None:
    heard: list[tuple[str, str]] = []
    breaker = CircuitBreaker(
        "api",
        listeners=[
            lambda signal: heard.append(("one", signal.new_state)),
            lambda signal: heard.append(("two", signal.new_state)),
        ],
        tripper=ONE_FAILURE,
        clock=clock,
    )
    breaker.attempt().fail()
    breaker.reset()
    assert heard == [("one", OPEN), ("two", OPEN), ("one", CLOSED), ("two", CLOSED)]


def test_a_listener_that_raises_is_logged_and_the_others_are_told(
    protect: Callable[..., Protected], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_signal: Signal) -> None:
        raise RuntimeError("no slack")

    heard: list[Signal] = []
    protected = protect(tripper=ONE_FAILURE, listeners=[broken, heard.append])
    protected.fail()
    assert protected.state is OPEN
    assert [signal.new_state for signal in heard] == [OPEN]
    (record,) = caplog.records
    assert record.name == "fluxgate"
    assert "listener" in record.getMessage()
    assert "RuntimeError" in record.getMessage()


@pytest.mark.parametrize("place", [0, 1])
def test_a_listener_raises_stop_iteration(caplog: pytest.LogCaptureFixture, place: int) -> None:
    """It is logged as any error, also if it was the last that had to hear."""

    def stop(_: Signal) -> None:
        raise StopIteration

    heard: list[Signal] = []
    listeners: list[Callable[[Signal], object]] = [heard.append]
    listeners.insert(place, stop)
    CircuitBreaker("api", listeners=listeners).force_open()
    assert len(heard) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "raised StopIteration" in caplog.text


def test_a_listener_may_reset_the_circuit_and_the_order_is_kept(clock: ManualClock) -> None:
    """What its own call causes is told after what it was called for, to everybody."""
    heard: list[tuple[str, State]] = []

    def resetting(signal: Signal) -> None:
        heard.append(("resetting", signal.new_state))
        if signal.new_state is OPEN:
            breaker.reset()
            assert breaker.info().state is CLOSED

    breaker = CircuitBreaker(
        "api",
        listeners=[resetting, lambda signal: heard.append(("second", signal.new_state))],
        tripper=ONE_FAILURE,
        clock=clock,
    )
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    assert breaker.state is CLOSED
    assert heard == [
        ("resetting", OPEN),
        ("second", OPEN),
        ("resetting", CLOSED),
        ("second", CLOSED),
    ]


def test_a_listener_may_call_through_the_breaker(clock: ManualClock) -> None:
    results: list[object] = []

    def calling(signal: Signal) -> None:
        if signal.new_state is CLOSED:
            results.append(breaker.call(str))
        else:
            with pytest.raises(CallNotPermittedError):
                breaker.call(str)

    breaker = CircuitBreaker("api", listeners=[calling], tripper=ONE_FAILURE, clock=clock)
    breaker.attempt().fail()
    breaker.reset()
    assert results == [""]
    assert counts(breaker) == {"successes": 1, "failures": 1, "rejected": 1}


def test_an_interrupt_in_a_listener_goes_on_once_all_are_told(clock: ManualClock) -> None:
    heard: list[Signal] = []

    def interrupted(_signal: Signal) -> None:
        raise KeyboardInterrupt

    breaker = CircuitBreaker(
        "api", listeners=[interrupted, heard.append], tripper=ONE_FAILURE, clock=clock
    )
    with pytest.raises(KeyboardInterrupt):
        breaker.force_open()
    assert breaker.state is FORCED_OPEN
    assert [signal.new_state for signal in heard] == [FORCED_OPEN]


def test_an_interrupt_in_a_listener_does_not_lose_the_probe_that_it_hits(
    clock: ManualClock,
) -> None:
    """The signal of HALF_OPEN is told on the path of the first probe: its slot comes back."""

    def interrupted(signal: Signal) -> None:
        if signal.new_state is HALF_OPEN:
            raise KeyboardInterrupt

    breaker = CircuitBreaker(
        "api",
        listeners=[interrupted],
        tripper=Closed() & ONE_FAILURE,
        retry=Always(),
        permit=All(),
        max_half_open_calls=1,
        clock=clock,
    )
    breaker.attempt().fail()
    with pytest.raises(KeyboardInterrupt):
        breaker.call(str)
    assert breaker.info().probes == 0
    assert breaker.call(str) == ""
    assert breaker.state is CLOSED


# -- errors of our own kind


@pytest.mark.parametrize(
    "name",
    ["AsyncCircuitBreaker", "CircuitBreaker"],
)
def test_a_new_attribute_on_a_breaker_is_refused(name: str) -> None:
    """Breakers are small: they have slots."""
    breaker: Any = {"CircuitBreaker": CircuitBreaker, "AsyncCircuitBreaker": AsyncCircuitBreaker}[
        name
    ]("api")
    with pytest.raises(AttributeError):
        breaker.naem = "typo"
