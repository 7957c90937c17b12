"""`FLUXGATE["FLEET"]`, and `manage.py fluxgate … --fleet`."""

from __future__ import annotations

import getpass
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from fluxgate import CircuitBreaker, ConfigError, State
from fluxgate.fleet import Fleet
from fluxgate_django import breakers, conf
from fluxgate_django.checks import check_deployment, check_settings
from fluxgate_django.management.commands.fluxgate import Command

PATIENCE = 30.0


@pytest.mark.parametrize(
    "written",
    [
        "memory://django",
        {"URL": "memory://django", "WITNESSES": 3, "ADVISORY": True},
    ],
)
def test_a_fleet(written: Any) -> None:
    with override_settings(FLUXGATE={"FLEET": written}):
        fleet = conf.settings().registry.fleet
        assert fleet is not None
        assert fleet.advisory is isinstance(written, dict)
        assert conf.problems() == []
        assert conf.settings().registry["x"].info().fleet is not None
        fleet.close()


@pytest.mark.parametrize(
    ("written", "said", "code"),
    [
        ("nowhere://:hunter2@x", ": the URL 'nowhere://:***@x' has the unknown", "E004"),
        ("", ": the URL has no scheme: write sqlite:///", "E004"),
        (7, ": must be a Fleet or a URL, not 'int'", "E004"),
        (
            {"URL": "memory://x", "WITNESS": 2},
            ".WITNESS: unknown setting; known are URL, WITNESSES, ADVISORY; did you mean "
            "'WITNESSES'?",
            "E001",
        ),
        ({"URL": "memory://x", "url": "memory://y"}, ".url: it is given twice", "E004"),
        ({"WITNESSES": 2}, ".URL: is missing: give one such as sqlite:///", "E004"),
        ({"url": 7}, ".URL: must be a URL, not 'int'", "E004"),
        ({"URL": "memory://x", "WITNESSES": 0}, ".WITNESSES: must be from 1 to 1000: 0", "E004"),
        ({"URL": "memory://x", "WITNESSES": []}, ".WITNESSES: must be a whole number: []", "E004"),
        ({"URL": "memory://x", "ADVISORY": 1}, ".ADVISORY: must be True or False: 1", "E004"),
    ],
)
def test_what_is_wrong(written: Any, said: str, code: str) -> None:
    """A mistake names Django's own keys, in `manage.py check` as at the first use."""
    with override_settings(FLUXGATE={"FLEET": written}):
        (problem,) = conf.problems()
        assert str(problem).startswith(f"FLUXGATE: FLEET{said}")
        assert "hunter2" not in str(problem)
        with pytest.raises(ConfigError, match="FLEET"):
            conf.settings()
        (error,) = check_settings()
        assert error.id == f"fluxgate.{code}"
        assert error.obj == problem.path
        assert error.hint == ("Did you mean 'WITNESSES'?" if code == "E001" else None)


def deployment(**settings: Any) -> dict[str | None, tuple[str, str | None]]:
    with override_settings(FLUXGATE=settings):
        return {each.id: (each.msg, each.hint) for each in check_deployment()}


def test_the_deployment_check(tmp_path: Path) -> None:
    """Circuits of a fleet are not each worker's own; those of a fleet in memory are."""
    shared = f"sqlite://{tmp_path}/fleet.db"
    assert deployment(FLEET=shared) == {}
    for alone in ({}, {"FLEET": "memory://deployed"}):
        message, hint = deployment(**alone)["fluxgate.I002"]
        assert message.startswith("each worker process has circuits of its own")
        assert hint is not None
        assert hint.startswith("Give FLEET, such as sqlite:///")
    never = {"x": {"RETRY": "Never()"}}
    assert "in every worker" in deployment(BREAKERS=never)["fluxgate.W004"][0]
    message, _ = deployment(BREAKERS=never, FLEET=shared)["fluxgate.W004"]
    assert message == (
        "stays open until reset(fleet=True), or `manage.py fluxgate reset NAME --fleet`."
    )


@pytest.mark.parametrize(("state", "verb"), [("forced_open", "open"), ("disabled", "disable")])
def test_a_beginning_and_a_fleet(tmp_path: Path, state: str, verb: str) -> None:
    """What a worker begins with is its own: the check says so, and what to do in place of it."""
    url = f"sqlite://{tmp_path}/fleet.db"
    message, hint = deployment(BREAKERS={"x": {"INITIAL_STATE": state}}, FLEET=url)["fluxgate.I003"]
    assert ("no reset of the fleet ends it" in message) is (state == "forced_open")
    assert hint is not None
    assert f"`manage.py fluxgate {verb} NAME --fleet`" in hint
    with Fleet(url) as one, Fleet(url) as two:
        begun = CircuitBreaker("x", fleet=one, initial_state=state)
        peer = CircuitBreaker("x", fleet=two)
        peer.reset(fleet=True)

        def moved() -> bool:
            view = begun.info().fleet
            return view is not None and view.epoch > 0

        eventually(moved)
        assert begun.state == state


# -- the command


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


