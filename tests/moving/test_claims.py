"""What `docs/moving/` says of each peer, row by row, with the peer itself.

Run by the session `moving`, whose environment has the peers; elsewhere they are skipped.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

aiobreaker = pytest.importorskip("aiobreaker", reason="the session `moving` has the peers")
circuitbreaker = pytest.importorskip("circuitbreaker")
purgatory = pytest.importorskip("purgatory")
pybreaker = pytest.importorskip("pybreaker")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # aiobreaker's utcnow()


class NotFoundError(Exception):
    """An answer that isn't a failure."""


def down() -> None:
    raise ConnectionError


def missing() -> None:
    raise NotFoundError


def fine() -> str:
    return "fine"


def outcome(call: Callable[..., Any], *args: Any) -> object:
    try:
        return call(*args)
    except BaseException as error:
        return type(error)


# -- all of them


def sync_calls() -> dict[str, Callable[[Callable[..., Any]], object]]:
    """One breaker of each peer, with its defaults, as a function that calls through it."""
    factory = purgatory.SyncCircuitBreakerFactory()
    decorate = circuitbreaker.CircuitBreaker(name="a").decorate

    def through_purgatory(function: Callable[..., Any]) -> object:
        with factory.get_breaker("a"):
            return function()

    return {
        "aiobreaker": aiobreaker.CircuitBreaker().call,
        "circuitbreaker": lambda function: decorate(function)(),
        "purgatory": through_purgatory,
        "pybreaker": pybreaker.CircuitBreaker().call,
    }


@pytest.mark.parametrize("peer", sorted(sync_calls()))
def test_peers_count_failures_in_a_row(peer: str) -> None:
    call = sync_calls()[peer]
    for _ in range(100):  # every other call fails
        assert outcome(call, down) is ConnectionError
        assert outcome(call, fine) == "fine"
    for _ in range(5):
        outcome(call, down)
    assert outcome(call, fine) != "fine"


# -- pybreaker


def test_pybreaker_replaces_the_error() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=2)
    assert outcome(breaker.call, down) is ConnectionError
    assert outcome(breaker.call, down) is pybreaker.CircuitBreakerError
    keeps = pybreaker.CircuitBreaker(fail_max=1, throw_new_error_on_trip=False)
    assert outcome(keeps.call, down) is ConnectionError


def test_pybreaker_excluded_is_success() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=2, exclude=[NotFoundError])
    outcome(breaker.call, down)
    outcome(breaker.call, missing)
    assert breaker.fail_counter == 0


def test_pybreaker_one_call_at_a_time() -> None:
    breaker = pybreaker.CircuitBreaker()
    inside, go_on = threading.Event(), threading.Event()

    def holds() -> None:
        inside.set()
        go_on.wait(60)

    first = threading.Thread(target=breaker.call, args=(holds,))
    second = threading.Thread(target=breaker.call, args=(fine,))
    first.start()
    inside.wait(60)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go_on.set()
    first.join(60)
    second.join(60)
    assert not second.is_alive()


def test_pybreaker_coroutine_succeeds() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=1)

    @breaker
    async def call() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(call())
    assert breaker.current_state == "closed"


def test_pybreaker_counts_interrupts() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=2)

    def interrupted() -> None:
        raise KeyboardInterrupt

    assert outcome(breaker.call, interrupted) is KeyboardInterrupt
    assert breaker.fail_counter == 1


def test_pybreaker_success_threshold() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=1, reset_timeout=0, success_threshold=3)
    outcome(breaker.call, down)
    states = []
    for _ in range(3):
        breaker.call(fine)
        states.append(breaker.current_state)
    assert states == ["half-open", "half-open", "closed"]


def test_pybreaker_wall_clock() -> None:
    breaker = pybreaker.CircuitBreaker(fail_max=1)
    outcome(breaker.call, down)
    with mock.patch.object(pybreaker, "datetime", wraps=pybreaker.datetime) as clock:
        clock.now.return_value = pybreaker.datetime.now(pybreaker.UTC) + timedelta(hours=1)
        assert breaker.call(fine) == "fine"


def test_pybreaker_asks_redis_each_time() -> None:
    redis = mock.Mock()
    redis.get.return_value = b"closed"
    storage = pybreaker.CircuitRedisStorage("closed", redis)
    breaker = pybreaker.CircuitBreaker(state_storage=storage)
    redis.get.reset_mock()
    breaker.call(fine)
    assert redis.get.called


# -- circuitbreaker


def test_circuitbreaker_unexpected_closes() -> None:
    breaker = circuitbreaker.CircuitBreaker(
        failure_threshold=2, expected_exception=ConnectionError, name="a"
    )
    outcome(breaker.call, down)
    outcome(breaker.call, missing)
    assert breaker.failure_count == 0


def test_circuitbreaker_cancelled_succeeds() -> None:
    breaker = circuitbreaker.CircuitBreaker(failure_threshold=2, name="b")
    outcome(breaker.call, down)

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(breaker.decorate(cancelled)())
    assert breaker.failure_count == 0


def test_circuitbreaker_half_open_crowd() -> None:
    breaker = circuitbreaker.CircuitBreaker(failure_threshold=1, recovery_timeout=0.01, name="c")
    outcome(breaker.call, down)
    time.sleep(0.02)
    let_in = 0

    async def probe() -> None:
        nonlocal let_in
        let_in += 1
        await asyncio.sleep(0.01)

    async def main() -> None:
        call = breaker.decorate(probe)
        await asyncio.gather(*(call() for _ in range(20)))

    asyncio.run(main())
    assert let_in == 20


