"""Bodies: an admission settles when the body has arrived, since much goes wrong after a 200."""

from __future__ import annotations

import asyncio
import gc
import ssl
from typing import Any

import anyio
import pytest

from fluxgate import State, trippers

from .drivers import Flavour, Reader, Session, Web
from .servers import (
    HTTP2Server,
    Server,
    answer,
    chunked,
    chunked_short,
    event_stream,
    gzipped,
    reset_body,
    stalled,
    truncated,
    upgrade,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.anyio,
    # Closing a response early on trio, httpx and httpcore leave their generators, and with them
    # what these go through, to the collector: with us as without us.
    pytest.mark.filterwarnings(
        r"ignore:Async generator '(httpx|httpcore|fluxgate_httpx).* was garbage:ResourceWarning"
    ),
]

ASYNC = [Flavour(lib, style) for lib in ("httpx", "httpx2") for style in ("asyncio", "trio")]
TEXT = "räksmörgås\nsecond line\n" * 300


# -- bodies that fail though the status was 200


@pytest.mark.parametrize("behaviour", [truncated(), chunked_short], ids=["length", "chunked"])
async def test_a_truncated_body_fails(web: Web, server: Server, behaviour: Any) -> None:
    async with web.client() as session:
        with pytest.raises(web.lib.RemoteProtocolError):
            await session.get(server.on(behaviour))
    assert web.counted(server.key) == {"failures": 1}


async def test_truncated_bodies_open_the_circuit(web: Web, server: Server) -> None:
    url = server.on(truncated())
    async with web.client() as session:
        for _ in range(2):
            async with session.stream(url) as response:
                assert response.status_code == 200
                with pytest.raises(web.lib.RemoteProtocolError):
                    await web.read(response)
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(url)
    assert len(server.asked) == 2


async def test_a_stalled_body_fails(web: Web, server: Server) -> None:
    async with web.client() as session:
        with pytest.raises(web.lib.ReadTimeout):
            await session.get(server.on(stalled()), timeout=web.lib.Timeout(5, read=0.05))
    assert web.counted(server.key) == {"failures": 1}


async def test_a_reset_body_fails(web: Web, server: Server) -> None:
    async with web.client() as session, session.stream(server.on(reset_body)) as response:
        assert response.status_code == 200
        reader = web.reader(response)
        assert await reader.next() == b"hello"
        assert web.counted(server.key) == {}
        server.go_on()
        with pytest.raises(web.lib.ReadError):
            await reader.next()
    assert web.counted(server.key) == {"failures": 1}


async def test_a_probe_with_a_broken_body_opens_again(web: Web, server: Server) -> None:
    web.half_open(server.key)
    async with web.client() as session:
        with pytest.raises(web.lib.RemoteProtocolError):
            await session.get(server.on(truncated()))
    assert web.state(server.key) is State.OPEN


async def test_a_failing_status_fails_once_however_its_body_ends(web: Web, server: Server) -> None:
    url = server.on(answer(500, {"Content-Length": "10", "Connection": "close"}, b"oops"))
    async with web.client() as session, session.stream(url) as response:
        assert response.status_code == 500
    assert web.counted(server.key) == {"failures": 1}


# -- bodies that arrive


async def test_a_body_that_arrives_succeeds_at_its_end(web: Web, server: Server) -> None:
    async with web.client() as session, session.stream(server.on(stalled())) as response:
        reader = web.reader(response)
        assert await reader.next() == b"hello"
        assert web.counted(server.key) == {}
        server.go_on()
        assert await reader.rest() == [b"world"]
        assert web.counted(server.key) == {"successes": 1}
    assert web.counted(server.key) == {"successes": 1}


async def test_a_probe_closes_the_circuit_at_the_end_of_its_body(web: Web, server: Server) -> None:
    web.half_open(server.key)
    async with web.client() as session, session.stream(server.on(stalled())) as response:
        reader = web.reader(response)
        await reader.next()
        assert web.state(server.key) is State.HALF_OPEN
        assert web.info(server.key).probes == 1
        with pytest.raises(web.flux.CircuitOpenError) as caught:
            await session.get(server.url)  # its slot is taken
        assert caught.value.state is State.HALF_OPEN
        server.go_on()
        await reader.rest()
        assert web.state(server.key) is State.CLOSED


