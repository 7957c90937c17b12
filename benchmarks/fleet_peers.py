"""Breakers that share their circuits through Redis, side by side: what a call costs, what fails.

    python benchmarks/fleet_peers.py [--quick] [--json FILE]

It needs the dependency group `fleet-peers`, the extra `redis`, and a server. Every library runs in
processes of its own over one server, with a client that has a time-out of 1 s and doesn't retry
(the kindest settings; redis-py's own are 5 s and several tries), opening at five failures or
half of at least ten calls, open for 1 s, one probe at a time; all else is at its defaults.

    cost        microseconds of a healthy call, and the commands that a call sends (MONITOR)
    stopped     SIGSTOP: the longest of five calls, and exceptions that users see
    killed      kill -9: the longest of twenty calls, and exceptions that users see
    prober      kill -9 of the process that holds the probe: seconds until another may call
    bad node    one of four processes fails: the share of the other three's calls that is refused
    burst       two of eight fail, 200 calls each as fast as they can: the same of the other six's
"""

import argparse
import asyncio
import json
import logging
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from redis_server import RedisServer

OPEN_SECONDS = 1.0
LEASE_SECONDS = 3.0
PATIENCE = 15.0
"""Seconds to wait for another prober."""
HANGS = 30.0
"""Seconds after which a process that doesn't answer is said to hang."""

Call = Callable[[Callable[[], Any]], Any]


class Down(Exception):
    """The protected call has failed."""


# -- the libraries: what makes a call, and what refuses it


def client(url: str) -> Any:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))


def fluxgate_fleet(url: str) -> tuple[Call, type[BaseException]]:
    from fluxgate import CallNotPermittedError, CircuitBreaker
    from fluxgate.fleet import Fleet
    from fluxgate.permits import All
    from fluxgate.retries import Cooldown
    from fluxgate.trippers import Closed, FailureRate, MinRequests

    fleet = Fleet(url)
    breaker = CircuitBreaker(
        "peer",
        fleet=fleet,
        tripper=Closed() & MinRequests(10) & FailureRate(0.5),
        retry=Cooldown(OPEN_SECONDS),
        permit=All(),
        max_half_open_calls=1,
        probe_timeout=LEASE_SECONDS,
    )
    fleet.flush(10.0)
    return breaker.call, CallNotPermittedError


def interlock(url: str) -> tuple[Call, type[BaseException]]:
    from interlock import CircuitBreaker, CircuitOpenError, Config
    from interlock.integrations.redis import RedisStorage

    config = Config(wait_duration_in_open=OPEN_SECONDS, permitted_calls_in_half_open=1)
    breaker = CircuitBreaker(name="peer", config=config, storage=RedisStorage(client(url)))
    return breaker.call, CircuitOpenError


def nopanic(url: str) -> tuple[Call, type[BaseException]]:
    from nopanic import CircuitOpen
    from nopanic_redis import redis_circuit_breaker

    breaker = redis_circuit_breaker(
        client(url), name="peer", min_calls=10, reset_timeout=OPEN_SECONDS
    )
    held: list[Callable[[], Any]] = []
    guarded = breaker(lambda: held[-1]())

    def call(fn: Callable[[], Any]) -> Any:
        held[:] = [fn]
        return guarded()

    return call, CircuitOpen


def pybreaker(url: str) -> tuple[Call, type[BaseException]]:
    import pybreaker

    storage = pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, client(url))
    breaker = pybreaker.CircuitBreaker(
        fail_max=5, reset_timeout=OPEN_SECONDS, state_storage=storage
    )
    return breaker.call, pybreaker.CircuitBreakerError


def purgatory(url: str) -> tuple[Call, type[BaseException]]:
    """Its asynchronous front: with Redis, the synchronous one takes the async client."""
    from purgatory import AsyncCircuitBreakerFactory, AsyncRedisUnitOfWork
    from purgatory.domain.model import OpenedState

    loop = asyncio.new_event_loop()
    uow = AsyncRedisUnitOfWork(f"{url}?socket_timeout=1.0")
    factory = AsyncCircuitBreakerFactory(default_threshold=5, default_ttl=OPEN_SECONDS, uow=uow)
    loop.run_until_complete(factory.initialize())

    async def guarded(fn: Callable[[], Any]) -> Any:
        async with await factory.get_breaker("peer"):
            return fn()

    return lambda fn: loop.run_until_complete(guarded(fn)), OpenedState


LIBRARIES: dict[str, tuple[Callable[[str], tuple[Call, type[BaseException]]], str]] = {
    "fluxgate": (fluxgate_fleet, "fluxgate-core"),
    "interlock-cb": (interlock, "interlock-cb"),
    "nopanic-redis": (nopanic, "nopanic-redis"),
    "pybreaker": (pybreaker, "pybreaker"),
    "purgatory": (purgatory, "purgatory"),
}


# -- a process


def serve(library: str, url: str) -> None:
    """Do what comes on standard input, one JSON a line, and answer each with one."""
    logging.disable(logging.CRITICAL)
    call, refusal = LIBRARIES[library][0](url)

    def good() -> None:
        return None

    def bad() -> None:
        raise Down

    def once(fn: Callable[[], Any]) -> str:
        try:
            call(fn)
        except Down:
            return "bad"
        except refusal:
            return "refused"
        except BaseException as error:
            return f"error: {type(error).__name__}"
        return "good"

    def hang() -> None:
        say({"inside": True})
        time.sleep(3600)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), flush=True)

    say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        fn = bad if order.get("failing") else good
        if order["do"] == "calls":
            ended: dict[str, int] = {}
            took: list[float] = []
            for _ in range(order["count"]):
                began = time.perf_counter()
                how = once(fn)
                took.append(time.perf_counter() - began)
                ended[how] = ended.get(how, 0) + 1
                if order.get("rate"):
                    time.sleep(1.0 / order["rate"])
            say({"ended": ended, "median": median(took), "longest": max(took)})
        elif order["do"] == "hang":
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                once(hang)  # refused at first; inside, it doesn't come back
                time.sleep(0.01)
            say({"inside": False})


