"""Tallies: running counts of the calls in a window. Adding and reading are O(1).

A window is a recipe (`windows.py`); a tally holds the counts of one phase. Tallies are guarded by
their circuit's lock.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections import deque
from math import inf
from typing import Final, TypeAlias

from fluxgate.metric import Metrics, Snapshot

__all__ = ["CountTally", "Tally", "TimeTally"]

Thresholds: TypeAlias = tuple[float, ...]
"""Slow-call thresholds in seconds."""

CHUNK = 256
"""Single durations are collected in chunks of this size."""


_EXACT: Final = 1e4
"""Seconds. The sum of a chunk of floats is right to the nanosecond as long as it is below."""


def whole_nanoseconds(durations: list[float]) -> int:
    """The sum of at most a chunk of durations (seconds), in nanoseconds."""
    seconds = sum(durations)
    if seconds < _EXACT:
        return round(seconds * 1e9)
    return sum(round(each * 1e9) for each in durations)


class Tally(Metrics, ABC):
    """Live metrics of one phase. `now` is clock time in seconds."""

    __slots__ = ("failure_count", "failure_streak", "slow_counts", "total_count")

    def __init__(self, thresholds: Thresholds, streak: int) -> None:
        self.total_count = 0
        self.failure_count = 0
        self.failure_streak = streak
        self.slow_counts = dict.fromkeys(thresholds, 0)

    @abstractmethod
    def add(
        self, failed: bool, reached: Thresholds, elapsed: float, nanoseconds: int, now: float
    ) -> int:
        """Record one call and give the count before it.

        Args:
            failed: whether it failed.
            reached: the slow-call thresholds (seconds) that it reached.
            elapsed: its duration in seconds.
            nanoseconds: the same in whole nanoseconds.
            now: clock time of its end.
        """

    @abstractmethod
    def add_fast(self, batch: list[float], nanoseconds: int, at: float) -> None:
        """Record fast successes.

        Args:
            batch: their durations in seconds; the list becomes the tally's own.
            nanoseconds: the sum of them, whole.
            at: clock time in the bucket in which all of them ended.
        """

    @abstractmethod
    def retune(self, thresholds: Thresholds) -> None:
        """Count for other thresholds from now on: a new one starts at 0."""

    @abstractmethod
    def recount(self) -> None:
        """Derive the counts anew from the records, which an interrupt may have left behind."""

    def advance(self, now: float) -> None:
        """Forget what is too old at `now`."""

    def until(self, now: float) -> float:
        """The end of the time bucket that `now` is in."""
        return inf

    @property
    def clean(self) -> bool:
        """Whether the window holds neither a failure nor a slow call."""
        return not self.failure_count and not any(self.slow_counts.values())

    def snapshot(self) -> Snapshot:
        """The numbers as they stand."""
        return Snapshot(
            total_count=self.total_count,
            failure_count=self.failure_count,
            failure_streak=self.failure_streak,
            total_duration=self.total_duration,
            slow_counts=dict(self.slow_counts),
        )


class CountTally(Tally):
    """The last `size` calls.

    Calls are numbered. Bad ones are kept by their number, so that a good one needs no record.
    Durations lie in the chunks in which they came, for the mean alone: a chunk is added and dropped
    as a whole, and what has left of the oldest one is summed when somebody asks.
    """

    __slots__ = ("_bad", "_chunks", "_gone_sum", "_nanoseconds", "_next", "_seen", "_size")

    def __init__(self, size: int, thresholds: Thresholds, streak: int) -> None:
        super().__init__(thresholds, streak)
        self._size = size
        self._seen = 0  # the number of the newest call
        self._bad: deque[tuple[int, bool, Thresholds]] = deque()
        self._chunks: deque[_Chunk] = deque()
        self._nanoseconds = 0  # of all calls ever; a chunk knows how many came before it
        self._next = sys.maxsize  # when this call has left the window, there is something to drop
        self._gone_sum = (0, 0)  # calls of the oldest chunk that are summed, and their nanoseconds

    @property
    def total_duration(self) -> float:  # type: ignore[override]
        if not self._chunks:
            return 0.0
        oldest = self._chunks[0]
        gone = max(self._seen - self._size - oldest.before, 0)
        summed, nanoseconds = self._gone_sum
        if summed < gone:
            nanoseconds += whole_nanoseconds(oldest.durations[summed:gone])
            self._gone_sum = (gone, nanoseconds)
        return max(self._nanoseconds - oldest.nanoseconds_before - nanoseconds, 0) / 1e9

    @property
    def clean(self) -> bool:
        return not self._bad

    def add(
        self, failed: bool, reached: Thresholds, elapsed: float, nanoseconds: int, now: float
    ) -> int:
        before = self.total_count
        self._extend([elapsed], nanoseconds)
        if failed:
            self.failure_count += 1
            self.failure_streak += 1
        else:
            self.failure_streak = 0
        if failed or reached:
            number = self._seen
            self._bad.append((number, failed, reached))
            if number < self._next:
                self._next = number
            for threshold in reached:
                self.slow_counts[threshold] += 1
        return before

    def add_fast(self, batch: list[float], nanoseconds: int, at: float) -> None:
        self._extend(batch, nanoseconds)
        self.failure_streak = 0

    def _extend(self, durations: list[float], nanoseconds: int) -> None:
        """Add calls with these durations, and forget what they push out of the window."""
        chunks, count = self._chunks, len(durations)
        if chunks and len(newest := chunks[-1].durations) + count <= CHUNK:
            newest.extend(durations)
        else:
            if chunks and self._seen < self._next:
                self._next = self._seen
            chunks.append(_Chunk(durations, self._seen, self._nanoseconds))
        self._seen = seen = self._seen + count
        self._nanoseconds += nanoseconds
        gone = seen - self._size  # the number of the newest call that has left the window
        if gone <= 0:
            self.total_count = seen
            return
        self.total_count = self._size
        if gone >= self._next:
            self._drop(gone)

    def _drop(self, gone: int) -> None:
        """Forget what has left the window."""
        chunks, bad = self._chunks, self._bad
        following = sys.maxsize
        while len(chunks) > 1 and (following := chunks[1].before) <= gone:
            chunks.popleft()
            self._gone_sum = (0, 0)
            following = sys.maxsize
        while bad:
            number, failed, slow = bad[0]
            if number > gone:
                if number < following:
                    following = number
                break
            bad.popleft()
            self.failure_count -= failed
            for threshold in slow:
                self.slow_counts[threshold] -= 1
        self._next = following

    def retune(self, thresholds: Thresholds) -> None:
        self.slow_counts = {t: self.slow_counts.get(t, 0) for t in thresholds}
        records = [(n, failed, _kept(slow, thresholds)) for n, failed, slow in self._bad]
        self._bad = deque(record for record in records if record[1] or record[2])

    def recount(self) -> None:
        if self._chunks:
            newest = self._chunks[-1]
            self._seen = newest.before + len(newest.durations)
            summed = newest.nanoseconds_before + whole_nanoseconds(newest.durations)
            self._nanoseconds = max(self._nanoseconds, summed)
        self._gone_sum = (0, 0)
        self.total_count = min(self._seen, self._size)
        self._drop(self._seen - self._size)
        self.failure_count = sum(failed for _, failed, _ in self._bad)
        for threshold in self.slow_counts:
            self.slow_counts[threshold] = sum(threshold in slow for _, _, slow in self._bad)


class _Chunk:
    """Durations that came together.

    Attributes:
        durations: seconds.
        before: how many calls came before them.
        nanoseconds_before: what those took; whole, so that sums never drift.
    """

    __slots__ = ("before", "durations", "nanoseconds_before")

    def __init__(self, durations: list[float], before: int, nanoseconds_before: int) -> None:
        self.durations = durations
        self.before = before
        self.nanoseconds_before = nanoseconds_before


def _kept(slow: Thresholds, thresholds: Thresholds) -> Thresholds:
    return tuple(threshold for threshold in slow if threshold in thresholds)


class _Bucket:
    """The calls of one slice of time."""

    __slots__ = ("calls", "failures", "index", "nanoseconds", "slow")

    def __init__(self, index: int) -> None:
        self.index = index
        self.calls = 0
        self.failures = 0
        self.nanoseconds = 0
        self.slow: dict[float, int] = {}


class TimeTally(Tally):
    """The calls of the last `buckets` slices of `width` seconds, the current one included.

    Durations are summed in whole nanoseconds: what is added comes off again to the last digit.
    """

    __slots__ = ("_buckets", "_count", "_nanoseconds", "_newest", "_width")

    def __init__(self, width: float, buckets: int, thresholds: Thresholds, streak: int) -> None:
        super().__init__(thresholds, streak)
        self._width = width
        self._count = buckets
        self._buckets: deque[_Bucket] = deque()
        self._newest = -sys.maxsize
        self._nanoseconds = 0

    @property
    def total_duration(self) -> float:  # type: ignore[override]
        return self._nanoseconds / 1e9

    def until(self, now: float) -> float:
        return (now // self._width + 1) * self._width

    def add(
        self, failed: bool, reached: Thresholds, elapsed: float, nanoseconds: int, now: float
    ) -> int:
        self.failure_streak = self.failure_streak + 1 if failed else 0
        bucket = self._bucket_at(now)
        before = self.total_count
        if bucket is not None:
            self._grow(bucket, 1, nanoseconds)
            if failed:
                bucket.failures += 1
                self.failure_count += 1
            for threshold in reached:
                bucket.slow[threshold] = bucket.slow.get(threshold, 0) + 1
                self.slow_counts[threshold] += 1
        return before

    def add_fast(self, batch: list[float], nanoseconds: int, at: float) -> None:
        self.failure_streak = 0
        bucket = self._bucket_at(at)
        if bucket is not None:
            self._grow(bucket, len(batch), nanoseconds)

    def _grow(self, bucket: _Bucket, calls: int, nanoseconds: int) -> None:
        bucket.calls += calls
        bucket.nanoseconds += nanoseconds
        self.total_count += calls
        self._nanoseconds += nanoseconds

    def _bucket_at(self, now: float) -> _Bucket | None:
        """The bucket that `now` belongs to; None if its time is over."""
        self.advance(now)
        index = int(now // self._width)
        buckets = self._buckets
        if buckets and buckets[-1].index == index:
            return buckets[-1]
        if index <= self._newest - self._count:
            return None
        # Almost always the end; a batch that was appended late belongs further down.
        place = len(buckets)
        while place and buckets[place - 1].index > index:
            place -= 1
        if place and buckets[place - 1].index == index:
            return buckets[place - 1]
        bucket = _Bucket(index)
        buckets.insert(place, bucket)
        return bucket

    def advance(self, now: float) -> None:
        self._newest = max(self._newest, int(now // self._width))
        buckets, oldest = self._buckets, self._newest - self._count
        while buckets and buckets[0].index <= oldest:
            gone = buckets.popleft()
            self.total_count -= gone.calls
            self.failure_count -= gone.failures
            self._nanoseconds -= gone.nanoseconds
            for threshold, count in gone.slow.items():
                self.slow_counts[threshold] -= count

    def retune(self, thresholds: Thresholds) -> None:
        self.slow_counts = {t: self.slow_counts.get(t, 0) for t in thresholds}
        for bucket in self._buckets:
            bucket.slow = {t: bucket.slow[t] for t in _kept(tuple(bucket.slow), thresholds)}

    def recount(self) -> None:
        self.total_count = sum(bucket.calls for bucket in self._buckets)
        self.failure_count = sum(bucket.failures for bucket in self._buckets)
        self._nanoseconds = sum(bucket.nanoseconds for bucket in self._buckets)
        for threshold in self.slow_counts:
            counts = (bucket.slow.get(threshold, 0) for bucket in self._buckets)
            self.slow_counts[threshold] = sum(counts)
