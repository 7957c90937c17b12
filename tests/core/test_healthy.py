"""`healthy=`: exceptions that show that the dependency works."""

from __future__ import annotations

from typing import Any

import pytest

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, ConfigError, State
from fluxgate.config import build
from fluxgate.errors import CallNotPermittedError
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, tripped
from fluxgate.trackers import Custom, TypeOf
from fluxgate.trippers import FailureRate, FailureStreak, MinRequests


class NotFoundError(Exception):
    """An answer."""


NOT_FOUND, DOWN = NotFoundError(), ConnectionError()


def ended(error: Exception, **settings: Any) -> tuple[int, int, int]:
    """Successes, failures and ignored calls after one that raises `error`."""
    breaker = CircuitBreaker("x", healthy=TypeOf(NotFoundError), **settings)

    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        breaker.call(call)
    totals = breaker.info().totals
    return totals.successes, totals.failures, totals.ignored


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (NOT_FOUND, (1, 0, 0)),
        (DOWN, (0, 1, 0)),
        (KeyError(), (0, 0, 1)),
        (ExceptionGroup("", [NOT_FOUND, ExceptionGroup("", [NOT_FOUND])]), (1, 0, 0)),
        (ExceptionGroup("", [NOT_FOUND, DOWN]), (0, 1, 0)),
        (ExceptionGroup("", [NOT_FOUND, KeyError()]), (0, 0, 1)),
        (StopIteration(), (1, 0, 0)),
    ],
    ids=range(7),
)
def test_outcomes(error: Exception, counts: tuple[int, int, int]) -> None:
    assert ended(error, tracker=TypeOf(ConnectionError)) == counts


def test_it_is_asked_before_the_tracker() -> None:
    assert ended(NOT_FOUND) == (1, 0, 0)  # the default tracker takes every exception


def test_the_rest_of_a_group_is_the_cause() -> None:
    """Whatever the tracker would make of an answer: it isn't asked about one."""
    breaker = CircuitBreaker("x", healthy=TypeOf(NotFoundError), tripper=FailureStreak(1))
    breaker.attempt().raised(ExceptionGroup("", [NOT_FOUND, DOWN]))
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.errors == (("ConnectionError", 1),)


def test_a_refusal_is_ignored() -> None:
    inner = CircuitBreaker("inner")
    inner.force_open()
    breaker = CircuitBreaker("x", healthy=TypeOf(Exception))
    with pytest.raises(CallNotPermittedError):
        breaker.call(inner.call, int)
    assert breaker.info().totals.ignored == 1


def test_one_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def wrong(error: Exception) -> bool:
        raise LookupError(error)

    breaker = CircuitBreaker("x", healthy=Custom(wrong))
    with pytest.raises(ConnectionError), breaker:
        raise DOWN
    assert breaker.info().totals.ignored == 1
    assert "healthy Custom(" in caplog.text


def test_not_found_closes_a_half_open_circuit() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(
        "x",
        healthy=TypeOf(NotFoundError),
        tripper=FailureStreak(2),
        retry=Cooldown(5),
        permit=All(),
        clock=clock,
    )
    tripped(breaker)
    clock.advance(5)
    with pytest.raises(NotFoundError), breaker:
        raise NOT_FOUND
    assert breaker.state is State.CLOSED


def test_few_failures_among_many_answers() -> None:
    tripper = MinRequests(10) & FailureRate(0.5)
    breaker = CircuitBreaker("x", healthy=TypeOf(NotFoundError), tripper=tripper)
    for number in range(400):
        error = DOWN if number % 40 == 39 else NOT_FOUND
        with pytest.raises(type(error)), breaker:
            raise error
    assert breaker.state is State.CLOSED
    assert breaker.info().metrics.failure_rate == pytest.approx(0.025, abs=0.01)


@pytest.mark.anyio
async def test_on_the_async_front() -> None:
    breaker = AsyncCircuitBreaker("x", healthy=TypeOf(NotFoundError))

    async def call() -> None:
        raise NOT_FOUND

    with pytest.raises(NotFoundError):
        await breaker.call(call)
    assert breaker.info().totals.successes == 1


def test_in_settings() -> None:
    breaker = build("x", {"HEALTHY": 'TypeOf("LookupError") & ~TypeOf("KeyError")'})
    assert repr(breaker.policy.healthy) == 'TypeOf("LookupError") & ~TypeOf("KeyError")'
    assert build("x", {"healthy": None}).policy.healthy is None
    with pytest.raises(ConfigError, match=r"x\.healthy: `FailureRate"):
        build("x", {"healthy": "FailureRate(0.5)"})
    with pytest.raises(TypeError, match="healthy must be a Tracker"):
        CircuitBreaker("x", healthy="TypeOf()")  # type: ignore[arg-type]
