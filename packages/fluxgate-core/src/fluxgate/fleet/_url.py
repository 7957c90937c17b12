"""URLs of stores: which store one means, checked when the fleet is made.

    sqlite:///run/shop/fluxgate.db        the processes of one host (sqlite://// is the same)
    redis://user:password@host:6379/0     rediss:// for TLS
    redis+sentinel://h1:26379,h2:26379/service?db=0
    redis+cluster://h1:7000,h2:7000
    memory://name                         tests, inside one process

A client of redis-py may stand in place of a URL: its settings are copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote

from fluxgate._naming import printable
from fluxgate.errors import ConfigError
from fluxgate.fleet.store import Store

if TYPE_CHECKING:
    from fluxgate.fleet._redis import RedisStore

_SCHEMES: Final = (
    *("sqlite", "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"),
    *("redis+cluster", "rediss+cluster", "memory"),
)
_SPLIT: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_HOST: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(:(?P<port>.*))?", re.DOTALL)

_LONGEST: Final = 500
"""Characters of a URL that a message, a log or a metric shows."""


class _Parts(NamedTuple):
    """A URL, taken apart. `hosts` is what stands behind the credentials, as it is written."""

    scheme: str
    user: str | None
    password: str | None
    hosts: str
    path: str
    query: str


def redacted(url: object) -> str:
    """A URL without what must not be shown: no password, and no query, which may hold one."""
    if not isinstance(url, str):
        return f"<{type(url).__name__}>"
    found = _SPLIT.fullmatch(url)
    if found is None:
        return "<no URL>"
    parts = _parts(found)
    if parts.scheme not in ("sqlite", "memory") and "@" in found["rest"].partition("?")[2]:
        return f"{parts.scheme}://***"  # a password behind the host, or one with a "?" before it
    user = "" if parts.user is None else f"{parts.user}@"
    if parts.password is not None:
        user = f"{parts.user or ''}:***@"
    query = "?***" if parts.query else ""
    hosts = parts.hosts
    if parts.scheme not in ("sqlite", "memory", "unix"):
        hosts = ",".join(_redacted_host(each) for each in hosts.split(","))
    return printable(f"{parts.scheme}://{user}{hosts}{parts.path}{query}", _LONGEST)


def _redacted_host(text: str) -> str:
    """A host without what is no port: a password, where the "@" behind it was forgotten."""
    found = _HOST.fullmatch(text)
    if found is None:
        return "***"
    port = found["port"]
    return text if port is None or port.isdecimal() else f"{found['host']}:***"


def open_store(url: object, *, existing: bool = False) -> Store:
    """The store that a URL means; nothing is connected yet.

    Args:
        url: the URL, or a client of redis-py.
        existing: whether the store must be there already: a file, which is never made anew then, or
            circuits in memory.

    Raises:
        ConfigError: the URL can't be used; the message says why, and what to do.
    """
    if not isinstance(url, str):
        return _of_client(url)
    found = _SPLIT.fullmatch(url)
    scheme = found["scheme"].lower() if found else None
    if found is None or scheme not in _SCHEMES:
        wrong = "the URL has no scheme"  # and may be nothing but a password
        if found is not None:
            wrong = f"the URL {redacted(url)!r} has the unknown scheme {printable(scheme or '')!r}"
        raise ConfigError(
            f"fleet: {wrong}: write sqlite:///path/to/file for the "
            f"processes of one host, redis://host:6379/0 for more (known are {', '.join(_SCHEMES)})"
        )
    parts = _parts(found)
    if scheme == "sqlite":
        return _sqlite(parts, existing)
    if scheme == "memory":
        from fluxgate.fleet.memory import MemoryStore, Space

        space = Space.named(f"{parts.hosts}{parts.path}")
        if existing and not space.circuits:
            raise ConfigError(
                f"fleet: {redacted(url)!r} is inside one process, and this one has no circuits "
                "there: use sqlite:// or redis:// to share them"
            )
        return MemoryStore(space)
    return _redis(url, parts)


def _parts(found: re.Match[str]) -> _Parts:
    scheme, credentials, at, rest = found["scheme"].lower(), "", "", found["rest"]
    if scheme not in ("sqlite", "memory") and not (scheme == "unix" and rest.startswith("/")):
        # The last one: a password may hold what should have been escaped, and must not be shown.
        credentials, at, rest = rest.rpartition("@")
    rest, _, query = rest.partition("?")
    hosts, slash, path = rest.partition("/")
    user, colon, password = credentials.partition(":")
    return _Parts(
        scheme,
        unquote(user) if at and user else None,
        unquote(password) if colon else None,
        hosts,
        slash + path,
        query,
    )


def _sqlite(parts: _Parts, existing: bool) -> Store:
    if parts.hosts or not parts.path.strip("/"):
        raise ConfigError(
            "fleet: sqlite:// needs an absolute path, with three slashes: "
            "sqlite:///run/shop/fluxgate.db"
        )
    try:
        from fluxgate.fleet._sqlite import SqliteStore
    except ImportError as error:
        raise ConfigError(
            f"fleet: this Python has no {error.name}, which sqlite:// needs"
        ) from error
    return SqliteStore(Path("/" + unquote(parts.path).lstrip("/")), existing=existing)


# -- Redis


def _redis(url: str, parts: _Parts) -> RedisStore:
    redis = _library()
    from fluxgate.fleet._redis import RedisStore

    shown = redacted(url)
    kind = parts.scheme.partition("+")[2]
    hosts = [] if parts.scheme == "unix" else _hosts(parts, shown)
    _check_parts(url, parts, kind, shown)
    secrets = _secrets(parts)
    options = _options()
    make: Callable[[], Any]
    try:
        if kind == "sentinel":
            make = _sentinel(parts, hosts, options, shown)
        elif kind == "cluster":
            make = _cluster(parts, hosts, options)
        else:
            # What redis-py reads from a URL (db, TLS, client certificates), it reads here, too.
            lowered = parts.scheme + url[len(parts.scheme) :]
            if parts.scheme == "unix":
                del options["socket_keepalive"]
            make = partial(redis.Redis.from_url, lowered, **options)
            make().connection_pool.make_connection()  # complain about unknown options here
    except ConfigError:
        raise
    except Exception as error:
        said = str(error)
        for secret in secrets:
            said = said.replace(secret, "***")
        said = printable(said, _LONGEST)  # it quotes the query, which may hold lone surrogates
        raise ConfigError(f"fleet: the URL {shown!r} can't be used: {said}") from None
    return RedisStore(make, pipelined=kind != "cluster", secrets=secrets)


def _check_parts(url: str, parts: _Parts, kind: str, shown: str) -> None:
    """Refuse what would be read otherwise than it is meant, or not at all."""
    behind = url.partition("://")[2]
    named = parts.user is not None or parts.password is not None
    if named and re.search("[/?#]", behind.rpartition("@")[0]):
        raise ConfigError(
            f"fleet: the URL {shown!r} has '/', '?' or '#' before an '@': write %2F, %3F and %23 "
            "in a user or password, and %40 for an '@' behind the host"
        )
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ConfigError("fleet: unix:// needs the path of a socket: unix:///run/redis.sock")
    elif not kind and not re.fullmatch("/?[0-9]*/?", parts.path, re.ASCII):
        raise ConfigError(
            f"fleet: the URL {shown!r} has no database {printable(parts.path[1:])!r}: write its "
            "number, redis://host:6379/0"
        )
    elif kind == "cluster" and (parts.query or parts.path.strip("/") not in ("", "0")):
        raise ConfigError(
            f"fleet: the URL {shown!r} of a cluster takes no options, and no database but 0: "
            "redis+cluster://user:password@h1:7000,h2:7000"
        )


def _secrets(parts: _Parts) -> tuple[str, ...]:
    """The passwords of a URL, which no message may contain."""
    found = [value for name, value in parse_qsl(parts.query) if "password" in name]
    return tuple(secret for secret in (parts.password, *found) if secret)


def _library(name: str = "redis") -> Any:
    """A module of redis-py, whose types differ from one version to the next."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            "fleet: redis:// needs redis-py, which isn't installed: "
            'pip install "fluxgate-core[redis]"'
        ) from error


