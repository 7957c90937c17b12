"""`Background`: a thread of its own, which nobody waits for and which loses nothing unsaid."""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from types import FrameType
from typing import Any

import pytest
import trio
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    ConfigError,
    Reason,
    Signal,
    State,
)
from fluxgate.config import build
from fluxgate.listeners import Background, _background_queue
from fluxgate.testing import ManualClock
from fluxgate_fastapi import install

from ..interrupting import interrupted, report

PATIENCE = 30.0


def signal(number: int, circuit: str = "api") -> Signal:
    return Signal(circuit, State.CLOSED, State.OPEN, 0.0, number, Reason("FailureRate(0.5)"))


class Record:
    """A listener that keeps what it hears, and where."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.threads: list[threading.Thread] = []

    def __call__(self, told: Signal) -> None:
        self.threads.append(threading.current_thread())
        self.heard.append(told.generation)


class Gate(Record):
    """A listener that stays in its first call until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.leave = threading.Event()

    def __call__(self, told: Signal) -> None:
        super().__call__(told)
        self.entered.set()
        assert self.leave.wait(PATIENCE)


class Hearing(Record):
    """A listener that hears of refusals, too."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[CallNotPermittedError] = []

    def rejected(self, error: CallNotPermittedError) -> None:
        self.refusals.append(error)


@pytest.fixture
def background() -> Iterator[Callable[..., Background]]:
    """Makes `Background`s that are closed in the end."""
    made: list[Background] = []

    def make(*args: Any, **options: Any) -> Background:
        made.append(Background(*args, **options))
        return made[-1]

    yield make
    for each in made:
        assert each.close(PATIENCE)


def workers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("Background(")]


def ended(thread: threading.Thread) -> bool:
    thread.join(PATIENCE)
    return not thread.is_alive()


# -- the thread


def test_nothing_starts_before_the_first_signal(background: Callable[..., Background]) -> None:
    record = Record()
    before = workers()
    told = background(record)
    CircuitBreaker("api", listeners=[told])
    assert told.flush()
    assert workers() == before
    told(signal(1))
    assert told.flush(PATIENCE)
    (thread,) = set(record.threads)
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert "Record" in thread.name


def test_calls_do_not_wait_for_the_listener(background: Callable[..., Background]) -> None:
    gate = Gate()
    breaker = CircuitBreaker("api", listeners=[background(gate)])
    breaker.force_open()
    assert gate.entered.wait(PATIENCE)
    breaker.reset()  # the listener is still at the first one
    assert breaker.call(lambda: "fine") == "fine"
    assert gate.heard == [1]
    gate.leave.set()


def test_one_for_many_breakers_of_both_fronts(background: Callable[..., Background]) -> None:
    names: list[str] = []
    told = background(lambda heard: names.append(heard.circuit_name))
    sync, other = CircuitBreaker("a", listeners=[told]), AsyncCircuitBreaker("b", listeners=[told])
    sync.force_open()
    other.force_open()
    sync.reset()
    assert told.flush(PATIENCE)
    assert names == ["a", "b", "a"]


def test_the_thread_carries_no_context_of_the_first_caller(
    background: Callable[..., Background],
) -> None:
    request = ContextVar("request", default="none")
    seen: list[str] = []

    async def listener(_: Signal) -> None:
        seen.append(request.get())

    told = background(listener)
    request.set("the first request's")
    told(signal(1))
    assert told.flush(PATIENCE)
    assert seen == ["none"]


def test_it_ends_with_its_background_once_all_is_told() -> None:
    gate = Gate()
    told = Background(gate)
    told(signal(1))
    assert gate.entered.wait(PATIENCE)
    told(signal(2))
    gone = weakref.ref(told)
    del told
    gc.collect()
    assert gone() is None
    gate.leave.set()
    assert ended(gate.threads[0])
    assert gate.heard == [1, 2]


# -- async listeners


class AsyncListener:
    """An object whose `__call__` is async, and which is closed by `aclose`."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.closed = 0

    async def __call__(self, told: Signal) -> None:
        await asyncio.sleep(0)
        self.loops.append(asyncio.get_running_loop())
        self.heard.append(told.generation)

    async def aclose(self) -> None:
        self.loops.append(asyncio.get_running_loop())
        self.closed += 1


