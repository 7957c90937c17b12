"""`python -m fluxgate replay`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fluxgate.cli import main

BEGIN = 1_764_000_000


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """A call each second, of which a hundred fail."""
    path = tmp_path / "calls.csv"
    lines = ["start,duration,failed,to"]
    lines += [
        f"{BEGIN + t},0.25,{'true' if 1000 <= t < 1100 else 'false'},{'ab'[t % 2]}"
        for t in range(3000)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text(
        '[breakers.payments]\ntripper = "FailureStreak(3)"\nretry = "Cooldown(10)"\n'
        'initial_state = "metrics_only"\n[breakers.search]\ntripper = "FailureStreak(9)"\n'
    )
    return path


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["replay", *map(str, arguments), "--json"]) == 0
    read: dict[str, Any] = json.loads(capsys.readouterr().out)
    return read


def test_json(capsys: pytest.CaptureFixture[str], calls: Path, policies: Path) -> None:
    outage = f"{BEGIN + 1000}..{BEGIN + 1100}"
    result = run_json(
        capsys,
        *(calls, "--key", "to", "--outage", outage),
        *("--policy", f"{policies}:payments", "--policy", "FailureStreak(5)"),
    )
    nothing, payments, streak = result["policies"]
    assert nothing["policy"] == "no breaker"
    assert payments["policy"] == f"{policies}:payments"
    assert payments["openings"][0]["at"] == BEGIN + 1002.25
    assert streak["openings"][0]["at"] == BEGIN + 1004.25
    assert [each["trace"]["key"] for each in result["routes"]] == ["a", "b"]


def test_iso_times_are_utc(capsys: pytest.CaptureFixture[str], calls: Path) -> None:
    result = run_json(capsys, calls, "--outage", "2025-11-24T16:16:40..2025-11-24T17:18:20+01:00")
    (outage,) = result["outages"]
    assert (outage["begin"], outage["end"]) == (BEGIN + 1000, BEGIN + 1100)


def test_workers(capsys: pytest.CaptureFixture[str], calls: Path) -> None:
    result = run_json(capsys, calls, "--policy", "FailureStreak(3)", "--workers", 8)
    assert {opening["worker"] for opening in result["policies"][1]["openings"]} == set(range(8))


def test_only_one_key(capsys: pytest.CaptureFixture[str], calls: Path) -> None:
    result = run_json(capsys, calls, "--key", "to", "--only", "a", "--routes", "9")
    assert (result["trace"]["calls"], result["routes"]) == (1500, [])
    streaks = ("--policy", "FailureStreak(3)", "--sweep", "FailureStreak=2,3")
    sweep = run_json(capsys, calls, "--key", "to", "--only", "b", *streaks)
    assert sweep["trace"]["calls"] == 1500


def test_a_sweep(capsys: pytest.CaptureFixture[str], calls: Path) -> None:
    result = run_json(capsys, calls, "--policy", "FailureStreak(3)", "--sweep", "FailureStreak=2,3")
    assert result["axes"] == [{"name": "FailureStreak", "values": [2, 3]}]
    assert len(result["cells"]) == 2
    assert result["advice"] in ("recommended", "yours is best")


def test_text_and_page(capsys: pytest.CaptureFixture[str], calls: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["replay", str(calls), "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "no breaker" in out
    assert "Nobody knows how refused calls would have ended" in " ".join(out.split())
    assert str(page) in out
    assert page.read_text().startswith("<!")


def test_unusable_rows(capsys: pytest.CaptureFixture[str], calls: Path) -> None:
    with calls.open("a") as file:
        file.write("yesterday,0.25,true,a\n" * 100)
    assert main(["replay", str(calls), "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["trace"]["unusable"] == 100
    assert "100 rows of 3,100 (3.226 %) can't be used" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "Nope(3)"], "Nope"),
        (["--policy", "Closed()"], "fast successes alone"),
        (["--policy", "{toml}"], "say which of its circuits is meant"),
        (["--policy", "{toml}:paymnts"], "did you mean"),
        (["--policy", "missing.toml:payments"], "can't be read"),
        (["--sweep", "FailureRate"], "is no grid"),
        (["--key", "to", "--only", "c"], "--only: no call of the trace went to 'c'; it has"),
        (["--workers", "0"], "workers must be at least 1"),
    ],
)
def test_clear_errors(
    capsys: pytest.CaptureFixture[str],
    calls: Path,
    policies: Path,
    arguments: list[str],
    message: str,
) -> None:
    given = [each.format(toml=policies) for each in arguments]
    assert main(["replay", str(calls), *given]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--outage", "5"], "write FROM..TO"),
        (["--outage", "9..5"], "must begin before it ends"),
        (["--outage", "noon..2"], "is no time"),
        (["--slow", "0"], "seconds above 0"),
        (["--sampled", "tail"], "tail sampling"),
    ],
)
def test_wrong_arguments(
    capsys: pytest.CaptureFixture[str], calls: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["replay", str(calls), *arguments])
    assert message in capsys.readouterr().err
