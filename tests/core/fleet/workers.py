"""Processes of a fleet, which a test drives one step at a time.

    with Worker(url) as worker:
        worker.calls(10, failing=True)
        worker.state()
        worker.kill()

Each has one circuit "x" and does what it is told in its main thread; `traffic` goes on in another.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from fluxgate import CallNotPermittedError, CircuitBreaker, Signal, State
from fluxgate.fleet import Fleet
from fluxgate.permits import All
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, MinRequests
from fluxgate.windows import TimeWindow

PATIENCE = 30.0


class Served:
    """What a process has, and can be told to do."""

    def __init__(self, url: str, settings: dict[str, Any]) -> None:
        self.heard: list[tuple[str, str, str]] = []
        options = settings.pop("fleet", {})
        defaults = {
            "window": TimeWindow(3600.0),
            "tripper": MinRequests(10) & FailureRate(0.5),
            "retry": Cooldown(1.0),
            "permit": All(),
            "max_half_open_calls": 1,
            **settings,
        }
        self.fleet = Fleet(url, **options)
        self.breaker = CircuitBreaker("x", fleet=self.fleet, listeners=[self.listen], **defaults)
        self.changed_at = 0.0
        self.held: Any = None
        self.failing = False
        self.counts = {"good": 0, "bad": 0, "refused": 0, "other": 0}
        self.slowest: list[float] = []
        self.stopping = threading.Event()

    def listen(self, signal: Signal) -> None:
        self.changed_at = time.monotonic()
        self.heard.append((str(signal.old_state), str(signal.new_state), str(signal.origin)))

    def call(self) -> None:
        if self.failing:
            raise ConnectionError

    def once(self) -> float:
        """One call; what it took beyond the call itself is all that it took."""
        began = time.perf_counter()
        try:
            self.breaker.call(self.call)
            self.counts["good"] += 1
        except CallNotPermittedError:
            self.counts["refused"] += 1
        except ConnectionError:
            self.counts["bad"] += 1
        except BaseException:
            self.counts["other"] += 1
        return time.perf_counter() - began

    # -- what it can be told

    def calls(self, count: int, failing: bool = False) -> dict[str, int]:
        self.failing = failing
        for _ in range(count):
            self.once()
        return self.counts

    def traffic(self, rate: float, failing: bool = False) -> None:
        """Calls at that rate (1/s) from now on."""
        self.failing = failing

        def go_on() -> None:
            while not self.stopping.wait(random.uniform(0.5, 1.5) / rate):
                self.slowest.append(self.once())

        threading.Thread(target=go_on, daemon=True).start()

    def fail(self, failing: bool) -> None:
        self.failing = failing

    def seen(self) -> tuple[dict[str, int], list[float]]:
        return self.counts, sorted(self.slowest)

    def state(self) -> State:
        return self.breaker.state

    def info(self) -> Any:
        return self.breaker.info()

    def signals(self) -> list[tuple[str, str, str]]:
        return self.heard

    def when(self) -> float:
        """Monotonic time of the last change, which is one clock for all processes."""
        return self.changed_at

    def flush(self) -> bool:
        return self.fleet.flush(PATIENCE)

    def status(self) -> Any:
        return self.fleet.status()

    def control(self, name: str, *args: Any) -> float:
        getattr(self.breaker, name)(*args, fleet=True)
        return time.monotonic()

    def probe(self) -> bool:
        """Begin a probe, and hold it; whether one was granted."""
        if self.held is None:
            with contextlib.suppress(CallNotPermittedError):
                self.held = self.breaker.attempt()
        return self.held is not None

    def end(self, failed: bool) -> None:
        held, self.held = self.held, None
        held.fail() if failed else held.succeed()

    def cpu(self) -> float:
        """Seconds of a core used so far."""
        return time.process_time()

    def fork(self) -> tuple[int, bool, int]:
        """In a child: whether it syncs, with how many calls, of its own and of all."""
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                for _ in range(5):
                    self.once()
                well = self.fleet.flush(PATIENCE)
                info = self.breaker.info()
                assert info.fleet is not None
                said = f"{info.totals.settled} {int(well)} {info.fleet.metrics.total_count}"
                os.write(writer, said.encode())
                self.fleet.close()
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            own, well, total = map(int, pipe.read().split())
        os.waitpid(pid, 0)
        return own, bool(well), total


def serve(connection: Connection, kind: type[Served], url: str, settings: dict[str, Any]) -> None:
    served = kind(url, settings)
    connection.send(None)
    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while True:
            name, args = connection.recv()
            if name == "close":
                served.stopping.set()
                served.fleet.close()
                connection.send(None)
                return
            try:
                connection.send(getattr(served, name)(*args))
            except Exception as error:
                connection.send(error)


class Worker:
    """A process, as its test sees it. What it is told is answered before the call returns."""

    kind: type[Served] = Served

    def __init__(self, url: str, **settings: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._near, far = spawn.Pipe()
        self.process = spawn.Process(
            target=serve, args=(far, self.kind, url, settings), daemon=True
        )
        self.process.start()
        far.close()
        self._ready = False

    def __getattr__(self, name: str) -> Any:
        def tell(*args: Any) -> Any:
            self.ready()
            self._near.send((name, args))
            return self._answer()

        return tell

    def ready(self) -> None:
        if not self._ready:
            self._answer(10 * PATIENCE)  # 32 interpreters start at once, on two busy cores
            self._ready = True

    def _answer(self, patience: float = 2 * PATIENCE) -> Any:
        # Longer than what it does may take: a flush has patience of its own.
        assert self._near.poll(patience), "it doesn't answer"
        answer = self._near.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
        if number is signal.SIGKILL:
            self.process.join(PATIENCE)

    def close(self) -> None:
        if self.process.is_alive():
            with contextlib.suppress(Exception):
                self.tell_close()
        self.process.join(5.0)
        self.process.kill()
        self.process.join(PATIENCE)
        self._near.close()

    def tell_close(self) -> None:
        self.ready()
        self._near.send(("close", ()))
        self._answer()

    def __enter__(self) -> Worker:
        self.ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
