"""A process that calls a service through one of the integrations, with a fleet and nothing else.

    with Process() as process:
        process.use("httpx", "sqlite:///...", "http://127.0.0.1:8000")
        process.call(6)       # ["failed", "failed", ...]
        process.seen()        # ("open", 1764312)

One process takes up one integration after the other, for it is its start that takes time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError
from fluxgate.registry import Registry

PATIENCE = 60.0


class Use(NamedTuple):
    """What an integration gives: a call of the service, which returns a status, and circuits."""

    call: Callable[[], int]
    registry: Registry
    name: str


def _host(url: str) -> str:
    return url.removeprefix("http://")


# -- HTTP clients: the circuit is the host's


def httpx_transport(fleet: str, url: str) -> Use:
    import httpx

    import fluxgate_httpx

    transport = fluxgate_httpx.CircuitBreakerTransport(fleet=fleet)
    client = httpx.Client(transport=transport)
    return Use(lambda: client.get(url).status_code, transport.registry, _host(url))


def httpx_async_transport(fleet: str, url: str) -> Use:
    import httpx

    import fluxgate_httpx

    loop = asyncio.new_event_loop()
    transport = fluxgate_httpx.AsyncCircuitBreakerTransport(fleet=fleet)
    client = httpx.AsyncClient(transport=transport)

    async def call() -> int:
        return (await client.get(url)).status_code

    return Use(lambda: loop.run_until_complete(call()), transport.registry, _host(url))


def httpx_protect(fleet: str, url: str) -> Use:
    import httpx

    import fluxgate_httpx

    client = fluxgate_httpx.protect(httpx.Client(trust_env=False), fleet=fleet)
    registry = fluxgate_httpx.registry_of(client)
    return Use(lambda: client.get(url).status_code, registry, _host(url))


def httpx2_transport(fleet: str, url: str) -> Use:
    import httpx2

    import fluxgate_httpx.httpx2

    transport = fluxgate_httpx.httpx2.CircuitBreakerTransport(fleet=fleet)
    client = httpx2.Client(transport=transport)
    return Use(lambda: client.get(url).status_code, transport.registry, _host(url))


def httpx2_async_protect(fleet: str, url: str) -> Use:
    import httpx2

    import fluxgate_httpx.httpx2

    loop = asyncio.new_event_loop()
    client = fluxgate_httpx.httpx2.protect(httpx2.AsyncClient(trust_env=False), fleet=fleet)

    async def call() -> int:
        return (await client.get(url)).status_code

    registry = fluxgate_httpx.httpx2.registry_of(client)
    return Use(lambda: loop.run_until_complete(call()), registry, _host(url))


def requests_adapter(fleet: str, url: str) -> Use:
    import requests

    import fluxgate_httpx.requests

    session = requests.Session()
    session.trust_env = False  # no proxy
    adapter = fluxgate_httpx.requests.CircuitBreakerAdapter(fleet=fleet)
    session.mount("http://", adapter)
    return Use(lambda: session.get(url).status_code, adapter.registry, _host(url))


def requests_protect(fleet: str, url: str) -> Use:
    import requests

    import fluxgate_httpx.requests

    session = fluxgate_httpx.requests.protect(requests.Session(), fleet=fleet)
    session.trust_env = False  # no proxy
    registry = fluxgate_httpx.requests.registry_of(session, url)
    return Use(lambda: session.get(url).status_code, registry, _host(url))


# -- frameworks: a request to the application is a call of the service


def _fastapi(url: str, **arguments: Any) -> Use:
    import httpx
    from fastapi import Depends, FastAPI, Response

    from fluxgate_fastapi import Breaker, install

    app = FastAPI()
    registry = install(app, **arguments)

    given = Depends(Breaker("payments"))

    @app.get("/pay")
    async def pay(payments: AsyncCircuitBreaker = given) -> Response:
        with suppress(httpx.HTTPStatusError):
            async with payments, httpx.AsyncClient(trust_env=False) as client:
                (await client.get(url)).raise_for_status()
            return Response()
        return Response(status_code=502)

    async def call() -> int:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.get("/pay")).status_code

    return Use(lambda: asyncio.run(call()), registry, "payments")


def fastapi_install(fleet: str, url: str) -> Use:
    return _fastapi(url, fleet=fleet)


def fastapi_environment(fleet: str, url: str) -> Use:
    from fluxgate_fastapi.settings import FluxgateSettings

    os.environ["FLUXGATE__FLEET"] = fleet
    return _fastapi(url, config=FluxgateSettings())


def django_settings(fleet: str, url: str) -> Use:
    import django
    import httpx
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse
    from django.test import Client
    from django.urls import path

    def pay(_request: HttpRequest) -> HttpResponse:
        with suppress(httpx.HTTPStatusError):
            breakers["payments"].call(lambda: client.get(url).raise_for_status())
            return HttpResponse()
        return HttpResponse(status=502)

    client = httpx.Client(trust_env=False)
    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF=(path("pay", pay),),
        MIDDLEWARE=["fluxgate_django.middleware.CircuitBreakerMiddleware"],
        FLUXGATE={"FLEET": {"URL": fleet}},
    )
    django.setup()
    from fluxgate_django import breakers

    browser = Client()
    return Use(lambda: browser.get("/pay").status_code, breakers.registry, "payments")


USES: dict[str, Callable[[str, str], Use]] = {
    use.__name__: use
    for use in (
        httpx_transport,
        httpx_async_transport,
        httpx_protect,
        httpx2_transport,
        httpx2_async_protect,
        requests_adapter,
        requests_protect,
        fastapi_install,
        fastapi_environment,
        django_settings,
    )
}


# -- the process


def _called(use: Use) -> str:
    try:
        status = use.call()
    except CallNotPermittedError:
        return "refused"
    return {200: "good", 503: "refused"}.get(status, "failed")


def _serve(connection: Connection) -> None:
    use: Use | None = None
    with suppress(EOFError):
        while True:
            verb, *arguments = connection.recv()
            if verb == "use":
                kind, fleet, url = arguments
                use = USES[kind](fleet, url)
                connection.send(None)
                continue
            assert use is not None
            if verb == "call":
                connection.send([_called(use) for _ in range(arguments[0])])
            else:
                info = use.registry[use.name].info()
                connection.send((str(info.state), info.fleet and info.fleet.epoch))


class Process:
    """The process, driven from the test's."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def _ask(self, *asked: object) -> Any:
        self._connection.send(asked)
        assert self._connection.poll(PATIENCE), f"no answer to {asked}"
        return self._connection.recv()

    def use(self, kind: str, fleet: str, url: str) -> None:
        """Take up an integration."""
        self._ask("use", kind, fleet, url)

    def call(self, count: int) -> list[str]:
        """Call the service so often: `good`, `failed` or `refused`, for each call."""
        return self._ask("call", count)  # type: ignore[no-any-return]

    def seen(self) -> tuple[str, int]:
        """The circuit's state here, and the fleet's epoch."""
        return self._ask("seen")  # type: ignore[no-any-return]

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._process.join(PATIENCE)
        self._process.kill()
