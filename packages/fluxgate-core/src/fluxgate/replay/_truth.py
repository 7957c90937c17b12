"""The truth that policies are held against: when the dependency was down or slow.

Either the user says when, or a rule finds it: the share of failed or slow calls in a rolling minute
is above a limit for thirty seconds. A rolling minute sees both ends of an outage late, so the ends
are then moved to where the calls changed: of all stretches inside, the one is taken in which bad
calls exceed half the greatest share by the most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import accumulate
from statistics import median
from typing import Final, NamedTuple

from fluxgate._words import percent, seconds
from fluxgate.replay._numpy import np
from fluxgate.replay._result import Outage
from fluxgate.replay._trace import Trace

MINUTE: Final = 60.0
LASTS: Final = 30.0
LEAST_SHARE: Final = 0.05
TIMES_MEDIAN: Final = 5.0
LEAST_BAD: Final = 3
"""Bad calls in the minute; fewer say nothing, however few calls there are."""
LEAST_SLOW: Final = 0.1
"""Seconds; nobody calls a faster answer an outage."""


class Truth(NamedTuple):
    """When the dependency was down or slow.

    Attributes:
        outages: in their order; they don't overlap.
        slow: seconds from which a call is bad although it didn't fail; None: only failures are bad.
        bad: 1 for each bad call, by place.
        rule: how that is known, in words.
    """

    outages: tuple[Outage, ...]
    slow: float | None
    bad: bytearray
    rule: str


def truth_of(
    trace: Trace,
    given: Iterable[tuple[float, float]] | None = None,
    slow: float | None = None,
) -> Truth:
    """The outages of a trace.

    Args:
        trace: the calls.
        given: (begin, end) in Unix seconds, if the user knows; overlapping ones are joined.
        slow: seconds from which a call is slow; by default five times the median of the calls that
            went well, and at least 0.1.

    Raises:
        ValueError: an outage ends before it begins.
    """
    if slow is None:
        slow = max(TIMES_MEDIAN * median_good(trace), LEAST_SLOW)
    bad = bad_calls(trace, slow)
    words = f"a call is bad if it failed or took {seconds(slow)} or longer"
    if given is not None:
        outages = [
            Outage(begin, end, True, _share(trace, bad, begin, end))
            for begin, end in _joined(given)
        ]
        return Truth(tuple(outages), slow, bad, f"outages as given; {words}")
    ticks = _ticks(trace, bad)
    limit = max(LEAST_SHARE, TIMES_MEDIAN * _median_share(ticks))
    rule = (
        f"an outage is found where bad calls are above {percent(limit)} of a rolling minute (the "
        f"greater of {percent(LEAST_SHARE)} and {TIMES_MEDIAN:g} × the median minute) for "
        f"{LASTS:g} s, with at least {LEAST_BAD} of them; {words}"
    )
    if limit >= 1:
        share = percent(limit / TIMES_MEDIAN)
        rule = (
            f"no rule finds an outage where the median minute has {share} bad calls: "
            f"name it with --outage; {words}"
        )
    return Truth(tuple(_found(ticks, limit)), slow, bad, rule)


def bad_calls(trace: Trace, slow: float) -> bytearray:
    """1 for each call that failed, or took `slow` seconds; one of unknown outcome is not bad."""
    if np is not None and len(trace):
        mask = (np.frombuffer(trace.failed, dtype=np.uint8) != 0) | (
            np.frombuffer(trace.duration) >= slow
        )
        if trace.refused is not None:
            mask &= np.frombuffer(trace.refused, dtype=np.uint8) == 0
        return bytearray(mask.astype(np.uint8).tobytes())
    refused = trace.refused or bytes(len(trace))
    columns = zip(trace.failed, trace.duration, refused, strict=True)
    return bytearray(
        not unknown and (failed or duration >= slow) for failed, duration, unknown in columns
    )


def median_good(trace: Trace) -> float:
    """The median duration (seconds) of the calls that didn't fail; 0 without any."""
    if np is not None and len(trace):
        mask = np.frombuffer(trace.failed, dtype=np.uint8) == 0
        if trace.refused is not None:
            mask &= np.frombuffer(trace.refused, dtype=np.uint8) == 0
        good = np.frombuffer(trace.duration)[mask]
        return float(np.median(good)) if len(good) else 0.0
    refused = trace.refused or bytes(len(trace))
    columns = zip(trace.failed, trace.duration, refused, strict=True)
    durations = [duration for failed, duration, unknown in columns if not failed and not unknown]
    return median(durations) if durations else 0.0


class _Tick(NamedTuple):
    """A second with calls in it: of these, and of the minute that ends with it."""

    second: int
    calls: int
    bad: int
    minute_calls: int
    minute_bad: int

    @property
    def share(self) -> float:
        return self.minute_bad / self.minute_calls


