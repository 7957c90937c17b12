"""Django's signals: what circuits tell receivers, and what receivers can't spoil."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import override_settings

from fluxgate import CallNotPermittedError, CircuitBreaker, State
from fluxgate.testing import ManualClock, RecordedSignals, tripped
from fluxgate_django import breakers, circuit
from fluxgate_django.signals import (
    announce,
    circuit_closed,
    circuit_half_opened,
    circuit_opened,
    circuit_rejected,
)

ALL = {
    "opened": circuit_opened,
    "half-opened": circuit_half_opened,
    "closed": circuit_closed,
    "rejected": circuit_rejected,
}
Heard = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Everything that is sent, by name, with what it is sent with."""
    news: Heard = []

    def receiver(what: str) -> Callable[..., None]:
        return lambda **sent: news.append((what, sent))

    receivers = {what: receiver(what) for what in ALL}
    for what, signal in ALL.items():
        signal.connect(receivers[what])
    yield news
    for what, signal in ALL.items():
        signal.disconnect(receivers[what])


@contextmanager
def connected(signal: Any, receiver: Callable[..., object]) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def test_a_whole_outage(heard: Heard, fluxgate: dict[str, Any], clock: ManualClock) -> None:
    del fluxgate
    payments = tripped(breakers["payments"])
    clock.advance(30)
    for _ in range(2):
        payments.call(int)
    assert [what for what, _ in heard] == ["opened", "half-opened", "closed"]
    first = heard[0][1]
    assert first["sender"] is CircuitBreaker
    assert first["name"] == "payments"
    assert (first["transition"].old_state, first["transition"].new_state) == (
        State.CLOSED,
        State.OPEN,
    )
    assert "FailureRate(0.5)" in str(first["transition"].reason)


def test_a_failed_probe_opens_it_again(
    heard: Heard, fluxgate: dict[str, Any], clock: ManualClock
) -> None:
    del fluxgate
    payments = tripped(breakers["payments"])
    clock.advance(30)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            payments.call(lambda: 1 / 0)
    assert [what for what, _ in heard] == ["opened", "half-opened", "opened"]
    assert heard[-1][1]["transition"].old_state is State.HALF_OPEN


def test_what_is_done_by_hand(heard: Heard, fluxgate: dict[str, Any]) -> None:
    del fluxgate
    payments = breakers["payments"]
    payments.force_open()
    payments.disable()
    payments.metrics_only()
    for _ in range(3):  # would open, and says so to listeners alone
        with pytest.raises(ZeroDivisionError):
            payments.call(lambda: 1 / 0)
    payments.reset()
    assert [what for what, _ in heard] == ["opened", "closed"]


def test_what_would_be_is_for_listeners_alone(heard: Heard, signals: RecordedSignals) -> None:
    settings = {"DEFAULTS": {"SHADOW": "FailureStreak(1)", "LISTENERS": [signals]}}
    with override_settings(FLUXGATE=settings), pytest.raises(ZeroDivisionError):
        breakers["payments"].call(lambda: 1 / 0)
    assert [str(signal.kind) for signal in signals] == ["would_open"]
    assert heard == []


def test_whatever_listeners_the_settings_have(heard: Heard, signals: RecordedSignals) -> None:
    settings = {
        "DEFAULTS": {"LISTENERS": [signals]},
        "BREAKERS": {
            "own": {"Listeners": [signals]},
            "none": {"LISTENERS": ()},
            "made": lambda name: CircuitBreaker(name, listeners=[signals]),
            "made with it": lambda name: CircuitBreaker(name, listeners=[announce]),
        },
    }
    with override_settings(FLUXGATE=settings):
        for name in ("default", "own", "none", "made", "made with it"):
            breakers[name].force_open()
    names = ["default", "own", "none", "made", "made with it"]
    assert [sent["name"] for _, sent in heard] == names, "each once"
    assert [signal.circuit_name for signal in signals] == ["default", "own", "made"]


@pytest.mark.parametrize("settings", [{}, {"DEFAULTS": {"RETRY": "Never()"}}])
def test_without_listeners_in_the_settings(settings: dict[str, Any], heard: Heard) -> None:
    with override_settings(FLUXGATE=settings):
        breakers["payments"].force_open()
    assert [what for what, _ in heard] == ["opened"]


def test_keys_in_lower_case_are_listeners_too(heard: Heard, signals: RecordedSignals) -> None:
    with override_settings(FLUXGATE={"DEFAULTS": {"listeners": [signals]}}):
        breakers["payments"].force_open()
    assert len(heard) == len(list(signals)) == 1


def test_a_refusal_is_told_once(heard: Heard, opened: Callable[[str], CircuitBreaker]) -> None:
    opened("search")
    heard.clear()

    @circuit("search")
    def inner() -> None:
        raise AssertionError("it is open")

    @circuit("outer")
    def outer() -> None:
        inner()

    with pytest.raises(CallNotPermittedError) as caught:
        outer()
    assert heard == [
        (
            "rejected",
            {
                "signal": circuit_rejected,
                "sender": CircuitBreaker,
                "name": "search",
                "error": caught.value,
                "request": None,
            },
        )
    ]


def test_a_receiver_that_raises_spoils_nothing(
    heard: Heard, fluxgate: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    del fluxgate

    def broken(**_: object) -> None:
        raise ValueError("receiver broke")

    with connected(circuit_opened, broken), caplog.at_level(logging.ERROR, "django.dispatch"):
        breakers["payments"].force_open()
    assert [what for what, _ in heard] == ["opened"]
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        "receiver broke"
    ]


def test_a_receiver_may_call_back(fluxgate: dict[str, Any], heard: Heard) -> None:
    del fluxgate

    def undo(name: str, **_: object) -> None:
        breakers[name].reset()

    with connected(circuit_opened, undo):
        breakers["payments"].force_open()
    assert breakers["payments"].state is State.CLOSED
    assert [what for what, _ in heard] == ["opened", "closed"]


def test_an_async_receiver_is_refused_where_it_is_connected() -> None:
    async def slow(**_: object) -> None: ...

    with pytest.raises(TypeError, match=r"receiver .*slow is async.*a function that is not"):
        circuit_opened.connect(slow)
    assert not circuit_opened.has_listeners()
