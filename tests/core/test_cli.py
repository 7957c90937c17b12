"""The commands: what they print, where, and how they end."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import fluxgate
from fluxgate import Metrics, State, permits
from fluxgate._words import seconds
from fluxgate.cli import main
from fluxgate.cli._explain.explanation import explain
from fluxgate.cli._explain.report import WARNINGS
from fluxgate.cli._explain.report_text import show
from fluxgate.policy import Policy
from fluxgate.retries import Always, Cooldown, Never, Retry
from fluxgate.trackers import TypeOf
from fluxgate.trippers import Closed, FailureRate, FailureStreak, MinRequests, SlowRate, Tripper
from fluxgate.windows import CountWindow, TimeWindow, Window

RULE = "MinRequests(10) & FailureRate(0.5)"


class Broken(Tripper):
    """A tripper of one's own, which raises."""

    def fires(self, metrics: Metrics) -> bool:
        raise LookupError("no such metric")


class Odd(Tripper):
    """A tripper of one's own, which works."""

    def fires(self, metrics: Metrics) -> bool:
        return metrics.failure_count >= 3


class Hasty(Tripper):
    """A tripper of one's own, which fires on anything."""

    def fires(self, metrics: Metrics) -> bool:
        return True


BROKEN, HASTY, ODD = Broken(), Hasty(), Odd()


