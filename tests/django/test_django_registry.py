"""`breakers`: one set of circuits for the process, always that of the settings as they are."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from django.test import override_settings

from fluxgate import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.registry import AsyncCircuits, Registry, UnknownCircuitError
from fluxgate.retries import Cooldown
from fluxgate.testing import RecordedSignals, tripped
from fluxgate_django import breakers
from fluxgate_django.signals import circuit_opened
from fluxgate_httpx import CircuitBreakerTransport, CircuitOpenError


def test_both_fronts_of_one_circuit(fluxgate: dict[str, Any]) -> None:
    del fluxgate
    sync, asynchronous = breakers["payments"], breakers.asynchronous["payments"]
    assert type(sync) is CircuitBreaker
    assert type(asynchronous) is AsyncCircuitBreaker
    sync.call(int)

    async def main() -> int:
        return await asynchronous.call(asyncio.sleep, 0, 7)

    assert asyncio.run(main()) == 7
    assert sync.info().totals.successes == asynchronous.info().totals.successes == 2


def test_it_speaks_of_the_circuits_that_there_are() -> None:
    with override_settings(FLUXGATE={"BREAKERS": {"payments": {}}}):
        assert (list(breakers), len(breakers), "payments" in breakers) == ([], 0, False)
        assert breakers.get("payments") is None
        payments = breakers["payments"]
        assert (list(breakers), len(breakers), "payments" in breakers) == (["payments"], 1, True)
        assert breakers.items() == [("payments", payments)]
        assert breakers.values() == [payments]
        assert breakers.get("payments") is payments
        again = breakers.asynchronous
        assert list(again) == ["payments"]
        assert again.items() == [("payments", again["payments"])]
        assert "payments" in again
        assert breakers.config.names == ("payments",)


def test_what_was_saved_goes_on() -> None:
    """Also of circuits that are made later, and Django's signals tell of it."""
    heard: list[str] = []

    def hear(name: str, **_: Any) -> None:
        heard.append(name)

    with override_settings(FLUXGATE={}):
        tripped(breakers["made"])
        breakers["later"].force_open()
        saves = breakers.save()
    circuit_opened.connect(hear)
    try:
        with override_settings(FLUXGATE={}):
            assert breakers["made"].state == "closed"
            assert breakers.restore(saves) == ["made"]
            assert breakers["made"].state == "open"
            assert breakers["later"].state == "forced_open"
    finally:
        circuit_opened.disconnect(hear)
    assert heard == ["made", "later"]


def test_all_threads_have_the_same_circuit() -> None:
    found: list[CircuitBreaker] = []
    with override_settings(FLUXGATE={}):
        here = breakers["payments"]
        thread = threading.Thread(target=lambda: found.append(breakers["payments"]))
        thread.start()
        thread.join(20)
    assert found == [here]


def test_changed_settings_begin_with_no_circuits(signals: RecordedSignals) -> None:
    before = breakers["payments"]
    with override_settings(FLUXGATE={"DEFAULTS": {"RETRY": "Cooldown(5)", "LISTENERS": [signals]}}):
        inside = tripped(breakers["payments"])
        assert inside.policy.retry == Cooldown(5)
        assert inside is not before
        assert [signal.circuit_name for signal in signals] == ["payments"]
    assert breakers["payments"] is not inside
    assert inside.info().state == "open", "whoever holds it keeps it"


def test_each_circuit_has_its_own_window() -> None:
    with override_settings(FLUXGATE={"DEFAULTS": {"TRIPPER": "FailureStreak(1)"}}):
        tripped(breakers["payments"])
        assert breakers["stock"].info().metrics.total_count == 0


def test_strict_settings_refuse_names_they_do_not_have() -> None:
    settings = {"STRICT": True, "BREAKERS": {"payments": {}, "*.internal": {}}}
    with override_settings(FLUXGATE=settings):
        assert breakers["payments"].name == "payments"
        assert breakers["users.internal"].name == "users.internal"
        with pytest.raises(UnknownCircuitError, match=r"did you mean 'payments'\?"):
            breakers["paymnets"]
        with pytest.raises(UnknownCircuitError):
            breakers.asynchronous["paymnets"]


def test_names_without_settings_have_the_defaults() -> None:
    with override_settings(FLUXGATE={"DEFAULTS": {"RETRY": "Cooldown(5)"}}):
        assert breakers["search"].policy.retry == Cooldown(5)


def test_the_bound_is_a_setting() -> None:
    with override_settings(FLUXGATE={"MAX_CIRCUITS": 2}):
        for name in ("a", "b", "c"):
            breakers[name].call(int)
        assert breakers.max_circuits == 2
        assert len(breakers) == 2


def test_it_is_a_registry_for_whatever_takes_one() -> None:
    assert isinstance(breakers, Registry)
    assert isinstance(breakers.asynchronous, AsyncCircuits)
    upstream = httpx.MockTransport(lambda _: httpx.Response(500))
    client = httpx.Client(transport=CircuitBreakerTransport(upstream, registry=breakers))
    settings = {"BREAKERS": {"pay.example": {"TRIPPER": "FailureStreak(2)"}}}
    with override_settings(FLUXGATE=settings):  # after the client was made
        for _ in range(2):
            client.get("https://pay.example/")
        with pytest.raises(CircuitOpenError):
            client.get("https://pay.example/")
        assert breakers["pay.example"].state == "open"
    assert client.get("https://pay.example/").status_code == 500


def test_everything_a_registry_does_reaches_the_current_one() -> None:
    with override_settings(FLUXGATE={}):
        breakers.declare("payments", retry="Cooldown(5)")
        assert breakers["payments"].policy.retry == Cooldown(5)
        assert breakers.registry["payments"] is breakers["payments"]
        del breakers["payments"]
        assert list(breakers) == []
        breakers["payments"].call(int)
        breakers.clear()
        assert len(breakers) == 0
        assert breakers.strict is False
    public = {name for name in dir(Registry) if not name.startswith("_")}
    assert all(hasattr(breakers, name) for name in public)
