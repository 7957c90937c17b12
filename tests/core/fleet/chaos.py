"""Faults of stores, and processes that go on calling while they happen.

    with Crew(OnFile(), 8, 50.0) as crew:
        outcome = crew.suffer("deleted")

What a user would see is counted: exceptions that are neither the service's nor a refusal, refusals
of the healthy, and the time that the breaker adds to a call. A test asserts what holds on any
machine; the times are for the table that `python3 noxfile.py -s chaos` prints.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis

from fluxgate import CallNotPermittedError, Signal, State
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, MinRequests
from fluxgate.windows import TimeWindow

from ...realservers import Gate, Redis
from .conftest import eventually
from .workers import Served, Worker

SLOTS = 2
"""`max_half_open_calls` of the circuit, for all processes together."""


class Seen(NamedTuple):
    """What a process has met since it was last asked."""

    counts: dict[str, int]
    errors: list[str]
    took: list[float]
    """Seconds that the breaker took of each call."""
    epochs: list[int]
    """Of each signal of the fleet, but those that were set by hand here."""
    probes: list[tuple[int, float, float]]
    """Epoch, begin and end (monotonic seconds) of each leased probe."""


class Driven(Served):
    """A process that calls on and on."""

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        self.epochs: list[int] = []
        self.probes: list[tuple[int, float, float]] = []
        self.errors: list[str] = []
        self.opened_at = 0.0
        super().__init__(url, settings)

    def epoch(self) -> int:
        view = self.breaker.info().fleet
        return 0 if view is None else view.epoch

    def listen(self, signal: Signal) -> None:
        super().listen(signal)
        if signal.new_state is State.OPEN:
            self.opened_at = self.changed_at
        by_hand = signal.reason is not None and signal.reason.clause == "open_for()"
        if signal.origin == "peer" or (signal.origin == "fleet" and not by_hand):
            self.epochs.append(self.epoch())

    def once(self) -> float:
        began = time.perf_counter()
        try:
            attempt = self.breaker.attempt()
            took = time.perf_counter() - began
            if attempt.probe:
                self._probe()
            began = time.perf_counter()
            attempt.fail() if self.failing else attempt.succeed()
            self.counts["bad" if self.failing else "good"] += 1
            return took + time.perf_counter() - began
        except CallNotPermittedError:
            self.counts["refused"] += 1
        except BaseException as error:
            self.counts["other"] += 1
            self.errors.append(repr(error))
        return time.perf_counter() - began

    def _probe(self) -> None:
        """A probe's call; it takes a while, so that two can meet."""
        member: Any = self.breaker._circuit.fleet
        before, owned, began = member.epoch, member.owns(), time.monotonic()
        time.sleep(0.01)
        if owned and before == member.epoch:
            self.probes.append((before, began, time.monotonic()))

    def opened(self) -> float:
        """Monotonic seconds of its last opening."""
        return self.opened_at

    def report(self) -> Seen:
        seen = Seen(self.counts, self.errors, self.slowest, self.epochs, self.probes)
        self.counts = dict.fromkeys(self.counts, 0)
        self.errors, self.slowest = [], []
        return seen


class DrivenWorker(Worker):
    kind = Driven


# -- places


class Wire(Gate):
    """A line to a server that can be cut without a word, and slowed down."""

    def __init__(self, behind: int) -> None:
        self.whole = threading.Event()
        self.whole.set()
        self.latency = 0.0
        super().__init__(behind)

    def _let_through(self, connection: Any) -> None:
        import socket

        try:
            onward = socket.create_connection(("127.0.0.1", self.behind), 5.0)
        except OSError:
            connection.close()
            return
        onward.settimeout(None)
        self._held.append(onward)
        for ends in ((connection, onward), (onward, connection)):
            threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: Any, target: Any) -> None:
        import socket

        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.whole.wait()
                if self.latency:
                    time.sleep(self.latency)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Place(ABC):
    """Where a store is. Its faults are methods that begin it, and end it behind `yield`."""

    url: str
    faults: tuple[str, ...]
    unnoticed: tuple[str, ...] = ()
    """Faults that need not detach anybody."""

    @abstractmethod
    def close(self) -> None: ...

    def fault(self, name: str) -> AbstractContextManager[None]:
        made: AbstractContextManager[None] = getattr(self, name)()
        return made


