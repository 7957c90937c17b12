"""`FLUXGATE`: read lazily, read anew when it changes, strict about what it doesn't know."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from django.test import override_settings

from fluxgate import CircuitBreaker, ConfigError, State
from fluxgate.config import Mistake
from fluxgate.permits import Random
from fluxgate.problem import TYPE
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureStreak
from fluxgate_django import breakers, conf

PERMIT = Random(0.5)
made: list[str] = []


def make_search(name: str) -> CircuitBreaker:
    made.append(name)
    return CircuitBreaker(name, retry=Cooldown(3))


def test_no_settings_at_all() -> None:
    assert conf.problems() == []
    assert conf.settings().response == conf.ResponseSettings()
    assert conf.settings().response.type == TYPE
    assert breakers["anything"].policy.retry == Cooldown(60)


def test_values_are_expressions_dotted_paths_or_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shop_rules", sys.modules[__name__])
    made.clear()
    settings = {
        "DEFAULTS": {"RETRY": "Cooldown(30)"},
        "BREAKERS": {
            "payments": {"TRIPPER": "FailureStreak(3)", "PERMIT": "shop_rules.PERMIT"},
            "stock": {"TRIPPER": FailureStreak(2), "RETRY": Cooldown(7)},
            "search": "shop_rules.make_search",
            "find": make_search,
            "*.internal": {"INITIAL_STATE": "disabled"},
        },
    }
    with override_settings(FLUXGATE=settings):
        assert conf.problems() == []
        assert made == [], "checking calls no factory"
        payments, stock = breakers["payments"].policy, breakers["stock"].policy
        assert (payments.tripper, payments.retry, payments.permit) == (
            FailureStreak(3),
            Cooldown(30),
            PERMIT,
        )
        assert (stock.tripper, stock.retry) == (FailureStreak(2), Cooldown(7))
        assert breakers["search"].policy.retry == breakers["find"].policy.retry == Cooldown(3)
        assert made == ["search", "find"]
        assert breakers["users.internal"].state is State.DISABLED
        assert breakers["other"].policy.retry == Cooldown(30)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"BRAKERS": {}},
            "FLUXGATE: BRAKERS: unknown setting; known are DEFAULTS, BREAKERS, STRICT, "
            "MAX_CIRCUITS, FLEET, RESPONSE, CONSOLE; did you mean 'BREAKERS'?",
        ),
        (
            {"payments": {"RETRY": "Cooldown(30)"}},
            "FLUXGATE: payments: unknown setting; known are DEFAULTS, BREAKERS, STRICT, "
            "MAX_CIRCUITS, FLEET, RESPONSE, CONSOLE; a circuit's settings stand under its name in "
            "BREAKERS",
        ),
        (
            {"RESPONSE": {"TEMPLAT": "503.html"}},
            "FLUXGATE: RESPONSE.TEMPLAT: unknown setting; known are TEMPLATE, SHOW_NAME, TYPE, "
            "HOOK, EXCEPTION_HANDLER; did you mean 'TEMPLATE'?",
        ),
        (
            ["payments"],
            "FLUXGATE: ['payments'] is not a dict; it has the keys DEFAULTS, BREAKERS, STRICT, "
            "MAX_CIRCUITS, FLEET, RESPONSE, CONSOLE",
        ),
        (
            {"RESPONSE": "503.html"},
            "FLUXGATE: RESPONSE: '503.html' is not a dict; it has the keys TEMPLATE, SHOW_NAME, "
            "TYPE, HOOK, EXCEPTION_HANDLER",
        ),
        ({"STRICT": "yes"}, "FLUXGATE: STRICT: must be True or False, not 'yes'"),
        ({"MAX_CIRCUITS": 0}, "FLUXGATE: MAX_CIRCUITS: must be at least 1, not 0"),
        (
            {"MAX_CIRCUITS": "10"},
            "FLUXGATE: MAX_CIRCUITS: must be a whole number, not '10'",
        ),
        ({"STRICT": True, "strict": True}, "FLUXGATE: strict: it is given twice: keep one"),
        (
            {"RESPONSE": {"TEMPLATE": 503}},
            "FLUXGATE: RESPONSE.TEMPLATE: must be a string that is not empty, not 503",
        ),
        (
            {"RESPONSE": {"TYPE": ""}},
            "FLUXGATE: RESPONSE.TYPE: must be a string that is not empty, not ''",
        ),
        (
            {"RESPONSE": {"SHOW_NAME": 1}},
            "FLUXGATE: RESPONSE.SHOW_NAME: must be True or False, not 1",
        ),
        (
            {"RESPONSE": {"EXCEPTION_HANDLER": 5}},
            "FLUXGATE: RESPONSE.EXCEPTION_HANDLER: 5 is neither a function nor its dotted path",
        ),
        (
            {"CONSOLE": {"CRITICAL": "payments"}},
            "FLUXGATE: CONSOLE.CRITICAL: must be a list of circuits' names, not 'payments'",
        ),
        (
            {"CONSOLE": {"CRITICAL": ["payments", ""]}},
            "FLUXGATE: CONSOLE.CRITICAL: must be a list of circuits' names, not ['payments', '']",
        ),
        (
            {"CONSOLE": {"SINGLE_PROCES": True}},
            "FLUXGATE: CONSOLE.SINGLE_PROCES: unknown setting; known are SERVICE, CRITICAL, "
            "SINGLE_PROCESS, ERROR_MESSAGES, LOGIN_URL; did you mean 'SINGLE_PROCESS'?",
        ),
        (
            {"BREAKERS": ["payments"]},
            "FLUXGATE: breakers: ['payments'] is not a table: write it with names and settings",
        ),
        (
            {"DEFAULTS": 30},
            "FLUXGATE: defaults: 30 is not a table: write it with names and settings",
        ),
    ],
)
def test_what_does_not_have_the_shape(settings: Any, expected: str) -> None:
    with override_settings(FLUXGATE=settings):
        assert [str(problem) for problem in conf.problems()] == [expected]
        with pytest.raises(ConfigError) as caught:
            breakers["payments"]
        assert str(caught.value) == expected
        with pytest.raises(ConfigError):  # and again: nothing half-read was kept
            breakers["payments"]
    assert breakers["payments"].state is State.CLOSED


def test_mistakes_of_a_circuit_are_told_by_its_first_use_and_by_a_check() -> None:
    settings = {
        "DEFAULTS": {"RETRY": "Cooldown(30)"},
        "BREAKERS": {
            "payments": {"TRIPER": "FailureRate(0.5)", "TRACKER": 'TypeOf("nowhere.Error")'},
            "stock": {"LISTENERS": "shop.metrics.listener"},
        },
    }
    with override_settings(FLUXGATE=settings):
        assert breakers["other"].policy.retry == Cooldown(30)
        with pytest.raises(ConfigError, match=r"did you mean 'tripper'\?"):
            breakers["payments"]
        problems = conf.problems()
    assert [(problem.path, problem.mistake) for problem in problems] == [
        ("FLUXGATE: payments.TRIPER", Mistake.UNKNOWN),
        ("FLUXGATE: payments.TRACKER", Mistake.IMPORT),
        ("FLUXGATE: stock.LISTENERS", Mistake.VALUE),
    ]


def test_several_mistakes_are_told_at_once() -> None:
    with (
        override_settings(FLUXGATE={"STRICT": 1, "MAX_CIRCUITS": -1, "OTHER": 2}),
        pytest.raises(ConfigError) as caught,
    ):
        breakers["payments"]
    assert str(caught.value).splitlines()[0] == "3 settings can't be used:"
    for key in ("STRICT", "MAX_CIRCUITS", "OTHER"):
        assert f"\n  FLUXGATE: {key}: " in str(caught.value)


def test_settings_are_read_once_and_again_when_they_change() -> None:
    first = conf.settings()
    assert conf.settings() is first
    with override_settings(FLUXGATE={"RESPONSE": {"SHOW_NAME": True}}):
        inner = conf.settings()
        assert inner.response.show_name
        with override_settings(USE_TZ=False):
            assert conf.settings() is inner, "another setting is none of ours"
        with override_settings(FLUXGATE={}):
            assert not conf.settings().response.show_name
        assert conf.settings().response.show_name
    assert not conf.settings().response.show_name


def test_threads_that_come_first_get_the_same() -> None:
    gate, found = threading.Barrier(8), []

    def ask() -> None:
        gate.wait(20)
        found.append(conf.settings().registry["payments"])

    with override_settings(FLUXGATE={}):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_importing_reads_no_settings_and_needs_no_package_but_django() -> None:
    code = """
