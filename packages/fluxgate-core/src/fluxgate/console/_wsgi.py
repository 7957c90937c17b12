"""The console as a WSGI application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from fluxgate.console._act import MAX_BODY
from fluxgate.console._asgi import parameters
from fluxgate.console._exchange import Request

if TYPE_CHECKING:
    from fluxgate.console._console import Console

Environ: TypeAlias = dict[str, Any]
Start: TypeAlias = Callable[[str, list[tuple[str, str]]], Any]


class Wsgi:
    """A console for WSGI servers, below whatever `SCRIPT_NAME` says that it is mounted at."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        response = self._console.handle(_request(environ))
        try:
            phrase = HTTPStatus(response.status).phrase
        except ValueError:
            phrase = "Unknown"
        start_response(f"{response.status} {phrase}", list(response.headers))
        return [response.body]


def _request(environ: Environ) -> Request:
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = str(environ[name])
    return Request(
        method=str(environ["REQUEST_METHOD"]).upper(),
        path=_decoded(environ.get("PATH_INFO", "")).removeprefix("/"),
        root=f"{_decoded(environ.get('SCRIPT_NAME', '')).rstrip('/')}/",
        query=parameters(str(environ.get("QUERY_STRING", ""))),
        headers=headers,
        body=_body(environ),
        peer=environ.get("REMOTE_ADDR") or None,
        secure=environ.get("wsgi.url_scheme") == "https",
    )


def _decoded(text: str) -> str:
    """A path as WSGI has it (PEP 3333), each byte a character."""
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def _body(environ: Environ) -> bytes:
    """The body, as far as it may be long and a byte more."""
    length = 0
    with suppress(ValueError):
        length = int(environ.get("CONTENT_LENGTH") or 0)
    if length <= 0:
        return b""
    data: bytes = environ["wsgi.input"].read(min(length, MAX_BODY + 1))
    return data
