"""The stores that the contract is held against, and what can be done to each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import redis

from fluxgate.fleet._sqlite import SqliteStore, boot_clock
from fluxgate.fleet._url import open_store
from fluxgate.fleet.memory import MemoryStore, Space
from fluxgate.fleet.store import Store

from ...realservers import Redis


class Backend(Protocol):
    def make(self) -> Store: ...
    def forget(self) -> None: ...
    def pass_time(self, milliseconds: int) -> None: ...
    def down(self) -> None: ...
    def up(self) -> None: ...
    def close(self) -> None: ...


class Memory:
    def __init__(self, folder: Path) -> None:
        self.space = Space()

    def make(self) -> Store:
        return MemoryStore(self.space)

    def forget(self) -> None:
        self.space.forget()

    def pass_time(self, milliseconds: int) -> None:
        clock = self.space.clock
        self.space.clock = lambda: clock() + milliseconds

    def down(self) -> None:
        self.space.down = True

    def up(self) -> None:
        self.space.down = False

    def close(self) -> None:
        pass


class Sqlite:
    """`down` is another connection that holds the write lock, and then the file's absence."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "fleet.db"
        self.made: list[SqliteStore] = []
        self.away = folder.with_name("away")
        self.passed = 0

    def make(self) -> Store:
        store = SqliteStore(self.path)
        self.made.append(store)
        return store

    def forget(self) -> None:
        self.path.unlink()

    def pass_time(self, milliseconds: int) -> None:
        self.passed += milliseconds
        for store in self.made:
            store.clock = lambda: boot_clock() + self.passed

    def down(self) -> None:
        self.path.parent.rename(self.away)

    def up(self) -> None:
        self.away.rename(self.path.parent)

    def close(self) -> None:
        for store in self.made:
            store.close()


class OnRedis:
    """One server for each test; started again, it has the same port."""

    def __init__(self, folder: Path) -> None:
        self.server = Redis()
        self.server.start()
        self.client = redis.Redis(port=self.server.port)

    def make(self) -> Store:
        return open_store(self.server.url)

    def forget(self) -> None:
        self.client.flushall()

    def pass_time(self, milliseconds: int) -> None:
        for key in self.client.scan_iter():
            left = self.client.pttl(key)
            assert left > 0, f"{key!r} never expires"
            self.client.pexpire(key, max(left - milliseconds, 0))
            if key.endswith(b"}") and (until := self.client.hget(key, "u")):
                self.client.hset(key, "u", int(until) - milliseconds)
            if key.endswith(b":p"):
                for process, kept in self.client.hgetall(key).items():
                    at, _, text = kept.partition(b" ")
                    older = b"%d %b" % (int(at) - milliseconds, text)
                    self.client.hset(key, process, older)

    def down(self) -> None:
        self.server.kill()

    def up(self) -> None:
        self.server.start()

    def close(self) -> None:
        self.client.close()
        self.server.close()


KINDS: dict[str, Any] = {"memory": Memory, "sqlite": Sqlite, "redis": OnRedis}


class Stores:
    """One backend, and the stores that a test has made of it."""

    def __init__(self, kind: str, folder: Path) -> None:
        home = folder / "home"
        home.mkdir()
        self._backend: Backend = KINDS[kind](home)
        self._made: list[Store] = []
        self.forget = self._backend.forget
        self.pass_time = self._backend.pass_time
        self.down = self._backend.down
        self.up = self._backend.up

    def make(self) -> Store:
        store = self._backend.make()
        self._made.append(store)
        return store

    def __enter__(self) -> Stores:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._made:
            store.close()
        self._backend.close()
