"""The SQLite store: its file and what may become of it, pushes, forks, and other processes."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxgate import ConfigError, State
from fluxgate.fleet import _sqlite_file
from fluxgate.fleet._mounts import network_mount
from fluxgate.fleet._sqlite import SqliteStore
from fluxgate.fleet._window import added
from fluxgate.fleet.store import (
    Counts,
    Exchange,
    Hint,
    Move,
    Shape,
    StoreError,
    View,
)

SHAPE = Shape(60, 61, 0, ())
PATIENCE = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fleet.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path)
    yield made
    made.close()


def calls(store: SqliteStore, name: str = "x") -> int:
    (view,) = store.read([name])
    return added((bucket.counts for bucket in view.buckets), 0).calls


def count(store: SqliteStore, calls: int = 1) -> View:
    (view,) = store.exchange([Exchange("x", 0, SHAPE, Counts(calls))])
    assert isinstance(view, View)
    return view


def soon_usable(store: SqliteStore) -> View:
    """The first view that comes after a fault; a try or two may fail."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return count(store)
        except StoreError:
            assert time.monotonic() < deadline


# -- files that aren't ours


@pytest.mark.parametrize(
    "content",
    [b"hello", b"x" * 5000, b"SQLite format 3\0" + bytes(84)],
    ids=["short", "long", "no"],
)
def test_a_foreign_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="somebody else's: choose another path"):
        SqliteStore(path)
    assert path.read_bytes() == content


def test_a_foreign_database_is_refused(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs(x)")
    content = path.read_bytes()
    with pytest.raises(ConfigError, match="somebody else's"):
        SqliteStore(path)
    assert path.read_bytes() == content


def test_another_version_is_refused(path: Path, store: SqliteStore) -> None:
    count(store)
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match=r"another version of Fluxgate \(schema 99"):
        SqliteStore(path)


def test_a_foreign_file_that_comes_later(path: Path, store: SqliteStore) -> None:
    count(store)
    path.unlink()
    path.write_bytes(b"precious")
    for _ in range(3):
        with pytest.raises(StoreError, match="somebody else's"):
            count(store)
    assert path.read_bytes() == b"precious"
    path.unlink()
    assert soon_usable(store).applied


MOUNTS = """\
24 1 0:22 / / rw shared:1 - ext4 /dev/sda rw
40 24 0:40 / /mnt rw - nfs4 server:/export rw,vers=4.2
41 40 0:41 / /mnt/local rw shared:3 master:1 - tmpfs tmpfs rw
42 24 0:42 / /with\\040blank rw - cifs //server/share rw
noise
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", None),
        ("/mnt", "nfs4"),
        ("/mnt/a/b", "nfs4"),
        ("/mntx", None),
        ("/mnt/local/x", None),
        ("/with blank/x", "cifs"),
    ],
)
def test_network_file_systems(folder: str, kind: str | None) -> None:
    assert network_mount(Path(folder), MOUNTS) == kind


# -- what may become of ours


def test_a_deleted_file_is_made_anew(path: Path, store: SqliteStore) -> None:
    other = SqliteStore(path)
    count(store)
    count(other)
    path.unlink()
    assert count(store).applied
    assert calls(other) == 1  # both are in the new one
    other.close()


def test_a_deleted_folder_of_sockets(path: Path, store: SqliteStore) -> None:
    assert store.wait(0.0) == [Hint("")]
    folder = Path(f"{path}.d")
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    assert store.wait(0.0) == [Hint("")]
    store.move(Move("x", None, 0, State.OPEN, 1_000))
    assert [hint.key for hint in store.wait(PATIENCE)] == ["x"]


@pytest.mark.parametrize("size", [0, 50, 1000, 4096, 20_000])
def test_a_truncated_file(path: Path, store: SqliteStore, size: int) -> None:
    other = SqliteStore(path)
    for n in range(300):  # some of it in the file, some in the WAL
        store.exchange([Exchange(f"circuit {n}", 0, SHAPE, Counts(1))])
    calls(other)
    os.truncate(path, size)
    store.close()  # or else all of it may be in the cache
    soon_usable(store)
    soon_usable(other)
    assert calls(store) == calls(other) >= 1
    other.close()


@pytest.mark.parametrize("begin", [0, 100, 4096])
def test_a_file_full_of_noise(path: Path, store: SqliteStore, begin: int) -> None:
    for n in range(300):
        store.exchange([Exchange(f"circuit {n}", 0, SHAPE, Counts(1))])
    store.before_fork()  # lets go of the connection, and nothing is cached
    store.after_fork_in_parent()
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(begin)
        file.write(os.urandom(size - begin))
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(StoreError):
            if count(store).applied and store.scan() is not None and store.read(["circuit 7"]):
                break
        assert time.monotonic() < deadline


def overwritten(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)


@pytest.mark.parametrize("content", [b"noise" * 2000, bytes(100)], ids=["noise", "zeros"])
def test_a_newcomer_beside_noise(path: Path, store: SqliteStore, content: bytes) -> None:
    """A process that starts while those that run may not have seen it yet."""
    count(store)
    overwritten(path, content)
    newcomer = SqliteStore(path)
    soon_usable(newcomer)
    soon_usable(store)
    assert calls(newcomer) == calls(store) >= 1
    assert Path(f"{path}.damaged").read_bytes().startswith(content)
    newcomer.close()


def test_everybody_starts_beside_noise(path: Path, store: SqliteStore) -> None:
    """After all of them have gone: the folder still knows which file was made last."""
    count(store)
    store.close()
    overwritten(path, b"noise" * 2000)
    newcomer = SqliteStore(path)
    assert soon_usable(newcomer).applied
    newcomer.close()


def test_a_foreign_file_in_place_of_ours(path: Path, store: SqliteStore) -> None:
    """Another file under the name: it isn't the one that was made last."""
    count(store)
    other = path.with_name("other")
    other.write_bytes(b"precious")
    other.replace(path)
    with pytest.raises(ConfigError, match="somebody else's"):
        SqliteStore(path)
    assert path.read_bytes() == b"precious"


