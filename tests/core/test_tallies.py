"""What windows count, against a naive list of everything that ever happened."""

from __future__ import annotations

import copy
import math
import random
import sys
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fluxgate._tally import Tally
from fluxgate.windows import CountWindow, TimeWindow, Window

from .interrupting import interrupted

TICK = 1 / 64  # whole ticks are exact, as floats and as nanoseconds
THRESHOLDS = (0.5, 2.0)


@dataclass
class Naive:
    """A window that keeps a list of all calls and goes through it whenever it is read."""

    window: CountWindow | TimeWindow
    thresholds: tuple[float, ...] = THRESHOLDS
    calls: list[dict[str, Any]] = field(default_factory=list)
    streak: int = 0
    newest: float = 0.0

    def add(self, failed: bool, elapsed: float, ended: float) -> None:
        slow = {threshold for threshold in self.thresholds if elapsed >= threshold}
        self.calls.append({"failed": failed, "elapsed": elapsed, "ended": ended, "slow": slow})
        self.streak = self.streak + 1 if failed else 0
        self.newest = max(self.newest, ended)

    def advance(self, now: float) -> None:
        self.newest = max(self.newest, now)

    def retune(self, thresholds: tuple[float, ...]) -> None:
        self.thresholds = thresholds
        for call in self.calls:
            call["slow"] &= set(thresholds)

    @property
    def held(self) -> list[dict[str, Any]]:
        if isinstance(self.window, CountWindow):
            return self.calls[-self.window.size :]
        width = self.window.size / self.window.buckets
        oldest = self.newest // width - self.window.buckets
        return [call for call in self.calls if call["ended"] // width > oldest]

    def compare(self, tally: Tally) -> None:
        held = self.held
        assert tally.total_count == len(held)
        assert tally.failure_count == sum(call["failed"] for call in held)
        assert tally.failure_streak == self.streak
        assert tally.total_duration == sum(call["elapsed"] for call in held)
        assert tally.slow_counts == {
            threshold: sum(threshold in call["slow"] for call in held)
            for threshold in self.thresholds
        }
        assert tally.clean == (not any(call["failed"] or call["slow"] for call in held))
        if held:
            assert tally.failure_rate == tally.failure_count / len(held)
            assert tally.avg_duration == tally.total_duration / len(held)
            for threshold in self.thresholds:
                assert tally.slow_rate(threshold) == tally.slow_counts[threshold] / len(held)
        else:
            assert tally.failure_rate is None
            assert tally.avg_duration is None
            assert all(tally.slow_rate(threshold) is None for threshold in self.thresholds)


def add(tally: Tally, failed: bool, elapsed: float, now: float) -> int:
    slow = tuple(threshold for threshold in tally.slow_counts if elapsed >= threshold)
    return tally.add(failed, slow, elapsed, round(elapsed * 1e9), now)


def add_fast(tally: Tally, batch: list[float], at: float) -> int:
    return tally.add_fast(list(batch), round(sum(batch) * 1e9), at)


ticks = st.integers(0, 200).map(lambda n: n * TICK)
events = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.booleans(), ticks),
        st.tuples(st.just("batch"), st.integers(1, 600), st.sampled_from([0.0, TICK, 8 * TICK])),
        st.tuples(st.just("late"), st.integers(1, 9), st.integers(0, 640).map(lambda n: n * TICK)),
        st.tuples(st.just("wait"), ticks),
        st.tuples(
            st.just("retune"), st.sampled_from([(), (0.5,), (2.0,), (0.5, 2.0), (0.25, 0.5)])
        ),
    ),
    max_size=60,
)
windows = st.one_of(
    st.builds(CountWindow, st.integers(1, 20)),
    st.builds(CountWindow, st.sampled_from([100, 255, 256, 257, 600, 1000])),
    st.builds(TimeWindow, st.sampled_from([1.0, 2.0, 4.0]), st.sampled_from([1, 2, 8])),
)


