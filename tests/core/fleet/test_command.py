"""`python -m fluxgate fleet`: what is stored, shown and set by hand."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fluxgate import CircuitBreaker, State
from fluxgate.cli import main
from fluxgate.fleet import Fleet

from .conftest import PATIENCE, eventually


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/fleet.db"


def test_an_empty_store(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", url, "list", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"circuits": []}
    assert main(["fleet", url, "list"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["name", "state"]
    assert main(["fleet", url, "show", "nobody"]) == 1
    assert "'nobody'" in capsys.readouterr().out


def test_what_is_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Fleet(url) as fleet:
        one = CircuitBreaker("pay ments", fleet=fleet)
        other = CircuitBreaker("search", fleet=fleet)
        for _ in range(3):
            one.call(int)
        one.attempt().fail()
        other.open_for(600.0, fleet=True)
        assert fleet.flush(PATIENCE)
        assert main(["fleet", url, "list", "--format", "json"]) == 0
        first, second = json.loads(capsys.readouterr().out)["circuits"]
        assert list(first) == [
            *("name", "state", "epoch", "retry_after", "calls", "failures", "reporter")
        ]
        assert (first["name"], first["state"], first["epoch"]) == ("pay ments", "closed", 0)
        assert (first["calls"], first["failures"], first["retry_after"]) == (4, 1, None)
        assert first["reporter"]
        assert second["state"] == "open"
        assert 500 < second["retry_after"] <= 600
        assert main(["fleet", url, "show", "search"]) == 0
        shown = capsys.readouterr().out
        assert "open_for()" in shown
        assert main(["fleet", url, "show", "search", "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["reason"] == "open_for(): 600"


@pytest.mark.parametrize(
    ("verb", "state"), [("open", State.FORCED_OPEN), ("disable", State.DISABLED)]
)
def test_set_by_hand(url: str, verb: str, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    with Fleet(url) as fleet:
        breakers = [CircuitBreaker(name, fleet=fleet) for name in ("a", "b", "c")]
        assert fleet.flush(PATIENCE)
        assert main(["fleet", url, verb, "a", "b"]) == 0
        eventually(lambda: [each.state for each in breakers] == [state, state, State.CLOSED])
        assert main(["fleet", url, "reset", "a"]) == 0
        eventually(lambda: breakers[0].state is State.CLOSED)
        assert breakers[1].state is state
    assert "epoch" in capsys.readouterr().out


@pytest.mark.parametrize(
    "url", ["nowhere://x", "redis://u:hunter2@127.0.0.1:1/0", "sqlite:///does/not/exist/x.db"]
)
def test_a_store_that_cannot_be_used(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", url, "list"]) == 2
    said = capsys.readouterr().err
    assert "fleet: error:" in said
    assert "hunter2" not in said


def test_watch(url: str) -> None:
    command = [sys.executable, "-m", "fluxgate", "fleet", url, "watch", "--format", "json"]
    with Fleet(url) as fleet:
        one = CircuitBreaker("x", fleet=fleet)
        one.call(int)
        assert fleet.flush(PATIENCE)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            assert json.loads(watching.stdout.readline())["state"] == "closed"
            one.force_open(fleet=True)
            assert json.loads(watching.stdout.readline())["state"] == "forced_open"
            watching.send_signal(signal.SIGINT)
            assert watching.wait(PATIENCE) == 0
