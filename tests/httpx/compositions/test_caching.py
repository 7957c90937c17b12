"""hishel: the cache outside the circuit, so that what is cached needs no permission."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hishel
import pytest

from ..drivers import Flavour, Web
from ..servers import Server, answer, truncated

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
def cached(web: Web, tmp_path: Path) -> Callable[[Any], Any]:
    """Puts a cache around a transport."""

    def make(transport: Any) -> Any:
        module = importlib.import_module(f"hishel.{web.flavour.library}")
        path = tmp_path / "cache.db"
        if web.asynchronous:
            storage = hishel.AsyncSqliteStorage(database_path=path)
            return module.AsyncCacheTransport(transport, storage=storage)
        return module.CacheTransport(transport, storage=hishel.SqliteStorage(database_path=path))

    return make


async def test_what_is_cached_is_served_while_the_circuit_is_open(
    web: Web, server: Server, cached: Callable[[Any], Any]
) -> None:
    url = server.on(answer(200, {"Cache-Control": "max-age=3600"}))
    async with web.client(cached(web.guard())) as session:
        assert (await session.get(url)).text == "hello"
        web.registry[server.key].force_open()
        assert (await session.get(url)).text == "hello"
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.url + "/not-cached")
    assert len(server.asked) == 1
    assert web.counted(server.key) == {"successes": 1, "rejected": 1}


async def test_bodies_that_are_stored_settle(
    web: Web, server: Server, cached: Callable[[Any], Any]
) -> None:
    url = server.on(answer(200, {"Cache-Control": "max-age=3600"}, b"x" * 200_000))
    async with web.client(cached(web.guard())) as session, session.stream(url) as response:
        assert len(await web.read(response)) == 200_000
    assert web.counted(server.key) == {"successes": 1}


async def test_bodies_that_break_while_they_are_stored_fail(
    web: Web, server: Server, cached: Callable[[Any], Any]
) -> None:
    async with web.client(cached(web.guard())) as session:
        with pytest.raises(web.lib.RemoteProtocolError):
            await session.get(server.on(truncated({"Cache-Control": "max-age=3600"})))
    assert web.counted(server.key) == {"failures": 1}


async def test_failures_pass_through(
    web: Web, server: Server, cached: Callable[[Any], Any]
) -> None:
    async with web.client(cached(web.guard())) as session:
        for _ in range(2):
            assert (await session.get(server.on(answer(503)))).status_code == 503
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.url)
    assert web.counted(server.key) == {"failures": 2, "rejected": 1}


async def test_circuit_outside_the_cache(
    web: Web, server: Server, cached: Callable[[Any], Any]
) -> None:
    """The other order works as well: an answer from the cache is then a success of the host."""
    url = server.on(answer(200, {"Cache-Control": "max-age=3600"}))
    async with web.client(web.guard(cached(web.http()))) as session:
        for _ in range(3):
            response = await session.get(url)
            assert response.text == "hello"
            assert "caching" in response.extensions
    assert len(server.asked) == 1
    assert web.counted(server.key) == {"successes": 3}
