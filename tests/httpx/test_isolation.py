"""Importing one library never imports the other."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIBRARIES = {"httpx", "httpcore", "httpx2", "httpcore2", "requests", "urllib3"}


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def imported_by(code: str) -> set[str]:
    """Which HTTP libraries are in memory after that code."""
    names = run(f"{code}\nimport sys; print(*sys.modules)").split()
    return LIBRARIES.intersection(names)


@pytest.mark.parametrize(
    ("statement", "wanted", "unwanted"),
    [
        ("import fluxgate_httpx", set(), {"httpx2", "httpcore2", "requests", "urllib3"}),
        (
            "from fluxgate_httpx import CircuitBreakerTransport, CircuitOpenError, protect",
            {"httpx"},
            {"httpx2", "httpcore2", "requests", "urllib3"},
        ),
        ("from fluxgate_httpx import *", {"httpx"}, {"httpx2", "httpcore2", "requests"}),
        (
            "from fluxgate_httpx.httpx2 import CircuitBreakerTransport, protect",
            {"httpx2"},
            {"httpx", "httpcore", "requests", "urllib3"},
        ),
        ("from fluxgate_httpx.httpx2 import *", {"httpx2"}, {"httpx", "httpcore", "requests"}),
        (
            "import fluxgate_httpx.requests",
            {"requests"},
            {"httpx", "httpcore", "httpx2", "httpcore2"},
        ),
    ],
)
def test_an_import_brings_one_library(statement: str, wanted: set[str], unwanted: set[str]) -> None:
    for library in wanted:
        pytest.importorskip(library, reason="one row of the matrix goes without")
    found = imported_by(statement)
    assert found >= wanted
    assert not found & unwanted


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_using_one_never_imports_the_other(library: str) -> None:
    pytest.importorskip(library, reason="one row of the matrix goes without")
    module = {"httpx": "fluxgate_httpx", "httpx2": "fluxgate_httpx.httpx2"}[library]
    other = {"httpx": "httpx2", "httpx2": "httpx"}[library]
    code = f"""
import {library} as lib
from {module} import CircuitBreakerTransport, HTTPPolicy, protect
with protect(lib.Client()):
    pass
mock = lib.MockTransport(lambda _: lib.Response(503, headers={{"Retry-After": "5"}}))
guard = CircuitBreakerTransport(mock, policy=HTTPPolicy(retry_after="respect"))
with lib.Client(transport=guard) as client:
    client.get("http://a.test")
    try:
        client.get("http://a.test")
    except lib.TransportError as error:
        repr(error)
    else:
        raise SystemExit("not refused")
"""
    assert other not in imported_by(code)


@pytest.mark.parametrize(
    ("library", "module", "remedy"),
    [
        ("httpx2", "fluxgate_httpx.httpx2", "fluxgate-httpx[httpx2]"),
        ("requests", "fluxgate_httpx.requests", "fluxgate-httpx[requests]"),
    ],
)
def test_without_the_library_the_extra_is_named(library: str, module: str, remedy: str) -> None:
    code = f"""
import sys
sys.modules[{library!r}] = None
try:
    import {module}
except ImportError as error:
    print(error)
"""
    assert remedy in run(code)


def test_one_library_does_without_the_other_installed() -> None:
    code = """
import sys
sys.modules["httpx2"] = sys.modules["requests"] = None
import httpx, fluxgate_httpx
fluxgate_httpx.CircuitBreakerTransport(httpx.MockTransport(lambda _: httpx.Response(200)))
print("fine")
"""
    assert run(code) == "fine"


def test_importing_is_cheap_and_starts_nothing() -> None:
    code = """
import threading, fluxgate_httpx
print(threading.active_count(), "asyncio" in __import__("sys").modules)
"""
    assert run(code) == "1 False"
