"""The two clients of the demo: the same call, with a breaker around it and without.

This is the part to copy.
"""

from collections.abc import Awaitable, Callable, Iterable

import httpx
from fluxgate import AsyncCircuitBreaker, Listener
from fluxgate.permits import RampUp
from fluxgate.retries import Cooldown
from fluxgate.trackers import TypeOf
from fluxgate.trippers import FailureRate, MinRequests, SlowRate
from fluxgate.windows import CountWindow

Get = Callable[[str], Awaitable[None]]
"""One call to the upstream: takes a path; raises when there is no good answer."""


def make_breaker(pace: float, listeners: Iterable[Listener]) -> AsyncCircuitBreaker:
    """Make the demo's breaker.

    Its times are short, for the demo to be; `pace` stretches them with the demo's length.
    A service in production would rather stay open for 10 to 60 seconds.
    """
    return AsyncCircuitBreaker(
        "upstream",
        window=CountWindow(20),
        tracker=TypeOf(httpx.HTTPError),
        tripper=MinRequests(5) & (SlowRate(0.5, threshold=0.5 * pace) | FailureRate(0.5)),
        retry=Cooldown(1.0 * pace),
        permit=RampUp(0.2, 1.0, duration=2.0 * pace),
        max_half_open_calls=5,  # as many as the verdict needs
        listeners=listeners,
    )


def make_client(url: str, pace: float) -> httpx.AsyncClient:
    """Make an HTTP client that waits no longer than a user would."""
    return httpx.AsyncClient(
        base_url=url,
        # The time-out belongs inside the protected call, as here, where the client raises it: so
        # the breaker sees a failure that took a second. A time-out around the protected call
        # (`async with asyncio.timeout(1): await get(path)`) would cancel it, and a cancelled
        # call proves nothing: the breaker would never open.
        timeout=httpx.Timeout(1.0 * pace, connect=5.0),
        limits=httpx.Limits(max_connections=None),
        trust_env=False,  # no proxy on the way to 127.0.0.1
    )


def without_breaker(client: httpx.AsyncClient) -> Get:
    async def get(path: str) -> None:
        response = await client.get(path)  # reads the whole body: a truncated one raises, too
        response.raise_for_status()

    return get


def with_breaker(client: httpx.AsyncClient, breaker: AsyncCircuitBreaker) -> Get:
    return breaker(without_breaker(client))
