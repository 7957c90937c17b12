"""Targets of stores: what a foreign or hostile one may hold, or reply."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import redis

from fluxgate.fleet._circuits import circuits_of, look_at
from fluxgate.fleet._presence import NAME, presences
from fluxgate.fleet._redis import RedisStore
from fluxgate.fleet._redis_scripts import FIELDS
from fluxgate.fleet._sqlite import SqliteStore
from fluxgate.fleet._sqlite_file import _boot_id
from fluxgate.fleet._sqlite_rows import view_of
from fluxgate.fleet._url import open_store
from fluxgate.fleet.store import (
    Counts,
    Exchange,
    Move,
    Probe,
    Shape,
    Store,
    StoreError,
    View,
)
from fluxgate.state import State

from ..realservers import Redis
from .inputs import NUMBERS, Inputs
from .settings import FOLDER
from .stores import ANSWERS, NAMES, SECRET
from .targets import ENDS, refused, shows, target

SHAPE: Final = Shape(1, 61, 100, (1_000_000,))
ASKED: Final = Exchange(
    *("payments", 0, SHAPE, Counts(1, 1, 5, (0,)), True, 1, 2, 60_000),
    probes=(Probe(7, Counts(1)),),
    report="open 1/2",
)
MOVED: Final = Move("payments", None, 0, State.OPEN, 5_000, 1, "FailureRate(0.5)\t0.5")
REPLY: Final = [
    *(1, b"1764312000000", b"O", 5000, 1, b"FailureRate(0.5)\t0.5\t9", b"h:1:ab", b"h:2:cd"),
    *(1764312005000, b"1.1000000", 1764312005000, b"5.1.1.5.0|6.2.0.9.1", 1, 2, 300, b"1.0.5.0"),
    *(1, b"1764312000000000", 1, 1, 1),
]


REPORTED: Final = ["1764312005000", "h:1:a", "1764312004000 open 1/2/3 FailureRate(0.5)"]


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)


class Client:
    """In place of a client of redis-py: replies as they are given."""

    def __init__(self, data: Inputs) -> None:
        self._data = data

    def info(self, _: str) -> Any:
        return self._data.changed({"redis_version": "7.2.0"})

    def pipeline(self, **_: Any) -> Client:
        self._asked = 0
        return self

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute_command(self, verb: str, *_: Any) -> None:
        self._asked += 1

    def execute(self, **_: Any) -> list[Any]:
        return [self._reply() for _ in range(self._asked)]

    def _reply(self) -> Any:
        kind = self._data.byte() % 8
        if kind < 4:  # of two circuits, as what only reads is answered
            said = REPORTED if kind == 0 else REPLY
            rows = self._data.changed([said, said], ANSWERS)
            return json.dumps(rows, default=_as_text).encode()
        if kind == 4:
            return self._data.value(ANSWERS)
        return self._data.changed(REPLY, ANSWERS)

    def scan_iter(self, **_: Any) -> list[Any]:
        keys = [b"fluxgate:1:{payments}", b"fluxgate:1:{%ff}", b"\xff", b"", "fluxgate:1:{x}"]
        return [self._data.pick(keys) for _ in range(self._data.byte() % 4)]

    def close(self) -> None:
        pass


def _asks(store: Store) -> None:
    """Each verb of a store: answers, or a `StoreError`."""
    verbs: tuple[Callable[[], object], ...] = (
        lambda: store.exchange([ASKED]),
        lambda: store.move(MOVED),
        lambda: store.read(["payments", "search"]),
        store.scan,
        lambda: store.reports(["payments", NAME]),
        lambda: circuits_of(store),
        lambda: look_at(store),
        lambda: presences(store),
    )
    for verb in verbs:
        with refused(StoreError):
            shows(verb())


@target(tokens=ANSWERS, seeds=[b"\0" * 64, bytes(range(64))])
def redis_replies(data: Inputs) -> None:
    """Whatever a Redis replies, each verb gives views, or a `StoreError`."""
    _asks(RedisStore(lambda: Client(data), secrets=(SECRET,)))


def _goes_on(store: Store, asked: Exchange) -> None:
    """Whatever there was of a circuit, the store answers, and can have it again."""
    _asks(store)
    for request in (asked, ASKED, asked._replace(epoch=store.read(["payments"])[0].epoch)):
        (view,) = store.exchange([request])
        assert isinstance(view, View), view
    assert store.move(MOVED).won
    assert store.read(["payments"])[0].state is State.OPEN


def _rows(data: Inputs, database: sqlite3.Connection) -> None:
    """Change what is in a file: any column to anything that SQLite can hold."""
    for _ in range(1 + data.byte() % 4):
        table = data.pick(("circuit", "bucket", "process", "lease", "boot", "circuit"))
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        column, value = data.pick(columns), data.value(ANSWERS, 9)
        if isinstance(value, str):
            value = value.encode("utf-8", "replace").decode()
            if data.byte() % 8 == 0:
                value = b"\xff" + value.encode()
        if (isinstance(value, int) and abs(value) >= 2**63) or not isinstance(
            value, (int, str, bytes, float, type(None))
        ):
            value = 2**62
        cast = "CAST(? AS TEXT)" if data.byte() % 4 == 0 else "?"
        with suppress(sqlite3.Error):  # NOT NULL, UNIQUE
            database.execute(f"UPDATE {table} SET {column} = {cast}", (value,))


@target(tokens=ANSWERS, seeds=[b"\0\1\0\2" * 8, bytes(range(64))])
def sqlite_rows(data: Inputs) -> None:
    """Whatever a file's rows hold of a circuit, it is as good as absent, and written anew."""
    store = _file()
    with store._file.opened() as database:
        for table in ("circuit", "bucket", "process", "lease", "boot"):
            database.execute(f"DELETE FROM {table}")
        database.execute("INSERT INTO boot VALUES (?)", (_boot_id(),))
    store.move(MOVED._replace(state=data.pick((State.OPEN, State.HALF_OPEN, State.CLOSED))))
    asked = ASKED._replace(epoch=store.read(["payments"])[0].epoch)
    store.exchange([asked])
    with store._file.opened() as database:
        _rows(data, database)
    _goes_on(store, asked)


