"""Merged windows: the calls of all processes, as a policy's tripper sees them.

A store keeps buckets of whole seconds by its own clock. `TimeWindow(s)` is the buckets of the last
s seconds; `CountWindow(n)` the newest ones, at least two whole ones, that together hold n calls,
and none older than a minute. A window of more than a minute has wider buckets, not more of them.

A bucket is stored as text: `tick.calls.failures.milliseconds.slow…`, the numbers in hexadecimal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from fluxgate.fleet.store import MAX_COUNT, MAX_EPOCH, MAX_THRESHOLDS, Bucket, Counts, Shape, View
from fluxgate.metric import Snapshot
from fluxgate.policy import Policy
from fluxgate.state import State
from fluxgate.windows import TimeWindow

MINUTE: Final = 60
"""How many buckets there are beside the current one, at most."""
WHOLE: Final = 2
"""How many whole buckets a window of a number of calls has, at least."""


def shape_of(policy: Policy) -> Shape | None:
    """How the calls of a policy are to be kept; None if they can't be merged."""
    thresholds = tuple(round(1e6 * threshold) for threshold in policy.thresholds)
    if len(thresholds) > MAX_THRESHOLDS:
        return None
    window = policy.window
    if isinstance(window, TimeWindow):
        width = max(math.ceil(window.size / MINUTE), 1)
        return Shape(width, math.ceil(window.size / width) + 1, 0, thresholds)
    if window.capacity is None:
        return None
    return Shape(1, MINUTE + 1, window.capacity, thresholds)


def kept(buckets: Iterable[Bucket], tick: int, shape: Shape) -> tuple[Bucket, ...]:
    """Those buckets that are in the window when the current one is `tick`; oldest first."""
    newest: list[Bucket] = []
    held = 0
    for bucket in sorted(buckets, reverse=True):
        age = tick - bucket.tick
        if age < 0:
            continue
        if age >= shape.keep or (shape.calls and held >= shape.calls and age > WHOLE):
            break
        newest.append(bucket)
        held += bucket.counts.calls
    return tuple(reversed(newest))


def added(counts: Iterable[Counts], thresholds: int) -> Counts:
    """The sum of counts; what would be too large stays at the largest."""
    calls = failures = milliseconds = 0
    slow = [0] * thresholds
    for each in counts:
        calls += each.calls
        failures += each.failures
        milliseconds += each.milliseconds
        for place, count in enumerate(each.slow[:thresholds]):
            slow[place] += count
    most = (min(number, MAX_COUNT) for number in (calls, failures, milliseconds, *slow))
    calls, failures, milliseconds, *slow = most
    return Counts(calls, failures, milliseconds, tuple(slow))


def snapshot(counts: Counts, thresholds: tuple[float, ...]) -> Snapshot:
    """Counts as a tripper reads them; `thresholds` are the policy's, in seconds."""
    slow = (*counts.slow, *(0 for _ in thresholds))
    return Snapshot(
        total_count=counts.calls,
        failure_count=counts.failures,
        failure_streak=0,
        total_duration=counts.milliseconds / 1000,
        slow_counts=dict(zip(thresholds, slow, strict=False)),
    )


def merged(view: View, shape: Shape, thresholds: tuple[float, ...]) -> Snapshot:
    """The merged window of a circuit, as of that view."""
    buckets = kept(view.buckets, view.tick, shape) if view.label == shape.label else ()
    return snapshot(added((bucket.counts for bucket in buckets), len(shape.thresholds)), thresholds)


def metrics_of(view: View | None, policy: Policy | None) -> Snapshot:
    """The calls of all processes as users see them: half-open, those of the probes."""
    shape = None if policy is None else shape_of(policy)
    if view is None or shape is None or policy is None:
        return Snapshot(0, 0, 0, 0.0, {})
    if view.state is State.HALF_OPEN:
        return snapshot(view.probes, policy.thresholds)
    return merged(view, shape, policy.thresholds)


# -- as text


def write_counts(counts: Counts) -> str:
    """Counts as text."""
    return ".".join(f"{number:x}" for number in (*counts[:3], *counts.slow))


@lru_cache(maxsize=4096)  # a page reads thousands, most of them alike
def read_counts(text: str) -> Counts | None:
    """Counts from text; None if it isn't any."""
    try:
        numbers = [int(part, 16) for part in text.split(".")]
    except ValueError:
        return None
    if not 3 <= len(numbers) <= 3 + MAX_THRESHOLDS or not _bounded(numbers):
        return None
    calls, failures, milliseconds, *slow = numbers
    return Counts(calls, failures, milliseconds, tuple(slow))


def width_of(label: str) -> int:
    """Seconds of a bucket by the label of a shape; 0 where it is no label."""
    width = label.partition(".")[0]
    return int(width) if width.isdecimal() and len(width) < 10 else 0


def read_buckets(text: str) -> tuple[Bucket, ...]:
    """Buckets from text, joined by `|`; what isn't one is left out."""
    buckets: list[Bucket] = []
    for part in text.split("|"):
        tick, _, rest = part.partition(".")
        counts = read_counts(rest)
        try:
            number = int(tick, 16)
        except ValueError:
            continue
        if counts is not None and 0 <= number <= MAX_EPOCH:
            buckets.append(Bucket(number, counts))
    return tuple(buckets)


def _bounded(numbers: Iterable[int]) -> bool:
    return all(0 <= number <= MAX_COUNT for number in numbers)
