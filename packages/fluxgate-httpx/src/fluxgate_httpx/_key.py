"""Key functions: choose a circuit's name from a URL.

A key function takes the URL that is about to be asked (an `httpx.URL`, or a string) and returns
the circuit's name, or None where nothing should be protected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

__all__ = ["KeyFunction", "Url", "by_host", "by_origin"]


class Url(Protocol):
    """Parts of an httpx URL that keys use: both are lower case, and the host is IDNA-encoded."""

    @property
    def scheme(self) -> str:
        """Such as `https`."""
        ...

    @property
    def netloc(self) -> bytes:
        """Host and port; no userinfo, no default port."""
        ...


KeyFunction: TypeAlias = Callable[..., str | None]
"""Called with the URL; returns the circuit's name, or None: not protected."""

_LONGEST: Final = 262
"""Characters of the longest host name that there can be, with brackets or a port."""
LONGEST_KEY: Final = 512
"""Characters of the longest key that is left as it is."""
_DEFAULT_PORTS: Final = {"ftp": 21, "http": 80, "https": 443, "ws": 80, "wss": 443}


def by_host(url: Url | str) -> str | None:
    """One circuit per host and port: `api.example.com`, `localhost:8080`, `[::1]:8080`.

    Lower case, IDNA-encoded, without userinfo, default port or trailing dot. None for a URL that
    has no host.
    """
    asked: Any = url
    try:
        # The parsed URL itself, where there is one: httpx makes the public parts anew at each
        # look, which would be a quarter of what we cost a request.
        parsed = asked._uri_reference
        host, port = parsed.host, parsed.port
        # With an upper-case scheme, httpx keeps its default port.
        default = port is None or port == _DEFAULT_PORTS.get(parsed.scheme.lower())
        place: Any = host if default else (host, port)
    except AttributeError:
        place = _netloc(url) if isinstance(url, str) else url.netloc
    return _seen.get(place) or _noted(place)


def by_origin(url: Url | str) -> str | None:
    """One circuit per scheme, host and port: `https://api.example.com`.

    For hosts whose http and https answers come from different places. Else as `by_host`.
    """
    host = by_host(url)
    if host is None:
        return None
    scheme = url.partition(":")[0].lower() if isinstance(url, str) else url.scheme
    return f"{scheme}://{host}"


Place: TypeAlias = bytes | str | tuple[str, int]
_seen: dict[Place, str] = {}
"""Keys by netloc, or by host and port: most hosts are called again. Emptied when full."""
_MOST_SEEN: Final = 2048


def _noted(place: Place) -> str | None:
    netloc = _netloc_of(place)
    key = _tidied(netloc)
    if key is not None and len(netloc) <= _LONGEST:
        if len(_seen) >= _MOST_SEEN:
            _seen.clear()
        _seen[place] = key
    return key


def _netloc_of(place: Place) -> str:
    if isinstance(place, bytes):
        return place.decode("ascii")
    host, port = (place, None) if isinstance(place, str) else place
    if ":" in host:
        host = f"[{host}]"
    return host if port is None else f"{host}:{port}"


def _tidied(netloc: str) -> str | None:
    """The key of a host, which may have a trailing dot, be IPv6, empty, or impossibly long."""
    if netloc.startswith("["):
        address, bracket, port = netloc[1:].partition("]")
        return f"[{_compressed(address)}]{port}" if bracket and address else None
    host, colon, port = netloc.partition(":")
    host = host.rstrip(".")
    if not host:
        return None
    key = f"{host}{colon}{port}"
    return key if len(key) <= _LONGEST else _cut(key)  # no such host can exist


def bounded(key: str) -> str:
    """The key, or what stands for one that is too long for logs, metrics and memory."""
    return key if len(key) <= LONGEST_KEY else _cut(key)


def _cut(key: str) -> str:
    from hashlib import sha256

    digest = sha256(key.encode(errors="surrogatepass")).hexdigest()
    return f"{key[:64]}~{digest[:16]}"


def _compressed(address: str) -> str:
    from ipaddress import IPv6Address

    try:
        return str(IPv6Address(address))
    except ValueError:
        return address[:_LONGEST]


def _netloc(url: str) -> bytes:
    """Host and port as an httpx URL would give them; empty where there is none."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return b""  # whoever is to ask it has an error of its own for that
    if not host:
        return b""
    if not host.isascii():
        host = _idna(host)
    elif ":" in host:
        host = f"[{host}]"
    else:
        host = host.lower()  # urlsplit leaves what follows a "%" as it is: the zone of an address
    if not host or port is None or port == _DEFAULT_PORTS.get(parts.scheme):
        return host.encode("ascii")
    return f"{host}:{port}".encode("ascii")


def _idna(host: str) -> str:
    if len(host) > _LONGEST:  # no such host can exist, and encoders take quadratic time
        return ""
    import idna  # what httpx, httpx2 and requests encode host names with

    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except UnicodeError:
        return ""
