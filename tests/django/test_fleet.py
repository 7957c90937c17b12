"""`FLUXGATE["FLEET"]`, and `manage.py fluxgate … --fleet`."""

from __future__ import annotations

import io
import json
import os
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
from fluxgate_django.checks._deployment import check_deployment

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
    ("written", "said"),
    [
        ("nowhere://:hunter2@x", "unknown scheme 'nowhere'"),
        ({"URL": "memory://x", "WITNESS": 2}, "did you mean 'witnesses'"),
        ({"WITNESSES": 2}, "url is missing"),
    ],
)
def test_what_is_wrong(written: Any, said: str) -> None:
    with override_settings(FLUXGATE={"FLEET": written}):
        (problem,) = conf.problems()
        assert str(problem).startswith("FLUXGATE: FLEET: ")
        assert said in str(problem)
        assert "hunter2" not in str(problem)
        with pytest.raises(ConfigError, match="FLEET"):
            conf.settings()


def test_the_deployment_check_is_content() -> None:
    """Circuits of a fleet are not each worker's own."""
    for written, expected in (({}, 1), ({"FLEET": "memory://deployed"}, 0)):
        with override_settings(FLUXGATE=written):
            found = [each.id for each in check_deployment()]
            assert found.count("fluxgate.I002") == expected


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
    assert shown["reason"] == f"manage.py fluxgate {action}"
    manage("reset", "payments", "--fleet")
    eventually(lambda: payments.state is State.CLOSED)


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
    with pytest.raises(CommandError, match="nothing was changed: add --fleet to open circuits"):
        manage("open", "payments")
    assert "--fleet shows those that all processes share" in manage("list")[0]
    listed = json.loads(manage("list", "--format", "json")[0])
    assert [each["shared"] for each in listed["circuits"]] == [True, True]


def test_no_usable_store(tmp_path: Path) -> None:
    for url in (f"sqlite://{tmp_path}/none.db", "redis://u:hunter2@127.0.0.1:1/0"):
        with override_settings(FLUXGATE={"FLEET": url}):
            with pytest.raises(CommandError) as caught:
                manage("open", "payments", "--fleet")
            assert caught.value.returncode == 2
            assert "hunter2" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with override_settings(FLUXGATE={}), pytest.raises(CommandError) as caught:
        manage("watch", "--fleet")
    assert caught.value.returncode == 2


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
            assert json.loads(watching.stdout.readline())["state"] == "disabled"
            watching.send_signal(signal.SIGINT)
            assert watching.wait(PATIENCE) == 0
        finally:
            watching.kill()