def test_hostile_rows(path: Path, store: SqliteStore) -> None:
    count(store)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE circuit SET epoch = -5, state = 'ZZ', label = x'ff00', reason = 7")
        database.execute("UPDATE bucket SET calls = 'many'")
    assert not store.read(["x"])[0].known
    assert store.move(Move("x", None, 0, State.OPEN, 1_000)).won
    assert store.read(["x"])[0].state is State.OPEN


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("circuit", "epoch", 2**62),
        ("circuit", "epoch", "x"),
        ("circuit", "reopens", -5),
        ("circuit", "burst", 0.5),
        ("circuit", "expires", "never"),
        ("circuit", "label", "9" * 5000),
        ("circuit", "until", "soon"),
        ("circuit", "until", b""),
        ("circuit", "state", b"O"),
        ("bucket", "idx", 2**62),
        ("process", "counted", "many"),
        ("process", "report", b"\xff"),
        ("lease", "token", "x:y"),
    ],
)
@pytest.mark.parametrize("cast", ["?", "CAST(? AS TEXT)"])
def test_any_value_in_any_column(
    path: Path, store: SqliteStore, table: str, column: str, value: object, cast: str
) -> None:
    asked = Exchange("x", 0, SHAPE, Counts(1), wants=1, slots=5, lease=9_000, report="open 1/2")
    store.exchange([asked])
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO lease VALUES (1, 7, 9000000000000000, ?)", (store.process,))
        database.execute(f"UPDATE {table} SET {column} = {cast}", (value,))
    for _ in range(2):
        (view,) = store.exchange([asked])
        assert isinstance(view, View)
        assert isinstance(store.reports(["x"])[0], list)
        assert store.scan() == ["x"]
    assert store.move(Move("x", None, 0, State.OPEN, 1_000)).won
    assert store.read(["x"])[0].state is State.OPEN


def test_a_row_that_is_no_text(path: Path, store: SqliteStore) -> None:
    """One row that isn't UTF-8 costs no other circuit its store."""
    count(store)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE circuit SET reason = CAST(x'ff' AS TEXT)")
        database.execute("INSERT INTO process(circuit, id) VALUES (1, CAST(x'ff' AS TEXT))")
        database.execute("INSERT INTO circuit(key, expires) VALUES (CAST(x'ff' AS TEXT), 1 << 60)")
    assert store.read(["x"])[0].reason == "\ufffd"
    assert set(store.scan()) == {"x", "\ufffd"}
    assert count(store).applied


def test_a_missing_table_is_made_anew(path: Path, store: SqliteStore) -> None:
    count(store)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TABLE bucket")
    assert soon_usable(store).applied


def test_a_locked_file_is_not_waited_for(path: Path, store: SqliteStore) -> None:
    count(store)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            count(store)
        assert calls(store) == 1  # reading goes on
        database.execute("ROLLBACK")
    assert count(store).applied
    assert calls(store) == 2


