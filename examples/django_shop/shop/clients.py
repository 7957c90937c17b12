"""The clients of the service that the shop depends on. Nothing is opened before the first call."""

import asyncio
from weakref import WeakKeyDictionary

import httpx
from django.conf import settings

from fluxgate_django import breakers
from fluxgate_httpx import CircuitBreakerTransport

OPTIONS = {"base_url": settings.UPSTREAM_URL, "timeout": settings.UPSTREAM_TIMEOUT}
SSL = httpx.create_ssl_context()  # one for all: it takes longer to make than a client

sync = httpx.Client(verify=SSL, **OPTIONS)
# One circuit per host, by the same settings: those of FLUXGATE["BREAKERS"]["127.0.0.1:9000"] if
# there are any, or the defaults. What uses this client need not know that there are circuits.
with_circuits = httpx.Client(
    transport=CircuitBreakerTransport(httpx.HTTPTransport(verify=SSL), registry=breakers), **OPTIONS
)

_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()


def get(path: str) -> str:
    # An HTTPStatusError is an HTTPError, too: the tracker counts it.
    return sync.get(path).raise_for_status().text


async def get_async(path: str) -> str:
    """The same in a coroutine.

    A client's connections belong to a loop. Under ASGI there is one; under WSGI every request to
    an async view has its own.
    """
    loop = asyncio.get_running_loop()
    client = _by_loop.get(loop)
    if client is None:
        client = _by_loop[loop] = httpx.AsyncClient(verify=SSL, **OPTIONS)
    answer = await client.get(path)
    return answer.raise_for_status().text
