"""`cancelled_after=`: a call that is cancelled late is a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import anyio
import pytest

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, Policy, State
from fluxgate.config import read
from fluxgate.permits import All
from fluxgate.testing import ManualClock
from fluxgate.trippers import FailureStreak

LIMIT = 5.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def breaker(clock: ManualClock) -> AsyncCircuitBreaker:
    return AsyncCircuitBreaker(
        "api", clock=clock, tripper=FailureStreak(1), cancelled_after=LIMIT, permit=All()
    )


async def cancelled(clock: ManualClock, after: float, call: Callable[..., object]) -> None:
    """Run a call that its caller cancels after so many seconds of the clock."""

    async def wait() -> None:
        clock.advance(after)
        scope.cancel()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        made: object = call(wait)
        await made  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]


@pytest.mark.anyio
@pytest.mark.parametrize(("after", "state"), [(4.9, State.CLOSED), (LIMIT, State.OPEN)])
@pytest.mark.parametrize("way", ["call", "decorated", "block"])
async def test_late_is_a_failure(clock: ManualClock, after: float, state: State, way: str) -> None:
    front = breaker(clock)

    async def block(wait: Callable[[], object]) -> None:
        async with front:
            await wait()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]

    ways: dict[str, Callable[..., object]] = {
        "call": front.call,
        "decorated": lambda wait: front(wait)(),
        "block": block,
    }
    await cancelled(clock, after, ways[way])
    info = front.info()
    late = state is State.OPEN
    assert info.state is state
    assert (info.totals.failures, info.totals.cancelled) == (int(late), int(not late))
    if late:
        assert info.last_trip is not None
        assert info.last_trip.errors == (("cancelled after 5 s", 1),)


@pytest.mark.anyio
async def test_a_late_probe_opens_again(clock: ManualClock) -> None:
    front = breaker(clock)
    await cancelled(clock, LIMIT, front.call)
    clock.advance(60)
    attempt = front.attempt()
    assert attempt.probe
    clock.advance(LIMIT)
    attempt.raised(asyncio.CancelledError())
    assert front.info().reopens == 1


@pytest.mark.anyio
async def test_a_stream_by_its_first_item(clock: ManualClock) -> None:
    """As its duration is that, too: a reader that is cancelled after an hour proves nothing."""
    front = breaker(clock)

    @front
    async def items() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async for _ in items():
            clock.advance(3600)
            scope.cancel()
    assert front.state is State.CLOSED


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (asyncio.CancelledError(), True),
        (BaseExceptionGroup("", [asyncio.CancelledError(), ValueError()]), True),
        (type("Timeout", (BaseException,), {})(), True),  # as gevent's
        (KeyboardInterrupt(), False),
        (SystemExit(), False),
        (GeneratorExit(), False),
        (BaseExceptionGroup("", [asyncio.CancelledError(), KeyboardInterrupt()]), False),
    ],
    ids=["asyncio", "group", "gevent", "interrupt", "exit", "generator", "interrupted-group"],
)
def test_what_is_a_cancellation(clock: ManualClock, error: BaseException, counts: bool) -> None:
    front = breaker(clock).to_sync()

    def call() -> None:
        clock.advance(LIMIT)
        raise error

    with pytest.raises(type(error)):
        front.call(call)
    assert (front.state is State.OPEN) is counts
    assert front.info().totals.settled == 1


def test_never_by_default(clock: ManualClock) -> None:
    front = CircuitBreaker("api", clock=clock, tripper=FailureStreak(1))
    attempt = front.attempt()
    clock.advance(1e6)
    attempt.raised(asyncio.CancelledError())
    assert front.info().totals.cancelled == 1


@pytest.mark.parametrize("given", [0, -1, 1e10, "text", True])
def test_bad_values(given: object) -> None:
    with pytest.raises((TypeError, ValueError), match="cancelled_after"):
        Policy(cancelled_after=given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("given", [5, 5.5, "5"], ids=["int", "float", "text"])
def test_settings_of_text(given: object) -> None:
    policy = read({"breakers": {"api": {"cancelled_after": given}}}).make("api").policy
    assert policy.cancelled_after == float(str(given))
    assert f"cancelled_after={policy.cancelled_after!r}" in repr(policy)
    assert Policy(cancelled_after=5.0) != Policy()
    assert policy.replace(cancelled_after=None).cancelled_after is None
