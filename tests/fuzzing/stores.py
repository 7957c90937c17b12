"""Targets of fleets: URLs, keys, pushes, and the text that a store holds."""

from __future__ import annotations

from typing import Final
from unittest import mock

from fluxgate.console._claims import OPERATION, entry_of
from fluxgate.errors import ConfigError
from fluxgate.fleet._circuits import circuit_of, process_of
from fluxgate.fleet._datagrams import read_hint, write_hint
from fluxgate.fleet._presence import host_and_pid
from fluxgate.fleet._reverts import read_next, successor
from fluxgate.fleet._url import open_store, redacted
from fluxgate.fleet._verdict import read_reason, write_reason
from fluxgate.fleet._window import read_buckets, read_counts, write_counts
from fluxgate.fleet.store import (
    MAX_EPOCH,
    Report,
    View,
    key_of,
    name_of,
    report_of,
)
from fluxgate.state import State

from .inputs import Inputs
from .targets import Grown, refused, shows, target

SECRET: Final = "hunter2"
URLS: Final = (
    *("redis://", "rediss://", "redis+sentinel://", "redis+cluster://", "sqlite://", "sqlite:///"),
    *("memory://", "unix://", "REDIS://", "http://", "://", f":{SECRET}", f":{SECRET}@", "@", ":"),
    *("user", "h", "h1:7000", ",", "h2:26379", "/service", "/0", "/", "?", "#", "&", "=", "%40"),
    *("db=0", "db=", f"password={SECRET}", f"sentinel_password={SECRET}", "ssl_cert_reqs=none"),
    *("socket_timeout=x", "[::1]", "[", "]", "%", "%2F", "%00", "tmp", "\0", "9" * 5000, ":6379"),
    *("ssl_cert_reqs=", "max_connections=", "protocol=", "retry=1", "health_check_interval=x"),
)


def _opened(text: str) -> None:
    with refused(ConfigError), mock.patch("fluxgate.fleet._sqlite_file.SqliteFile._check"):
        open_store(text)


@target(
    seeds=[
        *(
            f"\0redis://user:{SECRET}@h:6379/0?db=1".encode(),
            b"\0redis+sentinel://h1:1,h2:2/s?db=0",
        ),
        *(b"\0redis+cluster://h1:7000,h2:7000", b"\0sqlite:///tmp/x", b"\0unix:///run/redis.sock"),
    ],
    tokens=URLS,
    grown=Grown(_opened, URLS),
)
def fleet_url(data: Inputs) -> None:
    """A URL is a store, or a `ConfigError`."""
    text = data.written(URLS)
    redacted(text).encode()
    with refused(ConfigError), mock.patch("fluxgate.fleet._sqlite_file.SqliteFile._check"):
        store = open_store(text)
        shows(store)
        store.close()


@target(
    seeds=[
        f"\0redis://user:{SECRET}@h:6379/0?db=1".encode(),
        f"\0redis://:{SECRET}@h:x/0".encode(),
    ],
    tokens=URLS,
)
def fleet_secrets(data: Inputs) -> None:
    """Wherever a URL has its password, no error shows it."""
    where, before = data.byte() % 3, data.phrase(URLS, 12)
    url = (
        f"redis://u:{SECRET}@{before}",
        f"redis+sentinel://u:{SECRET}@h/{before}",
        f"rediss://h/0?password={SECRET}&{before}",
    )[where]
    if url.count(SECRET) > 1:
        return
    with refused(ConfigError, hidden=SECRET):
        open_store(url)
    assert SECRET not in redacted(url)


NAMES: Final = (
    *("payments", "api.example.com:443", "a b", "%41", "%ff", "%", "*", "\ud800", "\0", "/", ":"),
    *("é", "日本", "~", "a" * 71 + "*" + "0" * 24, "x" * 96, "%ED%A0%80", "{", "}", "|", "\n"),
)


def _keyed(text: str) -> None:
    name_of(key_of(text))
    read_hint(text.encode("utf-8", "replace"))
    read_buckets(text)
    read_counts(text)
    read_reason(text)
    process_of(Report(text, text))


TEXTS: Final = (
    *("1 ", "payments ", "1764312000000 ", "host:1:ab", "open ", "12/40/7 ", "@18c2f ", "closed "),
    *("FailureRate(0.5)\t", "\t", "0.5\t", "9\t", "O500", "H", "nan", "inf", "1e999", "|", "."),
    *("1.2.3.4", "ff.1.0.a|", "open_for()\t", "done\t", "force_open\t", "-", "/", ":", " ", "@"),
)


@target(seeds=[b"\0payments", b"\0\xff%ff"], tokens=NAMES, grown=Grown(_keyed, (*TEXTS, *NAMES)))
def fleet_key(data: Inputs) -> None:
    """A name has a short key of its own, and a key, whoever wrote it, a name that leads to it."""
    name = data.written(NAMES)
    key = key_of(name)
    assert key.isascii()
    assert len(key) <= 96
    assert key_of(name_of(key)) == key
    if len(key) < 96 and "*" not in key:
        assert name_of(key) == name
    foreign = name_of(name)  # what somebody else's key is shown as
    shows(foreign)
    assert len(key_of(foreign)) <= 96


@target(seeds=[b"\0001 payments 1764312000000 host:1:ab"], tokens=TEXTS)
def push(data: Inputs) -> None:
    """A push is a hint, or nothing."""
    raw = data.phrase(TEXTS).encode("utf-8", "replace") if data.byte() % 2 else data.rest()
    found = read_hint(raw)
    assert found is None or 0 < found.epoch <= MAX_EPOCH
    if found is not None:
        assert read_hint(write_hint(found)) == found


@target(seeds=[b"\0open 12/40/7 @18c2f FailureRate(0.5)", b"\1\0\1\2\3"], tokens=TEXTS)
def stored_text(data: Inputs) -> None:
    """Whatever text is stored, it is counts, a reason, a state, a report, an entry; or nothing."""
    text = data.written(TEXTS)
    counts = read_counts(text)
    if counts is not None:
        assert read_counts(write_counts(counts)) == counts
    for bucket in read_buckets(text):
        assert bucket.tick >= 0
    reason = read_reason(text)
    shows(reason)
    shows(reason.details)
    assert read_reason(write_reason(reason)) is not None
    for state in State:
        view = View("payments", True, 5, state, 0, reason=text, label=text, author=text)
        after = successor(view)
        assert after.left >= 0
        shows(read_next(view))
        shows(circuit_of(view, [Report(text, text, 5)]))
    report = report_of("h:1:a", text, 1764312000000)
    if report is not None:
        shows(process_of(report))
    host_and_pid(text)
    entry = entry_of(View(f"{OPERATION}x", True, 1, reason=text), "payments")
    if entry is not None:
        shows(entry)


ANSWERS: Final = (*TEXTS, *(f"{'9' * 5000}.1", "1.1000000", "COHMDF", "C", "payments", "1e+15"))
"""What a foreign store may hold, or reply."""
