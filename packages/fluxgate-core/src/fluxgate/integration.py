"""Building blocks for integrations: what a package for another framework or client needs of us.

Everything in here is public, and Fluxgate's own packages for httpx, FastAPI and Django use nothing
else. `docs/how-to/integration.md` shows how they fit together.

The lane: `registry[key].attempt()` is right for nearly every integration. Where each call is to
cost next to nothing, ask the lane first:

    ticket = enter(registry, key)
    if ticket is None:  # made or looked up for the first time, half-open, refusing, disabled
        attempt = registry[key].attempt()

and settle a ticket once: with `leave` if the call went well, else as the attempt that
`attempt_of` makes of it. A ticket holds nothing, so one that is dropped is not counted at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, TypeAlias, cast

from fluxgate._callables import describe
from fluxgate._engine.circuit import Circuit
from fluxgate._engine.lane import Lane
from fluxgate._hosts import Host, parse_host
from fluxgate._layout import columns
from fluxgate._naming import safe_repr
from fluxgate._settings.errors import did_you_mean, nearest, raise_all
from fluxgate._settings.expression import is_dotted
from fluxgate.attempt import Attempt
from fluxgate.config import Config, load, read
from fluxgate.errors import CallNotPermittedError, ConfigError
from fluxgate.registry import Registry

__all__ = [
    "FAILING_STATUSES",
    "ConfigSource",
    "HasSettings",
    "Host",
    "Ticket",
    "as_config",
    "attempt_of",
    "checked_statuses",
    "columns",
    "describe",
    "did_you_mean",
    "enter",
    "leave",
    "log_others",
    "nearest",
    "parse_host",
    "raise_all",
]


# -- the lane: admit and settle at the least cost

Ticket: TypeAlias = tuple[Circuit, Lane, float]
"""A call that was let in through a lane. What is in it is the core's business."""


def enter(registry: Registry, key: str) -> Ticket | None:
    """Admit a call to that circuit through its lane, now; None: ask `registry[key].attempt()`.

    Args:
        registry: the circuits.
        key: the circuit's name in it; no circuit is made here.

    Returns:
        What `leave` or `attempt_of` settles, once; or None, and nothing was admitted.
    """
    try:
        entry = registry._kept.get(key)
    except TypeError:  # no name of a circuit: it has no hash
        return None
    if entry is None or not entry.used:
        return None
    circuit = entry.circuit
    lane = circuit.lane
    if lane is None:
        return None
    clock = circuit.clock
    return circuit, lane, clock()


def leave(ticket: Ticket, result: object = None) -> None:
    """The call returned `result`; the breaker's result tracker decides what that means.

    Args:
        ticket: what `enter` returned for the call. Its time (seconds) ends now.
        result: what the call returned.
    """
    circuit, lane, started = ticket
    clock = circuit.clock
    end = clock()
    if (elapsed := end - started) < lane.fast_below and end < lane.until:
        lane.append(elapsed)
        if len(lane) > 255:
            circuit.drain(lane)
    else:
        circuit.returned(lane, result, elapsed, end)


def attempt_of(ticket: Ticket) -> Attempt:
    """The same call as an `Attempt`, for every end that `leave` is not made for."""
    circuit, lane, started = ticket
    attempt = Attempt(circuit, lane)
    attempt._started = started
    return attempt


# -- HTTP statuses

FAILING_STATUSES: Final = frozenset({500, 502, 503, 504})
"""The statuses with which a service of one's own reports a failure, unless others are given.

For answers of other people's services `fluxgate_httpx.HTTPPolicy` has a wider set.
"""


def checked_statuses(statuses: Iterable[object], name: str = "statuses") -> frozenset[int]:
    """A set of HTTP statuses, each of them checked.

    Args:
        statuses: whole numbers from 100 to 599.
        name: the parameter's name, for the message.

    Raises:
        TypeError: it is no collection, or one of them is no whole number.
        ValueError: one of them is no HTTP status.
    """
    if isinstance(statuses, (str, bytes)) or not isinstance(statuses, Iterable):
        raise TypeError(
            f"{name} must be a collection, such as {{500, 503}}, not {safe_repr(statuses)}"
        )
    checked: set[int] = set()
    for status in statuses:
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError(f"{name} has {safe_repr(status)}, which is no status code such as 503")
        if not 100 <= status <= 599:
            raise ValueError(f"{name} has {status}, and status codes are from 100 to 599")
        checked.add(int(status))  # an HTTPStatus as the plain number: that is how it is shown
    return frozenset(checked)


