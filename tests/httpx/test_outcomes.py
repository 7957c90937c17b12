"""What counts as a failure, what as a success, and what says nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from fluxgate import State

from .drivers import Flavour, Web
from .servers import Server, answer, gibberish, hang_up, reset_at_once, silent, stalled, truncated

pytestmark = pytest.mark.anyio

HOST = "example.org"
URL = f"http://{HOST}/"
ASYNC = [Flavour(lib, style) for lib in ("httpx", "httpx2") for style in ("asyncio", "trio")]


async def outcome_of_status(web: Web, status: int, **options: Any) -> dict[str, int]:
    transport = web.guard(web.mock(lambda _: web.lib.Response(status)), **options)
    async with web.client(transport) as session:
        assert (await session.get(URL)).status_code == status
    return web.counted(HOST)


async def outcome_of_error(web: Web, error: BaseException, **options: Any) -> dict[str, int]:
    async with web.client(web.guard(web.raising(error), **options)) as session:
        with pytest.raises(type(error)) as caught:
            await session.get(URL)
    assert caught.value is error
    return web.counted(HOST)


# -- statuses


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 507, 511, 520, 524, 529, 530, 599])
async def test_a_server_in_trouble_fails(web: Web, status: int) -> None:
    assert await outcome_of_status(web, status) == {"failures": 1}


@pytest.mark.parametrize(
    "status", [200, 201, 204, 301, 304, 400, 401, 403, 404, 409, 422, 451, 501, 505]
)
async def test_every_other_status_is_an_answer(web: Web, status: int) -> None:
    """A 404 is a healthy server saying no; what `raise_for_status` makes of it is not its fault."""
    assert await outcome_of_status(web, status) == {"successes": 1}


async def test_raise_for_status_changes_nothing(web: Web) -> None:
    transport = web.guard(web.mock(lambda _: web.lib.Response(404)))
    async with web.client(transport) as session:
        for _ in range(5):
            response = await session.get(URL)
            with pytest.raises(web.lib.HTTPStatusError):
                response.raise_for_status()
    assert web.counted(HOST) == {"successes": 5}


async def test_too_many_requests_says_nothing_by_default(web: Web) -> None:
    """It is about the caller, not about the server's health."""
    assert await outcome_of_status(web, 429) == {"ignored": 1}


async def test_too_many_requests_can_be_a_failure(web: Web) -> None:
    policy = web.flux.HTTPPolicy(statuses={429, 500})
    assert await outcome_of_status(web, 429, policy=policy) == {"failures": 1}


async def test_which_statuses_fail_can_be_chosen(web: Web) -> None:
    policy = web.flux.HTTPPolicy(statuses={404, 418})
    statuses = iter([404, 418, 500])
    transport = web.guard(web.mock(lambda _: web.lib.Response(next(statuses))), policy=policy)
    transport.registry[HOST].metrics_only()
    async with web.client(transport) as session:
        for _ in range(3):
            await session.get(URL)
    assert web.counted(HOST) == {"failures": 2, "successes": 1}


async def test_failing_statuses_open_the_circuit_and_one_success_closes_it(web: Web) -> None:
    statuses = [500, 503, 500, 200, 200]
    transport = web.guard(web.mock(lambda _: web.lib.Response(statuses.pop(0))))
    async with web.client(transport) as session:
        await session.get(URL)
        assert web.state(HOST) is State.CLOSED
        await session.get(URL)
        assert web.state(HOST) is State.OPEN
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(URL)
        web.clock.advance(30)
        assert (await session.get(URL)).status_code == 500
        assert web.state(HOST) is State.OPEN
        web.clock.advance(30)
        assert (await session.get(URL)).status_code == 200
        assert web.state(HOST) is State.CLOSED
    assert statuses == [200]


# -- exceptions


