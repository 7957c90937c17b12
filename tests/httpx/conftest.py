"""What the tests of fluxgate-httpx share: `web`, which is httpx and httpx2, sync and async, and
servers on loopback that misbehave on command."""

from __future__ import annotations

import importlib.util
import os
import ssl
from collections.abc import Callable, Iterator

import pytest

from .drivers import STYLES, Flavour, Web
from .servers import HTTP2Server, Server

# These need libraries that have their own ideas of what to install beside them, so they have a
# session of their own: `nox -s compositions`.
collect_ignore = [] if os.environ.get("FLUXGATE_COMPOSITIONS") else ["compositions"]

LIBRARIES = ("httpx", "httpx2")
FLAVOURS = [Flavour(library, style) for library in LIBRARIES for style in STYLES]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own proxies are none of these tests' business."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(params=FLAVOURS, ids=str)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    chosen: Flavour = request.param
    if importlib.util.find_spec(chosen.library) is None:
        pytest.skip(f"{chosen.library} is not installed (one row of the matrix goes without)")
    return chosen


@pytest.fixture
def anyio_backend(flavour: Flavour) -> str:
    """Which loop runs the test; a sync client is driven on one that has nothing to do."""
    return flavour.backend


@pytest.fixture
def web(flavour: Flavour) -> Web:
    return Web(flavour)


@pytest.fixture
def servers() -> Iterator[Callable[..., Server]]:
    """Makes servers, and closes them."""
    made: list[Server] = []

    def make(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Server:
        made.append(Server(host, tls))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def server(servers: Callable[..., Server]) -> Server:
    return servers()


@pytest.fixture(scope="session")
def authority() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A TLS context for servers, and one for clients that trust them."""
    import trustme

    made = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1", "localhost").configure_cert(serving)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.configure_trust(trusting)
    return serving, trusting


@pytest.fixture
def trusting(authority: tuple[ssl.SSLContext, ssl.SSLContext]) -> ssl.SSLContext:
    return authority[1]


@pytest.fixture
def http2(authority: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[HTTP2Server]:
    server = HTTP2Server(authority[0])
    yield server
    server.close()
