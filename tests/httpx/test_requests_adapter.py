"""The adapter for requests: the same policy, keys and Retry-After, over real sockets."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, Info, State, permits, retries, trippers
from fluxgate.registry import Registry
from fluxgate.testing import LoadedDice, ManualClock, tripped

from .servers import (
    Exchange,
    Server,
    answer,
    chunked,
    chunked_short,
    event_stream,
    gzipped,
    hang_up,
    redirect,
    reset_at_once,
    reset_body,
    silent,
    stalled,
    truncated,
)

requests = pytest.importorskip("requests", reason="the extra `requests` is not installed")

import urllib3  # noqa: E402
from requests.adapters import BaseAdapter, HTTPAdapter  # noqa: E402

import fluxgate_httpx.requests as flux  # noqa: E402


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry(clock: ManualClock) -> Registry:
    return Registry(
        tripper=trippers.Closed() & trippers.FailureStreak(2),
        retry=retries.Cooldown(30.0),
        permit=permits.All(),
        max_half_open_calls=1,
        clock=clock,
        dice=LoadedDice(0.0),
    )


@pytest.fixture
def session(registry: Registry) -> Iterator[Any]:
    with mounted(flux.CircuitBreakerAdapter(registry=registry)) as session:
        yield session


def mounted(adapter: Any) -> Any:
    session = requests.Session()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def info(registry: Registry, key: str) -> Info:
    breaker = registry.get(key)
    assert breaker is not None, f"no circuit {key!r}"
    return breaker.info()


def counted(registry: Registry, key: str) -> dict[str, int]:
    totals = info(registry, key).totals
    names = ("successes", "failures", "ignored", "stale", "rejected")
    counts = {name: getattr(totals, name) for name in names}
    counts["ignored"] += totals.cancelled
    return {name: count for name, count in counts.items() if count}


def half_open(registry: Registry, clock: ManualClock, key: str) -> None:
    registry[key].open_for(30)
    clock.advance(30)


class Scripted(BaseAdapter):
    """An adapter that raises or returns what it is told to."""

    def __init__(self, outcome: Any) -> None:
        super().__init__()
        self.outcome = outcome
        self.sent: list[Any] = []

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.sent.append(request)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        response = requests.Response()
        response.status_code = self.outcome
        response.url, response.request, response._content = request.url, request, b""
        return response

    def close(self) -> None:
        self.sent.append("close")


# -- outcomes


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "successes"),
        (404, "successes"),
        (501, "successes"),
        (429, "ignored"),
        (500, "failures"),
        (502, "failures"),
        (503, "failures"),
        (504, "failures"),
    ],
)
def test_statuses(
    session: Any, registry: Registry, server: Server, status: int, outcome: str
) -> None:
    response = session.get(server.on(answer(status)))
    assert (response.status_code, response.text) == (status, "hello")
    assert counted(registry, server.key) == {outcome: 1}


def test_a_policy(registry: Registry, server: Server) -> None:
    policy = flux.HTTPPolicy(statuses={418, 429})
    with mounted(flux.CircuitBreakerAdapter(registry=registry, policy=policy)) as session:
        session.get(server.on(answer(429)))
        session.get(server.on(answer(500)))
    assert counted(registry, server.key) == {"failures": 1, "successes": 1}


@pytest.mark.parametrize("behaviour", [reset_at_once, hang_up], ids=["reset", "hang up"])
def test_connections_that_break(
    session: Any, registry: Registry, server: Server, behaviour: Any
) -> None:
    with pytest.raises(requests.ConnectionError):
        session.get(server.on(behaviour))
    assert counted(registry, server.key) == {"failures": 1}


def test_nobody_listens(session: Any, registry: Registry, server: Server) -> None:
    server.close()
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            session.get(server.url)
    with pytest.raises(flux.CircuitOpenError):
        session.get(server.url)
    assert counted(registry, server.key) == {"failures": 2, "rejected": 1}


def test_headers_that_take_too_long(session: Any, registry: Registry, server: Server) -> None:
    with pytest.raises(requests.ReadTimeout):
        session.get(server.on(silent), timeout=(5, 0.05))
    assert counted(registry, server.key) == {"failures": 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (requests.ConnectTimeout("x"), "failures"),
        (requests.exceptions.SSLError("x"), "failures"),
        (requests.exceptions.ProxyError("x"), "failures"),
        (requests.exceptions.InvalidHeader("x"), "ignored"),
        (ZeroDivisionError("x"), "ignored"),
    ],
)
def test_exceptions(registry: Registry, error: Exception, outcome: str) -> None:
    adapter = flux.CircuitBreakerAdapter(Scripted(error), registry=registry)
    with mounted(adapter) as session, pytest.raises(type(error)) as caught:
        session.get("http://a.test")
    assert caught.value is error
    assert counted(registry, "a.test") == {outcome: 1}


def test_urls_without_a_host_are_requests_own_business(session: Any, registry: Registry) -> None:
    for url in ("/relative", "http://"):
        with pytest.raises(requests.RequestException) as caught:
            session.get(url)
        assert not isinstance(caught.value, CallNotPermittedError)
    assert list(registry) == []


# -- bodies


@pytest.mark.parametrize("behaviour", [truncated(), chunked_short], ids=["length", "chunked"])
@pytest.mark.parametrize("stream", [False, True], ids=["read", "stream"])
def test_a_truncated_body_fails(
    session: Any, registry: Registry, server: Server, behaviour: Any, stream: bool
) -> None:
    url = server.on(behaviour)
    with pytest.raises(requests.RequestException):
        assert session.get(url, stream=stream).content
    assert counted(registry, server.key) == {"failures": 1}


def test_a_stalled_body_fails(session: Any, registry: Registry, server: Server) -> None:
    with pytest.raises(requests.RequestException):
        session.get(server.on(stalled()), timeout=(5, 0.05))
    assert counted(registry, server.key) == {"failures": 1}


def test_a_reset_body_fails(session: Any, registry: Registry, server: Server) -> None:
    with session.get(server.on(reset_body), stream=True) as response:
        pieces = response.iter_content(5)
        assert next(pieces) == b"hello"
        assert counted(registry, server.key) == {}
        server.go_on()
        with pytest.raises(requests.RequestException):
            next(pieces)
    assert counted(registry, server.key) == {"failures": 1}


def test_a_body_that_arrives_succeeds_at_its_end(
    session: Any, registry: Registry, server: Server
) -> None:
    with session.get(server.on(stalled()), stream=True) as response:
        pieces = response.iter_content(5)
        assert next(pieces) == b"hello"
        assert counted(registry, server.key) == {}
        server.go_on()
        assert list(pieces) == [b"world"]
        assert counted(registry, server.key) == {"successes": 1}


READERS: dict[str, Callable[[Any], object]] = {
    "content": lambda response: response.content,
    "text": lambda response: response.text,
    "iter_content": lambda response: list(response.iter_content(7)),
    "iter_lines": lambda response: list(response.iter_lines()),
    "iteration": list,
    "raw.read": lambda response: response.raw.read(),
    "raw.stream": lambda response: list(response.raw.stream(7)),
    "raw.read in pieces": lambda response: list(iter(lambda: response.raw.read(7), b"")),
    "raw.readline": lambda response: list(iter(response.raw.readline, b"")),
    "raw.read1": lambda response: b"".join(iter(response.raw.read1, b"")),
    "raw.read1 in pieces": lambda response: b"".join(iter(lambda: response.raw.read1(7), b"")),
    "raw.readinto": lambda response: read_into(response.raw),
    "raw.data": lambda response: response.raw.data,
    "raw.drain_conn": lambda response: response.raw.drain_conn() or b"drained",
    "raw iteration": lambda response: list(response.raw),
}


def read_into(raw: Any) -> bytes:
    buffer, found = bytearray(7), b""
    while count := raw.readinto(buffer):
        found += buffer[:count]
    return found


@pytest.mark.parametrize("how", READERS)
def test_every_way_to_read_is_as_without_us(
    session: Any, registry: Registry, server: Server, how: str
) -> None:
    url = server.on(gzipped("line\nother line\n" * 20))
    with requests.Session() as bare, bare.get(url, stream=True) as response:
        expected = READERS[how](response)
    with session.get(url, stream=True) as response:
        assert READERS[how](response) == expected
    assert expected
    assert counted(registry, server.key) == {"successes": 1}


@pytest.mark.parametrize("how", READERS)
def test_every_way_sees_truncation(
    session: Any, registry: Registry, server: Server, how: str
) -> None:
    """Some ways end early without an error; the circuit hears of it all the same."""
    with (
        session.get(server.on(truncated()), stream=True) as response,
        contextlib.suppress(requests.RequestException, urllib3.exceptions.HTTPError),
    ):
        READERS[how](response)
    assert counted(registry, server.key) == {"failures": 1}


def test_chunks_by_hand(session: Any, registry: Registry, server: Server) -> None:
    with session.get(server.on(chunked(b"one", b"two")), stream=True) as response:
        assert list(response.raw.read_chunked()) == [b"one", b"two"]
    with (
        session.get(server.on(chunked_short), stream=True) as response,
        pytest.raises(urllib3.exceptions.ProtocolError),
    ):
        list(response.raw.read_chunked())
    assert counted(registry, server.key) == {"successes": 1, "failures": 1}


def test_raw_is_the_callers(session: Any, registry: Registry, server: Server) -> None:
    with session.get(server.on(gzipped("plain text")), stream=True) as response:
        raw = response.raw
        assert isinstance(raw, urllib3.HTTPResponse)
        assert type(raw).__name__ == "HTTPResponse"
        raw.decode_content = True
        saved = io.BytesIO()
        shutil.copyfileobj(raw, saved)
        assert saved.getvalue() == b"plain text"
        assert type(raw) is urllib3.HTTPResponse
    assert counted(registry, server.key) == {"successes": 1}


def test_raw_can_be_copied(session: Any, registry: Registry, server: Server) -> None:
    with session.get(server.url, stream=True) as response:
        clone = copy.copy(response.raw)
        assert clone.status == 200
        assert clone.read() == b"hello"
    assert counted(registry, server.key) == {"successes": 1}


def test_raw_in_memory_can_be_pickled(registry: Registry) -> None:
    class Replayed(Scripted):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            response = super().send(request)
            del response._content
            response._content = False
            response.raw = urllib3.HTTPResponse(io.BytesIO(b"hello"), preload_content=False)
            return response

    adapter = flux.CircuitBreakerAdapter(Replayed(200), registry=registry)
    with mounted(adapter) as session, session.get("http://a.test", stream=True) as response:
        there = pickle.loads(pickle.dumps(response.raw))
        assert type(there) is urllib3.HTTPResponse
        assert there.read() == b"hello"
        assert counted(registry, "a.test") == {}
        assert response.content == b"hello"
    assert counted(registry, "a.test") == {"successes": 1}


def test_a_cache_keeps_what_it_gets(registry: Registry, server: Server) -> None:
    caching = pytest.importorskip("requests_cache")
    session = caching.CachedSession(backend="memory")
    for prefix in ("http://", "https://"):
        session.mount(prefix, flux.CircuitBreakerAdapter(registry=registry))
    url = server.on(gzipped("kept"))
    with session:
        for _ in range(3):
            assert session.get(url).text == "kept"
    assert len(server.asked) == 1
    assert counted(registry, server.key) == {"successes": 1}


def test_nested_adapters(registry: Registry, server: Server, clock: ManualClock) -> None:
    outer = Registry(clock=clock)
    within = flux.CircuitBreakerAdapter(registry=registry)
    with mounted(flux.CircuitBreakerAdapter(within, registry=outer)) as session:
        assert session.get(server.url).text == "hello"
        with pytest.raises(requests.RequestException):
            session.get(server.on(truncated()))
    assert counted(registry, server.key) == {"successes": 1, "failures": 1}
    assert counted(outer, server.key) == {"successes": 1, "failures": 1}


# -- bodies that the caller sends


class Source(io.RawIOBase):
    """A file that breaks."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, size: int = -1) -> bytes:
        raise self.error