@settings(deadline=None, max_examples=300)
@given(windows, events, st.booleans())
def test_a_window_agrees_with_a_plain_list(
    window: CountWindow | TimeWindow, played: list[Any], look_often: bool
) -> None:
    """Single calls, batches, batches that come late, the passing of time, other thresholds."""
    naive, tally, now = Naive(window), window.tally(THRESHOLDS), 1024.0
    naive.advance(now)
    tally.advance(now)
    for event in played:
        match event:
            case ("call", failed, elapsed):
                now += elapsed
                before = add(tally, failed, elapsed, now)
                naive.advance(now)
                assert before == len(naive.held)
                naive.add(failed, elapsed, now)
            case ("batch", count, elapsed):
                add_fast(tally, [elapsed] * count, now)
                for _ in range(count):
                    naive.add(False, elapsed, now)
            case ("late", count, age):
                # A journal that is drained after the time of its bucket.
                add_fast(tally, [TICK] * count, now - age)
                for _ in range(count):
                    naive.add(False, TICK, now - age)
            case ("wait", seconds):
                now += seconds
                tally.advance(now)
                naive.advance(now)
            case ("retune", thresholds):
                tally.retune(thresholds)
                naive.retune(thresholds)
        if look_often:
            naive.compare(tally)
    naive.compare(tally)
    snapshot = tally.snapshot()
    assert snapshot.total_count == tally.total_count
    assert snapshot.slow_counts == tally.slow_counts
    assert snapshot.slow_counts is not tally.slow_counts


def crowded(window: CountWindow | TimeWindow) -> tuple[Tally, Naive, float]:
    """A window through which many calls of all kinds have gone, its model, and the time."""
    naive, tally, now = Naive(window), window.tally(THRESHOLDS), 1024.0
    for number in range(24):
        now += 8 * TICK
        add(tally, number % 3 == 0, number % 7 * 32 * TICK, now)
        naive.add(number % 3 == 0, number % 7 * 32 * TICK, now)
        add_fast(tally, [number % 5 * TICK] * number, now)
        for _ in range(number):
            naive.add(False, number % 5 * TICK, now)
        assert tally.total_duration == sum(call["elapsed"] for call in naive.held)
    return tally, naive, now


STEPS: dict[str, Callable[[Tally, float], object]] = {
    "call": lambda tally, now: add(tally, True, 2.0, now),
    "batch": lambda tally, now: add_fast(tally, [TICK] * 250, now),
    "time": lambda tally, now: tally.advance(now),
    "read": lambda tally, _now: tally.snapshot(),
    "retune": lambda tally, _now: tally.retune((0.5, 4.0)),
}


@pytest.mark.parametrize(
    "window",
    [CountWindow(10), CountWindow(260), CountWindow(580), TimeWindow(2.0, 4), TimeWindow(2.0, 1)],
    ids=repr,  # the third is never full before it is left
)
@pytest.mark.parametrize("step", STEPS)
def test_a_broken_off_step_is_put_right(window: CountWindow | TimeWindow, step: str) -> None:
    """At any bytecode: the counts are those before or after it, and right once it has left."""
    beginning, place = crowded(window), 0
    while True:
        tally, naive, now = copy.deepcopy(beginning)
        before, after, now = tally.snapshot(), copy.deepcopy(tally), now + 8 * TICK
        STEPS[step](after, now)
        going_on = interrupted(partial(STEPS[step], tally, now), place, "_tally.py")
        if step == "retune":  # whoever was interrupted does it again
            STEPS[step](tally, now)
            naive.retune((0.5, 4.0))
        tally.recount()
        for name in ("total_count", "failure_count", "failure_streak", "total_duration"):
            sides = sorted((getattr(before, name), getattr(after, name)))
            assert sides[0] <= getattr(tally, name) <= sides[1], (name, place)
        for threshold, count in tally.slow_counts.items():
            assert count in (before.slow_counts.get(threshold, 0), after.slow_counts[threshold])
        if step in ("time", "read", "retune"):  # nothing was to be added
            tally.advance(now)
            naive.advance(now)
            naive.compare(tally)
        for _ in range(3):
            add_fast(tally, [TICK] * 200, now + 2.0)
        add(tally, True, 1.0, now + 2.0)
        for failed in (False,) * 600 + (True,):
            naive.add(failed, 1.0 if failed else TICK, now + 2.0)
        naive.compare(tally)
        if not going_on:
            break
        place += 7
    assert place  # it was interrupted at all