def _ticks(trace: Trace, bad: bytearray) -> list[_Tick]:
    """The seconds that have calls of known outcome, with what the last minute held."""
    ticks: list[_Tick] = []
    recent: deque[tuple[int, int, int]] = deque()
    calls = failures = 0
    for second, count, wrong in _by_second(trace, bad):
        recent.append((second, count, wrong))
        calls, failures = calls + count, failures + wrong
        while recent[0][0] <= second - MINUTE:
            _, gone, gone_bad = recent.popleft()
            calls, failures = calls - gone, failures - gone_bad
        ticks.append(_Tick(second, count, wrong, calls, failures))
    return ticks


def _by_second(trace: Trace, bad: bytearray) -> Iterable[tuple[int, int, int]]:
    """(second, calls, bad calls) of every second that has calls of known outcome."""
    if np is not None and len(trace):
        starts = np.frombuffer(trace.start)
        wrong = np.frombuffer(bad, dtype=np.uint8)
        if trace.refused is not None:
            known = np.frombuffer(trace.refused, dtype=np.uint8) == 0
            starts, wrong = starts[known], wrong[known]
            if not len(starts):
                return []
        whole = np.floor(starts).astype(np.int64)
        edges = np.flatnonzero(np.diff(whole, prepend=whole[0] - 1))
        calls = np.diff(edges, append=len(whole))
        sums = np.add.reduceat(wrong.astype(np.int64), edges)
        return zip(whole[edges].tolist(), calls.tolist(), sums.tolist(), strict=True)
    counts: dict[int, list[int]] = {}
    refused = trace.refused or bytes(len(trace))
    for start, each, unknown in zip(trace.start, bad, refused, strict=True):
        if not unknown:
            count = counts.setdefault(int(start), [0, 0])
            count[0] += 1
            count[1] += each
    return ((second, calls, wrong) for second, (calls, wrong) in counts.items())


def _median_share(ticks: list[_Tick]) -> float:
    return median(tick.share for tick in ticks) if ticks else 0.0


def _found(ticks: list[_Tick], limit: float) -> Iterable[Outage]:
    """The stretches above the limit, their ends moved to where the calls changed."""
    last_end = -1
    for first, last in _above(ticks, limit):
        # What the first of these minutes saw may have begun up to a minute earlier.
        begin = first
        while begin > last_end + 1 and ticks[begin - 1].second > ticks[first].second - MINUTE:
            begin -= 1
        last_end = last
        peak = max(tick.share for tick in ticks[first : last + 1])
        # Half the peak: beside it, a stray failure just before or after an outage is no part of it.
        begin, end = _densest(ticks, begin, last, max(limit, peak / 2))
        yield Outage(float(ticks[begin].second), float(ticks[end].second + 1), False, peak)


def _above(ticks: list[_Tick], limit: float) -> Iterable[tuple[int, int]]:
    """(first, last) indexes of stretches above the limit for long enough."""
    first: int | None = None
    for index, tick in enumerate(ticks):
        # Silence longer than a minute ends a stretch: nobody knows what went on in it.
        silent = index > 0 and tick.second - ticks[index - 1].second >= MINUTE
        above = tick.share > limit and tick.minute_bad >= LEAST_BAD
        if first is not None and (silent or not above):
            if ticks[index - 1].second + 1 - ticks[first].second >= LASTS:
                yield first, index - 1
            first = None
        if above and first is None:
            first = index
    if first is not None and ticks[-1].second + 1 - ticks[first].second >= LASTS:
        yield first, len(ticks) - 1


def _densest(ticks: list[_Tick], first: int, last: int, share: float) -> tuple[int, int]:
    """Of the stretches in there, the one whose bad calls exceed this share by the most."""
    best, best_range = float("-inf"), (first, last)
    total, begin = 0.0, first
    for index in range(first, last + 1):
        if total <= 0:
            total, begin = 0.0, index
        total += ticks[index].bad - share * ticks[index].calls
        if total > best:
            best, best_range = total, (begin, index)
    return best_range


def _joined(given: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(given):
        if not begin < end:
            raise ValueError(f"an outage must begin before it ends: {begin:g}..{end:g}")
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def _share(trace: Trace, bad: bytearray, begin: float, end: float) -> float:
    """The greatest share of bad calls in a rolling minute of an outage; 0 without calls in it."""
    ticks = (tick for tick in _ticks(trace, bad) if begin <= tick.second < end)
    return max((tick.share for tick in ticks), default=0.0)


def sums(values: Iterable[float]) -> list[float]:
    """Running sums from 0 on: of `values[a:b]` the sum is `sums[b] - sums[a]`."""
    return [0, *accumulate(values)]
