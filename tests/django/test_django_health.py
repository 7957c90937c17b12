"""The plug-in for django-health-check: degraded is not unhealthy, unless somebody says so."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from fluxgate import CircuitBreaker
from fluxgate.testing import ManualClock, tripped
from fluxgate_django import breakers

health_check = pytest.importorskip("health_check")
from health_check.exceptions import (  # noqa: E402
    ServiceReturnedUnexpectedResult,
    ServiceUnavailable,
    ServiceWarning,
)
from health_check.views import HealthCheckView  # noqa: E402

from fluxgate_django.health import Circuits  # noqa: E402

Opened = Callable[[str], CircuitBreaker]

CHECK = "fluxgate_django.health.Circuits"
urlpatterns = [
    path("lenient", HealthCheckView.as_view(checks=[CHECK])),
    path("critical", HealthCheckView.as_view(checks=[(CHECK, {"critical": ["payments"]})])),
]


def verdict(**options: Any) -> Any:
    """What a check says: the error, or None."""
    return asyncio.run(Circuits(**options).get_result()).error


def test_no_circuits_yet() -> None:
    assert verdict() is None
    assert Circuits().pretty_status() == "OK"
    assert not list(breakers), "looking makes none"


@pytest.mark.parametrize("how", ["open", "half-open", "forced"])
def test_degraded_is_not_unhealthy(opened: Opened, clock: ManualClock, how: str) -> None:
    if how == "forced":
        breakers["search"].force_open()
    else:
        opened("search")
    if how == "half-open":
        clock.advance(30)
        probe = breakers["search"].attempt()
    assert verdict() is None
    assert verdict(critical=["payments"]) is None
    assert Circuits().pretty_status().startswith(f"degraded: circuit 'search' is {how[:4]}")
    warned = verdict(warn=True)
    assert isinstance(warned, ServiceWarning)
    if how == "half-open":
        assert verdict(critical=["search"]) is None, "it may be back: probing is no outage"
        probe.succeed()


@pytest.mark.parametrize("how", ["open", "forced"])
def test_a_critical_circuit_that_refuses_is_an_outage(opened: Opened, how: str) -> None:
    if how == "open":
        opened("payments")
    else:
        breakers["payments"].force_open()
    error = verdict(critical={"payments", "stock"})
    assert isinstance(error, ServiceUnavailable)
    assert str(error).startswith("Unavailable: circuit 'payments' is ")
    if how == "open":
        assert str(error).endswith("(FailureRate(0.5): 1 over 2 calls), probes in 30 s")


def test_a_worker_without_traffic_gets_it_back(opened: Opened, clock: ManualClock) -> None:
    """Nobody calls a worker that is unhealthy; so its circuit could never find out."""
    opened("payments")
    clock.advance(29)
    assert isinstance(verdict(critical=["payments"]), ServiceUnavailable)
    clock.advance(1)
    assert breakers["payments"].state == "open", "nobody has asked yet"
    assert verdict(critical=["payments"]) is None


def test_a_critical_circuit_that_stays_open(policy: dict[str, Any]) -> None:
    with override_settings(FLUXGATE={"DEFAULTS": {**policy, "RETRY": "Never()"}}):
        tripped(breakers["payments"])
        error = verdict(critical=["payments"])
    assert isinstance(error, ServiceUnavailable)
    assert "probes in" not in str(error)


def test_a_critical_name_that_strict_settings_lack(policy: dict[str, Any]) -> None:
    strict = {"DEFAULTS": policy, "STRICT": True, "BREAKERS": {"payments": {}}}
    with override_settings(FLUXGATE=strict):
        error = verdict(critical=["paymnts"])
    assert isinstance(error, ServiceReturnedUnexpectedResult)
    assert "did you mean 'payments'?" in str(error)


def test_critical_is_a_list_of_names() -> None:
    with pytest.raises(TypeError, match=r"critical is a list of names: \['payments'\]"):
        Circuits(critical="payments")


def test_the_report_says_which_check_it_is() -> None:
    assert repr(Circuits(critical=["payments"])) == "Circuits(critical=['payments'], warn=False)"


def test_the_page(settings: Any, policy: dict[str, Any]) -> None:
    settings.ROOT_URLCONF = __name__
    settings.FLUXGATE = {"DEFAULTS": policy}
    client = Client()
    assert client.get("/critical?format=json").status_code == 200
    tripped(breakers["payments"])
    assert client.get("/lenient?format=json").status_code == 200
    told = client.get("/critical?format=json")
    assert told.status_code == 500
    ((name, status),) = json.loads(told.content).items()
    assert name == "Circuits(critical=['payments'], warn=False)"
    assert status.startswith("Unavailable: circuit 'payments' is open")


def test_the_page_under_asgi(settings: Any, policy: dict[str, Any]) -> None:
    settings.ROOT_URLCONF = __name__
    settings.FLUXGATE = {"DEFAULTS": policy}
    tripped(breakers["payments"])
    answer = asyncio.run(AsyncClient().get("/critical?format=text"))
    assert answer.status_code == 500
    assert b"circuit 'payments' is open" in answer.content


def test_without_django_health_check_it_says_what_is_missing() -> None:
    code = (
        "import sys; sys.modules['health_check'] = None\n"
        "try:\n    import fluxgate_django.health\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
        "import fluxgate_django.checks\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'django-health-check>=4'" in done.stdout, done.stderr
