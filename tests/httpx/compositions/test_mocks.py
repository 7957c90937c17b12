"""respx and pytest-httpx, used as their users do: a protected client needs no other tests."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import respx
from pytest_httpx import HTTPXMock, IteratorStream

from fluxgate import State

from ..drivers import STYLES, Flavour, Web

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "flavour", [Flavour("httpx", style) for style in STYLES], ids=str, indirect=True
    ),
]

HOST = "example.org"
URL = f"https://{HOST}/path"


def protected(web: Web, protect: bool) -> Any:
    if protect:
        return web.flux.protect(web.client_class(), registry=web.registry)
    return web.client_class(transport=web.guard(web.http()))


both = pytest.mark.parametrize("protect", [True, False], ids=["protect", "transport"])


@both
async def test_respx_answers(web: Web, respx_mock: Any, protect: bool) -> None:
    route = respx_mock.get(URL).respond(json={"a": 1})
    async with web.using(protected(web, protect)) as session:
        assert (await session.get(URL)).json() == {"a": 1}
    assert route.call_count == 1
    assert web.counted(HOST) == {"successes": 1}


@both
async def test_respx_fails(web: Web, respx_mock: Any, protect: bool) -> None:
    route = respx_mock.get(URL)
    route.side_effect = [httpx.ConnectError, httpx.Response(503), httpx.Response(200)]
    async with web.using(protected(web, protect)) as session:
        with pytest.raises(httpx.ConnectError):
            await session.get(URL)
        assert (await session.get(URL)).status_code == 503
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(URL)
        web.clock.advance(30)
        assert (await session.get(URL)).status_code == 200
    assert route.call_count == 3
    assert web.state(HOST) is State.CLOSED


async def test_respx_as_a_transport(web: Web) -> None:
    router = respx.Router()
    router.get(URL).respond(500)
    handler = router.async_handler if web.asynchronous else router.handler
    async with web.client(web.guard(httpx.MockTransport(handler))) as session:
        assert (await session.get(URL)).status_code == 500
    assert web.counted(HOST) == {"failures": 1}


@both
async def test_pytest_httpx_answers(web: Web, httpx_mock: HTTPXMock, protect: bool) -> None:
    httpx_mock.add_response(url=URL, json={"a": 1})
    async with web.using(protected(web, protect)) as session:
        assert (await session.get(URL)).json() == {"a": 1}
    assert len(httpx_mock.get_requests()) == 1
    assert web.counted(HOST) == {"successes": 1}


@both
async def test_pytest_httpx_fails(web: Web, httpx_mock: HTTPXMock, protect: bool) -> None:
    httpx_mock.add_exception(httpx.ReadTimeout("slow"), url=URL)
    httpx_mock.add_response(url=URL, status_code=500)
    async with web.using(protected(web, protect)) as session:
        with pytest.raises(httpx.ReadTimeout):
            await session.get(URL)
        assert (await session.get(URL)).status_code == 500
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(URL)
    assert len(httpx_mock.get_requests()) == 2


async def test_pytest_httpx_streams(web: Web, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(url=URL, stream=IteratorStream([b"one", b"two"]))
    async with web.using(protected(web, True)) as session, session.stream(URL) as response:
        assert web.counted(HOST) == {}
        assert await web.reader(response).rest() == [b"one", b"two"]
    assert web.counted(HOST) == {"successes": 1}


async def test_pytest_httpx_callbacks_see_the_request_unchanged(
    web: Web, httpx_mock: HTTPXMock
) -> None:
    seen: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, str(request.url), request.read()))
        return httpx.Response(201)

    httpx_mock.add_callback(answer)
    async with web.using(protected(web, True)) as session:
        assert (await session.request("PUT", URL, content=b"body")).status_code == 201
    assert seen == [("PUT", URL, b"body")]
