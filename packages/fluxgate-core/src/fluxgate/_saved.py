"""Saves: what a circuit hands on to the next process, written and read.

The shape is public (`SavedInfo` in `metric.py` documents it): whoever changes it raises `VERSION`
and goes on reading the older ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from fluxgate._controls import MAX_BY, MAX_NOTE
from fluxgate._naming import printable, safe_repr
from fluxgate._settings.errors import Mistake, SettingError, did_you_mean, raise_all
from fluxgate._values import MAX_SECONDS
from fluxgate.errors import ConfigError
from fluxgate.signals import Reason
from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate.metric import Info, SavedInfo

VERSION: Final = 1
# Comparisons with bounds are false for NaN, and exact for whole numbers that no float can hold.
_MOST: Final = 1_000_000_000
_MOST_MEASURED: Final = 1e15
_LATEST: Final = 1e12


class Saved(NamedTuple):
    """A save that has been checked; its fields are those of `SavedInfo`."""

    name: str
    state: State
    elapsed: float
    retry_after: float | None
    reopens: int
    last_trip: Reason | None
    saved_at: float
    reverts_in: float | None = None
    note: str | None = None
    by: str | None = None


def written(info: Info) -> SavedInfo:
    """A circuit's state as JSON types."""
    trip = info.last_trip
    if trip is not None:
        trip = trip.without_messages  # it goes to files and other services: no secrets
    return {
        "fluxgate": VERSION,
        "name": info.name,
        "state": str(info.state),
        # Longer than anything lasts where the wall clock was wrong when it was restored.
        "elapsed": min(max(info.at - info.since, 0.0), MAX_SECONDS),
        "retry_after": info.retry_after,
        "reopens": info.reopens,
        "last_trip": None
        if trip is None
        else {
            "clause": trip.clause,
            "measured": trip.measured if _is_measured(trip.measured) else None,
            "calls": trip.calls,
            "window": trip.window,
            "errors": [list(error) for error in trip.errors],
            "note": trip.note,
            "by": trip.by,
        },
        "saved_at": info.at,
        "reverts_in": info.reverts_in,
        "note": None if info.reason is None else info.reason.note,
        "by": None if info.reason is None else info.reason.by,
    }


def is_fresh(saved: Saved, max_age: float) -> bool:
    """Whether a save is at most so many seconds old."""
    if isinstance(max_age, bool) or not isinstance(max_age, (int, float)):
        raise TypeError(f"max_age must be a number of seconds, not {safe_repr(max_age)}")
    if not max_age > 0:
        raise ValueError(f"max_age must be above 0 seconds, not {max_age!r}")
    return time.time() - saved.saved_at <= max_age


def parsed(saved: object, path: str) -> object:
    """The value of a JSON text; anything else as it is.

    Raises:
        ConfigError: it is text, and no JSON.
    """
    if not isinstance(saved, (str, bytes, bytearray)):
        return saved
    import json  # not at import: few need it

    try:
        return json.loads(saved)
    except (ValueError, RecursionError) as error:
        raise SettingError(
            f"it is no JSON ({error}): hand on the text of json.dumps(info.save())",
            path,
            Mistake.SYNTAX,
        ) from None


def read(saved: object, name: str | None = None, path: str = "saved") -> Saved:
    """Check a save.

    Args:
        saved: a mapping.
        name: the circuit that it is for; None takes that of the save.
        path: what to call it in messages.

    Raises:
        ConfigError: it can't be used; every mistake by its field.
    """
    saved = parsed(saved, path)
    if not isinstance(saved, Mapping):
        raise SettingError(f"{safe_repr(saved)} is no save: info.save() makes one", path)
    table = cast("Mapping[str, Any]", saved)
    version = table.get("fluxgate")
    if not _is_whole(version):
        raise SettingError("it has no number in 'fluxgate': info.save() makes saves", path)
    if version != VERSION:
        raise SettingError(
            f"saved in the shape {safe_repr(version)}, and this Fluxgate reads {VERSION}: "
            "use the version that has saved it, or begin without",
            f"{path}.fluxgate",
        )
    reader = _Reader(table, path)
    found = Saved(
        name=reader.take("name", _is_name, "the circuit's name"),
        state=reader.take("state", _is_state, f"one of {', '.join(State)}"),
        elapsed=reader.take("elapsed", _is_seconds, "seconds, 0 to 1e9"),
        retry_after=reader.take(
            "retry_after", lambda value: value is None or _is_seconds(value), "seconds, or null"
        ),
        reopens=reader.take("reopens", _is_count, "a whole number, 0 or more"),
        last_trip=reader.reason("last_trip"),
        saved_at=reader.take("saved_at", _is_time, "seconds since the epoch"),
        reverts_in=reader.may_take("reverts_in", _is_seconds, "seconds, or null"),
        note=reader.line("note", MAX_NOTE),
        by=reader.line("by", MAX_BY),
    )
    if name is not None and not reader.problems and found.name != name:
        problem = f"it is the save of {found.name!r}, and this circuit is {name!r}"
        raise SettingError(f"{problem}: restore it there, or change the name", f"{path}.name")
    raise_all(reader.problems, "fields of a save can't be used")
    return found._replace(state=State(found.state))


