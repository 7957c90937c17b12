"""The demo in `examples/`, run as a user without a terminal runs it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
COLOURS_WANTED = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}  # there is no terminal all the same


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DEMO), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | COLOURS_WANTED,
        start_new_session=True,  # a signal reaches the demo alone
    )


@dataclass
class Upstream:
    port: int
    process: int

    def is_running(self) -> bool:
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        return True

    def is_serving(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


def upstream_of(first_line: str) -> Upstream:
    match = re.fullmatch(r"upstream at http://127\.0\.0\.1:(\d+), process (\d+)\n", first_line)
    assert match, first_line
    return Upstream(int(match[1]), int(match[2]))


def test_run_without_a_terminal(tmp_path: Path) -> None:
    report = tmp_path / "figures.json"
    with start("--seconds", "6", "--json", str(report)) as demo:
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert out.isascii()
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert not upstream_of(out.splitlines(keepends=True)[0]).is_running()

    figures: dict[str, Any] = json.loads(report.read_text())
    protected, plain = figures["with"], figures["without"]
    for side in (protected, plain):
        assert side["calls"] == side["answered"] + side["failed"] + side["refused"] > 0
        assert side["calls"] == side["reached"] + side["refused"]
        assert side["outage_calls"] == side["outage_reached"] + side["outage_refused"] > 0
    assert protected["calls"] == plain["calls"]
    assert plain["refused"] == 0
    assert protected["outage_reached"] < plain["outage_reached"]
    assert protected["outage_waited_total"] < plain["outage_waited_total"]

    # When and how often it probes depends on the machine; the order does not.
    states = [change["to"] for change in figures["changes"]]
    assert states[:2] == ["open", "half_open"]
    assert states[-1] == "closed"
    assert set(states) == {"open", "half_open", "closed"}
    assert all(change["reason"] for change in figures["changes"])
    assert "circuit: closed -> open (" in out
    assert "circuit: half_open -> closed (" in out

    shown = re.search(r"upstream calls saved +(\d+) +(\d+)$", out, re.MULTILINE)
    assert shown
    assert shown.groups() == (str(protected["outage_refused"]), "0")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupt_ends_it_cleanly() -> None:
    with start() as demo:
        assert demo.stdout
        upstream = upstream_of(demo.stdout.readline())
        while "healthy" not in demo.stdout.readline():  # the first line of the run itself
            assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=20)
    assert (demo.returncode, err) == (130, "")
    assert out.endswith("\nStopped.\n")
    assert not upstream.is_running()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_upstream_ends_even_if_the_demo_is_killed() -> None:
    with start() as demo:
        assert demo.stdout
        upstream = upstream_of(demo.stdout.readline())
        assert upstream.is_serving()
        demo.kill()
    deadline = time.monotonic() + 10
    while upstream.is_serving() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not upstream.is_serving()
