"""What the transports of fluxgate-httpx cost a request and a body: side by side, in one run.

    python benchmarks/httpx_cost.py [--library httpx2] [--only request] [--quick] [--json FILE]

Whole requests of a client through a `MockTransport`, which answers at once: the worst case, since
nothing of what is measured hides behind a network. interlock-cb's transport is in each race.

A body of 10 MB, in pieces of 64 KiB, is measured three times. Streamed over a loopback socket: this
has the limit. Reported beside it: from a mock into memory (`client.get`), where every byte is moved
once and comes from nowhere; and from a mock whose pieces exist already and are dropped at once.
Nothing is moved there, so a whole "body" takes some 100 us, and a share of it is no figure about
streaming: whoever wants to notice a body that breaks off has to stand between two pieces, which is
one resumed generator for each.

The method is that of README.md: short turns side by side, ratios within the round, medians over
the rounds, the lowest of three passes.
"""

import argparse
import asyncio
import importlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any

from timing import Turn, own_code, race

from fluxgate.registry import Registry

MODULES = {"httpx": "fluxgate_httpx", "httpx2": "fluxgate_httpx.httpx2"}
PIECE = b"x" * 65_536
PIECES = 160
URL = "http://api.example.org/"


class Pieces:
    """A body of 10 MB, for both kinds of client."""

    def __iter__(self) -> Iterator[bytes]:
        return repeat(PIECE, PIECES)

    async def __aiter__(self) -> Any:
        for piece in repeat(PIECE, PIECES):
            yield piece


class Bench:
    """One library, with and without a breaker around its transport."""

    def __init__(self, name: str, runner: asyncio.Runner, url: str) -> None:
        self.url = url
        self.lib: Any = importlib.import_module(name)
        self.runner = runner
        bases = (Pieces, self.lib.SyncByteStream, self.lib.AsyncByteStream)
        self.stream_class = type("Stream", bases, {})
        ours: Any = importlib.import_module(MODULES[name])
        theirs: Any = importlib.import_module(f"interlock.integrations.{name}")
        same: Callable[[Any], Any] = lambda transport: transport  # noqa: E731
        self.sync = {
            "without": same,
            "ours": ours.CircuitBreakerTransport,
            "interlock": theirs.CircuitBreakerTransport,
        }
        self.asynchronous = {
            "without": same,
            "ours": ours.AsyncCircuitBreakerTransport,
            "interlock": theirs.AsyncCircuitBreakerTransport,
        }

    def small(self, request: Any) -> Any:
        return self.lib.Response(200, content=b"{}")

    def large(self, request: Any) -> Any:
        return self.lib.Response(200, stream=self.stream_class())

    def requests(self) -> dict[str, Turn]:
        return {
            name: self.get(wrap(self.lib.MockTransport(self.small)))
            for name, wrap in self.sync.items()
        }

    def async_requests(self) -> dict[str, Turn]:
        return {
            name: self.aget(wrap(self.lib.MockTransport(self.small)))
            for name, wrap in self.asynchronous.items()
        }

    def bodies(self) -> dict[str, Turn]:
        return {
            name: self.read(wrap(self.lib.MockTransport(self.large)), URL)
            for name, wrap in self.sync.items()
        }

    def async_bodies(self) -> dict[str, Turn]:
        return {
            name: self.aread(wrap(self.lib.MockTransport(self.large)), URL)
            for name, wrap in self.asynchronous.items()
        }

    def whole_bodies(self) -> dict[str, Turn]:
        return {
            name: self.get(wrap(self.lib.MockTransport(self.large)))
            for name, wrap in self.sync.items()
        }

    def async_whole_bodies(self) -> dict[str, Turn]:
        return {
            name: self.aget(wrap(self.lib.MockTransport(self.large)))
            for name, wrap in self.asynchronous.items()
        }

    def socket_bodies(self) -> dict[str, Turn]:
        return {
            name: self.read(wrap(self.lib.HTTPTransport(verify=False)), self.url)
            for name, wrap in self.sync.items()
        }

    def async_socket_bodies(self) -> dict[str, Turn]:
        return {
            name: self.aread(wrap(self.lib.AsyncHTTPTransport(verify=False)), self.url)
            for name, wrap in self.asynchronous.items()
        }

    def get(self, transport: Any) -> Turn:
        client = self.lib.Client(transport=transport)

        def turn(calls: int) -> float:
            start = perf_counter()
            for _ in repeat(None, calls):
                client.get(URL)
            return perf_counter() - start

        return own_code(turn)

    def aget(self, transport: Any) -> Turn:
        client = self.lib.AsyncClient(transport=transport)

        async def awaiting(calls: int) -> float:
            start = perf_counter()
            for _ in repeat(None, calls):
                await client.get(URL)
            return perf_counter() - start

        own = own_code(awaiting)
        return lambda calls: self.runner.run(own(calls))

    def read(self, transport: Any, url: str) -> Turn:
        client = self.lib.Client(transport=transport)

        def turn(calls: int) -> float:
            start = perf_counter()
            for _ in repeat(None, calls):
                with client.stream("GET", url) as response:
                    for _ in response.iter_raw():
                        pass
            return perf_counter() - start

        return own_code(turn)

    def aread(self, transport: Any, url: str) -> Turn:
        client = self.lib.AsyncClient(transport=transport)

        async def awaiting(calls: int) -> float:
            start = perf_counter()
            for _ in repeat(None, calls):
                async with client.stream("GET", url) as response:
                    async for _ in response.aiter_raw():
                        pass
            return perf_counter() - start

        own = own_code(awaiting)
        return lambda calls: self.runner.run(own(calls))