def _options() -> dict[str, Any]:
    """Our own retry, which is none, and time-outs; the rest is the user's."""
    from fluxgate.fleet._redis import TIMEOUT

    never = _library("redis.retry").Retry(_library("redis.backoff").NoBackoff(), 0)
    return {
        "retry": never,
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": TIMEOUT,
        "socket_keepalive": True,
        "decode_responses": False,
        "protocol": 2,
    }


def _sentinel(
    parts: _Parts, hosts: list[tuple[str, int]], options: dict[str, Any], shown: str
) -> Callable[[], Any]:
    service = unquote(parts.path.strip("/"))
    if not service or "/" in service:
        raise ConfigError(
            f"fleet: {shown!r} doesn't name the service that the sentinels watch: "
            "redis+sentinel://h1:26379,h2:26379/SERVICE"
        )
    more, own = dict(options), dict(options)
    for name, value in parse_qsl(parts.query):
        if name == "db" and value.isdecimal():
            more["db"] = int(value)
        elif name in ("sentinel_username", "sentinel_password"):
            own[name.removeprefix("sentinel_")] = value
        else:
            raise ConfigError(
                f"fleet: {shown!r} has the unknown option {printable(name)!r}: known are db, "
                "sentinel_username, sentinel_password"
            )
    more |= {"username": parts.user, "password": parts.password}
    if parts.scheme.startswith("rediss"):
        more["ssl"] = own["ssl"] = True

    def make() -> Any:
        sentinel = _library("redis.sentinel").Sentinel(hosts, sentinel_kwargs=own)
        return sentinel.master_for(service, **more)

    return make


