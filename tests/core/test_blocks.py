"""`with breaker:` blocks end their own attempt, whoever else is inside a block of the same breaker.

Generators that are stepped in other contexts, interleaved blocks, forgotten tasks: what a block
counts, and what its caller sees, depends on that block alone.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from contextvars import copy_context
from typing import Any, cast

import pytest

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker
from fluxgate.attempt import Attempt


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker("rows")


def counts(breaker: CircuitBreaker | AsyncCircuitBreaker) -> dict[str, int]:
    """The totals that are not 0."""
    totals = breaker.info().totals
    names = ("successes", "failures", "ignored", "cancelled", "stale")
    return {name: count for name in names if (count := getattr(totals, name))}


def alive(breaker: CircuitBreaker) -> int:
    """How many attempts of this breaker are in memory; other tests may have left their own."""
    # By type(): isinstance() asks lazy objects for their class, and Django's settings raise then.
    attempts = [each for each in gc.get_objects() if issubclass(type(each), Attempt)]
    return sum(getattr(each, "_circuit", None) is breaker._circuit for each in attempts)


def rows(breaker: CircuitBreaker, error: Exception | None = None) -> Iterator[int]:
    with breaker:
        yield 1
        yield 2
        if error is not None:
            raise error


def stepped(items: Iterator[int]) -> list[int]:
    """All items, each taken in a context of its own, as Starlette reads sync streams."""
    read: list[int] = []
    while (item := copy_context().run(next, items, None)) is not None:
        read.append(item)
    return read


def test_each_step_in_its_own_context(breaker: CircuitBreaker) -> None:
    assert stepped(rows(breaker)) == [1, 2]
    assert counts(breaker) == {"successes": 1}


def test_the_error_of_such_a_block(breaker: CircuitBreaker) -> None:
    lost = ConnectionError("database went away")
    with pytest.raises(ConnectionError) as caught:
        stepped(rows(breaker, lost))
    assert caught.value is lost
    assert counts(breaker) == {"failures": 1}


def test_each_step_in_its_own_thread(breaker: CircuitBreaker) -> None:
    async def read() -> list[int]:
        items, read = rows(breaker), list[int]()
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            read.append(item)
        return read

    assert asyncio.run(read()) == [1, 2]
    assert counts(breaker) == {"successes": 1}


def test_interleaved_generators(breaker: CircuitBreaker) -> None:
    """The first to begin is the first to end, and each settles its own attempt."""
    attempts: list[Attempt] = []

    def items(error: Exception | None) -> Iterator[int]:
        with breaker as attempt:
            attempts.append(attempt)
            yield 1
            if error is not None:
                raise error

    first, second = items(ConnectionError()), items(None)
    next(first), next(second)
    with pytest.raises(ConnectionError):
        next(first)
    assert [attempt.settled for attempt in attempts] == [True, False]
    assert counts(breaker) == {"failures": 1}
    assert next(second, None) is None
    assert counts(breaker) == {"failures": 1, "successes": 1}


def test_blocks_of_one_frame(breaker: CircuitBreaker) -> None:
    with breaker as outer:
        with suppress(ConnectionError), breaker as inner:
            raise ConnectionError
        assert (outer.settled, inner.settled) == (False, True)
    assert counts(breaker) == {"successes": 1, "failures": 1}


def test_blocks_of_a_recursion(breaker: CircuitBreaker) -> None:
    def down(depth: int) -> None:
        with breaker as attempt:
            if depth:
                down(depth - 1)
            assert not attempt.settled
        assert attempt.settled

    down(20)
    assert counts(breaker) == {"successes": 21}


def test_blocks_of_many_threads(breaker: CircuitBreaker) -> None:
    def work(fails: bool) -> None:
        for _ in range(200):
            with suppress(ConnectionError), breaker as attempt:
                assert not attempt.settled
                if fails:
                    raise ConnectionError
            assert attempt.settled

    threads = [threading.Thread(target=work, args=(n % 2 == 0,)) for n in range(8)]
    breaker.metrics_only()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(breaker) == {"successes": 800, "failures": 800}


def test_anext_under_a_time_limit(breaker: CircuitBreaker) -> None:
    """`wait_for` steps in a task, and so in a context, of its own up to Python 3.11."""
    front = breaker.to_async()

    async def items() -> AsyncIterator[int]:
        async with front:
            yield 1
            yield 2

    async def read() -> list[int]:
        each = items()
        read: list[int] = []
        with suppress(StopAsyncIteration):
            while True:
                read.append(await asyncio.wait_for(anext(each), 10))
        return read

    assert asyncio.run(read()) == [1, 2]
    assert counts(breaker) == {"successes": 1}


def test_streams_left_early_leave_nothing(breaker: CircuitBreaker) -> None:
    """The loop closes them in another context than the one that entered the block."""
    front = breaker.to_async()

    async def stream() -> AsyncIterator[int]:
        async with front:
            while True:
                yield 1

    async def read() -> int:
        for _ in range(50):
            async for _ in stream():
                break
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        gc.collect()
        return alive(breaker)

    assert asyncio.run(read()) <= 2
    assert counts(breaker) == {"cancelled": 50}


DROPPED = ("cancelled", "ignored")
"""How a block in a circle of references ends: whether the collector first closes what is suspended
in it, or drops its attempt, differs without the GIL."""


def test_a_forgotten_task_ends_its_own(breaker: CircuitBreaker) -> None:
    """It is collected inside another task's block of the same breaker."""
    front = breaker.to_async()

    async def forgotten() -> None:
        async with front:
            await asyncio.get_running_loop().create_future()  # which nobody holds

    async def innocent() -> str:
        async with front:
            await asyncio.sleep(0)
            gc.collect()
            return "fine"

    async def main() -> str:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        asyncio.create_task(forgotten())  # noqa: RUF006 - that is the point
        await asyncio.sleep(0)
        return await asyncio.create_task(innocent())

    gc.disable()
    try:
        assert asyncio.run(main()) == "fine"
    finally:
        gc.enable()
    assert counts(breaker) in ({"successes": 1, end: 1} for end in DROPPED)


