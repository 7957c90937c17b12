"""`docs/how-to/recipes.md`: retries, limits and time-outs beside a breaker, in both orders.

What goes wrong in the wrong one is counted: calls that reach the dependency, refusals, slots.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import httpx_retries
import pytest
import stamina
import tenacity
import trio
import trio.testing

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker, State
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, tripped
from fluxgate.trackers import CausedBy, TypeOf
from fluxgate.trippers import Closed, FailureRate, FailureStreak, MinRequests, SlowRate
from fluxgate_httpx import CircuitBreakerTransport, CircuitOpenError

TRIES = 4


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fast_retries() -> Iterator[None]:
    """Stamina without its pauses."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


class Service:
    """A dependency that counts the calls that reach it, and answers each n-th."""

    def __init__(self, answers_each: int = 0) -> None:
        self.calls = 0
        self.answers_each = answers_each

    def __call__(self) -> str:
        self.calls += 1
        if self.answers_each and self.calls % self.answers_each == 0:
            return "fine"
        raise ConnectionError

    async def asynchronous(self) -> str:
        await anyio.sleep(0)
        return self()


def retry(function: Callable[[], Any], clock: ManualClock | None = None, **options: Any) -> Any:
    """`function` with retries of tenacity's, whose pauses of a second are the clock's."""
    if options.pop("everything", False):
        retried: Any = tenacity.retry_if_exception_type(Exception)
    else:
        retried = tenacity.retry_if_exception_type(ConnectionError)
    return tenacity.retry(
        retry=retried,
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_fixed(1.0),
        sleep=(clock or ManualClock()).advance,
        reraise=True,
        **options,
    )(function)


def calls_until_open(breaker: CircuitBreaker, function: Callable[[], Any]) -> int:
    """Calls that callers make until the circuit is open."""
    for number in range(1, 1000):
        with pytest.raises((ConnectionError, CallNotPermittedError)):
            function()
        if breaker.state is State.OPEN:
            return number
    raise AssertionError("it stays closed")


# -- retries


@pytest.mark.usefixtures("fast_retries")
def test_stamina_outside() -> None:
    service, breaker = Service(), CircuitBreaker("api", tripper=FailureStreak(3))
    call = stamina.retry(on=ConnectionError, attempts=10)(breaker(service.__call__))
    with pytest.raises(CallNotPermittedError):
        call()
    assert (service.calls, breaker.info().totals.rejected) == (3, 1)


@pytest.mark.anyio
@pytest.mark.usefixtures("fast_retries")
async def test_stamina_outside_async() -> None:
    service, breaker = Service(), AsyncCircuitBreaker("api", tripper=FailureStreak(3))
    call = stamina.retry(on=ConnectionError, attempts=10)(breaker(service.asynchronous))
    with pytest.raises(CallNotPermittedError):
        await call()
    assert (service.calls, breaker.info().totals.rejected) == (3, 1)


@pytest.mark.usefixtures("fast_retries")
def test_stamina_around_a_block() -> None:
    service, breaker = Service(), CircuitBreaker("api", tripper=FailureStreak(3))

    def call() -> None:
        for attempt in stamina.retry_context(on=ConnectionError, attempts=10):
            with attempt, breaker:
                service()

    with pytest.raises(CallNotPermittedError):
        call()
    assert (service.calls, breaker.info().totals.rejected) == (3, 1)


@pytest.mark.usefixtures("fast_retries")
def test_stamina_that_retries_refusals() -> None:
    service, breaker = Service(), CircuitBreaker("api", tripper=FailureStreak(3))
    call = stamina.retry(on=Exception, attempts=10)(breaker(service.__call__))
    with pytest.raises(CallNotPermittedError):
        call()
    assert (service.calls, breaker.info().totals.rejected) == (3, 7)


def test_tenacity_outside() -> None:
    clock, service = ManualClock(), Service()
    breaker = CircuitBreaker("api", tripper=FailureStreak(2))
    with pytest.raises(CallNotPermittedError):
        retry(breaker(service.__call__), clock)()
    assert (service.calls, breaker.info().totals.rejected, clock()) == (2, 1, 2.0)


@pytest.mark.anyio
async def test_tenacity_outside_async() -> None:
    service, breaker = Service(), AsyncCircuitBreaker("api", tripper=FailureStreak(2))
    retried = tenacity.retry(
        retry=tenacity.retry_if_exception_type(ConnectionError),
        stop=tenacity.stop_after_attempt(TRIES),
        reraise=True,
    )
    with pytest.raises(CallNotPermittedError):
        await retried(breaker(service.asynchronous))()
    assert (service.calls, breaker.info().totals.rejected) == (2, 1)


