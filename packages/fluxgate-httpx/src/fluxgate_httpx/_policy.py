"""HTTP policy: which statuses and errors are failures, and how `Retry-After` is read."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from fluxgate.integration import checked_statuses

__all__ = ["FAILING_STATUSES", "HTTPPolicy"]

RetryAfter = Literal["ignore", "respect"]

FAILING_STATUSES: Final = frozenset({408, *range(500, 600)} - {501, 505})
"""The statuses that are failures by default: 408 (Request Timeout), and every 5xx but 501 (Not
Implemented) and 505 (HTTP Version Not Supported), which are about the request.

Those above 511 have no RFC: 520 to 530 come from CDNs that can't reach the origin, 529 from model
providers that are overloaded.
"""
_RETRY_AFTER_STATUSES: Final = frozenset({403, 429, 503, 529})
"""The statuses whose Retry-After opens a circuit (403 is what GitHub limits rates with)."""
_MILLISECONDS: Final = "retry-after-ms"
"""A header of OpenAI's and Azure's, which their SDKs prefer to Retry-After."""
_SECONDS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?", re.ASCII)
_LONGEST: Final = 64
"""Characters of a Retry-After that is worth reading."""


class HTTPPolicy:
    """Which answers are failures, and which are ignored. Frozen; many transports may share one.

    What is neither is a success, 404 included: the server is there, and answers. Transport errors
    are failures; a request that was cancelled, or could not be sent as it was written, is neutral.

    Args:
        statuses: the status codes that are failures; `FAILING_STATUSES` by default.
        ignore: status codes and exception types that are neutral: they move nothing, and a probe
            gives its slot back. They add to 429 (which speaks of the caller's rate, not of an
            outage) and to the library's own neutral errors. `statuses` has precedence.
        retry_after: with `"respect"`, a 403, 429, 503 or 529 with a `Retry-After` (or
            `retry-after-ms`) opens the circuit for as long as the server asks, at once and whatever
            the tripper says. With `"ignore"` the header is not read.
        max_retry_after: seconds; a longer `Retry-After` counts as this long.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: there is no such status, no such `retry_after`, or `max_retry_after` is not
            above 0, at most 1e9.
    """

    __slots__ = (
        "ignore",
        "max_retry_after",
        "neutral_errors",
        "neutral_statuses",
        "retry_after",
        "retry_after_statuses",
        "special_statuses",
        "statuses",
    )

    def __init__(
        self,
        *,
        statuses: Iterable[int] = FAILING_STATUSES,
        ignore: Iterable[int | type[BaseException]] = (),
        retry_after: RetryAfter = "ignore",
        max_retry_after: float = 300.0,
    ) -> None:
        self.statuses = checked_statuses(statuses)
        if isinstance(ignore, (str, bytes, type)) or not isinstance(ignore, Iterable):
            raise TypeError(
                f"ignore must be a collection, such as {{404, httpx.ReadTimeout}}, not {ignore!r}"
            )
        self.ignore = frozenset(ignore)
        errors = [each for each in self.ignore if isinstance(each, type)]
        for error in errors:
            if not issubclass(error, BaseException):
                raise TypeError(f"ignore has {error.__name__}, which is no exception type")
        self.neutral_errors = tuple(errors)
        given = checked_statuses(self.ignore.difference(errors), "ignore")
        self.neutral_statuses = frozenset({429, *given} - self.statuses)
        if retry_after not in ("ignore", "respect"):
            raise ValueError(f'retry_after must be "ignore" or "respect", not {retry_after!r}')
        self.retry_after: RetryAfter = retry_after
        self.retry_after_statuses = (
            _RETRY_AFTER_STATUSES if retry_after == "respect" else frozenset[int]()
        )
        if isinstance(max_retry_after, bool) or not isinstance(max_retry_after, (int, float)):
            raise TypeError(f"max_retry_after must be a number of seconds: {max_retry_after!r}")
        if not 0 < max_retry_after <= 1e9:
            raise ValueError(f"max_retry_after must be above 0 and at most 1e9: {max_retry_after}")
        self.max_retry_after = max_retry_after
        self.special_statuses = self.statuses | self.neutral_statuses | self.retry_after_statuses

    def retry_after_seconds(self, headers: Mapping[str, str]) -> float | None:
        """Seconds for which a server asks to be left alone; None for nothing, or nonsense.

        Args:
            headers: the response's, found in any case. `retry-after-ms` (milliseconds) goes before
                `Retry-After` (seconds, or an HTTP date). A date is read against the response's
                `Date`, so that it does not matter how wrong our clock is.
        """
        milliseconds = headers.get(_MILLISECONDS)
        seconds = None if milliseconds is None else _number(milliseconds)
        if seconds is not None:
            seconds /= 1000
        else:
            seconds = _seconds(headers.get("retry-after"), headers.get("date"))
        if seconds is None or not 0 < seconds < math.inf:
            return None
        return min(seconds, self.max_retry_after)

    def __repr__(self) -> str:
        return (
            f"HTTPPolicy(statuses={_ranges(self.statuses)}, ignore={list(self.ignore)}, "
            f"retry_after={self.retry_after!r}, max_retry_after={self.max_retry_after})"
        )


def _ranges(statuses: Iterable[int]) -> str:
    """The statuses as a person writes them: `{408, 500, 502-504}`."""
    ranges: list[list[int]] = []
    for status in sorted(statuses):
        if ranges and status == ranges[-1][-1] + 1:
            ranges[-1][1:] = [status]
        else:
            ranges.append([status])
    return f"{{{', '.join('-'.join(map(str, each)) for each in ranges)}}}"


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _SECONDS.fullmatch(text) else None


def _seconds(retry_after: str | None, date: str | None) -> float | None:
    if retry_after is None or len(retry_after) > _LONGEST:
        return None
    seconds = _number(retry_after)
    if seconds is not None:
        return seconds
    until = _timestamp(retry_after.strip())
    if until is None:
        return None
    now = _timestamp(date) if date is not None and len(date) <= _LONGEST else None
    return until - (time.time() if now is None else now)


def _timestamp(date: str) -> float | None:
    """Seconds since the epoch of an HTTP date."""
    try:
        when = parsedate_to_datetime(date)
        if when.tzinfo is None:  # "-0000", and the asctime form: both mean UTC
            from datetime import UTC

            when = when.replace(tzinfo=UTC)
        return when.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


DEFAULT_POLICY: Final = HTTPPolicy()
