"""Async calls: cancelled anywhere, on asyncio and trio, on many loops, and always settled once."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import Context
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker, State, Totals
from fluxgate.permits import All
from fluxgate.testing import ManualClock
from fluxgate.trackers import TypeOf
from fluxgate.trippers import Closed, FailureRate, FailureStreak, MinRequests

PATIENCE = 30.0
AWAITS = 4

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def counts(totals: Totals) -> dict[str, int]:
    """The counts that aren't 0."""
    names = ("successes", "failures", "ignored", "cancelled", "stale", "rejected")
    return {name: count for name in names if (count := getattr(totals, name))}


async def fine() -> str:
    await anyio.lowlevel.checkpoint()
    return "fine"


async def fail() -> str:
    await anyio.lowlevel.checkpoint()
    raise ConnectionError


# -- cancellation

Work = Callable[[], Awaitable[str]]


async def by_call(breaker: AsyncCircuitBreaker, work: Work) -> None:
    await breaker.call(work)


async def by_decorator(breaker: AsyncCircuitBreaker, work: Work) -> None:
    @breaker
    async def protected() -> str:
        return await work()

    await protected()


async def by_fallback(breaker: AsyncCircuitBreaker, work: Work) -> None:
    await breaker.call_with_fallback(work, no_fallback)


async def by_decorated_fallback(breaker: AsyncCircuitBreaker, work: Work) -> None:
    @breaker(fallback=no_fallback)
    async def protected() -> str:
        return await work()

    await protected()


async def by_block(breaker: AsyncCircuitBreaker, work: Work) -> None:
    async with breaker:
        await work()


async def by_attempt(breaker: AsyncCircuitBreaker, work: Work) -> None:
    async with breaker.attempt():
        await work()


async def by_generator(breaker: AsyncCircuitBreaker, work: Work) -> None:
    @breaker
    async def items() -> AsyncGenerator[str, None]:
        yield "first"
        yield await work()

    async for _ in items():
        pass


def no_fallback(error: Exception) -> str:
    raise AssertionError(f"a cancelled call has no fallback: {error!r}")


DOORS = [
    by_call,
    by_decorator,
    by_fallback,
    by_decorated_fallback,
    by_block,
    by_attempt,
    by_generator,
]


def half_open(clock: ManualClock) -> AsyncCircuitBreaker:
    """A half-open circuit with one probe slot, on which one failure would re-open."""
    breaker = AsyncCircuitBreaker(
        "probed",
        tripper=Closed() & FailureStreak(1),
        permit=All(),
        max_half_open_calls=1,
        clock=clock,
    )
    breaker.open_for(1.0)
    clock.advance(1.0)
    return breaker


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("at", range(AWAITS))
async def test_cancelled_at_any_await(
    door: Callable[[AsyncCircuitBreaker, Work], Awaitable[None]], at: int
) -> None:
    """The call counts as cancelled and as nothing else; the next one goes on as if it weren't."""
    breaker = AsyncCircuitBreaker("cancelled", tripper=FailureStreak(1))
    with anyio.CancelScope() as scope:

        async def work() -> str:
            for step in range(AWAITS):
                if step == at:
                    scope.cancel()
                await anyio.lowlevel.checkpoint()
            raise AssertionError("it was cancelled")

        await door(breaker, work)
    assert scope.cancelled_caught
    info = breaker.info()
    assert counts(info.totals) == {"cancelled": 1}
    assert (info.state, info.metrics.total_count) == (State.CLOSED, 0)
    assert await breaker.call(fine) == "fine"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("at", range(AWAITS))
async def test_a_cancelled_probe_gives_its_slot_back(
    door: Callable[[AsyncCircuitBreaker, Work], Awaitable[None]], at: int
) -> None:
    """It neither closes the circuit nor opens it."""
    breaker = half_open(ManualClock())
    with anyio.CancelScope() as scope:

        async def work() -> str:
            assert breaker.info().probes == 1
            with pytest.raises(CallNotPermittedError):
                Context().run(breaker.attempt)  # somebody else's call: ours would be nested
            for step in range(AWAITS):
                if step == at:
                    scope.cancel()
                await anyio.lowlevel.checkpoint()
            raise AssertionError("it was cancelled")

        await door(breaker, work)
    info = breaker.info()
    assert (info.state, info.probes, info.reopens) == (State.HALF_OPEN, 0, 0)
    assert counts(info.totals) == {"cancelled": 1, "rejected": 1}
    assert await breaker.call(fine) == "fine"
    assert breaker.state is State.CLOSED