def test_tenacity_waits_for_what_is_refused() -> None:
    """Wrong: three seconds of pauses before the caller hears what was known at once."""
    clock, service = ManualClock(), Service()
    breaker = tripped(CircuitBreaker("api", tripper=FailureStreak(2)))
    with pytest.raises(CallNotPermittedError):
        retry(breaker(service.__call__), clock, everything=True)()
    assert (service.calls, breaker.info().totals.rejected, clock()) == (0, TRIES, 3.0)


def test_retries_inside_multiply_what_it_takes_to_open() -> None:
    right, wrong = (
        (Service(), CircuitBreaker("api", tripper=MinRequests(10) & FailureRate(0.5)))
        for _ in range(2)
    )
    assert calls_until_open(right[1], retry(right[1](right[0].__call__))) == 3
    assert calls_until_open(wrong[1], wrong[1](retry(wrong[0].__call__))) == 10
    assert (right[0].calls, wrong[0].calls) == (10, 10 * TRIES)


def test_retries_inside_multiply_probes() -> None:
    sent = []
    for inside in (False, True):
        clock, service = ManualClock(), Service()
        breaker = CircuitBreaker(
            "api",
            tripper=Closed() & FailureStreak(1),
            retry=Cooldown(5.0),
            permit=All(),
            clock=clock,
        )
        tripped(breaker)
        clock.advance(5.0)
        function: Any = service.__call__
        call = breaker(retry(function)) if inside else retry(breaker(function))
        with pytest.raises((ConnectionError, CallNotPermittedError)):
            call()
        assert breaker.state is State.OPEN
        sent.append(service.calls)
    assert sent == [1, TRIES]


def test_retries_inside_look_slow() -> None:
    """Each try takes no time; the pauses between them are the call's duration."""
    for inside in (False, True):
        clock, service = ManualClock(), Service(answers_each=3)
        breaker = CircuitBreaker("api", tripper=MinRequests(5) & SlowRate(0.5, 1.5), clock=clock)
        function: Any = service.__call__
        call = breaker(retry(function, clock)) if inside else retry(breaker(function), clock)
        for _ in range(5):
            assert call() == "fine"
        assert breaker.state is (State.OPEN if inside else State.CLOSED)


def test_retries_inside_hide_failures() -> None:
    """Two of three calls fail, and the circuit hears of none."""
    for inside in (False, True):
        service, breaker = Service(answers_each=3), CircuitBreaker("api")
        function: Any = service.__call__
        call = breaker(retry(function)) if inside else retry(breaker(function))
        for _ in range(3):
            call()
        assert breaker.info().totals.failures == (0 if inside else 6)


@pytest.mark.parametrize(
    ("tracker", "reraise", "failures"),
    [
        (TypeOf(ConnectionError), False, 0),
        (CausedBy(ConnectionError), False, 1),
        (TypeOf(ConnectionError), True, 1),
    ],
    ids=["RetryError ignored", "by its cause", "reraise"],
)
def test_trackers_and_retry_errors(tracker: Any, reraise: bool, failures: int) -> None:
    service, breaker = Service(), CircuitBreaker("api", tracker=tracker)
    call = tenacity.retry(stop=tenacity.stop_after_attempt(2), reraise=reraise)(service.__call__)
    with pytest.raises(ConnectionError if reraise else tenacity.RetryError):
        breaker.call(call)
    totals = breaker.info().totals
    assert (totals.failures, totals.ignored) == (failures, 1 - failures)


def test_httpx_retries_in_both_orders() -> None:
    sent = []
    for inside in (False, True):
        requests: list[httpx.Request] = []

        def down(request: httpx.Request, requests: list[httpx.Request] = requests) -> Any:
            requests.append(request)
            return httpx.Response(503)

        def circuit(wrapped: httpx.BaseTransport) -> CircuitBreakerTransport:
            return CircuitBreakerTransport(
                wrapped, circuits=lambda host: CircuitBreaker(host, tripper=FailureStreak(2))
            )

        def retrying(wrapped: httpx.BaseTransport) -> httpx.BaseTransport:
            again = httpx_retries.Retry(total=TRIES - 1, status_forcelist=[503])
            return httpx_retries.RetryTransport(wrapped, retry=again)

        mock = httpx.MockTransport(down)
        transport = circuit(retrying(mock)) if inside else retrying(circuit(mock))
        with httpx.Client(transport=transport) as client:
            for _ in range(3):
                try:
                    client.get("http://shop.example/")
                except CircuitOpenError:
                    break
        sent.append(len(requests))
    assert sent == [2, 2 * TRIES]


# -- limits


class Full(Exception):
    """No slot is free."""


class Slots:
    """A semaphore that counts how often a slot was asked for, and never makes anybody wait."""

    def __init__(self, size: int) -> None:
        self.asked = 0
        self._slots = threading.BoundedSemaphore(size)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.asked += 1
        if not self._slots.acquire(blocking=False):
            raise Full
        try:
            yield
        finally:
            self._slots.release()


