"""Options of listeners, made sure of: what is wrong is named, and so is the remedy."""

from __future__ import annotations

import math
import re

from fluxgate._naming import safe_repr


def count(what: str, value: object, *, least: int) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be a whole number: {safe_repr(value)}")
    if value < least:
        raise ValueError(f"{what} must be {least} or more, not {value}")
    return value


def seconds(what: str, value: object, *, above_zero: bool = False) -> float:
    """Seconds, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number of seconds: {safe_repr(value)}")
    if not 0 <= value < math.inf or (above_zero and value == 0):
        least = "above 0" if above_zero else "not negative"
        raise ValueError(f"{what} must be finite and {least}, not {safe_repr(value)}")
    return value


def url_of(what: str, value: object) -> str:
    """An absolute URL, which may be a secret: it is not quoted."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if not re.fullmatch(r"https?://[!-~]+", value):
        raise ValueError(f"{what} must be a URL that begins with https:// (or http://)")
    return value


def text(what: str, value: object, *, secret: bool = False) -> str:
    """Some text; a secret one is not quoted."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if not value or (secret and not re.fullmatch(r"[!-~]+", value)):
        raise ValueError(f"{what} must not be empty{', nor have spaces in it' if secret else ''}")
    return value