class Process:
    def __init__(self, library: str, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", library, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.answer()

    def send(self, **order: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], HANGS)[0]:
            raise TimeoutError
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **order: Any) -> dict[str, Any]:
        self.send(**order)
        return self.answer()

    def calls(self, count: int, **more: Any) -> dict[str, Any]:
        return self.ask(do="calls", count=count, **more)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def errors(answer: dict[str, Any]) -> int:
    return sum(count for how, count in answer["ended"].items() if how.startswith("error"))


# -- what is measured


def cost(library: str, server: RedisServer, count: int) -> tuple[float, float]:
    process = Process(library, server.url)
    process.calls(200)
    took = process.calls(count)["median"]
    sent = [0]
    watching = server.client().monitor()
    with watching as monitor:

        def watch() -> None:
            for command in monitor.listen():
                sent[0] += command["client_type"] != "lua"
                if "over-and-out" in command["command"]:
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        process.calls(500, rate=1000)
        server.client().get("over-and-out")
        thread.join(10.0)
    process.kill()
    return took * 1e6, (sent[0] - 1) / 500


def stopped(library: str, server: RedisServer) -> tuple[float, int]:
    process = Process(library, server.url)
    process.calls(20)
    server.stop()
    answer = process.calls(5)
    server.go_on()
    process.kill()
    return answer["longest"], errors(answer)


def killed(library: str, server: RedisServer) -> tuple[float, int]:
    process = Process(library, server.url)
    process.calls(20)
    server.kill()
    answer = process.calls(20, rate=50)
    server.start()
    process.kill()
    return answer["longest"], errors(answer)


def prober(library: str, server: RedisServer) -> float | None:
    """Seconds from the kill until a call of another process goes through; None: never."""
    one, two = Process(library, server.url), Process(library, server.url)
    for process in (one, two):  # both see it, so that no doubt is left
        if not process.calls(40, failing=True)["ended"].get("refused"):
            raise RuntimeError(f"{library}: it has not opened")
    time.sleep(0.6)
    inside = one.ask(do="hang")["inside"]
    one.kill()
    if not inside:
        raise RuntimeError(f"{library}: no probe was granted")
    began = time.monotonic()
    after = None
    while time.monotonic() < began + PATIENCE:
        if two.calls(1)["ended"].get("good"):
            after = time.monotonic() - began
            break
        time.sleep(0.02)
    two.kill()
    return after


def bad_node(library: str, server: RedisServer) -> float | None:
    """The share of the healthy nodes' calls that were refused; None: some calls never came back."""
    bad, *good = [Process(library, server.url) for _ in range(4)]
    for process in good:
        process.send(do="calls", count=90, rate=30)
    bad.send(do="calls", count=600, rate=200, failing=True)
    return refused_share([bad], good)


def burst(library: str, server: RedisServer) -> float | None:
    """The same of two of eight that fail in a burst, while the others make 30 calls a second."""
    bad, good = [], []
    for number in range(8):
        (bad if number < 2 else good).append(Process(library, server.url))
    for process in good:
        process.send(do="calls", count=90, rate=30)
    time.sleep(1.0)  # the healthy ones have made calls
    for process in bad:
        process.send(do="calls", count=200, failing=True)
    return refused_share(bad, good)


def refused_share(bad: list[Process], good: list[Process]) -> float | None:
    """What share of the good ones' calls was refused; ends all of them."""
    try:
        ended = [process.answer()["ended"] for process in good]
    except TimeoutError:
        return None
    finally:
        for process in (*bad, *good):
            process.kill()
    return sum(each.get("refused", 0) for each in ended) / sum(sum(e.values()) for e in ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--serve", nargs=2, metavar=("LIBRARY", "URL"), help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="fewer calls: shows that it runs")
    parser.add_argument("--json", type=Path, help="write what was measured")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        return
    rows: list[dict[str, Any]] = []
    print(f"Python {sys.version.split()[0]}, redis-py {version('redis')}")
    print("| library | us a call | commands a call | stopped: longest call, exceptions | ", end="")
    print("killed: longest call, exceptions | killed prober | bad node: refused | burst: refused |")
    print("|---|---|---|---|---|---|---|---|")
    for library, (_, distribution) in LIBRARIES.items():
        with RedisServer() as server:
            us, commands = cost(library, server, 300 if arguments.quick else 2000)
            stop, stop_errors = stopped(library, server)
            kill, kill_errors = killed(library, server)
            server.client().flushall()
            after = prober(library, server)
            server.client().flushall()
            refused = bad_node(library, server)
            server.client().flushall()
            in_burst = burst(library, server)
        recovered = f"{after:.1f} s" if after is not None else f"not in {PATIENCE:.0f} s"
        share, burst_share = (
            f"{each:.0%}" if each is not None else f"hangs for {HANGS:.0f} s"
            for each in (refused, in_burst)
        )
        print(
            f"| {library} {version(distribution)} | {us:.1f} | {commands:.3f} "
            f"| {stop * 1000:,.1f} ms, {stop_errors} of 5 | {kill * 1000:,.1f} ms, "
            f"{kill_errors} of 20 | {recovered} | {share} | {burst_share} |",
            flush=True,
        )
        figures = {"us": us, "commands": commands, "stopped": stop, "stopped_errors": stop_errors}
        figures |= {"killed": kill, "killed_errors": kill_errors, "prober": after}
        rows.append({"library": library, **figures, "refused": refused, "burst": in_burst})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
