"""A refusal that goes to another process as text (Celery's JSON) says the same there."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, Reason, State
from fluxgate.permits import All
from fluxgate.problem import Problem, retry_after
from fluxgate.testing import ManualClock, tripped

REASON = Reason(
    "FailureRate(0.5)", 0.62, 100, "CountWindow(100)", (("httpx.ConnectTimeout: secret", 58),)
)
WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "repr": lambda error: type(error)(*json.loads(json.dumps(error.args, default=repr))),
    "str": lambda error: type(error)(*json.loads(json.dumps(error.args, default=str))),
    "all repr": lambda error: type(error)(*map(repr, error.args)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", [State.OPEN, State.HALF_OPEN, State.FORCED_OPEN])
def test_it_says_the_same(way: str, state: State) -> None:
    error = CallNotPermittedError("payments", state, 12.5 if state is State.OPEN else None, REASON)
    again = WAYS[way](error)
    assert again.state is state
    assert again.retry_after == error.retry_after
    assert isinstance(again.reason, Reason)
    if way != "all repr":  # where even the name has quotes about it
        assert str(again) == str(error)
        assert Problem.of(again).as_dict() == Problem.of(error).as_dict()


@pytest.mark.parametrize("way", ["pickle", "repr"])
def test_the_reason_is_whole(way: str) -> None:
    again = WAYS[way](CallNotPermittedError("payments", State.OPEN, 1.0, REASON))
    assert again.reason == REASON
    detail = Problem.of(again, show_name=True).detail
    assert "58 × httpx.ConnectTimeout)" in detail
    assert "secret" not in detail


@pytest.mark.parametrize(
    ("given", "clause"),
    [
        ("the database is down", "the database is down"),
        (["FailureRate(0.5)", 0.62], "['FailureRate(0.5)', 0.62]"),
        (
            "Reason(clause='FailureRate(0.5)', errors=(('E: secret', 3),",
            "a reason that can't be read",
        ),
        ("Reason(colour='red')", "a reason that can't be read"),
        ("Reason(clause=secret())", "a reason that can't be read"),
    ],
)
def test_any_text_is_a_reason(given: Any, clause: str) -> None:
    error = CallNotPermittedError("payments", "open", 5, given)  # type: ignore[arg-type]
    assert error.reason == Reason(clause)
    assert f"({clause})" in str(error)
    assert clause in Problem.of(error, show_name=True).detail


@pytest.mark.parametrize(
    ("given", "seconds", "header"),
    [(5, 5.0, 5), ("2.5", 2.5, 3), ("soon", None, None), ("inf", float("inf"), None)],
)
def test_seconds_by_another_name(given: Any, seconds: float | None, header: int | None) -> None:
    error = CallNotPermittedError("payments", State.OPEN, given)
    assert error.retry_after == seconds
    assert retry_after(error) == header


def test_half_open_through_json() -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("payments", clock=clock, permit=All(), max_half_open_calls=1)
    tripped(breaker)
    clock.advance(60)
    with breaker.attempt(), pytest.raises(CallNotPermittedError) as caught:
        Context().run(breaker.call, int)  # another caller's: ours would be a part of the probe
    again = WAYS["repr"](caught.value)
    assert str(again) == str(caught.value)
    assert "try again shortly" in Problem.of(again, show_name=True).detail