@pytest.mark.parametrize("how", ["raw", "bytes", "text", "lines"])
async def test_every_way_to_read_settles(web: Web, server: Server, how: str) -> None:
    async with web.client() as session, session.stream(server.on(gzipped(TEXT))) as response:
        pieces = await web.reader(response, how).rest()
    assert pieces
    assert web.counted(server.key) == {"successes": 1}


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 1_000_000], ids=["empty", "short", "long"])
async def test_bodies_of_any_length_settle(web: Web, server: Server, body: bytes) -> None:
    async with web.client() as session:
        assert (await session.get(server.on(answer(200, None, body)))).content == body
    assert web.counted(server.key) == {"successes": 1}


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_settle(web: Web, server: Server, status: int) -> None:
    url = server.on(answer(status, {"Content-Length": "0"}, b""))
    async with web.client() as session:
        assert (await session.get(url)).content == b""
    assert web.counted(server.key) == {"successes": 1}


async def test_a_body_that_was_there_from_the_start_settles(web: Web) -> None:
    """A client never touches the stream of such a response: mocks and caches make them."""
    content = web.lib.Response(200, content=b"hello")
    async with web.client(web.guard(web.mock(lambda _: content))) as session:
        assert (await session.get("http://a.test")).text == "hello"
        assert web.counted("a.test") == {"successes": 1}
        async with session.stream("http://a.test") as response:
            assert await web.read(response) == b"hello"
    assert web.counted("a.test") == {"successes": 2}


def body_of(web: Web, *pieces: bytes, error: BaseException | None = None) -> Any:
    """Content that comes piece by piece, and may break."""

    def pour() -> Any:
        yield from pieces
        if error is not None:
            raise error

    async def apour() -> Any:
        for piece in pieces:
            yield piece
        if error is not None:
            raise error

    return apour() if web.asynchronous else pour()


async def test_a_stream_of_anyones_settles(web: Web) -> None:
    mock = web.mock(lambda _: web.lib.Response(200, content=body_of(web, b"a", b"b")))
    async with web.client(web.guard(mock)) as session:
        assert (await session.get("http://a.test")).content == b"ab"
    assert web.counted("a.test") == {"successes": 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [("ReadError", "failures"), ("LocalProtocolError", "ignored"), (None, "ignored")],
)
async def test_what_breaks_a_body_is_judged_as_what_breaks_a_call(
    web: Web, error: str | None, outcome: str
) -> None:
    raised = getattr(web.lib, error)("x") if error else ZeroDivisionError("x")
    mock = web.mock(lambda _: web.lib.Response(200, content=body_of(web, b"a", error=raised)))
    async with web.client(web.guard(mock)) as session:
        with pytest.raises(type(raised)) as caught:
            await session.get("http://a.test")
    assert caught.value is raised
    assert web.counted("a.test") == {outcome: 1}


async def test_an_error_in_what_reads_the_body_says_nothing_bad(web: Web, server: Server) -> None:
    """The host did its part; the caller's own error closes the response early."""
    async with web.client() as session:

        async def use() -> None:
            async with session.stream(server.on(chunked(b"a", b"b"))) as response:
                await web.reader(response).next()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await use()
    assert web.counted(server.key) == {"successes": 1}


async def test_a_body_that_cannot_be_decoded_is_an_answer(web: Web, server: Server) -> None:
    url = server.on(answer(200, {"Content-Encoding": "gzip"}, b"not gzip at all"))
    async with web.client() as session:
        with pytest.raises(web.lib.DecodingError):
            await session.get(url)
    assert "failures" not in web.counted(server.key)
    assert web.info(server.key).totals.settled == 1


# -- bodies that nobody reads to the end


async def test_closed_early_is_a_success_of_a_normal_call(web: Web, server: Server) -> None:
    async with web.client() as session, session.stream(server.on(stalled())) as response:
        await web.reader(response).next()
    assert web.counted(server.key) == {"successes": 1}


async def test_closed_unread_is_a_success_of_a_normal_call(web: Web, server: Server) -> None:
    async with web.client() as session, session.stream(server.on(stalled())) as response:
        assert response.status_code == 200
    assert web.counted(server.key) == {"successes": 1}


@pytest.mark.parametrize("read", [True, False], ids=["half read", "unread"])
async def test_closed_early_says_nothing_as_a_probe(web: Web, server: Server, read: bool) -> None:
    web.half_open(server.key)
    async with web.client() as session, session.stream(server.on(stalled())) as response:
        if read:
            await web.reader(response).next()
    assert web.counted(server.key) == {"ignored": 1}
    assert web.state(server.key) is State.HALF_OPEN
    assert web.info(server.key).probes == 0


