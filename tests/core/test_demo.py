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

import httpx
import pytest

from fluxgate import State

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
SERVICES = ("upstream", "FastAPI application", "Django application")
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
class Service:
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


def services_of(first_lines: list[str]) -> list[Service]:
    services: list[Service] = []
    for name, line in zip(SERVICES, first_lines, strict=True):
        match = re.fullmatch(rf"{name} at http://127\.0\.0\.1:(\d+), process (\d+)\n", line)
        assert match, line
        services.append(Service(int(match[1]), int(match[2])))
    return services


def test_run_without_a_terminal(tmp_path: Path) -> None:
    report = tmp_path / "figures.json"
    with start("--seconds", "8", "--json", str(report)) as demo:
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert out.isascii()
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    services = services_of(out.splitlines(keepends=True)[: len(SERVICES)])
    assert not any(service.is_running() for service in services)

    figures: dict[str, Any] = json.loads(report.read_text())
    protected, plain = figures["with"], figures["without"]
    fastapi, django = figures["apps"]["FastAPI"], figures["apps"]["Django"]
    for side in (protected, plain, fastapi, django):
        assert side["calls"] == side["answered"] + side["failed"] + side["refused"] > 0
        assert side["calls"] == side["reached"] + side["refused"]
        assert side["calls"] == sum(side["answers"].values())
        assert side["outage_calls"] == side["outage_reached"] + side["outage_refused"] > 0
        assert side["outage_calls"] == sum(side["outage_answers"].values())
    assert protected["calls"] == plain["calls"] == fastapi["calls"] == django["calls"]
    assert plain["refused"] == 0
    assert protected["refused"] == protected["answers"]["CircuitOpenError"]
    for side in (protected, fastapi, django):
        assert side["outage_reached"] < plain["outage_reached"]
        assert side["outage_waited_total"] < plain["outage_waited_total"]

    # An application always answers: what it passed on, what failed, what its circuit refused.
    for app in (fastapi, django):
        answers = app["answers"]
        assert answers.keys() <= {"200", "502", "503", "503 with Retry-After"}
        assert (answers["200"], answers["502"]) == (app["answered"], app["failed"])
        assert answers["503 with Retry-After"] > 0
        assert app["refusal_took_p50"] < plain["outage_waited_p95"]
        # Its /metrics say what its users met.
        scraped = app["scraped"]
        assert scraped["refused"] == app["refused"]
        assert scraped["opened"] >= 1
        assert scraped["state"] in set(State)
        assert scraped["line"] in out

    # When and how often it probes depends on the machine, and one that is too busy makes even the
    # healthy upstream look slow; the order does not.
    states = [change["to"] for change in figures["changes"]]
    assert states[:2] == ["open", "half_open"]
    assert set(states) == {"open", "half_open", "closed"}
    assert all(change["reason"] for change in figures["changes"])
    assert "circuit: closed -> open (" in out
    assert "circuit: half_open -> closed (" in out

    def shown(label: str) -> list[int]:
        match = re.search(rf"^ +{label}[^\d\n]* +(\d+) +(\d+)$", out, re.MULTILINE)
        assert match, label
        return [int(figure) for figure in match.groups()]

    assert shown("upstream calls saved") == [protected["outage_refused"], 0]
    assert shown("requests that users made") == [fastapi["calls"], django["calls"]]
    split = [
        shown(label)
        for label in ("200", "502:", "503 with Retry-After:", "503 without:", "anything else,")
    ]
    assert [sum(column) for column in zip(*split, strict=True)] == shown("requests that users made")
    assert split[2] == [app["answers"]["503 with Retry-After"] for app in (fastapi, django)]
    assert shown("calls it refused") == [fastapi["refused"], django["refused"]]
    assert shown("times it opened") == [app["scraped"]["opened"] for app in (fastapi, django)]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_its_consoles_can_be_looked_at() -> None:
    """In both applications, by the user and the password that it prints, afterwards too."""
    with start("--seconds", "4", "--stay") as demo:
        assert demo.stdout
        lines = [demo.stdout.readline() for _ in range(len(SERVICES) + 3)]
        *consoles, user = lines[len(SERVICES) :]
        urls = [
            re.sub(r"console of the \w+ application: (\S+)\n", r"\1", each) for each in consoles
        ]
        named = re.fullmatch(r"user of both consoles: (\w+), password (\S+)\n", user)
        assert named is not None, user
        while "saved" not in demo.stdout.readline():  # the summary has begun
            assert demo.poll() is None
        with httpx.Client(trust_env=False, timeout=20) as client:
            assert client.get(urls[0]).status_code == 401
            page = client.get(urls[0], auth=(named[1], named[2]))
            assert page.status_code == 200
            assert "payments" in page.text
            login = client.get(urls[1], follow_redirects=True)
            sent = {
                "username": named[1],
                "password": named[2],
                "csrfmiddlewaretoken": client.cookies["csrftoken"],
            }
            page = client.post(login.url, data=sent, follow_redirects=True)
            assert (str(page.url), page.status_code) == (urls[1], 200)
            assert "payments" in page.text
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=20)
    assert demo.returncode == 130


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_interrupt_ends_it_cleanly() -> None:
    with start() as demo:
        assert demo.stdout
        services = services_of([demo.stdout.readline() for _ in SERVICES])
        while "healthy" not in demo.stdout.readline():  # the first line of the run itself
            assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        out, err = demo.communicate(timeout=20)
    assert (demo.returncode, err) == (130, "")
    assert out.endswith("\nStopped.\n")
    assert not any(service.is_running() for service in services)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_services_end_even_if_the_demo_is_killed() -> None:
    with start() as demo:
        assert demo.stdout
        services = services_of([demo.stdout.readline() for _ in SERVICES])
        assert all(service.is_serving() for service in services)
        demo.kill()
    deadline = time.monotonic() + 10
    while any(service.is_serving() for service in services) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(service.is_serving() for service in services)


SHORTER = """
import sys
sys.path.insert(0, sys.argv[1])
import fleet
fleet.SCRIPT = tuple((name, seconds / 2, *rest) for name, seconds, *rest in fleet.SCRIPT)
sys.exit(fleet.main())
"""


def test_four_workers_and_their_store() -> None:
    """In half the time: one circuit of four processes, whose store goes away in the middle."""
    done = subprocess.run(
        [sys.executable, "-c", SHORTER, str(DEMO.parent)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    seen = {(line.split()[2], line.split()[-1]) for line in lines if "attached: " in line}
    assert seen >= {("outage", "4"), ("outage-without-store", "0"), ("recovery", "4")}
    table = {line[:52].strip(): line[52:].split() for line in lines if len(line) == 76}
    shared, alone = table["calls that reached the failing service"]
    assert 0 < int(shared) < int(alone)
    assert int(table["probes, all of the outage"][0]) > 0
    assert table["the last worker was open after"][0] != "never"
    assert table["the last worker was closed after"][0] != "never"
    assert table["exceptions that are neither the service's nor ours"] == ["0", "0"]
    (moved,) = (line for line in lines if line.startswith("Who moved the fleet's circuit: "))
    assert json.loads(moved.partition(": ")[2])["fleet"] > 0