def serve() -> str:
    """A server that answers every request on a connection with 10 MB; its URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(PIECE) * PIECES}\r\n\r\n".encode()

    def talk(connection: socket.socket) -> None:
        with connection:
            while connection.recv(65_536):
                connection.sendall(head)
                for _ in range(PIECES):
                    connection.sendall(PIECE)

    def accept() -> None:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}/"


def lookups() -> dict[str, Turn]:
    """Finding the circuit among 1,000 hosts, and a value in a dict of as many."""
    registry = Registry()
    keys = [f"host-{number}.example.org" for number in range(1000)]
    table = {key: registry[key] for key in keys}

    def in_dict(calls: int) -> float:
        todo = keys * (calls // len(keys))
        start = perf_counter()
        for key in todo:
            table[key]
        return perf_counter() - start

    def in_registry(calls: int) -> float:
        todo = keys * (calls // len(keys))
        start = perf_counter()
        for key in todo:
            registry[key]
        return perf_counter() - start

    return {"without": own_code(in_dict), "ours": own_code(in_registry)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", choices=MODULES, default="httpx", help="which to measure")
    parser.add_argument("--only", default="", help="those whose names have this in them")
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, help="write what was measured, every pass included")
    arguments = parser.parse_args()
    share = 10 if arguments.quick else 1
    figures: list[dict[str, Any]] = []
    with asyncio.Runner() as runner:
        bench = Bench(arguments.library, runner, serve())
        plan: list[tuple[str, Callable[[], dict[str, Turn]], int, int, float | None]] = [
            ("request through MockTransport, sync", bench.requests, 200, 200, 1.05),
            ("request through MockTransport, async", bench.async_requests, 200, 200, 1.05),
            ("10 MB streamed, loopback, sync", bench.socket_bodies, 60, 1, 1.03),
            ("10 MB streamed, loopback, async", bench.async_socket_bodies, 60, 1, 1.03),
            ("10 MB from a mock, read, sync", bench.whole_bodies, 100, 1, None),
            ("10 MB from a mock, read, async", bench.async_whole_bodies, 100, 1, None),
            ("10 MB from a mock, dropped, sync", bench.bodies, 200, 20, None),
            ("10 MB from a mock, dropped, async", bench.async_bodies, 200, 20, None),
            ("circuit among 1,000 hosts ÷ dict lookup", lookups, 200, 5000, 10.0),
        ]
        print(
            f"Python {sys.version.split()[0]}, {arguments.library} {version(arguments.library)}, "
            f"interlock-cb {version('interlock-cb')}"
        )
        for what, turns, rounds, calls, limit in plan:
            if arguments.only not in what:
                continue
            passes = [
                race(turns(), max(5, rounds // share), calls, warm_up=max(1, calls // 10))
                for _ in range(1 if arguments.quick else 3)
            ]
            for name in ("ours", "interlock"):
                if name in passes[0].by_name:
                    ratios = [times.ratio(name, "without") for times in passes]
                    reach = limit if name == "ours" else None
                    verdict = "" if reach is None else f"<= {reach}: "
                    if reach is not None:
                        verdict += "reached" if min(ratios) <= reach else "missed"
                    cost = f"{passes[0].ns(name) / 1000:9.2f} us"
                    print(f"{what:42} {name:10} {min(ratios):6.3f} {cost}  {verdict}", flush=True)
                    figures.append({"what": what, "who": name, "ratios": ratios, "reach": reach})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
