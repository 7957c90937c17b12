"""`protect(client)`: the client stays what it was, and its calls are protected."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest

from fluxgate import CallNotPermittedError, State
from fluxgate_httpx import by_host

from .drivers import CONTEXT, Flavour, Web
from .servers import HTTP2Server, Server, answer

pytestmark = pytest.mark.anyio

ASYNCIO = [Flavour(library, "asyncio") for library in ("httpx", "httpx2")]


def protected(web: Web, *, given: dict[str, Any] | None = None, **options: Any) -> Any:
    """A client made with these options, protected with what is given."""
    options.setdefault("verify", CONTEXT)
    return web.flux.protect(web.client_class(**options), **(given or {"registry": web.registry}))


async def test_a_plain_client(web: Web, server: Server) -> None:
    client = protected(web)
    async with web.using(client) as session:
        assert (await session.get(server.url)).text == "hello"
        assert (await session.get(server.on(answer(503)))).status_code == 503
    assert isinstance(client, web.client_class)
    assert web.counted(server.key) == {"successes": 1, "failures": 1}


async def test_it_returns_the_client_itself(web: Web) -> None:
    made = web.client_class(verify=CONTEXT)
    async with web.using(made):
        assert web.flux.protect(made) is made


async def test_without_options_it_has_a_registry_of_its_own(web: Web, server: Server) -> None:
    client = web.flux.protect(web.client_class(verify=CONTEXT))
    async with web.using(client) as session:
        await session.get(server.url)
        assert client._transport.registry[server.key].info().totals.successes == 1
        assert isinstance(client._transport, web.guard_class)


async def test_twice_is_as_once(web: Web, server: Server) -> None:
    client = protected(web)
    outer, wrapped = client._transport, client._transport.wrapped
    for given in ({}, {"registry": web.registry}):
        assert web.flux.protect(client, **given) is client
    assert client._transport is outer
    assert client._transport.wrapped is wrapped
    assert not isinstance(wrapped, web.guard_class)
    async with web.using(client) as session:
        await session.get(server.url)
    assert web.counted(server.key) == {"successes": 1}


async def test_a_client_that_was_made_protected_stays_as_it_is(web: Web) -> None:
    guard = web.guard(web.mock())
    async with web.client(guard) as session:
        web.flux.protect(session.client)
        assert session.client._transport is guard
        await session.get("http://a.test")
    assert web.counted("a.test") == {"successes": 1}


async def test_the_transports_options_are_taken(web: Web, server: Server) -> None:
    given = {
        "registry": web.registry,
        "key": web.flux.by_origin,
        "policy": web.flux.HTTPPolicy(statuses={418}, retry_after="respect"),
        "settle": "headers",
        "on_open": lambda _: web.lib.Response(503, text="cached"),
    }
    async with web.using(protected(web, given=given)) as session:
        assert (await session.get(server.on(answer(418)))).status_code == 418
        assert web.counted(server.url) == {"failures": 1}
        await session.get(server.on(answer(429, {"Retry-After": "9"})))
        assert web.state(server.url) is State.OPEN
        assert (await session.get(server.url)).text == "cached"


async def test_breaker_and_max_hosts_are_taken(web: Web) -> None:
    mounts = {"http://": web.mock()}
    given = {"circuits": {"a.test": {"initial_state": "forced_open"}}, "max_hosts": 7}
    client = protected(web, given=given, mounts=mounts)
    assert client._transport.registry.max_circuits == 7
    async with web.using(client) as session:
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get("http://a.test")


# -- it keeps what the client was made with


async def test_keeps_verify(web: Web, http2: HTTP2Server, trusting: ssl.SSLContext) -> None:
    async with web.using(protected(web, verify=CONTEXT, http2=True)) as session:
        with pytest.raises(web.lib.ConnectError):
            await session.get(http2.url + "/ok")
    assert web.counted(http2.key) == {"failures": 1}
    async with web.using(protected(web, verify=trusting, http2=True)) as session:
        assert (await session.get(http2.url + "/ok")).text == "hello world"


async def test_keeps_http2(web: Web, http2: HTTP2Server, trusting: ssl.SSLContext) -> None:
    async with web.using(protected(web, verify=trusting, http2=True)) as session:
        response = await session.get(http2.url + "/ok")
    assert response.http_version == "HTTP/2"
    assert web.counted(http2.key) == {"successes": 1}


async def test_keeps_limits(web: Web, server: Server) -> None:
    timeout = web.lib.Timeout(5, pool=0.01)
    client = protected(web, limits=web.lib.Limits(max_connections=1), timeout=timeout)
    async with web.using(client) as session, session.stream(server.url):
        with pytest.raises(web.lib.PoolTimeout):
            await session.get(server.url)


async def test_keeps_base_url_headers_and_cookies(web: Web, server: Server) -> None:
    options = {"base_url": server.url, "headers": {"x-a": "b"}, "cookies": {"c": "d"}}
    async with web.using(protected(web, **options)) as session:
        assert (await session.get("/0")).status_code == 200
    assert server.asked[0].headers["x-a"] == "b"
    assert server.asked[0].headers["cookie"] == "c=d"
    assert web.counted(server.key) == {"successes": 1}


async def test_keeps_a_transport_of_ones_own(web: Web) -> None:
    own = web.mock()
    async with web.using(protected(web, transport=own)) as session:
        assert session.client._transport.wrapped is own
        await session.get("http://a.test")
    assert web.counted("a.test") == {"successes": 1}


async def test_keeps_mounts(web: Web, server: Server) -> None:
    def teapot(_: Any) -> Any:
        return web.lib.Response(500, text="tea")

    mounted = web.mock(teapot)
    mounts = {"http://mounted.test": mounted, "all://also.test": mounted}
    async with web.using(protected(web, mounts=mounts)) as session:
        assert (await session.get("http://mounted.test")).text == "tea"
        assert (await session.get("http://also.test")).text == "tea"
        assert (await session.get(server.url)).text == "hello"
        wrapped = [each.wrapped for each in session.client._mounts.values()]
        assert wrapped == [mounted, mounted]
    assert web.counted("mounted.test") == {"failures": 1}
    assert web.counted("also.test") == {"failures": 1}
    assert web.counted(server.key) == {"successes": 1}


async def test_a_mount_of_none_still_means_the_main_transport(web: Web, server: Server) -> None:
    mounts = {f"http://127.0.0.1:{server.port}": None, "http://": web.mock()}
    async with web.using(protected(web, mounts=mounts)) as session:
        assert (await session.get(server.url)).text == "hello"
    assert len(server.asked) == 1
    assert web.counted(server.key) == {"successes": 1}


# -- proxies


PROXIED = ["HTTP_PROXY", "http_proxy", "ALL_PROXY"]


@pytest.mark.parametrize("variable", PROXIED)
async def test_keeps_the_environments_proxy(
    web: Web, server: Server, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """`Client(transport=...)` would have dropped it without a word."""
    monkeypatch.setenv(variable, server.url)
    async with web.using(protected(web)) as session:
        assert (await session.get("http://service.test/path")).text == "hello"
    assert [asked.target for asked in server.asked] == ["http://service.test/path"]
    assert web.counted("service.test") == {"successes": 1}


async def test_keeps_no_proxy(
    web: Web, servers: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, direct = servers(), servers()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with web.using(protected(web)) as session:
        await session.get(direct.url)
        await session.get("http://service.test/")
    assert len(direct.asked) == 1
    assert [asked.target for asked in proxy.asked] == ["http://service.test/"]
    assert web.counted(direct.key) == {"successes": 1}
    assert web.counted("service.test") == {"successes": 1}


async def test_trust_env_false_stays_false(
    web: Web, servers: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, direct = servers(), servers()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    async with web.using(protected(web, trust_env=False)) as session:
        await session.get(direct.url)
    assert proxy.asked == []
    assert web.counted(direct.key) == {"successes": 1}


async def test_an_explicit_proxy_is_protected(web: Web, server: Server) -> None:
    """With `proxy=`, `Client(transport=X)` would never have called X."""
    async with web.using(protected(web, proxy=server.url)) as session:
        url = "http://service.test/"
        await session.get(url)
        server.otherwise = answer(502)
        await session.get(url)
        await session.get(url)
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(url)
        assert len(server.asked) == 3
        await session.get("http://other.test/")  # the proxy is not to blame
    assert web.counted("service.test") == {"successes": 1, "failures": 2, "rejected": 1}


async def test_a_proxy_that_is_down_counts_for_the_host_asked(web: Web, server: Server) -> None:
    server.close()
    async with web.using(protected(web, proxy=server.url)) as session:
        with pytest.raises(web.lib.ConnectError):
            await session.get("http://service.test/")
    assert web.counted("service.test") == {"failures": 1}


async def test_mounts_and_main_share_a_circuit(web: Web, server: Server) -> None:
    """One host by two ways: what one way learns, the other knows."""
    mounts = {f"http://127.0.0.1:{server.port}": web.http()}
    given = {"key": lambda _: "one"}
    client = protected(web, given={**given, "registry": web.registry}, mounts=mounts)
    async with web.using(client) as session:
        await session.get(server.url)
        await session.get(f"http://localhost:{server.port}")
    assert web.counted("one") == {"successes": 2}


async def test_without_a_registry_mounts_share_one_all_the_same(web: Web) -> None:
    client = web.flux.protect(web.client_class(verify=CONTEXT, mounts={"http://": web.mock()}))
    async with web.using(client):
        registries = {id(each.registry) for each in (client._transport, *client._mounts.values())}
        assert len(registries) == 1


# -- closing, sharing, bad use


async def test_the_client_closes_everything(web: Web, server: Server) -> None:
    client = protected(web, mounts={"http://localhost": web.http()})
    async with web.using(client) as session:
        await session.get(server.url)
        await session.get(f"http://localhost:{server.port}")
    assert client.is_closed
    with pytest.raises(RuntimeError, match="closed"):
        await session.get(server.url)


@pytest.mark.parametrize("flavour", ASYNCIO, ids=str, indirect=True)
async def test_sync_and_async_clients_share_a_registry(web: Web, server: Server) -> None:
    sync = Web(Flavour(web.flavour.library, "sync"))
    one = protected(web)
    other = sync.flux.protect(sync.client_class(verify=CONTEXT), registry=web.registry)
    async with web.using(one) as session, sync.using(other) as sync_session:
        await session.get(server.url)
        await sync_session.get(server.url)
    assert web.counted(server.key) == {"successes": 2}


@pytest.mark.parametrize("junk", [None, 42, "client", object()])
def test_what_is_no_client_is_refused(web: Web, junk: object) -> None:
    with pytest.raises(TypeError, match=r"(?i)client"):
        web.flux.protect(junk)


async def test_a_transport_in_place_of_a_client_is_refused(web: Web) -> None:
    with pytest.raises(TypeError, match="CircuitBreakerTransport"):
        web.flux.protect(web.mock())


async def test_a_client_of_the_other_library_is_refused(web: Web) -> None:
    pytest.importorskip("httpx2", reason="one row of the matrix goes without")
    twin = {"httpx": "httpx2", "httpx2": "httpx"}[web.flavour.library]
    other = Web(Flavour(twin, web.flavour.style))
    module = {"httpx": r"fluxgate_httpx\b", "httpx2": r"fluxgate_httpx\.httpx2"}[twin]
    async with other.client(other.mock()) as session:
        with pytest.raises(TypeError, match=module):
            web.flux.protect(session.client)


async def test_wrong_options_leave_the_client_alone(web: Web) -> None:
    async with web.client(web.mock()) as session:
        before = session.client._transport
        with pytest.raises(TypeError):
            web.flux.protect(session.client, registry=web.registry, circuits=lambda _: None)
        with pytest.raises(TypeError):
            web.flux.protect(session.client, http2=True)
        assert session.client._transport is before


async def test_its_circuits_are_in_reach(web: Web, server: Server) -> None:
    client = web.flux.protect(web.client_class(verify=CONTEXT))
    registry = web.flux.registry_of(client)
    async with web.using(client) as session:
        await session.get(server.url)
    assert list(registry) == [server.key]
    async with web.client(web.guard(web.mock())) as made:
        assert web.flux.registry_of(made.client) is web.registry


async def test_whether_a_host_is_available(web: Web, server: Server) -> None:
    client = web.flux.protect(web.client_class(verify=CONTEXT))
    circuit = web.flux.registry_of(client)[by_host(server.url)]
    async with web.using(client) as session:
        assert circuit.available
        circuit.open_for(30)
        assert not web.flux.registry_of(client)[by_host(f"{server.url}/path")].available
        with pytest.raises(CallNotPermittedError):
            await session.get(server.url)
        circuit.reset()
        await session.get(server.url)
        assert circuit.available


async def test_circuits_of_no_client(web: Web) -> None:
    async with web.client(web.mock()) as session:
        with pytest.raises(TypeError, match=r"not protected: use protect\(client\)"):
            web.flux.registry_of(session.client)
    with pytest.raises(TypeError, match=r"registry_of .* takes an httpx2?\.Client"):
        web.flux.registry_of(42)