@pytest.fixture
def payments(tmp_path: Path) -> Iterator[CircuitBreaker]:
    """A circuit of the fleet that the settings name, in a worker that has used it."""
    url = f"sqlite://{tmp_path}/fleet.db"
    with (
        override_settings(FLUXGATE={"FLEET": url, "BREAKERS": {"payments": {}, "orders": {}}}),
        Fleet(url) as fleet,
    ):
        breaker = CircuitBreaker("payments", fleet=fleet)
        breaker.call(int)
        assert fleet.flush(PATIENCE)
        yield breaker
        shared = conf.settings().registry.fleet
        assert shared is not None
        shared.close()


def manage(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("fluxgate", *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("action", "state"), [("open", State.FORCED_OPEN), ("disable", State.DISABLED)]
)
def test_set_by_hand(payments: CircuitBreaker, action: str, state: State) -> None:
    out, err = manage(action, "payments", "--fleet")
    assert out.startswith(f"payments: {str(state).replace('_', ' ')} (epoch ")
    assert (out.count("\n"), err) == (1, "")
    eventually(lambda: payments.state is state)
    shown = json.loads(manage("show", "payments", "--fleet", "--format", "json")[0])
    assert shown["note"] == f"manage.py fluxgate {action}"
    assert shown["by"] == getpass.getuser()
    manage("reset", "payments", "--fleet")
    eventually(lambda: payments.state is State.CLOSED)


def test_who_why_and_for_how_long(payments: CircuitBreaker) -> None:
    said = ("--note", "drill", "--by", "alice")
    out, _ = manage("disable", "payments", "--fleet", "--seconds", "600", *said)
    assert out.startswith("payments: disabled for 10 min (epoch ")
    eventually(lambda: payments.state is State.DISABLED)
    assert str(payments.info().reason) == "disable(): 600 s, by alice: drill"
    assert re.search(r"disabled, (10|9) min.*, by alice", manage("list", "--fleet")[0])
    manage("reset", "payments", "--fleet", *said)
    eventually(lambda: payments.state is State.CLOSED)
    assert str(payments.info().reason) == "reset(), by alice: drill"
    for options, problem in (
        (("open", "--seconds", "0"), "seconds must be above 0"),
        (("reset", "--seconds", "5"), "seconds go with open and disable, not with reset"),
        (("show", "--note", "x"), "a note, and who, go with open, reset, disable, not with show"),
    ):
        with pytest.raises(CommandError, match=problem):
            manage(options[0], "payments", "--fleet", *options[1:])


def test_what_is_listed(payments: CircuitBreaker) -> None:
    out, _ = manage("list", "--fleet")
    assert out.splitlines()[1].split()[:4] == ["payments", "closed", "1", "0"]
    (circuit,) = json.loads(manage("list", "--fleet", "--format", "json")[0])["circuits"]
    assert (circuit["name"], circuit["state"], circuit["calls"]) == ("payments", "closed", 1)
    # It looks at the store, and takes no part in the fleet.
    assert len(breakers) == 0
    assert payments.state is State.CLOSED


@pytest.mark.usefixtures("payments")
def test_an_unknown_name() -> None:
    _, err = manage("open", "order", "--fleet")
    assert "no process has reported a circuit 'order' yet; did you mean 'orders'?" in err
    with pytest.raises(CommandError, match="did you mean 'payments'") as caught:
        manage("show", "paymets", "--fleet")
    assert caught.value.returncode == 1


@pytest.mark.usefixtures("payments")
def test_without_the_option() -> None:
    for name in "payments", "of another application":
        with pytest.raises(CommandError, match="nothing was changed: add --fleet to open circuits"):
            manage("open", name)
    assert "--fleet shows those that all processes share" in manage("list")[0]
    listed = json.loads(manage("list", "--format", "json")[0])
    assert [each["shared"] for each in listed["circuits"]] == [True, True]


def test_no_usable_store(tmp_path: Path) -> None:
    unusable = f"sqlite://{tmp_path}/none.db", "redis://u:hunter2@127.0.0.1:1/0", "memory://none"
    for url in unusable:
        with override_settings(FLUXGATE={"FLEET": url}):
            with pytest.raises(CommandError) as caught:
                manage("open", "payments", "--fleet")
            assert caught.value.returncode == 2
            assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with override_settings(FLUXGATE={}), pytest.raises(CommandError) as caught:
        manage("watch", "--fleet")
    assert caught.value.returncode == 2


def test_an_error_ends_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (
        override_settings(FLUXGATE={"FLEET": f"sqlite://{tmp_path}/none.db"}),
        pytest.raises(SystemExit) as caught,
    ):
        Command().run_from_argv(["manage.py", "fluxgate", "list", "--fleet"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("a process of the fleet makes it\n")


def test_watch(payments: CircuitBreaker, tmp_path: Path) -> None:
    site = tmp_path / "watched.py"
    site.write_text(
        "INSTALLED_APPS = ['fluxgate_django']\n"
        f"FLUXGATE = {{'FLEET': 'sqlite://{tmp_path}/fleet.db'}}\n"
    )
    command = [sys.executable, "-m", "django", "fluxgate", "watch", "--fleet", "--format", "json"]
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "watched", "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as watching:
        try:
            assert watching.stdout is not None
            assert json.loads(watching.stdout.readline())["state"] == "closed"
            payments.disable(fleet=True)
            while json.loads(watching.stdout.readline())["state"] != "disabled":
                pass  # the worker may report that it is disabled before the fleet is
            watching.send_signal(signal.SIGINT)
            assert watching.wait(PATIENCE) == 0
        finally:
            watching.kill()
