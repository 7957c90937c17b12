"""The SQLite store: a file that the processes of one host share.

The file is ours if its header says so (the application id), or if it is the one that we made last
(`FILE.d/lock` holds its inode) and something has written over it; any other file is left alone.
Ours is made anew when it is gone, damaged, or from before the last boot; a damaged one is kept as
`FILE.damaged`. A crash of the machine may lose what it holds, and that is all: it is not synced,
because what is in it is only of use while the machine runs.

All of it is in the file but the pushes, which go through sockets in the folder `FILE.d`.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from fluxgate._naming import safe_repr
from fluxgate.errors import ConfigError
from fluxgate.fleet import _sqlite_schema as schema
from fluxgate.fleet._datagrams import Datagrams
from fluxgate.fleet._mounts import network_mount
from fluxgate.fleet._process import new_name
from fluxgate.fleet._sqlite_rows import clean, padded, view_of
from fluxgate.fleet.store import (
    LETTERS,
    MAX_REASON,
    MAX_REPORT,
    REPORT_TTL,
    VERSION,
    Exchange,
    Hint,
    Move,
    Report,
    StoreBusy,
    StoreError,
    View,
    key_of,
    name_of,
    report_of,
)

BUSY: Final = 0.1
"""Seconds to wait for somebody else's write lock."""
POLL: Final = 0.25
"""Seconds between two looks at the file where there are no sockets."""