@pytest.mark.parametrize("window", [CountWindow(10), TimeWindow(8.0, 4)], ids=repr)
def test_a_late_batch_breaks_a_streak_even_where_its_time_is_over(window: Window) -> None:
    """A success is a success, also when the window has no place for it any more."""
    tally = window.tally(())
    add(tally, True, 0.0, 100.0)
    assert tally.failure_streak == 1
    add_fast(tally, [0.0], 1.0)
    assert tally.failure_streak == 0


def test_a_late_batch_lies_in_its_own_time() -> None:
    """Whether its bucket is there already or not, it is forgotten at its time, and no other."""
    for seconds in ((1.5, 2.5, 3.5), (1.5, 3.5)):
        tally, rest = TimeWindow(3.0, 3).tally(()), len(seconds)
        for second in seconds:
            add(tally, True, 0.0, second)
        add_fast(tally, [0.0] * 10, 2.75)
        tally.advance(4.0)  # the first bucket has left
        assert tally.total_count == rest - 1 + 10
        tally.advance(5.0)  # the second, too, which is that of the batch
        assert (tally.total_count, tally.failure_count) == (1, 1)


def test_a_clock_may_begin_below_0() -> None:
    """Where a clock starts says nothing; buckets are as wide before 0 as after it."""
    tally = TimeWindow(1.0, 1).tally(())
    add(tally, True, 0.0, -0.5)
    assert tally.total_count == 1
    add(tally, False, 0.0, 0.5)
    assert (tally.total_count, tally.failure_count) == (1, 0)


@pytest.mark.parametrize("window", [CountWindow(10), TimeWindow(8.0, 4)], ids=repr)
def test_other_thresholds_keep_counts(window: Window) -> None:
    tally = window.tally(THRESHOLDS)
    for elapsed in (0.0, 0.5, 2.0):
        add(tally, False, elapsed, 1.0)
    tally.retune((0.5, 4.0))
    assert tally.slow_counts == {0.5: 2, 4.0: 0}


def test_a_half_counted_call_is_counted() -> None:
    """Broken off between the duration and the count: the count follows the durations."""
    place, counts = 0, set[int]()
    while True:
        tally = CountWindow(100).tally(())
        add_fast(tally, [1.0] * 20, 0.0)
        going_on = interrupted(partial(add, tally, False, 1.0, 0.0), place, "_tally.py")
        tally.recount()
        assert tally.total_count == tally.total_duration
        counts.add(tally.total_count)
        if not going_on:
            break
        place += 1
    assert counts == {20, 21}


def test_a_time_window_forgets_bucket_by_bucket_on_read() -> None:
    """Eight seconds in four buckets: what ended in the first two seconds goes at the eighth."""
    tally = TimeWindow(8.0, 4).tally(THRESHOLDS)
    add(tally, True, 4.0, 0.0)
    add(tally, False, 0.0, 2.0)
    tally.advance(7.875)
    assert (tally.total_count, tally.failure_count, tally.slow_counts[2.0]) == (2, 1, 1)
    tally.advance(8.0)
    assert (tally.total_count, tally.failure_count, tally.slow_counts[2.0]) == (1, 0, 0)
    assert tally.total_duration == 0.0
    tally.advance(10.0)
    assert tally.total_count == 0


def test_a_time_window_says_how_long_its_bucket_lasts() -> None:
    """The lane must not outlive the bucket that its journal is counted in."""
    assert TimeWindow(60.0).tally(()).until(0.0) == 1.0
    assert TimeWindow(1e-6, 1).tally(()).until(0.0) == 1e-6  # no bucket can be shorter
    tally = TimeWindow(8.0, 4).tally(())
    assert [tally.until(now) for now in (0.0, 1.875, 2.0, 7.0)] == [2.0, 2.0, 4.0, 8.0]
    assert CountWindow(8).tally(()).until(5.0) == math.inf


@pytest.mark.parametrize("width", [0.1, 0.3, 1 / 3, 1.0, 60.0 / 7])
def test_every_moment_lies_before_the_end_of_its_bucket(width: float) -> None:
    """Whatever the rounding: a bucket that ended before it began would keep its lane shut."""
    tally = TimeWindow(width * 10, 10).tally(())
    moments = random.Random(7)
    for _ in range(10_000):
        now = moments.uniform(0, 1e6)
        assert now < tally.until(now) <= now + width * 1.0001