def test_a_full_house_says_nothing() -> None:
    slot, breaker = Slots(1), CircuitBreaker("api", tracker=TypeOf(ConnectionError))
    with slot():
        for _ in range(50):
            with pytest.raises(Full), breaker, slot():
                pass
    assert breaker.state is State.CLOSED
    assert breaker.info().totals.ignored == 50
    naive = CircuitBreaker("api")  # wrong: every exception is a failure, and this one, too
    with slot():
        for _ in range(10):
            with pytest.raises(Full), naive, slot():
                pass
    assert naive.state is State.OPEN


def test_refused_calls_take_no_slot() -> None:
    """Outside, hung calls hold the slots, and callers hear of these in place of the outage."""
    slot, breaker = Slots(2), CircuitBreaker("api", tracker=TypeOf(ConnectionError))
    hang, hanging = threading.Event(), threading.Barrier(3)

    def hangs() -> None:
        with breaker, slot():
            hanging.wait(60)
            hang.wait(60)

    threads = [threading.Thread(target=hangs) for _ in range(2)]
    for thread in threads:
        thread.start()
    hanging.wait(60)
    tripped(breaker)
    before = slot.asked
    for _ in range(10):
        with pytest.raises(CallNotPermittedError), breaker, slot():
            pass
    assert slot.asked == before
    for _ in range(10):
        with pytest.raises(Full), slot(), breaker:
            pass
    assert slot.asked == before + 10
    hang.set()
    for thread in threads:
        thread.join(60)
    assert breaker.info().totals.rejected == 10


@pytest.mark.anyio
async def test_a_capacity_limiter_inside() -> None:
    limiter = anyio.CapacityLimiter(2)
    breaker = AsyncCircuitBreaker("api", tracker=TypeOf(ConnectionError))
    most, full = 0, 0

    @breaker
    async def call() -> None:
        nonlocal most
        try:
            limiter.acquire_nowait()
        except anyio.WouldBlock as error:
            raise Full from error
        try:
            most = max(most, int(limiter.borrowed_tokens))
            await anyio.sleep(0.01)
        finally:
            limiter.release()

    async def caller() -> None:
        nonlocal full
        try:
            await call()
        except Full:
            full += 1

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(caller)
    totals = breaker.info().totals
    assert (most, totals.successes, totals.ignored, full) == (2, 2, 8, 8)
    assert limiter.borrowed_tokens == 0


def test_a_queue_inside_looks_slow() -> None:
    """Ten calls of 0.2 s through one slot: inside the breaker, the last one takes two seconds."""
    states = {}
    for inside in (False, True):

        async def main(inside: bool = inside) -> State:
            breaker = AsyncCircuitBreaker(
                "api", tripper=MinRequests(5) & SlowRate(0.5, 1.0), clock=trio.current_time
            )
            limiter = trio.CapacityLimiter(1)

            async def call() -> None:
                if inside:
                    async with breaker, limiter:
                        await trio.sleep(0.2)
                else:
                    async with limiter, breaker:
                        await trio.sleep(0.2)

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(call)
            return breaker.state

        states[inside] = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert states == {False: State.CLOSED, True: State.OPEN}


@pytest.mark.anyio
async def test_a_time_out_outside_proves_nothing() -> None:
    for inside in (False, True):
        breaker = AsyncCircuitBreaker("api")

        async def hangs(breaker: AsyncCircuitBreaker = breaker, inside: bool = inside) -> None:
            if inside:
                async with breaker:
                    with anyio.fail_after(0.01):
                        await anyio.sleep(60)
            with anyio.fail_after(0.01):
                async with breaker:
                    await anyio.sleep(60)

        with pytest.raises(TimeoutError):
            await hangs()
        totals = breaker.info().totals
        assert (totals.failures, totals.cancelled) == ((1, 0) if inside else (0, 1))


# -- the whole chain


@pytest.mark.usefixtures("fast_retries")
def test_the_whole_chain() -> None:
    """Retry, breaker, limiter, call; a full house is tried again, a refusal is not."""
    service, slot = Service(answers_each=2), Slots(1)
    breaker = CircuitBreaker("api", tracker=TypeOf(ConnectionError), tripper=FailureStreak(3))

    @stamina.retry(on=(ConnectionError, Full), attempts=TRIES)
    @breaker
    def call() -> str:
        with slot():
            return service()

    assert call() == "fine"
    assert (service.calls, slot.asked) == (2, 2)
    with slot(), pytest.raises(Full):
        call()
    assert (service.calls, slot.asked) == (2, 2 + 1 + TRIES)
    tripped(breaker)
    with pytest.raises(CallNotPermittedError):
        call()
    assert (service.calls, slot.asked, breaker.info().totals.rejected) == (2, 7, 1)