@pytest.mark.parametrize("front", [CircuitBreaker, AsyncCircuitBreaker])
def test_an_async_listener_has_a_loop_of_its_own(
    front: Any, background: Callable[..., Background]
) -> None:
    listener = AsyncListener()
    told = background(listener)
    breaker = front("api", listeners=[told])
    callers: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        callers.append(asyncio.get_running_loop())
        breaker.force_open()
        breaker.reset()
        assert await told.aclose(PATIENCE)

    asyncio.run(main())
    assert listener.heard == [1, 2]
    assert len(set(listener.loops)) == 1
    assert not {*listener.loops} & {*callers}
    assert listener.closed == 1
    assert listener.loops[0].is_closed()


def test_async_functions_partials_and_what_returns_an_awaitable(
    background: Callable[..., Background],
) -> None:
    heard: list[str] = []

    async def listener(name: str, told: Signal) -> None:
        await asyncio.sleep(0)
        heard.append(f"{name} {told.generation}")

    class Awaitable:
        def __await__(self) -> Iterator[None]:
            yield from asyncio.sleep(0).__await__()
            heard.append("awaited")

    for each in (partial(listener, "partial"), lambda told: listener("lambda", told)):
        told = background(each)
        told(signal(1))
        assert told.flush(PATIENCE)
    told = background(lambda _: Awaitable())
    told(signal(1))
    assert told.flush(PATIENCE)
    assert heard == ["partial 1", "lambda 1", "awaited"]


