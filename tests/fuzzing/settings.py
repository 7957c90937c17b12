"""Targets of settings: expressions, tables, TOML files, environment variables."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, cast
from unittest import mock

from fluxgate import _dotted
from fluxgate._config import Config
from fluxgate._settings.expression import NAMES, StrategyKind
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.config import KEYS, build, load, parse, read
from fluxgate.errors import ConfigError
from fluxgate.integration import as_config

from .inputs import Inputs
from .targets import Grown, refused, shows, target

KINDS: Final = cast("tuple[StrategyKind, ...]", tuple(NAMES))
EXPRESSIONS: Final = (
    ("tripper", "MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))"),
    ("tripper", "Closed() & FailureStreak(5) | HalfOpened() & FailureRate(threshold=0.1)"),
    ("tracker", '~TypeOf("ConnectionError", "TimeoutError") | Custom("builtins.callable")'),
    ("retry", "Backoff(10, 300, 2, 0.1)"),
    ("permit", "RampUp(0.1, 1.0, 60)"),
    ("window", "TimeWindow(60)"),
)
TOKENS: Final = (
    *sorted({f"{name}(" for names in NAMES.values() for name in names}),
    *("(", ")", ",", " & ", " | ", "~", "=", "-", "+", ".", "0.5", "1", "60", '"', "'", " ", "\n"),
    *(
        '"ConnectionError"',
        '"asyncio.TimeoutError"',
        "threshold=",
        "jitter_ratio=",
        "1e308",
        "1e-9",
    ),
    *(" and ", " or ", "not ", "lambda: ", "[", "]", "{", "}", "*", "**", "if ", "\\", "#", "_"),
)


def imported(name: str, owner: str) -> Any:
    """In place of `_dotted.load`: a fuzzer must import and call nothing that it has guessed."""
    first, _, rest = name.partition(".")
    if first not in ("fluxgate", "asyncio", "builtins", "ConnectionError", "ValueError") or (
        first == "builtins" and rest != "callable"
    ):
        raise ValueError(f'{owner}: "{name}" can\'t be imported')
    return load_really(name, owner)


load_really = _dotted.load
harmless = mock.patch.object(_dotted, "load", imported)


def _bytes(kind: str, text: str) -> bytes:
    return bytes([KINDS.index(cast("StrategyKind", kind)), 0]) + text.encode()


def _parsed(text: str) -> None:
    for kind in KINDS:
        with refused(ConfigError):
            parse(kind, text)


@target(
    seeds=[_bytes(kind, text) for kind, text in EXPRESSIONS],
    tokens=TOKENS,
    grown=Grown(_parsed, TOKENS),
)
@harmless
def expression(data: Inputs) -> None:
    """An expression is a strategy, whose repr is read back as itself; or a `ConfigError`."""
    kind, text = data.pick(KINDS), data.written(TOKENS)
    with refused(ConfigError):
        found = parse(kind, text)
        assert parse(kind, repr(found)) == found
        assert hash(found) is not None
        assert found.describe()


SECRET: Final = "hunter2"
VALUES: Final = (
    *(text for _, text in EXPRESSIONS),
    *(each.strip() for each in TOKENS[:40]),
    *("closed", "OPEN", "metrics_only", "asyncio.sleep", "builtins.callable", "1, 2, 3", "true"),
    *(f"redis://:{SECRET}@h:6379/0", "memory://fuzz", "60", "0.25", "ConnectionError", "a" * 2001),
)
NAMED: Final = (
    *KEYS,
    *(key.upper() for key in KEYS),
    *("defaults", "breakers", "fleet", "url", "witnesses", "advisory", "payments", "*.internal"),
    *("api.example.com:8080", "https://API.example.com/x", "*", "[::1]:80", "a.b"),
)


def _some_settings(data: Inputs) -> Any:
    """A table of settings, as a rule: each with a value that may be right."""
    if data.byte() % 8 == 0:
        return data.value(VALUES)
    found: dict[Any, Any] = {}
    for _ in range(data.byte() % 6):
        key = data.pick(NAMED)
        found[key] = data.pick(VALUES) if data.byte() % 2 else data.value(VALUES)
    return found


@target(tokens=VALUES, seeds=[b"\1\4\0\1\3\1\1\6\1\6\1", b"\2\1\1\1\1\1\1\1\1"])
@harmless
def settings(data: Inputs) -> None:
    """Settings of one circuit are a breaker that works, or a `ConfigError`."""
    front = data.byte() % 2 == 1
    with refused(ConfigError):
        made = build("payments", _some_settings(data), asynchronous=front)
        assert isinstance(made, AsyncCircuitBreaker if front else CircuitBreaker)
        shows(made.info())
        shows(made.policy)


def _tables(data: Inputs) -> Any:
    if data.byte() % 8 == 0:
        return data.value(NAMED)
    found: dict[Any, Any] = {}
    for _ in range(data.byte() % 4):
        name = data.pick(("breakers", "defaults", "fleet", "BREAKERS", "", "breaker"))
        kind = data.byte() % 4
        if name.lower() == "breakers" and kind:
            names = [data.word(NAMED) for _ in range(data.byte() % 4)]
            found[name] = {
                each: _some_settings(data) if data.byte() % 2 else data.value(VALUES)
                for each in names
            }
        elif name == "fleet" and kind:
            found[name] = data.changed({"url": "memory://fuzz", "witnesses": 2, "advisory": False})
        else:
            found[name] = _some_settings(data)
    return found


def _checked(config: Config, data: Inputs) -> None:
    for problem in config.problems():
        with refused(ConfigError):
            raise problem
    assert len(config.names) <= len(config.breakers)
    shows(config)
    for name in (*config.names, data.word(NAMED), "payments"):
        entry = config.entry(name)
        assert entry is None or entry in config.breakers


@target(tokens=NAMED, seeds=[b"\1\2\0\1\2\0\1\1\4\0\1\1\1\2\2\2", b"\1\1\2\1\1\1\1\1"])
@harmless
def tables(data: Inputs) -> None:
    """Settings of many circuits are a `Config`, or a `ConfigError`."""
    from fluxgate.fleet import _fleet

    with refused(ConfigError), mock.patch.object(_fleet, "_made", {}):
        config = read(_tables(data), source="fuzz.toml")
        _checked(config, data)
        _checked(config.under({"retry": "Cooldown(1)"}), data)


FILE: Final = b"""\
[defaults]
retry = "Cooldown(30)"
[breakers.payments]
tripper = "MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))"
tracker = 'TypeOf("ConnectionError")'
buckets = [0.1, 1]
[breakers."*.internal"]
initial_state = "metrics_only"
[fleet]
url = "memory://fuzz"
witnesses = 2
"""
TOML: Final = (
    *("[defaults]\n", "[breakers.payments]\n", '[breakers."*.internal"]\n', "[fleet]\n", "[", "]"),
    *(f"{key} = " for key in KEYS),
    *(json.dumps(value) for value in VALUES[:20]),
    *("url = ", "witnesses = ", "\n", "'", '"""', "= ", "1979-05-27", "{", "}", ",", "inf", "nan"),
)
FOLDER: Final = tempfile.mkdtemp(prefix="fluxgate-fuzz-")
"""A folder for files, which goes with the process."""
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def _loaded(text: str) -> None:
    file = Path(FOLDER, "grown.toml")
    file.write_text(text, encoding="utf-8", errors="replace")
    with refused(ConfigError):
        load(file)


