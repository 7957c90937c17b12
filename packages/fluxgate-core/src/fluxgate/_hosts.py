"""Hosts as circuits' names: their normal form, and the wider names whose settings hold for them.

The circuits of an HTTP client are called by host, `api.example.com:8080`, or by origin,
`https://api.example.com`; people write the settings for them as they write hosts and URLs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

PORTS: Final = {"http": 80, "https": 443}
"""The schemes' default ports, which stand in no name."""
_LONGEST: Final = 253
"""Characters of the longest host name that there can be."""
_PORT: Final = re.compile(r"(?P<host>\[.*\]|.*?)(?::(?P<port>[0-9]+))?", re.DOTALL)


class Host(NamedTuple):
    """A host as it was written.

    Attributes:
        scheme: in lower case; None if there was none.
        host: in lower case, IDNA-encoded, without a trailing dot; IPv6 in brackets.
        port: None if there was none.
        rest: what follows, which no circuit's name has: a path, a query; and what went before it:
            user and password.
    """

    scheme: str | None
    host: str
    port: int | None
    rest: str

    @property
    def netloc(self) -> str:
        """Host and port."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its circuits that the settings hold for, whatever else there is."""
        if self.scheme is not None:
            return (f"{self.scheme}://{self._plain}",)
        origins = (f"{scheme}://{self.host}" for scheme, port in PORTS.items() if port == self.port)
        return (self.netloc, *origins)

    @property
    def bare_names(self) -> tuple[str, ...]:
        """The names without a scheme, which are those of several origins."""
        if self.scheme is not None:
            return (self._plain,)
        return (self.host,) if self.port in PORTS.values() else ()

    @property
    def _plain(self) -> str:
        return self.host if self.port == PORTS.get(self.scheme or "") else self.netloc


def parse_host(name: str) -> Host:
    """A name, which may have patterns (`*`) in it, taken as a host or a URL."""
    text = name.strip()
    head, separator, rest = text.partition("://")
    scheme, text = (head.lower(), rest) if separator else (None, text)
    netloc, path = _cut(text)
    user, at, netloc = netloc.rpartition("@")
    if netloc.count(":") > 1 and not netloc.startswith("["):
        netloc = f"[{netloc}]"  # an IPv6 address, without a port
    found = _PORT.fullmatch(netloc)
    host, port = (found["host"], found["port"]) if found is not None else (netloc, None)
    return Host(scheme, _normal(host), None if port is None else int(port[:6]), f"{user}{at}{path}")


def wider(name: str) -> Iterator[str]:
    """The names under which settings for `name` may stand, too: without scheme, without port."""
    host = name.rpartition("://")[2]
    if host != name:
        yield host
    plain, _, port = host.rpartition(":")
    if plain and port.isdigit():
        yield plain


def _cut(text: str) -> tuple[str, str]:
    """Text before a path, query or fragment, and the rest; a lone `/` is no path."""
    end = min((at for at in map(text.find, "/?#") if at >= 0), default=len(text))
    return text[:end], "" if text[end:] == "/" else text[end:]


def _normal(host: str) -> str:
    host = host.lower().rstrip(".")
    if host.startswith("["):
        return f"[{_compressed(host.strip('[]'))}]"
    if host.isascii():
        return host
    labels = (label if label.isascii() else _idna(label) for label in host.split("."))
    return ".".join(labels).rstrip(".")  # some scripts have full stops of their own


def _compressed(address: str) -> str:
    from ipaddress import IPv6Address

    try:
        return str(IPv6Address(address))
    except ValueError:
        return address


def _idna(label: str) -> str:
    if len(label) > _LONGEST:  # encoders take quadratic time
        return label
    try:
        import idna  # what httpx and requests encode host names with; it comes with them

        return idna.encode(label, uts46=True).decode("ascii")
    except (ImportError, UnicodeError):
        pass
    try:
        return label.encode("idna").decode("ascii")
    except UnicodeError:
        return label
