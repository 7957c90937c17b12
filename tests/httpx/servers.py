"""Real servers on loopback that misbehave on command: HTTP/1.1 on bare sockets, HTTP/2 over TLS.

    url = server.on(answer(503, {"Retry-After": "7"}))

A server remembers what it was asked. What stalls goes on when the test says so (`server.go_on()`),
so nothing here sleeps, and nothing is left when the server is closed.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import h2.config
import h2.connection
import h2.events
import h2.exceptions

PATIENCE = 20.0
"""Seconds after which something that never comes fails a test instead of hanging it."""


@dataclass
class Asked:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Exchange:
    """A request and the connection it came on."""

    server: Server
    asked: Asked
    connection: socket.socket
    over: bool = field(default=False)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", *(f"{k}: {v}" for k, v in headers.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def wait(self) -> None:
        """Stall until the test lets the server go on."""
        assert self.server.gate.wait(PATIENCE), "the test never let the server go on"

    def close(self) -> None:
        self.over = True

    def reset(self) -> None:
        """Close with a RST: whoever reads gets ECONNRESET."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.over = True


DATA_OF_NO_STREAM = b"\x00\x00\x05\x00\x00\x00\x00\x00\x00hello"
"""An HTTP/2 frame of data for stream 0, which the rules forbid."""

Behaviour: TypeAlias = Callable[[Exchange], None]


# -- what a server can do with a request


def answer(
    status: int = 200, headers: Mapping[str, str] | None = None, body: bytes = b"hello"
) -> Behaviour:
    """A whole and honest answer."""

    def behave(exchange: Exchange) -> None:
        exchange.head(status, {"Content-Length": str(len(body)), **(headers or {})})
        if exchange.asked.method != "HEAD":
            exchange.send(body)

    return behave


def redirect(location: str, status: int = 302) -> Behaviour:
    return answer(status, {"Location": location}, b"over there")


def gzipped(text: str) -> Behaviour:
    return answer(200, {"Content-Encoding": "gzip"}, gzip.compress(text.encode(), mtime=0))


def chunked(*chunks: bytes) -> Behaviour:
    """An answer in chunks."""

    def behave(exchange: Exchange) -> None:
        exchange.head(200, {"Transfer-Encoding": "chunked"})
        for chunk in chunks:
            exchange.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        exchange.send(b"0\r\n\r\n")

    return behave


