"""The other breakers, each in the leanest configuration that still protects.

Everybody is used as a decorator, without listeners, logging, retries or time-outs, and
with defaults for everything else. `tolerant` must stay closed with one call in ten
failing: a breaker that counts consecutive failures gets a count out of reach, one that
judges rates keeps its own 50 %. `brittle` opens at its own default and stays open.

Peers are imported when asked for: PyPI's `fluxgate` has the import name of this project
and lives in an environment of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from itertools import count
from typing import Any

from thin import AsyncFn, Down, Fn

NEVER = 10**9
"""A number of consecutive failures that no run reaches."""

DAY = 86_400.0
"""Seconds a tripped breaker stays open."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One library: how it decorates, and what it raises when it refuses."""

    distribution: str
    refusal: type[BaseException]
    tolerant: Callable[[Fn], Fn]
    brittle: Callable[[Fn], Fn]
    async_tolerant: Callable[[AsyncFn], AsyncFn] | None = None

    @property
    def version(self) -> str:
        """The installed version."""
        return version(self.distribution)

    def tripped(self, fn: Fn) -> Fn:
        """Decorate `fn` and fail until the breaker refuses."""
        return trip(self.brittle(fn), self.refusal)


def trip(fn: Fn, refusal: type[BaseException], limit: int = 1_000) -> Fn:
    """Fail until refused."""
    for _ in range(limit):
        try:
            fn(True)
        except refusal:
            return fn
        except Down:
            continue
    raise RuntimeError(f"still admitted after {limit} failures")


def circuitbreaker() -> Peer:
    """Counts consecutive failures; no window, no lock."""
    from circuitbreaker import CircuitBreaker, CircuitBreakerError

    def tolerant(fn: Any) -> Any:
        return CircuitBreaker(failure_threshold=NEVER)(fn)

    def brittle(fn: Fn) -> Any:
        return CircuitBreaker(recovery_timeout=DAY)(fn)

    return Peer("circuitbreaker", CircuitBreakerError, tolerant, brittle, tolerant)


def pybreaker() -> Peer:
    """Counts consecutive failures under a lock held through the call; async on tornado only."""
    from pybreaker import CircuitBreaker, CircuitBreakerError

    def tolerant(fn: Fn) -> Any:
        return CircuitBreaker(fail_max=NEVER)(fn)

    def brittle(fn: Fn) -> Any:
        return CircuitBreaker(reset_timeout=DAY)(fn)

    return Peer("pybreaker", CircuitBreakerError, tolerant, brittle)


def interlock() -> Peer:
    """Failure rate over the last 100 calls; rates stay at their default of 50 %."""
    from interlock import CircuitBreaker, CircuitOpenError, Config

    def tolerant(fn: Any) -> Any:
        return CircuitBreaker(name="peer")(fn)

    def brittle(fn: Fn) -> Any:
        return CircuitBreaker(name="peer", config=Config(wait_duration_in_open=DAY))(fn)

    return Peer("interlock-cb", CircuitOpenError, tolerant, brittle, tolerant)


def pyresilience() -> Peer:
    """Its default mode, consecutive failures without a window, and no other pattern."""
    from pyresilience import CircuitBreakerConfig, CircuitOpenError, resilient

    def tolerant(fn: Any) -> Any:
        return resilient(circuit_breaker=CircuitBreakerConfig(failure_threshold=NEVER))(fn)

    def brittle(fn: Fn) -> Any:
        return resilient(circuit_breaker=CircuitBreakerConfig(recovery_timeout=DAY))(fn)

    return Peer("pyresilience", CircuitOpenError, tolerant, brittle, tolerant)


def nopanic() -> Peer:
    """Failure rate over 30 seconds, without slow calls (which would add clock reads)."""
    from nopanic import CircuitBreaker, CircuitOpen

    def tolerant(fn: Any) -> Any:
        return CircuitBreaker()(fn)

    def brittle(fn: Fn) -> Any:
        return CircuitBreaker(reset_timeout=DAY)(fn)

    return Peer("nopanic", CircuitOpen, tolerant, brittle, tolerant)


def purgatory() -> Peer:
    """Counts consecutive failures, in memory; its decorator looks the circuit up per call."""
    from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory
    from purgatory.domain.model import OpenedState

    def tolerant(fn: Fn) -> Any:
        return SyncCircuitBreakerFactory(default_threshold=NEVER)("peer")(fn)

    def brittle(fn: Fn) -> Any:
        return SyncCircuitBreakerFactory(default_ttl=DAY)("peer")(fn)

    def async_tolerant(fn: AsyncFn) -> Any:
        return AsyncCircuitBreakerFactory(default_threshold=NEVER)("peer")(fn)

    return Peer("purgatory", OpenedState, tolerant, brittle, async_tolerant)


def aiobreaker() -> Peer:
    """Counts consecutive failures; a pybreaker without the lock, sync and asyncio."""
    from aiobreaker import CircuitBreaker, CircuitBreakerError

    def tolerant(fn: Any) -> Any:
        return CircuitBreaker(fail_max=NEVER)(fn)

    def brittle(fn: Fn) -> Any:
        return CircuitBreaker(timeout_duration=timedelta(seconds=DAY))(fn)

    return Peer("aiobreaker", CircuitBreakerError, tolerant, brittle, tolerant)


def fluxgate_on_pypi() -> Peer:
    """Failure rate over the last 100 calls, its defaults; only in its own environment."""
    from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker
    from fluxgate.retries import Cooldown

    # Type checkers see this project's classes, which take a name; those on PyPI take none.
    def tolerant(fn: Fn) -> Any:
        return CircuitBreaker()(fn)  # type: ignore[call-arg]

    def brittle(fn: Fn) -> Any:
        return CircuitBreaker(retry=Cooldown(DAY))(fn)  # type: ignore[call-arg]

    def async_tolerant(fn: AsyncFn) -> Any:
        return AsyncCircuitBreaker()(fn)  # type: ignore[call-arg]

    return Peer("fluxgate", CallNotPermittedError, tolerant, brittle, async_tolerant)


def fluxgate_here() -> Peer:
    """This project's breaker, everything at its default."""
    from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker
    from fluxgate.retries import Cooldown

    names = (f"benchmark-{number}" for number in count())

    def tolerant(fn: Fn) -> Any:
        return CircuitBreaker(next(names))(fn)

    def brittle(fn: Fn) -> Any:
        return CircuitBreaker(next(names), retry=Cooldown(DAY))(fn)

    def async_tolerant(fn: AsyncFn) -> Any:
        return AsyncCircuitBreaker(next(names))(fn)

    return Peer("fluxgate-core", CallNotPermittedError, tolerant, brittle, async_tolerant)


PEERS: tuple[Callable[[], Peer], ...] = (
    circuitbreaker,
    nopanic,
    aiobreaker,
    pyresilience,
    pybreaker,
    interlock,
    purgatory,
)
"""Those that can be imported next to this project."""