# -- listeners that fail


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_raising_listener_is_logged_and_the_next_signal_told(
    error: BaseException,
    asynchronous: bool,
    background: Callable[..., Background],
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[int] = []

    def hear(told: Signal) -> None:
        heard.append(told.generation)
        if told.generation == 1:
            raise error

    async def hear_later(told: Signal) -> None:
        hear(told)

    told = background(hear_later if asynchronous else hear)
    told(signal(1))
    told(signal(2))
    assert told.flush(PATIENCE)
    assert heard == [1, 2]
    (record,) = caplog.records
    assert record.name == "fluxgate"
    assert "'api'" in record.getMessage()
    assert type(error).__name__ in record.getMessage()
    assert "hear" in record.getMessage()


def test_an_error_in_closing_is_logged(
    background: Callable[..., Background], caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(Record):
        def close(self) -> None:
            raise OSError("no")

    told = background(Stubborn())
    told(signal(1))
    assert told.close(PATIENCE)
    assert "could not be closed" in caplog.text
    assert "OSError: no" in caplog.text


# -- the queue's bound


def test_the_oldest_is_dropped_and_counted(
    background: Callable[..., Background], caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    told = background(gate, maxsize=3)
    told(signal(0))
    assert gate.entered.wait(PATIENCE)  # this one has left the queue
    for number in range(1, 8):
        told(signal(number))
    assert told.dropped == 4
    gate.leave.set()
    assert told.flush(PATIENCE)
    assert gate.heard == [0, 5, 6, 7]
    assert told.dropped == 4
    (line,) = caplog.messages
    assert "Gate" in line
    assert "full (3)" in line


def test_drops_are_logged_once_a_minute(
    background: Callable[..., Background],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ManualClock()
    monkeypatch.setattr(_background_queue, "monotonic", clock)
    gate = Gate()
    told = background(gate, maxsize=1)
    for burst in (1, 2, 3):
        gate.entered.clear()
        gate.leave.clear()
        told(signal(0))
        assert gate.entered.wait(PATIENCE)
        for number in range(10):
            told(signal(number))
        gate.leave.set()
        assert told.flush(PATIENCE)
        assert told.dropped == 9 * burst
        clock.advance(30.0)
    first, second = caplog.messages  # the second burst came half a minute after the first
    assert "(1 so far)" in first
    assert "(19 so far)" in second


def test_drops_are_counted_exactly_by_many_threads(background: Callable[..., Background]) -> None:
    gate = Gate()
    told = background(gate, maxsize=1)
    told(signal(0))
    assert gate.entered.wait(PATIENCE)
    threads = [
        threading.Thread(target=lambda: [told(signal(1)) for _ in range(2000)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    gate.leave.set()
    assert told.flush(PATIENCE)
    assert len(gate.heard) + told.dropped == 1 + 8 * 2000
    assert len(gate.heard) <= 1 + 8


def test_a_flush_whose_mark_must_make_room_still_ends(
    background: Callable[..., Background],
) -> None:
    gate = Gate()
    told = background(gate, maxsize=1)
    told(signal(0))
    assert gate.entered.wait(PATIENCE)
    assert not told.flush(0.0)  # its mark is in the queue now, and fills it
    flushed: list[bool] = []
    thread = threading.Thread(target=lambda: flushed.append(told.flush(PATIENCE)))
    thread.start()
    while told._queue._entries.qsize() < 2:
        threading.Event().wait(0.001)
    told(signal(1))
    told(signal(2))
    gate.leave.set()
    thread.join(PATIENCE)
    assert flushed == [True]
    assert told.flush(PATIENCE)
    assert gate.heard == [0, 1, 2]
    assert told.dropped == 0


# -- refusals


def test_refusals_are_forwarded_to_who_hears_them(background: Callable[..., Background]) -> None:
    hearing = Hearing()
    told = background(hearing)
    breaker = CircuitBreaker("api", listeners=[told])
    breaker.force_open()
    with pytest.raises(CallNotPermittedError) as caught:
        breaker.call(lambda: None)
    assert told.flush(PATIENCE)
    (error,) = hearing.refusals
    assert error.args == caught.value.args
    assert error.__traceback__ is None  # the queue holds on to no caller's frames


def test_who_does_not_hear_refusals_gets_none(background: Callable[..., Background]) -> None:
    told = background(Record())
    assert not hasattr(told, "rejected")
    with pytest.raises(AttributeError, match="its listener has none"):
        _ = told.rejected


def test_a_flood_of_refusals_pushes_out_no_signal(
    background: Callable[..., Background], caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    refused: list[CallNotPermittedError] = []
    gate.rejected = refused.append  # type: ignore[attr-defined]
    told = background(gate, maxsize=10)
    told(signal(0))
    assert gate.entered.wait(PATIENCE)
    told(signal(1))
    error = CallNotPermittedError("api", State.OPEN)
    for _ in range(5000):
        told.rejected(error)
    for number in (2, 3, 4, 5, 6):
        told(signal(number))
    gate.leave.set()
    assert told.flush(PATIENCE)
    assert gate.heard == [0, 1, 2, 3, 4, 5, 6]
    assert len(refused) == 4
    assert told.dropped == 4996
    assert len(caplog.records) == 1


# -- waiting for it


def test_flush_says_whether_all_was_told_in_time(background: Callable[..., Background]) -> None:
    gate = Gate()
    told = background(gate)
    assert told.flush(0.0)
    told(signal(1))
    assert not told.flush(0.0)
    gate.leave.set()
    assert told.flush(PATIENCE)
    assert gate.heard == [1]


@pytest.mark.parametrize("wait", ["flush", "close"])
def test_a_listener_that_waits_for_itself_is_told_so(
    wait: str, background: Callable[..., Background], caplog: pytest.LogCaptureFixture
) -> None:
    told = background(lambda _: getattr(told, wait)())
    told(signal(1))
    assert told.flush(PATIENCE)
    assert "RuntimeError" in caplog.text
    assert "can't wait for it" in caplog.text


def test_close_tells_what_is_queued_closes_the_listener_and_ends_the_thread(
    background: Callable[..., Background],
) -> None:
    class Closing(Gate):
        def close(self) -> None:
            self.heard.append(-1)
            self.threads.append(threading.current_thread())

    closing = Closing()
    told = background(closing)
    for number in (1, 2, 3):
        told(signal(number))
    assert not told.close(0.0)
    closing.leave.set()
    assert told.close(PATIENCE)
    assert closing.heard == [1, 2, 3, -1]
    (thread,) = set(closing.threads)
    assert ended(thread)

    told(signal(4))  # nothing is lost: it starts anew
    assert told.close(PATIENCE)
    assert closing.heard == [1, 2, 3, -1, 4, -1]
    assert closing.threads[-1] is not thread
    assert told.close(PATIENCE)  # and there is nothing left to close
    assert closing.heard[-1] == -1
    assert closing.heard.count(-1) == 2


def test_close_of_what_was_never_used_closes_the_listener() -> None:
    listener = AsyncListener()
    assert Background(listener).close(PATIENCE)
    assert listener.closed == 1
    before = workers()
    assert Background(Record()).close(0.0)
    assert workers() == before


def test_aclose_leaves_the_loop_free() -> None:
    async def on_asyncio() -> list[int]:
        gate = Gate()
        told = Background(gate)
        told(signal(1))
        closing = asyncio.create_task(told.aclose(PATIENCE))
        await asyncio.sleep(0)
        gate.leave.set()  # which only a free loop gets to
        assert await closing
        return gate.heard

    async def on_trio() -> list[int]:
        gate = Gate()
        told = Background(gate)
        told(signal(1))
        async with trio.open_nursery() as nursery:

            async def close() -> None:
                assert await told.aclose(PATIENCE)

            nursery.start_soon(close)
            await trio.lowlevel.checkpoint()
            gate.leave.set()
        return gate.heard

    assert asyncio.run(on_asyncio()) == [1]
    assert trio.run(on_trio) == [1]


def test_signals_while_it_is_being_closed_are_told_in_order(
    background: Callable[..., Background],
) -> None:
    """Whether they meet the old thread or a new one."""
    busy = threading.Lock()
    heard: list[int] = []

    def listener(told: Signal) -> None:
        assert busy.acquire(blocking=False), "two threads at once"
        heard.append(told.generation)
        busy.release()

    told = background(listener)
    stop = threading.Event()

    def close() -> None:
        while not stop.is_set():
            told.close(PATIENCE)

    closers = [threading.Thread(target=close) for _ in range(2)]
    for thread in closers:
        thread.start()
    for number in range(2000):
        told(signal(number))
        if number % 50 == 0:
            told.flush(PATIENCE)
    stop.set()
    for thread in closers:
        thread.join(PATIENCE)
    assert told.flush(PATIENCE)
    assert heard == list(range(2000))


# -- re-entered, interrupted, out of threads


@pytest.mark.skipif(sys.gettrace() is not None, reason="somebody else traces")
def test_posting_in_the_middle_of_posting(background: Callable[..., Background]) -> None:
    """As a finaliser or a signal handler may, at any line, on the same thread."""
    record = Hearing()
    told = background(record, maxsize=100_000)
    inner = iter(range(1000, 100_000))
    posted: list[int] = []

    def trace(frame: FrameType, *_: Any) -> Any:
        if frame.f_code.co_filename.endswith(("_background_queue.py", "background.py")):
            sys.settrace(None)
            posted.append(next(inner))
            told(signal(posted[-1]))
            told.rejected(CallNotPermittedError("api", State.OPEN))
            sys.settrace(trace)
            return trace
        return None

    sys.settrace(trace)
    try:
        for number in range(10):
            told(signal(number))
    finally:
        sys.settrace(None)
    assert told.flush(PATIENCE)
    assert len(posted) > 50
    assert sorted(record.heard) == sorted([*range(10), *posted])
    assert len(record.refusals) == len(posted)
    assert len(set(record.threads)) == 1


@pytest.mark.skipif(sys.gettrace() is not None, reason="somebody else traces")
def test_interrupted_at_any_bytecode(background: Callable[..., Background]) -> None:
    """As by a signal handler that raises: later signals are heard, once, in order."""
    place, going_on = 0, True
    while going_on:
        record = Record()
        deliver = background(record, maxsize=2)
        post = partial(deliver, signal(1))
        going_on = interrupted(post, place, "_background_queue.py", "background.py")
        deliver(signal(2))
        assert deliver.flush(PATIENCE), place
        assert record.heard in ([2], [1, 2]), place
        assert deliver.close(PATIENCE), place
        place += 1
    assert place > 100  # there were that many bytecodes to be interrupted at
    report("listeners' queue", place)
    inner = background(record := Record())
    outer = background(inner)  # no lock of the whole process is left held: other threads go on
    outer(signal(3))
    assert outer.close(PATIENCE)
    assert inner.flush(PATIENCE)
    assert record.heard == [3]


@pytest.mark.skipif(sys.gettrace() is not None, reason="somebody else traces")
def test_the_end_of_the_process_is_watched_once_whatever_interrupts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    going_on, place = True, 0
    while going_on:
        registered: list[object] = []
        monkeypatch.setattr(_background_queue, "_unregistered", [_background_queue._drain])
        monkeypatch.setattr(atexit, "register", registered.append)
        going_on = interrupted(_background_queue._drain_at_exit, place, "_background_queue.py")
        _background_queue._drain_at_exit()
        assert registered == [_background_queue._drain], place
        place += 1
    assert place > 20


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_while_the_thread_starts(
    begun: bool, background: Callable[..., Background], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the thread has begun by then or not, there is one in the end."""
    gate = Gate()
    told = background(gate)
    start = threading.Thread.start

    def broken_off(thread: threading.Thread) -> None:
        if begun:
            start(thread)
            assert gate.entered.wait(PATIENCE)
        raise KeyboardInterrupt

    before = workers()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", broken_off)
        with pytest.raises(KeyboardInterrupt):
            told(signal(1))
    told(signal(2))
    assert gate.entered.wait(PATIENCE)
    assert len(workers()) == len(before) + 1
    gate.leave.set()
    assert told.flush(PATIENCE)
    assert gate.heard == [1, 2]


# -- settings, and what it refuses


def test_in_settings_it_is_an_instance_in_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record()
    module = type(sys)("shop_alerts")
    module.alerts = Background(record)  # type: ignore[attr-defined]
    module.Background = Background  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop_alerts", module)
    one = build("one", {"listeners": ["shop_alerts.alerts"]})
    two = build("two", {"LISTENERS": ["shop_alerts.alerts"]}, asynchronous=True)
    assert one.listeners == two.listeners == (module.alerts,)
    one.force_open()
    two.force_open()
    assert module.alerts.close(PATIENCE)
    assert record.heard == [1, 1]
    with pytest.raises(ConfigError, match="is a class: give an instance"):
        build("three", {"listeners": ["shop_alerts.Background"]})


def test_an_application_closes_it_when_it_stops_and_may_start_again() -> None:
    class Closing(Record):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    closing = Closing()
    app = FastAPI()
    config = {"defaults": {"listeners": [Background(closing)]}, "breakers": {"api": {}}}
    registry = install(app, config=config)
    for start in (1, 2):
        with TestClient(app):
            registry["api"].force_open()
            registry["api"].reset()
        assert len(closing.heard) == 2 * start
        assert closing.closed == start
        assert ended(closing.threads[-1])

    registry["api"].force_open()
    registry.close()
    assert len(closing.heard) == 5
    assert closing.closed == 3


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((None,), {}, TypeError, "callable with a Signal, not None"),
        ((Record,), {}, TypeError, "Record is a class: give Background an instance"),
        ((Record(),), {"maxsize": 0}, ValueError, "maxsize must be 1 to 10,000,000, not 0"),
        ((Record(),), {"maxsize": 1.5}, TypeError, "maxsize must be a whole number"),
        ((Record(),), {"maxsize": True}, TypeError, "maxsize must be a whole number"),
        ((Record(),), {"exit_timeout": -1}, ValueError, "exit_timeout must be 0 to 1e6"),
        ((Record(),), {"exit_timeout": float("nan")}, ValueError, "exit_timeout must be 0 to 1e6"),
        ((Record(),), {"exit_timeout": "5"}, TypeError, "exit_timeout must be a number"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Background(*arguments, **options)


def test_a_generator_is_refused() -> None:
    def listener(_: Signal) -> Iterator[None]:
        yield

    with pytest.raises(TypeError, match="is a generator: it would never run"):
        Background(listener)


def test_a_breaker_refuses_an_async_listener_and_names_the_remedy() -> None:
    async def listener(_: Signal) -> None: ...

    with pytest.raises(TypeError, match="Background"):
        CircuitBreaker("api", listeners=[listener])
    assert CircuitBreaker("api", listeners=[Background(listener)]).listeners


@pytest.mark.parametrize("timeout", [-1, float("inf")])
def test_timeouts_are_finite(timeout: float) -> None:
    told = Background(Record())
    with pytest.raises(ValueError, match="timeout must be 0 to 1e6"):
        told.flush(timeout)
    with pytest.raises(ValueError, match="timeout must be 0 to 1e6"):
        told.close(timeout)


def test_it_shows_what_it_wraps() -> None:
    async def send_mail(_: Signal) -> None: ...

    assert "send_mail" in repr(Background(send_mail))
    assert logging.getLogger("fluxgate").handlers == []  # and configures no logging