async def test_settled_inside_a_cancelled_scope() -> None:
    """Clean-up that waits under a shield is part of the call; settling it never waits, so the
    scope's next await is the caller's, not ours."""
    breaker = AsyncCircuitBreaker("scope", tripper=FailureStreak(2))
    reached: list[str] = []
    with anyio.CancelScope() as scope:

        @breaker
        async def work() -> str:
            try:
                scope.cancel()
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
            raise AssertionError("it was cancelled")

        @breaker
        async def refused() -> str:
            raise ConnectionError

        try:
            await work()
        finally:
            # Already cancelled, and no await in between: calls still settle.
            with pytest.raises(ConnectionError):
                await refused()
            reached.append("after")
    assert reached == ["after"]
    assert counts(breaker.info().totals) == {"cancelled": 1, "failures": 1}


async def test_a_task_group_that_falls_apart_settles_every_call() -> None:
    """One of fifty fails, which cancels the rest in mid-call."""
    breaker = AsyncCircuitBreaker("group", tripper=MinRequests(100) & FailureRate(1.0))
    everybody = anyio.Event()
    entered = [0]

    @breaker
    async def work(number: int) -> None:
        entered[0] += 1
        if entered[0] == 50:
            everybody.set()
        await everybody.wait()
        if number == 7:
            raise ConnectionError
        await anyio.sleep_forever()

    async def crowd() -> None:
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(work, number)

    with pytest.raises(ExceptionGroup) as caught:
        await crowd()
    assert [type(error) for error in caught.value.exceptions] == [ConnectionError]
    assert counts(breaker.info().totals) == {"cancelled": 49, "failures": 1}


async def test_a_timeout_inside_is_a_failure_and_outside_a_cancellation() -> None:
    """Which is why it belongs inside."""
    breaker = AsyncCircuitBreaker("timed", tracker=TypeOf(TimeoutError))

    @breaker
    async def inside() -> None:
        with anyio.fail_after(0.001):
            await anyio.sleep_forever()

    @breaker
    async def outside() -> None:
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        await inside()
    assert counts(breaker.info().totals) == {"failures": 1}
    with pytest.raises(TimeoutError), anyio.fail_after(0.001):
        await outside()
    assert counts(breaker.info().totals) == {"failures": 1, "cancelled": 1}


def test_asyncio_timeout_inside_and_outside() -> None:
    breaker = AsyncCircuitBreaker("timed", tripper=FailureStreak(2))

    @breaker
    async def inside() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    @breaker
    async def hangs() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await inside()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await hangs()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hangs(), 0.001)
        assert breaker.state is State.CLOSED

    asyncio.run(main())
    assert counts(breaker.info().totals) == {"failures": 1, "cancelled": 2}


@pytest.mark.parametrize("state", [State.CLOSED, State.HALF_OPEN])
@pytest.mark.parametrize("ending", [asyncio.CancelledError, trio.Cancelled, KeyboardInterrupt])
def test_thrown_in_at_every_suspension(ending: type[BaseException], state: State) -> None:
    """No loop at all: the coroutine is driven by hand to each of its stops, and ended there."""

    class Stop:
        def __await__(self) -> Any:
            yield

    async def work() -> str:
        for _ in range(AWAITS):
            await Stop()
        return "fine"

    error = ending._create() if ending is trio.Cancelled else ending()
    for stops in range(1, AWAITS + 1):
        breaker = (
            half_open(ManualClock()) if state is State.HALF_OPEN else AsyncCircuitBreaker("hand")
        )
        coroutine = breaker(work)()
        for _ in range(stops):
            coroutine.send(None)
        with pytest.raises(ending):
            coroutine.throw(error)
        info = breaker.info()
        assert counts(info.totals) == {"cancelled": 1}
        assert (info.state, info.probes) == (state, 0)