async def test_closing_twice_counts_once(web: Web, server: Server) -> None:
    async with web.client() as session:
        response = await session.open(server.url)
        await web.read(response)
        await web.close(response)
        await web.close(response)
    assert web.counted(server.key) == {"successes": 1}


async def collect(web: Web) -> None:
    """Let the collector, and then the loop's own finalisers, do their work."""
    gc.collect()
    if web.asynchronous:
        await anyio.wait_all_tasks_blocked()
        gc.collect()


@pytest.mark.parametrize("probe", [False, True], ids=["call", "probe"])
async def test_a_response_that_nobody_closes_gives_its_slot_back(
    web: Web, server: Server, probe: bool
) -> None:
    if probe:
        web.half_open(server.key)
    async with web.client() as session:
        response = await session.open(server.on(stalled()))
        assert web.info(server.key).probes == probe
        del response
        await collect(web)
        assert web.counted(server.key) == {"ignored": 1}
        assert web.info(server.key).probes == 0


async def test_a_probe_that_hangs_gives_its_slot_back_at_its_deadline(
    web: Web, server: Server
) -> None:
    web.half_open(server.key)
    async with web.client() as session:
        async with session.stream(server.on(stalled())):
            with pytest.raises(web.flux.CircuitOpenError):
                await session.get(server.url)
            web.clock.advance(60)
            assert (await session.get(server.url)).text == "hello"
        assert web.state(server.key) is State.CLOSED
        assert web.counted(server.key)["successes"] == 1


# -- event streams


async def test_an_event_stream_that_breaks(web: Web, server: Server) -> None:
    async with web.client() as session, session.stream(server.on(event_stream)) as response:
        reader = web.reader(response, "lines")
        assert await reader.next() == "data: 1"
        assert web.counted(server.key) == {}
        server.go_on()
        with pytest.raises(web.lib.RemoteProtocolError):
            await reader.rest()
        assert web.counted(server.key) == {"failures": 1}
    assert web.counted(server.key) == {"failures": 1}


async def test_an_event_stream_that_stalls(web: Web, server: Server) -> None:
    """A hanging language model: headers, a first event, and then nothing more."""
    url = server.on(event_stream)
    async with web.client(timeout=web.lib.Timeout(5, read=0.05)) as session:
        for _ in range(2):
            with pytest.raises(web.lib.ReadTimeout):
                await session.get(url)
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(url)
    assert web.counted(server.key) == {"failures": 2, "rejected": 1}


async def test_an_event_stream_that_ends(web: Web, server: Server) -> None:
    url = server.on(answer(200, {"Content-Type": "Text/Event-Stream"}, b"data: 1\n\n"))
    async with web.client() as session:
        await session.get(url)
    assert web.counted(server.key) == {"successes": 1}


@pytest.mark.parametrize("probe", [False, True], ids=["call", "probe"])
async def test_an_event_stream_is_left(web: Web, server: Server, probe: bool) -> None:
    """It has no end, so its readers leave: an event is what shows that the host works."""
    if probe:
        web.half_open(server.key)
    async with web.client() as session, session.stream(server.on(event_stream)) as response:
        assert await web.reader(response, "lines").next() == "data: 1"
    assert web.counted(server.key) == {"successes": 1}
    assert web.state(server.key) is State.CLOSED


async def test_no_event_is_no_proof(web: Web, server: Server) -> None:
    web.half_open(server.key)
    async with web.client() as session, session.stream(server.on(event_stream)):
        pass
    assert web.counted(server.key) == {"ignored": 1}
    assert web.state(server.key) is State.HALF_OPEN


# -- bodies that are longer than a probe may take

EVENTS = {"Content-Type": "text/event-stream"}
LONG = pytest.mark.parametrize("headers", [{}, EVENTS], ids=["body", "events"])


@LONG
async def test_a_long_body_is_a_proof(web: Web, server: Server, headers: dict[str, str]) -> None:
    """It is still receiving after half of the 60 seconds that a probe may take: that is enough."""
    web.half_open(server.key)
    async with web.client() as session:
        async with session.stream(server.on(stalled(headers))) as response:
            reader = web.reader(response)
            web.clock.advance(29)
            assert await reader.next() == b"hello"
            assert web.counted(server.key) == {}
            assert web.info(server.key).probes == 1
            web.clock.advance(1)
            server.go_on()
            assert await reader.next() == b"world"
            assert web.counted(server.key) == {"successes": 1}
            assert web.state(server.key) is State.CLOSED
            web.clock.advance(3600)
        assert (await session.get(server.url)).text == "hello"
    assert web.counted(server.key) == {"successes": 2}


