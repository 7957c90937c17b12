"""Two hundred requests at once, a real server, and an upstream that is dead."""

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, State
from fluxgate.registry import Registry
from fluxgate.testing import ManualClock, tripped
from fluxgate_fastapi import Breaker, install

pytestmark = pytest.mark.slow

CROWD = 200

Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))]
SyncPayments = Annotated[CircuitBreaker, Depends(Breaker("payments", sync=True))]


def shop(registry: Registry, upstream: Any) -> FastAPI:
    """An application whose clients live as long as it does."""
    clients: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        options: Any = {
            "base_url": upstream.url,
            "limits": httpx.Limits(max_connections=None),
            "timeout": 20,
            "trust_env": False,
        }
        with httpx.Client(**options) as clients["sync"]:
            async with httpx.AsyncClient(**options) as clients["async"]:
                yield

    app = FastAPI(lifespan=lifespan)
    install(app, registry=registry)

    async def fetch() -> Any:
        return (await clients["async"].get("/")).raise_for_status().json()

    def fetch_in_thread() -> Any:
        return clients["sync"].get("/").raise_for_status().json()

    @app.get("/async")
    async def in_async(payments: Payments) -> Any:
        return await payments.call(fetch)

    @app.get("/sync")
    def in_sync(payments: SyncPayments) -> Any:
        return payments.call(fetch_in_thread)

    async def trivial() -> None:
        return None

    @app.get("/trivial", dependencies=[Depends(trivial)])
    async def nothing() -> dict[str, str]:
        return {"detail": "nothing to do"}

    return app


class Crowd:
    """What a crowd of requests was told."""

    def __init__(self, answers: list[tuple[httpx.Response, float]]) -> None:
        self.statuses = Counter(answer.status_code for answer, _ in answers)
        self.refused = [answer for answer, _ in answers if answer.status_code == 503]
        self.seconds = [seconds for _, seconds in answers]

    @property
    def retry_after(self) -> set[str | None]:
        """What the refusals said."""
        return {answer.headers.get("retry-after") for answer in self.refused}


def at_once(url: str, path: str, size: int = CROWD) -> Crowd:
    """So many requests, each on a connection of its own, all under way together."""

    async def main() -> list[tuple[httpx.Response, float]]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=url, limits=limits, timeout=30, trust_env=False
        ) as client:

            async def ask() -> tuple[httpx.Response, float]:
                start = time.perf_counter()
                answer = await client.get(path)
                return answer, time.perf_counter() - start

            return await asyncio.gather(*(ask() for _ in range(size)))

    return Crowd(asyncio.run(main()))


@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_while_open_nobody_gets_through(
    serve: Any, registry: Registry, upstream: Any, clock: ManualClock, path: str
) -> None:
    server = serve(shop(registry, upstream))
    tripped(registry["payments"])
    clock.advance(12.25)
    crowd = at_once(server.url, path)
    assert crowd.statuses == {503: CROWD}
    assert crowd.retry_after == {"18"}
    assert upstream.reached == 0
    assert registry["payments"].info().totals.rejected == CROWD


@pytest.mark.parametrize("status", [None, 503], ids=["hangs-up", "503"])
def test_as_many_get_through_as_it_takes_to_know(
    serve: Any, policy: dict[str, Any], upstream: Any, status: int | None
) -> None:
    """Ten calls: at the tenth failure it opens, and the rest of the crowd is told so."""
    registry = Registry(**{**policy, "tripper": "MinRequests(10) & FailureRate(0.5)"})
    server = serve(shop(registry, upstream))
    upstream.status = status
    first = at_once(server.url, "/async", 10)
    assert first.statuses == {500: 10}
    rest = at_once(server.url, "/async", CROWD - 10)
    assert rest.statuses == {503: CROWD - 10}
    assert rest.retry_after == {"30"}
    assert upstream.reached == 10


