"""Numbers, times and strategies in words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from fluxgate import _dotted, permits, trackers
from fluxgate._engine.verdicts import Verdicts
from fluxgate._values import Binary
from fluxgate.policy import Policy
from fluxgate.trippers import (
    AvgLatency,
    FailureRate,
    FailureStreak,
    MinRequests,
    SlowRate,
    Tripper,
)
from fluxgate.windows import TimeWindow, Window

_SERIES = 16
"""Openings that are looked at to see how their length goes on."""


def seconds(value: float) -> str:
    """A duration: `250 ms`, `1.5 s`, `8 min 10 s`."""
    if 0 < value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 120:
        return f"{value:.4g} s"
    whole = round(value)
    for large, small, ratio in (("d", "h", 86_400), ("h", "min", 3_600), ("min", "s", 60)):
        if whole >= ratio:
            count, rest = divmod(whole, ratio)
            rest = rest // {"h": 3_600, "min": 60, "s": 1}[small]
            return f"{count} {large}" + (f" {rest} {small}" if rest else "")
    raise AssertionError("120 s are more than a minute")


def percent(ratio: float) -> str:
    """A ratio: `50 %`."""
    return f"{ratio * 100:.4g} %"


def number(count: int, what: str) -> str:
    """`1 call`, `20,000 calls`."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def listed(parts: Iterable[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, end = parts
    return f"{', '.join(first)} {last} {end}" if first else end


def condition(tripper: Tripper) -> str:
    """When a tripper fires, its state clauses folded away; `them` are the calls in its window."""
    match tripper:
        case MinRequests(count):
            return f"there are at least {count:,} of them"
        case FailureRate(ratio):
            return f"at least {percent(ratio)} of them failed"
        case SlowRate(ratio, threshold):
            return f"at least {percent(ratio)} of them took {seconds(threshold)} or longer"
        case AvgLatency(threshold):
            return f"the calls took {seconds(threshold)} or longer on average"
        case FailureStreak(count):
            return last_failed(count)
        case _ if isinstance(tripper, Binary):
            word = {"&": "and", "|": "or"}[tripper.symbol]
            return f" {word} ".join(_part(each, tripper.symbol) for each in _sides(tripper))
        case _:
            return f"{tripper!r}, which is not one of Fluxgate's own, fires"


def last_failed(count: int) -> str:
    """That so many calls in a row have failed."""
    return "the last call failed" if count == 1 else f"the last {count:,} calls all failed"


def _sides(both: Binary[Any]) -> tuple[Tripper, Tripper]:
    return both.left, both.right


def _part(tripper: Tripper, inside: str) -> str:
    text = condition(tripper)
    return f"({text})" if tripper.symbol not in ("", inside) else text


def window(given: Window) -> str:
    """Which calls a window holds."""
    if isinstance(given, TimeWindow):
        return f"the calls of the last {seconds(given.size)}"
    if given.capacity is not None:
        return f"the last {number(given.capacity, 'call')}, however old"
    return f"the calls that {given!r} holds"


def tracker(given: trackers.Tracker) -> str:
    """Which exceptions are failures, where not all are."""
    if isinstance(given, trackers.TypeOf):
        return listed((_dotted.name_of(kind) for kind in given.types), "or")
    return f"an exception that {given!r} tracks"


def permit(given: permits.Permit) -> str:
    """Which share of the calls a permit admits."""
    match given:
        case permits.All():
            return "every call is admitted as a probe"
        case permits.Random(share):
            return f"{percent(share)} of the calls are admitted as probes"
        case permits.RampUp(initial, final, duration):
            grows = f"{percent(initial)} of the calls are admitted as probes at first"
            return f"{grows}, {percent(final)} after {seconds(duration)}"
        case _:
            return f"{given!r} says which share of the calls is admitted as probes"


def openings(policy: Policy) -> list[float]:
    """How long the first openings in a row last (seconds), until their length stays as it is."""
    verdicts = Verdicts(lambda: 0.5, [])  # the dice at which jitter is nil
    found: list[float] = []
    for reopens in range(_SERIES):
        delay = verdicts.delay(policy, reopens)
        if found and delay == found[-1]:
            break
        found.append(delay)
    return found


def opening(policy: Policy) -> str:
    """How long the circuit stays open."""
    found = openings(policy)
    if found == [math.inf]:
        return "until somebody calls reset()"
    if found == [0]:
        return "0 s: the very next call probes"
    shown = [seconds(each) if each < math.inf else "until reset()" for each in found]
    text = shown[0]
    if len(shown) > 1:
        more = shown[1:] if len(shown) <= 6 else [*shown[1:5], "…", shown[-1]]
        still = " from then on" if len(found) < _SERIES else " and on"
        text = f"{text} at first; after each failed recovery {', '.join(more)}{still}"
    if policy.retry.jitter_ratio:
        text += f"; each time ± {percent(policy.retry.jitter_ratio)} by chance"
    return text


def traffic(rate: float) -> str:
    """Calls per second, or per minute where they are few: `6 calls/min`."""
    if rate < 1:
        return f"{rate * 60:.3g} call{'s' * (round(rate * 60, 6) != 1)}/min"
    return f"{rate:.4g} call{'s' * (rate != 1)}/s"


def about(value: float) -> str:
    """A duration, roughly: `about 17 s`, `about 39 min`."""
    if value == 0:
        return "at once"
    near = float(f"{value:.2g}") if value < 120 else round(value / 60) * 60
    return f"about {seconds(near)}"
