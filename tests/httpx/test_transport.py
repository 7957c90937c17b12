"""The transport as an object: what it wraps, who may share it, and how it refuses bad use."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fluxgate import State
from fluxgate.registry import Registry
from fluxgate.testing import tripped

from .drivers import CONTEXT, Flavour, Web
from .servers import Server

pytestmark = pytest.mark.anyio

HOST = "example.org"
URL = f"http://{HOST}/"
SYNC = [Flavour(library, "sync") for library in ("httpx", "httpx2")]
ASYNCIO = [Flavour(library, "asyncio") for library in ("httpx", "httpx2")]


def recording(web: Web) -> Any:
    """A transport of somebody's own, which notes what is done with it."""
    base = web.lib.AsyncBaseTransport if web.asynchronous else web.lib.BaseTransport

    class Recording(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.done: list[str] = []

        def handle_request(self, request: Any) -> Any:
            self.done.append("request")
            return web.lib.Response(200)

        async def handle_async_request(self, request: Any) -> Any:
            return self.handle_request(request)

        def close(self) -> None:
            self.done.append("close")

        async def aclose(self) -> None:
            self.close()

        def __enter__(self) -> Any:
            self.done.append("enter")
            return self

        def __exit__(self, *_: object) -> None:
            self.done.append("exit")

        async def __aenter__(self) -> Any:
            return self.__enter__()

        async def __aexit__(self, *_: object) -> None:
            self.__exit__()

    return Recording()


# -- what it is


async def test_it_is_a_transport_and_wraps_one(web: Web) -> None:
    wrapped = web.mock()
    guard = web.guard(wrapped)
    assert guard.wrapped is wrapped
    assert guard.registry is web.registry
    assert isinstance(
        guard, web.lib.AsyncBaseTransport if web.asynchronous else web.lib.BaseTransport
    )
    assert not isinstance(guard, web.http_class)


async def test_without_arguments_it_makes_the_librarys_own(web: Web, server: Server) -> None:
    guard = web.guard_class()
    assert type(guard.wrapped) is web.http_class
    assert isinstance(guard.registry, Registry)
    async with web.client(guard) as session:
        assert (await session.get(server.url)).text == "hello"
    assert web.counted(server.key, guard.registry) == {"successes": 1}


async def test_two_transports_have_registries_of_their_own(web: Web) -> None:
    one, other = web.guard_class(web.mock()), web.guard_class(web.mock())
    assert one.registry is not other.registry


async def test_any_transport_will_do(web: Web) -> None:
    wrapped = recording(web)
    async with web.client(web.guard(wrapped)) as session:
        assert (await session.get(URL)).status_code == 200
    assert wrapped.done.count("request") == 1


async def test_an_asgi_or_wsgi_application(web: Web) -> None:
    def wsgi(_: Any, start_response: Any) -> Any:
        start_response("500 Oops", [("Content-Type", "text/plain")])
        return [b"oops"]

    async def asgi(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"oops"})

    lib = web.lib
    wrapped = lib.ASGITransport(app=asgi) if web.asynchronous else lib.WSGITransport(app=wsgi)
    async with web.client(web.guard(wrapped)) as session:
        assert (await session.get(URL)).text == "oops"
    assert web.counted(HOST) == {"failures": 1}


async def test_its_repr_says_what_it_wraps(web: Web) -> None:
    guard = web.guard(web.mock())
    assert "MockTransport" in repr(guard)
    assert type(guard).__name__ in repr(guard)


async def test_it_can_be_called_without_a_client(web: Web) -> None:
    guard = web.guard(web.mock())
    request = web.lib.Request("GET", URL)
    response = await web.handle(guard, request)
    assert response.status_code == 200
    await web.read(response)
    assert web.counted(HOST) == {"successes": 1}
    web.registry[HOST].force_open()
    with pytest.raises(web.flux.CircuitOpenError) as caught:
        await web.handle(guard, request)
    assert caught.value.request is request


# -- closing


async def test_closing_is_delegated_once(web: Web) -> None:
    wrapped = recording(web)
    guard = web.guard(wrapped)
    await web.close(guard)
    await web.close(guard)
    assert wrapped.done == ["close"]