class Output:
    """What a command has printed."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def of(self, *words: str) -> str:
        """What goes to stdout; the command must end well, without a word on stderr."""
        assert main(words) == 0
        out, err = self._captured.readouterr()
        assert err == ""
        return out

    def complaint(self, *words: str) -> str:
        """What goes to stderr; the command must end with 2, without a word on stdout."""
        try:
            code: object = main(words)
        except SystemExit as left:
            code = left.code
        out, err = self._captured.readouterr()
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        return err


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setenv("COLUMNS", "100")
    return Output(capsys)


def flat(text: str) -> str:
    """Text without its line breaks."""
    return " ".join(text.split())


# -- the commands


def test_no_command_shows_what_there_is(printed: Output) -> None:
    shown = printed.of()
    assert shown.startswith("usage: python -m fluxgate")
    assert "say in words what a policy does" in shown
    assert "draw the states of a circuit" in shown


@pytest.mark.parametrize("words", [["--help"], ["explain", "--help"], ["diagram", "--help"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    assert "usage: python -m fluxgate" in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"fluxgate {fluxgate.__version__}\n"


def test_as_a_module() -> None:
    """Through `python -m`, where a reader that stops early is no error."""
    command = [sys.executable, "-W", "error", "-m", "fluxgate"]
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"fluxgate {metadata.version('fluxgate-core')}\n"
    wrong = subprocess.run(
        [*command, "explain", "Never()"], capture_output=True, text=True, check=False
    )
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("python -m fluxgate explain: error: tripper: ")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_a_reader_that_stops_early_is_no_error() -> None:
    program = [sys.executable, "-W", "error", "-m", "fluxgate", "diagram"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


# -- what is wrong


def test_an_unknown_name_is_pointed_at(printed: Output) -> None:
    complaint = printed.complaint("explain", "MinRequests(10) & Failurerate(0.5)")
    message, text, mark = complaint.splitlines()
    assert message.startswith("python -m fluxgate explain: error: tripper: `MinRequests(10) &")
    assert "column 19: no tripper is called Failurerate" in message
    assert message.endswith("did you mean 'FailureRate'?")
    assert text[mark.index("^") :] == "Failurerate(0.5)"


def test_all_that_is_wrong_is_said_at_once(printed: Output) -> None:
    complaint = printed.complaint(
        "explain", RULE, "--window", "CountWindow(20", "--retry", "Nope(3)", "--shadow", "All()"
    )
    assert "3 settings can't be used" in complaint
    for problem in ("window: `CountWindow(20`", "no retry is called Nope", "shadow: `All()`"):
        assert problem in complaint


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["MinRequests(200) & FailureRate(0.5)"], "MinRequests(200) is never reached"),
        (["FailureRate(1.5)"], "ratio must be in (0, 1]"),
        (["MinRequests(3)"], "fires on fast successes alone"),
        (["no.such.module.TRIPPER"], "can't be imported"),
        (["  "], "it is empty"),
        (
            [RULE, "--probe-timeout", "soon"],
            "probe_timeout: must be a number of seconds, not 'soon'",
        ),
        ([RULE, "--max-half-open-calls", "0"], "max_half_open_calls: must be at least 1"),
        ([RULE, "--initial-state", "open"], "initial_state: must be one of closed"),
        ([RULE, "--state", "ajar"], "'ajar' is no state; there are closed, open, half_open"),
        ([RULE, "--config", "nowhere.toml"], "nowhere.toml: it can't be read"),
        ([RULE, "--svg", "no/such/folder/x.svg"], "No such file or directory"),
        ([RULE, "extra"], "unrecognized arguments: extra"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_makes_no_sense_is_refused(
    printed: Output, words: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert problem in printed.complaint("explain", *words)


# -- explain


def test_the_default_policy_is_explained_without_words(printed: Output) -> None:
    text = flat(printed.of("explain"))
    assert f"tripper {RULE}" in text
    assert "there are at least 10 calls and at least 50 % of the calls failed" in text
    assert text == flat(printed.of("explain", RULE))


def test_the_whole_of_it(printed: Output) -> None:
    text = flat(
        printed.of(
            "explain",
            "MinRequests(20) & (FailureRate(0.5) | SlowRate(0.3, 1.0))",
            *("--name", "payments", "--window", "TimeWindow(60)", "--retry", "Backoff(1)"),
            *("--permit", "Random(0.5)", "--tracker", 'TypeOf("ConnectionError", "TimeoutError")'),
            *("--max-half-open-calls", "3", "--probe-timeout", "12.5"),
            *("--shadow", "FailureStreak(3)", "--result-tracker", "operator.not_"),
            *("--healthy", 'TypeOf("KeyError")'),
        )
    )
    for sentence in (
        "payments ========",
        "the calls of the last 60 s: it opens when there are at least 20 calls and "
        "(at least 50 % of the calls failed or at least 30 % of the calls took 1 s or longer).",
        "it opens after 20 calls if all of them fail.",
        "Of 20 calls, 10 failures open it, if they are the last; 9 don't.",
        "every call succeeds, after 1 s 20 calls",
        "1 in 2 calls fails 20 calls",
        "1 in 4 calls fails stays closed",
        "6 calls/min never never",
        "fewer than 20 calls in 60 s (about 20 calls/min) it can't open",
        "failures are exceptions that are ConnectionError or TimeoutError. A call that raises ",
        "also a failure if result_tracker says so",
        "Exceptions that are KeyError count as successes.",
        "1 s at first; after each failed recovery 2 s, 4 s, 8 s, 16 s, …, 5 min",
        "50 % of the calls are admitted as probes, at most 3 at once",
        "takes 12.5 s or longer gives its slot back",
        "opens again when there are at least 20 calls and (at least 50 %",
        "and still if the first 9 fail.",
        "Probes that succeed after 1 s open it again.",
        "a shadow is tried on the same calls and never acted on: it would open when "
        "the last 3 calls all failed",
        "max_half_open_calls 3",
    ):
        assert sentence in text, sentence
    assert "never open it, however long they take" not in text  # it sees slow calls
    assert "Errors that are returned" not in text  # it sees results


def test_what_it_leaves_out_is_at_its_default(printed: Output) -> None:
    settings, _, _ = printed.of("explain", RULE, "--probe-timeout", "60").partition("\n\nWhen")
    assert "probe_timeout" not in settings
    settings, _, _ = printed.of("explain", RULE, "--probe-timeout", "61").partition("\n\nWhen")
    assert "probe_timeout  61" in settings


@pytest.mark.parametrize(
    ("state", "says", "not_this"),
    [
        ("closed", "When it opens", "While it is open"),
        ("open", "It stays open 60 s", "When it opens"),
        ("half_open", "It is judged by its probes alone, once 10 probes", "It stays open 60 s"),
        ("HALF-OPEN", "at most 10 at once", "What it can't see"),
        ("metrics_only", "what the policy would have done is reported", "When it opens"),
        ("disabled", "nothing is counted", "When it opens"),
        ("forced_open", "every call is refused, however long", "When it opens"),
    ],
)
def test_one_state_alone(printed: Output, state: str, says: str, not_this: str) -> None:
    text = flat(printed.of("explain", RULE, "--state", state))
    assert says in text
    assert not_this not in text
    assert f"» {State(state.lower().replace('-', '_')).upper()} «" in text


def test_where_it_starts(printed: Output) -> None:
    assert "Where it starts" not in printed.of("explain", RULE)
    text = flat(printed.of("explain", RULE, "--initial-state", "metrics_only"))
    assert "Where it starts --------------- • metrics_only: every call passes" in text


def test_lines_fit_the_terminal(printed: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = printed.of("explain", RULE)
    prose, _, diagram = text.partition("  ┌")
    assert max(map(len, prose.splitlines())) <= 60 + 12  # tables keep their columns
    assert max(len(line) for line in prose.splitlines() if "•" in line) <= 60
    assert max(map(len, diagram.splitlines())) <= 80


# -- from a file


TOML = """\
[defaults]
retry = "Cooldown(30)"

