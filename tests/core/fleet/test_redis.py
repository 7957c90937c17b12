"""The Redis store: real servers in every arrangement, and what may become of them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from fluxgate import CircuitBreaker, State
from fluxgate.fleet import Fleet
from fluxgate.fleet import _redis as redis_store
from fluxgate.fleet._redis import CHANNEL, RedisStore
from fluxgate.fleet._url import open_store
from fluxgate.fleet._window import added
from fluxgate.fleet.store import Counts, Exchange, Hint, Move, Shape, Store, StoreError, View

from ...realservers import PATIENCE, Gate, Redis, Sentinel

SHAPE = Shape(60, 61, 0, ())


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Redis() as running:
        yield running


@pytest.fixture(autouse=True)
def client(server: Redis) -> Iterator[Any]:
    """Of ours; the server is empty."""
    with redis.Redis(port=server.port) as made:
        made.flushall()
        yield made


@pytest.fixture
def store(server: Redis) -> Iterator[Store]:
    made = open_store(server.url)
    yield made
    made.close()


def count(store: Store, calls: int = 1) -> View:
    (view,) = store.exchange([Exchange("x", 0, SHAPE, Counts(calls))])
    assert isinstance(view, View), view
    return view


def calls(store: Store) -> int:
    return added((bucket.counts for bucket in store.read(["x"])[0].buckets), 0).calls


def pushed(store: Store) -> list[Hint]:
    """The next pushes: a wait may also end with the server's word that it has subscribed."""
    deadline = time.monotonic() + PATIENCE
    while not (hints := store.wait(PATIENCE)):
        assert time.monotonic() < deadline
    return hints


def works(store: Store) -> None:
    """Everything that it can do, once."""
    assert store.wait(PATIENCE) == [Hint("")]
    assert count(store, 3).applied
    view = store.move(Move("x", 0, 0, State.HALF_OPEN))
    assert view.won
    assert pushed(store) == [Hint("x", view.epoch, store.process)]
    (leased,) = store.exchange([Exchange("x", view.epoch, SHAPE, wants=1, slots=1, lease=9_000)])
    assert isinstance(leased, View)
    assert len(leased.tokens) == 1
    assert store.scan() == ["x"]
    assert store.reports(["x"]) == [[]]
    store.close()


# -- arrangements


def test_a_password(client: Any, server: Redis) -> None:
    client.config_set("requirepass", "hunter2")
    try:
        works(open_store(f"redis://:hunter2@127.0.0.1:{server.port}/2"))
        wrong = open_store(f"redis://:hunter3@127.0.0.1:{server.port}")
        for attempt in (lambda: count(wrong), lambda: wrong.wait(1.0)):
            with pytest.raises(StoreError, match=r"(?i)wrongpass|invalid") as caught:
                attempt()
            assert "hunter" not in str(caught.value)
    finally:
        client.config_set("requirepass", "")


ACL = "resetchannels ~fluxgate:1:* &fluxgate:1:* +evalsha +eval +subscribe +ping +info +time +type"
ACL += " +hmget +hset +hdel +hgetall +zadd +zrem +zcard +zcount +zremrangebyscore +del +pexpire"
ACL += " +publish +scan"


def test_a_user_with_the_fewest_rights(client: Any, server: Redis) -> None:
    client.execute_command("ACL", "SETUSER", "fleet", "on", ">pa/ss@x", *ACL.split())
    try:
        works(open_store(f"redis://fleet:pa%2Fss%40x@127.0.0.1:{server.port}"))
    finally:
        client.acl_deluser("fleet")


class Secure:
    """TLS before a server that has none: whoever comes is let through to `port`."""

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self._behind = port
        self._listening = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), True)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._behind))
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    @staticmethod
    def _carry(near: socket.socket, far: socket.socket) -> None:
        with near, far, contextlib.suppress(OSError):
            near.settimeout(0.01)
            while True:  # one thread for both ways: an SSL socket is not for two
                ready, _, _ = select.select([far], [], [], 0.0)
                if ready:
                    data = far.recv(65536)
                    if not data:
                        return
                    near.sendall(data)
                with contextlib.suppress(TimeoutError):
                    data = near.recv(65536)
                    if not data:
                        return
                    far.sendall(data)

    def close(self) -> None:
        self._listening.close()