async def test_as_a_context_manager(web: Web) -> None:
    wrapped = recording(web)
    guard = web.guard(wrapped)
    if web.asynchronous:
        async with guard as entered:
            assert entered is guard
            await web.handle(entered, web.lib.Request("GET", URL))
    else:
        with guard as entered:
            assert entered is guard
            await web.handle(entered, web.lib.Request("GET", URL))
    assert wrapped.done in (["enter", "request", "exit"], ["request", "close"])


async def test_as_a_context_manager_of_a_client(web: Web, server: Server) -> None:
    client = web.client_class(transport=web.guard())
    if web.asynchronous:
        async with client:
            assert (await client.get(server.url)).text == "hello"
    else:
        with client:
            assert client.get(server.url).text == "hello"
    assert web.counted(server.key) == {"successes": 1}


# -- sharing


async def test_in_several_mounts(web: Web) -> None:
    guard = web.guard(web.mock())
    mounts = {"http://a.test": guard, "http://b.test": guard}
    async with web.client(web.mock(), mounts=mounts) as session:
        for host in ("a.test", "b.test", "c.test"):
            await session.get(f"http://{host}")
    assert list(web.registry) == ["a.test", "b.test"]


async def test_in_several_clients(web: Web) -> None:
    """The circuit outlives the client; only the connections go."""
    guard = web.guard(web.raising(web.lib.ConnectError("down")))
    for _ in range(2):
        async with web.client(guard) as session:
            with pytest.raises(web.lib.ConnectError):
                await session.get(URL)
    assert web.state(HOST) is State.OPEN


@pytest.mark.parametrize("flavour", ASYNCIO, ids=str, indirect=True)
async def test_sync_and_async_share_one_circuit(web: Web, server: Server) -> None:
    sync = Web(Flavour(web.flavour.library, "sync"))
    failing = web.guard(web.raising(web.lib.ConnectError("down")))
    other = sync.guard(registry=web.registry)
    async with web.client(failing) as session, sync.client(other) as sync_session:
        with pytest.raises(web.lib.ConnectError):
            await session.get(server.url)
        assert (await sync_session.get(server.url)).text == "hello"
        for _ in range(2):
            with pytest.raises(web.lib.ConnectError):
                await session.get(server.url)
        with pytest.raises(web.flux.CircuitOpenError):
            await sync_session.get(server.url)
    assert web.counted(server.key) == {"failures": 3, "successes": 1, "rejected": 1}


async def test_one_registry_for_both_libraries(web: Web) -> None:
    pytest.importorskip("httpx2", reason="one row of the matrix goes without")
    twin = {"httpx": "httpx2", "httpx2": "httpx"}[web.flavour.library]
    other = Web(Flavour(twin, web.flavour.style))
    async with (
        web.client(web.guard(web.mock())) as session,
        other.client(other.guard(other.mock(), registry=web.registry)) as theirs,
    ):
        await session.get(URL)
        await theirs.get(URL)
        web.registry[HOST].force_open()
        with pytest.raises(other.flux.CircuitOpenError) as caught:
            await theirs.get(URL)
    assert isinstance(caught.value, other.lib.TransportError)
    assert not isinstance(caught.value, web.lib.TransportError)
    assert web.counted(HOST) == {"successes": 2, "rejected": 1}


@pytest.mark.parametrize("flavour", SYNC, ids=str, indirect=True)
async def test_threads_share_a_client(web: Web, server: Server) -> None:
    errors: list[BaseException] = []

    with web.client_class(transport=web.guard()) as client:

        def run() -> None:
            try:
                for _ in range(20):
                    assert client.get(server.url).text == "hello"
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert web.counted(server.key) == {"successes": 160}


async def test_a_circuit_can_be_steered_by_hand(web: Web) -> None:
    guard = web.guard(web.raising(web.lib.ConnectError("down")))
    guard.registry[HOST].disable()
    async with web.client(guard) as session:
        for _ in range(5):
            with pytest.raises(web.lib.ConnectError):
                await session.get(URL)
        assert web.counted(HOST) == {}
        tripped_circuit = guard.registry[HOST]
        tripped_circuit.reset()
        tripped(tripped_circuit)
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(URL)


# -- bad use


