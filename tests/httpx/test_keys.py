"""Which circuit a request belongs to."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxgate import State

from .drivers import Flavour, Web
from .servers import Server, answer, redirect

pytestmark = pytest.mark.anyio

MOCKED = [Flavour(library, "sync") for library in ("httpx", "httpx2")]


async def keys_of(web: Web, *urls: Any, **options: Any) -> list[str]:
    """Under which circuits requests for these URLs stand."""
    async with web.client(web.guard(web.mock(), **options)) as session:
        for url in urls:
            assert (await session.get(url)).status_code == 200
    return list(web.registry)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://example.org/path?query#fragment", "example.org"),
        ("http://EXAMPLE.org/", "example.org"),
        ("http://example.org./", "example.org"),
        ("http://EXAMPLE.org.:80/", "example.org"),
        ("http://example.org:80/", "example.org"),
        ("https://example.org:443/", "example.org"),
        ("http://example.org:8080/", "example.org:8080"),
        ("http://example.org.:8080/", "example.org:8080"),
        ("http://example.org:443/", "example.org:443"),
        ("https://example.org:80/", "example.org:80"),
        ("http://user:secret@example.org/", "example.org"),
        ("http://user%40home:se%3Acret@example.org:8080/", "example.org:8080"),
        ("https://bücher.example/", "xn--bcher-kva.example"),
        ("https://BÜCHER.example/", "xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("http://EXAMPLE%5Ax.org/", "example%5ax.org"),
        ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://[::1]/", "[::1]"),
        ("http://[2001:DB8::A]/", "[2001:db8::a]"),
    ],
)
async def test_a_key_is_the_host_and_the_port(web: Web, url: str, key: str) -> None:
    assert await keys_of(web, url) == [key]


async def test_one_host_by_many_names_has_one_circuit(web: Web) -> None:
    urls = ["http://example.org", "http://me@Example.ORG:80/x", "http://example.org./?y"]
    assert await keys_of(web, *urls) == ["example.org"]
    assert web.counted("example.org") == {"successes": 3}


async def test_ports_are_hosts_of_their_own(web: Web) -> None:
    """Two services behind two ports of one machine don't take each other down."""
    assert await keys_of(web, "http://localhost:8001", "http://localhost:8002") == [
        "localhost:8001",
        "localhost:8002",
    ]


LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=20)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join).filter(lambda h: not h[-1].isdigit())
USER = st.sampled_from(["", "user@", "user:secret@", "a%40b:c%3Ad@", ":@", "@"])


@pytest.mark.parametrize("flavour", MOCKED, ids=str, indirect=True)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(HOST, USER, st.booleans(), st.booleans(), st.booleans())
async def test_how_a_host_is_written_makes_no_difference(
    web: Web, host: str, user: str, upper: bool, dot: bool, port: bool
) -> None:
    written = (host.upper() if upper else host) + "." * dot + ":80" * port
    web.registry.clear()
    assert await keys_of(web, f"http://{user}{written}/", f"http://{host}/") == [host]
    assert web.counted(host) == {"successes": 2}


@pytest.mark.parametrize("flavour", MOCKED, ids=str, indirect=True)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(HOST, st.integers(1, 65535), st.sampled_from(["http", "https"]))
async def test_every_port_but_the_default_is_in_the_key(
    web: Web, host: str, port: int, scheme: str
) -> None:
    web.registry.clear()
    default = {"http": 80, "https": 443}[scheme]
    expected = host if port == default else f"{host}:{port}"
    assert await keys_of(web, f"{scheme}://{host}:{port}/") == [expected]


@pytest.mark.parametrize(
    "url", ["HTTP://h.example:80/", "HTTPS://h.example:443/", "Https://H.example.:443"]
)
async def test_schemes_in_upper_case(web: Web, url: str) -> None:
    assert web.flux.by_host(web.lib.URL(url)) == web.flux.by_host(url) == "h.example"
    assert web.flux.by_origin(web.lib.URL(url)) == web.flux.by_origin(url)
    assert web.flux.by_origin(url) == f"{url.partition(':')[0].lower()}://h.example"


async def test_by_origin_tells_schemes_apart(web: Web) -> None:
    urls = [
        "http://Example.org:80/",
        "https://u:p@example.org.:443/x",
        "https://example.org:8443",
        "http://[::1]:8080",
    ]
    assert await keys_of(web, *urls, key=web.flux.by_origin) == [
        "http://example.org",
        "https://example.org",
        "https://example.org:8443",
        "http://[::1]:8080",
    ]


async def test_by_host_is_the_default_and_has_a_name(web: Web) -> None:
    assert await keys_of(web, "https://u@Example.org.:443/", key=web.flux.by_host) == [
        "example.org"
    ]


