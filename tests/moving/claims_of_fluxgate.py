"""What `docs/moving/fluxgate.md` says of PyPI's fluxgate, in an environment that has it.

It needs no test framework and imports nothing of ours, whose import name is the same. The session
`moving` runs it: each function is one row of the page's table.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker  # PyPI's
from fluxgate.permits import All
from fluxgate.retries import Always, Cooldown
from fluxgate.trackers import TypeOf
from fluxgate.trippers import Closed, FailureRate, MinRequests, SlowRate
from fluxgate.windows import TimeWindow


def down() -> None:
    raise ConnectionError


def fine() -> str:
    return "fine"


def outcome(call: Callable[..., Any], *args: Any) -> object:
    try:
        return call(*args)
    except Exception as error:
        return type(error)


def tripped(**settings: Any) -> CircuitBreaker:
    settings = {"permit": All(), "retry": Always(), **settings}
    breaker = CircuitBreaker(**settings)
    for _ in range(100):
        if breaker.info().state == "open":
            return breaker
        outcome(breaker.call, down)
    raise AssertionError("it stays closed")


def the_first_success_closes_it() -> None:
    breaker = tripped(tripper=MinRequests(10) & FailureRate(0.5))
    breaker.call(fine)
    assert breaker.info().state == "closed"


def a_failed_probe_below_the_minimum_leaves_it_half_open() -> None:
    breaker = tripped(tripper=MinRequests(10) & FailureRate(0.5))
    for _ in range(9):
        outcome(breaker.call, down)
        assert breaker.info().state == "half_open"


def async_probes_queue() -> None:
    async def main() -> list[str]:
        breaker = AsyncCircuitBreaker(
            tripper=Closed() & MinRequests(1) & FailureRate(0.5),
            retry=Always(),
            permit=All(),
            tracker=TypeOf(ConnectionError),
            max_half_open_calls=1,
        )
        order = []

        async def async_down() -> None:
            raise ConnectionError

        async def probe(name: str) -> None:
            order.append(name)
            await asyncio.sleep(0.05)
            raise LookupError  # untracked: it stays half-open

        with contextlib.suppress(ConnectionError):
            await breaker.call(async_down)
        both = [breaker.call(probe, "first"), breaker.call(probe, "second")]
        ends = await asyncio.gather(*both, return_exceptions=True)
        assert [type(end) for end in ends] == [LookupError, LookupError]  # none was refused
        return order

    assert asyncio.run(main()) == ["first", "second"]


def a_late_result_counts_in_the_new_state() -> None:
    """The call begins while closed, and succeeds while its circuit is open."""
    breaker = CircuitBreaker(tripper=MinRequests(1) & FailureRate(0.5), retry=Cooldown(60.0))

    def opens_meanwhile() -> str:
        outcome(breaker.call, down)
        assert breaker.info().state == "open"
        return "late"

    breaker.call(opens_meanwhile)
    assert breaker.info().metrics.total_count == 1  # of the window that the opening emptied


def a_time_out_is_never_slow() -> None:
    breaker = CircuitBreaker(tripper=MinRequests(1) & SlowRate(0.5, threshold=0.01))

    def times_out() -> None:
        time.sleep(0.02)
        raise TimeoutError

    outcome(breaker.call, times_out)
    metrics = breaker.info().metrics
    assert (breaker.info().state, metrics.slow_rate(0.01), metrics.total_duration) == (
        "closed",
        0.0,
        0.0,
    )


def old_seconds_count() -> None:
    breaker = CircuitBreaker(window=TimeWindow(10), tripper=MinRequests(100) & FailureRate(0.5))
    with mock.patch("time.time", return_value=1_000.0):
        outcome(breaker.call, down)
    with mock.patch("time.time", return_value=5_000.0):
        assert breaker.info().metrics.failure_count == 1


def jitter_is_drawn_at_each_call() -> None:
    retry = Cooldown(10.0, jitter_ratio=0.5)
    with (
        mock.patch("time.time", return_value=8.0),
        mock.patch("fluxgate.retries.uniform", side_effect=[0.5, 0.0, -0.5]),
    ):
        assert [retry(0.0, 0) for _ in range(3)] == [False, False, True]


def the_wall_clock_moves_it() -> None:
    breaker = CircuitBreaker(
        tripper=Closed() & MinRequests(1) & FailureRate(0.5), retry=Cooldown(60.0), permit=All()
    )
    outcome(breaker.call, down)
    assert outcome(breaker.call, fine) is CallNotPermittedError
    with mock.patch("time.time", return_value=time.time() + 3600):
        assert outcome(breaker.call, fine) == "fine"


def generators_are_not_protected() -> None:
    breaker = CircuitBreaker(tripper=Closed() & MinRequests(1) & FailureRate(0.5))

    @breaker
    def pages() -> Any:
        yield 1
        raise ConnectionError

    outcome(list, pages())
    assert breaker.info().metrics.failure_count == 0
    assert not hasattr(breaker, "__enter__")


def an_async_fallback_is_not_awaited() -> None:
    async def main() -> bool:
        breaker = AsyncCircuitBreaker()

        async def instead(_: Exception) -> str:
            return "instead"

        async def async_down() -> None:
            raise ConnectionError

        answer = await breaker.call_with_fallback(async_down, instead)
        unawaited = asyncio.iscoroutine(answer)
        answer.close()
        return unawaited

    assert asyncio.run(main())


CLAIMS = (
    the_first_success_closes_it,
    a_failed_probe_below_the_minimum_leaves_it_half_open,
    async_probes_queue,
    a_late_result_counts_in_the_new_state,
    a_time_out_is_never_slow,
    old_seconds_count,
    jitter_is_drawn_at_each_call,
    the_wall_clock_moves_it,
    generators_are_not_protected,
    an_async_fallback_is_not_awaited,
)

if __name__ == "__main__":
    for claim in CLAIMS:
        claim()
        print(f"{claim.__name__}: so it is")
