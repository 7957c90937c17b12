"""Threads, and tasks that are cancelled: what listeners hear is in order, whole, one at a time."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker, Signal, State
from fluxgate._engine.dispatch import Delivery, Dispatch
from fluxgate.listeners import Background
from fluxgate.permits import All
from fluxgate.retries import Always, Cooldown
from fluxgate.testing import ManualClock
from fluxgate.trippers import FailureStreak

PATIENCE = 60.0
THREADS = 8


class Yielding:
    """A listener that gives way to others in the middle, and notices if it is called twice."""

    def __init__(self) -> None:
        self.heard: dict[str, list[Signal]] = defaultdict(list)
        self.crowded = 0
        self._busy: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def __call__(self, told: Signal) -> None:
        busy = self._busy[told.circuit_name]
        if not busy.acquire(blocking=False):
            self.crowded += 1
            return
        try:
            time.sleep(0)
            self.heard[told.circuit_name].append(told)
            time.sleep(0)
        finally:
            busy.release()

    @property
    def all(self) -> dict[str, list[Signal]]:
        return dict(self.heard)


class AsyncYielding(Yielding):
    """The same as `async def`."""

    async def __call__(self, told: Signal) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().__call__(told)
        await asyncio.sleep(0)


def check(direct: Yielding, *backgrounds: Yielding, circuits: int) -> None:
    """Each circuit's signals follow from each other; the backgrounds heard the same."""
    assert len(direct.heard) == circuits
    for signals in direct.heard.values():
        assert len(signals) > 10
        assert signals[0].old_state == State.CLOSED
        for before, after in pairwise(signals):
            assert after.old_state == before.new_state
            assert after.generation == before.generation + 1  # none is missing, or told twice
    for each in (direct, *backgrounds):
        assert each.crowded == 0
        assert each.all == direct.all


@pytest.fixture
def listeners() -> Iterator[tuple[Yielding, Yielding, Yielding, list[Any]]]:
    """One that is told directly and two in the background, with what to hand to breakers."""
    direct, behind, behind_async = Yielding(), Yielding(), AsyncYielding()
    backgrounds = [Background(each, maxsize=1_000_000) for each in (behind, behind_async)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield direct, behind, behind_async, [direct, *backgrounds]
    sys.setswitchinterval(interval)
    for each in backgrounds:
        assert each.close(PATIENCE)
        assert each.dropped == 0


def flush(listeners: list[Any]) -> None:
    for each in listeners:
        if isinstance(each, Background):
            assert each.flush(PATIENCE)


def in_threads(work: Callable[[int], None]) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        try:
            start.wait(PATIENCE)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def fail() -> None:
    raise ConnectionError


def test_threads_with_listeners_that_yield(
    listeners: tuple[Yielding, Yielding, Yielding, list[Any]],
) -> None:
    direct, behind, behind_async, given = listeners
    breakers = [
        CircuitBreaker(
            f"api-{number}",
            tripper=FailureStreak(1),
            retry=Always(),
            permit=All(),
            listeners=given,
        )
        for number in range(3)
    ]

    def work(number: int) -> None:
        random_ = random.Random(number)
        for _ in range(300):
            breaker = random_.choice(breakers)
            with suppress(ConnectionError, CallNotPermittedError):
                breaker.call(fail if random_.random() < 0.5 else int)

    in_threads(work)
    for breaker in breakers:
        breaker.info()  # whatever a thread left to another has been told by now
    flush(given)
    check(direct, behind, behind_async, circuits=3)


def test_tasks_that_are_cancelled(
    listeners: tuple[Yielding, Yielding, Yielding, list[Any]],
) -> None:
    """In whatever they are doing: calling, failing, probing, being refused."""
    direct, behind, behind_async, given = listeners
    clock = ManualClock()
    breakers = [
        AsyncCircuitBreaker(
            f"api-{number}",
            tripper=FailureStreak(1),
            retry=Cooldown(1.0),
            permit=All(),
            clock=clock,
            listeners=given,
        )
        for number in range(3)
    ]
    cancelled = 0

    async def call(random_: random.Random) -> None:
        async def work() -> None:
            for _ in range(random_.randrange(3)):
                await asyncio.sleep(0)
            if random_.random() < 0.5:
                fail()

        while True:
            try:
                await random_.choice(breakers).call(work)
            except (ConnectionError, CallNotPermittedError):
                clock.advance(0.25)
                await asyncio.sleep(0)

    async def main() -> None:
        nonlocal cancelled
        random_ = random.Random(7)
        for number in range(200):
            tasks = [asyncio.create_task(call(random.Random(8 * number + n))) for n in range(8)]
            for task in tasks:
                for _ in range(random_.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(each, asyncio.CancelledError) for each in results)

    asyncio.run(main())
    assert cancelled == 1600
    flush(given)
    check(direct, behind, behind_async, circuits=3)


def test_loops_in_threads_whose_tasks_are_cancelled(
    listeners: tuple[Yielding, Yielding, Yielding, list[Any]],
) -> None:
    """Both at once: eight loops on one circuit."""
    direct, behind, behind_async, given = listeners
    breaker = AsyncCircuitBreaker(
        "api", tripper=FailureStreak(1), retry=Always(), permit=All(), listeners=given
    )

    def work(number: int) -> None:
        random_ = random.Random(number)

        async def protected() -> None:
            await asyncio.sleep(0)
            if random_.random() < 0.5:
                fail()

        async def calls() -> None:
            while True:
                try:
                    await breaker.call(protected)
                except (ConnectionError, CallNotPermittedError):
                    await asyncio.sleep(0)

        async def main() -> None:
            for _ in range(20):
                task = asyncio.create_task(calls())
                for _ in range(random_.randrange(20)):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(main())

    in_threads(work)
    breaker.info()
    flush(given)
    check(direct, behind, behind_async, circuits=1)


class Meeting:
    """While a thread delivers, another looks; the first ends at the other's given bytecode."""

    def __init__(self, place: int) -> None:
        self.left = place
        self.heard: list[Signal] = []
        self.breaker = CircuitBreaker("x", listeners=[self])
        self.in_listener, self.goes_on = threading.Event(), threading.Event()
        self.first = threading.Thread(target=self.breaker.force_open)

    def __call__(self, signal: Signal) -> None:
        if not self.heard:
            self.in_listener.set()
            assert self.goes_on.wait(PATIENCE)
        self.heard.append(signal)

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code is not Dispatch.deliver.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                self.first_ends()
        return self.trace

    def first_ends(self) -> None:
        self.goes_on.set()
        self.first.join(PATIENCE)

    def takes_place(self) -> bool:
        """Whether the other has come as far as that bytecode."""
        self.first.start()
        assert self.in_listener.wait(PATIENCE)
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self.trace)
        try:
            self.breaker.reset()
        finally:
            sys.settrace(before)
            self.first_ends()
        return self.left < 0