@LONG
async def test_a_stalled_body_is_no_proof(
    web: Web, server: Server, headers: dict[str, str]
) -> None:
    web.half_open(server.key)
    timeout = web.lib.Timeout(5, read=0.05)
    async with web.client() as session:
        with pytest.raises(web.lib.ReadTimeout):
            await session.get(server.on(stalled(headers)), timeout=timeout)
    assert web.counted(server.key) == {"failures": 1}
    assert web.state(server.key) is State.OPEN


# -- what settles at the headers


async def test_a_failing_event_stream_still_fails(web: Web, server: Server) -> None:
    url = server.on(answer(503, {"Content-Type": "text/event-stream"}))
    async with web.client() as session:
        await session.get(url)
    assert web.counted(server.key) == {"failures": 1}


async def test_an_upgrade_settles_at_its_headers(web: Web, server: Server) -> None:
    web.half_open(server.key)
    headers = {"Connection": "upgrade", "Upgrade": "echo"}
    async with (
        web.client() as session,
        session.stream(server.on(upgrade), headers=headers) as response,
    ):
        assert response.status_code == 101
        assert web.counted(server.key) == {"successes": 1}
        assert web.state(server.key) is State.CLOSED
        wire = response.extensions["network_stream"]
        await web.wait(wire.write(b"ping"))
        assert await web.wait(wire.read(4)) == b"ping"
        await web.close(wire)


async def test_settle_headers(web: Web, server: Server) -> None:
    async with web.client(web.guard(settle="headers")) as session:
        async with session.stream(server.on(stalled())):
            assert web.counted(server.key) == {"successes": 1}
        with pytest.raises(web.lib.RemoteProtocolError):
            await session.get(server.on(truncated()))
        async with session.stream(server.on(event_stream)):
            assert web.counted(server.key) == {"successes": 3}
        await session.get(server.on(answer(500)))
    assert web.counted(server.key) == {"successes": 3, "failures": 1}


def test_settle_is_one_of_two(web: Web) -> None:
    with pytest.raises((TypeError, ValueError), match="settle"):
        web.guard(web.mock(), settle="later")


# -- how long a call took


async def test_slow_is_time_to_headers(web: Web) -> None:
    """A large download is not a slow host."""
    registry = web.make_registry(tripper=trippers.MinRequests(1) & trippers.SlowRate(0.5, 2.0))

    def handler(_: Any) -> Any:
        web.clock.advance(1)
        return web.lib.Response(200, content=body_of(web, b"a", b"b"))

    async with (
        web.client(web.guard(web.mock(handler), registry=registry)) as session,
        session.stream("http://a.test") as response,
    ):
        web.clock.advance(100)
        await web.read(response)
    info = web.info("a.test", registry)
    assert info.totals.slow_counts.get(2.0, 0) == 0
    assert info.totals.duration == pytest.approx(1)


async def test_slow_headers_are_slow(web: Web) -> None:
    registry = web.make_registry(tripper=trippers.MinRequests(1) & trippers.SlowRate(0.5, 2.0))

    def handler(_: Any) -> Any:
        web.clock.advance(2)
        return web.lib.Response(200)

    async with web.client(web.guard(web.mock(handler), registry=registry)) as session:
        await session.get("http://a.test")
    assert web.info("a.test", registry).totals.slow_counts == {2.0: 1}
    assert web.info("a.test", registry).state is State.OPEN


# -- HTTP/2


async def test_http2(web: Web, http2: HTTP2Server, trusting: ssl.SSLContext) -> None:
    guard = web.guard(web.http(http2=True, verify=trusting))
    async with web.client(guard) as session:
        response = await session.get(http2.url + "/ok")
        assert response.http_version == "HTTP/2"
        assert response.text == "hello world"
        assert (await session.get(http2.url + "/status/503")).status_code == 503
        assert (await session.get(http2.url + "/status/404")).status_code == 404
    assert web.counted(http2.key) == {"successes": 2, "failures": 1}


async def test_http2_stream_reset(web: Web, http2: HTTP2Server, trusting: ssl.SSLContext) -> None:
    guard = web.guard(web.http(http2=True, verify=trusting))
    async with (
        web.client(guard) as session,
        session.stream(http2.url + "/reset") as response,
    ):
        assert response.status_code == 200
        reader = web.reader(response)
        assert await reader.next() == b"hello"
        http2.go_on()
        with pytest.raises(web.lib.RemoteProtocolError):
            await reader.rest()
    assert web.counted(http2.key) == {"failures": 1}