@pytest.mark.parametrize("state", [State.CLOSED, State.HALF_OPEN])
def test_a_coroutine_that_is_closed_or_dropped(state: State) -> None:
    """Its loop is gone in mid-call: the call is over, its slot is free."""

    class Stop:
        def __await__(self) -> Any:
            yield

    async def work() -> None:
        await Stop()

    for end in ("close", "drop"):
        breaker = (
            half_open(ManualClock()) if state is State.HALF_OPEN else AsyncCircuitBreaker("left")
        )
        coroutine = breaker(work)()
        coroutine.send(None)
        if end == "close":
            coroutine.close()
        del coroutine
        info = breaker.info()
        assert info.totals.settled == info.totals.cancelled + info.totals.ignored == 1
        assert (info.state, info.probes) == (state, 0)


# -- async generators


def items_of(
    breaker: AsyncCircuitBreaker, closed: list[str]
) -> Callable[[], AsyncGenerator[int, None]]:
    @breaker
    async def items() -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                await anyio.lowlevel.checkpoint()
                yield number
        finally:
            closed.append("inner")

    return items


async def test_an_async_generator_read_to_its_end_is_one_success() -> None:
    breaker = AsyncCircuitBreaker("items")
    closed: list[str] = []
    stream = items_of(breaker, closed)()
    assert counts(breaker.info().totals) == {}  # admitted at the first item
    assert [item async for item in stream] == [0, 1, 2]
    assert counts(breaker.info().totals) == {"successes": 1}
    assert closed == ["inner"]


async def test_an_async_generator_closed_early_is_ignored() -> None:
    for breaker in (AsyncCircuitBreaker("items"), half_open(ManualClock())):
        state = State.CLOSED if breaker.name == "items" else State.HALF_OPEN
        closed: list[str] = []
        stream = items_of(breaker, closed)()
        assert await anext(stream) == 0
        await stream.aclose()
        info = breaker.info()
        assert counts(info.totals) == {"ignored": 1}
        assert (info.state, info.probes, closed) == (state, 0, ["inner"])


async def test_an_async_generator_cancelled_between_and_inside_items() -> None:
    breaker = half_open(ManualClock())
    closed: list[str] = []
    with anyio.CancelScope() as scope:
        stream = items_of(breaker, closed)()
        assert await anext(stream) == 0
        scope.cancel()
        await anext(stream)
    info = breaker.info()
    assert counts(info.totals) == {"cancelled": 1}
    assert (info.state, info.probes, closed) == (State.HALF_OPEN, 0, ["inner"])


async def test_an_async_generator_that_fails_late_is_a_failure() -> None:
    breaker = AsyncCircuitBreaker("items", tripper=FailureStreak(1))

    @breaker
    async def items() -> AsyncGenerator[int, None]:
        yield 1
        await anyio.lowlevel.checkpoint()
        raise ConnectionError

    stream = items()
    assert await anext(stream) == 1
    with pytest.raises(ConnectionError):
        await anext(stream)
    assert breaker.state is State.OPEN
    with pytest.raises(CallNotPermittedError):
        await anext(items())
    assert counts(breaker.info().totals) == {"failures": 1, "rejected": 1}


# -- many loops


def test_one_breaker_on_one_loop_after_the_other() -> None:
    """Made before any loop, used on five, of both kinds, each closed before the next."""
    breaker = AsyncCircuitBreaker("loops", tripper=FailureStreak(1))

    async def main() -> None:
        breaker.reset()
        assert await breaker.call(fine) == "fine"
        with pytest.raises(ConnectionError):
            await breaker.call(fail)
        with pytest.raises(CallNotPermittedError):
            await breaker.call(fine)

    for run in (asyncio.run, trio_run, asyncio.run, trio_run, asyncio.run):
        run(main())
    assert counts(breaker.info().totals) == {"successes": 5, "failures": 5, "rejected": 5}


def trio_run(coroutine: Any) -> None:
    async def main() -> None:
        await coroutine

    trio.run(main)


