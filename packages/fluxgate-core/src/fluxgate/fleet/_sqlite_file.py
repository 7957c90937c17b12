"""The SQLite file: whose it is, how it is opened, and how it is made anew.

The file is ours if its header says so (the application id), or if it is the one that we made last
(`FILE.d/lock` holds its inode) and something has written over it; any other file is left alone.
Ours is made anew when it is gone, damaged, or from before the last boot; a damaged one is kept as
`FILE.damaged`. A crash of the machine may lose what it holds, and that is all: it is not synced,
because what is in it is only of use while the machine runs.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from fluxgate._naming import safe_repr
from fluxgate.errors import ConfigError
from fluxgate.fleet import _sqlite_schema as schema
from fluxgate.fleet._mounts import network_mount
from fluxgate.fleet.store import VERSION, StoreBusy, StoreError

BUSY: Final = 0.1
"""Seconds to wait for somebody else's write lock."""


_TEXT: Final = partial(str, encoding="utf-8", errors="replace")
"""Reads text whatever bytes are stored: one row that isn't UTF-8 must not cost all others."""


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not on Linux: a boot before this one is seen by its later clock
        return ""


class _NotOurs(Exception):
    """The file is somebody else's: the message says why we think so."""


class SqliteFile:
    """A database that the processes of one host share.

    Args:
        path: the file, made if need be. Its folder must exist.
        existing: whether the file must be there already, and is never made.
        owner: the name of this process, for the name of a file that it is making.

    Attributes:
        written: set by who writes: whether what goes wrong from then on may have been done.

    Raises:
        ConfigError: the path can't be used; the message says why, and what to do.
    """

    def __init__(self, path: Path, *, existing: bool, owner: str) -> None:
        self.path = path
        self.written = False
        self._existing = existing
        self._owner = owner
        self._lock_file = Path(f"{path}.d", "lock")
        self._database: sqlite3.Connection | None = None
        self._inode = -1
        self._polled: sqlite3.Connection | None = None
        self._version = -1
        self._lock = threading.RLock()
        self._check()

    @contextmanager
    def opened(self) -> Generator[sqlite3.Connection, None, None]:
        """The database, ours alone while the block runs; every error becomes a `StoreError`."""
        with self._lock:
            self.written = False
            try:
                yield self._connection()
            except sqlite3.OperationalError as error:
                if _passing(error) and not self.written:
                    raise StoreBusy(f"sqlite: {error}") from error
                self._break(error)
                raise StoreError(f"sqlite: {error}") from error
            except sqlite3.Error as error:
                self._break(error)
                raise StoreError(f"sqlite: {error}") from error
            except (_NotOurs, OSError) as error:
                self._let_go()
                raise StoreError(f"sqlite: {error}") from error

    def changed(self) -> bool:
        """Whether the file has changed since the last look; False where it can't be read."""
        with self._lock, suppress(sqlite3.Error, OSError, _NotOurs):
            if self._polled is None and self._ours() is not None:
                self._polled = self._connect(self.path)
                self._version = -1
            if self._polled is not None:
                (version,) = self._polled.execute("PRAGMA data_version").fetchone()
                changed, self._version = version != self._version, version
                return bool(changed)
        return False

    def close(self) -> None:
        """Close what is open; the next use opens it anew."""
        with self._lock:
            self._let_go()

    def before_fork(self) -> None:
        """Close it, and let nobody in until the fork is over."""
        # A child that opens the file anew beside an inherited connection holds no locks at all,
        # and its parent's close would delete the WAL under it.
        self._lock.acquire()
        self._let_go()

    def after_fork_in_parent(self) -> None:
        """Let others in again."""
        self._lock.release()

    def after_fork_in_child(self, owner: str) -> None:
        """Begin anew, under another name."""
        self._lock = threading.RLock()
        self._database = self._polled = None
        self._owner = owner

    # -- whose it is

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

    # -- opening and making it

    def _let_go(self) -> None:
        database, self._database = self._database, None
        polled, self._polled = self._polled, None
        for each in (database, polled):
            if each is not None:
                with suppress(sqlite3.Error):
                    each.close()

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
        database = sqlite3.connect(
            path, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        database.text_factory = _TEXT
        return database

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
        new = Path(f"{self.path}.{self._owner.replace(':', '-')}.new")
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


def _passing(error: sqlite3.OperationalError) -> bool:
    """Whether the next try may go well with the same connection."""
    return "locked" in str(error) or "busy" in str(error)


def _damage(error: sqlite3.OperationalError) -> bool:
    """Whether the error says that the file's content is not what we have put there."""
    said = str(error)
    return any(
        word in said for word in ("no such table", "no such column", "malformed", "disk I/O")
    )
