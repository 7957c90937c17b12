"""`python -m fluxgate fleet`: what is stored, shown and set by hand, in a file and in Redis."""

from __future__ import annotations

import getpass
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest

from fluxgate import CircuitBreaker, State
from fluxgate.cli import main
from fluxgate.cli._fleet.watch import Watch, lines
from fluxgate.cli.fleet import UnknownCircuitError, run
from fluxgate.errors import ConfigError
from fluxgate.fleet import Fleet
from fluxgate.fleet.memory import MemoryStore
from fluxgate.fleet.store import Counts, Exchange, Hint, Shape
from fluxgate.trippers import FailureStreak

from ...realservers import Redis
from .conftest import PATIENCE, Fleets, eventually

COLUMNS = ["name", "state", "epoch", "retry_after", "calls", "failures", "reporter"]
COLUMNS += ["reverts_in", "by", "note", "states", "processes"]


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    server = Redis()
    with closing(server):
        server.start()
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that processes have begun to use; each test has circuits of its own."""
    if request.param == "redis":
        server: Redis = request.getfixturevalue("redis")
        return f"{server.url}/{next(_databases)}"
    return f"sqlite://{tmp_path}/fleet.db"


_databases = iter(range(16))


@contextmanager
def used(url: str, *names: str) -> Iterator[tuple[Fleet, list[CircuitBreaker]]]:
    """A process of the fleet, which has called each of the circuits once."""
    with Fleet(url) as fleet:
        breakers = [CircuitBreaker(name, fleet=fleet) for name in names]
        for breaker in breakers:
            breaker.call(int)
        assert fleet.flush(PATIENCE)
        yield fleet, breakers


def test_what_is_listed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with used(url, "pay ments", "search") as (fleet, (one, other)):
        for _ in range(2):
            one.call(int)
        one.attempt().fail()
        other.open_for(600.0, fleet=True)
        assert fleet.flush(PATIENCE)
        assert main(["fleet", url, "list", "--format", "json"]) == 0
        first, second = json.loads(capsys.readouterr().out)["circuits"]
        assert list(first) == COLUMNS
        assert (first["name"], first["state"], first["epoch"]) == ("pay ments", "closed", 0)
        assert (first["calls"], first["failures"], first["retry_after"]) == (4, 1, None)
        assert first["reporter"]
        assert second["state"] == "open"
        assert 500 < second["retry_after"] <= 600
        assert main(["fleet", url, "list"]) == 0
        heads, closed, opened, seen, *_ = capsys.readouterr().out.splitlines()
        assert re.split(r"  +", heads) == ["NAME", "STATE", "CALLS", "FAILED", "LAST REPORT"]
        assert re.split(r"  +", closed) == ["pay ments", "closed", "4", "1", first["reporter"]]
        assert re.match(r"search  +open, (9|10) min", opened)
        # Each process has its own line where there is something to say.
        assert re.split(r"  +", seen.strip()) == [first["reporter"], "open", "1", "0", "open_for()"]


def test_states_in_words(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same everywhere; JSON has the values."""
    with used(url, "search") as (fleet, (search,)):
        search.force_open(fleet=True)
        assert fleet.flush(PATIENCE)
        for verb in (["list"], ["show", "search"], ["open", "search"]):
            assert main(["fleet", url, *verb]) == 0
            said = capsys.readouterr().out
            assert "forced open" in said
            assert "forced_open" not in said
        assert main(["fleet", url, "show", "search", "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "forced_open"


def test_what_is_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with used(url, "search", "payments") as (fleet, (search, _)):
        search.open_for(600.0, fleet=True)
        assert fleet.flush(PATIENCE)
        assert main(["fleet", url, "show", "search"]) == 0
        assert "reason       open_for(): 600 s" in capsys.readouterr().out
        assert main(["fleet", url, "show", "search", "--format", "json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["reason"] == "open_for(): 600 s"
        (report,) = shown["reports"].values()
        assert report.startswith("open 0/1/0/")
        assert main(["fleet", url, "show", "serach"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "no process has reported a circuit 'serach' yet; did you mean 'search'?" in err


def test_a_process_that_is_alone(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its circuit is open, and nobody else's: that is seen, though the fleet is closed."""
    with used(url, "x") as (fleet, _), used(url, "y") as (_, (closed,)):
        other = CircuitBreaker("y", tripper=FailureStreak(1), fleet=fleet)
        other.attempt().fail()
        assert (closed.state, other.state) == (State.CLOSED, State.OPEN)
        assert fleet.flush(PATIENCE)

        def listed() -> list[str]:
            assert main(["fleet", url, "list"]) == 0
            _, _, line, seen, *_ = capsys.readouterr().out.splitlines()
            assert seen.split()[1:] == ["open", "1", "1", "FailureStreak(1)"]
            return re.split(r"  +", line)[:2]

        eventually(lambda: listed() == ["y", "open in 1 of 2 processes"])  # both are heard of


def test_opened_by_all_alone(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Streaks are no evidence for the fleet, which stays closed; nobody gets through."""
    streak = FailureStreak(1)
    with Fleet(url) as one, Fleet(url) as two:
        breakers = [CircuitBreaker("x", tripper=streak, fleet=fleet) for fleet in (one, two)]
        for breaker in breakers:
            breaker.attempt().fail()
        assert one.flush(PATIENCE)
        assert two.flush(PATIENCE)
        assert main(["fleet", url, "show", "x"]) == 0
        assert "state        open in 2 of 2 processes" in capsys.readouterr().out
        assert main(["fleet", url, "list", "--format", "json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)["circuits"]
        assert (row["state"], row["states"], row["processes"]) == ("closed", {"open": 2}, 2)
        for fleet in (one, two):
            fleet.control("x", "force_open", timeout=PATIENCE)
            assert fleet.flush(PATIENCE)
        assert main(["fleet", url, "list", "--plain"]) == 0
        line = capsys.readouterr().out.splitlines()[1]
        assert re.split(r"  +", line)[1] == "forced open"


@pytest.mark.parametrize(
    ("verb", "state"), [("open", State.FORCED_OPEN), ("disable", State.DISABLED)]
)
def test_set_by_hand(url: str, verb: str, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    with used(url, "a", "b", "c") as (_, breakers):
        assert main(["fleet", url, verb, "a", "b"]) == 0
        out, err = capsys.readouterr()
        words = str(state).replace("_", " ")
        assert re.fullmatch(rf"a: {words} \(epoch \d+\)\nb: {words} \(epoch \d+\)\n", out)
        assert err == ""
        eventually(lambda: [each.state for each in breakers] == [state, state, State.CLOSED])
        assert main(["fleet", url, "show", "a", "--format", "json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        control = {"open": "force_open()", "disable": "disable()"}[verb]
        command = f"python -m fluxgate fleet {verb}"
        assert shown["reason"] == f"{control}, by {getpass.getuser()}: {command}"
        assert (shown["by"], shown["note"]) == (getpass.getuser(), command)
        assert main(["fleet", url, "reset", "a"]) == 0
        eventually(lambda: breakers[0].state is State.CLOSED)
        assert breakers[1].state is state


def test_set_before_its_first_use(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be meant for a deployment to come, or mistyped: it is done, and said."""
    with used(url, "payments") as (fleet, _):
        assert main(["fleet", url, "open", "paymets"]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("paymets: forced open")
        assert "no process has reported a circuit 'paymets' yet; did you mean 'payments'?" in err
        later = CircuitBreaker("paymets", fleet=fleet)
        eventually(lambda: later.state is State.FORCED_OPEN)


@pytest.mark.parametrize(
    "url", ["nowhere://x", "redis://u:hunter2@127.0.0.1:1/0", "sqlite:///does/not/exist/x.db"]
)
@pytest.mark.parametrize("verb", [["list"], ["show", "x"], ["watch"], ["open", "x"]])
def test_no_usable_store(url: str, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", url, *verb]) == 2
    said = capsys.readouterr().err
    assert "fleet: error:" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("verb", [["list"], ["show", "x"], ["watch"], ["reset", "x"]])
def test_a_mistyped_path(
    tmp_path: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fleet", f"sqlite://{tmp_path}/typo.db", *verb]) == 2
    assert f"there is no file '{tmp_path}/typo.db': look at the path" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_memory(fleets: Fleets, capsys: pytest.CaptureFixture[str]) -> None:
    """It is inside one process; what a shell would set there is set for nobody."""
    assert main(["fleet", fleets.url, "open", "x"]) == 2
    assert "is inside one process, and this one has no circuits there" in capsys.readouterr().err
    fleet = fleets.make()
    breaker = CircuitBreaker("x", fleet=fleet)
    breaker.call(int)
    assert fleet.flush(PATIENCE)
    assert main(["fleet", fleets.url, "open", "x"]) == 0
    eventually(lambda: breaker.state is State.FORCED_OPEN)


DAMAGED = b"SQLite format 3\0" + bytes(44) + b"\0\0\0\1" + bytes(4) + b"FLUX" + bytes(28)


@pytest.mark.parametrize("content", [b"", DAMAGED])
def test_a_file_without_circuits(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "void.db"
    path.write_bytes(content)
    assert main(["fleet", f"sqlite://{path}", "list"]) == 2
    assert "error" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_arguments_of_run(tmp_path: Path) -> None:
    with used(f"sqlite://{tmp_path}/fleet.db", "x") as (fleet, _):
        with pytest.raises(ConfigError, match="'shut' is no verb of a fleet; known are list, show"):
            run(fleet, "shut", ["x"], command="test")
        for verb, names, said in (
            ("open", [], "open takes one name or more"),
            ("show", [], "show takes one name"),
            ("list", ["x"], "list takes no name"),
        ):
            with pytest.raises(ConfigError, match=said):
                run(fleet, verb, names, command="test")
        with pytest.raises(ConfigError, match="a circuit's name can't be empty"):
            run(fleet, "open", ["x", ""], command="test")
        with pytest.raises(UnknownCircuitError, match="did you mean 'orders'"):
            run(fleet, "show", ["order"], command="test", known=["orders"])


# -- watch


@contextmanager
def watching(
    url: str, *options: str, out: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "fluxgate", "fleet", url, "watch", *options]
    env = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    with subprocess.Popen(
        command, stdout=out, stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_watch_in_json(url: str) -> None:
    with used(url, "x") as (_, (one,)), watching(url, "--format", "json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["state"] == "closed"
        one.force_open(fleet=True)
        seen = one_of(process.stdout, "forced_open")
        assert [*seen] == [*COLUMNS, "reports"]
        while not seen["reports"]:
            seen = json.loads(process.stdout.readline())
        (report,) = seen["reports"].values()
        assert report.startswith("forced_open 0/1")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def one_of(lines: IO[str], state: str) -> dict[str, object]:
    while True:
        seen: dict[str, object] = json.loads(lines.readline())
        if seen["state"] == state:
            return seen


def test_watch_in_lines(url: str) -> None:
    with used(url, "x") as (_, (one,)), watching(url) as process:
        lines = process.stdout
        assert lines is not None
        assert lines.readline().split()[:4] == ["x", "closed", "1", "0"]
        one.disable(fleet=True)
        # The process may report that it is disabled before the fleet is.
        eventually(lambda: lines.readline().split()[:2] == ["x", "disabled"])
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_watch_while_the_store_is_gone() -> None:
    """What an operator watches for: that is said, and the watch goes on."""
    with Redis() as server, used(server.url, "x"), watching(server.url) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("x  closed")
        server.kill()
        assert process.stderr.readline().startswith("not up to date: redis: ")
        server.start()
        with used(server.url, "y"):
            assert process.stdout.readline().startswith("y  closed")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_watch_of_a_slow_store(fleets: Fleets) -> None:
    """Where a look takes long, the next one is later, so that others get their turn."""
    asked: list[float] = []

    class Recording(MemoryStore):
        def wait(self, timeout: float) -> list[Hint]:
            asked.append(timeout)
            return []

    watch = Watch(Recording(fleets.space))
    watch.wait()
    fleets.space.delay = 0.3
    watch.look()
    watch.look()
    watch.wait()
    assert asked[0] == 1.0
    assert asked[1] >= 4 * 0.3


def test_time_that_runs_is_no_change(fleets: Fleets) -> None:
    """A process says each second for how long it has been open, and when it tries again."""
    reader, out = MemoryStore(fleets.space), io.StringIO()
    asked = Exchange("x", 0, Shape(1, 61, 100, ()))
    reader.exchange([asked._replace(delta=Counts(1), report="open 0/1/0/5/20 FailureStreak(1)")])
    said = ["0/1/0/6/19 FailureStreak(1)", "0/1/3/7/18 x"]

    class Watched(Watch):
        def wait(self) -> None:
            if not said:
                raise KeyboardInterrupt
            reader.exchange([asked._replace(report=f"open {said.pop(0)}")])

    lines(Watched(reader), out, io.StringIO(), as_json=True)
    shown = [json.loads(line) for line in out.getvalue().splitlines()]
    reports = [text for each in shown for text in each["reports"].values()]
    assert reports == ["open 0/1/0/5/20 FailureStreak(1)", "open 0/1/3/7/18 x"]


def test_watch_on_a_terminal(tmp_path: Path) -> None:
    """A page in place of lines; 80 columns hold what matters, and the end is a clean one."""
    pytest.importorskip("rich")
    url = f"sqlite://{tmp_path}/fleet.db"
    ours, theirs = pty.openpty()
    with used(url, "x" * 60, "payments") as (_, (_, one)), watching(url, out=theirs) as process:
        os.close(theirs)
        page = ""

        def shows(text: str) -> bool:
            nonlocal page
            page += os.read(ours, 65536).decode()
            return text in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", page)

        eventually(lambda: shows("closed"), 2 * PATIENCE)
        one.open_for(600.0, fleet=True)
        eventually(lambda: shows("open, 10 min") or shows("open, 9 min"), 2 * PATIENCE)
        eventually(lambda: shows("open_for()"), 2 * PATIENCE)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        os.close(ours)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", page)
    assert max(map(len, plain.splitlines())) <= 80


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, where rich is installed and nobody says otherwise."""
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with used(f"sqlite://{tmp_path}/fleet.db", "x") as (fleet, (one,)):
        one.force_open(fleet=True)
        assert fleet.flush(PATIENCE)

        def listed(**options: bool) -> str:
            out = Terminal()
            run(fleet, "list", command="test", out=out, **options)
            return out.getvalue()

        assert "\x1b[1;31mforced open" in listed()
        assert "\x1b" not in listed(plain=True)
        monkeypatch.setitem(sys.modules, "rich", None)
        monkeypatch.setitem(sys.modules, "rich.console", None)
        monkeypatch.delitem(sys.modules, "fluxgate.cli._fleet.report_rich", raising=False)
        assert listed() == listed(plain=True)


def test_more_circuits_than_lines() -> None:
    """Those with trouble come first, and what is left out is counted."""
    console = pytest.importorskip("rich.console")
    from fluxgate.cli._fleet.circuits import Look, Row
    from fluxgate.cli._fleet.report_rich import page
    from fluxgate.fleet.store import Report

    rows = [Row(f"c{n:03}", "closed", 0, None, 10, 0, "h:1") for n in range(100)]
    rows.append(Row("payments", "half_open", 7, None, 1, 1, "h:1"))
    reports = {"payments": [Report(f"h:{n}", "what nobody can read") for n in range(10)]}
    made = console.Console(file=io.StringIO(), width=80)
    made.print(page(Look(rows, reports, "not up to date: gone"), 80, 15))
    lines = [line.rstrip() for line in made.file.getvalue().splitlines()]
    assert lines[1].split() == ["payments", "half", "open", "1", "1", "h:1"]
    assert lines[2].split("  ")[-1].strip() == "what nobody can read"
    assert lines[12].startswith("c000")
    assert lines[16] == "and 96 lines more"
    assert lines[-1] == "not up to date: gone"


def test_wide_names_keep_their_columns(url: str) -> None:
    with used(url, "日本語", "e\u0301t\u0301", "x" * 6):
        out = io.StringIO()
        run(url, "list", command="test", out=out)
    lines = {line.split("  ")[0]: line for line in out.getvalue().splitlines()}
    assert lines["NAME"].startswith("NAME    STATE")
    assert lines["日本語"].startswith("日本語  closed")
    assert lines["xxxxxx"].startswith("xxxxxx  closed")
    assert all(len(line) <= 80 for line in lines.values())