import sys
import fluxgate_django
from fluxgate_django import breakers, circuit, CircuitMixin, conf, middleware, responses, signals
from django.conf import settings
assert not settings.configured

@circuit("search")
def search(request): ...

assert not {"rest_framework", "ninja", "health_check"} & sys.modules.keys()
assert "fluxgate_django.conf" in sys.modules
print(repr(breakers), fluxgate_django.__version__)
try:
    breakers["payments"]
except Exception as error:
    assert type(error).__name__ == "ImproperlyConfigured", repr(error)
else:
    raise AssertionError("there are no settings")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("<fluxgate_django.breakers> ")


asked: list[int] = []


def ping() -> None:
    asked.append(1)


def test_a_prober_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes the circuit without a request."""
    monkeypatch.setitem(sys.modules, "shop_health", sys.modules[__name__])
    asked.clear()
    stock = {
        "PROBER": "shop_health.ping",
        "PERMIT": "All()",
        "TRIPPER": "Closed() & FailureStreak(1)",
    }
    with override_settings(FLUXGATE={"BREAKERS": {"stock": stock}}):
        assert conf.problems() == []
        circuit = breakers["stock"]
        circuit.open_for(0.02)
        end = time.monotonic() + 30
        while circuit.state is not State.CLOSED and time.monotonic() < end:
            time.sleep(0.01)
        assert circuit.state is State.CLOSED
        assert asked