def broken_source(error: Exception) -> Iterator[bytes]:
    yield b"one"
    raise error


@pytest.mark.parametrize("kind", [OSError, TimeoutError, requests.ConnectionError, ValueError])
@pytest.mark.parametrize("make", [Source, broken_source], ids=["file", "generator"])
def test_an_upload_that_raises(
    session: Any, registry: Registry, server: Server, kind: type[Exception], make: Any
) -> None:
    with pytest.raises((requests.RequestException, ValueError, OSError)):
        session.post(server.url, data=make(kind("the caller's own")))
    assert counted(registry, server.key) == {"ignored": 1}


def test_uploads_arrive(session: Any, registry: Registry, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    with path.open("rb") as file:
        response = session.post(server.url, data=file)
        assert response.request.body is file
    with path.open() as text, pytest.warns(Warning, match="text mode"):
        session.post(server.url, data=text)
    assert [len(each.body) for each in server.asked] == [100_000, 100_000]
    assert counted(registry, server.key) == {"successes": 2}


def test_an_upload_is_sent_again(
    session: Any, registry: Registry, servers: Callable[..., Server]
) -> None:
    """A redirect rewinds the file, so it must still be the caller's."""
    first, second = servers(), servers()
    session.post(first.on(redirect(second.url, 307)), data=io.BytesIO(b"body"))
    assert counted(registry, second.key) == {"successes": 1}
    assert (first.asked[0].body, second.asked[0].body) == (b"body", b"body")


def test_a_failed_upload_is_the_hosts(session: Any, registry: Registry, server: Server) -> None:
    with pytest.raises(requests.ConnectionError):
        session.post(server.on(hang_up), data=io.BytesIO(b"fine"))
    assert counted(registry, server.key) == {"failures": 1}


# -- who is to blame


@pytest.mark.parametrize(
    ("status", "outcome"), [(429, "ignored"), (404, "successes"), (503, "failures")]
)
def test_retries_given_up(registry: Registry, server: Server, status: int, outcome: str) -> None:
    """It counts as the status over which urllib3 gave up."""
    from urllib3.util.retry import Retry

    wrapped = HTTPAdapter(max_retries=Retry(1, status_forcelist=[status], backoff_factor=0))
    with (
        mounted(flux.CircuitBreakerAdapter(wrapped, registry=registry)) as session,
        pytest.raises(requests.exceptions.RetryError),
    ):
        session.get(server.on(answer(status)))
    assert counted(registry, server.key) == {outcome: 1}


def test_a_pool_says_nothing(registry: Registry) -> None:
    closed = urllib3.exceptions.ClosedPoolError(None, "closed")  # type: ignore[arg-type]
    empty = urllib3.exceptions.EmptyPoolError(None, "empty")  # type: ignore[arg-type]
    for error in (requests.ConnectionError(closed), empty):
        adapter = flux.CircuitBreakerAdapter(Scripted(error), registry=registry)
        with mounted(adapter) as session, pytest.raises(type(error)):
            session.get("http://a.test")
    assert counted(registry, "a.test") == {"ignored": 2}


def test_the_raw_response_can_be_saved(
    session: Any, registry: Registry, server: Server, tmp_path: Path
) -> None:
    """What the documentation of requests says for saving to a file."""
    body = b"x" * 300_000
    with (
        session.get(server.on(answer(200, None, body)), stream=True) as response,
        (tmp_path / "copy").open("wb") as file,
    ):
        shutil.copyfileobj(response.raw, file)
    assert (tmp_path / "copy").read_bytes() == body
    assert counted(registry, server.key) == {"successes": 1}


def test_closed_early(session: Any, registry: Registry, server: Server, clock: ManualClock) -> None:
    with session.get(server.on(stalled()), stream=True) as response:
        next(response.iter_content(5))
    assert counted(registry, server.key) == {"successes": 1}
    half_open(registry, clock, server.key)
    with session.get(server.on(stalled()), stream=True) as response:
        assert info(registry, server.key).probes == 1
    assert counted(registry, server.key) == {"successes": 1, "ignored": 1}
    assert info(registry, server.key).probes == 0


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # nobody closes it here
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_response_that_nobody_closes_gives_its_slot_back(
    session: Any, registry: Registry, server: Server, clock: ManualClock
) -> None:
    half_open(registry, clock, server.key)
    response = session.get(server.on(stalled()), stream=True)
    assert info(registry, server.key).probes == 1
    del response
    gc.collect()
    assert counted(registry, server.key) == {"ignored": 1}
    assert info(registry, server.key).probes == 0


def test_an_event_stream_that_breaks(session: Any, registry: Registry, server: Server) -> None:
    with session.get(server.on(event_stream), stream=True) as response:
        assert counted(registry, server.key) == {}
        server.go_on()
        with pytest.raises(requests.RequestException):
            list(response.iter_content(None))
    assert counted(registry, server.key) == {"failures": 1}


@pytest.mark.parametrize("probe", [False, True], ids=["call", "probe"])
def test_an_event_stream_is_left(
    session: Any, registry: Registry, server: Server, clock: ManualClock, probe: bool
) -> None:
    if probe:
        half_open(registry, clock, server.key)
    with session.get(server.on(event_stream), stream=True) as response:
        assert next(response.iter_lines()) == b"data: 1"
    assert counted(registry, server.key) == {"successes": 1}


def test_a_long_body_is_a_proof(
    session: Any, registry: Registry, server: Server, clock: ManualClock
) -> None:
    half_open(registry, clock, server.key)
    with session.get(server.on(stalled()), stream=True) as response:
        pieces = response.iter_content(5)
        assert next(pieces) == b"hello"
        assert info(registry, server.key).probes == 1
        clock.advance(30)
        server.go_on()
        assert next(pieces) == b"world"
        assert info(registry, server.key).state is State.CLOSED
    assert counted(registry, server.key) == {"successes": 1}


def test_settle_headers(registry: Registry, server: Server) -> None:
    adapter = flux.CircuitBreakerAdapter(registry=registry, settle="headers")
    with mounted(adapter) as session, pytest.raises(requests.RequestException):
        session.get(server.on(truncated()))
    assert counted(registry, server.key) == {"successes": 1}


def test_bodiless_answers_settle(session: Any, registry: Registry, server: Server) -> None:
    assert session.head(server.url).content == b""
    assert session.get(server.on(answer(204, {"Content-Length": "0"}, b""))).content == b""
    assert session.get(server.on(chunked())).content == b""
    assert counted(registry, server.key) == {"successes": 3}


# -- refusals


def test_a_refusal(session: Any, registry: Registry, server: Server) -> None:
    tripped(registry[server.key])
    with pytest.raises(requests.RequestException) as caught:
        session.get(server.url + "/path")
    error = caught.value
    assert type(error) is flux.CircuitOpenError
    assert isinstance(error, CallNotPermittedError)
    assert not isinstance(error, (requests.ConnectionError, requests.Timeout))
    assert error.request.url == server.url + "/path"
    assert error.response is None
    assert (error.name, error.state, error.retry_after) == (server.key, State.OPEN, 30)
    assert server.asked == []
    there = pickle.loads(pickle.dumps(error))
    assert (there.name, there.retry_after, str(there)) == (server.key, 30, str(error))


def test_on_open(registry: Registry, server: Server) -> None:
    def on_open(_: Any) -> Any:
        response = requests.Response()
        response.status_code, response._content = 503, b"cached"
        return response

    registry[server.key].force_open()
    adapter = flux.CircuitBreakerAdapter(registry=registry, on_open=on_open)
    with mounted(adapter) as session:
        response = session.get(server.url + "/path")
    assert (response.status_code, response.text) == (503, "cached")
    assert response.url == server.url + "/path"
    assert server.asked == []


def test_the_retries_of_urllib3_are_one_call(registry: Registry, server: Server) -> None:
    answers = [503, 503, 200]

    def behave(exchange: Exchange) -> None:
        answer(answers.pop(0))(exchange)

    from urllib3.util.retry import Retry

    wrapped = HTTPAdapter(max_retries=Retry(total=3, status_forcelist=[503], backoff_factor=0))
    with mounted(flux.CircuitBreakerAdapter(wrapped, registry=registry)) as session:
        assert session.get(server.on(behave)).status_code == 200
    assert len(server.asked) == 3
    assert counted(registry, server.key) == {"successes": 1}


# -- Retry-After


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(registry: Registry, server: Server, status: int) -> None:
    policy = flux.HTTPPolicy(retry_after="respect")
    with mounted(flux.CircuitBreakerAdapter(registry=registry, policy=policy)) as session:
        session.get(server.on(answer(status, {"Retry-After": "11"})))
        with pytest.raises(flux.CircuitOpenError) as caught:
            session.get(server.url)
    assert caught.value.retry_after == 11


def test_retry_after_is_ignored_by_default(
    session: Any, registry: Registry, server: Server
) -> None:
    session.get(server.on(answer(503, {"Retry-After": "11"})))
    assert info(registry, server.key).state is State.CLOSED


# -- keys and redirects


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://user:secret@Example.ORG.:80/x", "example.org"),
        ("https://example.org:443/", "example.org"),
        ("https://bücher.example:8443/", "xn--bcher-kva.example:8443"),
        ("http://[2001:DB8::A]:8080/", "[2001:db8::a]:8080"),
    ],
)
def test_keys_are_those_of_the_transports(registry: Registry, url: str, key: str) -> None:
    with mounted(flux.CircuitBreakerAdapter(Scripted(200), registry=registry)) as session:
        session.get(url)
    assert list(registry) == [key]