def boot_clock() -> int:
    """Milliseconds since the machine was started, the time that it slept included."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock) // 1_000_000


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not on Linux: a boot before this one is seen by its later clock
        return ""


class _NotOurs(Exception):
    """The file is somebody else's: the message says why we think so."""


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
        self._existing = existing
        self._lock_file = Path(f"{path}.d", "lock")
        self.process = new_name()
        self.clock: Callable[[], int] = boot_clock
        self._ask = 0
        self._database: sqlite3.Connection | None = None
        self._inode = -1
        self._written = False  # whether what went wrong since may have been done
        self._polled: sqlite3.Connection | None = None
        self._version = -1
        self._lock = threading.RLock()
        self._check()
        self._datagrams = Datagrams(Path(f"{path}.d"), self.process)

    # -- the verbs

    def exchange(self, requests: list[Exchange]) -> list[View | StoreError]:
        now, asks, rows = self.clock(), list[int](), list[list[Any]]()
        for request in requests:
            self._ask += 1
            asks.append(self._ask)
            rows.append(self._row(request, now))
        with self._opened() as database:
            database.execute(schema.INSERT_EXCHANGES, (json.dumps(rows),))
            self._written = True
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
        with self._opened() as database:
            database.execute(schema.INSERT_MOVE, row)
            self._written = True
            found = self._select(database, [move.name], now).get(key_of(move.name))
        view = view_of(move.name, found, now)
        if found is None or found[10] != f"{self.process}{self._ask}":
            return view
        self._datagrams.send(Hint(key_of(move.name), view.epoch, self.process))
        return view._replace(won=True)

    def read(self, names: list[str]) -> list[View]:
        now = self.clock()
        with self._opened() as database:
            found = self._select(database, names, now)
        return [view_of(name, found.get(key_of(name)), now) for name in names]

    def scan(self) -> list[str]:
        with self._opened() as database:
            rows = database.execute(
                "SELECT key FROM circuit WHERE expires > ?", (self.clock(),)
            ).fetchall()
        return [name_of(str(key)) for (key,) in rows]

    def reports(self, names: list[str], within: int = REPORT_TTL) -> list[list[Report]]:
        now = self.clock()
        with self._opened() as database:
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
        with self._lock:
            self._let_go()
            self._datagrams.close()

    def before_fork(self) -> None:
        # A child that opens the file anew beside an inherited connection holds no locks at all,
        # and its parent's close would delete the WAL under it.
        self._lock.acquire()
        self._let_go()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        self._database = self._polled = None
        self._datagrams.drop()
        self.process = new_name()
        self._datagrams = Datagrams(Path(f"{self.path}.d"), self.process)

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
        pairs = (lease.split(":", 1) for lease in granted.split(",") if lease)
        tokens = tuple(int(token) for token, asked in pairs if asked == f"{self.process}{ask}")
        slow = len(request.shape.thresholds)
        return view._replace(
            probes=view.probes._replace(slow=view.probes.slow[:slow]),
            tokens=tokens,
            applied=bool(request.delta.calls) and counted is not None and counted >= ask,
        )

    # -- the file

    def _check(self) -> None:
        try:
            self._check_path()
        except _NotOurs as error:
            raise ConfigError(f"fleet: {error}") from None
        except ConfigError:
            raise
        except (OSError, ValueError) as error:  # one may not look there; no file can have that name
            said = error.strerror if isinstance(error, OSError) else "no file has such a name"
            raise ConfigError(f"fleet: {safe_repr(str(self.path))} can't be used: {said}") from None

    def _check_path(self) -> None:
        folder, path = self.path.parent, self.path
        if not folder.is_dir():
            raise ConfigError(f"fleet: the folder {str(folder)!r} does not exist: make it first")
        if path.is_dir():
            raise ConfigError(f"fleet: {str(path)!r} is a folder: name a file in it")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(
                f"fleet: {str(folder)!r} can't be written to: choose a folder that all processes "
                "may write to"
            )
        with suppress(OSError):
            kind = network_mount(folder.resolve(), Path("/proc/self/mountinfo").read_text())
            if kind is not None:
                raise ConfigError(
                    f"fleet: {str(folder)!r} is on a network file system ({kind}), where locks "
                    "can't be relied on: choose a local folder, or Redis for several hosts"
                )
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise ConfigError(f"fleet: {str(path)!r} can't be read and written: mend its mode")
        self._ours()
        if self._existing and not path.exists():
            raise ConfigError(
                f"fleet: there is no file {str(path)!r}: look at the path; a process of the fleet "
                "makes it"
            )

    def _ours(self) -> int | None:
        """The file's inode; None if it is absent or empty. Raises if it is somebody else's."""
        try:
            # A device would be replaced by our file; and who opens a FIFO waits for a writer.
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise _NotOurs(f"{str(self.path)!r} is no regular file: choose another path")
            with self.path.open("rb") as file:
                head, inode = file.read(100), os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return None
        if not head:
            return None
        number = int.from_bytes(head[68:72], "big")
        if not head.startswith(b"SQLite format 3\0") or number != schema.APPLICATION_ID:
            if inode in (self._inode, self._made()):
                return None  # it was ours, and something has written over it
            raise _NotOurs(f"{str(self.path)!r} is a file of somebody else's: choose another path")
        version = int.from_bytes(head[60:64], "big")
        if version != VERSION:
            raise _NotOurs(
                f"{str(self.path)!r} was made by another version of Fluxgate (schema {version}, "
                f"this one's is {VERSION}): choose another path while both run"
            )
        return inode

    def _made(self) -> int:
        """The inode of the file that was made last, by whichever process; -1 if nobody knows.

        A process that starts beside a damaged file has no other way to know that it was ours, and
        must not fail to start while those that run go on.
        """
        try:
            return int(self._lock_file.read_bytes())
        except (OSError, ValueError):
            return -1

    @contextmanager
    def _opened(self) -> Generator[sqlite3.Connection, None, None]:
        """The database, ours alone while the block runs; every error becomes a `StoreError`."""
        with self._lock:
            self._written = False
            try:
                yield self._connection()
            except sqlite3.OperationalError as error:
                if _passing(error) and not self._written:
                    raise StoreBusy(f"sqlite: {error}") from error
                self._break(error)
                raise StoreError(f"sqlite: {error}") from error
            except sqlite3.Error as error:
                self._break(error)
                raise StoreError(f"sqlite: {error}") from error
            except (_NotOurs, OSError) as error:
                self._let_go()
                raise StoreError(f"sqlite: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        if self._database is not None:
            try:
                if os.stat(self.path).st_ino == self._inode:
                    return self._database
            except FileNotFoundError:
                pass
            self._let_go()
        inode = self._ours()
        if inode is None:
            self._make()
            inode = os.stat(self.path).st_ino
        database = self._connect(self.path)
        try:
            for pragma in ("synchronous=OFF", "wal_autocheckpoint=64", "mmap_size=0"):
                database.execute(f"PRAGMA {pragma}")
            boot = database.execute("SELECT id FROM boot").fetchone()
        except BaseException:
            self._inode = inode
            database.close()
            raise
        self._inode = inode
        if boot != (_boot_id(),):
            database.close()
            self._replace(inode)
            return self._connection()
        self._database = database
        return database

    def _connect(self, path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)

    def _break(self, error: sqlite3.Error) -> None:
        """After an error that will not pass: make the file anew if it is damaged, and ours."""
        damaged = self._inode
        self._let_go()
        if isinstance(error, sqlite3.OperationalError) and not _damage(error):
            return
        with suppress(OSError, sqlite3.Error, _NotOurs):
            self._replace(damaged)

    def _replace(self, inode: int) -> None:
        """Make the file anew, unless another process has by now."""
        with self._alone() as lock:
            try:
                if os.stat(self.path).st_ino != inode:
                    return
            except FileNotFoundError:
                pass
            self._build(lock, damaged=self._ours() is None)

    def _make(self) -> None:
        with self._alone() as lock:
            if self._ours() is None:
                self._build(lock, damaged=True)

    def _build(self, lock: int, *, damaged: bool) -> None:
        """Put a new file in place of what is there: whole, and in one step.

        Where the header is no longer ours, the inode alone says so, and a file system may give a
        number again: what is there is set aside, so that nothing of somebody else's is ever lost.
        """
        new = Path(f"{self.path}.{self.process.replace(':', '-')}.new")
        try:
            with closing(self._connect(new)) as database:
                database.execute("PRAGMA journal_mode=WAL")
                database.executescript(schema.SCHEMA)
                database.execute("INSERT INTO boot VALUES (?)", (_boot_id(),))
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self.path}{suffix}")
            if damaged:
                with suppress(FileNotFoundError):
                    if os.stat(self.path).st_size:
                        os.replace(self.path, f"{self.path}.damaged")
            os.pwrite(lock, f"{os.stat(new).st_ino:<20}".encode(), 0)
            os.replace(new, self.path)
        finally:
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    os.unlink(f"{new}{suffix}")

    @contextmanager
    def _alone(self) -> Generator[int, None, None]:
        """While the block runs, no other process makes the file. Gives the lock's descriptor."""
        if self._existing:
            raise OSError(
                f"{str(self.path)!r} holds no circuits now (it is gone, damaged, or from before "
                "the last boot): a process of the fleet makes it anew"
            )
        self._lock_file.parent.mkdir(exist_ok=True)
        lock = os.open(self._lock_file, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            deadline = time.monotonic() + BUSY
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise StoreBusy("sqlite: another process is making the file") from None
                    time.sleep(0.005)
            yield lock
        finally:
            os.close(lock)

    def _let_go(self) -> None:
        database, self._database = self._database, None
        polled, self._polled = self._polled, None
        for each in (database, polled):
            if each is not None:
                with suppress(sqlite3.Error):
                    each.close()

    def _poll(self, timeout: float) -> list[Hint]:
        """Where there are no sockets: whether the file has changed since the last look."""
        deadline = time.monotonic() + timeout
        while True:
            with self._lock, suppress(sqlite3.Error, OSError, _NotOurs):
                if self._polled is None and self._ours() is not None:
                    self._polled = self._connect(self.path)
                    self._version = -1
                if self._polled is not None:
                    (version,) = self._polled.execute("PRAGMA data_version").fetchone()
                    changed, self._version = version != self._version, version
                    if changed:
                        return [Hint("")]
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(left, POLL))


def _passing(error: sqlite3.OperationalError) -> bool:
    """Whether the next try may go well with the same connection."""
    return "locked" in str(error) or "busy" in str(error)


def _damage(error: sqlite3.OperationalError) -> bool:
    """Whether the error says that the file's content is not what we have put there."""
    said = str(error)
    return any(
        word in said for word in ("no such table", "no such column", "malformed", "disk I/O")
    )
