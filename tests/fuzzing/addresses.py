"""Targets of what comes with requests and responses: hosts, URLs, `Retry-After`, refusals."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import httpx

from fluxgate._config import Config
from fluxgate._hosts import parse_host, wider
from fluxgate.errors import CallNotPermittedError
from fluxgate.problem import Problem, refusal_in, retry_after
from fluxgate.state import State
from fluxgate_httpx import HTTPPolicy
from fluxgate_httpx._key import LONGEST_KEY, bounded, by_host, by_origin

from .inputs import Inputs
from .targets import Grown, shows, target

HOSTS: Final = (
    *("https://", "http://", "HTTPS://", "ws://", "ftp://", "://", "//", "/", "?", "#", "@", ":"),
    *("api.example.com", "API.Example.com", "localhost", "127.0.0.1", "[::1]", "[", "]", "::1"),
    *(":443", ":80", ":8080", ":0", ":99999", ":65536", ":", ".", "..", "*", "*.", "%zone", "%25"),
    *("user:hunter2@", "bücher.example", "xn--bcher-kva.example", "faß.de", "日本語.jp", "ⓔ.com"),
    *("\u3002", "\uff0e", "\u200d", "\u2488", "xn--", "xn--a", "_", "-", "a" * 64, "1.2.3.4.5"),
    *("::ffff:1.2.3.4", "fe80::1%25eth0", " ", "\t", "\\", "&", "=", "x"),
)


PLAIN: Final = re.compile(
    r"\w+://(?:[^@\[\]/?#\\]*@)?(?:\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::[0-9]*)?(?:[/?#][!-~]*)?"
)
"""URLs that every library reads alike, if it reads them at all."""


def _ruled(text: str) -> None:
    Config({text: {}, "*": {}}).entry(text)
    by_host(text)
    by_origin(text)


@target(
    seeds=[
        b"\0https://user:hunter2@API.Example.com.:443/path?q#f",
        "\0bücher.example:8080".encode(),
    ],
    tokens=HOSTS,
    grown=Grown(_ruled, HOSTS),
)
def host(data: Inputs) -> None:
    """A name is a host; its normal form is its own; settings are found under each of its names."""
    text = data.written(HOSTS)
    found = parse_host(text)
    assert found.port is None or 0 <= found.port <= 999_999
    sound = re.fullmatch(r"\[[0-9a-f:.]+\]|[\w.*-]*", found.host) is not None
    for name in (*found.names, *found.bare_names) if sound else ():
        again = parse_host(name)
        assert again.host == found.host, (text, found, again)
    for each in wider(text):
        assert len(each) < len(text)
    if text:
        config = Config({text: {}, "*.example.com": {}})
        assert config.entry(text) == text
        if sound and found.host and not found.rest and "*" not in text:
            assert all(config.entry(name) for name in found.names)


@target(
    seeds=[b"\0https://user:hunter2@API.Example.com.:443/path?q#f", b"\0http://[::1]:8080/"],
    tokens=HOSTS,
)
def url(data: Inputs) -> None:
    """A URL's circuit has a short name without a password, the same from httpx's URL and text."""
    text = data.written(HOSTS)
    named = by_host(text)
    origin = by_origin(text)
    assert (named is None) == (origin is None)
    if named is not None:
        assert origin is not None
        assert origin.endswith(named)
        assert len(bounded(named)) <= LONGEST_KEY
        assert by_host(f"//{named}") == named or not PLAIN.fullmatch(text), (text, named)
    try:
        parsed = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError, TypeError, ValueError):
        return
    key = by_host(parsed)
    if key is not None:
        assert "hunter2" not in key or "hunter2" in parsed.host
        assert by_host(parsed) == key
        assert by_origin(parsed) == f"{parsed.scheme}://{key}"
        if parsed.scheme in ("http", "https") and PLAIN.fullmatch(text):
            assert named in (None, key), (text, named, key)


DATES: Final = (
    *("120", "0", "-1", "1.5", "1e3", "99999999999", "Sat, 28 Nov 2026 07:05:20 GMT", "Sat, "),
    *("Saturday, 28-Nov-26 07:05:20 GMT", "Sat Nov 28 07:05:20 2026", "28 ", "Nov ", "2026 "),
    *("07:05:20", " GMT", " -0000", " +9999", " EST", ":", "-", ",", "(", ")", ".", " ", "99"),
    *("0000", "99999", "Feb ", "30 ", "24:", ":60", "24:00:00", "\u0661", "x", "Z", "T"),
)
POLICIES: Final = (
    HTTPPolicy(retry_after="respect"),
    HTTPPolicy(retry_after="respect", max_retry_after=1e9),
)


@target(
    seeds=[b"\0\0\0\0120", b"\0\0\0\0Sat, 28 Nov 2026 07:05:20 GMT", b"\1\1\6\6\7\10\11\12"],
    tokens=DATES,
    grown=Grown(lambda text: POLICIES[0].retry_after_seconds({"retry-after": text}), DATES),
)
def retry_after_header(data: Inputs) -> None:
    """`Retry-After` is a number of seconds in bounds, or None."""
    policy = data.pick(POLICIES)
    headers: dict[str, str] = {}
    if data.byte() % 4 == 0:
        headers["retry-after-ms"] = data.phrase(DATES, 3)
    if data.byte() % 2:
        headers["date"] = data.phrase(DATES, 6)
    headers["retry-after"] = data.written(DATES)
    seconds = policy.retry_after_seconds(headers)
    assert seconds is None or 0 < seconds <= policy.max_retry_after


REASONS: Final = (
    *("Reason(", "clause=", "measured=", "calls=", "window=", "errors=", "note=", "by=", ")", ", "),
    *("'FailureRate(0.5)'", "0.5", "100", "None", "(('x.Error', 3),)", "'open_for()'", "1e999"),
    *("nan", "[", "]", "(", "{", "}", "-", "~", "'", '"', "b''", "...", "State.OPEN", "open"),
    *("<State.FORCED_OPEN: 'forced_open'>", "half_open", "*", "**", "lambda: 0", "\\", "1j"),
)


@target(tokens=REASONS, seeds=[b"\2\0\0\1\2\3\4\5\6\1\0\1\12\0\2\13\11\10"])
def refusal(data: Inputs) -> None:
    """A refusal from another process's serializer has a state, a time, a reason and a response."""
    sound: tuple[Any, ...] = ("payments", "open", 1.5, "Reason(clause='x', measured=0.5, calls=9)")
    given = data.changed(sound, REASONS) if data.byte() % 2 else sound
    args = list(given) if isinstance(given, (list, tuple)) else [given]
    args = [*args, *sound[len(args) :]][:4]
    if data.byte() % 2:
        args[3] = data.written(REASONS)
    try:
        args = json.loads(json.dumps(args))  # what text can carry
    except (TypeError, ValueError):
        return
    error = CallNotPermittedError(*args)
    assert isinstance(error.state, State)
    assert error.retry_after is None or isinstance(error.retry_after, float)
    shows(error)
    shows(error.reason)
    seconds = retry_after(error)
    assert seconds is None or seconds >= 1
    group = ExceptionGroup("several", [ValueError(), error])
    assert refusal_in(group) is error
    for show_name in (True, False):
        problem = Problem.of(group, show_name=show_name)
        json.loads(problem.json())
        assert all(value.isascii() for value in problem.headers.values())