def test_by_origin_none_and_callables(registry: Registry) -> None:
    seen: list[str] = []

    def by_tenant(url: str) -> str | None:
        seen.append(str(url))
        return None if "free" in str(url) else "tenant"

    with mounted(
        flux.CircuitBreakerAdapter(Scripted(200), registry=registry, key=flux.by_origin)
    ) as session:
        session.get("https://A.test/x")
    with mounted(
        flux.CircuitBreakerAdapter(Scripted(200), registry=registry, key=by_tenant)
    ) as session:
        session.get("https://a.test/free")
        session.get("https://a.test/x")
    assert list(registry) == ["https://a.test", "tenant"]
    assert seen == ["https://a.test/free", "https://a.test/x"]


def test_each_hop_is_its_own_host(
    session: Any, registry: Registry, servers: Callable[..., Server]
) -> None:
    first, second = servers(), servers()
    response = session.get(first.on(redirect(second.on(answer(500)))))
    assert response.status_code == 500
    assert counted(registry, first.key) == {"successes": 1}
    assert counted(registry, second.key) == {"failures": 1}


def test_settings_by_host(server: Server) -> None:
    settings = {"127.0.0.1": {"tripper": "FailureStreak(1)"}, "*.internal": {}}
    adapter = flux.CircuitBreakerAdapter(circuits=settings)
    with mounted(adapter) as session:
        session.get(server.on(answer(500)))
        with pytest.raises(flux.CircuitOpenError):
            session.get(server.url)