class OnServer(Place):
    """A Redis behind a wire."""

    faults = (
        *("killed", "stopped", "paused", "asleep", "full", "read_only", "scripts_lost"),
        *("flushed", "connections_killed", "cut", "slow_line"),
    )
    unnoticed = ("scripts_lost", "flushed", "connections_killed", "slow_line")

    def __init__(self) -> None:
        self.server = Redis(None, "--enable-debug-command", "local")
        self.server.start()
        self.wire = Wire(self.server.port)
        self.url = f"redis://127.0.0.1:{self.wire.port}"

    def close(self) -> None:
        self.wire.whole.set()
        self.wire.close()
        self.server.close()

    @contextmanager
    def client(self) -> Iterator[Any]:
        with redis.Redis(port=self.server.port) as client:
            yield client

    @contextmanager
    def killed(self) -> Iterator[None]:
        self.server.kill()
        yield
        self.server.start()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        assert self.server.process is not None
        pid = self.server.process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self.client() as client:
            client.execute_command("CLIENT", "PAUSE", 5_000, "ALL")
            yield

    @contextmanager
    def asleep(self) -> Iterator[None]:
        def sleep() -> None:
            with self.client() as client:
                client.execute_command("DEBUG", "SLEEP", 4)

        thread = threading.Thread(target=sleep)
        thread.start()
        yield
        thread.join()

    @contextmanager
    def full(self) -> Iterator[None]:
        with self.client() as client:
            client.config_set("maxmemory", "1")
            yield
            client.config_set("maxmemory", "0")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        with self.client() as client:
            client.replicaof("127.0.0.1", 1)
            yield
            client.replicaof("NO", "ONE")

    @contextmanager
    def scripts_lost(self) -> Iterator[None]:
        with self.client() as client:
            client.script_flush()
            yield

    @contextmanager
    def flushed(self) -> Iterator[None]:
        with self.client() as client:
            client.flushall()
            yield

    @contextmanager
    def connections_killed(self) -> Iterator[None]:
        with self.client() as client:
            for _ in range(5):
                for kind in ("normal", "pubsub"):
                    client.client_kill_filter(_type=kind, skipme=True)
                time.sleep(0.05)
            yield

    @contextmanager
    def cut(self) -> Iterator[None]:
        self.wire.whole.clear()
        try:
            yield
        finally:
            self.wire.whole.set()

    @contextmanager
    def slow_line(self) -> Iterator[None]:
        self.wire.latency = 0.1
        yield
        self.wire.latency = 0.0


