"""Settings as written, in any of the accepted forms, become a breaker's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeAlias, TypeVar, cast

from fluxgate._naming import printable, safe_repr, which
from fluxgate._settings.errors import Mistake, SettingError, did_you_mean
from fluxgate._settings.expression import (
    BASES,
    EXAMPLES,
    NAMES,
    StrategyKind,
    imported,
    is_dotted,
    read,
)
from fluxgate._values import Strategy
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.policy import Settings
from fluxgate.state import State

Breaker: TypeAlias = CircuitBreaker | AsyncCircuitBreaker
"""Either front."""
Factory: TypeAlias = Callable[[str], Breaker]
"""Makes a breaker of the name that it is called with."""

Front = TypeVar("Front", CircuitBreaker, AsyncCircuitBreaker)

KEYS: Final = (*Settings.__annotations__, "listeners", "prober", "initial_state", "clock", "dice")
"""The settings of a breaker: its parameters but the name."""

_INITIAL = [str(state) for state in State if state not in (State.OPEN, State.HALF_OPEN)]


def strategy(kind: StrategyKind, value: object) -> Strategy:
    """A strategy from an expression, a dotted path, or itself."""
    base = BASES[kind]
    if isinstance(value, str):
        value = _written(kind, value)
    if isinstance(value, base):
        return value
    if isinstance(value, type) and issubclass(value, base):
        raise SettingError(f"{value.__name__} is the class: give an instance of it")
    shown = which(value)  # pyright: ignore[reportUnknownArgumentType]
    raise SettingError(
        f"{shown} is not a {kind}: give an expression such as {EXAMPLES[kind]}, "
        f"the dotted path of a {base.__name__}, or the object itself"
    )


def _written(kind: StrategyKind, text: str) -> object:
    stripped = text.strip()
    if is_dotted(stripped):
        return imported(stripped)
    if not stripped:
        raise SettingError(
            f"it is empty: give an expression such as {EXAMPLES[kind]}, "
            "or leave the key out to have the default",
            mistake=Mistake.SYNTAX,
        )
    return read(kind, text)


def resolve(settings: Mapping[str, Any], path: str, problems: list[SettingError]) -> dict[str, Any]:
    """The keyword arguments for `settings`; errors are appended to `problems`."""
    arguments: dict[str, Any] = {}
    for written, value in settings.items():
        key = written.lower() if isinstance(written, str) else written
        try:
            if key not in KEYS:
                _unknown(written, value)
            if key in arguments:
                raise SettingError("it is given twice, in upper and in lower case: keep one")
            arguments[key] = _resolved(key, value)
        except SettingError as error:
            shown = written if isinstance(written, str) else safe_repr(written)
            problems.append(error.at(f"{path}.{shown}"))
    return arguments


def listeners_in(table: object) -> list[Any]:
    """The listeners in a circuit's settings; none if they can't be used."""
    if isinstance(table, Mapping):
        for key, value in cast("Mapping[str, Any]", table).items():
            if isinstance(key, str) and key.lower() == "listeners":
                try:
                    return _listeners(value)
                except SettingError:
                    break
    return []


def made(
    front: type[Front], name: str, arguments: Mapping[str, Any], path: str | None = None
) -> Front:
    """A breaker of those arguments. Raises SettingError where they don't go together."""
    path = str(name) if path is None else path
    try:
        return front(name, **arguments)
    except Exception as error:  # of a user's own strategy or clock, too
        problem = str(error) if isinstance(error, (TypeError, ValueError)) else safe_repr(error)
        for key in KEYS:
            if problem.startswith(f"{key} "):
                problem, path = problem.removeprefix(f"{key} "), f"{path}.{key}"
                break
        raise SettingError(problem, path) from error


class Called:
    """A user's factory, given or named by its path; its result is checked to be a breaker."""

    def __init__(self, given: object, path: str) -> None:
        if isinstance(given, str) and is_dotted(given.strip()):
            given = imported(given.strip())
        if isinstance(given, (CircuitBreaker, AsyncCircuitBreaker)):  # callable, as a decorator
            raise SettingError(
                f"{safe_repr(given)} is a breaker: give its settings, or a function (or its "
                "dotted path) that is called with the name and returns it"
            )
        if isinstance(given, str) and "://" in given:  # it may hold a password
            scheme = printable(given.partition("://")[0])
            raise SettingError(
                f"{scheme}://… is a URL, and no circuit's setting: that of a fleet, which is for "
                "all circuits, goes under the name fleet"
            )
        if not callable(given):
            raise SettingError(
                f"{safe_repr(given)} is neither a table of settings nor a function (or its "
                "dotted path) that is called with the name and returns a breaker"
            )
        self.factory = given
        self._path = path

    def __call__(self, name: str) -> Breaker:
        breaker = self.factory(name)
        if isinstance(breaker, (CircuitBreaker, AsyncCircuitBreaker)):
            return breaker
        raise SettingError(
            f"{safe_repr(self.factory)} must return a breaker, not {safe_repr(breaker)}",
            self._path,
        )


