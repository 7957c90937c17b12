"""One way to drive httpx and httpx2, sync, on asyncio and on trio, so that a scenario is written
once: as a coroutine that waits for nothing where the client is sync."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fluxgate import Info, State, permits, retries, trippers
from fluxgate.registry import Registry
from fluxgate.testing import LoadedDice, ManualClock

STYLES = ("sync", "asyncio", "trio")
OUTCOMES = ("successes", "failures", "ignored", "cancelled", "stale", "rejected")
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody. For plain HTTP: reading the world's certificates for each client takes time."""


@dataclass(frozen=True)
class Flavour:
    """A library, and a way to call it."""

    library: str
    style: str

    @property
    def backend(self) -> str:
        return "trio" if self.style == "trio" else "asyncio"

    @property
    def asynchronous(self) -> bool:
        return self.style != "sync"

    def __str__(self) -> str:
        return f"{self.library}-{self.style}"


class Reader:
    """A body, piece by piece."""

    def __init__(self, web: Web, response: Any, how: str, *args: Any) -> None:
        self._web = web
        self._pieces = web.method(response, f"iter_{how}")(*args)

    async def next(self) -> Any:
        if self._web.asynchronous:
            return await anext(self._pieces)
        return next(self._pieces)

    async def rest(self) -> list[Any]:
        if self._web.asynchronous:
            return [piece async for piece in self._pieces]
        return list(self._pieces)

    async def close(self) -> None:
        await self._web.wait(self._web.method(self._pieces, "close")())


class Session:
    """A client."""

    def __init__(self, web: Web, client: Any) -> None:
        self._web = web
        self.client = client

    async def request(self, method: str, url: Any, **options: Any) -> Any:
        return await self._web.wait(self.client.request(method, url, **options))

    async def get(self, url: Any, **options: Any) -> Any:
        return await self.request("GET", url, **options)

    async def open(self, url: Any, *, method: str = "GET", **options: Any) -> Any:
        """A response that is still to be read and closed."""
        request = self.client.build_request(method, url, **options)
        return await self._web.wait(self.client.send(request, stream=True))

    @asynccontextmanager
    async def stream(self, url: Any, **options: Any) -> AsyncIterator[Any]:
        if self._web.asynchronous:
            async with self.client.stream("GET", url, **options) as response:
                yield response
        else:
            with self.client.stream("GET", url, **options) as response:
                yield response


class Web:
    """One library, one way to call it, and the registry that its transports use by default.

    The registry's circuits open at the second failure in a row and for 30 seconds, on a clock
    set by hand; then one probe at a time, and each decides.
    """

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour
        self.asynchronous = flavour.asynchronous
        self.lib: Any = importlib.import_module(flavour.library)
        names = {"httpx": "fluxgate_httpx", "httpx2": "fluxgate_httpx.httpx2"}
        self.flux: Any = importlib.import_module(names[flavour.library])
        self.clock = ManualClock()
        self.registry = self.make_registry()

    # -- making

    def settings(self, **settings: Any) -> dict[str, Any]:
        return {
            "tripper": trippers.Closed() & trippers.FailureStreak(2),
            "retry": retries.Cooldown(30.0),
            "permit": permits.All(),
            "max_half_open_calls": 1,
            "clock": self.clock,
            "dice": LoadedDice(0.0),
            **settings,
        }

    def make_registry(self, settings: Any = None, **defaults: Any) -> Registry:
        return Registry(settings, **self.settings(**defaults))

    @property
    def guard_class(self) -> Any:
        name = "AsyncCircuitBreakerTransport" if self.asynchronous else "CircuitBreakerTransport"
        return getattr(self.flux, name)

    @property
    def client_class(self) -> Any:
        return self.lib.AsyncClient if self.asynchronous else self.lib.Client

    @property
    def http_class(self) -> Any:
        return self.lib.AsyncHTTPTransport if self.asynchronous else self.lib.HTTPTransport

    def http(self, **options: Any) -> Any:
        """The library's own transport."""
        return self.http_class(**{"verify": CONTEXT, **options})

    def mock(self, handler: Callable[[Any], Any] | None = None) -> Any:
        """A transport that answers with `handler(request)`; with an empty 200 without one."""
        return self.lib.MockTransport(handler or (lambda _: self.lib.Response(200)))

    def raising(self, error: BaseException) -> Any:
        def handler(_: Any) -> Any:
            raise error

        return self.mock(handler)

    def guard(self, wrapped: Any = None, **options: Any) -> Any:
        """Our transport, on this registry unless the options say otherwise."""
        if not options.keys() & {"circuits", "registry"}:
            options["registry"] = self.registry
        return self.guard_class(self.http() if wrapped is None else wrapped, **options)

    @asynccontextmanager
    async def client(self, transport: Any = None, **options: Any) -> AsyncIterator[Session]:
        """A client on `transport`; on our own over real sockets without one."""
        made = self.client_class(transport=transport or self.guard(), **options)
        try:
            yield Session(self, made)
        finally:
            await self.close(made)

    @asynccontextmanager
    async def using(self, client: Any) -> AsyncIterator[Session]:
        """A client that was made elsewhere, closed in the end."""
        try:
            yield Session(self, client)
        finally:
            await self.close(client)

    # -- doing

    async def wait(self, given: Any) -> Any:
        return await given if self.asynchronous else given

    def method(self, thing: Any, name: str) -> Any:
        """`close` or `aclose`, `read` or `aread`, …"""
        return getattr(thing, f"a{name}" if self.asynchronous else name)

    async def close(self, thing: Any) -> None:
        await self.wait(self.method(thing, "close")())

    async def read(self, response: Any) -> bytes:
        content: bytes = await self.wait(self.method(response, "read")())
        return content

    def reader(self, response: Any, how: str = "raw", *args: Any) -> Reader:
        return Reader(self, response, how, *args)

    async def handle(self, transport: Any, request: Any) -> Any:
        """What a client does with a transport."""
        if self.asynchronous:
            return await transport.handle_async_request(request)
        return transport.handle_request(request)

    # -- looking

    def info(self, key: str, registry: Registry | None = None) -> Info:
        found = (self.registry if registry is None else registry).get(key)
        assert found is not None, f"no circuit {key!r}"
        return found.info()

    def counted(self, key: str, registry: Registry | None = None) -> dict[str, int]:
        """What the circuit has counted, without the zeros; cancelled calls as ignored ones."""
        totals = self.info(key, registry).totals
        counts = {name: getattr(totals, name) for name in OUTCOMES}
        counts["ignored"] += counts.pop("cancelled")
        return {name: count for name, count in counts.items() if count}

    def state(self, key: str) -> State:
        return self.info(key).state

    def half_open(self, key: str) -> None:
        """Bring a circuit to where its next call is a probe."""
        self.registry[key].open_for(30)
        self.clock.advance(30)
