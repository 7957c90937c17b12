"""A result that is itself a call yet to be made is no success: it is refused, with the remedy."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, WrongFrontError

from .conftest import finish


@pytest.fixture(params=["closed", "disabled"])
def breaker(request: pytest.FixtureRequest) -> CircuitBreaker:
    return CircuitBreaker("service", initial_state=request.param)


def rows() -> Iterator[int]:
    raise ConnectionError
    yield 1


async def async_rows() -> AsyncIterator[int]:
    raise ConnectionError
    yield 1


async def down() -> None:
    raise ConnectionError


class Request:
    """As aiohttp's `session.get(...)`: the call is made when it is awaited."""

    def __await__(self) -> Generator[Any, None, None]:
        raise ConnectionError
        yield


class Stub:
    """As a stub of grpc's: the call goes on elsewhere."""

    def add_done_callback(self, callback: Callable[..., Any]) -> None: ...


@contextmanager
def session() -> Iterator[None]:
    raise ConnectionError
    yield


@asynccontextmanager
async def async_session() -> AsyncIterator[None]:
    raise ConnectionError
    yield


def traced(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


RESULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "generator": (rows, "decorate the generator function"),
    "behind a lambda": (lambda: rows(), "decorate the generator function"),
    "behind a partial": (functools.partial(traced(rows)), "decorate the generator function"),
    "async generator": (lambda: async_rows(), "decorate the generator function"),
    "coroutine": (lambda: down(), r"use AsyncCircuitBreaker.*await its call\(\)"),
    "awaitable": (Request, r"await its call\("),
    "future": (Future, "executor.submit"),
    "stub": (Stub, r"attempt\(\)"),
    "context manager": (session, "inside it"),
    "async context manager": (async_session, "inside it"),
}


def unharmed(breaker: CircuitBreaker) -> bool:
    totals = breaker.info().totals
    return (totals.successes, totals.failures) == (0, 0)


@pytest.mark.parametrize("result", RESULTS)
def test_refused_through_call(breaker: CircuitBreaker, result: str) -> None:
    fn, remedy = RESULTS[result]
    for _ in range(30):
        with pytest.raises(WrongFrontError, match=remedy):
            breaker.call(fn)
    assert unharmed(breaker)


@pytest.mark.parametrize("result", RESULTS)
def test_refused_when_decorated(breaker: CircuitBreaker, result: str) -> None:
    """Also where the first results were sound."""
    fn, remedy = RESULTS[result]
    given: list[Callable[[], Any]] = [int, list, dict, int, object]
    protected = breaker(lambda: given.pop()() if given else fn())
    for _ in range(5):
        protected()
    before = breaker.info().totals
    for _ in range(30):
        with pytest.raises(WrongFrontError, match=remedy):
            protected()
    assert breaker.info().totals.successes == before.successes
    assert breaker.info().totals.failures == 0


def test_tasks_are_refused(breaker: CircuitBreaker) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for fn in (lambda: asyncio.ensure_future(asyncio.sleep(0)), loop.create_future):
            with pytest.raises(WrongFrontError, match=r"yet to be made: its (Task|Future)"):
                breaker.call(fn)
            with pytest.raises(WrongFrontError, match=r"yet to be made: its (Task|Future)"):
                breaker(fn)()

    asyncio.run(main())
    assert unharmed(breaker)


def test_work_of_an_executor(breaker: CircuitBreaker) -> None:
    """The remedy that the message names protects it."""
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(WrongFrontError, match=r"executor\.submit\(breaker\(work\)\)"):
            breaker.call(executor.submit, list)
        assert executor.submit(breaker(list)).result() == []


@pytest.mark.parametrize("made", [session, async_session])
def test_no_decorator_above_contextmanager(
    breaker: CircuitBreaker, made: Callable[[], Any]
) -> None:
    for front in (breaker, breaker.to_async()):
        with pytest.raises(WrongFrontError, match="block of the breaker inside it"):
            front(made)


def test_what_has_begun_is_a_result(breaker: CircuitBreaker) -> None:
    """A generator that was asked for its first item, and an expression over what was fetched."""

    def peeked() -> Iterator[int]:
        items = (lambda: (yield from [1, 2]))()
        next(items)
        return items

    assert list(breaker.call(peeked)) == [2]
    assert list(breaker.call(lambda: (n + 1 for n in [1, 2]))) == [2, 3]
    assert list(breaker(lambda: map(abs, [-1]))()) == [1]


def test_a_strange_class_is_a_result(breaker: CircuitBreaker) -> None:
    """Looking at a result may raise, and the caller gets it all the same."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise ValueError(name)

    class Strange(metaclass=Meta):
        pass

    strange = object.__new__(Strange)
    assert breaker.call(lambda: strange) is strange
    assert breaker(lambda: strange)() is strange


# -- async


def test_plain_wrappers_are_accepted(breaker: CircuitBreaker) -> None:
    """An async front takes a plain function that wraps an async one."""

    @traced
    async def fetch(n: int) -> int:
        return n

    front = breaker.to_async()
    protected = front(fetch)
    assert protected.__name__ == "fetch"
    assert finish(protected(5)) == 5
    assert finish(front.call(fetch, 6)) == 6
    with pytest.raises(ConnectionError):
        finish(front(traced(traced(down)))())
    if breaker.state == "closed":
        totals = breaker.info().totals
        assert (totals.successes, totals.failures) == (2, 1)


def test_other_wrappers_are_told_of_call(breaker: CircuitBreaker) -> None:
    front = breaker.to_async()
    with pytest.raises(WrongFrontError, match=r"use call\(\)"):
        front(lambda: down())
    with pytest.raises(ConnectionError):
        finish(front.call(lambda: down()))


def test_a_wrapper_that_waits_itself(breaker: CircuitBreaker) -> None:
    """It wraps an async function, and gives its result: it belongs to the other front."""

    @functools.wraps(down)
    def waiting() -> int:
        return 5

    with pytest.raises(WrongFrontError, match="is not async: use CircuitBreaker"):
        finish(breaker.to_async()(waiting)())
    assert breaker(waiting)() == 5


@pytest.mark.parametrize("fn", [Request, Future, down, session], ids=lambda fn: fn.__name__)
def test_refused_when_awaited(breaker: CircuitBreaker, fn: Callable[[], Any]) -> None:
    async def start() -> Any:
        return fn()

    front: AsyncCircuitBreaker = breaker.to_async()
    for call in (lambda: front.call(start), front(start)):
        with pytest.raises(WrongFrontError, match="yet to be made"):
            finish(call())
    assert unharmed(breaker)


def test_an_async_function_reads_on(breaker: CircuitBreaker) -> None:
    """It has run by then: what it returns may read on what was fetched."""

    async def stream() -> Any:
        return async_rows()

    assert finish(breaker.to_async().call(stream)) is not None


def test_call_of_an_async_generator(breaker: CircuitBreaker) -> None:
    with pytest.raises(WrongFrontError, match="decorate the generator function"):
        finish(breaker.to_async().call(async_rows))  # type: ignore[arg-type]
    assert unharmed(breaker)
