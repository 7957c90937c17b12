"""The clients of the demo: the same httpx client, with a breaker in its transport and without.

This is the part to copy.
"""

from typing import Any

import httpx

from fluxgate import Listener
from fluxgate.permits import RampUp
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, MinRequests, SlowRate
from fluxgate.windows import CountWindow
from fluxgate_httpx import AsyncCircuitBreakerTransport


def settings(pace: float) -> dict[str, Any]:
    """How the demo's circuits behave: the transport's, and the FastAPI application's.

    The times are short, for the demo to be; `pace` stretches them with the demo's length.
    A service in production would rather stay open for 10 to 60 seconds.
    """
    return {
        "window": CountWindow(20),
        "tripper": MinRequests(5) & (SlowRate(0.5, threshold=0.5 * pace) | FailureRate(0.5)),
        "retry": Cooldown(1.0 * pace),
        "permit": RampUp(0.2, 1.0, duration=2.0 * pace),
        "max_half_open_calls": 5,  # as many as the verdict needs
    }


def patience(pace: float) -> float:
    """Seconds that anybody waits for the upstream."""
    return 1.0 * pace


def without_breaker() -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))


def with_breaker(pace: float, *listeners: Listener) -> AsyncCircuitBreakerTransport:
    """Put a circuit for each host around the same transport.

    It judges what comes back: a status of 500 is a failure, and so are a time-out, a broken
    connection, and a body that ends too soon, whatever its status was.
    """
    rules = {"defaults": {**settings(pace), "listeners": [*listeners]}}
    return AsyncCircuitBreakerTransport(without_breaker(), circuits=rules)


def make_client(url: str, pace: float, transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """Make an HTTP client that waits no longer than a user would."""
    return httpx.AsyncClient(
        base_url=url,
        transport=transport,
        # The time-out belongs inside the protected call, as here, where the client hands it to
        # the transport: so the circuit sees a failure that took a second. A time-out around the
        # call (`async with asyncio.timeout(1): await client.get(path)`) would cancel it, and a
        # cancelled call proves nothing: the circuit would never open.
        timeout=httpx.Timeout(patience(pace), connect=5.0),
        trust_env=False,
    )
