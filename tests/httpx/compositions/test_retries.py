"""httpx-retries: the circuit inside the retries, and the retries inside the circuit.

Inside (`RetryTransport(CircuitBreakerTransport(...))`) each try counts, and a refusal ends the
retrying. Outside (`CircuitBreakerTransport(RetryTransport(...))`) a call with all its tries is
one call, and only what the retries could not mend is a failure.
"""

from __future__ import annotations

from typing import Any

import httpx
import httpx_retries
import pytest

from fluxgate import State

from ..drivers import Flavour, Web
from ..servers import Exchange, Server, answer, hang_up

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "flavour",
        [Flavour("httpx", "sync"), Flavour("httpx", "asyncio")],  # it knows neither httpx2 nor trio
        ids=str,
        indirect=True,
    ),
]


def retry(total: int) -> Any:
    return httpx_retries.Retry(
        total=total, backoff_factor=0, status_forcelist=[502, 503], respect_retry_after_header=False
    )


def flaky(*statuses: int) -> Any:
    left = list(statuses)

    def behave(exchange: Exchange) -> None:
        answer(left.pop(0))(exchange)

    return behave


async def test_circuit_inside_counts_each_try(web: Web, server: Server) -> None:
    transport = httpx_retries.RetryTransport(web.guard(), retry=retry(3))
    async with web.client(transport) as session:
        assert (await session.get(server.on(flaky(503, 200)))).status_code == 200
    assert web.counted(server.key) == {"failures": 1, "successes": 1}


async def test_circuit_inside_a_refusal_is_not_retried(web: Web, server: Server) -> None:
    """Ten retries are allowed, two tries open the circuit, and the third is the last."""
    transport = httpx_retries.RetryTransport(web.guard(), retry=retry(10))
    async with web.client(transport) as session:
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.on(answer(503)))
        assert len(server.asked) == 2
        with pytest.raises(httpx.TransportError):
            await session.get(server.url)
    assert len(server.asked) == 2
    assert web.counted(server.key) == {"failures": 2, "rejected": 2}


async def test_circuit_inside_connection_errors(web: Web, server: Server) -> None:
    transport = httpx_retries.RetryTransport(web.guard(), retry=retry(10))
    async with web.client(transport) as session:
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.on(hang_up))
    assert len(server.asked) == 2


async def test_circuit_outside_counts_each_call(web: Web, server: Server) -> None:
    transport = web.guard(httpx_retries.RetryTransport(web.http(), retry=retry(3)))
    async with web.client(transport) as session:
        response = await session.get(server.on(flaky(503, 502, 200)))
        assert response.status_code == 200
        assert response.extensions["retry"].attempts_made == 2
        assert response.extensions["fluxgate"]["key"] == server.key
    assert len(server.asked) == 3
    assert web.counted(server.key) == {"successes": 1}


async def test_circuit_outside_fails_when_the_retries_give_up(web: Web, server: Server) -> None:
    transport = web.guard(httpx_retries.RetryTransport(web.http(), retry=retry(1)))
    async with web.client(transport) as session:
        for _ in range(2):
            assert (await session.get(server.on(answer(503)))).status_code == 503
        assert len(server.asked) == 4
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.url)
    assert web.counted(server.key) == {"failures": 2, "rejected": 1}


async def test_retry_after_respected_by_the_circuit_inside(web: Web, server: Server) -> None:
    policy = web.flux.HTTPPolicy(retry_after="respect")
    transport = httpx_retries.RetryTransport(web.guard(policy=policy), retry=retry(10))
    async with web.client(transport) as session:
        with pytest.raises(web.flux.CircuitOpenError) as caught:
            await session.get(server.on(answer(503, {"Retry-After": "17"})))
    assert caught.value.retry_after == 17
    assert len(server.asked) == 1


async def test_a_transport_of_both_kinds_can_be_wrapped_and_protected(
    web: Web, server: Server
) -> None:
    """`RetryTransport` is sync and async at once."""
    retrying = httpx_retries.RetryTransport(web.http(), retry=retry(2))
    client = web.flux.protect(web.client_class(transport=retrying), registry=web.registry)
    async with web.using(client) as session:
        assert (await session.get(server.on(flaky(503, 200)))).text == "hello"
    assert web.counted(server.key) == {"successes": 1}
    assert web.state(server.key) is State.CLOSED
