"""`manage.py fluxgate`: what the settings make, in words and in JSON; and what it can't do."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from fluxgate import CircuitBreaker
from fluxgate.cli import main
from fluxgate.metric import Metrics
from fluxgate.permits import Random
from fluxgate.retries import Backoff, Never
from fluxgate.testing import tripped
from fluxgate.trackers import TypeOf
from fluxgate.trippers import MinRequests, Tripper
from fluxgate.windows import TimeWindow
from fluxgate_django import breakers

OURS = "fluxgate_django.middleware.CircuitBreakerMiddleware"
DRF = "fluxgate_django.drf.exception_handler"


@pytest.fixture(autouse=True)
def _settings(policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("fluxgate_django.checks._settings._named", list)
    monkeypatch.setattr("fluxgate_django.checks._settings._subscripts", list)
    with override_settings(
        MIDDLEWARE=[OURS],
        REST_FRAMEWORK={"EXCEPTION_HANDLER": DRF},
        FLUXGATE={
            "DEFAULTS": policy,
            "BREAKERS": {"payments": {}, "search": make_search, "*.internal": {}},
        },
    ):
        yield


def make_search(name: str) -> CircuitBreaker:
    return CircuitBreaker(name, retry=Never(), initial_state="disabled")


def manage(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("fluxgate", *arguments, stdout=out, no_color=True, **options)
    return out.getvalue()


# -- list


def test_list_has_the_configured_circuits_and_those_that_were_made() -> None:
    breakers["made.internal"].call(int)
    lines = manage("list").splitlines()
    assert " ".join(lines[0].split()) == "NAME STATE SINCE CALLS FAILED RETRY AFTER LAST TRIP"
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["payments", "closed"],
        ["search", "disabled"],
        ["made.internal", "closed"],
    ]
    assert lines[4] == "*.internal  (a pattern: circuits are made when asked for)"
    assert "this process's own circuits" in lines[5]


def test_list_has_the_figures_and_the_reason_of_an_outage() -> None:
    tripped(breakers["payments"])
    line = manage("list").splitlines()[1]
    assert line.startswith("payments  open")
    assert line.endswith("30 s         FailureRate(0.5): 1 over 2 calls")


def test_a_long_time_is_written_out() -> None:
    breakers["payments"].open_for(1234.5)
    assert "1234.5 s" in manage("list")


def test_list_of_wide_names() -> None:
    """A character of two columns counts as two, so the states stand under their heading."""
    with override_settings(FLUXGATE={"BREAKERS": {"결제": {}, "payments": {}}}):
        heading, wide, narrow, *_ = manage("list").splitlines()
    at = heading.index("STATE")
    assert narrow[at:].startswith("closed")
    assert wide[at - 2 :].startswith("closed")


def test_list_in_json() -> None:
    tripped(breakers["payments"])
    listed = json.loads(manage("list", "--format", "json"))
    assert listed["scope"] == "process"
    assert listed["patterns"] == ["*.internal"]
    payments, search = listed["circuits"]
    assert {key: payments[key] for key in ("name", "state", "retry_after", "shared")} == {
        "name": "payments",
        "state": "open",
        "retry_after": 30.0,
        "shared": False,
    }
    assert payments["last_trip"] == "FailureRate(0.5): 1 over 2 calls"
    assert payments["since"].endswith("+00:00")
    assert (search["state"], search["failure_rate"], search["last_trip"]) == (
        "disabled",
        None,
        None,
    )


def test_list_of_patterns_alone() -> None:
    with override_settings(FLUXGATE={"BREAKERS": {"db.*": {}}}):
        told = manage("list")
    assert "is empty" not in told
    assert told.startswith("db.*  (a pattern: ")


def test_list_of_nothing() -> None:
    with override_settings(FLUXGATE={}):
        assert manage("list").startswith('No circuit is configured: FLUXGATE["BREAKERS"] is empty.')


def test_settings_that_can_not_be_used() -> None:
    with (
        override_settings(FLUXGATE={"BREAKERS": {"payments": {"TRIPPER": "FailRate(1)"}}}),
        pytest.raises(CommandError, match="no tripper is called FailRate") as caught,
    ):
        manage("list")
    assert "`manage.py fluxgate check` lists all mistakes" in str(caught.value)


# -- show


def test_show_says_the_policy_in_words() -> None:
    text = manage("show", "payments")
    for said in (
        "opens when    MinRequests(2) & FailureRate(0.5)",
        "there are at least 2 calls and at least 50 % of the calls failed",
        "CountWindow(100)",
        "the last 100 calls, however old",
        "exceptions that are of any type",
        "Cooldown(30)",
        "every call is admitted as a probe",
        "at most 1 at once, for 60 s each",
        "state         closed",
    ):
        assert said in text


def test_states_in_words() -> None:
    breakers["payments"].force_open()
    assert "state         forced open" in manage("show", "payments")
    assert "payments  forced open  " in manage("list")


def test_show_in_json() -> None:
    shown = json.loads(manage("show", "payments", format="json"))
    assert shown["name"] == "payments"
    assert shown["policy"]["tripper"] == "MinRequests(2) & FailureRate(0.5)"
    assert shown["in_words"]["stays open"] == "30 s"


def test_show_makes_what_a_pattern_fits() -> None:
    assert manage("show", "stock.internal").startswith("stock.internal")


@pytest.mark.parametrize("action", ["show", "open", "reset", "disable"])
def test_an_unknown_name(action: str) -> None:
    with pytest.raises(CommandError) as caught:
        manage(action, "paymnts")
    assert str(caught.value) == (
        "no circuit is called 'paymnts'; known are payments, search, *.internal; "
        "did you mean 'payments'?"
    )


def test_an_unknown_name_where_nothing_is_configured() -> None:
    with (
        override_settings(FLUXGATE={}),
        pytest.raises(CommandError, match=r"FLUXGATE\[\"BREAKERS\"\] is empty"),
    ):
        manage("show", "payments")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["show"], "show takes one name"),
        (["show", "payments", "search"], "show takes one name"),
        (["list", "payments"], "list takes no name"),
        (["check", "payments"], "check takes no name"),
        (["reset"], "reset takes one name or more"),
        (["list", "--deploy"], "--deploy goes with check, not with list"),
        (["check", "--fleet"], "--fleet goes with the other actions, not with check"),
        (["watch"], "watch goes with --fleet"),
        (["list", "--note", "x"], "--note goes with open, reset, disable, not with list"),
        (["check", "--by", "x"], "--by goes with open, reset, disable, not with check"),
        (["watch", "payments", "--fleet"], "watch takes no name"),
        (["list", "--fleet"], r'set FLUXGATE\["FLEET"\] to a URL'),
        (["open", "payments", "--fleet"], r'set FLUXGATE\["FLEET"\] to a URL'),
        (["explode"], "invalid choice: 'explode'"),
        ([], "required: action"),
    ],
)
def test_what_does_not_go_together(arguments: list[str], problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        manage(*arguments)


# -- check


def test_check_runs_our_checks_alone() -> None:
    assert manage("check") == "System check identified no issues (0 silenced).\n"
    with (
        override_settings(MIDDLEWARE=[]),
        pytest.raises(SystemCheckError, match=r"fluxgate\.W001") as caught,
    ):
        manage("check", "--fail-level", "WARNING")
    assert caught.value.returncode == 1
    assert "auth." not in str(caught.value)


def test_check_of_a_deployment() -> None:
    with pytest.raises(SystemCheckError, match=r"fluxgate\.I002"):
        manage("check", "--deploy", fail_level="INFO")


def test_check_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(manage("check", "--format", "json")) == {"problems": [], "silenced": 0}
    with override_settings(FLUXGATE={"BREAKERS": {"payments": {"TRIPER": ""}}}):
        with pytest.raises(CommandError, match="1 of level ERROR or above"):
            call_command("fluxgate", "check", format="json")
        (problem,) = json.loads(capsys.readouterr().out)["problems"]
        assert problem["id"] == "fluxgate.E001"
        assert problem["level"] == "ERROR"
        assert problem["where"] == "FLUXGATE: payments.TRIPER"
        assert problem["hint"] == "Did you mean 'TRIPPER'?"
        with override_settings(SILENCED_SYSTEM_CHECKS=["fluxgate.E001"]):
            assert json.loads(manage("check", format="json")) == {"problems": [], "silenced": 1}


# -- what is for shared circuits


@pytest.mark.parametrize(
    ("action", "instead"),
    [
        ("open", 'force_open() in each of them, or set "INITIAL_STATE": "forced_open"'),
        ("reset", "reset() in each of them."),
        ("disable", 'disable() in each of them, or set "INITIAL_STATE": "disabled"'),
    ],
)
def test_a_circuit_that_is_not_shared_is_left_alone(action: str, instead: str) -> None:
    state = breakers["payments"].state
    with pytest.raises(CommandError, match="not shared between processes") as caught:
        manage(action, "payments", "search")
    assert instead in str(caught.value)
    assert str(caught.value).startswith("'payments', 'search': ")
    assert breakers["payments"].state is state
    assert breakers["search"].state == "disabled"


# -- the words


class Failures(Tripper):
    """A tripper as CONTRIBUTING says how to add one."""

    __slots__ = ("count",)
    __match_args__ = ("count",)
    needs_bad = True
    steady = True

    def __init__(self, count: int) -> None:
        self.count = count

    def fires(self, metrics: Metrics) -> bool:
        return metrics.failure_count >= self.count

    def describe(self) -> str:
        return f"{self.count} calls failed"


FAILURES = MinRequests(5) & Failures(3)


def predicate(value: object) -> bool:
    return bool(value)


def test_show_and_explain_agree(capsys: pytest.CaptureFixture[str]) -> None:
    settings: dict[str, Any] = {
        "tripper": FAILURES,
        "window": TimeWindow(300),
        "tracker": ~TypeOf(ValueError),
        "retry": Backoff(1, jitter_ratio=0.1),
        "permit": Random(0.5),
    }
    arguments = [f"--{key}={value!r}" for key, value in settings.items() if key != "tripper"]
    assert main(["explain", f"{__name__}.FAILURES", *arguments]) == 0
    explained = " ".join(capsys.readouterr().out.split())
    with override_settings(FLUXGATE={"BREAKERS": {"payments": settings}}):
        shown = json.loads(manage("show", "payments", format="json"))["in_words"]
    assert shown["opens when"] == "there are at least 5 calls and 3 calls failed"
    for subject in ("judges", "opens when", "failures are", "stays open", "half-open"):
        assert shown[subject] in explained


def test_show_of_what_is_not_default() -> None:
    settings = {
        "HEALTHY": 'TypeOf("KeyError")',
        "RESULT_TRACKER": predicate,
        "SHADOW": "FailureStreak(2)",
    }
    with override_settings(FLUXGATE={"BREAKERS": {"payments": settings}}):
        words = json.loads(manage("show", "payments", format="json"))["in_words"]
        text = manage("show", "payments")
    assert words["successes are"] == "exceptions that are KeyError"
    assert words["and results"] == "results for which it returns true"
    assert words["tries out"] == "the last 2 calls all failed"
    assert f"and results    {__name__}.predicate" in text


# -- as a process


def test_it_needs_no_database(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(
        "INSTALLED_APPS = ['fluxgate_django']\n"
        "FLUXGATE = {'BREAKERS': {'payments': {}}}\n"
        f"MIDDLEWARE = ['{OURS}']\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "bare", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-m", "django", "fluxgate"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=60
        )

    listed = run("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "payments" in listed.stdout
    assert run("check").returncode == 0
    assert run("reset", "payments").returncode == 1
