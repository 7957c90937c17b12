"""Numbers at the ends of their types: refused with the field's name, or the breaker works."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fluxgate import CallNotPermittedError, CircuitBreaker, State
from fluxgate.config import build
from fluxgate.errors import ConfigError
from fluxgate.permits import All, Permit, RampUp, Random
from fluxgate.retries import Backoff, Cooldown, Retry
from fluxgate.testing import LoadedDice, ManualClock
from fluxgate.trippers import (
    AvgLatency,
    Closed,
    FailureRate,
    FailureStreak,
    MinRequests,
    SlowRate,
    Tripper,
)
from fluxgate.windows import CountWindow, TimeWindow, Window

T = TypeVar("T")

FIELDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "CountWindow.size": lambda n: {"window": CountWindow(n)},
    "TimeWindow.size": lambda n: {"window": TimeWindow(n)},
    "TimeWindow.buckets": lambda n: {"window": TimeWindow(60, n)},
    "FailureRate.ratio": lambda n: {"tripper": FailureRate(n)},
    "SlowRate.ratio": lambda n: {"tripper": SlowRate(n, 1)},
    "SlowRate.threshold": lambda n: {"tripper": SlowRate(0.5, n)},
    "AvgLatency.threshold": lambda n: {"tripper": AvgLatency(n)},
    "FailureStreak.count": lambda n: {"tripper": FailureStreak(n)},
    "MinRequests.count": lambda n: {
        "tripper": MinRequests(n) & FailureRate(0.5),
        "window": TimeWindow(60),
    },
    "Cooldown.duration": lambda n: {"retry": Cooldown(n)},
    "Cooldown.jitter_ratio": lambda n: {"retry": Cooldown(1, n)},
    "Backoff.initial": lambda n: {"retry": Backoff(n, 2, 1e9)},
    "Backoff.multiplier": lambda n: {"retry": Backoff(1, n)},
    "Backoff.max_duration": lambda n: {"retry": Backoff(1e-9, 2, n)},
    "Backoff.jitter_ratio": lambda n: {"retry": Backoff(1, jitter_ratio=n)},
    "Random.ratio": lambda n: {"permit": Random(n)},
    "RampUp.initial": lambda n: {"permit": RampUp(n, 1, 60)},
    "RampUp.final": lambda n: {"permit": RampUp(1e-9, n, 60)},
    "RampUp.duration": lambda n: {"permit": RampUp(0.1, 1, n)},
    "max_half_open_calls": lambda n: {"max_half_open_calls": n},
    "probe_timeout": lambda n: {"probe_timeout": n},
    "buckets": lambda n: {"buckets": (n,)},
}
ENDS = [
    *(10**400, -(10**400), 10**5000, 5e-324, 2.3e-308, 1e-300, 1e300, 1.7e308, 10**30, 2**63),
    *(math.nan, math.inf, -math.inf, 0, 0.0, -0.0, 1, 1e-9, 1e9, 10**9, 10**7, 10**7 + 1, True),
]
numbers = st.one_of(
    st.sampled_from(ENDS),
    st.floats(),
    st.integers(),
    st.integers(1, 400).map(lambda digits: 10**digits),
    st.integers(1, 320).map(lambda digits: 10.0**-digits),
)


def attempted(
    make: Callable[[], T], errors: tuple[type[Exception], ...] = (TypeError, ValueError)
) -> tuple[T, str] | tuple[None, str]:
    """What was made, or the message of the error."""
    try:
        return make(), ""
    except errors as error:
        return None, str(error)


def exercised(breaker: CircuitBreaker, clock: ManualClock) -> None:
    """Good, slow and failing calls, an opening, probes; everything that can be read."""
    clock.advance(1e6)  # a machine that is up for long

    def failing() -> None:
        clock.advance(0.25)
        raise ConnectionError

    for _ in range(2):
        for _ in range(12):
            breaker.call(int)
            breaker.call(clock.advance, 2.0)
            with pytest.raises((ConnectionError, CallNotPermittedError)):
                breaker.call(failing)
            if breaker.state is not State.CLOSED:
                break
        breaker.open_for(1.0)
        info = breaker.info()
        assert info.retry_after is None or 0 <= info.retry_after <= 2e9
        clock.advance(info.retry_after or 0.0)
        for _ in range(3):
            with suppress(CallNotPermittedError):
                breaker.call(clock.advance, 0.5)
        breaker.reset()
    strategy: Window | Tripper | Retry | Permit
    policy = breaker.policy
    for strategy in (policy.window, policy.tripper, policy.retry, policy.permit):
        assert strategy.describe()


@pytest.mark.parametrize("field", FIELDS)
@settings(deadline=None, max_examples=40)
@given(number=numbers)
@example(number=10**400)
@example(number=10**5000)
@example(number=5e-324)
@example(number=1e300)
@example(number=10**30)
def test_refused_or_working(field: str, number: float) -> None:
    clock = ManualClock()

    def made() -> CircuitBreaker:
        given_settings: dict[str, Any] = {"permit": All(), **FIELDS[field](number)}
        return CircuitBreaker("x", **given_settings, clock=clock, dice=LoadedDice(0.5))

    breaker, refusal = attempted(made)
    if breaker is not None:
        exercised(breaker, clock)
    else:
        assert re.search(
            f"{field.rpartition('.')[2].removesuffix('s')}s? must |bucket|never reached", refusal
        )


@settings(deadline=None)
@given(number=numbers)
@example(number=10**400)
@example(number=5e-324)
def test_open_for_any_time(number: float) -> None:
    breaker = CircuitBreaker("x", clock=ManualClock())
    _, refusal = attempted(lambda: breaker.open_for(number))
    if refusal:
        assert re.search(r"open_for\(.*\): seconds must be", refusal)
        assert breaker.state is State.CLOSED
    else:
        assert breaker.info().retry_after == pytest.approx(number)


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: Cooldown(math.inf), "Cooldown(inf): duration must be 0, or 1e-9 to 1e9 seconds; "),
        (
            lambda: Cooldown(10**5000),
            "<Cooldown, whose repr() raises ValueError>: duration must be 0, or 1e-9 to 1e9",
        ),
        (lambda: SlowRate(0.5, 5e-324), "threshold must be 1e-9 to 1e9 seconds, not 5e-324"),
        (lambda: CountWindow(10**30), "size must be at most 10,000,000"),
        (lambda: TimeWindow(1e-5), "TimeWindow(1e-05): a bucket must last 1e-06 seconds or more"),
        (lambda: TimeWindow(1.0, 10**8), "buckets must be at most 10,000,000, not 100000000"),
        (lambda: Backoff(1, 10**400), "multiplier must be 1 to 1e9"),
        (lambda: Closed() & FailureStreak(10**8), "count must be at most 10,000,000"),
    ],
)
def test_the_bound_is_named(build_it: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build_it()


TEXTS = ["1e400", "-1e400", "nan", "inf", "9" * 5000, "1" + "0" * 400, "5e-324", "0x10", "", "1e9"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("key", ["probe_timeout", "max_half_open_calls", "buckets"])
def test_numbers_in_text(key: str, text: str) -> None:
    """As environment variables hold them."""
    clock = ManualClock()
    breaker, refusal = attempted(
        lambda: build("x", {key: text, "clock": clock, "permit": "All()"}), (ConfigError,)
    )
    if breaker is not None:
        exercised(breaker, clock)
    else:
        assert f"x.{key}: " in refusal