def read_all(saved: object) -> dict[str, Saved]:
    """Check the saves of many circuits, by name.

    Raises:
        ConfigError: some can't be used; every mistake by its field.
    """
    saves = parsed(saved, "saved")
    if not isinstance(saves, Mapping):
        raise SettingError(f"{safe_repr(saves)} is no mapping: registry.save() makes one", "saved")
    found: dict[str, Saved] = {}
    problems: list[ConfigError] = []
    for name, one in cast("Mapping[str, Any]", saves).items():
        try:
            found[name] = read(one, name, f"saved[{name!r}]")
        except ConfigError as error:
            problems.append(error)
    raise_all(problems, "saves can't be used")
    return found


class _Reader:
    """Takes fields out of a save and notes what is wrong with them."""

    def __init__(self, table: Mapping[str, Any], path: str) -> None:
        self.problems: list[SettingError] = []
        self._table = table
        self._path = path

    def take(self, field: str, fits: Callable[[Any], bool], what: str) -> Any:
        """A field, if it fits; else None, and a problem more."""
        path = f"{self._path}.{field}"
        if field not in self._table:
            self.problems.append(SettingError(f"it is missing: {what}", path, Mistake.UNKNOWN))
            return None
        value = self._table[field]
        if fits(value):
            return value
        near = (
            did_you_mean(value, map(str, State))
            if field == "state" and isinstance(value, str)
            else ""
        )
        self.problems.append(SettingError(f"{safe_repr(value)} is not {what}{near}", path))
        return None

    def may_take(self, field: str, fits: Callable[[Any], bool], what: str) -> Any:
        """A field that may be left out, or null."""
        return self.take(field, _or_null(fits), what) if field in self._table else None

    def line(self, field: str, longest: int) -> str | None:
        """A field of text that may be left out, or null; one printable line of it."""
        text = self.may_take(field, lambda value: isinstance(value, str), "text, or null")
        return printable(text, longest) if text else None

    def reason(self, field: str) -> Reason | None:
        """A field that holds a reason, or null."""
        what = "a reason as info.save() writes it, or null"
        table = self.take(field, lambda value: value is None or isinstance(value, Mapping), what)
        if table is None:
            return None
        inner = _Reader(table, f"{self._path}.{field}")
        reason = Reason(
            clause=inner.take("clause", lambda value: isinstance(value, str), "text"),
            measured=inner.take("measured", _or_null(_is_measured), "a number, or null"),
            calls=inner.take("calls", _or_null(_is_count), "a whole number, or null"),
            window=inner.take(
                "window", _or_null(lambda value: isinstance(value, str)), "text, or null"
            ),
            errors=tuple(
                (label, count)
                for label, count in inner.take("errors", _are_errors, "pairs of text and a count")
                or ()
            ),
            note=inner.line("note", MAX_NOTE),
            by=inner.line("by", MAX_BY),
        )
        self.problems += inner.problems
        return reason


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_measured(value: Any) -> bool:
    return _is_number(value) and abs(value) <= _MOST_MEASURED


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and 0 <= value <= _MOST


def _is_seconds(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= MAX_SECONDS


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 < value <= _LATEST


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_state(value: object) -> bool:
    return isinstance(value, str) and value in set(State)


def _are_errors(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(
        isinstance(pair, (list, tuple))
        and len(cast("list[Any]", pair)) == 2
        and isinstance(pair[0], str)
        and _is_count(pair[1])
        for pair in cast("list[Any]", value)
    )
