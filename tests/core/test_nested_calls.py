"""A nested call of the same circuit belongs to the probe that it runs in.

Two protected functions of one service, one calling the other, and one probe slot: the inner call
was refused, its refusal was ignored, and the circuit stayed half-open for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker, State
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, tripped
from fluxgate.trippers import FailureStreak

from .conftest import THREADS_INHERIT


@pytest.fixture
def breaker() -> CircuitBreaker:
    """A breaker that is about to probe, with one slot."""
    clock = ManualClock()
    made = tripped(
        CircuitBreaker(
            "x",
            tripper=FailureStreak(2),
            retry=Cooldown(30),
            permit=All(),
            max_half_open_calls=1,
            clock=clock,
        )
    )
    clock.advance(30)
    return made


def elsewhere(breaker: CircuitBreaker) -> None:
    """A call of somebody else's, who knows nothing of the probe."""
    contextvars.Context().run(breaker.call, int)


def test_inner_call_joins_the_probe(breaker: CircuitBreaker) -> None:
    @breaker
    def inner() -> int:
        assert breaker.info().probes == 1
        with pytest.raises(CallNotPermittedError):
            elsewhere(breaker)
        return 5

    @breaker
    def outer() -> int:
        return inner() + breaker.call(inner)

    assert outer() == 10
    assert breaker.state is State.CLOSED
    totals = breaker.info().totals
    assert (totals.successes, totals.ignored) == (1, 3)


def test_outer_failure_decides(breaker: CircuitBreaker) -> None:
    @breaker
    def outer() -> None:
        breaker.call(int)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        outer()
    assert breaker.state is State.OPEN


def test_inner_failure_is_the_outers(breaker: CircuitBreaker) -> None:
    def fail() -> None:
        raise ConnectionError

    @breaker
    def outer() -> None:
        breaker.call(fail)

    with pytest.raises(ConnectionError):
        outer()
    info = breaker.info()
    assert info.state is State.OPEN
    assert info.totals.failures == 2 + 1  # what tripped it, and the probe: once


@pytest.mark.parametrize("door", ["block", "attempt"])
def test_blocks_hold_nested_calls(breaker: CircuitBreaker, door: str) -> None:
    with breaker if door == "block" else breaker.attempt():
        assert breaker.call(lambda: 5) == 5
        with breaker:
            pass
    assert breaker.state is State.CLOSED
    assert breaker.info().totals.successes == 1


def test_the_next_call_is_not_nested(breaker: CircuitBreaker) -> None:
    breaker.update(tripper=FailureStreak(1))
    with pytest.raises(KeyboardInterrupt), breaker:
        raise KeyboardInterrupt  # cancelled: the slot is free, and nothing is decided
    assert breaker.state is State.HALF_OPEN
    breaker.call(int)  # a probe of its own
    assert breaker.state is State.CLOSED


def test_a_plain_thread_is_not_inside(breaker: CircuitBreaker) -> None:
    refused: list[CallNotPermittedError] = []

    def call() -> None:
        try:
            breaker.call(int)
        except CallNotPermittedError as error:
            refused.append(error)

    with breaker:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert len(refused) == (not THREADS_INHERIT)


def test_a_suspended_generator_holds_none(breaker: CircuitBreaker) -> None:
    @breaker
    def items() -> Iterator[int]:
        yield breaker.call(lambda: 1)
        yield breaker.call(lambda: 2)

    stream = items()
    assert next(stream) == 1
    with pytest.raises(CallNotPermittedError):
        breaker.call(int)
    assert list(stream) == [2]
    assert breaker.state is State.CLOSED


def test_a_generator_that_is_thrown_into(breaker: CircuitBreaker) -> None:
    """What it calls to make up for it is a part of its probe, too."""

    @breaker
    def items() -> Iterator[int]:
        try:
            yield 1
        except KeyError:
            yield breaker.call(lambda: 2)

    stream: Any = items()
    assert next(stream) == 1
    assert stream.throw(KeyError()) == 2
    with pytest.raises(CallNotPermittedError):
        breaker.call(int)
    assert list(stream) == []
    assert breaker.state is State.CLOSED


def test_async_calls_and_tasks(breaker: CircuitBreaker) -> None:
    front = breaker.to_async()

    async def inner() -> int:
        return 5

    async def in_a_task() -> int:
        return await front.call(inner)

    @front
    async def outer() -> int:
        by_task = await asyncio.create_task(in_a_task())
        by_thread = await asyncio.to_thread(breaker.call, lambda: 5)
        async with front:
            pass
        return by_task + by_thread + await front.call(inner)

    assert asyncio.run(outer()) == 15
    assert breaker.state is State.CLOSED
    assert breaker.info().totals.successes == 1


def test_async_generators(breaker: CircuitBreaker) -> None:
    front = breaker.to_async()

    @front
    async def items() -> AsyncIterator[int]:
        yield await front.call(asyncio.sleep, 0, 1)

    async def run() -> list[int]:
        return [item async for item in items()]

    assert asyncio.run(run()) == [1]
    assert breaker.state is State.CLOSED


def test_other_circuits_are_asked(breaker: CircuitBreaker) -> None:
    other = CircuitBreaker("other")
    other.force_open()
    with pytest.raises(CallNotPermittedError), breaker:
        other.call(int)


def test_a_task_outlives_its_probe(breaker: CircuitBreaker) -> None:
    """Once the probe has settled, what it started is judged by itself."""
    front: AsyncCircuitBreaker = breaker.to_async()
    breaker.update(tripper=FailureStreak(1))

    async def run() -> None:
        settled = asyncio.Event()

        async def later() -> None:
            await settled.wait()
            await front.call(asyncio.sleep, 0)

        async def cancelled() -> asyncio.Task[None]:
            async with front:
                tasks.append(asyncio.create_task(later()))
                raise asyncio.CancelledError

        tasks: list[asyncio.Task[None]] = []
        with pytest.raises(asyncio.CancelledError):
            await cancelled()
        assert breaker.state is State.HALF_OPEN
        settled.set()
        await tasks[0]

    asyncio.run(run())
    assert breaker.state is State.CLOSED