def test_an_abandoned_block_is_counted(breaker: CircuitBreaker) -> None:
    items = rows(breaker)
    next(items)
    cycle: list[Any] = [items]
    cycle.append(cycle)
    del items, cycle
    gc.collect()
    assert counts(breaker) in ({end: 1} for end in DROPPED)


def test_a_stack_in_another_context(breaker: CircuitBreaker) -> None:
    """`ExitStack` looks the two methods up as `with` does, and holds what it found."""

    def items() -> Iterator[int]:
        with ExitStack() as stack:
            stack.enter_context(breaker)
            stack.enter_context(breaker)
            yield 1

    async def async_items() -> AsyncIterator[int]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(breaker.to_async())
            yield 1

    async def read() -> None:
        each = async_items()
        await asyncio.create_task(cast("Any", anext(each)))
        with pytest.raises(StopAsyncIteration):
            await anext(each)

    assert stepped(items()) == [1]
    assert counts(breaker) == {"successes": 2}
    asyncio.run(read())
    assert counts(breaker) == {"successes": 3}


def test_a_stack_that_fails(breaker: CircuitBreaker) -> None:
    with suppress(ConnectionError), ExitStack() as stack:
        stack.enter_context(breaker)
        raise ConnectionError
    assert counts(breaker) == {"failures": 1}


def test_a_contextmanager_around_a_block(breaker: CircuitBreaker) -> None:
    @contextmanager
    def session() -> Iterator[None]:
        with breaker:
            yield

    first, second = session(), session()
    copy_context().run(first.__enter__)
    copy_context().run(second.__enter__)
    copy_context().run(first.__exit__, None, None, None)
    assert counts(breaker) == {"successes": 1}
    copy_context().run(second.__exit__, None, None, None)
    assert counts(breaker) == {"successes": 2}


# -- called by hand


class Delegating:
    """A context manager that hands on to a breaker's."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker

    def __enter__(self) -> Attempt:
        return self.breaker.__enter__()

    def __exit__(self, *exc: Any) -> None:
        self.breaker.__exit__(*exc)


class Overriding(CircuitBreaker):
    """A breaker whose subclass has both methods of its own."""

    __slots__ = ()

    def __enter__(self) -> Attempt:
        return super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)


class Announcing(CircuitBreaker):
    """A breaker whose subclass has one of them of its own."""

    __slots__ = ()

    def __enter__(self) -> Attempt:
        return super().__enter__()


@pytest.mark.parametrize("kind", [Delegating, Overriding, Announcing])
def test_methods_that_hand_on(breaker: CircuitBreaker, kind: Callable[..., Any]) -> None:
    if kind is not Delegating:
        breaker = kind("rows")
    manager = kind(breaker) if kind is Delegating else breaker
    with manager as outer, suppress(ConnectionError), manager as inner:
        raise ConnectionError
    assert outer is not inner
    assert counts(breaker) == {"successes": 1, "failures": 1}


def test_looking_up_begins_no_block(breaker: CircuitBreaker) -> None:
    """`hasattr` and its like come between, on the instance and on the class."""
    assert hasattr(breaker, "__exit__")
    assert hasattr(CircuitBreaker, "__exit__")
    attempt = breaker.__enter__()
    assert hasattr(breaker, "__exit__")
    assert not attempt.settled
    breaker.__exit__(None, None, None)
    assert attempt.settled
    assert counts(breaker) == {"successes": 1}


def test_an_exit_looked_up_first(breaker: CircuitBreaker) -> None:
    """By hand, but as `with` does it."""
    leave = breaker.__exit__
    attempt = breaker.__enter__()
    copy_context().run(leave, None, None, None)
    assert attempt.settled
    assert counts(breaker) == {"successes": 1}


def test_a_refused_block_is_no_block(breaker: CircuitBreaker) -> None:
    breaker.force_open()
    with pytest.raises(CallNotPermittedError), breaker:
        raise AssertionError("entered")
    breaker.reset()
    with breaker:
        pass
    assert counts(breaker) == {"successes": 1}


def test_an_exit_masks_no_error(breaker: CircuitBreaker) -> None:
    """What is left without having been entered is said in a note, for want of a better place."""
    error = ConnectionError("down")
    breaker.__exit__(ConnectionError, error, None)
    assert "use attempt()" in error.__notes__[0]
    with pytest.raises(RuntimeError, match=r"use attempt\(\)"):
        breaker.__exit__(None, None, None)
    assert counts(breaker) == {}


def test_settled_ones_leave_the_context(breaker: CircuitBreaker) -> None:
    """Entered by hand and left in another context: what was settled is not kept for ever."""

    def many() -> int:
        for _ in range(50):
            breaker.__enter__().succeed()
        return alive(breaker)

    assert copy_context().run(many) <= 2
