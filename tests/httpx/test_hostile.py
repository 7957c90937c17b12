"""Input that wants to do harm: hosts without number, endless names, secrets in URLs."""

from __future__ import annotations

import gc
import os
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxgate import State

from .drivers import Flavour, Web

pytestmark = pytest.mark.anyio

SYNC = [Flavour(library, "sync") for library in ("httpx", "httpx2")]
EMPTY = "http://example.org/"
HOSTS = int(os.environ.get("FLUXGATE_HOSTS", "30000"))
"""How many to make the registry forget; the session `compositions` makes them 100,000."""


async def hits(web: Web, guard: Any, hosts: range) -> None:
    """One call to each of many hosts, past the client, which costs many times as much."""
    request, answered = web.lib.Request("GET", EMPTY), 0
    for number in hosts:
        request.extensions = {"fluxgate": {"key": f"host-{number}.example"}}
        response = await web.handle(guard, request)
        answered += response.status_code == 200
    assert answered == len(hosts)


async def memory_after(web: Web, guard: Any, hosts: range) -> int:
    """The bytes that so many hosts leave behind."""
    gc.collect()
    tracemalloc.start()
    try:
        await hits(web, guard, hosts)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "flavour", [Flavour("httpx", "sync"), Flavour("httpx2", "asyncio")], ids=str, indirect=True
)
async def test_hosts_without_number_take_bounded_memory(web: Web) -> None:
    """Traced at both ends alone, since tracing slows everything down. Each time as many hosts as
    there may be take the place of all that were there, so what they leave is the whole."""
    answer = web.lib.Response(200)
    wrapped = web.mock()
    wrapped.handle_request = lambda _: answer

    async def handle_async_request(_: Any) -> Any:
        return answer

    wrapped.handle_async_request = handle_async_request
    guard = web.guard_class(wrapped)
    first = await memory_after(web, guard, range(1_500))
    await hits(web, guard, range(1_500, HOSTS - 1_500))
    last = await memory_after(web, guard, range(HOSTS - 1_500, HOSTS))
    assert len(guard.registry) == 1024
    assert first < 1024 * 8 * 1024
    assert last < first * 1.2


@pytest.mark.parametrize("flavour", SYNC, ids=str, indirect=True)
async def test_hosts_in_urls_are_bounded_as_well(web: Web) -> None:
    guard = web.guard_class(web.mock(), max_hosts=10)
    async with web.client(guard) as session:
        for number in range(300):
            await session.get(f"http://{number}.example.org:{1024 + number}/")
    assert len(guard.registry) == 10


async def test_max_hosts_spares_what_is_open_or_set_by_hand(web: Web) -> None:
    def handler(request: Any) -> Any:
        return web.lib.Response(503 if request.url.host == "down.test" else 200)

    guard = web.guard_class(web.mock(handler), max_hosts=5)
    guard.registry["by-hand.test"].disable()
    async with web.client(guard) as session:
        for _ in range(10):
            await session.get("http://down.test")
        assert guard.registry["down.test"].state is State.OPEN
        for number in range(50):
            await session.get(f"http://{number}.test")
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get("http://down.test")
    assert guard.registry["by-hand.test"].state is State.DISABLED
    assert len(guard.registry) <= 5


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True])
def test_max_hosts_is_a_number_of_one_or_more(web: Web, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_hosts"):
        web.guard_class(web.mock(), max_hosts=value)


def test_max_hosts_and_a_registry_contradict_each_other(web: Web) -> None:
    with pytest.raises(TypeError, match="max_hosts"):
        web.guard(web.mock(), max_hosts=5)


async def test_host_names_of_ten_kilobytes(web: Web) -> None:
    """No such host exists, so the name must not fill memory, logs and metrics either."""
    guard = web.guard_class(web.mock())
    async with web.client(guard) as session:
        for tail in ("a", "b", "b"):
            await session.get(f"http://{'x' * 10_000}{tail}.example/")
    keys = list(guard.registry)
    assert len(keys) == 2  # told apart by their ends
    assert all(len(key) < 512 for key in keys)


async def test_a_refusal_of_a_long_name_has_a_short_message(web: Web) -> None:
    async with web.client(web.guard(web.mock())) as session:
        url = f"http://{'x' * 10_000}.example/"
        await session.get(url)
        (key,) = web.registry
        web.registry[key].force_open()
        with pytest.raises(web.flux.CircuitOpenError) as caught:
            await session.get(url)
    assert len(str(caught.value)) < 1024


async def test_many_labels(web: Web) -> None:
    guard = web.guard_class(web.mock())
    async with web.client(guard) as session:
        await session.get(f"http://{'a.' * 5_000}example/")
    (key,) = guard.registry
    assert len(key) < 512


FULL_WIDTH = "".join(chr(ord(letter) + 0xFEE0) for letter in "EXAMPLE") + ".org"


@pytest.mark.parametrize(
    "host",
    ["例え.テスト", "пример.рф", "xn--r8jz45g.xn--zckzah", "faß.de", FULL_WIDTH, "☃.net"],
)
async def test_unicode_hosts(web: Web, host: str) -> None:
    """By whatever name the library asks for it, that is the key; where it refuses, so do we."""
    try:
        expected = web.lib.URL(f"http://{host}/").raw_host.decode()
    except web.lib.InvalidURL:
        async with web.client(web.guard(web.mock())) as session:
            with pytest.raises(web.lib.InvalidURL):
                await session.get(f"http://{host}/")
        assert list(web.registry) == []
        return
    async with web.client(web.guard(web.mock())) as session:
        await session.get(f"http://{host}/")
    assert list(web.registry) == [expected]
    assert expected.isascii()


@pytest.mark.parametrize(
    "userinfo", ["me:secret", "secret", ":secret", "secret%40:x%2Fsecret", "a.test:secret"]
)
async def test_no_secret_reaches_a_key(web: Web, userinfo: str) -> None:
    for key in (web.flux.by_host, web.flux.by_origin):
        async with web.client(web.guard(web.mock(), key=key)) as session:
            await session.get(f"http://{userinfo}@example.org/")
    assert list(web.registry) == ["example.org", "http://example.org"]


@pytest.mark.parametrize("flavour", SYNC, ids=str, indirect=True)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=60), st.sampled_from(["http://", "https://", "", "//"]))
async def test_whatever_is_asked_for_the_library_answers_alone(
    web: Web, text: str, scheme: str
) -> None:
    """Any text as a URL: with us and without us, the same happens."""

    async def happens(transport: Any) -> object:
        async with web.client(transport) as session:
            try:
                return (await session.get(scheme + text)).status_code
            except Exception as error:
                return type(error), str(error)

    web.registry.clear()
    assert await happens(web.guard(web.mock())) == await happens(web.mock())
    assert all(key and len(key) < 512 for key in web.registry)


@pytest.mark.parametrize(
    "extension", ["billing", 42, {"kye": "billing"}, {"key": 42}, {"key": ""}, {"settle": "never"}]
)
async def test_an_extension_that_makes_no_sense_is_refused(web: Web, extension: Any) -> None:
    """A misspelt extension that did nothing would go unnoticed for ever."""
    async with web.client(web.guard(web.mock())) as session:
        with pytest.raises((TypeError, ValueError), match=r"fluxgate|key|settle"):
            await session.get(EMPTY, extensions={"fluxgate": extension})
    assert list(web.registry) == []


async def test_a_host_cannot_pose_as_another_by_its_headers(web: Web) -> None:
    async with web.client(web.guard(web.mock())) as session:
        await session.get(EMPTY, headers={"Host": "victim.test"})
    assert list(web.registry) == ["example.org"]
