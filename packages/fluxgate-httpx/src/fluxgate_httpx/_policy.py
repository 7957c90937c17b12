"""What an answer says about the dependency, and for how long it asks to be left alone."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from fluxgate.integration import checked_statuses

__all__ = ["HTTPPolicy"]

RetryAfter = Literal["ignore", "respect"]

_RETRY_AFTER_STATUSES: Final = frozenset({429, 503})
"""The statuses whose Retry-After says how long to stay away."""
_SECONDS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,10})?", re.ASCII)
_LONGEST: Final = 64
"""Characters of a Retry-After that is worth reading."""


class HTTPPolicy:
    """Which answers are failures, and which say nothing. Frozen; many transports may share one.

    What is neither is a success, 404 included: the server is there, and answers. Transport errors
    are failures; a request that was cancelled, or could not be sent as it was written, is neutral.

    Args:
        statuses: the status codes that are failures.
        ignore: status codes and exception types that are neutral: they move nothing, and a probe
            gives its slot back. They add to 429 (which speaks of the caller's rate, not of an
            outage) and to the library's own neutral errors. `statuses` has precedence.
        retry_after: with `"respect"`, a 429 or 503 with a `Retry-After` opens the circuit for as
            long as the server asks, at once and whatever the tripper says. With `"ignore"` the
            header is not read.
        max_retry_after: seconds; a longer `Retry-After` counts as this long.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: there is no such status, no such `retry_after`, or `max_retry_after` is not
            finite and above 0.
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
        statuses: Iterable[int] = (500, 502, 503, 504),
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
        if not 0 < max_retry_after < math.inf:
            raise ValueError(f"max_retry_after must be finite and above 0: {max_retry_after}")
        self.max_retry_after = max_retry_after
        self.special_statuses = self.statuses | self.neutral_statuses | self.retry_after_statuses

    def retry_after_seconds(self, retry_after: str | None, date: str | None = None) -> float | None:
        """Seconds for which a server asks to be left alone; None for nothing, or nonsense.

        Args:
            retry_after: the header: seconds, or an HTTP date.
            date: the answer's `Date` header: against it an HTTP date is read, so that it does not
                matter how wrong our clock is.
        """
        seconds = _seconds(retry_after, date)
        if seconds is None or not 0 < seconds < math.inf:
            return None
        return min(seconds, self.max_retry_after)

    def __repr__(self) -> str:
        return (
            f"HTTPPolicy(statuses={sorted(self.statuses)}, ignore={list(self.ignore)}, "
            f"retry_after={self.retry_after!r}, max_retry_after={self.max_retry_after})"
        )


def _seconds(retry_after: str | None, date: str | None) -> float | None:
    if retry_after is None or len(retry_after) > _LONGEST:
        return None
    retry_after = retry_after.strip()
    if _SECONDS.fullmatch(retry_after):
        return float(retry_after)
    until = _timestamp(retry_after)
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