@target(tokens=TOML, seeds=[b"\0" + FILE], grown=Grown(harmless(_loaded), TOML))
@harmless
def toml(data: Inputs) -> None:
    """A file of settings is a `Config`, or a `ConfigError`, whatever bytes are in it."""
    from fluxgate.fleet import _fleet

    file = Path(FOLDER, "settings.toml")
    file.write_bytes(
        data.phrase(TOML).encode("utf-8", "replace") if data.byte() % 2 else data.rest()
    )
    with refused(ConfigError), mock.patch.object(_fleet, "_made", {}):
        _checked(load(file), data)


VARIABLES: Final = (
    "FLUXGATE",
    "FLUXGATE__FLEET",
    "FLUXGATE__FLEET__URL",
    "FLUXGATE__DEFAULTS__RETRY",
    "fluxgate__payments__tripper",
    "FLUXGATE__PAYMENTS",
    "FLUXGATE__PAYMENTS__BUCKETS",
    "FLUXGATE__PAYMENTS__ERROR_MESSAGES__X",
    "FLUXGATE____",
    "FLUXGATE__A__B__C__D",
)


@target(tokens=VALUES, seeds=[b"\1\3\1\3\2\1\4\1\1", b"\2\1\1\3\1\1"])
@harmless
def environment(data: Inputs) -> None:
    """Environment variables are settings, or an error of pydantic's that shows no password."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from fluxgate.fleet import _fleet
    from fluxgate_fastapi.settings import FluxgateSettings

    given = {data.pick(VARIABLES): _variable(data) for _ in range(data.byte() % 5)}
    with (
        mock.patch.dict(os.environ, given),
        mock.patch.object(_fleet, "_made", {}),
        refused(ValidationError, SettingsError, ConfigError, hidden=SECRET),
    ):
        found = FluxgateSettings()
        assert SECRET not in repr(found)
        _checked(as_config(found), data)


def _variable(data: Inputs) -> str:
    text = data.pick(VALUES) if data.byte() % 2 else data.word(VALUES)
    if data.byte() % 4 == 0:
        text = json.dumps(data.value(VALUES), default=str)
    return text.replace("\0", "").encode("utf-8", "replace").decode()