def test_another_boot_is_void(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    count(store)
    store.close()
    monkeypatch.setattr(_sqlite_file, "_boot_id", lambda: "another")
    assert calls(store) == 0
    assert count(store).applied


def test_the_file_stays_small(path: Path, store: SqliteStore) -> None:
    requests = [
        Exchange(f"circuit {n}", 0, SHAPE, Counts(9, 3, 5), witness=True) for n in range(500)
    ]
    for _ in range(20):
        store.exchange(requests)
    size = sum(Path(f"{path}{suffix}").stat().st_size for suffix in ("", "-wal", "-shm"))
    assert size < 4 * 2**20


# -- pushes


def test_the_socket_of_a_dead_process_goes(path: Path, store: SqliteStore) -> None:
    folder = Path(f"{path}.d")
    folder.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(folder / "dead.sock"))
    store.move(Move("x", None, 0, State.OPEN, 1_000))
    assert not (folder / "dead.sock").exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"1 x y z", b"1 x 5", b"2 x 5 me", b"1 x -5 me", b"1  5 me", b"9" * 500],
)
def test_hostile_datagrams(path: Path, store: SqliteStore, data: bytes) -> None:
    assert store.wait(0.0) == [Hint("")]
    (name,) = [each for each in Path(f"{path}.d").iterdir() if each.suffix == ".sock"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
        sending.sendto(data, str(name))
        sending.sendto(b"1 x 5 me", str(name))
    assert store.wait(PATIENCE) == [Hint("x", 5, "me")]


def test_nobody_waits_for_who_does_not_read(path: Path, store: SqliteStore) -> None:
    deaf = SqliteStore(path)
    assert deaf.wait(0.0) == [Hint("")]
    for _ in range(600):  # more than a socket's queue holds
        assert store.move(Move("x", None, 0, State.OPEN, 1_000)).won
    assert len(deaf.wait(0.0)) >= 1
    deaf.close()


def test_many_open_descriptors(store: SqliteStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("this user may not open 2,000 files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    opened: list[int] = []
    try:
        while not opened or opened[-1] < 1100:  # beyond what select() can hold
            opened.append(os.open(os.devnull, os.O_RDONLY))
        assert store.wait(0.0) == [Hint("")]  # it has begun to listen
        store.wake()
        assert store.wait(PATIENCE) == []
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_closed_store_leaves_no_pipe(path: Path) -> None:
    def pipes() -> list[str]:
        found: list[str] = []
        for each in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/self/fd/{each}"))
        return [each for each in found if each.startswith("pipe:")]

    gc.collect()
    before = set(pipes())
    made = SqliteStore(path)
    assert set(pipes()) - before
    made.close()
    del made
    gc.collect()
    assert not set(pipes()) - before


def test_without_sockets_the_file_is_polled(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> bool:
        raise OSError("no sockets here")

    monkeypatch.setattr("fluxgate.fleet._datagrams.Datagrams.open", refuse)
    other = SqliteStore(path)
    count(store)
    other.wait(0.0)
    assert other.wait(0.0) == []
    mover = threading.Thread(target=store.move, args=(Move("x", None, 0, State.OPEN, 1_000),))
    mover.start()
    assert other.wait(PATIENCE) == [Hint("")]
    mover.join()
    other.close()


def test_a_long_path(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    one, two = SqliteStore(folder / "fleet.db"), SqliteStore(folder / "fleet.db")
    assert two.wait(0.0) == [Hint("")]
    one.move(Move("x", None, 0, State.OPEN, 1_000))
    assert [hint.key for hint in two.wait(PATIENCE)] == ["x"]
    one.close()
    two.close()


# -- processes


def _count_many(path: Path, deltas: int) -> None:
    store = SqliteStore(path)
    made = 0
    while made < deltas:
        with contextlib.suppress(StoreError):  # locked: it was not counted
            made += count(store, 3).applied
    store.close()


def test_counts_are_exact(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_count_many, args=(path, 200)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0] * 4
    store = SqliteStore(path)
    assert calls(store) == 4 * 200 * 3
    store.close()


def test_killed_in_mid_write(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    for _ in range(3):
        process = spawn.Process(target=_count_many, args=(path, 10**9))
        process.start()
        store = SqliteStore(path)
        before, deadline = calls(store), time.monotonic() + PATIENCE
        while calls(store) == before:
            assert time.monotonic() < deadline
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE)
        assert calls(store) % 3 == 0
        assert soon_usable(store).known
        store.close()
        path.unlink()


def test_a_child_has_a_connection_of_its_own(store: SqliteStore) -> None:
    count(store)
    store.wait(0.0)
    name = store.process
    store.before_fork()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        store.after_fork_in_child()
        try:
            count(store)
            held = store.wait(0.0)
            os.write(writer, f"{calls(store)} {store.process != name} {held}".encode())
            store.close()
        finally:
            os._exit(0)
    store.after_fork_in_parent()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == f"2 True {[Hint('')]}"
    os.waitpid(child, 0)
    count(store)
    assert calls(store) == 3
    store.move(Move("x", None, 0, State.OPEN, 1_000))
    assert [hint.key for hint in store.wait(PATIENCE)] == ["x"]
