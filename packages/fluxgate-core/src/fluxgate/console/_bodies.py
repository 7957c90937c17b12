"""Bodies of responses: headers, `ETag`, compression, and the files of the page."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

from fluxgate.console._access import SECURITY
from fluxgate.console._exchange import Request, Response

HTML: Final = "text/html; charset=utf-8"
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
SMALLEST: Final = 1000
"""Bytes of a body from which on it is worth compressing."""

_STATIC: Final = Path(__file__).with_name("static")
_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def respond(
    request: Request,
    status: int,
    body: bytes | str | Callable[[], str],
    kind: str,
    *,
    tag: str | None = None,
    secret: bool = False,
    more: Mapping[str, str] | None = None,
) -> Response:
    """A response.

    Args:
        request: what it responds to.
        status: the HTTP status.
        body: the body; a function is asked only for what the client doesn't have already.
        kind: its media type.
        tag: its `ETag`; None: it has none.
        secret: whether a token is in it. It isn't compressed then: the length of what is
            compressed tells about its contents (BREACH).
        more: further headers.
    """
    headers = {
        "content-type": kind,
        "cache-control": "no-store",
        "vary": "accept-encoding, accept-language, cookie",
        **dict(SECURITY),
        **(more or {}),
    }
    if tag is not None:
        headers["etag"] = tag
        if status == 200 and tag in _tags(request.headers.get("if-none-match", "")):
            del headers["content-type"]
            return Response(304, tuple(headers.items()), b"")
    text = body() if callable(body) else body
    data = text.encode(errors="backslashreplace") if isinstance(text, str) else text
    if not secret and len(data) >= SMALLEST and takes_gzip(request):
        headers["content-encoding"] = "gzip"
        data = gzip.compress(data, 1, mtime=0)
    headers["content-length"] = str(len(data))
    return Response(status, tuple(headers.items()), b"" if request.method == "HEAD" else data)


def tag_of(*parts: object) -> str:
    """An `ETag` of what a page depends on; weak, since its ages and countdowns are left out."""
    return (
        f'W/"{blake2b(repr(parts).encode(errors="backslashreplace"), digest_size=12).hexdigest()}"'
    )


def _tags(header: str) -> set[str]:
    return {each.strip() for each in header[:1000].split(",")}


def takes_gzip(request: Request) -> bool:
    """Whether a client takes gzip, as each browser does."""
    for part in request.headers.get("accept-encoding", "")[:1000].lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return weight.strip().replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def static(request: Request, name: str) -> Response | None:
    """A file of the page; None where there is none of that name."""
    found = _files().get(name)
    if found is None:
        return None
    kind, data, tag = found
    return respond(request, 200, data, kind, tag=tag, more={"cache-control": "no-cache"})


@lru_cache(maxsize=1)
def _files() -> dict[str, tuple[str, bytes, str]]:
    """Every file that there is, by name: nothing that a request says becomes a path."""
    found: dict[str, tuple[str, bytes, str]] = {}
    for path in _STATIC.iterdir():
        if (kind := _KINDS.get(path.suffix)) is not None:
            data = path.read_bytes()
            found[path.name] = kind, data, f'W/"{zlib.crc32(data):08x}-{len(data):x}"'
    return found
