"""Text that nobody would write: a ConfigError with the right column, and nothing else."""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fluxgate import CircuitBreaker, ConfigError
from fluxgate._settings.expression import StrategyKind
from fluxgate.config import build, load, parse, read
from fluxgate.registry import Registry
from fluxgate.trippers import FailureRate, MinRequests, Tripper

KINDS: tuple[StrategyKind, ...] = get_args(StrategyKind)
SPACES = ["\u00a0", "\u2003", "\u3000", "\x85", "\u2028", "\x1f", "\t", "\n", "\r\n"]
CLAUSES = ["MinRequests(10)", "FailureRate(0.5)", 'TypeOf("é😀")', "Cooldown(60, 0.1)", "All()"]
PIECES = [
    *CLAUSES,
    *SPACES,
    *(
        "(",
        ")",
        "&",
        "|",
        "~",
        ",",
        "-",
        "+",
        ".",
        "=",
        '"',
        "'",
        "\\",
        "#",
        "\0",
        "\ud800",
        "é",
        "😀",
    ),
    *("9" * 1900, "1e999", "0.5", "a.a", "not ", "and ", "f'{1}'", "b'1'", "lambda: 1", "await x"),
]
texts = st.text() | st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def complaint(kind: StrategyKind, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(kind, text)
    str(caught.value).encode()  # a log and a terminal can hold it
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=150)
@given(text=texts)
@example(text="~" * 2000)
@example(text="(" * 2000)
@example(text="-" * 2000)
@example(text=f"TypeOf({'a.' * 990}a)")
@example(text="a." * 999 + "a")
@example(text="Min\0Requests(1)")
@example(text='TypeOf("\ud800")')
@example(text="\ud800.x")
@example(text="Cooldown(" + "9" * 1900 + ")")
@example(text="x" * 1_000_000)
@example(text=".".join("a" * 500_000))
def test_a_strategy_or_a_config_error(kind: StrategyKind, text: str) -> None:
    try:
        strategy = parse(kind, text)
    except ConfigError as error:
        message = str(error)
    else:
        message = strategy.describe()
    assert len(message) < 5000
    assert message.encode()


@settings(deadline=None)
@given(
    before=st.lists(st.sampled_from([*SPACES, " "]), max_size=4).map("".join),
    between=st.lists(st.sampled_from([*SPACES, " "]), max_size=4).map("".join),
    after=st.lists(st.sampled_from([*SPACES, " "]), max_size=4).map("".join),
    wrong=st.sampled_from(
        ["Nope(1)", "Nöpe(1)", "FailureRate", "3", "FailureRate(x)", "Cooldown(1)"]
    ),
)
def test_the_column_of_a_mistake(before: str, between: str, after: str, wrong: str) -> None:
    text = f"{before}MinRequests(10){between}&{after}{wrong}"
    column = text.index(wrong) + 1 + (wrong.index("x") if "(x" in wrong else 0)
    assert f": column {column}: " in complaint("tripper", text)


@pytest.mark.parametrize(
    ("kind", "text", "column"),
    [
        ("tracker", 'TypeOf("OSError", é😀)', 20),
        ("tracker", 'All() & TypeOf("a\ud800")', 18),
        ("tripper", "MinRequests(10)\0", 16),
        ("tripper", "\u00a0\u3000MinRequests(10) & ", 21),
        ("tripper", "MinRequests(10) \u00a0& MinRequests(1", 31),
        ("retry", "\tCooldown(1j)", 11),
    ],
)
def test_columns_of_odd_characters(kind: StrategyKind, text: str, column: int) -> None:
    assert f": column {column}: " in complaint(kind, text)


@pytest.mark.parametrize("space", SPACES, ids=ascii)
def test_any_white_space_is_a_space(space: str) -> None:
    text = f"{space}MinRequests(10){space}&{space}FailureRate({space}0.5){space}"
    assert parse("tripper", text) == MinRequests(10) & FailureRate(0.5)