def test_asyncio_and_trio_at_once_on_one_circuit() -> None:
    """Two loops of each kind in four threads, a hundred tasks each, and sync callers beside."""
    breaker = AsyncCircuitBreaker("all of them", tripper=MinRequests(100) & FailureRate(1.0))
    start = threading.Barrier(6)
    errors: list[BaseException] = []

    async def caller(number: int) -> None:
        for _ in range(5):
            try:
                await breaker.call(fail if number % 4 == 0 else fine)
            except ConnectionError:
                assert number % 4 == 0

    async def crowd() -> None:
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(caller, number)

    def sync_crowd() -> None:
        shared = breaker.to_sync()
        for _ in range(500):
            assert shared.call(lambda: "fine") == "fine"

    def run(target: Callable[[], object]) -> None:
        try:
            start.wait(PATIENCE)
            target()
        except BaseException as error:
            errors.append(error)

    targets = 2 * [
        functools.partial(anyio.run, crowd, backend="asyncio"),
        functools.partial(anyio.run, crowd, backend="trio"),
        sync_crowd,
    ]
    threads = [threading.Thread(target=run, args=(target,), daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    assert errors == []
    assert counts(breaker.info().totals) == {
        "successes": 4 * 75 * 5 + 2 * 500,
        "failures": 4 * 25 * 5,
    }


async def test_both_fronts_are_one_circuit() -> None:
    """What one front learns, the other acts on; there and back again gives the same circuit."""
    sync = CircuitBreaker("shared", tripper=FailureStreak(2))
    both = sync.to_async()

    def fail_now() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        sync.call(fail_now)
    with pytest.raises(ConnectionError):
        await both.call(fail)
    assert sync.state is both.state is State.OPEN
    for refuses in (lambda: sync.call(fail_now), lambda: both.to_sync().call(fail_now)):
        with pytest.raises(CallNotPermittedError):
            refuses()
    with pytest.raises(CallNotPermittedError):
        await sync.to_async().call(fine)
    both.reset()
    assert sync.state is State.CLOSED
    assert sync.info().totals == both.info().totals
    assert counts(sync.info().totals) == {"failures": 2, "rejected": 3}


async def test_two_hundred_tasks_in_flight() -> None:
    """All are let in, then every fourth fails; the circuit does not get in their way."""
    breaker = AsyncCircuitBreaker("crowd", tripper=MinRequests(100) & FailureRate(0.9))
    everybody = anyio.Event()
    entered: list[int] = []
    answers: list[int] = []

    @breaker
    async def work(number: int) -> int:
        entered.append(number)
        if len(entered) == 200:
            everybody.set()
        await everybody.wait()
        if number % 4 == 0:
            raise ConnectionError
        return number

    async def caller(number: int) -> None:
        try:
            answers.append(await work(number))
        except ConnectionError:
            assert number % 4 == 0

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(caller, number)
    assert sorted(answers) == [number for number in range(200) if number % 4]
    info = breaker.info()
    assert counts(info.totals) == {"successes": 150, "failures": 50}
    assert (info.metrics.total_count, info.state) == (100, State.CLOSED)


async def test_blocks_of_two_hundred_tasks_do_not_mix_up() -> None:
    """One module-level context variable keeps each task's blocks apart, nested ones, too."""
    outer = AsyncCircuitBreaker("outer", tripper=MinRequests(100) & FailureRate(1.0))
    inner = AsyncCircuitBreaker("inner", tripper=MinRequests(100) & FailureRate(1.0))

    async def caller(number: int) -> None:
        try:
            async with outer as one:
                await anyio.lowlevel.checkpoint()
                async with inner as other:
                    await anyio.lowlevel.checkpoint()
                    assert one is not other
                    if number % 2:
                        other.fail()
                await anyio.lowlevel.checkpoint()
                assert other.settled
                assert not one.settled
                if number % 4 == 0:
                    raise ConnectionError
        except ConnectionError:
            assert number % 4 == 0

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(caller, number)
    assert counts(outer.info().totals) == {"successes": 150, "failures": 50}
    assert counts(inner.info().totals) == {"successes": 100, "failures": 100}


async def test_fallbacks_sync_and_async() -> None:
    """An async fallback is awaited, by both forms; refusals get one as well."""
    breaker = AsyncCircuitBreaker("fallback", tripper=FailureStreak(1))

    async def later(error: Exception) -> str:
        await anyio.lowlevel.checkpoint()
        return f"later: {type(error).__name__}"

    def now(error: Exception) -> str:
        return f"now: {type(error).__name__}"

    assert await breaker.call_with_fallback(fail, later) == "later: ConnectionError"
    assert await breaker.call_with_fallback(fail, now) == "now: CallNotPermittedError"
    assert await breaker(fallback=later)(fail)() == "later: CallNotPermittedError"
    breaker.reset()
    assert await breaker(fallback=now)(fail)() == "now: ConnectionError"
    assert counts(breaker.info().totals) == {"failures": 2, "rejected": 2}
