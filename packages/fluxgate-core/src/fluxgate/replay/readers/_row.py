"""Rows: calls as readers find them, before a trace takes or rejects them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, NamedTuple, cast

from fluxgate._naming import printable
from fluxgate.errors import FluxgateError
from fluxgate.replay._trace import Call, number

_LONGEST: Final = 1000
COLUMNS: Final = Call._fields
"""The columns of a trace."""


class TraceError(FluxgateError, ValueError):
    """Recorded calls that can't be read: the message says where, why, and the remedy."""

    def __str__(self) -> str:
        # It goes to terminals and logs, and quotes what is in a file.
        return printable(super().__str__(), _LONGEST)


class Row(NamedTuple):
    """One call. Values may be text; the trace checks them.

    Attributes:
        start: Unix seconds.
        duration: seconds.
        failed: None where the status and the error decide.
        key: whom it called.
        status: an HTTP status.
        error: the type of an error.
        refused: whether a breaker refused it.
        fields: the record as it was found, for expressions of the user.
    """

    start: Any
    duration: Any
    failed: Any = None
    key: Any = None
    status: Any = None
    error: Any = None
    refused: Any = None
    fields: Mapping[str, Any] = {}


class Unusable(NamedTuple):
    """A record that should be a call and can't be read."""

    why: str


class Skipped(NamedTuple):
    """A record that is sound, and no call."""

    why: str


class Share(NamedTuple):
    """The share of all calls that the following ones are (ratio 0-1)."""

    share: float


Found = Row | Unusable | Skipped | Share


def record_of(value: object) -> dict[str, Any] | None:
    """The value, if it is an object of JSON."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def divided(value: object, by: float) -> float | None:
    """A number in a larger unit, such as seconds of milliseconds."""
    found = number(value)
    return None if found is None else found / by


def moment(value: object) -> float | None:
    """A moment in Unix seconds: from a number, or from text as ISO 8601 or web servers write it.

    Text without a zone is in UTC.
    """
    found = number(value)
    if found is not None or not isinstance(value, str):
        return found
    try:
        when = datetime.fromisoformat(value.strip())
    except ValueError:
        return _common_log_time(value.strip())
    return _unix(when if when.tzinfo else when.replace(tzinfo=UTC))


def is_failed(status: object, error: object) -> bool | None:
    """Whether a call failed by its status (from 500 on) or, without one, by its error.

    None where there is neither: nobody can tell.
    """
    code = number(status)
    if code and code == code:  # NaN is no status
        return code >= 500
    return True if error not in (None, "") else None


# As in `28/Nov/2026:07:05:20 +0000`. The names are English whatever the locale, unlike strptime's.
_COMMON: Final = re.compile(
    r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d)(\.\d+)? ([+-])(\d\d)(\d\d)"
)
_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)


def _common_log_time(text: str) -> float | None:
    found = _COMMON.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return None
    offset = timedelta(hours=int(found[9]), minutes=int(found[10]))
    day, hour, minute, second = map(int, found.group(1, 4, 5, 6))
    month, year = _MONTHS.index(found[2]) + 1, int(found[3])
    try:
        zone = timezone(-offset if found[8] == "-" else offset)
        when = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        return None
    seconds = _unix(when)
    return None if seconds is None else seconds + float(found[7] or 0)


def _unix(when: datetime) -> float | None:
    try:
        return when.timestamp()
    except (ValueError, OverflowError):  # at the edges of the calendar
        return None
