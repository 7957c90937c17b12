"""The end of an iteration is an answer: a protected iterator has worked to its last item."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fluxgate import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.permits import All
from fluxgate.trippers import FailureRate, MinRequests, SlowRate

from .conftest import Protected


@pytest.mark.parametrize("state", ["closed", "half_open"])
def test_a_success_at_each_door(protect: Callable[..., Protected], state: str) -> None:
    protected = protect(tripper=MinRequests(2) & FailureRate(0.9), permit=All())
    if state == "half_open":
        protected.fail(times=2)
        protected.clock.advance(60)
    protected.fail(StopAsyncIteration(), seconds=1.0)
    assert protected.state == state
    assert protected.totals.successes == 1
    assert protected.totals.duration == 1.0


def test_a_slow_end_is_slow(protect: Callable[..., Protected]) -> None:
    protected = protect(tripper=MinRequests(3) & SlowRate(1.0, 2.0))
    protected.fail(StopAsyncIteration(), seconds=2.0, times=3)
    assert protected.state == "open"


def test_next_through_call() -> None:
    breaker = CircuitBreaker("feed")
    items = iter([1, 2])
    assert [breaker.call(next, items), breaker.call(next, items)] == [1, 2]
    with pytest.raises(StopIteration):
        breaker.call(next, items)
    assert breaker.info().totals.successes == 3


def test_an_iterators_own_method() -> None:
    """Pages of one item each: every second call ends an iteration."""
    breaker = AsyncCircuitBreaker("feed")

    class Page:
        def __init__(self) -> None:
            self.left = 1

        def __aiter__(self) -> Page:
            return self

        @breaker
        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    async def read() -> int:
        return sum([len([item async for item in Page()]) for _ in range(20)])

    assert asyncio.run(read()) == 20
    assert breaker.state == "closed"
    assert breaker.info().totals.successes == 40


def stale(_error: Exception) -> int:
    return 0


def test_no_fallback_takes_its_place() -> None:
    """A loop over what a fallback gives in place of the end would never come to one."""
    breaker = CircuitBreaker("feed")
    with pytest.raises(StopIteration):
        breaker.call_with_fallback(next, stale, iter(()))
    with pytest.raises(StopIteration):
        breaker(next, fallback=stale)(iter(()))

    async def ended() -> int:
        raise StopAsyncIteration

    async def ask() -> None:
        front = breaker.to_async()
        with pytest.raises(StopAsyncIteration):
            await front.call_with_fallback(ended, stale)
        with pytest.raises(StopAsyncIteration):
            await front(ended, fallback=stale)()

    asyncio.run(ask())
    assert breaker.info().totals.successes == 4