def truncated(headers: Mapping[str, str] | None = None) -> Behaviour:
    """Promises ten bytes, sends five, hangs up."""

    def behave(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": "10", **(headers or {})})
        exchange.send(b"hello")
        exchange.close()

    return behave


def chunked_short(exchange: Exchange) -> None:
    """Hangs up in the middle of a chunk."""
    exchange.head(200, {"Transfer-Encoding": "chunked"})
    exchange.send(b"5\r\nhello\r\n5\r\nwo")
    exchange.close()


def stalled(headers: Mapping[str, str] | None = None) -> Behaviour:
    """Sends half of the body, and the rest when the test lets it go on."""

    def behave(exchange: Exchange) -> None:
        exchange.head(200, {"Content-Length": "10", **(headers or {})})
        exchange.send(b"hello")
        exchange.wait()
        exchange.send(b"world")

    return behave


def silent(exchange: Exchange) -> None:
    """Sends nothing, not even headers, until the test lets it go on."""
    exchange.wait()
    answer()(exchange)


def reset_body(exchange: Exchange) -> None:
    """Resets the connection in the middle of the body, when the test lets it go on."""
    exchange.head(200, {"Content-Length": "10"})
    exchange.send(b"hello")
    exchange.wait()
    exchange.reset()


def reset_at_once(exchange: Exchange) -> None:
    exchange.reset()


def hang_up(exchange: Exchange) -> None:
    """Closes the connection without a word."""
    exchange.close()


def gibberish(exchange: Exchange) -> None:
    exchange.send(b"!! this is not HTTP\r\n\r\n")
    exchange.close()


def event_stream(exchange: Exchange) -> None:
    """Two events; the second when the test lets it go on. Then it breaks."""
    exchange.head(
        200, {"Content-Type": "text/event-stream; charset=utf-8", "Transfer-Encoding": "chunked"}
    )
    exchange.send(b"9\r\ndata: 1\n\n\r\n")
    exchange.wait()
    exchange.send(b"9\r\ndata: 2\n\n\r\n5\r\nda")
    exchange.close()


def upgrade(exchange: Exchange) -> None:
    """Switches protocols, and then echoes one message."""
    exchange.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    with contextlib.suppress(OSError):
        exchange.send(exchange.connection.recv(1024))
    exchange.close()


class Server:
    """An HTTP/1.1 server on a bare socket, with a thread for each connection."""

    scheme = "http"

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.tls = tls
        if tls is not None:
            self.scheme = "https"
        self.asked: list[Asked] = []
        self.gate = threading.Event()
        self.otherwise: Behaviour = answer()
        self._behaviours: dict[str, Behaviour] = {}
        self._numbers = itertools.count()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def key(self) -> str:
        """Under which key the circuit of this server stands."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The root, where the server says hello."""
        return f"{self.scheme}://{self.key}"

    def on(self, behaviour: Behaviour) -> str:
        """The URL under which the server behaves so."""
        path = f"/{next(self._numbers)}"
        self._behaviours[path] = behaviour
        return self.url + path

    def go_on(self) -> None:
        """Let everything that stalls go on."""
        self.gate.set()

    def close(self) -> None:
        self.gate.set()
        with self._lock:
            self._closed = True
            connections = list(self._connections)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a connection's thread hangs"

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self._connections.append(connection)
            self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ssl.SSLError):
            if self.tls is None:
                self._talk(connection)
            else:
                with self.tls.wrap_socket(connection, server_side=True) as secured:
                    with self._lock:
                        self._connections.append(secured)
                    self._talk(secured)

    def _talk(self, connection: socket.socket) -> None:
        buffered = b""
        while True:
            while b"\r\n\r\n" not in buffered:
                data = connection.recv(65536)
                if not data:
                    return
                buffered += data
            head, _, buffered = buffered.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            method, target, _ = first.split(" ", 2)
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            length = int(headers.get("content-length", "0"))
            while len(buffered) < length:
                buffered += connection.recv(65536)
            body, buffered = buffered[:length], buffered[length:]
            asked = Asked(method, target, headers, body)
            self.asked.append(asked)
            exchange = Exchange(self, asked, connection)
            self._behaviours.get(target, self.otherwise)(exchange)
            if exchange.over:
                return


class HTTP2Server(Server):
    """An HTTP/2 server, over TLS since httpx has no other way to it.

    By path: `/ok` says hello; `/status/503` is the status; `/reset` resets the stream in the
    middle of the body when the test lets it go on; `/stalled` stalls there. `/broken` and
    `/broken/body` break the rules of HTTP/2, before the headers and after them.
    """

    def __init__(self, tls: ssl.SSLContext, host: str = "127.0.0.1") -> None:
        tls.set_alpn_protocols(["h2"])
        super().__init__(host, tls)

    def _talk(self, connection: socket.socket) -> None:
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        protocol = h2.connection.H2Connection(config)
        protocol.initiate_connection()
        connection.sendall(protocol.data_to_send())
        while data := connection.recv(65536):
            try:
                events = protocol.receive_data(data)
            except h2.exceptions.ProtocolError:
                return  # a client that was broken off while it began to speak
            for event in events:
                if isinstance(event, h2.events.RequestReceived):
                    assert event.headers is not None
                    headers = {str(name): str(value) for name, value in event.headers}
                    asked = Asked(headers[":method"], headers[":path"], headers)
                    self.asked.append(asked)
                    assert event.stream_id is not None
                    with contextlib.suppress(h2.exceptions.StreamClosedError):
                        self._answer(connection, protocol, event.stream_id, asked.target)
            connection.sendall(protocol.data_to_send())

    def _answer(
        self,
        connection: socket.socket,
        protocol: h2.connection.H2Connection,
        stream: int,
        path: str,
    ) -> None:
        if path == "/broken":
            connection.sendall(DATA_OF_NO_STREAM)
            return
        status = path.removeprefix("/status/") if path.startswith("/status/") else "200"
        protocol.send_headers(stream, [(":status", status), ("x-protocol", "h2")])
        protocol.send_data(stream, b"hello")
        if path in ("/reset", "/stalled"):
            connection.sendall(protocol.data_to_send())
            assert self.gate.wait(PATIENCE), "the test never let the server go on"
        if path == "/broken/body":
            connection.sendall(protocol.data_to_send() + DATA_OF_NO_STREAM)
        elif path == "/reset":
            protocol.reset_stream(stream, error_code=2)
        else:
            protocol.send_data(stream, b" world", end_stream=True)