def test_who_delivers_ends_at_any_moment() -> None:
    place = 0
    while (meeting := Meeting(place)).takes_place():
        place += 1
        assert [each.new_state for each in meeting.heard] == [State.FORCED_OPEN, State.CLOSED]
    assert place > 40


def test_threads_that_share_a_delivery() -> None:
    """Threads that come to a call that waits deliver it together; each listener hears it once."""
    heard: list[list[int]] = [[] for _ in range(100)]
    deliveries = [Delivery([each.append for each in heard], number) for number in range(200)]
    in_threads(lambda _: [each.finish("payments") for each in deliveries] and None)
    assert [sorted(each) for each in heard] == [list(range(200))] * 100


def test_a_builtin_listener_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """An error without a frame of its own, of the kind that ends the loop in C."""
    heard: list[int] = []
    Delivery([[].__getitem__, heard.append], 5).finish("payments")
    assert heard == [5]
    assert "IndexError" in caplog.text


def test_the_first_interrupt_goes_on() -> None:
    """Of two that listeners raise, as of two that come one after the other anywhere."""
    heard: list[Signal] = []

    def first(_: Signal) -> None:
        raise KeyboardInterrupt

    def second(_: Signal) -> None:
        raise SystemExit

    breaker = CircuitBreaker("x", listeners=[first, second, heard.append])
    with pytest.raises(KeyboardInterrupt):
        breaker.force_open()
    assert len(heard) == 1


def test_an_interrupt_about_a_call_holds_no_signal_up() -> None:
    heard: list[Signal] = []

    class Interrupted:
        def __call__(self, signal: Signal) -> None:
            heard.append(signal)

        def call_ended(self, call: object) -> None:
            raise KeyboardInterrupt

    breaker = CircuitBreaker("x", tripper=FailureStreak(1), listeners=[Interrupted()])
    with pytest.raises(KeyboardInterrupt):
        breaker.attempt().fail()
    assert [signal.new_state for signal in heard] == [State.OPEN]