# -- the adapter as an object


def test_it_wraps_any_adapter(registry: Registry) -> None:
    wrapped = Scripted(200)
    adapter = flux.CircuitBreakerAdapter(wrapped, registry=registry)
    assert adapter.wrapped is wrapped
    assert adapter.registry is registry
    with mounted(adapter) as session:
        session.get("http://a.test")
    assert wrapped.sent[0].url == "http://a.test/"
    assert "close" in wrapped.sent
    assert type(flux.CircuitBreakerAdapter().wrapped) is HTTPAdapter


def test_the_environments_proxy_stays(
    session: Any, registry: Registry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert session.get("http://service.test/path").text == "hello"
    assert [asked.target for asked in server.asked] == ["http://service.test/path"]
    assert counted(registry, "service.test") == {"successes": 1}


def test_protect(registry: Registry, server: Server) -> None:
    wrapped = HTTPAdapter(pool_maxsize=3)
    with requests.Session() as session:
        session.mount("http://127.0.0.1", wrapped)
        assert flux.protect(session, registry=registry) is session
        assert flux.protect(session) is session
        assert [each.wrapped for each in session.adapters.values()].count(wrapped) == 1
        assert not any(
            isinstance(each.wrapped, flux.CircuitBreakerAdapter)
            for each in session.adapters.values()
        )
        assert session.get(server.url).text == "hello"
    assert counted(registry, server.key) == {"successes": 1}


def test_digest_auth_asks_twice(session: Any, registry: Registry, server: Server) -> None:
    challenge = 'Digest realm="x", nonce="abc", qop="auth", algorithm=SHA-256'
    url = server.on(answer(401, {"WWW-Authenticate": challenge}, b"who?"))
    response = session.get(url, auth=requests.auth.HTTPDigestAuth("me", "secret"))
    assert response.status_code == 401
    assert len(server.asked) == 2
    assert counted(registry, server.key) == {"successes": 2}


def test_httpx_and_requests_can_share_a_registry(
    session: Any, registry: Registry, server: Server
) -> None:
    import httpx

    from fluxgate_httpx import CircuitBreakerTransport

    with httpx.Client(transport=CircuitBreakerTransport(registry=registry)) as client:
        client.get(server.on(answer(500)))
        session.get(server.on(answer(500)))
        with pytest.raises(httpx.TransportError):
            client.get(server.url)
        with pytest.raises(requests.RequestException):
            session.get(server.url)
    assert counted(registry, server.key) == {"failures": 2, "rejected": 2}


@pytest.mark.parametrize("junk", [42, object(), HTTPAdapter])
def test_what_is_no_adapter_is_refused(junk: object) -> None:
    with pytest.raises(TypeError, match=r"(?i)adapter"):
        flux.CircuitBreakerAdapter(junk)


def test_a_session_in_place_of_an_adapter_is_refused() -> None:
    with requests.Session() as session, pytest.raises(TypeError, match=r"protect\("):
        flux.CircuitBreakerAdapter(session)


def test_an_httpx_transport_in_place_of_an_adapter_is_refused() -> None:
    import httpx

    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    with pytest.raises(TypeError, match="adapter of requests"):
        flux.CircuitBreakerAdapter(transport)


@pytest.mark.parametrize("junk", [None, 42, HTTPAdapter()])
def test_protect_wants_a_session(junk: object) -> None:
    with pytest.raises(TypeError, match=r"(?i)session"):
        flux.protect(junk)


def test_breaker_and_registry_contradict_each_other(registry: Registry) -> None:
    with pytest.raises(TypeError, match=r"circuits"):
        flux.CircuitBreakerAdapter(registry=registry, circuits=CircuitBreaker)


# -- what an HTTPAdapter has


def test_it_makes_its_own_adapter() -> None:
    adapter = flux.CircuitBreakerAdapter(max_retries=3, pool_maxsize=50, pool_block=True)
    wrapped = adapter.wrapped
    assert isinstance(wrapped, HTTPAdapter)
    assert (wrapped.max_retries.total, wrapped._pool_maxsize, wrapped._pool_block) == (3, 50, True)
    with pytest.raises(TypeError, match=r"max_retries= is the wrapped adapter's: give it to HTTPA"):
        flux.CircuitBreakerAdapter(HTTPAdapter(), max_retries=3)


def test_its_attributes_are_the_adapters(registry: Registry) -> None:
    adapter = flux.CircuitBreakerAdapter(registry=registry)
    wrapped: Any = adapter.wrapped
    adapter.max_retries = 5
    assert wrapped.max_retries == adapter.max_retries == 5
    assert adapter.poolmanager is wrapped.poolmanager
    adapter.note = "mine"
    assert not hasattr(wrapped, "note")
    assert adapter.note == "mine"
    with pytest.raises(AttributeError, match="nothing"):
        _ = adapter.nothing
    with pytest.raises(AttributeError):
        adapter.registry = Registry()


def test_mounting_after_protect(server: Server) -> None:
    """It was left unprotected without a word."""
    session = flux.protect(requests.Session(), circuits={"*": {"tripper": "FailureStreak(1)"}})
    session.mount(server.url, HTTPAdapter(max_retries=1))
    own = flux.CircuitBreakerAdapter()
    session.mount("http://own.test", own)
    with session:
        assert session.get(server.on(answer(500))).status_code == 500
        with pytest.raises(flux.CircuitOpenError):
            session.get(server.url)
        registry = flux.registry_of(session)
        assert flux.registry_of(session, server.url) is registry
        assert registry[server.key].state is State.OPEN
        assert session.get_adapter("http://own.test/") is own
        assert flux.registry_of(session, "http://own.test/") is own.registry


def test_protecting_twice() -> None:
    session = flux.protect(requests.Session())
    registry = flux.registry_of(session)
    assert flux.registry_of(flux.protect(session)) is registry
    session.mount("http://later.test", HTTPAdapter())
    assert flux.registry_of(session, "http://later.test") is registry


def test_circuits_of_no_session() -> None:
    with pytest.raises(TypeError, match="not protected"):
        flux.registry_of(requests.Session())
    with pytest.raises(TypeError, match=r"registry_of\(\) .* takes a requests.Session"):
        flux.registry_of(42)  # type: ignore[arg-type]


@pytest.mark.parametrize("through", ["circuits", "registry"])
def test_a_session_can_be_pickled(server: Server, through: str) -> None:
    """For multiprocessing. Its copy has circuits of its own, by the same settings."""
    rules: Any = {"127.0.0.1": {"tripper": "FailureStreak(1)"}}
    policy = flux.HTTPPolicy(retry_after="respect")
    given: Any = {through: rules if through == "circuits" else Registry(rules)}
    session = flux.protect(requests.Session(), policy=policy, **given)
    session.get(server.on(answer(500)))
    there = pickle.loads(pickle.dumps(session))
    registry = flux.registry_of(there)
    assert list(registry) == []
    assert there.get_adapter("http://")._guard.policy.retry_after == "respect"
    there.mount("http://127.0.0.1", HTTPAdapter())
    with there:
        there.get(server.on(answer(500)))
        with pytest.raises(flux.CircuitOpenError):
            there.get(server.url)
    assert flux.registry_of(there, server.url) is registry
