"""OpenTelemetry's instrumentation of httpx: spans as without us, refusals included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation import httpx as instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ..drivers import CONTEXT, Flavour, Web
from ..servers import Server, answer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "flavour",
        [Flavour(lib, style) for lib in ("httpx", "httpx2") for style in ("sync", "asyncio")],
        ids=str,
        indirect=True,
    ),
]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def instrumentor(web: Web) -> Any:
    names = {"httpx": "HTTPXClientInstrumentor", "httpx2": "HTTPX2ClientInstrumentor"}
    return getattr(instrumentation, names[web.flavour.library])()


@pytest.fixture
def everywhere(instrumentor: Any, provider: TracerProvider) -> Iterator[None]:
    """Instruments every transport of the library."""
    instrumentor.instrument(tracer_provider=provider)
    yield
    instrumentor.uninstrument()


def spans(exporter: InMemorySpanExporter) -> list[tuple[str, Any]]:
    """Name and status code of each finished span."""
    seen = []
    for span in exporter.get_finished_spans():
        attributes = dict(span.attributes or {})
        code = attributes.get("http.status_code", attributes.get("http.response.status_code"))
        seen.append((span.name, code))
    return seen


@pytest.mark.usefixtures("everywhere")
async def test_calls_that_are_sent_have_spans_and_refusals_none(
    web: Web, server: Server, exporter: InMemorySpanExporter
) -> None:
    """The library's transport is instrumented, which a refused request never reaches."""
    async with web.client(web.guard(web.http())) as session:
        await session.get(server.url)
        await session.get(server.on(answer(503)))
        web.registry[server.key].force_open()
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.url)
    assert spans(exporter) == [("GET", 200), ("GET", 503)]
    assert "traceparent" in server.asked[0].headers
    assert web.counted(server.key) == {"successes": 1, "failures": 1, "rejected": 1}


@pytest.mark.usefixtures("everywhere")
async def test_a_protected_client(web: Web, server: Server, exporter: InMemorySpanExporter) -> None:
    client = web.flux.protect(web.client_class(verify=CONTEXT), registry=web.registry)
    async with web.using(client) as session:
        await session.get(server.url)
    assert spans(exporter) == [("GET", 200)]
    assert web.counted(server.key) == {"successes": 1}


def instrument(instrumentor: Any, provider: TracerProvider) -> Callable[[Any], None]:
    return lambda client: instrumentor.instrument_client(client, tracer_provider=provider)


@pytest.mark.parametrize("order", ["protect first", "instrument first"])
async def test_a_single_client_in_either_order(
    web: Web,
    server: Server,
    instrumentor: Any,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
    order: str,
) -> None:
    """`instrument_client` replaces a method of the client's transport, ours or the library's."""
    client = web.client_class(verify=CONTEXT, mounts={"http://mounted.test": web.mock()})
    if order == "protect first":
        web.flux.protect(client, registry=web.registry)
        instrument(instrumentor, provider)(client)
    else:
        instrument(instrumentor, provider)(client)
        web.flux.protect(client, registry=web.registry)
    async with web.using(client) as session:
        assert (await session.get(server.url)).text == "hello"
        assert (await session.get("http://mounted.test")).status_code == 200
        web.registry[server.key].force_open()
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.url)
    sent = [("GET", 200), ("GET", 200)]
    assert spans(exporter) == [*sent, ("GET", None)] if order == "protect first" else sent
    assert "traceparent" in server.asked[0].headers
    assert web.counted(server.key) == {"successes": 1, "rejected": 1}


async def test_uninstrumenting_leaves_the_circuit(
    web: Web, server: Server, instrumentor: Any, provider: TracerProvider
) -> None:
    client = web.flux.protect(web.client_class(verify=CONTEXT), registry=web.registry)
    instrument(instrumentor, provider)(client)
    instrumentor.uninstrument_client(client)
    async with web.using(client) as session:
        await session.get(server.url)
    assert "traceparent" not in server.asked[0].headers
    assert web.counted(server.key) == {"successes": 1}


async def test_transports_of_opentelemetrys_own(
    web: Web, server: Server, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    """Around ours, so that a refusal has a span as well."""
    suffix = {"httpx": "", "httpx2": "Httpx2"}[web.flavour.library]
    name = f"{'Async' if web.asynchronous else 'Sync'}OpenTelemetryTransport{suffix}"
    traced = getattr(instrumentation, name)(web.guard(), tracer_provider=provider)
    async with web.client(traced) as session:
        await session.get(server.url)
        web.registry[server.key].force_open()
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.url)
    assert spans(exporter) == [("GET", 200), ("GET", None)]