class OnFile(Place):
    """A file, and what may happen to it."""

    faults = ("locked", "deleted", "emptied", "halved", "noise", "moved_away")
    unnoticed = ("deleted", "emptied", "halved", "noise")

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fluxgate-"))
        self.home = self.folder / "home"
        self.home.mkdir()
        self.path = self.home / "fleet.db"
        self.url = f"sqlite://{self.path}"

    def close(self) -> None:
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=10.0)) as database:
            database.isolation_level = None
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")

    @contextmanager
    def deleted(self) -> Iterator[None]:
        for each in self.home.glob("fleet.db*"):
            if each.is_file():
                each.unlink()
        yield

    @contextmanager
    def emptied(self) -> Iterator[None]:
        os.truncate(self.path, 0)
        yield

    @contextmanager
    def halved(self) -> Iterator[None]:
        os.truncate(self.path, self.path.stat().st_size // 2)
        yield

    @contextmanager
    def noise(self) -> Iterator[None]:
        with self.path.open("r+b") as file:
            file.write(random.Random(1).randbytes(self.path.stat().st_size))
        yield

    @contextmanager
    def moved_away(self) -> Iterator[None]:
        aside = self.folder / "aside"
        self.home.rename(aside)
        yield
        aside.rename(self.home)


PLACES: dict[str, Callable[[], Place]] = {"redis": OnServer, "sqlite": OnFile}


# -- the processes


class Outcome(NamedTuple):
    """What came of a fault. Times are seconds."""

    calls: int
    exceptions: list[str]
    refused: int
    """Refusals in processes that had no failures, up to the fault's end."""
    took: list[float]
    lasted: float
    attached_after: float
    open_after: float
    closed_after: float


class Crew:
    """Processes with one circuit over one place, all of them calling on and on."""

    def __init__(self, place: Place, count: int, rate: float) -> None:
        self.place = place
        self._stack = ExitStack()
        self._stack.callback(place.close)
        self.workers = [
            DrivenWorker(
                place.url,
                window=TimeWindow(2.0),
                tripper=MinRequests(5) & FailureRate(0.5),
                retry=Cooldown(0.3),
                max_half_open_calls=SLOTS,
            )
            for _ in range(count)
        ]
        for worker in self.workers:
            self._stack.callback(worker.close)  # also of those that never got ready
        try:
            for worker in self.workers:
                worker.ready()
            eventually(self.attached)
        except BaseException:
            self.close()
            raise
        for worker in self.workers:
            worker.traffic(rate)
        self.epochs: list[list[int]] = []
        self.probes: list[tuple[int, float, float]] = []

    def close(self) -> None:
        self._stack.close()

    def attached(self) -> bool:
        return all(worker.status().attached for worker in self.workers)

    def states(self) -> set[State]:
        return {worker.state() for worker in self.workers}

    def agreed(self, state: State) -> bool:
        """Whether all are in that state, in one epoch, and there by the fleet."""
        views = [(worker.state(), worker.info().fleet) for worker in self.workers]
        return (
            all(own is view.state is state for own, view in views)
            and len({view.epoch for _, view in views}) == 1
        )

    def take(self) -> list[Seen]:
        """What each process has met since; a crew keeps the epochs and the probes of all of it."""
        seen = [worker.report() for worker in self.workers]
        self.epochs = [each.epochs for each in seen]
        self.probes = [probe for each in seen for probe in each.probes]
        return seen

    def calm(self, seconds: float) -> list[float]:
        """What the breaker takes of a call while all is well."""
        self.take()
        time.sleep(seconds)
        return sorted(each for seen in self.take() for each in seen.took)

    def suffer(self, name: str, seconds: float = 0.5) -> Outcome:
        """Let a fault happen, and wait until all is well again."""
        place, workers = self.place, self.workers
        eventually(lambda: self.agreed(State.CLOSED))
        self.take()
        began = time.monotonic()
        with place.fault(name):
            if name not in place.unnoticed:
                eventually(lambda: not any(worker.status().attached for worker in workers))
            time.sleep(seconds)
            met = self.take()
            refused = sum(seen.counts["refused"] for seen in met)
            bad = workers[0]  # whose own service fails: it must not need the store to say so
            bad.calls(int(max(300, len(met[0].took) * 2)), True)
            assert bad.state() is not State.CLOSED, "it has not opened by itself"
            bad.fail(False)
            met += self.take()
        ended = time.monotonic()
        eventually(self.attached)
        eventually(lambda: all(worker.flush() for worker in workers))
        attached = time.monotonic()
        eventually(lambda: self.agreed(State.CLOSED))
        told, opened = self.open_everywhere(0.3)
        eventually(lambda: self.agreed(State.CLOSED))
        met_later = self.take()
        return Outcome(
            calls=sum(sum(seen.counts.values()) for seen in (*met, *met_later)),
            exceptions=[error for seen in (*met, *met_later) for error in seen.errors],
            refused=refused,
            took=sorted(each for seen in met for each in seen.took),
            lasted=ended - began,
            attached_after=attached - ended,
            open_after=opened - told,
            closed_after=time.monotonic() - told - 0.3,
        )

    def open_everywhere(self, seconds: float) -> tuple[float, float]:
        """Open it by hand; the times when that was, and when the last process had heard of it.

        A process that the machine lets wait for longer than the opening sees what came after, and
        an opening that is over before it was handed in opens nobody else: then once more.
        """
        for _ in range(5):
            told = time.monotonic()
            self.workers[-1].control("open_for", seconds)
            while time.monotonic() < told + seconds + 2.0:
                opened = [worker.opened() for worker in self.workers]
                if min(opened) >= told:
                    return told, max(opened)
                time.sleep(0.002)
            eventually(lambda: self.agreed(State.CLOSED))
        met = [(told - worker.opened(), worker.epoch(), worker.status()) for worker in self.workers]
        raise AssertionError(f"not everybody has opened; seconds ago, epoch, status: {met}")

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def most_at_once(probes: list[tuple[int, float, float]]) -> int:
    """The most probes of one epoch that were under way at one time, in all processes."""
    most = 0
    for epoch in {probe[0] for probe in probes}:
        edges = sorted(
            edge
            for number, begin, end in probes
            if number == epoch
            for edge in ((begin, 1), (end, -1))
        )
        running = 0
        for _, step in edges:
            running += step
            most = max(most, running)
    return most


def quantile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return values[min(int(len(values) * share), len(values) - 1)]