@cache
def _file() -> SqliteStore:
    """A store for all runs: to make its file takes a hundred times as long as a run."""
    store = SqliteStore(Path(FOLDER, "fleet.db"))
    ENDS.extend((store.close, _file.cache_clear))
    return store


@cache
def _server() -> tuple[RedisStore, Any] | None:
    """A Redis for all runs, and a client of it; None where the machine has no program."""
    try:
        server = Redis()
        server.start()
    except FileNotFoundError:
        return None
    store, client = open_store(server.url), redis.Redis(port=server.port)
    assert isinstance(store, RedisStore)
    ENDS.extend((_server.cache_clear, server.close, client.close, store.close))
    return store, client


def _stored(data: Inputs) -> bytes:
    """What a field may hold: a part of what ours write, or anything."""
    if data.byte() % 4 == 0:
        return data.some(40)
    return data.phrase((*"0123456789abcdef.|COHMDFZ -:@", *ANSWERS), 24).encode("utf-8", "replace")


@target(tokens=ANSWERS, seeds=[b"\0" * 40, bytes(range(90))])
def redis_contents(data: Inputs) -> None:
    """Whatever a Redis holds of a circuit, it is as good as absent, and written anew."""
    found = _server()
    if found is None:
        return
    store, client = found
    client.flushall()
    state = data.pick((State.CLOSED, State.HALF_OPEN, State.OPEN))
    asked = ASKED._replace(epoch=store.move(MOVED._replace(state=state)).epoch)
    store.exchange([asked])
    key = "fluxgate:1:{payments}"
    for _ in range(1 + data.byte() % 3):
        kind = data.byte() % 8
        with suppress(redis.ResponseError):  # the wrong type
            if kind < 4:
                client.hset(key, data.pick(FIELDS), _stored(data))
            elif kind < 6:
                where, score = data.pick((":s", ":b", ":l")), data.pick(NUMBERS[:9])
                client.zadd(f"{key}{where}", {_stored(data): score})
            elif kind == 6:
                client.hset(f"{key}:p", _stored(data), _stored(data))
            else:
                other = f"fluxgate:1:{{{data.word(NAMES)}}}"
                client.set(other.encode("utf-8", "replace"), b"noise")
    _goes_on(store, asked)


@target(tokens=ANSWERS, seeds=[b"\0" * 20, bytes(range(40))])
def sqlite_row(data: Inputs) -> None:
    """A row of any values is a view."""
    sound = ("payments", 5, "O", 9000, 1, "x\t0.5", "h:1:a", "h:1:b", "1.1000000", 7, "h:1:a1")
    rest = ("1.0.5.0.0.0.0", "5.1.1.5.0.0.0.0", 1, 2, 1, 3, "7:h:1:a1")
    row = data.changed((*sound, *rest), ANSWERS)
    if isinstance(row, tuple) and len(row) >= 18:
        shows(view_of("payments", row, 5_000_000))
