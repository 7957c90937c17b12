"""What a window remembers: O(1) per call and per read, whatever the size.

A window is a recipe (`windows.py`); a tally is what a phase counts with. Tallies are guarded by
their circuit's lock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from itertools import islice
from math import fsum, inf

from fluxgate.metric import Metrics, Snapshot

__all__ = ["CountTally", "Tally", "TimeTally"]

Slow = tuple[float, ...]


class Tally(Metrics, ABC):
    """Live metrics of one phase. `now` is clock time in seconds."""

    __slots__ = ("failure_count", "failure_streak", "slow_counts", "total_count")

    slow_counts: dict[float, int]

    def __init__(self, thresholds: Slow, streak: int = 0) -> None:
        self.total_count = 0
        self.failure_count = 0
        self.failure_streak = streak
        self.slow_counts = dict.fromkeys(thresholds, 0)

    @abstractmethod
    def add(self, failed: bool, slow: Slow, elapsed: float, now: float) -> None:
        """Record one call that ended at `now`; `slow` are the thresholds that it reached."""

    @abstractmethod
    def add_fast(self, batch: list[float], at: float) -> None:
        """Record fast successes by their durations; all ended in the bucket of `at`."""

    @abstractmethod
    def retune(self, thresholds: Slow) -> None:
        """Count for other thresholds from now on: a new one starts at 0."""

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

    Bad calls are kept by sequence number, so that a good one costs no record of its own; the
    durations are kept for the mean. Their running sum is taken anew each time the window has
    turned over once, so that rounding errors can't add up.
    """

    __slots__ = ("_bad", "_durations", "_seen", "_size", "_sum", "_turned")

    def __init__(self, size: int, thresholds: Slow, streak: int = 0) -> None:
        super().__init__(thresholds, streak)
        self._size = size
        self._seen = 0
        self._bad: deque[tuple[int, bool, Slow]] = deque()
        self._durations: deque[float] = deque(maxlen=size)
        self._sum = 0.0
        self._turned = 0

    @property
    def total_duration(self) -> float:  # type: ignore[override]
        return self._sum

    @property
    def clean(self) -> bool:
        return not self._bad

    def add(self, failed: bool, slow: Slow, elapsed: float, now: float) -> None:
        durations = self._durations
        if self.total_count == self._size:
            self._sum -= durations[0]
        durations.append(elapsed)
        self._sum += elapsed
        self._grow(1)
        if failed:
            self.failure_count += 1
            self.failure_streak += 1
        else:
            self.failure_streak = 0
        if failed or slow:
            self._bad.append((self._seen, failed, slow))
            for threshold in slow:
                self.slow_counts[threshold] += 1

    def add_fast(self, batch: list[float], at: float) -> None:
        durations = self._durations
        evicted = self.total_count + len(batch) - self._size
        if evicted > 0:
            self._sum -= sum(islice(durations, evicted))
        durations.extend(batch)
        self._sum += sum(batch)
        self._grow(len(batch))
        self.failure_streak = 0

    def _grow(self, count: int) -> None:
        self._seen += count
        self.total_count = len(self._durations)
        self._turned += count
        if self._turned >= self._size:
            self._turned = 0
            self._sum = fsum(self._durations)
        bad, oldest = self._bad, self._seen - self._size
        while bad and bad[0][0] <= oldest:
            _, failed, slow = bad.popleft()
            self.failure_count -= failed
            for threshold in slow:
                self.slow_counts[threshold] -= 1

    def retune(self, thresholds: Slow) -> None:
        self.slow_counts = {t: self.slow_counts.get(t, 0) for t in thresholds}
        kept = ((n, failed, tuple(t for t in slow if t in thresholds)) for n, failed, slow in self._bad)
        self._bad = deque(record for record in kept if record[1] or record[2])


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

    def __init__(self, width: float, buckets: int, thresholds: Slow, streak: int = 0) -> None:
        super().__init__(thresholds, streak)
        self._width = width
        self._count = buckets
        self._buckets: deque[_Bucket] = deque()
        self._newest = 0
        self._nanoseconds = 0

    @property
    def total_duration(self) -> float:  # type: ignore[override]
        return self._nanoseconds / 1e9

    def until(self, now: float) -> float:
        return (now // self._width + 1) * self._width

    def add(self, failed: bool, slow: Slow, elapsed: float, now: float) -> None:
        self.failure_streak = self.failure_streak + 1 if failed else 0
        bucket = self._bucket_at(now)
        if bucket is None:
            return
        self._grow(bucket, 1, elapsed)
        if failed:
            bucket.failures += 1
            self.failure_count += 1
        for threshold in slow:
            bucket.slow[threshold] = bucket.slow.get(threshold, 0) + 1
            self.slow_counts[threshold] += 1

    def add_fast(self, batch: list[float], at: float) -> None:
        self.failure_streak = 0
        bucket = self._bucket_at(at)
        if bucket is not None:
            self._grow(bucket, len(batch), sum(batch))

    def _grow(self, bucket: _Bucket, calls: int, duration: float) -> None:
        nanoseconds = round(duration * 1e9)
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

    def retune(self, thresholds: Slow) -> None:
        self.slow_counts = {t: self.slow_counts.get(t, 0) for t in thresholds}
        for bucket in self._buckets:
            bucket.slow = {t: n for t, n in bucket.slow.items() if t in thresholds}