def test_circuitbreaker_late_success() -> None:
    breaker = circuitbreaker.CircuitBreaker(failure_threshold=1, name="d")

    def opens_meanwhile() -> None:
        outcome(breaker.call, down)
        assert breaker.opened

    breaker.call(opens_meanwhile)
    assert breaker.closed


def test_circuitbreaker_block_never_refuses() -> None:
    breaker = circuitbreaker.CircuitBreaker(failure_threshold=1, name="e")
    outcome(breaker.call, down)
    assert breaker.opened
    with breaker:
        entered = True
    assert entered
    outcome(breaker.call, down)
    assert breaker.opened
    assert breaker.call(fine) == "fine"


def test_circuitbreaker_loses_counts() -> None:
    """No lock: two threads that read the count at once write the same number."""
    assert not [name for name in vars(circuitbreaker.CircuitBreaker(name="f")) if "lock" in name]


# -- aiobreaker


def test_aiobreaker_replaces_the_error() -> None:
    breaker = aiobreaker.CircuitBreaker(fail_max=1)
    with pytest.raises(aiobreaker.CircuitBreakerError) as caught:
        breaker.call(down)
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_aiobreaker_excluded_is_success() -> None:
    breaker = aiobreaker.CircuitBreaker(fail_max=2, exclude=[NotFoundError])
    outcome(breaker.call, down)
    outcome(breaker.call, missing)
    assert breaker.fail_counter == 0


def test_aiobreaker_half_open_crowd() -> None:
    breaker = aiobreaker.CircuitBreaker(fail_max=1, timeout_duration=timedelta(seconds=0.01))
    outcome(breaker.call, down)
    time.sleep(0.02)
    let_in = 0

    @breaker
    async def probe() -> None:
        nonlocal let_in
        let_in += 1
        await asyncio.sleep(0.01)

    async def main() -> None:
        await asyncio.gather(*(probe() for _ in range(20)))

    asyncio.run(main())
    assert let_in == 20


def test_aiobreaker_late_failure() -> None:
    breaker = aiobreaker.CircuitBreaker(fail_max=1)
    opened = []

    def opens_meanwhile() -> None:
        outcome(breaker.call, down)
        opened.append(breaker._state_storage.opened_at)
        time.sleep(0.01)
        raise ConnectionError

    outcome(breaker.call, opens_meanwhile)
    assert breaker._state_storage.opened_at > opened[0]


def test_aiobreaker_async_generator() -> None:
    breaker = aiobreaker.CircuitBreaker(fail_max=1)

    @breaker
    async def pages() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError

    async def main() -> None:
        async for _ in pages():
            pass

    for _ in range(3):
        with pytest.raises(ConnectionError):
            asyncio.run(main())
    assert breaker.current_state is aiobreaker.CircuitBreakerState.CLOSED


def test_aiobreaker_has_no_block() -> None:
    assert not hasattr(aiobreaker.CircuitBreaker(), "__enter__")
    assert not hasattr(aiobreaker.CircuitBreaker(), "__aenter__")


def test_aiobreaker_clocks_are_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hours west of Greenwich a circuit that has just opened says when it ends: wrongly."""
    monkeypatch.setenv("TZ", "UTC+3")
    time.tzset()
    try:
        breaker = aiobreaker.CircuitBreaker(timeout_duration=timedelta(seconds=60))
        breaker.open()
        assert breaker.time_until_open > timedelta(hours=2)
    finally:
        monkeypatch.undo()
        time.tzset()


# -- purgatory


def test_purgatory_excluded_is_success() -> None:
    circuits = purgatory.SyncCircuitBreakerFactory(exclude=[NotFoundError])
    for fails in (down, missing):
        with pytest.raises((ConnectionError, NotFoundError)), circuits.get_breaker("a"):
            fails()
    assert circuits.get_breaker("a").context.failure_count == 0


def test_purgatory_counts_cancellations() -> None:
    async def main() -> int:
        circuits = purgatory.AsyncCircuitBreakerFactory()
        with pytest.raises(asyncio.CancelledError):
            async with await circuits.get_breaker("a"):
                raise asyncio.CancelledError
        return int((await circuits.get_breaker("a")).context.failure_count)

    assert asyncio.run(main()) == 1


def test_purgatory_half_open_crowd() -> None:
    async def main() -> int:
        circuits = purgatory.AsyncCircuitBreakerFactory(default_threshold=1, default_ttl=0.01)
        with pytest.raises(ConnectionError):
            async with await circuits.get_breaker("a"):
                down()
        await asyncio.sleep(0.02)
        let_in = 0

        @circuits("a")
        async def probe() -> None:
            nonlocal let_in
            let_in += 1
            await asyncio.sleep(0.01)

        await asyncio.gather(*(probe() for _ in range(20)))
        return let_in

    assert asyncio.run(main()) == 20


def test_purgatory_wall_clock() -> None:
    circuits = purgatory.SyncCircuitBreakerFactory(default_threshold=1)
    with pytest.raises(ConnectionError), circuits.get_breaker("a"):
        down()
    with (
        mock.patch("time.time", return_value=time.time() + 3600),
        circuits.get_breaker("a") as breaker,
    ):
        assert breaker.context.state == "half-opened"


def test_purgatory_keeps_first_settings() -> None:
    circuits = purgatory.SyncCircuitBreakerFactory()
    circuits.get_breaker("a", threshold=3, ttl=10)
    context = circuits.get_breaker("a", threshold=9, ttl=90).context
    assert (context.threshold, context.ttl) == (3, 10)


def test_purgatory_keeps_circuits_for_ever() -> None:
    circuits = purgatory.SyncCircuitBreakerFactory()
    for number in range(5000):
        circuits.get_breaker(str(number))
    assert len(circuits.uow.contexts.breakers) == 5000
