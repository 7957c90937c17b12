"""Access: who is let in by loopback, whether the console's own page made a request, headers."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from fluxgate.console._exchange import Request

FORWARDED: Final = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
)
"""Headers that a proxy adds: a loopback peer that sends one is no local user."""

SECURITY: Final = (
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    # Not "no-referrer": browsers would send `Origin: null` with our own forms, and whoever looks at
    # that (Django, or we over plain HTTP, where there is no Sec-Fetch-Site) would refuse them.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)
"""Headers of each response."""


def is_local(request: Request) -> bool:
    """Whether a request comes from this machine, by a name of this machine, without a proxy.

    The name counts, since a page of another site may have had its own name point here (DNS
    rebinding).
    """
    if any(name in request.headers for name in FORWARDED):
        return False
    return _is_loopback(request.peer or "") and is_local_host(request.headers.get("host", ""))


def is_local_host(host: str) -> bool:
    """Whether a header `Host` names this machine: `localhost:8000`, `127.0.0.1`, `[::1]:80`."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_loopback
    return found.is_loopback


def is_same_origin(request: Request) -> bool:
    """Whether a page of this very origin made a request, as its browser says.

    `Sec-Fetch-Site` decides where it is sent; a page can't forge it. Else `Origin` must be the
    origin that the request goes to. Who sends neither is refused: a script can send `Origin`.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    host = request.headers.get("host")
    scheme = "https" if request.secure else "http"
    return bool(host) and request.headers.get("origin") == f"{scheme}://{host}"
