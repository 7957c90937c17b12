"""The server of the command: the standard library's, a thread for each connection."""

from __future__ import annotations

import errno
import os
import socket
import sys
import traceback
from collections.abc import Callable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from fluxgate._naming import printable
from fluxgate.errors import ConfigError

__all__ = ["Asking", "Server", "listening"]

CHALLENGE: Final = 'Basic realm="Fluxgate console", charset="UTF-8"'


class _Handler(WSGIRequestHandler):
    timeout = 30.0
    """Seconds after which a connection that sends nothing is closed: each has a thread."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Nothing: a page asks every two seconds."""


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64
    allow_reuse_address = os.name != "nt"  # there, it would share the port with another server

    def __init__(self, family: socket.AddressFamily, address: tuple[Any, ...]) -> None:
        self.address_family = family
        super().__init__((address[0], address[1]), _Handler)

    def server_bind(self) -> None:
        """Bind, without asking the DNS for this machine's name, as the base class does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing for a connection that broke off or sent nothing; the rest as ever."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()

    @property
    def url(self) -> str:
        """The URL of what it serves."""
        host, port = self.server_name, self.server_port
        return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


_REMEDIES: Final = {
    errno.EADDRINUSE: "is in use by another program: give --bind another port, or 0 for any",
    errno.EACCES: "needs more rights: give --bind a port above 1023",
    errno.EADDRNOTAVAIL: "is no address of this machine",
}


def listening(host: str, port: int) -> Server:
    """A server that listens.

    Raises:
        ConfigError: it can't listen there; the message says why, and what to do.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return Server(family, address)
    except OSError as error:  # a name that the DNS doesn't know is one, too
        why = _REMEDIES.get(error.errno or 0, f"can't be used: {error.strerror or error}")
        raise ConfigError(f"{printable(host, None)}:{port} {why}") from error


class Asking:
    """A WSGI application that asks whoever isn't known for a name and the token.

    Args:
        app: the application; it refuses strangers, and audits that.
        known: whether an `Authorization` header is good.
    """

    def __init__(self, app: Any, known: Callable[[str], bool]) -> None:
        self._app = app
        self._known = known

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            if status.startswith("403") and not self._known(environ.get("HTTP_AUTHORIZATION", "")):
                status, headers = "401 Unauthorized", [*headers, ("WWW-Authenticate", CHALLENGE)]
            return start_response(status, headers, *more)

        return self._app(environ, start)
