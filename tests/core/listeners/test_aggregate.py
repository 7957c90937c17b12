"""Readings for monitoring: by name, few names, counters that never fall, whatever interrupts."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, Info, Metrics, Reason, State
from fluxgate.listeners._aggregate import OTHER, Reader, Reading
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown
from fluxgate.trippers import Closed, FailureRate, FailureStreak, MinRequests, SlowRate, Tripper

from ..interrupting import interrupted, report


def of(reader: Reader) -> dict[str, Reading]:
    readings = reader.read()
    assert len({reading.name for reading in readings}) == len(readings)
    return {reading.name: reading for reading in readings}


def succeed(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.call(int)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ZeroDivisionError):
            breaker.call(lambda: 1 / 0)


def reading(*breakers: Any, **options: Any) -> Reader:
    return Reader(lambda: breakers, **options)


def test_one_circuit_as_it_stands(breaker: Callable[..., Any]) -> None:
    api = breaker(tripper=FailureStreak(2), retry=Cooldown(8.0), max_half_open_calls=3)
    api.succeed(0.5, times=2)
    api.fail(times=2)
    api.clock.advance(2.0)
    api.refused()
    (one,) = reading(api.breaker).read()
    assert (one.name, one.state, one.retry_after, one.probes) == ("api", State.OPEN, 6.0, 0)
    assert {state for state, number in one.states.items() if number} == {State.OPEN}
    assert set(one.states) == set(State)
    totals = one.totals
    assert (totals.successes, totals.failures, totals.rejected) == (2, 2, 1)
    assert totals.duration == 1.0
    assert totals.trips == {"FailureStreak(2)": 1, "open_for()": 0}

    api.clock.advance(6.0)
    probe = api.breaker.attempt()
    (one,) = reading(api.breaker).read()
    assert (one.state, one.probes, one.retry_after) == (State.HALF_OPEN, 1, None)
    probe.fail()
    (one,) = reading(api.breaker).read()
    assert (one.state, one.reopens) == (State.OPEN, 1)
    (one,) = reading(api.breaker, CircuitBreaker("api")).read()
    assert one.reopens == 1


def test_every_circuit_of_the_process_is_read_by_default() -> None:
    mine = CircuitBreaker("read by default")
    theirs = AsyncCircuitBreaker("read by default, async")
    names = [each.name for each in Reader(max_circuits=10_000).read()]
    assert names.index(mine.name) < names.index(theirs.name)


def test_a_registrys_values_can_be_read_alone() -> None:
    registry = Registry()
    registry["in the registry"]
    outside = CircuitBreaker("outside")
    assert list(of(Reader(registry.values))) == ["in the registry"]
    assert list(of(Reader(registry.asynchronous.values))) == ["in the registry"]
    assert outside.state is State.CLOSED


def test_both_fronts_of_a_circuit_are_one() -> None:
    breaker = CircuitBreaker("api")
    succeed(breaker)
    (one,) = reading(breaker, breaker.to_async()).read()
    assert one.totals.successes == 1


def test_equal_names_are_added_and_the_worst_state_shows(breaker: Callable[..., Any]) -> None:
    first, second, third = (breaker(buckets=(1.0, 2.0)) for _ in range(3))
    first.succeed(0.5)
    second.succeed(1.5)
    second.breaker.open_for(8.0)
    third.breaker.open_for(4.0)
    one = of(reading(first.breaker, second.breaker, third.breaker))["api"]
    assert one.state is State.OPEN
    assert one.states[State.OPEN] == 2
    assert one.states[State.CLOSED] == 1
    assert one.retry_after == 8.0
    assert one.totals.successes == 2
    assert one.totals.duration == one.histogram_duration == 2.0
    assert one.totals.trips["open_for()"] == 2
    assert list(one.totals.histogram.items()) == [(1.0, 1), (2.0, 2), (float("inf"), 2)]


@pytest.mark.parametrize(
    ("control", "shown"),
    [
        ("force_open", State.FORCED_OPEN),
        ("disable", State.DISABLED),
        ("metrics_only", State.METRICS_ONLY),
        ("reset", State.CLOSED),
    ],
)
def test_the_order_of_the_states(control: str, shown: State) -> None:
    well, other = CircuitBreaker("api"), CircuitBreaker("api")
    getattr(other, control)()
    assert of(reading(well, other))["api"].state is shown
    opened = CircuitBreaker("api")
    opened.open_for(60)
    worst = State.FORCED_OPEN if shown is State.FORCED_OPEN else State.OPEN
    assert of(reading(well, other, opened))["api"].state is worst


def test_histograms_of_unequal_buckets_keep_the_bounds_they_share(
    breaker: Callable[..., Any],
) -> None:
    one, two, none = breaker(buckets=(1.0, 2.0)), breaker(buckets=(2.0, 4.0)), breaker()
    for each in (one, two, none):
        each.succeed(1.5)
    both = of(reading(one.breaker, two.breaker, none.breaker))["api"]
    assert dict(both.totals.histogram) == {2.0: 2, float("inf"): 2}
    assert both.histogram_duration == 3.0  # of those that the histogram counts
    assert both.totals.duration == 4.5


def test_what_a_circuit_counted_stays_when_it_goes(breaker: Callable[..., Any]) -> None:
    staying, going = breaker(buckets=(60.0,)), breaker(buckets=(60.0,))
    living = [staying.breaker, going.breaker]
    reader = Reader(lambda: living)
    staying.succeed(0.5, times=2)
    going.succeed(2.0, times=3)
    assert of(reader)["api"].totals.successes == 5
    del living[1], going
    gc.collect()
    staying.succeed(0.5)
    after = of(reader)["api"]
    assert after.totals.successes == after.totals.histogram[60.0] == 6
    assert after.totals.duration == after.histogram_duration == 7.5
    assert sum(after.states.values()) == 1


def test_a_name_whose_circuit_is_made_anew_goes_on_counting() -> None:
    """Often enough at the same place in memory."""
    living: list[CircuitBreaker] = []
    reader = Reader(lambda: living)
    for number in range(1, 51):
        living.clear()
        living.append(CircuitBreaker("api"))
        succeed(living[0])
        assert of(reader)["api"].totals.successes == number


def test_a_name_goes_with_its_last_circuit() -> None:
    living = [CircuitBreaker("api"), CircuitBreaker("db")]
    reader = Reader(lambda: living)
    succeed(living[1], 3)
    assert list(of(reader)) == ["api", "db"]
    del living[1]
    gc.collect()
    assert list(of(reader)) == ["api"]
    living.append(CircuitBreaker("db"))
    assert of(reader)["db"].totals.successes == 0


def test_names_beyond_the_cap_are_added_up() -> None:
    breakers = [CircuitBreaker(name) for name in "abcde"]
    reader = reading(*breakers, max_circuits=2)
    for breaker in breakers:
        succeed(breaker)
    breakers[3].open_for(60)
    readings = of(reader)
    assert list(readings) == ["a", "b", OTHER]
    assert readings[OTHER].totals.successes == 3
    assert readings[OTHER].state is State.OPEN
    assert readings[OTHER].states[State.CLOSED] == 2


def test_a_name_keeps_its_place_while_it_lives() -> None:
    """Moving one out of `other` would make `other` fall."""
    living = [CircuitBreaker(name) for name in "abcd"]
    reader = Reader(lambda: living, max_circuits=2)
    for breaker in living:
        succeed(breaker, 2)
    assert of(reader)[OTHER].totals.successes == 4
    del living[0], breaker
    gc.collect()
    assert list(of(reader)) == ["b", OTHER]
    assert of(reader)[OTHER].totals.successes == 4
    living.append(CircuitBreaker("e"))  # the place of "a" is free
    assert list(of(reader)) == ["b", OTHER, "e"]
    del living[1]  # "c"
    gc.collect()
    assert of(reader)[OTHER].totals.successes == 4
    del living[1]  # "d", the last one
    gc.collect()
    assert list(of(reader)) == ["b", "e"]


def test_a_name_that_comes_back_may_have_a_place_then() -> None:
    living = [CircuitBreaker("a"), CircuitBreaker("b")]
    reader = Reader(lambda: living, max_circuits=1)
    assert list(of(reader)) == ["a", OTHER]
    living.clear()
    gc.collect()
    assert not reader.read()
    living.append(CircuitBreaker("b"))
    assert list(of(reader)) == ["b"]


def test_circuits_of_one_name_are_in_one_place() -> None:
    living = [CircuitBreaker("a"), CircuitBreaker("b")]
    reader = Reader(lambda: living, max_circuits=1)
    reader.read()
    living[0] = CircuitBreaker("b")  # the place of "a" is free
    gc.collect()
    (other,) = reader.read()
    assert other.name == OTHER
    assert other.states[State.CLOSED] == 2


def test_a_circuit_called_other_takes_no_place() -> None:
    breakers = [CircuitBreaker(name) for name in (OTHER, "a", "b")]
    for breaker in breakers:
        succeed(breaker)
    readings = of(reading(*breakers, max_circuits=1))
    assert {name: each.totals.successes for name, each in readings.items()} == {OTHER: 2, "a": 1}


def test_names_that_are_kept_keep_their_place_and_their_counts() -> None:
    living = [CircuitBreaker("a")]
    reader = Reader(lambda: living, max_circuits=1, keep_names=True)
    succeed(living[0], 3)
    reader.read()
    living[:] = [CircuitBreaker("b")]
    gc.collect()
    assert list(of(reader)) == [OTHER]
    living[:] = [CircuitBreaker("a")]
    gc.collect()
    assert of(reader)["a"].totals.successes == 3


def test_what_could_be_counted_is_there_from_the_start() -> None:
    breaker = CircuitBreaker(
        "api",
        tripper=MinRequests(4) & (FailureRate(0.5) | SlowRate(0.3, 1.0))
        | Closed() & FailureStreak(9),
    )
    classic = CircuitBreaker("classic", tripper=Closed() & FailureStreak(9))
    readings = of(reading(breaker, classic))
    assert readings["api"].totals.slow_counts == {1.0: 0}
    assert readings["api"].totals.trips == dict.fromkeys(
        ("FailureRate(0.5)", "SlowRate(0.3, 1.0)", "FailureStreak(9)", "open_for()"), 0
    )
    assert readings["classic"].totals.trips == dict.fromkeys(
        ("FailureStreak(9)", "probe failed", "open_for()"), 0
    )


def test_what_really_trips_is_among_what_was_there_from_the_start(
    breaker: Callable[..., Any],
) -> None:
    api = breaker(
        tripper=MinRequests(2) & (SlowRate(0.5, 1.0) | FailureRate(0.5)) & FailureStreak(1)
        | FailureStreak(7),
        retry=Cooldown(1.0),
    )
    reader = reading(api.breaker)
    known = set(of(reader)["api"].totals.trips)
    api.fail(times=2)
    api.clock.advance(1.0)
    api.fail(seconds=2.0, times=5)
    assert of(reader)["api"].totals.trips.keys() == known
    assert sum(of(reader)["api"].totals.trips.values()) == 2


def test_new_settings_bring_their_own_zeros() -> None:
    breaker = CircuitBreaker("api", tripper=FailureStreak(2))
    reader = reading(breaker)
    fail(breaker, 2)
    reader.read()
    breaker.update(tripper=SlowRate(0.5, 2.0))
    totals = of(reader)["api"].totals
    assert totals.slow_counts == {2.0: 0}
    assert totals.trips == {"SlowRate(0.5, 2.0)": 0, "open_for()": 0, "FailureStreak(2)": 1}


class Moody(Tripper):
    """Names another clause each time."""

    __slots__ = ("moods",)
    needs_bad = True

    def __init__(self) -> None:
        self.moods = count()

    def fires(self, metrics: Metrics) -> bool:
        return True

    def explain(self, metrics: Metrics) -> Reason:
        return Reason(f"mood {next(self.moods)}")


def test_reasons_beyond_the_cap_are_other() -> None:
    breaker = CircuitBreaker("api", tripper=Moody())
    reader = reading(breaker, max_reasons=3)
    for _ in range(9):
        breaker.reset()
        fail(breaker)
        trips = of(reader)["api"].totals.trips
        assert len(trips) <= 4
    assert sum(trips.values()) == 9
    assert trips["mood 0"] == 1  # whoever has a label keeps it
    assert trips[OTHER] == 8


def test_would_open_live_and_shadow() -> None:
    trial = CircuitBreaker("trial", tripper=FailureStreak(2), initial_state="metrics_only")
    shadow = CircuitBreaker("shadow", tripper=FailureStreak(9), shadow=FailureStreak(2))
    reader = reading(trial, shadow)
    for each in of(reader).values():
        assert not each.would_open
        assert not each.shadow_open
    fail(trial, 2)
    fail(shadow, 2)
    readings = of(reader)
    assert (readings["trial"].would_open, readings["trial"].shadow_open) == (True, False)
    assert (readings["shadow"].would_open, readings["shadow"].shadow_open) == (False, True)
    assert readings["shadow"].state is State.CLOSED


class Broken:
    """A clock that can be made to raise."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self) -> float:
        if self.broken:
            raise OSError("no time")
        return 1024.0


