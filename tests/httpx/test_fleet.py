"""`fleet=` of the transports: an outage that two processes see is one outage."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests

import fluxgate_httpx
import fluxgate_httpx.requests
from fluxgate import State
from fluxgate.fleet import Fleet
from fluxgate.registry import Registry

HOST = "https://api.example"
PATIENCE = 30.0
_names = itertools.count()


@pytest.fixture
def fleets() -> Iterator[list[Fleet]]:
    """Two, as if each were in a process of its own."""
    url = f"memory://httpx-{next(_names)}"
    made = [Fleet(url), Fleet(url)]
    yield made
    for fleet in made:
        fleet.close()


def answer(_: Any) -> httpx.Response:
    return httpx.Response(200)


def sync_transport(fleet: Fleet) -> Registry:
    return fluxgate_httpx.CircuitBreakerTransport(httpx.MockTransport(answer), fleet=fleet).registry


def async_transport(fleet: Fleet) -> Registry:
    transport = fluxgate_httpx.AsyncCircuitBreakerTransport(
        httpx.MockTransport(answer), fleet=fleet
    )
    return transport.registry


def adapter(fleet: Fleet) -> Registry:
    return fluxgate_httpx.requests.CircuitBreakerAdapter(fleet=fleet).registry


def session(fleet: Fleet) -> Registry:
    with requests.Session() as made:
        fluxgate_httpx.requests.protect(made, fleet=fleet)
        mounted: Any = made.get_adapter(HOST)
        registry: Registry = mounted.registry
        return registry


@pytest.mark.parametrize("make", [sync_transport, async_transport, adapter, session])
def test_circuits_are_shared(fleets: list[Fleet], make: Callable[[Fleet], Registry]) -> None:
    one, two = (make(fleet) for fleet in fleets)
    one["api.example"].force_open(fleet=True)
    deadline = time.monotonic() + PATIENCE
    while two["api.example"].state is not State.FORCED_OPEN:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_it_is_the_registrys(fleets: list[Fleet]) -> None:
    with pytest.raises(TypeError, match=r"fleet= and registry= contradict each other"):
        fluxgate_httpx.CircuitBreakerTransport(registry=Registry(), fleet=fleets[0])
