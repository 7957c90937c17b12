"""Numbers, durations, states and lists in words, for `Strategy.describe()` and the command line."""

from __future__ import annotations

from collections.abc import Iterable

_UNITS = (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1))


def seconds(value: float) -> str:
    """A duration: `250 ms`, `1.5 s`, `8 min 10 s`."""
    if 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 120:
        return f"{value:.4g} s"
    whole = round(value)
    large, large_size, small, small_size = next(unit for unit in _UNITS if whole >= unit[1])
    count, rest = divmod(whole, large_size)
    rest //= small_size
    return f"{count:,} {large}" + (f" {rest} {small}" if rest else "")


def percent(ratio: float) -> str:
    """A ratio: `50 %`."""
    return f"{ratio * 100:.4g} %"


def state(value: str) -> str:
    """A state: `forced open`, of `forced_open`."""
    return value.replace("_", " ")


def number(count: int, noun: str, plural: str = "") -> str:
    """A count of things, by the noun in the singular: `1 call`, `20,000 calls`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def listed(parts: Iterable[str], last: str = "and") -> str:
    """An enumeration: `a`, `a and b`, `a, b and c`."""
    *first, end = parts
    return f"{', '.join(first)} {last} {end}" if first else end
