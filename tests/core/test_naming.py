"""Reporting an error can't raise: whatever users hand in, the caller's result or error arrives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, Policy, State
from fluxgate._naming import LONGEST, printable, safe_repr, safe_str
from fluxgate.listeners import Background, LogListener
from fluxgate.permits import Permit
from fluxgate.registry import Registry
from fluxgate.retries import Retry
from fluxgate.trackers import Tracker
from fluxgate.trippers import FailureStreak, Tripper


class Unshowable:
    """Raises when it is called, and when it is shown."""

    def __repr__(self) -> str:
        raise RuntimeError("detached")

    def __call__(self, *_: object) -> object:
        raise ValueError("called")

    def method(self, *_: object) -> object:
        raise ValueError("called")


class Refusing(Unshowable):
    def __call__(self, *_: object) -> object:
        return None

    def rejected(self, error: CallNotPermittedError) -> object:
        raise ValueError("rejected")


class Held:
    """A strategy that holds something which can't be shown."""

    def __init__(self) -> None:
        self.held = Unshowable()


class RaisingTracker(Held, Tracker):
    def tracks(self, error: Exception) -> bool:
        raise ValueError("tracks")


class FiringTripper(Held, Tripper):
    def fires(self, metrics: object) -> bool:
        return True


class RaisingTripper(Held, Tripper):
    def fires(self, metrics: object) -> bool:
        raise ValueError("fires")


class MisnamedTripper(Tripper):
    __match_args__ = ("limit",)

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def fires(self, metrics: Any) -> bool:
        return bool(metrics.failure_count >= self._limit)


class NegativeRetry(Held, Retry):
    def delay(self, reopens: int) -> float:
        return -1.0


class RaisingPermit(Held, Permit):
    def ratio(self, elapsed: float) -> float:
        raise ValueError("ratio")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("str")

    __repr__ = __str__


def fail() -> None:
    raise ZeroDivisionError


def fail_unprintably() -> None:
    raise Unprintable


ONE = FailureStreak(1)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"listeners": [Unshowable()], "tripper": ONE}, id="listener"),
        pytest.param({"listeners": [Unshowable().method], "tripper": ONE}, id="bound method"),
        pytest.param({"tracker": RaisingTracker()}, id="tracker"),
        pytest.param({"tripper": FiringTripper()}, id="tripper fires"),
        pytest.param({"tripper": RaisingTripper()}, id="tripper raises"),
        pytest.param({"tripper": MisnamedTripper(1)}, id="tripper misnamed"),
        pytest.param({"tripper": ONE, "shadow": FiringTripper()}, id="shadow"),
        pytest.param({"tripper": ONE, "retry": NegativeRetry()}, id="retry"),
        pytest.param({"tripper": ONE, "permit": RaisingPermit()}, id="permit"),
    ],
)
def test_a_failure_arrives(settings: dict[str, Any]) -> None:
    breaker = CircuitBreaker("x", **settings)
    with pytest.raises(ZeroDivisionError):
        breaker.call(fail)
    assert breaker.info().name == "x"


def test_a_misnamed_tripper_opens() -> None:
    breaker = CircuitBreaker("x", tripper=MisnamedTripper(2))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            breaker.call(fail)
    assert breaker.state is State.OPEN
    assert "MisnamedTripper" in str(breaker.info().last_trip)


def test_a_result_arrives() -> None:
    assert CircuitBreaker("x", result_tracker=Unshowable()).call(lambda: 5) == 5


@pytest.mark.parametrize("error_messages", [False, True])
def test_an_error_that_cannot_be_shown_arrives(error_messages: bool) -> None:
    breaker = CircuitBreaker("x", tripper=ONE, error_messages=error_messages)
    with pytest.raises(Unprintable):
        breaker.call(fail_unprintably)
    trip = breaker.info().last_trip
    assert trip is not None
    assert "Unprintable" in trip.details


def test_a_refusal_arrives() -> None:
    breaker = CircuitBreaker("x", listeners=[Refusing()])
    breaker.force_open()
    with pytest.raises(CallNotPermittedError):
        breaker.call(lambda: 5)


def test_background_is_named() -> None:
    with_background = Background(Unshowable())
    assert "Unshowable" in repr(with_background)
    with_background.close()


def test_closing_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Closing(Unshowable):
        def close(self) -> None:
            raise ValueError("close")

    registry = Registry({"x": {"listeners": [Closing(), LogListener()]}})
    with caplog.at_level(logging.ERROR, "fluxgate"):
        registry.close()
    assert "Closing, whose repr() raises RuntimeError" in caplog.text


@pytest.mark.parametrize(
    "build",
    [
        lambda: CircuitBreaker("x", listeners=[Unshowable(), 5]),  # type: ignore[list-item]
        lambda: CircuitBreaker("x", clock=[Unshowable()]),  # type: ignore[arg-type]
        lambda: Policy(tracker=Unshowable()),  # type: ignore[arg-type]
        lambda: Policy(retry=Unshowable()),  # type: ignore[arg-type]
        lambda: Policy(buckets=Unshowable()),  # type: ignore[arg-type]
    ],
    ids=["listeners", "clock", "tracker", "retry", "buckets"],
)
def test_a_mistake_is_named(build: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="must be"):
        build()


@pytest.mark.parametrize("show", [safe_repr, safe_str])
def test_names_are_bounded_lines(show: Callable[[object], str]) -> None:
    shown = show("a\nb\x1b[31m\u202e\udce9" + "x" * 1000)
    assert shown.isprintable()
    assert len(shown) == LONGEST


def test_printable_escapes() -> None:
    assert printable("a\x1b\n\u202e\udce9é한") == "a\\x1b\\n\\u202e\\udce9é한"
    assert printable("x" * 1000, None) == "x" * 1000
