"""URLs of stores: what each means, and what is refused when a fleet is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from fluxgate import ConfigError
from fluxgate.fleet._redis import RedisStore
from fluxgate.fleet._sqlite import SqliteStore
from fluxgate.fleet._url import open_store, redacted
from fluxgate.fleet.memory import MemoryStore


@pytest.mark.parametrize("slashes", ["//", "///"])
def test_sqlite_paths(tmp_path: Path, slashes: str) -> None:
    store = open_store(f"sqlite:{slashes}{tmp_path}/a%20b.db")
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "a b.db"
    assert not store.path.exists()  # nothing is made before it is used


def test_memory_spaces_have_names() -> None:
    one, two, other = map(open_store, ("memory://url", "memory://url", "memory://other"))
    assert isinstance(one, MemoryStore)
    assert isinstance(two, MemoryStore)
    assert isinstance(other, MemoryStore)
    assert one.space is two.space is not other.space


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://localhost",
        "redis://user:pa%40ss@localhost:6380/3",
        "rediss://localhost?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
        "unix:///run/a@b/redis.sock",
        "unix://user:secret@/run/redis.sock",
        "redis+sentinel://a:1,b,[::1]:3/orders?db=2&sentinel_password=x",
        "rediss+sentinel://:secret@a/orders",
        "redis+cluster://a:7000,b:7001",
        "REDIS://localhost",
    ],
)
def test_redis_urls(url: str) -> None:
    assert isinstance(open_store(url), RedisStore)  # which connects to nothing yet


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no scheme"),
        ("/run/x.db", "no scheme"),
        ("mysql://u:hunter2@h/x", "unknown scheme 'mysql'"),
        ("sqlite://", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite://relative/x.db", "three slashes"),
        ("sqlite:///does/not/exist/x.db", "does not exist: make it first"),
        ("redis://u:hunter2@localhost:port/0", "bad port"),
        ("redis://u:hunter2@localhost:0", "bad port"),
        ("redis://u:hunter2@localhost:65536", "bad port"),
        ("redis://u:hun/ter2@localhost:port", "bad port"),
        ("redis+cluster://:hunter2@a:7000,b:x", "bad port"),
        ("redis://:hunter2", "a password has an @ behind it"),
        ("redis://a,b:hunter2/0", "in 'b:***'"),
        ("redis+sentinel://:hunter2@a:1", "redis+sentinel://h1:26379,h2:26379/SERVICE"),
        ("redis+sentinel://:hunter2@a:1/x?password=hunter2", "unknown option 'password'"),
        ("redis://:hunter2?x@localhost:1/0", "write %2F, %3F and %23"),
        ("redis://u:hunter2#x@localhost", "write %2F, %3F and %23"),
        ("redis://localhost/0?password=hunter2@x", "%40 for an '@' behind the host"),
        ("redis://localhost/main", "no database 'main': write its number"),
        ("redis+cluster://a:7000/3", "no database but 0"),
        ("redis+cluster://a:7000?password=hunter2", "takes no options"),
        ("unix://", "unix:///run/redis.sock"),
        ("sqlite:///tmp/a%00b", "no file has such a name"),
        (f"sqlite:///tmp/{'x' * 300}", "File name too long"),
        ("sqlite:///dev/null", "no regular file"),
        pytest.param(f"redis+cluster://:hunter2@a:{'9' * 5000}", "bad port", id="many digits"),
        ("redis://:hunter2@h?\udce9=1", "unexpected keyword argument '\\udce9'"),
        pytest.param(f"redis://u:hunter2@{'h' * 99_999}:x", "bad port", id="a long host"),
        pytest.param(f"{'x' * 99_999}://u:hunter2@h", "unknown scheme", id="a long scheme"),
        (6379, "neither a URL nor a client"),
        (None, "neither a URL nor a client"),
    ],
)
def test_what_is_refused(url: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url)
    assert said in str(caught.value)
    assert "hun" not in str(caught.value)
    assert len(str(caught.value).encode()) < 2000
    assert caught.value.__cause__ is None


def test_redis_options_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="can't be used") as caught:
        open_store("redis://:hunter2@localhost?no_such_option=1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:pw@h:1/0?password=pw", "redis://u:***@h:1/0?***"),
        ("redis://:pw@h", "redis://:***@h"),
        ("redis://u@h", "redis://u@h"),
        ("redis://:pw/0", "redis://:***/0"),
        ("redis://h:pw,[::1]:6379,::1", "redis://h:***,[::1]:6379,:***"),
        ("redis://[::1]pw", "redis://[:***"),
        ("redis://u:p@w:x/y@h:1/0", "redis://u:***@h:1/0"),
        ("sqlite:///run/x.db", "sqlite:///run/x.db"),
        ("pw", "<no URL>"),
        ("redis://h:1/0?password=p@w", "redis://***"),
        ("redis://:p?w@h:1/0", "redis://***"),
        ("unix:///run/a@b/redis.sock", "unix:///run/a@b/redis.sock"),
        ("redis://h/\x1b[31m", "redis://h/\\x1b[31m"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_a_client_in_place_of_a_url() -> None:
    client = redis.Redis(host="example", port=1, username="u", password="pw", db=3)
    store = open_store(client)
    assert isinstance(store, RedisStore)
    copied = store._connect()
    settings = copied.connection_pool.connection_kwargs
    assert [settings[key] for key in ("host", "port", "username", "password", "db")] == [
        *("example", 1, "u", "pw", 3)
    ]
    assert settings["socket_timeout"] == 2.0
    assert copied.connection_pool is not client.connection_pool


def test_without_redis_py() -> None:
    """In a process of its own, since the module is imported here."""
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from fluxgate import ConfigError\n"
        "from fluxgate.fleet._url import open_store\n"
        "try: open_store('redis://h')\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "fluxgate-core[redis]"' in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="can't be written to"):
        open_store(f"sqlite://{tmp_path}/x.db")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder: name a file in it"):
        open_store(f"sqlite://{tmp_path}")


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.db")
    with pytest.raises(ConfigError, match="no regular file"):
        open_store(f"sqlite://{tmp_path}/x.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look anywhere")
def test_a_folder_that_is_closed(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(0o000)
    with pytest.raises(ConfigError, match="closed"):
        open_store(f"sqlite://{tmp_path}/closed/x/fleet.db")
