"""Never run, only type-checked: what a type checker knows about protected code."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import assert_type

from fluxgate import (
    AsyncCircuitBreaker,
    Attempt,
    Call,
    CallNotPermittedError,
    CircuitBreaker,
    Info,
    Metrics,
    Outcome,
    Policy,
    Reason,
    SavedInfo,
    Signal,
    SignalKind,
    Snapshot,
    State,
    Subscription,
    Totals,
    circuits,
    listen,
)
from fluxgate.permits import Random
from fluxgate.retries import Cooldown
from fluxgate.trackers import Custom, Tracker, TypeOf
from fluxgate.trippers import Closed, FailureRate, MinRequests, SlowRate, Tripper
from fluxgate.windows import CountWindow


def listener(signal: Signal) -> None:
    assert_type(signal.circuit_name, str)
    assert_type(signal.old_state, State)
    assert_type(signal.new_state, State)
    assert_type(signal.timestamp, float)
    assert_type(signal.generation, int)
    assert_type(signal.reason, Reason)
    assert_type(signal.kind, SignalKind)


class EachCall:
    def __call__(self, signal: Signal) -> None: ...

    def call_ended(self, call: Call) -> None:
        assert_type(call.outcome, Outcome)
        assert_type(call.duration, float | None)
        assert_type(call.error, str | None)


def is_server_error(error: Exception) -> bool:
    return "5" in str(error)


tripper = Closed() & MinRequests(10) & (FailureRate(0.5) | SlowRate(ratio=0.3, threshold=1.0))
tracker = TypeOf("OSError", ValueError) | ~Custom(is_server_error)
assert_type(tripper, Tripper)
assert_type(tracker, Tracker)

cb = CircuitBreaker(
    name="api",
    window=CountWindow(size=100),
    tracker=tracker,
    tripper=tripper,
    retry=Cooldown(duration=60.0),
    permit=Random(ratio=0.5),
    listeners=[listener],
    initial_state=State.METRICS_ONLY,
    max_half_open_calls=3,
    probe_timeout=5.0,
    result_tracker=lambda result: result is None,
    shadow=tripper,
    buckets=[0.1, 1],
    error_messages=True,
)
acb = AsyncCircuitBreaker("api", initial_state="disabled")

# -- decorated functions keep their types


@cb
def fetch(amount: float, *, currency: str = "EUR") -> dict[str, float]:
    return {currency: amount}


@cb(fallback=lambda _error: {})
def fetch_or_nothing(amount: float) -> dict[str, float]:
    return {"EUR": amount}


@cb()
def fetch_with_parentheses(amount: float) -> str:
    return str(amount)


@cb
def stream(count: int) -> Iterator[int]:
    yield count


@acb
async def fetch_async(amount: float, *, currency: str = "EUR") -> dict[str, float]:
    return {currency: amount}


@acb(fallback=lambda _error: {})
async def fetch_async_or_nothing(amount: float) -> dict[str, float]:
    return {"EUR": amount}


@acb
async def stream_async(count: int) -> AsyncIterator[int]:
    yield count


class Client:
    @cb
    def get(self, path: str) -> bytes:
        return path.encode()

    @acb
    async def get_async(self, path: str) -> bytes:
        return path.encode()


assert_type(fetch(1.0, currency="USD"), dict[str, float])
assert_type(fetch_or_nothing(1.0), dict[str, float])
assert_type(fetch_with_parentheses(1.0), str)
assert_type(stream(3), Iterator[int])
assert_type(stream_async(3), AsyncIterator[int])


async def awaited() -> None:
    assert_type(await fetch_async(1.0), dict[str, float])
    assert_type(await fetch_async_or_nothing(1.0), dict[str, float])
    assert_type(await Client().get_async("/"), bytes)


assert_type(Client().get("/"), bytes)
as_callable: Callable[[float], dict[str, float]] = fetch

fetch("much")  # type: ignore[arg-type]
fetch(1.0, colour="red")  # type: ignore[call-arg]
cb.call(fetch, "much")  # type: ignore[arg-type]

# -- calls


def lookup(user: int, deep: bool = False) -> str:
    return f"{user} {deep}"


async def lookup_async(user: int, deep: bool = False) -> str:
    return f"{user} {deep}"


async def cached(error: Exception) -> str:
    return str(error)


assert_type(cb.call(lookup, 1, deep=True), str)
assert_type(cb.call_with_fallback(lookup, lambda _error: "cached", 1), str)


async def calls() -> None:
    assert_type(await acb.call(lookup_async, 1, deep=True), str)
    assert_type(await acb.call_with_fallback(lookup_async, lambda _error: "cached", 1), str)
    assert_type(await acb.call_with_fallback(lookup_async, cached, 1), str)
    awaitable: Awaitable[str] = acb.call(lookup_async, 1)
    await awaitable
    async with acb as attempt:
        assert_type(attempt, Attempt)


# -- blocks, attempts, controls

with cb as attempt:
    assert_type(attempt, Attempt)
    assert_type(attempt.probe, bool)
    assert_type(attempt.settled, bool)
    attempt.succeed(elapsed=0.5)
    attempt.fail(ValueError(), elapsed=0.5)
    attempt.ignore()
with cb.attempt() as attempt:
    assert_type(attempt, Attempt)

assert_type(cb.to_async(), AsyncCircuitBreaker)
assert_type(acb.to_sync(), CircuitBreaker)
assert_type(circuits(), list[CircuitBreaker])
assert_type(cb.policy, Policy)
cb.update(tripper=FailureRate(0.5), retry=Cooldown(1.0))
cb.update(colour="red")  # type: ignore[call-arg]
CircuitBreaker("api", colour="red")  # type: ignore[call-arg]

# -- reading

info = cb.info()
assert_type(info, Info)
assert_type(info.state, State)
assert_type(info.since, float)
assert_type(info.retry_after, float | None)
assert_type(info.last_trip, Reason | None)
assert_type(info.metrics, Snapshot)
assert_type(info.metrics.total_count, int)
assert_type(info.metrics.failure_rate, float | None)
assert_type(info.metrics.avg_duration, float | None)
assert_type(info.metrics.slow_rate(1.0), float | None)
assert_type(info.totals, Totals)
assert_type(info.totals.settled, int)

try:
    cb.call(lookup, 1)
except CallNotPermittedError as refusal:
    assert_type(refusal.name, str)
    assert_type(refusal.state, State)
    assert_type(refusal.retry_after, float | None)
    assert_type(refusal.reason, Reason | None)


class OddHours(Tripper):
    def fires(self, metrics: Metrics) -> bool:
        return metrics.total_count % 2 == 1


assert_type(OddHours() & FailureRate(0.5), Tripper)

assert_type(listen(EachCall()), Subscription)
assert_type(cb.listen(EachCall()), Subscription)
with listen(listener) as subscription:
    assert_type(subscription, Subscription)
    subscription()

assert_type(cb.info().save(), SavedInfo)
assert_type(cb.restore(cb.info().save()), bool)
assert_type(cb.restore("{}", max_age=60), bool)
