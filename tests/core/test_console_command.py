"""`python -m fluxgate console`: where it listens, whom it lets in, how it ends."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fluxgate import CircuitBreaker
from fluxgate.cli import main
from fluxgate.cli._console.command import PORT, VARIABLE, address_of, is_loopback, named_by
from fluxgate.errors import ConfigError
from fluxgate.fleet import Fleet

from ..consoleservers import command, fleet_url

TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def payments(tmp_path: Path) -> Iterator[CircuitBreaker]:
    """A circuit of a fleet in `tmp_path`, in this process."""
    with Fleet(fleet_url(tmp_path)) as fleet:
        breaker = CircuitBreaker("payments", fleet=fleet)
        breaker.call(int)
        assert fleet.flush(30.0)
        yield breaker


# -- what is given


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost", ("localhost", PORT)),
        (":0", ("127.0.0.1", 0)),
        ("[::1]:8000", ("::1", 8000)),
        ("[::1]", ("::1", PORT)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_addresses(given: str, meant: tuple[str, int]) -> None:
    assert address_of(given) == meant


@pytest.mark.parametrize(
    "given",
    ["::1", "::1:80", "host:port", "host:65536", "host:-1", "[::1", "a]:80", "host:\uff18\uff10"],
)
def test_no_addresses(given: str) -> None:
    with pytest.raises(ConfigError, match="is no address: write HOST:PORT"):
        address_of(given)


def test_what_is_loopback() -> None:
    loopback = ("127.0.0.1", "127.9.9.9", "::1", "localhost")
    others = ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "shop")
    assert all(map(is_loopback, loopback))
    assert not any(map(is_loopback, others))


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_who_has_the_token() -> None:
    assert named_by(basic("alice", TOKEN), TOKEN) == "alice"
    assert named_by(basic("  Alice \n B", TOKEN), TOKEN) == "Alice B"
    assert named_by(basic("", TOKEN), TOKEN) == "somebody"
    assert named_by(basic("앨리스", TOKEN), TOKEN) == "앨리스"
    for header in (
        *(
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basic /w==",
            "Basic é",
            f"Bearer {TOKEN}",
            "Basic YQ==",
        ),
        *(basic("alice", TOKEN[:-1]), basic("alice", ""), basic("alice", f"{TOKEN} ")),
    ):
        assert named_by(header, TOKEN) is None, header


# -- what can't be


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["console", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("python -m fluxgate console: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_beyond_loopback(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "memory://x", "--bind", "0.0.0.0:0")
    assert f"is reached from other machines: give a token in {VARIABLE}" in said
    said = refused(capsys, "memory://x", "--bind", "0.0.0.0:0", "--token", "short")
    assert "the token is too short: give 16 characters or more" in said
    assert "no address" in refused(capsys, "memory://x", "--bind", "shop:http")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("shop.db", "the URL has no scheme"),
        ("mysql://u:hunter2@x", "has the unknown scheme 'mysql'"),
        ("sqlite://{folder}/none.db", "a process of the fleet makes it"),
        ("redis://u:hunter2@127.0.0.1:1/0", "redis"),
        ("memory://nobody", "is inside one process"),
    ],
)
def test_no_store(capsys: pytest.CaptureFixture[str], tmp_path: Path, url: str, why: str) -> None:
    said = refused(capsys, url.format(folder=tmp_path), "--bind", ":0")
    assert why in said
    assert "hunter2" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("payments")
def test_a_port_in_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused(capsys, fleet_url(tmp_path), "--bind", bind)
    assert f"{bind} is in use by another program: give --bind another port, or 0 for any" in said
    said = refused(
        capsys, fleet_url(tmp_path), "--bind", "no.such.host.invalid:0", "--token", TOKEN
    )
    assert "no.such.host.invalid:0 can't be used" in said


# -- whom it lets in


@pytest.mark.skipif(os.name == "nt", reason="a fleet in a file")
@pytest.mark.usefixtures("payments")
def test_a_token_is_asked_for(tmp_path: Path) -> None:
    """By the browser, for pages as for scripts; whoever has it may look, and not act."""
    with command(tmp_path, token=TOKEN) as site, httpx.Client(base_url=site.app) as client:
        for path in ("/", "/api/v1/state", "/static/nowhere"):
            refused = client.get(path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Basic ")
        assert client.get("/", auth=("alice", f"{TOKEN}?")).status_code == 401
        page = client.get("/", auth=("alice", TOKEN))
        assert page.status_code == 200
        assert "payments" in page.text
        assert "alice" in page.text
        sent = {"origin": site.app}
        path = f"/circuits/{'0' * 24}/reset"
        assert client.post(path, headers=sent, auth=("alice", TOKEN)).status_code == 403


@pytest.mark.skipif(os.name == "nt", reason="a fleet in a file")
@pytest.mark.usefixtures("payments")
def test_loopback_alone(tmp_path: Path) -> None:
    """Neither another site whose name leads here, nor whoever comes by a proxy."""
    with command(tmp_path) as site, httpx.Client(base_url=site.app) as client:
        assert client.get("/").status_code == 200
        for headers in ({"host": "evil.example"}, {"x-forwarded-for": "10.0.0.1"}):
            refused = client.get("/", headers=headers)
            assert refused.status_code == 403
            assert "www-authenticate" not in refused.headers
