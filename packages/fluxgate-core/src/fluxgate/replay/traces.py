"""Generated traces of seven kinds of trouble, with known truth: to try policies, and to test.

    sample = traces.crash(seed=1)
    result = replay(sample.trace, ["FailureRate(0.5)"], outages=sample.outages)

Calls come at random with a mean rate (a Poisson process), and their durations are spread as those
of services are (log-normal). The same seed gives the same trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Final, NamedTuple

from fluxgate.replay._trace import Call, Trace

__all__ = [
    "KINDS",
    "Sample",
    "brown_out",
    "burst",
    "cold_start",
    "crash",
    "flapping",
    "low_traffic",
    "slow",
]

_BEGIN: Final = 1_700_000_000.0
"""Unix seconds of the first moment: 14 November 2023."""
_TIMEOUT: Final = 5.0
"""Seconds after which the generated callers give up."""


class Sample(NamedTuple):
    """A generated trace, and the truth about it.

    Attributes:
        trace: the calls.
        outages: begin and end of each outage in Unix seconds, as `replay(outages=…)` takes them.
    """

    trace: Trace
    outages: tuple[tuple[float, float], ...]


class _Weather(NamedTuple):
    """The dependency at one moment."""

    failing: float = 0.002
    """The share of calls that fail."""
    typical: float = 0.04
    """Seconds: the median duration."""
    error: str = "HTTPStatusError"
    hangs: bool = False
    """Whether failures come after the time-out; else at once."""


_FINE: Final = _Weather()


def crash(*, seed: int = 0) -> Sample:
    """All calls fail for four minutes: the dependency is gone, and connections are refused."""
    down = _Weather(1.0, 0.002, "ConnectError")
    return _sample(seed, 20, 1800, [(600, 840)], lambda at: down if 600 <= at < 840 else _FINE)


def brown_out(*, seed: int = 0) -> Sample:
    """Some 40 % of the calls fail for six minutes, at varying speed."""
    half = _Weather(0.4, 0.15)
    return _sample(seed, 20, 1800, [(600, 960)], lambda at: half if 600 <= at < 960 else _FINE)


def slow(*, seed: int = 0) -> Sample:
    """Hardly a call fails for five minutes, and all take seconds: nobody's error rate shows it."""
    late = _Weather(0.01, 2.0, "ReadTimeout", hangs=True)
    return _sample(seed, 20, 1800, [(600, 900)], lambda at: late if 600 <= at < 900 else _FINE)


def burst(*, seed: int = 0) -> Sample:
    """Eight bursts of failures of three seconds each, which are no outage: it pays to wait."""
    bad = _Weather(0.8, 0.05)
    begins = range(180, 1800, 200)
    return _sample(
        seed, 20, 1800, [], lambda at: bad if any(b <= at < b + 3 for b in begins[:8]) else _FINE
    )


def flapping(*, seed: int = 0) -> Sample:
    """The dependency is gone for half a minute, six times, with a minute between."""
    down = _Weather(1.0, 0.002, "ConnectError")
    times = [(begin, begin + 30) for begin in range(600, 1140, 90)]
    return _sample(
        seed, 20, 1800, times, lambda at: down if any(b <= at < e for b, e in times) else _FINE
    )


def low_traffic(*, seed: int = 0) -> Sample:
    """A call every twelve seconds; the dependency hangs for half an hour."""
    down = _Weather(1.0, 0.04, "ReadTimeout", hangs=True)
    return _sample(
        seed, 1 / 12, 14_400, [(7200, 9000)], lambda at: down if 7200 <= at < 9000 else _FINE
    )


def cold_start(*, seed: int = 0) -> Sample:
    """The dependency starts with the trace: for 90 seconds it is slow and some calls fail."""

    def warming(at: float) -> _Weather:
        left = max(0.0, 1 - at / 90)
        return _Weather(0.002 + 0.3 * left, 0.04 * math.exp(3.5 * left)) if left else _FINE

    return _sample(seed, 20, 1800, [(0, 90)], warming)


KINDS: Final[dict[str, Callable[..., Sample]]] = {
    "crash": crash,
    "brown_out": brown_out,
    "slow": slow,
    "burst": burst,
    "flapping": flapping,
    "low_traffic": low_traffic,
    "cold_start": cold_start,
}
"""The generators by name."""


def _sample(
    seed: int,
    rate: float,
    seconds: float,
    outages: list[tuple[float, float]] | list[tuple[int, int]],
    weather: Callable[[float], _Weather],
) -> Sample:
    trace = Trace.from_rows(_calls(Random(seed), rate, seconds, weather))
    return Sample(trace, tuple((_BEGIN + begin, _BEGIN + end) for begin, end in outages))


def _calls(
    dice: Random, rate: float, seconds: float, weather: Callable[[float], _Weather]
) -> Iterator[Call]:
    at = dice.expovariate(rate)
    while at < seconds:
        now = weather(at)
        failed = dice.random() < now.failing
        duration = min(dice.lognormvariate(math.log(now.typical), 0.5), _TIMEOUT)
        if failed and now.hangs:
            duration = _TIMEOUT
        status = None if failed and now.error != "HTTPStatusError" else 503 if failed else 200
        error = now.error if failed else None
        yield Call(_BEGIN + at, duration, failed, "payments", status, error)
        at += dice.expovariate(rate)