def test_a_crowd_that_comes_before_anything_is_known(
    serve: Any, policy: dict[str, Any], upstream: Any
) -> None:
    """A closed circuit admits whoever comes until it knows: each was called, or refused."""
    registry = Registry(**{**policy, "tripper": "MinRequests(10) & FailureRate(0.5)"})
    server = serve(shop(registry, upstream))
    upstream.status = None
    crowd = at_once(server.url, "/async")
    assert upstream.reached == crowd.statuses[500] >= 10
    assert upstream.reached + len(crowd.refused) == CROWD
    totals = registry["payments"].info().totals
    assert totals.rejected == len(crowd.refused)
    assert totals.failures + totals.stale == upstream.reached
    assert crowd.retry_after <= {"30"}
    reached = upstream.reached
    assert at_once(server.url, "/async", 20).statuses == {503: 20}
    assert upstream.reached == reached


@pytest.mark.parametrize("path", ["/async", "/sync"])
def test_as_many_probes_as_the_policy_has_slots(
    serve: Any, policy: dict[str, Any], upstream: Any, clock: ManualClock, path: str
) -> None:
    """The upstream keeps the probes waiting until the others have all been told."""
    slots = 5
    policy |= {"max_half_open_calls": slots, "tripper": "MinRequests(5) & FailureRate(0.5)"}
    registry = Registry(**policy)
    server = serve(shop(registry, upstream))
    tripped(registry["payments"])
    clock.advance(30)
    upstream.status = 503
    upstream.gate.clear()

    async def main() -> tuple[list[httpx.Response], list[httpx.Response]]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=server.url, limits=limits, timeout=30, trust_env=False
        ) as client:
            left = {asyncio.ensure_future(client.get(path)) for _ in range(CROWD)}
            told: set[Any] = set()
            async with asyncio.timeout(30):
                while len(left) > slots:
                    done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                    told |= done
                await asyncio.to_thread(upstream.wait_until_reached, slots)
                upstream.gate.set()
                probes = await asyncio.gather(*left)
            return [each.result() for each in told], probes

    told, probes = asyncio.run(main())
    assert [answer.status_code for answer in probes] == [500] * slots
    assert {answer.status_code for answer in told} == {503}
    assert all("retry-after" not in answer.headers for answer in told)  # half-open: nobody knows
    assert upstream.reached == slots
    assert registry["payments"].state is State.OPEN

    again = at_once(server.url, path)
    assert again.statuses == {503: CROWD}
    assert again.retry_after == {"30"}
    assert upstream.reached == slots


def test_retry_after_is_true_by_a_real_clock(serve: Any, upstream: Any) -> None:
    registry = Registry(tripper="FailureStreak(1)", retry="Cooldown(30)")
    server = serve(shop(registry, upstream))
    upstream.status = None
    before = time.monotonic()
    assert at_once(server.url, "/async", 1).statuses == {500: 1}
    crowd = at_once(server.url, "/async")
    passed = time.monotonic() - before
    assert crowd.statuses == {503: CROWD}
    assert upstream.reached == 1
    told = {int(seconds or 0) for seconds in crowd.retry_after}
    assert told <= set(range(math.ceil(30 - passed), 31))


def test_whoever_comes_back_when_told_gets_through(
    serve: Any, policy: dict[str, Any], upstream: Any, clock: ManualClock
) -> None:
    policy |= {"max_half_open_calls": CROWD, "tripper": "MinRequests(10) & FailureRate(0.5)"}
    registry = Registry(**policy)
    server = serve(shop(registry, upstream))
    tripped(registry["payments"])
    clock.advance(0.125)
    (told,) = at_once(server.url, "/async", 20).retry_after
    clock.advance(float(told or "nan"))
    assert at_once(server.url, "/async", 20).statuses == {200: 20}
    assert upstream.reached == 20


def test_a_refusal_takes_about_as_long_as_a_trivial_endpoint(
    serve: Any, registry: Registry, upstream: Any
) -> None:
    """Medians of one run, side by side, with much room: a dead upstream costs nobody a time-out."""
    server = serve(shop(registry, upstream))
    tripped(registry["payments"])
    at_once(server.url, "/trivial", 20)  # warm
    trivial = at_once(server.url, "/trivial")
    refused = at_once(server.url, "/async")
    assert trivial.statuses == {200: CROWD}
    assert refused.statuses == {503: CROWD}
    assert statistics.median(refused.seconds) < 5 * statistics.median(trivial.seconds)
