"""The SQLite store: a file that the processes of one host share.

All of it is in the file (`_sqlite_file`) but the pushes, which go through sockets in the folder
`FILE.d`.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fluxgate.fleet import _sqlite_schema as schema
from fluxgate.fleet._datagrams import Datagrams
from fluxgate.fleet._process import new_name
from fluxgate.fleet._sqlite_file import SqliteFile
from fluxgate.fleet._sqlite_rows import clean, padded, view_of
from fluxgate.fleet.store import (
    LETTERS,
    MAX_REASON,
    MAX_REPORT,
    REPORT_TTL,
    Exchange,
    Hint,
    Move,
    Report,
    StoreError,
    View,
    key_of,
    name_of,
    report_of,
)

POLL: Final = 0.25
"""Seconds between two looks at the file where there are no sockets."""


def boot_clock() -> int:
    """Milliseconds since the machine was started, the time that it slept included."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


class SqliteStore:
    """A `Store` in a file.

    Args:
        path: the file, made if need be. Its folder must exist.
        existing: whether the file must be there already, and is never made by this store. So a
            mistyped path is seen, and no operator's shell makes a file that only root may write to.

    Raises:
        ConfigError: the path can't be used; the message says why, and what to do.
    """

    def __init__(self, path: Path, *, existing: bool = False) -> None:
        self.path = path
        self.process = new_name()
        self.clock: Callable[[], int] = boot_clock
        self._ask = 0
        self._file = SqliteFile(path, existing=existing, owner=self.process)
        self._datagrams = Datagrams(Path(f"{path}.d"), self.process)

    # -- the verbs

    def exchange(self, requests: list[Exchange]) -> list[View | StoreError]:
        now, asks, rows = self.clock(), list[int](), list[list[Any]]()
        for request in requests:
            self._ask += 1
            asks.append(self._ask)
            rows.append(self._row(request, now))
        with self._file.opened() as database:
            database.execute(schema.INSERT_EXCHANGES, (json.dumps(rows),))
            self._file.written = True
            found = self._select(database, [request.name for request in requests], now)
        return [
            self._answer(request, ask, found.get(key_of(request.name)), now)
            for request, ask in zip(requests, asks, strict=True)
        ]

    def move(self, move: Move) -> View:
        now = self.clock()
        self._ask += 1
        row = (
            *(now, self.process, self._ask, key_of(move.name), move.expected, move.known),
            *(LETTERS[move.state], move.remaining, move.reopens, clean(move.reason)[:MAX_REASON]),
            *(int(move.reassert), move.ttl),
        )
        with self._file.opened() as database:
            database.execute(schema.INSERT_MOVE, row)
            self._file.written = True
            found = self._select(database, [move.name], now).get(key_of(move.name))
        view = view_of(move.name, found, now)
        if found is None or found[10] != f"{self.process}{self._ask}":
            return view
        self._datagrams.send(Hint(key_of(move.name), view.epoch, self.process))
        return view._replace(won=True)

    def read(self, names: list[str]) -> list[View]:
        now = self.clock()
        with self._file.opened() as database:
            found = self._select(database, names, now)
        return [view_of(name, found.get(key_of(name)), now) for name in names]

    def scan(self) -> list[str]:
        with self._file.opened() as database:
            rows = database.execute(
                "SELECT key FROM circuit WHERE expires > ?", (self.clock(),)
            ).fetchall()
        return [name_of(str(key)) for (key,) in rows]

    def reports(self, names: list[str], within: int = REPORT_TTL) -> list[list[Report]]:
        now = self.clock()
        with self._file.opened() as database:
            rows = database.execute(
                "SELECT key, process.id, report FROM process JOIN circuit ON circuit.id = circuit "
                "WHERE report <> '' AND expires > ? AND key IN (SELECT value FROM json_each(?))",
                (now, json.dumps([key_of(name) for name in names])),
            ).fetchall()
        found: dict[str, list[Report]] = {}
        for key, process, kept in rows:
            if (report := report_of(str(process), str(kept), now, within)) is not None:
                found.setdefault(key, []).append(report)
        return [found.get(key_of(name), []) for name in names]

    def wait(self, timeout: float) -> list[Hint]:
        try:
            began = self._datagrams.open()
        except OSError:
            return self._poll(timeout)
        return [Hint("")] if began else self._datagrams.wait(timeout)

    def wake(self) -> None:
        self._datagrams.wake()

    def close(self) -> None:
        self._file.close()
        self._datagrams.close()

    def before_fork(self) -> None:
        self._file.before_fork()

    def after_fork_in_parent(self) -> None:
        self._file.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        self._datagrams.drop()
        self.process = new_name()
        self._file.after_fork_in_child(self.process)
        self._datagrams = Datagrams(Path(f"{self.path}.d"), self.process)

    def _poll(self, timeout: float) -> list[Hint]:
        """Where there are no sockets: whether the file has changed since the last look."""
        deadline = time.monotonic() + timeout
        while not self._file.changed():
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(left, POLL))
        return [Hint("")]

    # -- rows

    def _row(self, request: Exchange, now: int) -> list[Any]:
        shape, delta = request.shape, request.delta
        report = None if request.report is None else clean(request.report)
        if report is not None:
            report = report.encode()[:MAX_REPORT].decode(errors="ignore")
        return [
            *(now, self.process, self._ask, key_of(request.name), request.epoch, shape.label),
            *(shape.width, shape.keep, shape.calls, *padded(delta), int(request.witness)),
            *(request.wants, request.slots, request.lease),
            json.dumps([[probe.token, *padded(probe.counts)] for probe in request.probes]),
            *(report, request.ttl),
        ]

    def _select(
        self, database: sqlite3.Connection, names: list[str], now: int
    ) -> dict[str, tuple[Any, ...]]:
        keys = json.dumps([key_of(name) for name in names])
        values = {"now": now, "process": self.process, "keys": keys}
        return {row[0]: row for row in database.execute(schema.SELECT_VIEWS, values).fetchall()}

    def _answer(
        self, request: Exchange, ask: int, row: tuple[Any, ...] | None, now: int
    ) -> View | StoreError:
        view = view_of(request.name, row, now, request.shape.width)
        if row is None:
            return view
        counted, granted = row[16], str(row[17] or "")
        leases = (lease.partition(":") for lease in granted.split(","))
        mine = [token for token, _, asked in leases if asked == f"{self.process}{ask}"]
        tokens = tuple(int(token) for token in mine if token.isdecimal() and len(token) < 20)
        slow = len(request.shape.thresholds)
        return view._replace(
            probes=view.probes._replace(slow=view.probes.slow[:slow]),
            tokens=tokens,
            applied=bool(request.delta.calls) and isinstance(counted, int) and counted >= ask,
        )