def test_a_circuit_that_raises_shows_what_it_was(caplog: pytest.LogCaptureFixture) -> None:
    clock = Broken()
    broken, well = CircuitBreaker("broken", clock=clock), CircuitBreaker("well")
    reader = reading(broken, well)
    succeed(broken, 3)
    reader.read()
    assert reader.unreadable == 0
    clock.broken = True
    for _ in range(3):
        assert of(reader)["broken"].totals.successes == 3
        assert of(reader)["well"].state is State.CLOSED
        assert reader.unreadable == 1
    assert len(caplog.records) == 1
    assert "'broken': reading the circuit raised OSError" in caplog.records[0].getMessage()
    clock.broken = False
    succeed(broken)
    assert of(reader)["broken"].totals.successes == 4
    assert reader.unreadable == 0


def test_a_circuit_that_was_never_readable_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    clock = Broken()
    broken, well = CircuitBreaker("broken", clock=clock), CircuitBreaker("well")
    clock.broken = True
    reader = reading(broken, well)
    assert list(of(reader)) == ["well"]
    assert reader.unreadable == 1
    assert len(caplog.records) == 1


def test_asked_in_the_middle_of_reading_it_gives_what_it_had() -> None:
    breaker = CircuitBreaker("api")
    asked: list[list[str]] = []

    class Asking(CircuitBreaker):
        def info(self) -> Info:
            asked.append([each.name for each in reader.read()])
            return super().info()

    reader = reading(breaker, Asking("asking"))
    reader.read()
    assert asked == [[]]
    reader.read()
    assert asked == [[], ["api", "asking"]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_counts_from_nothing() -> None:
    """What the parent's circuits counted, and those that went, is the parent's."""
    living = [CircuitBreaker("api"), CircuitBreaker("api")]
    reader = Reader(lambda: living)
    for each in living:
        succeed(each, 3)
    reader.read()
    del living[1], each
    gc.collect()
    reader.read()
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        succeed(living[0])
        os.write(said, str(of(reader)["api"].totals.successes).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(heard, 10) == b"1"
    os.close(heard)
    os.close(said)
    assert of(reader)["api"].totals.successes == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": Registry()}, TypeError, "registry.values"),
        ({"source": [CircuitBreaker("x")]}, TypeError, "circuits must be a function"),
        ({"max_circuits": 0}, ValueError, "max_circuits must be at least 1: 0"),
        ({"max_circuits": 1.5}, TypeError, "max_circuits must be a whole number"),
        ({"max_reasons": True}, TypeError, "max_reasons must be a whole number"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Reader(**options)


# Python itself reports what is raised in the finaliser of a generator.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(sys.gettrace() is not None, reason="something else traces")
def test_an_interrupt_at_any_bytecode() -> None:
    """Later readings are neither old, nor count a collected circuit twice."""
    for step in count():
        old, new = CircuitBreaker("a"), CircuitBreaker("a")
        living = [old, new]
        reader = Reader(lambda living=living: list(living))  # type: ignore[misc]
        succeed(old, 3)
        reader.read()
        living.remove(old)
        going_on = interrupted(reader.read, step, "_aggregate.py", "_aggregate_fleets.py")
        succeed(new, 2)
        (one,) = reader.read()
        assert one.totals.successes == 5, step
        if not going_on:
            break
    assert step > 100
    report("metrics", step)


def test_an_unshowable_tripper_is_read() -> None:
    class Unshowable(Tripper):
        def __init__(self) -> None:
            self.held = self

        def __repr__(self) -> str:
            raise RuntimeError("detached")

        def fires(self, metrics: object) -> bool:
            return True

    breaker = CircuitBreaker("a", tripper=Unshowable())
    fail(breaker)
    reader = reading(breaker)
    (one,) = reader.read()
    assert reader.unreadable == 0
    assert one.state is State.OPEN
    assert sum(one.totals.trips.values()) == 1