def test_tls(server: Redis, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")  # cryptography has no wheel for CPython 3.13t
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    secure = Secure(context, server.port)
    url = f"rediss://127.0.0.1:{secure.port}"
    works(open_store(f"{url}?ssl_ca_certs={tmp_path}/ca.pem"))
    with pytest.raises(StoreError, match=r"(?i)certificate"):
        count(open_store(url))  # nobody whom we know has signed it
    secure.close()


def test_sentinels(server: Redis) -> None:
    with Sentinel(server, "orders") as sentinel:
        works(open_store(f"redis+sentinel://127.0.0.1:{sentinel.port}/orders?db=1"))
        unknown = open_store(f"redis+sentinel://127.0.0.1:{sentinel.port}/others")
        with pytest.raises(StoreError, match="others") as caught:
            count(unknown)
        assert "<redis" not in str(caught.value)  # a client with all its settings


@contextlib.contextmanager
def cluster() -> Iterator[Redis]:
    """A cluster of one server, which has all slots."""
    with Redis(None, "--cluster-enabled", "yes") as server:
        with redis.Redis(port=server.port) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            deadline = time.monotonic() + PATIENCE
            while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                assert time.monotonic() < deadline
        yield server


def test_a_cluster() -> None:
    with cluster() as server:
        store = open_store(f"redis+cluster://127.0.0.1:{server.port}")
        requests = [Exchange(f"circuit {n}", 0, SHAPE, Counts(n)) for n in range(1, 30)]
        views = store.exchange(requests)
        assert [isinstance(view, View) and view.applied for view in views] == [True] * 29
        assert len(store.scan()) == 29
        store.close()


def test_a_cluster_works() -> None:
    with cluster() as server:
        works(open_store(f"redis+cluster://127.0.0.1:{server.port}"))


def test_a_proxy_before_a_cluster() -> None:
    """It takes any circuit's script, and none of two circuits in different slots."""
    with cluster() as server:
        store = open_store(server.url)
        names = [f"circuit {n}" for n in range(30)]
        store.exchange([Exchange(name, 0, SHAPE, Counts(1), report="open 1/2") for name in names])
        for _ in range(2):
            assert [view.name for view in store.read(names) if view.known] == names
            assert [len(reports) for reports in store.reports(names)] == [1] * len(names)
        store.close()


def test_a_client_with_settings_of_its_own(server: Redis) -> None:
    own = redis.Redis(port=server.port, db=3, decode_responses=True)
    works(open_store(own))
    assert own.keys() != []
    own.flushdb()
    own.close()


# -- what may become of it


def test_nobody_is_there(caplog: pytest.LogCaptureFixture) -> None:
    store = open_store("redis://user:hunter2@127.0.0.1:1/0")
    with caplog.at_level(logging.DEBUG):
        for attempt in (lambda: count(store), lambda: store.wait(1.0), lambda: store.scan()):
            with pytest.raises(StoreError) as caught:
                attempt()
            assert "hunter2" not in str(caught.value)
    assert "hunter2" not in caplog.text


def test_scripts_are_loaded_again(client: Any, store: Store) -> None:
    count(store)
    client.script_flush()
    requests = [Exchange("x", 0, SHAPE, Counts(1)) for _ in range(10)]
    assert all(isinstance(view, View) and view.applied for view in store.exchange(requests))
    client.script_flush()
    assert store.move(Move("x", 0, 0, State.CLOSED)).won
    client.script_flush()
    assert store.read(["x"])[0].known


def test_a_server_that_is_too_old(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluxgate.fleet._redis.OLDEST", (99, 0))
    with pytest.raises(StoreError, match=r"too old: 6\.2 or newer is needed"):
        count(store)


def test_errors_are_printable() -> None:
    """Whatever it is that answers: what it says may be logged, and shown on a page."""

    class Hostile(Replies):
        version = "1.2.\udcef\n"

        def info(self, _: str) -> dict[str, str]:
            return {"redis_version": self.version}

        def execute(self, **_: Any) -> list[Any]:
            raise redis.ResponseError("\x1b[2J\u202e\udcef" + "x" * 10_000)

    client = Hostile(None)
    for message in (r"1\.2\.\\udcef\\n, and", r"\\u202e\\udcefx{300,400}…$"):
        with pytest.raises(StoreError, match=message) as caught:
            count(RedisStore(lambda: client))
        assert str(caught.value).isprintable()
        client.version = "8.2.3"


def test_a_server_that_is_full(client: Any, store: Store) -> None:
    count(store)
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreError, match=r"OOM|maxmemory"):
            count(store)
        with pytest.raises(StoreError, match=r"OOM|maxmemory"):
            store.move(Move("x", 0, 0, State.OPEN, 9_000))
    finally:
        client.config_set("maxmemory", "0")
    assert count(store).applied
    assert calls(store) == 2


def test_a_replica_that_is_read_only(server: Redis) -> None:
    with Redis(None, "--replicaof", "127.0.0.1", str(server.port)) as replica:
        store = open_store(replica.url)
        with pytest.raises(StoreError, match=r"(?i)read.?only|MASTERDOWN|LOADING"):
            count(store)
        store.close()


def test_killed_connections(client: Any, store: Store) -> None:
    count(store)
    assert store.wait(PATIENCE) == [Hint("")]
    client.client_kill_filter(_type="pubsub")
    client.client_kill_filter(_type="normal", skipme=True)
    with contextlib.suppress(StoreError):  # redis-py may have seen it before it sent anything
        count(store)
    assert count(store).applied
    deadline, hints = time.monotonic() + PATIENCE, list[Hint]()
    while hints != [Hint("")]:
        assert time.monotonic() < deadline
        try:
            hints = store.wait(PATIENCE)
        except StoreError:
            continue


def test_a_silent_server(server: Redis) -> None:
    """Nobody waits for longer than the time-out, and what is on its way is not sent twice."""
    with Gate(server.port) as gate:
        gate.silent = True
        store = open_store(f"redis://127.0.0.1:{gate.port}")
        with pytest.raises(StoreError, match=r"(?i)time"):
            count(store)
        store.close()


def test_a_wait_is_ended_by_close(store: Store) -> None:
    store.wait(PATIENCE)
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            store.wait(60.0)
            over.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    store.wake()
    assert over.wait(PATIENCE)


@pytest.mark.parametrize("kind", ["string", "list", "set", "zset", "hash"])
@pytest.mark.parametrize("suffix", ["", ":s", ":b", ":l", ":p"])
def test_keys_of_the_wrong_type(client: Any, store: Store, kind: str, suffix: str) -> None:
    key = f"fluxgate:1:{{x}}{suffix}"
    count(store)
    client.delete(key)
    {
        "string": lambda: client.set(key, "noise"),
        "list": lambda: client.rpush(key, "noise"),
        "set": lambda: client.sadd(key, "noise"),
        "zset": lambda: client.zadd(key, {"noise": 7}),
        "hash": lambda: client.hset(key, "noise", "noise"),
    }[kind]()
    assert store.read(["x"])[0].state is State.CLOSED
    assert count(store).applied
    assert store.move(Move("x", None, 0, State.OPEN, 9_000)).won


@pytest.mark.parametrize("field", list("esuryaqhtfbnwp"))
@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"\xff\x00", b"-1", b"1e300", b"nan", b"9" * 30, b"Z" * 999),
        pytest.param(b"9" * 5000, id="more digits than int() reads"),
    ],
)
def test_fields_full_of_noise(client: Any, store: Store, field: str, value: bytes) -> None:
    count(store)
    client.hset("fluxgate:1:{x}", field, value)
    (view,) = store.read(["x"])
    assert view.state in (State.CLOSED,)
    count(store)
    assert store.move(Move("x", None, 0, State.OPEN, 9_000)).won
    assert store.read(["x"])[0].state is State.OPEN


