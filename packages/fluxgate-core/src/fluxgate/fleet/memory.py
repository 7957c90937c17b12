"""A store inside one process: `memory://NAME`. It is for tests, of yours and ours.

    fleet = Fleet("memory://orders")
    space = Space.named("orders")
    space.down = True        # the store can't be reached
    space.forget()           # it has lost everything, as a Redis that was restarted

Fleets of one name share one space, each as if it were a process of its own.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final

from fluxgate.fleet._window import added, kept
from fluxgate.fleet.store import (
    BURST_GAP,
    MAX_GRANTS,
    MAX_REASON,
    MAX_REPORT,
    OTHER_SHAPE,
    REPORT_KEPT,
    REPORT_TTL,
    Bucket,
    Counts,
    Exchange,
    Hint,
    Move,
    Probe,
    Report,
    Shape,
    StoreError,
    View,
    key_of,
    report_of,
    stamped,
)
from fluxgate.state import State

__all__ = ["MemoryStore", "Space"]

_numbers: Final = itertools.count(1)


class _Circuit:
    """One circuit, as a space stores it."""

    def __init__(self) -> None:
        self.epoch = 0
        self.state = State.CLOSED
        self.until: int | None = None
        self.reopens = 0
        self.reason = ""
        self.author = ""
        self.reporter = ""
        self.token = 0
        self.reports: dict[str, str] = {}  # as SQLite and Redis keep them
        self.expires = 0
        self.begin()

    def begin(self) -> None:
        """Empty everything that belongs to one epoch."""
        self.begin_window()
        self.leases: dict[int, int] = {}  # token -> deadline
        self.probes = Counts()
        self.reports.clear()

    def begin_window(self) -> None:
        """Empty the window."""
        self.label = ""
        self.last = 0  # when something was last counted
        self.buckets: dict[int, Counts] = {}
        self.burst = 0  # when the latest series of bad calls began
        self.last_bad = 0
        self.bad: dict[str, int] = {}  # process -> tick of the last bucket with a bad call
        self.seen: dict[str, int] = {}  # process -> tick of the last bucket with calls


class Space:
    """State shared by the memory stores of one name, and the faults that a test may set.

    Attributes:
        clock: gives milliseconds since 1970; the only clock of this store.
        deaf: whether pushes are lost.
        delay: seconds that every verb takes.
    """

    _spaces: ClassVar[dict[str, Space]] = {}

    def __init__(self) -> None:
        self.clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        self._down = False
        self.deaf = False
        self.delay = 0.0
        self.changed = threading.Condition()
        self.circuits: dict[str, _Circuit] = {}
        self.listening: list[deque[Hint]] = []

    @classmethod
    def named(cls, name: str) -> Space:
        """The space of that name, made if need be."""
        return cls._spaces.setdefault(name, cls())

    @property
    def down(self) -> bool:
        """Whether every verb raises `StoreError`."""
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        with self.changed:
            self._down = down
            self.changed.notify_all()

    def forget(self) -> None:
        """Lose all that is stored."""
        with self.changed:
            self.circuits.clear()

    def push(self, hint: Hint) -> None:
        """Send a push to every store of this space."""
        if self.deaf:
            return
        for queue in self.listening:
            queue.append(hint)
        self.changed.notify_all()


class MemoryStore:
    """A `Store` in a `Space`."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.process = f"memory-{next(_numbers)}"
        self._hints: deque[Hint] | None = None
        self._woken = False

    def exchange(self, requests: list[Exchange]) -> list[View | StoreError]:
        self._reach()
        with self.space.changed:
            return [self._exchange(request, self.space.clock()) for request in requests]

    def move(self, move: Move) -> View:
        self._reach()
        with self.space.changed:
            return self._move(move, self.space.clock())

    def read(self, names: list[str]) -> list[View]:
        self._reach()
        with self.space.changed:
            now = self.space.clock()
            return [_view(name, self._find(name, now), now) for name in names]

    def scan(self) -> list[str]:
        self._reach()
        with self.space.changed:
            now = self.space.clock()
            return [name for name in list(self.space.circuits) if self._find(name, now)]

    def reports(self, names: list[str], within: int = REPORT_TTL) -> list[list[Report]]:
        self._reach()
        with self.space.changed:
            now = self.space.clock()
            found = [self._find(name, now) for name in names]
            return [[] if each is None else _reports(each, now, within) for each in found]

    def wait(self, timeout: float) -> list[Hint]:
        self._reach()
        space = self.space
        with space.changed:
            if self._hints is None:
                self._hints = deque([Hint("")])
                space.listening.append(self._hints)
            hints = self._hints
            space.changed.wait_for(lambda: hints or self._woken or space.down, timeout)
            self._woken = False
            if space.down:
                self._unlisten()
                raise StoreError("the memory store is down")
            came = list(hints)
            hints.clear()
        return came

    def wake(self) -> None:
        with self.space.changed:
            self._woken = True
            self.space.changed.notify_all()

    def close(self) -> None:
        with self.space.changed:
            self._unlisten()

    def _unlisten(self) -> None:
        hints, self._hints = self._hints, None
        self.space.listening = [each for each in self.space.listening if each is not hints]

    def before_fork(self) -> None:
        self.space.changed.acquire()

    def after_fork_in_parent(self) -> None:
        self.space.changed.release()

    def after_fork_in_child(self) -> None:
        """A child shares nothing with its parent any more: it has a copy of the space."""
        self.space.changed = threading.Condition()
        self._hints = None
        self.process = f"memory-{next(_numbers)}"

    def _reach(self) -> None:
        if self.space.delay:
            time.sleep(self.space.delay)
        if self.space.down:
            raise StoreError("the memory store is down")

    # -- the rules; the caller holds the lock

    def _find(self, name: str, now: int) -> _Circuit | None:
        circuit = self.space.circuits.get(name)
        if circuit is not None and now >= circuit.expires:
            del self.space.circuits[name]
            return None
        return circuit

    def _exchange(self, request: Exchange, now: int) -> View:
        circuit = self._find(request.name, now)
        if circuit is None:
            if request.epoch or not (request.delta.calls or request.wants):
                return View(request.name, tick=now // 1000 // request.shape.width)
            circuit = self.space.circuits[request.name] = _Circuit()
        deadline = now + request.ttl
        if circuit.until is not None:
            deadline = max(deadline, circuit.until + request.ttl)
        circuit.expires = max(circuit.expires, deadline)
        applied, tokens = False, tuple[int, ...]()
        _reap(circuit, now)
        if request.epoch == circuit.epoch:
            self._count_probes(circuit, request.probes)
            applied = self._count(circuit, request, now)
            tokens = self._grant(circuit, request, now)
        if request.report is not None and request.epoch == circuit.epoch:
            circuit.reports.pop(self.process, None)
            if request.report:
                circuit.reports[self.process] = stamped(_cut(request.report), now)
            living = {each.process for each in _reports(circuit, now, REPORT_KEPT)}
            circuit.reports = {each: circuit.reports[each] for each in living}
        view = _view(request.name, circuit, now, request)
        return view._replace(applied=applied, tokens=tokens)

    def _count(self, circuit: _Circuit, request: Exchange, now: int) -> bool:
        shape, delta = request.shape, request.delta
        if circuit.state not in (State.CLOSED, State.METRICS_ONLY):
            return False  # probes count by their tokens
        tick = now // 1000 // shape.width
        if circuit.label != shape.label:
            if circuit.buckets and now - circuit.last < OTHER_SHAPE:
                return False
            circuit.begin_window()
            circuit.label = shape.label
        if delta.calls:
            there = circuit.buckets.get(tick, Counts())
            circuit.buckets[tick] = added((there, delta), len(shape.thresholds))
            circuit.reporter = self.process
            circuit.last = now
            circuit.seen[self.process] = tick
            if request.witness:
                if now - circuit.last_bad > BURST_GAP:
                    circuit.burst = now
                circuit.last_bad = now
                circuit.bad[self.process] = tick
        self._trim(circuit, shape, tick)
        return bool(delta.calls)

    def _trim(self, circuit: _Circuit, shape: Shape, tick: int) -> None:
        pairs = (Bucket(*pair) for pair in circuit.buckets.items())
        circuit.buckets = {each.tick: each.counts for each in kept(pairs, tick, shape)}
        oldest = min(circuit.buckets, default=tick)
        circuit.seen = {each: last for each, last in circuit.seen.items() if last >= oldest}
        circuit.bad = {each: last for each, last in circuit.bad.items() if last >= oldest}

    def _count_probes(self, circuit: _Circuit, probes: tuple[Probe, ...]) -> None:
        for token, counts in probes:
            if circuit.leases.pop(token, None) is not None:
                circuit.probes = added((circuit.probes, counts), len(counts.slow))

    def _grant(self, circuit: _Circuit, request: Exchange, now: int) -> tuple[int, ...]:
        if circuit.state is not State.HALF_OPEN:
            return ()
        free = min(request.wants, request.slots - len(circuit.leases), MAX_GRANTS)
        tokens: list[int] = []
        for _ in range(free):
            circuit.token = max(circuit.token + 1, now * 1000)
            circuit.leases[circuit.token] = now + request.lease
            tokens.append(circuit.token)
        return tuple(tokens)

    def _move(self, move: Move, now: int) -> View:
        circuit = self._find(move.name, now)
        epoch = 0 if circuit is None else circuit.epoch
        if move.expected not in (None, epoch) or (move.reassert and epoch >= move.known):
            return _view(move.name, circuit, now)
        if circuit is None:
            circuit = self.space.circuits[move.name] = _Circuit()
        circuit.begin()
        if move.reassert:
            circuit.epoch = move.known + (move.state is State.HALF_OPEN)
        else:
            circuit.epoch = max(epoch + 1, move.known + 1, now)
        circuit.state = move.state
        circuit.until = None if move.remaining is None else now + move.remaining
        circuit.reopens = move.reopens
        circuit.reason = move.reason[:MAX_REASON]
        circuit.author = self.process
        circuit.expires = now + move.ttl + (move.remaining or 0)
        self.space.push(Hint(key_of(move.name), circuit.epoch, self.process))
        return _view(move.name, circuit, now)._replace(won=True)


def _reap(circuit: _Circuit, now: int) -> None:
    circuit.leases = {token: end for token, end in circuit.leases.items() if end > now}


def _view(name: str, circuit: _Circuit | None, now: int, request: Exchange | None = None) -> View:
    if circuit is None:
        return View(name, tick=now // 1000)
    _reap(circuit, now)
    if request is not None:
        width = request.shape.width
    else:
        width = int(circuit.label.partition(".")[0] or 1)
    return View(
        name,
        known=True,
        epoch=circuit.epoch,
        state=circuit.state,
        remaining=None if circuit.until is None else max(circuit.until - now, 0),
        reopens=circuit.reopens,
        reason=circuit.reason,
        author=circuit.author,
        reporter=circuit.reporter,
        tick=now // 1000 // width,
        label=circuit.label,
        buckets=tuple(Bucket(*pair) for pair in circuit.buckets.items()),
        witnesses=len(circuit.bad),
        reporters=len(circuit.seen),
        burst=max(now - circuit.burst, 0) if circuit.bad else None,
        probes=circuit.probes,
        live=len(circuit.leases),
    )


def _reports(circuit: _Circuit, now: int, within: int) -> list[Report]:
    found = (report_of(process, kept, now, within) for process, kept in circuit.reports.items())
    return [report for report in found if report is not None]


def _cut(report: str) -> str:
    return report.encode(errors="replace")[:MAX_REPORT].decode(errors="ignore")