[breakers.payments]
tripper = "FailureStreak(5)"
listeners = ["operator.not_"]

[breakers."*.internal"]
initial_state = "disabled"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "fluxgate.toml"
    path.write_text(TOML)
    return path


def test_a_files_entry(printed: Output, toml: Path) -> None:
    text = flat(printed.of("explain", "--config", str(toml), "--name", "payments"))
    assert text.startswith("payments ======== window CountWindow(100) tripper FailureStreak(5) ")
    assert "It stays open 30 s" in text
    only = flat(printed.of("explain", "--config", str(toml)))  # the only name there is
    assert only == text


def test_a_files_entry_with_other_settings(printed: Output, toml: Path) -> None:
    """What if: the file's settings, and one of them changed."""
    text = flat(printed.of("explain", "FailureStreak(7)", "--config", str(toml)))
    assert "tripper FailureStreak(7)" in text
    assert "It stays open 30 s" in text


def test_a_files_pattern_and_defaults(printed: Output, toml: Path) -> None:
    text = flat(printed.of("explain", "--config", str(toml), "--name", "db.internal"))
    assert "disabled: every call passes and nothing is counted" in text
    assert f"the settings of the pattern '*.internal' in {toml}" in text
    text = flat(printed.of("explain", "--config", str(toml), "--name", "paymets"))
    assert "no entry for 'paymets', so its defaults hold; did you mean 'payments'?." in text
    assert "It stays open 30 s" in text


def test_a_files_mistakes(printed: Output, toml: Path) -> None:
    toml.write_text(TOML.replace("FailureStreak(5)", "FailureStreek(5)"))
    complaint = printed.complaint("explain", "--config", str(toml), "--name", "payments")
    assert "payments.tripper" in complaint
    assert "did you mean 'FailureStreak'?" in complaint
    toml.write_text(TOML + "[breakers.search]\n")
    complaint = printed.complaint("explain", "--config", str(toml))
    assert "say with --name which of its circuits is meant: payments, search" in complaint


# -- a second look


def warnings(policy: Policy) -> str:
    return " ".join(explain(policy).warnings)


@pytest.mark.parametrize(
    ("policy", "warning"),
    [
        (Policy(tripper=FailureRate(0.5)), "A single failure opens it"),
        (
            Policy(tripper=MinRequests(90) & FailureRate(0.5)),
            "MinRequests(90) nearly fills CountWindow(100)",
        ),
        (
            Policy(window=CountWindow(2_000), tripper=MinRequests(10) & FailureRate(0.5)),
            "it takes 1,000 failures in a row to open it",
        ),
        (
            Policy(tripper=FailureStreak(30_000)),
            "It takes more than 20,000 calls to try all of it. Where this says that it stays "
            'closed, or "never", it may do so later.',
        ),
        (Policy(retry=Never()), "It never probes"),
        (Policy(retry=Always()), "hardly refuses anybody"),
        (Policy(retry=Cooldown(60.0)), "jitter_ratio=0.1 in its retry strategy"),
        (
            Policy(tripper=MinRequests(10) & SlowRate(0.5, 60.0)),
            "has outlasted probe_timeout=60",
        ),
    ],
    ids=repr,
)
def test_what_is_worth_a_second_look(policy: Policy, warning: str) -> None:
    assert warning in warnings(policy)
    sound = Policy(retry=Cooldown(60.0, 0.1), tripper=MinRequests(10) & SlowRate(0.5, 1.0))
    assert warnings(sound) == ""


def test_a_tripper_of_ones_own() -> None:
    report = explain(Policy(tripper=ODD))
    text = " ".join(point for section in report.sections for point in section.points)
    assert "it opens when Odd() fires." in text
    assert "it opens after 3 calls if all of them fail" in text
    assert "Every call is judged under the circuit's lock" in text


def test_a_tripper_that_fires_on_anything() -> None:
    report = explain(Policy(tripper=HASTY))
    assert "Good calls open it, with nothing bad among them." in report.warnings
    assert "('every call fails at once', '1 call', '0 calls')" in str(report.sections)


def test_what_strategies_raise_is_said_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        report = explain(Policy(tripper=BROKEN))
    (raised,) = [each for each in report.warnings if "LookupError" in each]
    assert "the circuit logged: tripper" in raised
    assert "no such metric" in raised
    assert "Nothing that was tried opens it" in " ".join(report.warnings)
    assert not caplog.records
    logging.getLogger("fluxgate").warning("afterwards")
    assert caplog.messages == ["afterwards"]


def test_a_retry_that_raises() -> None:
    class Faulty(Retry):
        def delay(self, reopens: int) -> float:
            raise ArithmeticError("none")

    report = explain(Policy(retry=Faulty()))
    assert "It stays open 60 s" in str(report.sections)  # as a circuit takes it
    assert "ArithmeticError" in str(report.warnings)