@pytest.mark.parametrize(
    "name",
    [
        "ConnectError",
        "ConnectTimeout",
        "ReadError",
        "ReadTimeout",
        "WriteError",
        "WriteTimeout",
        "CloseError",
        "ProxyError",
        "RemoteProtocolError",
    ],
)
async def test_a_transport_error_fails(web: Web, name: str) -> None:
    assert await outcome_of_error(web, getattr(web.lib, name)("x")) == {"failures": 1}


@pytest.mark.parametrize("name", ["LocalProtocolError", "UnsupportedProtocol"])
async def test_a_mistake_on_this_side_says_nothing(web: Web, name: str) -> None:
    assert await outcome_of_error(web, getattr(web.lib, name)("x")) == {"ignored": 1}


async def test_a_programming_error_says_nothing(web: Web) -> None:
    assert await outcome_of_error(web, ZeroDivisionError("ours")) == {"ignored": 1}


async def test_an_exhausted_pool_says_nothing(web: Web) -> None:
    """It may be another host that hangs: this one was not asked."""
    assert await outcome_of_error(web, web.lib.PoolTimeout("full")) == {"ignored": 1}


async def test_an_exhausted_pool_is_no_probe(web: Web) -> None:
    """The probe was never sent."""
    web.half_open(HOST)
    assert await outcome_of_error(web, web.lib.PoolTimeout("full")) == {"ignored": 1}
    assert web.state(HOST) is State.HALF_OPEN
    assert web.info(HOST).probes == 0


async def test_a_hanging_host_in_the_pool(
    web: Web, server: Server, servers: Callable[..., Server]
) -> None:
    """One host takes every connection; the circuit of another stays closed, and it is served."""
    hanging = servers()
    limits = web.lib.Limits(max_connections=1)
    timeout = web.lib.Timeout(5, pool=0.01)
    async with web.client(web.guard(web.http(limits=limits)), timeout=timeout) as session:
        async with session.stream(hanging.on(stalled())):
            for _ in range(5):
                with pytest.raises(web.lib.PoolTimeout):
                    await session.get(server.url)
        assert (await session.get(server.url)).text == "hello"
    assert web.counted(server.key) == {"ignored": 5, "successes": 1}
    assert web.state(server.key) is State.CLOSED


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS])
async def test_this_machine_is_at_fault(web: Web, code: int) -> None:
    """No file descriptor or port left: every host would fail the same."""
    error = web.lib.ConnectError("All connection attempts failed")
    error.__cause__ = OSError("All connection attempts failed")
    error.__cause__.__cause__ = ExceptionGroup("several", [OSError(code, os.strerror(code))])
    assert await outcome_of_error(web, error) == {"ignored": 1}


async def test_what_is_being_handled_is_not_blamed(web: Web) -> None:
    error = web.lib.ConnectError("refused")
    error.__context__ = OSError(errno.EMFILE, "Too many open files")
    assert await outcome_of_error(web, error) == {"failures": 1}


# -- bodies that the caller sends


def upload(web: Web, pieces: Any) -> Any:
    """What a caller hands over as `content=`."""

    async def asynchronous() -> AsyncIterator[bytes]:
        for piece in pieces():
            yield piece

    return asynchronous() if web.asynchronous else pieces()


@pytest.mark.parametrize("kind", [OSError, ConnectionError, TimeoutError, ValueError])
async def test_an_upload_that_raises(web: Web, server: Server, kind: type[Exception]) -> None:
    error = kind("the caller's own")

    def pieces() -> Iterator[bytes]:
        yield b"one"
        raise error

    async with web.client() as session:
        with pytest.raises(kind) as caught:
            await session.request("POST", server.url, content=upload(web, pieces))
    assert caught.value is error
    assert web.counted(server.key) == {"ignored": 1}