async def test_http2_stalls(web: Web, http2: HTTP2Server, trusting: ssl.SSLContext) -> None:
    guard = web.guard(web.http(http2=True, verify=trusting))
    async with web.client(guard) as session:
        with pytest.raises(web.lib.ReadTimeout):
            await session.get(http2.url + "/stalled", timeout=web.lib.Timeout(5, read=0.1))
        http2.go_on()
        assert (await session.get(http2.url + "/ok")).text == "hello world"
    assert web.counted(http2.key) == {"failures": 1, "successes": 1}


@pytest.mark.parametrize("path", ["/broken", "/broken/body"], ids=["headers", "body"])
async def test_http2_broken_by_the_server(
    web: Web, http2: HTTP2Server, trusting: ssl.SSLContext, path: str
) -> None:
    """httpx calls it a local error, or lets h2's own through: it is the server's all the same."""
    guard = web.guard(web.http(http2=True, verify=trusting))
    async with web.client(guard) as session:
        with pytest.raises(Exception, match=r"(?i)stream|protocol|frame"):
            await session.get(http2.url + path)
    assert web.counted(http2.key) == {"failures": 1}


async def test_http2_broken_by_the_caller(
    web: Web, http2: HTTP2Server, trusting: ssl.SSLContext
) -> None:
    guard = web.guard(web.http(http2=True, verify=trusting))
    async with web.client(guard) as session:
        with pytest.raises(web.lib.LocalProtocolError):
            await session.get(http2.url + "/ok", headers={"te": "gzip"})
    assert web.counted(http2.key) == {"ignored": 1}


async def test_http2_closed_early(web: Web, http2: HTTP2Server, trusting: ssl.SSLContext) -> None:
    guard = web.guard(web.http(http2=True, verify=trusting))
    async with web.client(guard) as session:
        async with session.stream(http2.url + "/stalled") as response:
            assert await web.reader(response).next() == b"hello"
        http2.go_on()
        assert (await session.get(http2.url + "/ok")).text == "hello world"
    assert web.counted(http2.key) == {"successes": 2}


# -- exactly as without us


async def observed(web: Web, session: Session, url: str, how: str, *args: Any) -> dict[str, Any]:
    """All that can be seen of a response while it is read so, and afterwards."""
    seen: dict[str, Any] = {}
    async with session.stream(url) as response:
        seen["type"] = type(response)
        seen["status"] = response.status_code, response.reason_phrase, response.http_version
        seen["headers"] = [pair for pair in response.headers.raw if pair[0].lower() != b"date"]
        seen["extensions"] = sorted(response.extensions.keys() - {"fluxgate"})
        seen["request"] = str(response.request.url), response.request.method
        seen["url"] = str(response.url)
        seen["before"] = response.is_closed, response.is_stream_consumed
        seen["downloaded before"] = response.num_bytes_downloaded
        with pytest.raises(RuntimeError) as early:
            _ = response.elapsed
        seen["elapsed before"] = str(early.value)
        with pytest.raises(web.lib.ResponseNotRead):
            _ = response.content
        reader: Reader = web.reader(response, how, *args)
        seen["pieces"] = await reader.rest()
        seen["downloaded"] = response.num_bytes_downloaded
        seen["after"] = response.is_closed, response.is_stream_consumed
        seen["elapsed"] = response.elapsed.total_seconds() > 0
        with pytest.raises(web.lib.StreamError) as again:
            await web.reader(response, "raw").next()
        seen["again"] = type(again.value), str(again.value)
    seen["encoding"] = response.encoding
    return seen


@pytest.mark.parametrize(
    ("how", "args"),
    [("raw", ()), ("raw", (7,)), ("bytes", ()), ("bytes", (100,)), ("text", ()), ("lines", ())],
    ids=str,
)
async def test_reading_is_exactly_as_without_us(
    web: Web, server: Server, how: str, args: tuple[int, ...]
) -> None:
    behaviour = gzipped(TEXT) if how != "lines" else chunked(b"a\nb", b"c\n", b"d\r", b"\ne")
    url = server.on(behaviour)
    async with web.client(web.http()) as bare, web.client() as ours:
        expected = await observed(web, bare, url, how, *args)
        assert await observed(web, ours, url, how, *args) == expected
    assert expected["pieces"]
    assert web.counted(server.key) == {"successes": 1}