# -- settings


class HasSettings(Protocol):
    """An object with settings in its attribute `fluxgate`, such as a pydantic `BaseSettings`."""

    @property
    def fluxgate(self) -> object:
        """A mapping of circuits' names to their settings, or a pydantic model of one."""
        ...


ConfigSource: TypeAlias = Config | Mapping[str, Any] | str | os.PathLike[str] | HasSettings
"""Where settings of many circuits may come from: see `as_config`."""


def as_config(source: ConfigSource, name: str = "config") -> Config:
    """The settings of many circuits, wherever they come from.

    Args:
        source: a `Config`; the path of a TOML file; a mapping as for `fluxgate.config.read`, or
            with the circuits' names at the top beside `defaults` and `fleet`; an object whose
            attribute `fluxgate` is such a mapping (a pydantic `BaseSettings`).
        name: the parameter's name, for the message.

    Raises:
        ConfigError: it doesn't have that shape, or the file can't be read.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, (str, os.PathLike)):
        return load(source)
    if isinstance(source, Mapping):
        return _of_mapping(source, "")
    kind = type(source).__name__
    field: Any = getattr(source, "fluxgate", None)
    dump = getattr(field, "model_dump", None)
    if callable(dump):
        field = dump(exclude_unset=True)  # only what was set: a default of None is no setting
    if isinstance(field, Mapping):
        return _of_mapping(_with_lists(cast("Mapping[str, Any]", field)), kind)
    # `model_dump` marks a pydantic model, which the core doesn't import.
    if hasattr(source, "fluxgate") or hasattr(source, "model_dump"):
        raise ConfigError(
            f"{kind} needs a field fluxgate that maps names to settings, such as "
            "fluxgate: dict[str, dict[str, Any] | str] = {}"
        )
    raise ConfigError(
        f"{name}= takes a mapping, the path of a TOML file, or pydantic settings, not "
        f"{safe_repr(source)}"
    )


def _with_lists(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The same with listeners as lists, which an environment variable can't be."""
    listed: dict[str, Any] = {}
    for name, table in mapping.items():
        if isinstance(table, Mapping):
            table = dict(cast("Mapping[str, Any]", table))
            for key, value in table.items():
                if key.lower() == "listeners" and isinstance(value, str):
                    parts = value.strip().removeprefix("[").removesuffix("]").split(",")
                    table[key] = [each for part in parts if (each := part.strip(" \"'"))]
        listed[name] = table
    return listed


def _of_mapping(mapping: Mapping[str, Any], source: str) -> Config:
    lowered = [str(key).lower() for key in mapping]
    if "breakers" in lowered:
        return read(mapping, source=source)
    ours = {key: value for key, value in mapping.items() if _is_ours(str(key).lower(), value)}
    circuits = {key: mapping[key] for key in mapping if key not in ours}
    return read({**ours, "breakers": circuits}, source=source)


def _is_ours(key: str, value: object) -> bool:
    """Whether an entry is no circuit's. One may be called "fleet", and has settings of circuits."""
    if key != "fleet":
        return key == "defaults"
    if isinstance(value, Mapping):
        return _is_fleet([str(each).lower() for each in cast("Mapping[str, Any]", value)])
    if isinstance(value, str):  # the path of a factory is the only text that makes a circuit
        return not is_dotted(value.strip())
    return type(value).__name__ == "Fleet"


def _is_fleet(keys: list[str]) -> bool:
    """Whether a table is a fleet's: by its options, or by what is more like these than others."""
    from fluxgate._settings.resolve import KEYS  # not at import: most have no fleet
    from fluxgate.fleet._fleet import OPTIONS

    if any(key in OPTIONS for key in keys):
        return True
    if any(key in KEYS for key in keys):
        return False
    return any(nearest(key, (*OPTIONS, *KEYS)) in (*OPTIONS, None) for key in keys)


# -- refusals


def log_others(error: BaseException) -> None:
    """Log the errors that were raised beside a refusal, which a 503 doesn't show.

    Args:
        error: what a request ended with; only an exception group can hold others.
    """
    if not isinstance(error, BaseExceptionGroup):
        return
    group = cast("BaseExceptionGroup[BaseException]", error)
    others: Any = group.split(CallNotPermittedError)[1]
    if others is not None:
        import logging  # not at import: it is a third of what importing fluxgate would cost

        logging.getLogger("fluxgate").error(
            "a refusal was answered with 503; these errors were raised beside it",
            exc_info=others,
        )