@pytest.mark.parametrize("window", [CountWindow(1000), TimeWindow(1000.0, 10)], ids=repr)
def test_sums_do_not_drift_over_a_million_calls(window: CountWindow | TimeWindow) -> None:
    """Odd durations of every size, in batches and alone: the mean is that of the calls held."""
    chance = random.Random(1)
    tally = window.tally(())
    last: deque[float] = deque(maxlen=1000)
    by_second: defaultdict[int, list[float]] = defaultdict(list)
    for second in range(4096):
        batch = [chance.random() * 10 ** chance.randrange(-6, 3) for _ in range(255)]
        odd = chance.random() * 1e5
        add_fast(tally, batch, float(second))
        add(tally, bool(chance.randrange(2)), odd, float(second))
        last.extend((*batch, odd))
        by_second[second] += (*batch, odd)
    assert sum(map(len, by_second.values())) > 1_000_000
    durations = list(last)
    if isinstance(window, TimeWindow):
        oldest = 4095 // 100 - 10
        durations = [
            one for second, all_ in by_second.items() if second // 100 > oldest for one in all_
        ]
    assert tally.total_count == len(durations)
    assert tally.total_duration == pytest.approx(math.fsum(durations), rel=1e-7)


@pytest.mark.parametrize("window", [CountWindow(100), TimeWindow(100.0, 10)], ids=repr)
def test_one_enormous_duration_leaves_no_trace_once_it_is_forgotten(window: Window) -> None:
    """A running float sum would never be the same again."""
    tally = window.tally(())
    add(tally, False, 86400.1, 0.0)
    for second in range(300):
        add(tally, False, 1e-6, float(second))
    assert tally.total_duration == pytest.approx(tally.total_count * 1e-6, rel=1e-3)


def work(step: Callable[[], object]) -> int:
    """How many functions, of Python and of C, `step` calls."""
    calls = 0

    def profile(_frame: Any, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        step()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (CountWindow(10), CountWindow(100_000)),
        (TimeWindow(10.0, 10), TimeWindow(3600.0, 10)),
    ],
    ids=["CountWindow", "TimeWindow"],
)
def test_a_call_and_a_read_cost_the_same_whatever_the_size(small: Window, large: Window) -> None:
    """The most functions that any of many calls needs in a full window don't grow with it."""

    def most(window: Window) -> int:
        tally = window.tally(THRESHOLDS)
        for second in range(500):
            add_fast(tally, [0.0] * 255, float(second))

        def step(number: int) -> None:
            add(tally, number % 3 == 0, number / 1000, 500.0)
            tally.snapshot()

        return max(work(partial(step, number)) for number in range(1000))

    assert most(large) <= most(small) + 4  # what happens to fall out together


def test_a_count_window_keeps_no_record_of_fast_successes() -> None:
    """A million healthy calls in a window of a million cost their durations, and that is all."""
    tally: Any = CountWindow(1_000_000).tally(THRESHOLDS)
    for _ in range(1000):
        add_fast(tally, [0.0] * 250, 0.0)
    assert tally.total_count == 250_000
    assert tally.clean
    assert len(tally._bad) == 0


def test_a_slow_rate_that_nobody_declared_is_refused_with_the_remedy() -> None:
    """Slow calls are counted by the thresholds of the tripper, and by no others."""
    tally = CountWindow(10).tally((0.5,))
    with pytest.raises(ValueError, match=r"slow_rate\(1.0\): not measured \(measured are: 0.5\)"):
        tally.slow_rate(1.0)
    with pytest.raises(ValueError, match="measured are: none"):
        CountWindow(10).tally(()).slow_rate(1.0)


def test_a_streak_is_handed_on_to_the_next_tally() -> None:
    """It is a property of the dependency, not of the window."""
    assert CountWindow(1).tally((), 7).failure_streak == 7
    assert CountWindow(1).tally(()).failure_streak == TimeWindow(1.0).tally(()).failure_streak == 0
    assert TimeWindow(1.0).tally((), 7).snapshot().failure_streak == 7