async def test_the_other_kind_of_transport_is_refused(web: Web) -> None:
    other = web.lib.HTTPTransport if web.asynchronous else web.lib.AsyncHTTPTransport
    remedy = "CircuitBreakerTransport" if web.asynchronous else "AsyncCircuitBreakerTransport"
    transport = other(verify=CONTEXT)
    with pytest.raises(TypeError, match=rf"\b{remedy}\b"):
        web.guard(transport)


@pytest.mark.parametrize("junk", [42, "http://example.org", object(), dict])
async def test_what_is_no_transport_is_refused(web: Web, junk: object) -> None:
    with pytest.raises(TypeError, match=r"(?i)transport"):
        web.guard(junk)


async def test_a_class_in_place_of_a_transport_is_refused(web: Web) -> None:
    with pytest.raises(TypeError, match=rf"\b{web.http_class.__name__}\b"):
        web.guard(web.http_class)


async def test_a_client_in_place_of_a_transport_is_refused(web: Web) -> None:
    async with web.client(web.mock()) as session:
        with pytest.raises(TypeError, match=r"protect\("):
            web.guard(session.client)


async def test_a_transport_of_the_other_library_is_refused(web: Web) -> None:
    pytest.importorskip("httpx2", reason="one row of the matrix goes without")
    twin = {"httpx": "httpx2", "httpx2": "httpx"}[web.flavour.library]
    other = Web(Flavour(twin, web.flavour.style))
    module = {"httpx": r"fluxgate_httpx\b", "httpx2": r"fluxgate_httpx\.httpx2"}[twin]
    with pytest.raises(TypeError, match=module):
        web.guard(other.http())
    with pytest.raises(TypeError, match=module):
        web.guard(other.mock())


async def test_in_a_client_of_the_other_kind(web: Web, server: Server) -> None:
    other = Web(Flavour(web.flavour.library, "sync" if web.asynchronous else "asyncio"))
    client = other.client_class(transport=web.guard(web.mock()))
    with pytest.raises(TypeError, match=rf"\b{other.guard_class.__name__}\b"):
        await other.wait(client.get(server.url))
    client = other.client_class(transport=web.guard(web.mock()))
    with pytest.raises(TypeError, match=rf"\b{other.guard_class.__name__}\b"):
        await other.wait(client.__aenter__() if other.asynchronous else client.__enter__())
    assert list(web.registry) == []


async def test_in_a_client_of_the_other_library(web: Web, server: Server) -> None:
    pytest.importorskip("httpx2", reason="one row of the matrix goes without")
    twin = {"httpx": "httpx2", "httpx2": "httpx"}[web.flavour.library]
    other = Web(Flavour(twin, web.flavour.style))
    module = {"httpx": r"fluxgate_httpx\b", "httpx2": r"fluxgate_httpx\.httpx2"}[twin]
    async with other.client(web.guard(web.mock())) as session:
        with pytest.raises(TypeError, match=module):
            await session.get(server.url)
    assert list(web.registry) == []


async def test_it_does_not_look_like_the_other_kind(web: Web) -> None:
    """Instrumentation and retry libraries tell sync from async by what a transport has."""
    guard = web.guard(web.mock())
    assert hasattr(guard, "handle_async_request") is web.asynchronous
    assert hasattr(guard, "handle_request") is not web.asynchronous


async def test_circuits_and_registry_contradict_each_other(web: Web) -> None:
    with pytest.raises(TypeError, match=r"circuits.*registry"):
        web.guard(web.mock(), registry=web.registry, circuits=lambda key: web.registry[key])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("registry", {}),
        ("registry", object()),
        ("circuits", 42),
        ("key", "example.org"),
        ("policy", {"statuses": {500}}),
        ("on_open", 503),
    ],
)
async def test_arguments_of_the_wrong_kind_are_refused(web: Web, name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=name):
        web.guard_class(web.mock(), **{name: value})


async def test_a_breaker_in_place_of_a_factory_is_refused(web: Web) -> None:
    """One breaker for all hosts is what this package is there to avoid."""
    with pytest.raises(TypeError, match="circuits"):
        web.guard_class(web.mock(), circuits=web.registry["one"])


async def test_unknown_arguments_are_refused(web: Web) -> None:
    with pytest.raises(TypeError, match="http2"):
        web.guard_class(web.mock(), http2=True)