def maker_of(
    settings: object, path: str, defaults: Mapping[str, Any], problems: list[SettingError]
) -> Factory:
    """The factory for the breakers of an entry; errors are appended to `problems`."""
    arguments: dict[str, Any] = dict(defaults)
    if isinstance(settings, Mapping):
        arguments |= resolve(cast("Mapping[str, Any]", settings), path, problems)
    else:
        try:
            return Called(settings, path)
        except SettingError as error:
            problems.append(error.at(path))
    return lambda name: made(CircuitBreaker, name, arguments, path)


def _unknown(key: object, value: object) -> NoReturn:
    hint = did_you_mean(key, KEYS) if isinstance(key, str) else ""
    if isinstance(key, str) and key.lower() == "fleet":
        hint = "; a fleet is for all circuits: give it beside them, not in one"
    if isinstance(value, Mapping):
        hint = "; if this is part of a circuit's name, which has dots, it needs quotes in TOML"
    raise SettingError(
        f"unknown setting; known are {', '.join(KEYS)}{hint}", mistake=Mistake.UNKNOWN
    )


_OPTIONAL: Final = ("healthy", "prober", "result_tracker", "cancelled_after", "shadow")
"""The settings that may be None, as they are by default."""


def _resolved(key: str, value: Any) -> Any:
    if value is None and key in _OPTIONAL:
        return None
    if value is None:
        raise SettingError("None is no setting: leave the key out to have the default")
    if key in BASES:
        return strategy(key, value)
    return _CONVERSIONS[key](value)


def _callable(value: Any) -> Any:
    if isinstance(value, str):
        path = value.strip()
        if not is_dotted(path):
            raise SettingError(
                f"{safe_repr(value)} is not a dotted path, such as shop.metrics.listener",
                mistake=Mistake.SYNTAX,
            )
        value = imported(path)
    if isinstance(value, type):
        raise SettingError(f"{value.__name__} is a class: give an instance of it, or a function")
    if not callable(value):
        raise SettingError(
            f"{safe_repr(value)} can't be called: give a function, or its dotted path"
        )
    return value


def _listeners(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise SettingError(f"{safe_repr(value)} is not a list: write it in square brackets")
    return [_callable(each) for each in cast("list[object]", value)]


def _number(value: Any) -> Any:
    """A number from its text, as in environment variables; other values pass unchanged.

    The breaker refuses what is not a number.
    """
    if isinstance(value, str):
        for read_as in (int, float):
            try:
                return read_as(value)
            except ValueError:
                pass
    return value


def _initial_state(value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip().lower()
        if value not in _INITIAL:
            hint = did_you_mean(value, _INITIAL)
            raise SettingError(
                f"must be one of {', '.join(_INITIAL)}, not {safe_repr(value)}{hint}"
            )
    return value


def _bounds(value: Any) -> Any:
    """A list of seconds, or the same as one string with commas, as in environment variables."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise SettingError(
            f"{safe_repr(value)} is not a list of seconds: write it in square brackets"
        )
    return tuple(_number(each) for each in cast("list[object]", value))


def _flag(value: Any) -> Any:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    return value


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "healthy": lambda value: strategy("tracker", value),
    "result_tracker": _callable,
    "max_half_open_calls": _number,
    "probe_timeout": _number,
    "cancelled_after": _number,
    "shadow": lambda value: strategy("tripper", value),
    "buckets": _bounds,
    "error_messages": _flag,
    "listeners": _listeners,
    "prober": _callable,
    "initial_state": _initial_state,
    "clock": _callable,
    "dice": _callable,
}
assert {*_CONVERSIONS, *BASES} == {*KEYS}, "every setting is read somehow"


def suggestion(kind: str) -> str:
    """A sentence that lists the kinds that `parse` knows."""
    return f"kinds are {', '.join(NAMES)}, not {safe_repr(kind)}{did_you_mean(kind, NAMES)}"
