"""The rows of the table. Each section makes new breakers, so that every pass is a fresh start."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import footprint
import ours
import peers
from report import Figure, over
from thin import (
    AsyncThinCaller,
    ThinCaller,
    async_dependency,
    async_thinnest,
    dependency,
    thinnest,
)
from threaded import threaded
from timing import (
    Effort,
    async_calling,
    async_healthy,
    calling,
    failing,
    healthy,
    race,
    rejected,
)

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, State
from fluxgate.trippers import Closed, FailureRate, MinRequests, SlowRate
from fluxgate.windows import TimeWindow

Section = Callable[[Effort], Iterator[Figure]]


def sync(effort: Effort) -> Iterator[Figure]:
    """Healthy decorated calls."""
    default = CircuitBreaker("sync")
    window = CircuitBreaker("sync-time", window=TimeWindow(10))
    rule = Closed() & MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))
    slow = CircuitBreaker("sync-slow", tripper=rule)
    times = effort.race(
        {
            "bare": healthy(dependency),
            "thin": healthy(thinnest(dependency)),
            "ours": healthy(default(dependency)),
            "time": healthy(window(dependency)),
            "slow": healthy(slow(dependency)),
            "circuitbreaker": healthy(peers.circuitbreaker().tolerant(dependency)),
        }
    )
    for breaker in default, window, slow:
        ours.must_be(breaker, State.CLOSED)
    line = partial(over, times, section="sync")
    yield line("ours", "thin", what="healthy sync call ÷ thinnest", reach=1.5, note="stretch 1.35")
    yield line("time", "thin", what="healthy sync call, TimeWindow(10) ÷ thinnest", reach=1.55)
    yield line("ours", "circuitbreaker", what="healthy sync call ÷ circuitbreaker", reach=0.65)
    yield line("slow", "thin", what="healthy sync call, FailureRate or SlowRate ÷ thinnest")
    yield line("thin", "bare", what="thinnest ÷ bare function")


def call(effort: Effort) -> Iterator[Figure]:
    """The other ways to protect a call."""
    names = "call", "attempt", "attempt-block", "block"
    called, attempted, attempt_block, block = (CircuitBreaker(name) for name in names)
    times = effort.race(
        {
            "thin": healthy(thinnest(dependency)),
            "thin call": calling(ThinCaller(), dependency),
            "call": calling(called, dependency),
            "attempt": healthy(ours.attempting(attempted, dependency)),
            "attempt block": healthy(ours.attempt_block(attempt_block, dependency)),
            "block": healthy(ours.breaker_block(block, dependency)),
        }
    )
    line = partial(over, times, section="call")
    yield line("call", "thin call", what="breaker.call(fn) ÷ thin call(fn)", reach=1.5)
    yield line("attempt", "thin", what="breaker.attempt(), succeed() ÷ thinnest")
    yield line("attempt block", "thin", what="with breaker.attempt(): ÷ thinnest")
    yield line("block", "thin", what="with breaker: ÷ thinnest")


def asynchronous(effort: Effort) -> Iterator[Figure]:
    """Healthy awaited calls."""
    decorated, called = AsyncCircuitBreaker("async"), AsyncCircuitBreaker("async-call")
    peer = peers.circuitbreaker()
    if peer.async_tolerant is None:
        raise RuntimeError("circuitbreaker has an asyncio API")
    with asyncio.Runner() as runner:
        times = effort.race(
            {
                "thin": async_healthy(runner, async_thinnest(async_dependency)),
                "ours": async_healthy(runner, decorated(async_dependency)),
                "thin call": async_calling(runner, AsyncThinCaller(), async_dependency),
                "call": async_calling(runner, called, async_dependency),
                "peer": async_healthy(runner, peer.async_tolerant(async_dependency)),
            }
        )
    line = partial(over, times, section="async")
    yield line("ours", "thin", what="healthy async call ÷ async thinnest", reach=1.4)
    yield line("call", "thin call", what="await breaker.call(fn) ÷ thin async call(fn)")
    yield line("ours", "peer", what="healthy async call ÷ circuitbreaker")


def failures(effort: Effort) -> Iterator[Figure]:
    """Every tenth call fails, and the circuit stays closed."""
    breaker = CircuitBreaker("failing")
    peer = peers.circuitbreaker()
    times = effort.race(
        {
            "thin": failing(thinnest(dependency)),
            "ours": failing(breaker(dependency)),
            "peer": failing(peer.tolerant(dependency)),
        }
    )
    ours.must_be(breaker, State.CLOSED)
    line = partial(over, times, section="failing")
    yield line("ours", "peer", what="10 % failing ÷ circuitbreaker", reach=0.95)
    yield line("ours", "thin", what="10 % failing ÷ thinnest")


def rejection(effort: Effort) -> Iterator[Figure]:
    """The circuit is open."""
    here, peer = peers.fluxgate_here(), peers.circuitbreaker()
    times = effort.race(
        {
            "ours": rejected(here.tripped(dependency), here.refusal),
            "peer": rejected(peer.tripped(dependency), peer.refusal),
        }
    )
    yield over(
        times, "ours", "peer", "rejection", "rejection when open ÷ circuitbreaker", reach=0.85
    )


def windows(effort: Effort) -> Iterator[Figure]:
    """Full windows, large against small."""
    names = {"healthy": "healthy", "failing": "10 % failing", "rejected": "rejection"}
    for kind, name in names.items():
        times = effort.race(
            {
                "10": ours.counted(10, kind),
                "100k": ours.counted(100_000, kind),
                "10s": ours.timed(10, kind),
                "1h": ours.timed(3600, kind),
            }
        )
        line = partial(over, times, section="windows", reach=1.15)
        yield line("100k", "10", what=f"{name}, CountWindow(100000) ÷ CountWindow(10)")
        yield line("1h", "10s", what=f"{name}, TimeWindow(3600) ÷ TimeWindow(10)")


def threads(effort: Effort) -> Iterator[Figure]:
    """Eight threads on one breaker."""
    breaker = CircuitBreaker("threads")
    protected, thin = breaker(dependency), thinnest(dependency)
    turns = {
        "ours 1": threaded(protected, 1),
        "ours 8": threaded(protected, 8),
        "thin 1": threaded(thin, 1),
        "thin 8": threaded(thin, 8),
    }
    before = breaker.info().totals
    times = race(turns, effort.few, effort.calls * 50)
    if breaker.info().totals.failures or before.settled >= breaker.info().totals.successes:
        raise RuntimeError("the breaker lost count")
    for name, what in ("ours", "calls/s, 8 threads ÷ 1"), ("thin", "the same, thinnest"):
        per_second = tuple(1e9 / times.ns(f"{name} {count}") for count in (8, 1))
        detail = " ÷ ".join(f"{figure:,.0f}" for figure in per_second) + " calls/s"
        # Time ÷ time the other way round is calls per second ÷ calls per second.
        ratio = times.ratio(f"{name} 1", f"{name} 8")
        yield Figure("threads", what, ratio, note=detail, higher=True)


SECTIONS: dict[str, Section] = {
    "sync": sync,
    "call": call,
    "async": asynchronous,
    "failing": failures,
    "rejection": rejection,
    "windows": windows,
    "threads": threads,
    "memory": footprint.memory,
    "import": footprint.importing,
    "decorating": footprint.decorating,
}