async def test_a_callable_gives_the_key(web: Web) -> None:
    """It is given the URL."""

    def by_tenant(url: Any) -> str:
        assert isinstance(url, web.lib.URL)
        tenant: str = url.path.split("/")[1]
        return tenant

    urls = ["http://example.org/a", "http://example.com/a/deep", "http://example.org/b"]
    assert await keys_of(web, *urls, key=by_tenant) == ["a", "b"]
    assert web.counted("a") == {"successes": 2}
    assert web.counted("b") == {"successes": 1}


async def test_a_key_of_none_means_unprotected(web: Web) -> None:
    transport = web.guard(web.raising(web.lib.ConnectError("down")), key=lambda _: None)
    async with web.client(transport) as session:
        for _ in range(5):
            with pytest.raises(web.lib.ConnectError, match="down"):
                await session.get("http://example.org")
    assert list(web.registry) == []


async def test_an_error_in_the_key_function_is_not_swallowed(web: Web) -> None:
    def broken(_: Any) -> str:
        raise ZeroDivisionError("key")

    async with web.client(web.guard(web.mock(), key=broken)) as session:
        with pytest.raises(ZeroDivisionError, match="key"):
            await session.get("http://example.org")
    assert list(web.registry) == []


async def test_a_request_can_name_its_key(web: Web) -> None:
    async with web.client(web.guard(web.mock())) as session:
        response = await session.get(
            "http://example.org", extensions={"fluxgate": {"key": "billing"}}
        )
        assert response.extensions["fluxgate"]["key"] == "billing"
        await session.get("http://example.org")
    assert web.counted("billing") == {"successes": 1}
    assert web.counted("example.org") == {"successes": 1}


async def test_a_request_can_opt_out(web: Web) -> None:
    async with web.client(web.guard(web.mock())) as session:
        extensions = {"fluxgate": {"key": None}}
        assert (await session.get("http://a.test", extensions=extensions)).status_code == 200
    assert list(web.registry) == []


async def test_the_response_says_which_circuit_it_went_through(web: Web) -> None:
    async with web.client(web.guard(web.mock())) as session:
        response = await session.get("http://user:secret@Example.org:8080/")
    assert response.extensions["fluxgate"]["key"] == "example.org:8080"
    assert "secret" not in repr(response.extensions["fluxgate"])


async def test_each_hop_of_a_redirect_is_its_own_host(
    web: Web, servers: Callable[..., Server]
) -> None:
    first, second = servers(), servers()
    start = first.on(redirect(second.on(answer(500))))
    async with web.client(follow_redirects=True) as session:
        response = await session.get(start)
    assert response.status_code == 500
    assert [hop.status_code for hop in response.history] == [302]
    assert web.counted(first.key) == {"successes": 1}
    assert web.counted(second.key) == {"failures": 1}


async def test_a_redirect_into_an_open_circuit_is_refused_there(
    web: Web, servers: Callable[..., Server]
) -> None:
    first, second = servers(), servers()
    start = first.on(redirect(second.url + "/deep"))
    web.registry[second.key].force_open()
    async with web.client(follow_redirects=True) as session:
        with pytest.raises(web.flux.CircuitOpenError) as caught:
            await session.get(start)
    assert caught.value.name == second.key
    assert str(caught.value.request.url) == second.url + "/deep"
    assert web.counted(first.key) == {"successes": 1}
    assert second.asked == []


async def test_two_names_of_one_address_are_two_hosts(web: Web, server: Server) -> None:
    other = f"http://localhost:{server.port}/"
    async with web.client(follow_redirects=True) as session:
        response = await session.get(server.on(redirect(other)))
    assert str(response.url) == other
    assert web.counted(server.key) == {"successes": 1}
    assert web.counted(f"localhost:{server.port}") == {"successes": 1}


async def test_a_redirect_to_the_same_host_stays_on_its_circuit(web: Web, server: Server) -> None:
    async with web.client(follow_redirects=True) as session:
        assert (await session.get(server.on(redirect("/elsewhere")))).text == "hello"
    assert web.counted(server.key) == {"successes": 2}
    assert len(web.registry) == 1


@pytest.mark.parametrize("url", ["/relative", "http:///nowhere", "mailto:me", "no-scheme.test/x"])
async def test_without_a_host_the_library_complains_itself(web: Web, url: str) -> None:
    async def complaint(transport: Any) -> BaseException:
        async with web.client(transport) as session:
            with pytest.raises((web.lib.HTTPError, web.lib.InvalidURL)) as caught:
                await session.get(url)
        return caught.value

    theirs, ours = await complaint(web.http()), await complaint(web.guard())
    assert type(ours) is type(theirs)
    assert str(ours) == str(theirs)
    assert list(web.registry) == []


async def test_a_reset_circuit_takes_calls_by_its_key_again(web: Web) -> None:
    async with web.client(web.guard(web.mock())) as session:
        web.registry["example.org"].force_open()
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get("http://EXAMPLE.org.:80")
        web.registry["example.org"].reset()
        assert (await session.get("http://example.org")).status_code == 200
    assert web.state("example.org") is State.CLOSED
