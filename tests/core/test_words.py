"""`describe()`: every strategy in words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxgate import Metrics, permits
from fluxgate._settings.expression import BASES, EXAMPLES, NAMES, StrategyKind
from fluxgate._words import listed, number, percent, seconds
from fluxgate.config import parse
from fluxgate.retries import Always, Backoff, Cooldown, Never, Retry
from fluxgate.trackers import All, CausedBy, Custom, Tracker, TypeOf
from fluxgate.trippers import (
    AvgLatency,
    Closed,
    FailureRate,
    FailureStreak,
    HalfOpened,
    MinRequests,
    SlowRate,
    Tripper,
)
from fluxgate.windows import CountWindow, TimeWindow

if TYPE_CHECKING:
    from fluxgate._values import Strategy


class Own(Tripper):
    """A tripper without words."""

    def fires(self, metrics: Metrics) -> bool:
        return metrics.failure_count > 3


class Planned(Retry):
    """A retry without words, whose last delay (seconds) is for ever."""

    def __init__(self, *delays: float) -> None:
        self.delays = delays

    def delay(self, reopens: int) -> float:
        return self.delays[min(reopens, len(self.delays) - 1)]


class Faulty(Retry):
    """A retry that gives nothing."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self.given = delay

    def delay(self, reopens: int) -> float:
        return self.given()


def raises() -> float:
    raise LookupError


def predicate(error: object) -> bool:
    return bool(error)


FAILED, SLOW = FailureRate(0.075), SlowRate(0.3, 0.25)
ANY, KEYS = All(), TypeOf(KeyError, "IndexError")
SERIES = "1 s at first; after each failed recovery 2 s, 3 s, 4 s, 5 s"


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (MinRequests(1), "there is at least 1 call"),
        (MinRequests(5000), "there are at least 5,000 calls"),
        (FAILED, "at least 7.5 % of the calls failed"),
        (SLOW, "at least 30 % of the calls took 250 ms or longer"),
        (AvgLatency(2), "the calls took 2 s or longer on average"),
        (FailureStreak(1), "the last call failed"),
        (FailureStreak(3), "the last 3 calls all failed"),
        (Closed(), "the circuit is closed"),
        (HalfOpened(), "the circuit is half-open"),
        (Own(), "Own() fires"),
        (
            Closed() & FAILED & (Own() | FailureStreak(1) & HalfOpened()),
            "the circuit is closed and at least 7.5 % of the calls failed and (Own() fires or "
            "(the last call failed and the circuit is half-open))",
        ),
        (
            Own() | FAILED & FailureStreak(1) | Closed(),
            "Own() fires or (at least 7.5 % of the calls failed and the last call failed) or "
            "the circuit is closed",
        ),
        (CountWindow(1), "the last 1 call, however old"),
        (CountWindow(20_000), "the last 20,000 calls, however old"),
        (TimeWindow(300), "the calls of the last 5 min"),
        (ANY, "of any type"),
        (TypeOf(OSError), "OSError"),
        (KEYS, "KeyError or IndexError"),
        (Custom(predicate), f"accepted by {__name__}.predicate"),
        (~KEYS, "not (KeyError or IndexError)"),
        (CausedBy(OSError), "OSError, or caused by one"),
        (
            ~CausedBy(KeyError, OSError) & ANY,
            "not (KeyError or OSError, or caused by these) and of any type",
        ),
        (CausedBy(OSError) | KEYS, "(OSError, or caused by one) or KeyError or IndexError"),
        (KEYS | CausedBy(OSError), "KeyError or IndexError or (OSError, or caused by one)"),
        (ANY & ~TypeOf(OSError), "of any type and not OSError"),
        (ANY & KEYS | TypeOf(OSError), "(of any type and (KeyError or IndexError)) or OSError"),
        (KEYS | TypeOf(OSError), "KeyError or IndexError or OSError"),
        (Always(), "0 s: the very next call probes"),
        (Never(), "until somebody calls reset()"),
        (Cooldown(90, 0.1), "90 s; each time ± 10 % by chance"),
        (
            Backoff(1, max_duration=60),
            "1 s at first; after each failed recovery 2 s, 4 s, 8 s, 16 s, …, 60 s from then on",
        ),
        (Planned(60, 30, 20), "60 s at first; after each failed recovery 30 s, 20 s from then on"),
        (Planned(1, 2, 3, 4, 5, 6), f"{SERIES}, 6 s from then on"),
        (Planned(1, 2, 3, 4, 5, 6, 7), f"{SERIES}, …, 7 s from then on"),
        (Planned(*range(1, 16)), f"{SERIES}, …, 15 s from then on"),
        (Planned(*range(1, 40)), f"{SERIES}, …, 16 s and on"),
        (Planned(0), "0 s: the very next call probes"),
        (Planned(0, 5), "0 s at first; after each failed recovery 5 s from then on"),
        (Planned(math.inf), "until somebody calls reset()"),
        (
            Planned(5, math.inf),
            "5 s at first; after each failed recovery until reset() from then on",
        ),
        (Planned(-1), "60 s"),
        (Faulty(raises), "60 s"),
        (Faulty(lambda: math.nan), "60 s"),
        (permits.All(), "every call is admitted as a probe"),
        (permits.Random(0.2), "20 % of the calls are admitted as probes"),
        (
            permits.RampUp(0.1, 1.0, 60),
            "10 % of the calls are admitted as probes at first, 100 % after 60 s",
        ),
    ],
)
def test_a_strategy_in_words(strategy: Strategy, words: str) -> None:
    assert strategy.describe() == words


@pytest.mark.parametrize("kind", get_args(StrategyKind))
def test_every_class_has_words(kind: StrategyKind) -> None:
    """Those that a later one would have by default, its expression, are for users' own."""
    default = BASES[kind].describe
    for name, built in NAMES[kind].items():
        assert built.describe is not default or kind == "retry", name
    example = parse(kind, EXAMPLES[kind])
    assert repr(example) not in example.describe()


trackers = st.recursive(
    st.sampled_from([ANY, KEYS, TypeOf(OSError), Custom(predicate)]),
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        inner.map(lambda a: ~a),
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(trackers, st.sampled_from([KeyError(), OSError(), ValueError()]))
def test_words_mean_what_tracks_does(tracker: Tracker, error: Exception) -> None:
    """Read as Python, whose `not`, `and` and `or` have these parentheses, they say the same."""
    clauses = {
        "of any type": "True",
        "KeyError": "isinstance(error, KeyError)",
        "IndexError": "isinstance(error, IndexError)",
        "OSError": "isinstance(error, OSError)",
        f"accepted by {__name__}.predicate": "bool(error)",
    }
    words = tracker.describe()
    for clause, python in clauses.items():
        words = words.replace(clause, python)
    assert eval(words, {"error": error}) == tracker.tracks(error)


def test_numbers_in_words() -> None:
    assert (percent(0.5), percent(0.0001), percent(1)) == ("50 %", "0.01 %", "100 %")
    assert (number(1, "call"), number(2000, "call")) == ("1 call", "2,000 calls")
    assert listed("a") == "a"
    assert listed("abc", "or") == "a, b or c"


@settings(deadline=None)
@given(st.floats(min_value=0, max_value=1e12))
def test_durations_read_back(value: float) -> None:
    """To a precision that suffices to read, whatever their size."""
    units = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86_400}
    words = seconds(value).split()
    parts = zip(words[::2], words[1::2], strict=True)
    total = sum(float(count.replace(",", "")) * units[unit] for count, unit in parts)
    assert total == pytest.approx(value, rel=0.05)