async def test_an_upload_from_another_host(
    web: Web, server: Server, servers: Callable[..., Server]
) -> None:
    """The source breaks off, and its error is one of the library's own."""
    source = servers()
    async with web.client() as session:
        for _ in range(3):
            async with web.client(web.http()) as other:
                broken = await other.open(source.on(truncated()))
                body = web.method(broken, "iter_bytes")()
                with pytest.raises(web.lib.RemoteProtocolError):
                    await session.request("POST", server.url, content=body)
        assert (await session.get(server.url)).text == "hello"
    assert web.counted(server.key) == {"ignored": 3, "successes": 1}


async def test_a_failed_upload_is_the_hosts(web: Web, server: Server) -> None:
    """The body was fine; what failed is the answer."""
    url = server.on(hang_up)
    async with web.client() as session:
        with pytest.raises(web.lib.RemoteProtocolError):
            await session.request("POST", url, files={"file": ("a.txt", b"x" * 10)})
    assert web.counted(server.key) == {"failures": 1}


async def test_a_request_keeps_its_stream(web: Web, server: Server) -> None:
    async with web.client() as session:
        files = {"file": ("a.txt", b"x" * 10)}
        request = session.client.build_request("POST", server.url, files=files)
        stream = request.stream
        response = await web.wait(session.client.send(request))
        assert request.stream is response.request.stream is stream
        await web.wait(session.client.send(request))
    assert web.counted(server.key) == {"successes": 2}
    assert server.asked[0].body == server.asked[1].body


@pytest.mark.parametrize("name", ["LocalProtocolError", "UnsupportedProtocol"])
async def test_a_neutral_probe_gives_its_slot_back(web: Web, name: str) -> None:
    web.half_open(HOST)
    await outcome_of_error(web, getattr(web.lib, name)("x"))
    assert web.state(HOST) is State.HALF_OPEN
    assert web.info(HOST).probes == 0
    async with web.client(web.guard(web.mock())) as session:
        await session.get(URL)
    assert web.state(HOST) is State.CLOSED


async def test_a_neutral_status_as_probe_gives_its_slot_back(web: Web) -> None:
    web.half_open(HOST)
    await outcome_of_status(web, 429)
    assert web.state(HOST) is State.HALF_OPEN
    assert web.info(HOST).probes == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    "flavour", [Flavour("httpx", "sync"), Flavour("httpx2", "sync")], ids=str, indirect=True
)
async def test_an_interruption_says_nothing(web: Web, error: type[BaseException]) -> None:
    with web.client_class(transport=web.guard(web.raising(error()))) as client:
        try:
            client.get(URL)
        except error:
            pass
        else:
            pytest.fail("the interruption was swallowed")
    assert web.counted(HOST) == {"ignored": 1}


async def test_exceptions_can_be_ignored(web: Web) -> None:
    policy = web.flux.HTTPPolicy(ignore=(web.lib.ReadTimeout,))
    assert await outcome_of_error(web, web.lib.ReadTimeout("x"), policy=policy) == {"ignored": 1}
    error = web.lib.ConnectTimeout("x")
    assert await outcome_of_error(web, error, policy=policy) == {"ignored": 1, "failures": 1}


async def test_a_refusal_of_another_breaker_does_not_cascade(web: Web) -> None:
    """Nested transports: the inner circuit's refusal is no failure of the outer one's host."""
    inner_registry = web.make_registry()
    inner_registry[HOST].force_open()
    inner = web.guard(web.mock(), registry=inner_registry)
    async with web.client(web.guard(inner)) as session:
        for _ in range(5):
            with pytest.raises(web.flux.CircuitOpenError):
                await session.get(URL)
    assert web.counted(HOST) == {"ignored": 5}
    assert web.state(HOST) is State.CLOSED


# -- the same over real sockets