@settings(deadline=None)
@given(table=st.dictionaries(texts, texts | st.none() | st.integers() | st.floats(), max_size=3))
@example(table={"tripper": "\ud800"})
@example(table={"probe_timeout": "9" * 5000})
@example(table={"initial_state": "\ud800" * 300})
@example(table={"\ud800": "\n"})
def test_settings_of_any_text(table: dict[str, Any]) -> None:
    for tables in ({"breakers": {"x": table}}, {"defaults": table}):
        try:
            problems: list[ConfigError] = [*read(tables).problems()]
        except ConfigError as error:
            problems = [error]
        for problem in problems:
            assert str(problem).encode()


@settings(deadline=None)
@given(key=texts)
def test_keys_of_any_text(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read({f"{key}?": {}})
    assert str(caught.value).encode()
    with pytest.raises(ConfigError) as caught:
        Registry({"x": {}}, strict=True)[f"{key}?"]
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("x = " + "9" * 5000, "it is not valid TOML: Exceeds the limit"),
        ("x = " + "[" * 5000, "it is not valid TOML: "),
        ("x = 1979-05-27T07:61:00", "it is not valid TOML: "),
        ('x = "\0"', "it is not valid TOML: "),
        ("[breakers.x]\nprobe_timeout = " + "9" * 400, "x.probe_timeout: must be 1e-9 to 1e9"),
        ("[breakers.x]\nprobe_timeout = nan", "x.probe_timeout: must be 1e-9 to 1e9 seconds"),
        ("[breakers.x]\nmax_half_open_calls = 0x7fffffffffffffff", "must be at most 10,000,000"),
    ],
    ids=range(7),
)
def test_files_of_any_text(content: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000, "."])
def test_files_that_can_not_be(name: str) -> None:
    with pytest.raises(ConfigError, match="it can't be read"):
        load(name)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_bytes(b"x = \xff")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        load(path)


def test_a_module_that_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fluxgate_script.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    assert "can't be imported (3)" in complaint("tripper", "fluxgate_script.RULE")
    assert "can't be imported (3)" in complaint("tracker", 'TypeOf("fluxgate_script.Error")')


class Unnamed:
    """An object, an error and a strategy whose repr and str raise."""

    def __repr__(self) -> str:
        raise LookupError("no name")

    __str__ = __repr__


class UnnamedError(Unnamed, Exception):
    """As an import may raise it."""


class UnnamedTripper(Unnamed, Tripper):
    """As a user may write it."""

    def fires(self, metrics: object) -> bool:
        return False

    def given(self, state: object) -> Tripper:
        raise UnnamedError


def test_what_can_not_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def getattribute(_: str) -> object:
        raise UnnamedError

    module = types.ModuleType("fluxgate_unnamed")
    module.__getattr__ = getattribute  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "fluxgate_unnamed", module)
    for table in (
        dict.fromkeys(("tripper", "retry", "listeners", "buckets", "clock"), Unnamed()),
        {"tripper": UnnamedTripper()},
        {"tripper": "fluxgate_unnamed.RULE"},
        {"tracker": 'TypeOf("fluxgate_unnamed.Error")'},
        {Unnamed(): 1},
        Unnamed(),
    ):
        with pytest.raises(ConfigError) as caught:
            build("x", table)  # type: ignore[arg-type]
        assert "Unnamed" in str(caught.value)


def test_words_of_what_can_not_be_shown() -> None:
    class Odd(UnnamedTripper):
        def given(self, state: object) -> Tripper:
            return self

    words = CircuitBreaker("x", tripper=Odd()).policy.tripper.describe()
    assert words == "<Odd, whose repr() raises LookupError> fires"


@pytest.mark.parametrize("text", ["1.and 2", "Cooldown(1.if)", "Cooldown(1.or 2)"])
def test_no_warning_of_the_parser(text: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert "can't be read" in complaint("retry", text)
    assert not caught