def test_clauses_that_belong_to_a_state() -> None:
    text = str(explain(Policy(tripper=Closed() & FailureRate(0.5))).sections)
    assert "the classic rule holds: a probe that fails opens it again" in text
    assert "it opens when at least 50 % of the calls failed" in text


def test_a_streak_is_seen_however_little_traffic() -> None:
    """It goes on beyond a TimeWindow, so the warning about little traffic would be wrong."""
    sections = str(explain(Policy(window=TimeWindow(60.0), tripper=FailureStreak(5))).sections)
    assert "Little traffic" not in sections
    assert "('1 call/min', '4 min', '4 min')" in sections


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0 s"),
        (0.0005, "0.5 ms"),
        (0.25, "250 ms"),
        (1.0, "1 s"),
        (90.5, "90.5 s"),
        (119.9, "119.9 s"),
        (120.0, "2 min"),
        (490.0, "8 min 10 s"),
        (3600.0, "1 h"),
        (5400.0, "1 h 30 min"),
        (86_400.0, "1 d"),
        (190_000.0, "2 d 4 h"),
    ],
)
def test_durations(value: float, shown: str) -> None:
    assert seconds(value) == shown


class Rising(permits.Permit):
    """A permit of one's own, which raises at first."""

    def ratio(self, elapsed: float) -> float:
        return elapsed / elapsed / 4


@pytest.mark.parametrize(
    ("permit", "says", "slowly"),
    [
        (permits.All(), "every call is admitted as a probe", "about 9 min"),
        (permits.Random(0.25), "25 % of the calls are admitted as probes", "about 39 min"),
        (permits.Random(0.0001), "0.01 % of the calls are admitted", "very long"),
        (
            permits.RampUp(0.1, 0.5, 1.0),
            "10 % of the calls are admitted as probes at first, 50 % after 1 s",
            "about 20 min",
        ),
        # It raises at the first call, which a circuit then admits, and gives a quarter later.
        (Rising(), "Rising() decides which share of the calls is admitted", "about 36 min"),
    ],
    ids=repr,
)
def test_permits(permit: permits.Permit, says: str, slowly: str) -> None:
    section = explain(Policy(permit=permit), state=State.HALF_OPEN).sections[0]
    assert says in section.points[0]
    assert dict(section.tables[0].rows)["1 call/min"] == slowly


def test_a_window_of_ones_own() -> None:
    class Latest(Window):
        def tally(self, thresholds: tuple[float, ...], streak: int = 0) -> Any:
            return CountWindow(50).tally(thresholds, streak)

    sections = str(explain(Policy(window=Latest())).sections)
    assert "It judges the calls that Latest() holds" in sections
    assert "it opens after 10 calls if all of them fail" in sections


def test_a_window_that_is_too_long_to_try() -> None:
    """No table rather than one without rows."""
    report = explain(Policy(window=TimeWindow(1e8)))
    assert all(table.rows for section in report.sections for table in section.tables)
    assert "after a window of good calls" not in str(report.sections)


def test_untracked_exceptions() -> None:
    sections = str(explain(Policy(tracker=~TypeOf(KeyError))).sections)
    assert "failures are exceptions that are not KeyError. A call" in sections


# -- how it is shown


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_colours_on_a_terminal_with_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    report = explain(Policy(), name="[bold]payments[/]")
    terminal = Terminal()
    show(report, terminal)
    text = terminal.getvalue()
    assert "\x1b[" in text
    assert "[bold]payments[/]" in text  # a name is no markup
    assert "HALF_OPEN" in text
    assert WARNINGS in text
    bare = flat(re.sub(r"\x1b\[[0-9;]*m", "", text))
    for section in report.sections:
        assert section.title in bare
        for point in section.points:
            assert flat(point) in bare
        for table in section.tables:
            for row in table.rows:
                assert flat(" ".join(row)) in bare


def test_no_colours_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    report = explain(Policy())
    for out, plain in ((Terminal(), True), (io.StringIO(), False)):
        show(report, out, plain=plain)
        assert "\x1b" not in out.getvalue()
        assert out.getvalue().startswith("This policy\n===========\n")
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "fluxgate.cli._explain.report_rich", raising=False)
    without = Terminal()
    show(report, without)
    assert without.getvalue() == out.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_encoding_will_do(encoding: str) -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, newline="\n") as out:
        show(explain(Policy(), name="Zahlungen ä"), out)
        out.flush()
        text = raw.getvalue().decode(encoding)
    arrow = "tripped, open_for()     ┌" if encoding == "utf-8" else "tripped, open_for()     +"
    assert arrow in text
    assert "?" not in text.replace("Zahlungen ?", "")