def _cluster(
    parts: _Parts, hosts: list[tuple[str, int]], options: dict[str, Any]
) -> Callable[[], Any]:
    more = {**options, "username": parts.user, "password": parts.password}
    if parts.scheme.startswith("rediss"):
        more["ssl"] = True

    def make() -> Any:
        cluster = _library("redis.cluster")
        nodes = [cluster.ClusterNode(host, port) for host, port in hosts]
        return cluster.RedisCluster(startup_nodes=nodes, **more)

    return make


def _hosts(parts: _Parts, shown: str) -> list[tuple[str, int]]:
    usual = 26379 if parts.scheme.endswith("+sentinel") else 6379
    hosts: list[tuple[str, int]] = []
    for each in parts.hosts.split(","):
        found = _HOST.fullmatch(each)
        port = found and found["port"]
        if found is None or not (port is None or _is_port(port)):
            raise ConfigError(
                f"fleet: the URL {shown!r} has a bad port in {printable(_redacted_host(each))!r}: "
                "a port is a number from 1 to 65535, and a password has an @ behind it"
            )
        hosts.append((found["host"].strip("[]") or "localhost", int(port) if port else usual))
    return hosts


def _is_port(text: str) -> bool:
    # int() reads no more than some thousand digits.
    return len(text) < 10 and text.isdecimal() and 0 < int(text) < 65536


def _of_client(client: object) -> RedisStore:
    """A store with the settings of a client of redis-py, and connections of its own."""
    pool = getattr(client, "connection_pool", None)
    settings: dict[str, Any] | None = getattr(pool, "connection_kwargs", None)
    if pool is None or not isinstance(settings, dict):
        raise ConfigError(
            f"fleet: {type(client).__name__!r} is neither a URL nor a client of redis-py: write "
            "Fleet('redis://host:6379/0')"
        )
    redis = _library()
    from fluxgate.fleet._redis import RedisStore

    kept = {
        key: value
        for key, value in settings.items()
        if key not in ("retry_on_error", "retry_on_timeout", "maint_notifications_config")
    }
    options = {**kept, **_options()}
    if "path" in kept:  # a Unix socket
        del options["socket_keepalive"]
    kind = pool.connection_class

    def make() -> Any:
        made = redis.ConnectionPool(connection_class=kind, **options)
        return redis.Redis(connection_pool=made)

    password = settings.get("password")
    return RedisStore(make, secrets=(password,) if isinstance(password, str) else ())
