"""Validation of listener options; errors name the option and the remedy."""

from __future__ import annotations

import re
from typing import Final

from fluxgate._naming import safe_repr
from fluxgate._values import MAX_COUNT, MIN_SECONDS

MAX_SECONDS: Final = 1e6
"""The longest time-out: some 11 days. Sockets and locks of some systems refuse 25 days."""


def count(what: str, value: object, *, least: int) -> int:
    """A whole number, at most ten million."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number: {safe_repr(value)}")
    if not least <= value <= MAX_COUNT:
        raise ValueError(f"{what} must be {least} to {MAX_COUNT:,}, not {safe_repr(value)}")
    return value


def seconds(what: str, value: object, *, above_zero: bool = False) -> float:
    """Seconds, 0 or more, at most `MAX_SECONDS`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number of seconds: {safe_repr(value)}")
    if not (MIN_SECONDS if above_zero else 0) <= value <= MAX_SECONDS:
        least = "1e-9" if above_zero else "0"
        raise ValueError(f"{what} must be {least} to 1e6 seconds, not {safe_repr(value)}")
    return value


def url_of(what: str, value: object) -> str:
    """The value, an absolute URL. Errors don't quote it, since it may be a secret."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if not re.fullmatch(r"https?://[!-~]+", value):
        raise ValueError(f"{what} must be a URL that begins with https:// (or http://)")
    return value


def text(what: str, value: object, *, secret: bool = False) -> str:
    """The value, text that is not empty; a secret has no spaces. Errors don't quote it."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if not value or (secret and not re.fullmatch(r"[!-~]+", value)):
        raise ValueError(f"{what} must not be empty{', nor have spaces in it' if secret else ''}")
    return value