@pytest.mark.parametrize("data", [b"", b"\xff", b"1 x -5 me", b"2 x 5 me", b"x" * 10_000])
def test_hostile_messages(client: Any, store: Store, data: bytes) -> None:
    assert store.wait(PATIENCE) == [Hint("")]
    client.publish(CHANNEL, data)
    client.publish(CHANNEL, b"1 x 5 me")
    assert pushed(store) == [Hint("x", 5, "me")]


class Replies:
    """A client of redis-py in whose place anybody replies."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    def info(self, _: str) -> dict[str, str]:
        return {"redis_version": "7.2.0"}

    def pipeline(self, **_: Any) -> contextlib.nullcontext[Replies]:
        return contextlib.nullcontext(self)

    def execute_command(self, *_: Any) -> None:
        pass

    def execute(self, **_: Any) -> list[Any]:
        return [self._reply]


SOUND = [1, 5, b"O", 900, 0, b"", b"", b"", 7, b"1", 0, b"", 0, 0, 0, b"", 0, 0, 0, 0, 1]
"""A reply: an open circuit of epoch 5."""


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((0, None), (2, {}), (3, b"x"), (3, None), (3, 10**400), (9, b"9" * 5000), (17, 10**400)),
        (18, 2**52),  # as many leases would fill the memory
    ],
)
def test_replies_of_any_kind(place: int, value: Any) -> None:
    reply = [*SOUND[:place], value, *SOUND[place + 1 :]]
    written = json.dumps([reply], default=bytes.decode).encode()
    (view,) = RedisStore(lambda: Replies(reply)).exchange([Exchange("x", 5, SHAPE)])
    (read,) = RedisStore(lambda: Replies(written)).read(["x"])
    for each in (view, read):
        assert isinstance(each, View)
        assert each.name == "x"
        assert each.known == (place == 9)  # without its width, a window has the usual one


def test_replies_of_any_shape() -> None:
    replies: list[Any] = [None, 5, {}, [], [5, None], [None, []], [b"x", [b"a"]]]
    for reply in (*replies, [10**400, [b"a", b"1 x"]]):
        written = json.dumps([reply], default=repr).encode()
        for each in (reply, written, b"[" * 9_999, b"[[1]]", b'{"x": 1}', b"\xff", b"[1, 2, 3]"):
            store = RedisStore(lambda each=each: Replies(each))
            assert store.read(["x"]) == [View("x")]
            assert sum(map(len, store.reports(["x"]))) <= 1


def test_memory_is_bounded(client: Any, store: Store) -> None:
    """A kibibyte a circuit at most, and nothing without an end."""
    shape = Shape(1, 61, 100, (500_000,))
    for _ in range(3):
        requests = [
            Exchange(f"host-{n}.example.com:443", 0, shape, Counts(50, 5, 700, (3,)), witness=True)
            for n in range(2000)
        ]
        store.exchange(requests)
    keys = list(client.scan_iter(count=1000))
    # Key by key: what the server holds beside them, such as buffers of clients, comes and goes.
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.memory_usage(key).pttl(key)
        answers = pipe.execute()
    expiry = 32  # bytes of an entry in the table of those that expire, which aren't counted there
    assert sum(answers[::2]) / 2000 + expiry * len(keys) / 2000 < 1024
    assert min(answers[1::2]) > 0


def test_a_busy_minute(client: Any, store: Store) -> None:
    """A window of sixty full buckets is kept whole, and in a few kibibytes."""
    shape = Shape(1, 61, 0, ())
    now = int(client.time()[0])
    window = "|".join(f"{(now - age) % 4096:x}.64.5.1f4" for age in range(60, 0, -1))
    client.hset("fluxgate:1:{x}", mapping={"e": 0, "s": "C", "h": "1", "w": window})
    client.hset("fluxgate:1:{x}", "t", (now - 1) * 1000)
    (view,) = store.exchange([Exchange("x", 0, shape, Counts(7))])
    assert isinstance(view, View)
    assert [view.tick - bucket.tick for bucket in view.buckets] in (
        list(range(60, -1, -1)),
        [*range(60, 1, -1), 0],
    )
    assert len(client.hget("fluxgate:1:{x}", "w")) < 1024


def test_two_connections(client: Any, server: Redis) -> None:
    store = open_store(server.url)
    before = client.info("clients")["connected_clients"]
    for _ in range(5):
        count(store)
        store.read(["x"])
        store.scan()
        store.wait(0.0)
    assert client.info("clients")["connected_clients"] - before <= 2
    store.close()


def test_a_child_has_connections_of_its_own(store: Store) -> None:
    assert isinstance(store, RedisStore)
    count(store)
    store.wait(PATIENCE)
    store.before_fork()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        store.after_fork_in_child()
        try:
            count(store)
            os.write(writer, f"{calls(store)} {store.wait(PATIENCE)}".encode())
            store.close()
        finally:
            os._exit(0)
    store.after_fork_in_parent()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == f"2 {[Hint('')]}"
    os.waitpid(child, 0)
    count(store)
    assert calls(store) == 3
    view = store.move(Move("x", 0, 0, State.OPEN, 1_000))
    assert Hint("x", view.epoch, store.process) in pushed(store)


def test_an_old_server_is_reported_once(
    client: Any, server: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked again with each tick, and with no connection more for that."""
    monkeypatch.setattr("fluxgate.fleet._redis.OLDEST", (99, 0))
    asked: list[Any] = []
    real = redis_store._check_version

    def check(client: Any) -> None:
        asked.append(client)
        real(client)

    monkeypatch.setattr(redis_store, "_check_version", check)
    with caplog.at_level(logging.WARNING, "fluxgate"), Fleet(server.url) as fleet:
        one = CircuitBreaker("x", fleet=fleet)
        deadline = time.monotonic() + PATIENCE
        while len(asked) < 6:
            one.call(int)
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(client.client_list()) <= 4  # ours, the subscription, and one or none to try
    said = [record.getMessage() for record in caplog.records if "can't be used" in record.message]
    assert len(said) == 1
    assert "too old" in said[0]