async def test_read_responses_are_as_without_us(web: Web, server: Server) -> None:
    url = server.on(gzipped(TEXT))

    async def seen(transport: Any) -> dict[str, Any]:
        async with web.client(transport) as session:
            response = await session.get(url)
            first = response.content
            assert await web.read(response) is first
            return {
                "text": response.text,
                "downloaded": response.num_bytes_downloaded,
                "closed": response.is_closed,
                "elapsed": response.elapsed.total_seconds() > 0,
                "repr": repr(response),
                "pieces": await web.reader(response, "bytes", 1000).rest(),
                "extensions": sorted(response.extensions.keys() - {"fluxgate"}),
            }

    expected = await seen(web.http())
    assert await seen(web.guard()) == expected
    assert expected["text"] == TEXT


async def test_the_network_stream_is_within_reach(web: Web, server: Server) -> None:
    async with web.client() as session, session.stream(server.url) as response:
        wire = response.extensions["network_stream"]
        assert wire.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        await web.read(response)


async def test_connections_are_reused(web: Web, server: Server) -> None:
    async with web.client(web.guard(web.http(limits=web.lib.Limits(max_connections=1)))) as session:
        for _ in range(3):
            await session.get(server.url)
        async with session.stream(server.url) as response:
            await web.read(response)
    assert len(server._connections) == 1
    assert web.counted(server.key) == {"successes": 4}


async def test_hooks_and_auth_see_the_response(web: Web, server: Server) -> None:
    """Digest auth asks twice; hooks may read the body before the caller does."""
    seen: list[bytes] = []

    async def ahook(response: Any) -> None:
        seen.append(await response.aread())

    def hook(response: Any) -> None:
        seen.append(response.read())

    challenge = 'Digest realm="x", nonce="abc", qop="auth", algorithm=SHA-256'
    url = server.on(answer(401, {"WWW-Authenticate": challenge}, b"who are you?"))
    hooks = {"response": [ahook if web.asynchronous else hook]}
    async with web.client(event_hooks=hooks) as session:
        response = await session.get(url, auth=web.lib.DigestAuth("me", "secret"))
    assert response.status_code == 401
    assert seen == [b"who are you?", b"who are you?"]
    assert web.counted(server.key) == {"successes": 2}


async def test_uploads_pass_through(web: Web, server: Server) -> None:
    url = server.on(answer(201))
    async with web.client() as session:
        files = {"file": ("a.txt", b"x" * 100_000)}
        response = await session.request("POST", url, files=files, data={"a": "b"})
    assert response.status_code == 201
    assert len(server.asked[0].body) > 100_000


# -- cancellation in the middle of a body


@pytest.mark.parametrize("flavour", ASYNC, ids=str, indirect=True)
@pytest.mark.parametrize("probe", [False, True], ids=["call", "probe"])
async def test_cancelled_in_the_middle_of_a_body(web: Web, server: Server, probe: bool) -> None:
    if probe:
        web.half_open(server.key)
    async with web.client() as session:
        reading = anyio.Event()
        ended: list[BaseException] = []

        async def read() -> None:
            async with session.stream(server.on(stalled())) as response:
                reader = web.reader(response)
                await reader.next()
                reading.set()
                try:
                    await reader.next()
                except BaseException as error:
                    ended.append(error)
                    raise

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await reading.wait()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert [type(error) for error in ended] == [anyio.get_cancelled_exc_class()]
        assert web.counted(server.key) == {"ignored": 1}
        assert web.info(server.key).probes == 0
        assert web.state(server.key) is (State.HALF_OPEN if probe else State.CLOSED)
        server.go_on()
        assert (await session.get(server.url)).text == "hello"


@pytest.mark.parametrize("flavour", ASYNC[::2], ids=str, indirect=True)
async def test_asyncio_timeout_in_the_middle_of_a_body(web: Web, server: Server) -> None:
    async with web.client() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.get(server.on(stalled()))
    assert web.counted(server.key) == {"ignored": 1}


@pytest.mark.parametrize("flavour", ASYNC, ids=str, indirect=True)
async def test_closing_a_reader_halfway(web: Web, server: Server) -> None:
    """`aclose()` of the generator, and then of the response, as `break` in a loop leaves them."""
    async with web.client() as session, session.stream(server.on(stalled())) as response:
        reader = web.reader(response, "bytes")
        await reader.next()
        await reader.close()
    assert web.counted(server.key) == {"successes": 1}
