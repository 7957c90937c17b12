"""Breakers from settings: expression strings, dotted paths, TOML files.

The class of what is read is `Config`, in `_config`.

A strategy's repr is the expression that builds it, and `parse` reads it back, so a rule reads the
same in code, in a file, in a log line and on a page. Expressions are never evaluated. Dotted
paths (`"shop.rules.TRIPPER"`, `TypeOf("httpx.ConnectError")`) are imported, as in any settings
file: take settings only from whom you would take code.

A file for `load`, which also shows the shape of the mapping for `read`:

    [defaults]                              # for every circuit, unless it says otherwise
    retry = "Cooldown(30)"
    listeners = ["shop.metrics.listener"]   # a circuit's own list takes the place of this one

    [breakers.payments]                     # the circuit's name; quote one that has dots
    tripper = "MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))"
    tracker = 'TypeOf("httpx.ConnectError")'

    [breakers."*.internal"]                 # every name that fits; the first pattern to fit wins
    initial_state = "metrics_only"

    [fleet]                                 # shared with other processes
    url = "redis://redis.internal:6379/0"   # or sqlite:///path, for those of one host
    witnesses = 2                           # this and `advisory` may be left out

    [breakers]
    search = "shop.breakers.make_search"    # called with the name, returns a breaker

Keys are the parameters of `CircuitBreaker`, in lower or upper case. Values may also be the
objects themselves. Every mistake is a `ConfigError` that names the setting and the remedy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

from fluxgate._config import Config
from fluxgate._naming import safe_repr
from fluxgate._settings.errors import Mistake, SettingError, did_you_mean, raise_all
from fluxgate._settings.expression import BASES, StrategyKind
from fluxgate._settings.resolve import KEYS, Breaker, Factory, made, resolve, strategy, suggestion
from fluxgate._values import Strategy
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.permits import Permit
from fluxgate.retries import Retry
from fluxgate.trackers import Tracker
from fluxgate.trippers import Tripper
from fluxgate.windows import Window

__all__ = [
    "KEYS",
    "Breaker",
    "Config",
    "Factory",
    "Mistake",
    "SettingError",
    "StrategyKind",
    "build",
    "load",
    "parse",
    "read",
]


@overload
def parse(kind: Literal["window"], text: str) -> Window: ...
@overload
def parse(kind: Literal["tracker"], text: str) -> Tracker: ...
@overload
def parse(kind: Literal["tripper"], text: str) -> Tripper: ...
@overload
def parse(kind: Literal["retry"], text: str) -> Retry: ...
@overload
def parse(kind: Literal["permit"], text: str) -> Permit: ...


def parse(kind: StrategyKind, text: str) -> Strategy:
    """The strategy that an expression builds, or that a dotted path names.

    Args:
        kind: which names the expression may use (`All` is a tracker, or a permit).
        text: such as `MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))`, at most 2000
            characters; arguments are numbers and strings.

    Raises:
        ConfigError: it can't be read; the message shows the column, and says what to do.
    """
    if kind not in BASES:
        raise SettingError(suggestion(str(kind)), mistake=Mistake.UNKNOWN)
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(f"parse() reads expression strings, not {safe_repr(text)}")
    return strategy(kind, text)


@overload
def build(
    name: str, settings: Mapping[str, Any], *, asynchronous: Literal[False] = False
) -> CircuitBreaker: ...
@overload
def build(
    name: str, settings: Mapping[str, Any], *, asynchronous: Literal[True]
) -> AsyncCircuitBreaker: ...


def build(name: str, settings: Mapping[str, Any], *, asynchronous: bool = False) -> Breaker:
    """A breaker from the settings of one circuit.

    Args:
        name: the circuit's name.
        settings: the breaker's parameters, such as `{"retry": "Cooldown(30)"}`; `KEYS` has all.
        asynchronous: whether to make an `AsyncCircuitBreaker`.

    Raises:
        ConfigError: settings that can't be used; the message lists them all.
    """
    problems: list[SettingError] = []
    if not isinstance(settings, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(f"{safe_repr(settings)} is not a mapping of settings", str(name))
    arguments = resolve(settings, str(name), problems)
    raise_all(problems)
    if asynchronous:
        return made(AsyncCircuitBreaker, name, arguments)
    return made(CircuitBreaker, name, arguments)


def read(settings: Mapping[str, Any], *, source: str = "") -> Config:
    """The settings of many circuits, from a mapping with `defaults`, `breakers` and `fleet`.

    Nothing is imported or built yet; `Config.problems()` does so and returns the errors.

    Args:
        settings: `{"defaults": {...}, "breakers": {"payments": {...}}}`, in lower or upper case.
        source: where it was read from, for messages.

    Raises:
        ConfigError: it doesn't have that shape.
    """
    tables: dict[str, Any] = {}
    if not isinstance(settings, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SettingError(
            f"{safe_repr(settings)} is not a mapping with defaults and breakers",
            source,
        )
    for written, table in settings.items():
        known = ("defaults", "breakers", "fleet")
        if str(written).lower() not in known or str(written).lower() in tables:
            hint = did_you_mean(str(written), known)
            if not hint and isinstance(table, Mapping):
                hint = "; a circuit's settings stand under its name in breakers"
            raise SettingError(
                f"unknown, or given twice; known are defaults, breakers and fleet{hint}",
                f"{source}: {written}" if source else str(written),
                Mistake.UNKNOWN,
            )
        tables[str(written).lower()] = table
    return Config(
        tables.get("breakers"),
        tables.get("defaults"),
        source=source,
        fleet=tables.get("fleet"),
    )


def load(path: str | os.PathLike[str]) -> Config:
    """The settings of many circuits, from a TOML file; everything in it has been checked.

    Raises:
        ConfigError: the file can't be read, or settings in it can't be used; the message lists
            them all.
    """
    import tomllib

    source = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SettingError(f"it is not UTF-8 ({error})", source, Mistake.FILE) from error
    except (OSError, ValueError) as error:  # a ValueError: no file can have that name
        why = getattr(error, "strerror", None) or str(error)
        raise SettingError(f"it can't be read ({why})", source, Mistake.FILE) from error
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a ValueError: integers of 5,000 digits, too
        raise SettingError(f"it is not valid TOML: {error}", source, Mistake.FILE) from error
    config = read(tables, source=source)
    raise_all(config.problems())
    return config
