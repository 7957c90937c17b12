"""What a caller gets from an open circuit."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from fluxgate import CallNotPermittedError, State
from fluxgate.testing import tripped

from .drivers import Web
from .servers import Server

pytestmark = pytest.mark.anyio

HOST = "example.org"
URL = f"http://{HOST}/path"


def unreachable(_: Any) -> Any:
    raise AssertionError("a refused request was sent")


async def refusal(web: Web, **request: Any) -> Any:
    async with web.client(web.guard(web.mock(unreachable))) as session:
        with pytest.raises(CallNotPermittedError) as caught:
            await session.request("POST", URL, **request)
    return caught.value


async def test_an_open_circuit_refuses_and_sends_nothing(web: Web, server: Server) -> None:
    tripped(web.registry[server.key])
    async with web.client() as session:
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.url)
        with pytest.raises(web.flux.CircuitOpenError):
            await session.open(server.url)
    assert server.asked == []
    assert web.counted(server.key)["rejected"] == 2


async def test_it_is_an_error_of_ours_and_of_the_librarys(web: Web) -> None:
    tripped(web.registry[HOST])
    error = await refusal(web)
    assert type(error) is web.flux.CircuitOpenError
    assert isinstance(error, CallNotPermittedError)
    assert isinstance(error, web.lib.TransportError)


@pytest.mark.parametrize(
    "name", ["NetworkError", "TimeoutException", "ProtocolError", "ProxyError", "HTTPStatusError"]
)
async def test_it_is_nothing_that_is_retried(web: Web, name: str) -> None:
    """Retrying a `ConnectError` is common; retrying a refusal is a busy loop."""
    tripped(web.registry[HOST])
    assert not isinstance(await refusal(web), getattr(web.lib, name))


async def test_except_transport_error_is_enough(web: Web) -> None:
    tripped(web.registry[HOST])
    async with web.client(web.guard(web.mock(unreachable))) as session:
        with pytest.raises(web.lib.TransportError) as caught:
            await session.get(URL)
    assert caught.value.request.method == "GET"


async def test_it_knows_its_request_circuit_and_reason(web: Web) -> None:
    tripped(web.registry[HOST])
    web.clock.advance(10)
    error = await refusal(web, content=b"body")
    assert error.request.method == "POST"
    assert str(error.request.url) == URL
    assert error.name == HOST
    assert error.state is State.OPEN
    assert error.retry_after == 20
    assert error.reason.clause == "FailureStreak(2)"


async def test_its_message_is_one_to_act_on(web: Web) -> None:
    tripped(web.registry[HOST])
    message = str(await refusal(web))
    assert HOST in message
    assert "open" in message
    assert "FailureStreak(2)" in message
    assert "30 s" in message


async def test_forced_open(web: Web) -> None:
    web.registry[HOST].force_open()
    error = await refusal(web)
    assert error.state is State.FORCED_OPEN
    assert error.retry_after is None


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
async def test_it_crosses_processes(web: Web, protocol: int) -> None:
    tripped(web.registry[HOST])
    error = await refusal(web, content=b"body")
    there = pickle.loads(pickle.dumps(error, protocol))
    assert type(there) is type(error)
    assert (there.name, there.state, there.retry_after) == (HOST, State.OPEN, 30)
    assert there.reason == error.reason
    assert str(there) == str(error)
    assert str(there.request.url) == URL
    assert str(copy.copy(error)) == str(error)


async def test_it_can_be_made_without_a_request(web: Web) -> None:
    """As tests of calling code do; the request is then missing in the way the library knows."""
    error = web.flux.CircuitOpenError(HOST, State.OPEN, 5.0)
    assert error.retry_after == 5
    with pytest.raises(RuntimeError, match="request"):
        _ = error.request
    assert pickle.loads(pickle.dumps(error)).name == HOST


async def test_the_secrets_of_a_url_are_not_in_the_message(web: Web) -> None:
    web.registry[HOST].force_open()
    async with web.client(web.guard(web.mock(unreachable))) as session:
        with pytest.raises(web.flux.CircuitOpenError) as caught:
            await session.get(f"http://me:secret@{HOST}/?token=secret")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value)


async def test_a_fallback_of_the_transport_may_take_over(web: Web) -> None:
    """`on_open` gets the refusal, and gives a response."""
    seen: list[Any] = []

    def on_open(error: Any) -> Any:
        seen.append(error)
        return web.lib.Response(503, headers={"x-from": "cache"}, content=b"stale")

    tripped(web.registry[HOST])
    async with web.client(web.guard(web.mock(unreachable), on_open=on_open)) as session:
        response = await session.get(URL)
        assert (response.status_code, response.content) == (503, b"stale")
        assert response.headers["x-from"] == "cache"
        assert str(response.request.url) == URL
    assert [type(error) for error in seen] == [web.flux.CircuitOpenError]
    assert str(seen[0].request.url) == URL
    assert web.counted(HOST) == {"failures": 2, "rejected": 1}


async def test_what_on_open_raises_arrives(web: Web) -> None:
    def on_open(error: Any) -> Any:
        raise LookupError("nothing cached") from error

    tripped(web.registry[HOST])
    async with web.client(web.guard(web.mock(unreachable), on_open=on_open)) as session:
        with pytest.raises(LookupError, match="nothing cached") as caught:
            await session.get(URL)
    assert isinstance(caught.value.__cause__, web.flux.CircuitOpenError)


async def test_on_open_is_not_asked_about_failures(web: Web) -> None:
    guard = web.guard(web.raising(web.lib.ConnectError("x")), on_open=unreachable)
    async with web.client(guard) as session:
        with pytest.raises(web.lib.ConnectError):
            await session.get(URL)
    assert web.counted(HOST) == {"failures": 1}


async def test_on_open_may_be_async_where_the_client_is(web: Web) -> None:
    def on_open(_: Any) -> Any:
        return web.lib.Response(200, text="sync")

    async def aon_open(_: Any) -> Any:
        return web.lib.Response(200, text="async")

    tripped(web.registry[HOST])
    expected = "async" if web.asynchronous else "sync"
    guard = web.guard(web.mock(unreachable), on_open=aon_open if web.asynchronous else on_open)
    async with web.client(guard) as session:
        assert (await session.get(URL)).text == expected
        async with session.stream(URL) as response:
            assert await web.read(response) == expected.encode()


async def test_requests_with_unread_bodies_are_refused_cleanly(web: Web) -> None:
    """The body of a refused upload is never drawn from its generator."""
    drawn: list[int] = []

    def pour() -> Any:
        drawn.append(1)
        yield b"x"

    async def apour() -> Any:
        drawn.append(1)
        yield b"x"

    tripped(web.registry[HOST])
    await refusal(web, content=apour() if web.asynchronous else pour())
    assert drawn == []
