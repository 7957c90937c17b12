"""What the tests of the core share.

One way to drive a breaker through each of its doors, sync and
async alike.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    Info,
    Signal,
    SignalKind,
    State,
    Totals,
)
from fluxgate.testing import LoadedDice, ManualClock

T = TypeVar("T")

THREADS_INHERIT = bool(getattr(sys.flags, "thread_inherit_context", False))
"""Whether a new thread begins in a copy of its starter's context, as without a GIL (3.14)."""


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing; no event loop is needed for that."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine waits for something")


def _sync_block(breaker: CircuitBreaker, body: Callable[[], T]) -> T:
    with breaker:
        return body()


def _sync_attempt(breaker: CircuitBreaker, body: Callable[[], T]) -> T:
    with breaker.attempt():
        return body()


async def _async_block(breaker: AsyncCircuitBreaker, body: Callable[[], T]) -> T:
    async with breaker:
        return body()


def _coroutine(body: Callable[[], T]) -> Callable[[], Coroutine[Any, Any, T]]:
    async def run() -> T:
        return body()

    return run


DOORS: dict[str, tuple[type, Callable[[Any, Callable[[], Any]], Any]]] = {
    "sync call": (CircuitBreaker, lambda breaker, body: breaker.call(body)),
    "sync decorated": (CircuitBreaker, lambda breaker, body: breaker(body)()),
    "sync block": (CircuitBreaker, _sync_block),
    "sync attempt": (CircuitBreaker, _sync_attempt),
    "async call": (
        AsyncCircuitBreaker,
        lambda breaker, body: finish(breaker.call(_coroutine(body))),
    ),
    "async decorated": (
        AsyncCircuitBreaker,
        lambda breaker, body: finish(breaker(_coroutine(body))()),
    ),
    "async block": (
        AsyncCircuitBreaker,
        lambda breaker, body: finish(_async_block(breaker, body)),
    ),
}


class Protected:
    """A breaker, and calls to a dependency that does what it is told to."""

    def __init__(self, door: str, clock: ManualClock, dice: LoadedDice, **settings: Any) -> None:
        self.clock = clock
        self.dice = dice
        self.signals: list[Signal] = []
        front, self._through = DOORS[door]
        listeners = [self.signals.append, *settings.pop("listeners", ())]
        self.breaker: Any = front("api", listeners=listeners, clock=clock, dice=dice, **settings)

    def run(self, body: Callable[[], T]) -> T:
        """`body()` behind the breaker."""
        result: T = self._through(self.breaker, body)
        return result

    def succeed(self, seconds: float = 0.0, *, times: int = 1) -> None:
        """Calls that return after so many seconds, their results intact."""
        for _ in range(times):
            result = object()

            def body(result: object = result) -> object:
                self.clock.advance(seconds)
                return result

            assert self.run(body) is result

    slow = succeed

    def fail(
        self, error: BaseException | None = None, seconds: float = 0.0, *, times: int = 1
    ) -> None:
        """Calls that raise after so many seconds; what they raise arrives intact."""
        raised = ConnectionError("down") if error is None else error

        def body() -> None:
            self.clock.advance(seconds)
            raise raised

        for _ in range(times):
            with pytest.raises(type(raised)) as caught:
                self.run(body)
            assert caught.value is raised

    def refused(self) -> CallNotPermittedError:
        """A call that the breaker refuses."""
        with pytest.raises(CallNotPermittedError) as caught:
            self.run(_must_not_run)
        return caught.value

    @property
    def state(self) -> State:
        return self.breaker.state

    @property
    def info(self) -> Info:
        return self.breaker.info()

    @property
    def totals(self) -> Totals:
        return self.breaker.info().totals

    @property
    def moves(self) -> list[tuple[State, State]]:
        """The transitions so far, as the listeners heard them."""
        return [
            (signal.old_state, signal.new_state)
            for signal in self.signals
            if signal.kind is SignalKind.TRANSITION
        ]


def _must_not_run() -> None:
    raise AssertionError("a refused call was made")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1024.0)


@pytest.fixture
def dice() -> LoadedDice:
    return LoadedDice()


@pytest.fixture
def run_coroutine() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a coroutine that waits for nothing."""
    return finish


@pytest.fixture(params=[door.replace(" ", "-") for door in DOORS])
def protect(
    request: pytest.FixtureRequest, clock: ManualClock, dice: LoadedDice
) -> Callable[..., Protected]:
    """Makes breakers with the given settings; each test runs through every door."""

    def make(**settings: Any) -> Protected:
        return Protected(request.param.replace("-", " "), clock, dice, **settings)

    return make


@pytest.fixture
def breaker(clock: ManualClock, dice: LoadedDice) -> Callable[..., Protected]:
    """As `protect`, but through one door: for what the doors have no part in."""

    def make(**settings: Any) -> Protected:
        return Protected("sync call", clock, dice, **settings)

    return make