async def test_nobody_listens(web: Web, server: Server) -> None:
    server.close()
    async with web.client() as session:
        for _ in range(2):
            with pytest.raises(web.lib.ConnectError):
                await session.get(server.url)
        with pytest.raises(web.flux.CircuitOpenError):
            await session.get(server.url)
    assert web.counted(server.key) == {"failures": 2, "rejected": 1}


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (reset_at_once, "ReadError"),
        (hang_up, "RemoteProtocolError"),
        (gibberish, "RemoteProtocolError"),
    ],
)
async def test_no_headers_come(web: Web, server: Server, behaviour: Any, error: str) -> None:
    async with web.client() as session:
        with pytest.raises(getattr(web.lib, error)):
            await session.get(server.on(behaviour))
    assert web.counted(server.key) == {"failures": 1}


async def test_headers_that_take_too_long(web: Web, server: Server) -> None:
    async with web.client() as session:
        with pytest.raises(web.lib.ReadTimeout):
            await session.get(server.on(silent), timeout=0.05)
    assert web.counted(server.key) == {"failures": 1}


async def test_a_request_that_cannot_be_sent_says_nothing(web: Web, server: Server) -> None:
    async with web.client() as session:
        with pytest.raises(web.lib.LocalProtocolError):
            await session.get(server.url, headers={"x-broken": "a\nb"})
    assert web.counted(server.key) == {"ignored": 1}


async def test_a_full_pool(web: Web, server: Server) -> None:
    limits = web.lib.Limits(max_connections=1)
    async with web.client(web.guard(web.http(limits=limits))) as session:
        async with session.stream(server.url):
            with pytest.raises(web.lib.PoolTimeout):
                await session.get(server.url, timeout=web.lib.Timeout(5, pool=0.01))
        await session.get(server.url)
    assert web.counted(server.key) == {"ignored": 1, "successes": 2}


async def test_statuses_over_the_wire(web: Web, server: Server) -> None:
    async with web.client() as session:
        assert (await session.get(server.on(answer(404)))).status_code == 404
        assert (await session.request("POST", server.url, json={"a": 1})).text == "hello"
        assert (await session.request("HEAD", server.url)).content == b""
        assert (await session.get(server.on(answer(500)))).status_code == 500
    assert web.counted(server.key) == {"successes": 3, "failures": 1}
    assert server.asked[1].body.replace(b" ", b"") == b'{"a":1}'


@pytest.mark.parametrize("flavour", ASYNC, ids=str, indirect=True)
@pytest.mark.parametrize("probe", [False, True], ids=["call", "probe"])
async def test_cancelled_while_waiting_for_headers(web: Web, server: Server, probe: bool) -> None:
    if probe:
        web.half_open(server.key)
    async with web.client() as session, anyio.create_task_group() as group:

        async def cancel_once_it_waits() -> None:
            while not server.asked:
                await anyio.wait_all_tasks_blocked()
                await anyio.to_thread.run_sync(lambda: None)
            group.cancel_scope.cancel()

        group.start_soon(session.get, server.on(silent))
        group.start_soon(cancel_once_it_waits)
    assert web.counted(server.key) == {"ignored": 1}
    assert web.info(server.key).probes == 0
    assert web.state(server.key) is (State.HALF_OPEN if probe else State.CLOSED)


@pytest.mark.parametrize("flavour", ASYNC, ids=str, indirect=True)
async def test_a_deadline_around_the_call_proves_nothing(web: Web, server: Server) -> None:
    async with web.client() as session:
        with anyio.move_on_after(0.05) as scope:
            await session.get(server.on(silent))
    assert scope.cancelled_caught
    assert web.counted(server.key) == {"ignored": 1}


@pytest.mark.parametrize("flavour", ASYNC, ids=str, indirect=True)
async def test_an_exception_group_is_judged_by_its_leaves(web: Web) -> None:
    async def handler(_: Any) -> Any:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)

    async def fail() -> None:
        raise web.lib.ReadError("inner")

    async with web.client(web.guard(web.mock(handler))) as session:
        with pytest.raises(ExceptionGroup):
            await session.get(URL)
    assert web.counted(HOST) == {"failures": 1}
