"""The demo's traffic, recorded over real sockets, replays to the transitions that it had live."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from fluxgate import Policy
from fluxgate.permits import RampUp
from fluxgate.replay import PolicyResult, replay
from fluxgate.replay.readers import read
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, MinRequests, SlowRate
from fluxgate.windows import CountWindow

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[3] / "examples" / "demo.py"
PACE = 8 / 20  # of a demo of eight seconds instead of twenty

# As `settings` in examples/clients.py has it.
POLICY = Policy(
    window=CountWindow(20),
    tripper=MinRequests(5) & (SlowRate(0.5, 0.5 * PACE) | FailureRate(0.5)),
    retry=Cooldown(1.0 * PACE),
    permit=RampUp(0.2, 1.0, 2.0 * PACE),
    max_half_open_calls=5,
)


def moves_of(policy: PolicyResult) -> list[tuple[str, str]]:
    return [(str(left.state), str(right.state)) for left, right in pairwise(policy.spans)]


def test_it_replays_to_the_live_transitions(tmp_path: Path) -> None:
    calls, figures = tmp_path / "calls.jsonl", tmp_path / "figures.json"
    subprocess.run(
        [sys.executable, str(DEMO), "--seconds", "8", "--record", calls, "--json", figures],
        check=True,
        capture_output=True,
        timeout=120,
    )
    live = json.loads(figures.read_text())["changes"]
    trace = read(calls)
    assert trace.unusable == 0
    assert trace.refused is not None
    present = replay(trace, present=POLICY).policies[1]
    assert len(live) >= 3
    assert moves_of(present) == [(change["from"], change["to"]) for change in live]
    reasons = [change["reason"] for change in live if change["from"] == "closed"]
    assert [opening.reason for opening in present.openings] == reasons
