"""The bounded queue of a `Background`, and the one thread that works it off.

Whoever puts something in must never wait, and may be anybody: a call, the garbage collector, a
signal handler in the middle of another `put`, the worker itself. So nobody waits for a lock here.
`SimpleQueue` is made for being re-entered, and the one lock is only ever tried, by workers: a
signal handler's exception, which comes on the main thread, can't leave it locked.

The thread knows the queue and the queue doesn't know its `Background`, so that this can be
collected, whereupon the thread ends.
"""

from __future__ import annotations

import atexit
import itertools
import math
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from fluxgate import _log
from fluxgate._callables import is_awaitable
from fluxgate._engine import living

if TYPE_CHECKING:
    from asyncio import Runner

Entry: TypeAlias = tuple[Callable[[Any], object], Any, str]
"""A function, its argument, and the name of the circuit that it is about."""


class Marker:
    """A place in the queue, passed once everything before it has been dealt with.

    Args:
        stop: whether the worker ends there.
    """

    __slots__ = ("passed", "stop")

    def __init__(self, *, stop: bool = False) -> None:
        self.passed = threading.Event()
        self.stop = stop


class BackgroundQueue:
    """The queue of one listener, and its worker while there is one.

    Args:
        label: names the listener in logs.
        close: closes the listener, if it can be closed; may be async.
        maxsize: entries that may wait (one more for each thread that puts at the same moment).
        exit_timeout: seconds that the interpreter waits for the worker at its exit, at most.
        together: called with a list of all events that wait, in place of the listener with each.
    """

    def __init__(
        self,
        label: str,
        close: Callable[[], object] | None,
        maxsize: int,
        exit_timeout: float,
        together: Callable[[list[Any]], object] | None = None,
    ) -> None:
        self.exit_timeout = exit_timeout
        self.label = label
        self._close = close
        self._together = together
        self._maxsize = maxsize
        self._begin()
        _queues[next(_numbers)] = self

    def restart(self) -> None:
        """Begin anew in a forked child, once: what is queued is delivered by the parent.

        The first entry does so, or the hook at the end: a hook of somebody else's that comes before
        ours may have a signal sent, and some servers (uWSGI) fork without any.
        """
        if self._process != os.getpid():
            self._begin()

    def _begin(self) -> None:
        self._entries: queue.SimpleQueue[Entry | Marker] = queue.SimpleQueue()
        self._evicted: list[Marker] = []
        self._working = threading.Lock()  # held by the worker for as long as it works
        self._starting: threading.Thread | None = None
        self._worker: int | None = None
        self._open = self._close is not None
        # Its step is atomic, unlike `+= 1` (and, without the GIL, unlike other iterators').
        self._drops = itertools.count()
        self._drops_logged = -math.inf  # seconds of the monotonic clock
        self._troubled = False  # whether trouble has been logged since the queue was last empty
        self._process = os.getpid()

    # -- putting in: from any thread, at any moment, without waiting

    def put(self, entry: Entry) -> None:
        """Queue a signal. If the queue is full, the oldest goes: the newest matters most."""
        self.restart()
        dropped = False
        if self._entries.qsize() >= self._maxsize:
            with suppress(queue.Empty):  # or else the worker was quicker
                oldest = self._entries.get_nowait()
                dropped = not isinstance(oldest, Marker)
                if isinstance(oldest, Marker):
                    self._evicted.append(oldest)
        self._entries.put(entry)
        self.ensure_worker()
        if dropped:
            self._drop()

    def offer(self, entry: Entry) -> None:
        """Queue what may come in floods, if half of the queue is free: the rest is for signals."""
        self.restart()
        if self._entries.qsize() * 2 < self._maxsize:
            self._entries.put(entry)
            self.ensure_worker()
        else:
            self._drop()

    @property
    def dropped(self) -> int:
        """How many entries were dropped."""
        return int(repr(self._drops)[6:-1])  # "count(3)": to ask it otherwise would be a step

    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._entries.qsize()

    def _drop(self) -> None:
        next(self._drops)
        now = monotonic()
        if now - self._drops_logged >= _log.PAUSE:  # a flood of calls may fill it again and again
            self._drops_logged = now
            report(
                self.label,
                f"its queue is full ({self._maxsize}): the oldest signals, and the newest refusals "
                f"and calls, are dropped and counted ({self.dropped} so far)",
            )

    def _report_once(self, sentence: str) -> None:
        """Log trouble, once until the queue has been emptied."""
        if not self._troubled:
            self._troubled = True
            report(self.label, sentence)

    # -- waiting for the worker

    def marker(self, *, stop: bool = False) -> Marker:
        """A marker at the end of the queue; the worker passes it, or ends there."""
        self.restart()
        marker = Marker(stop=stop)
        if self._has_worker() or self._entries.qsize() or (stop and self._open):
            self._entries.put(marker)
            self.ensure_worker()
        else:
            marker.passed.set()
        return marker

    def wait(self, marker: Marker, timeout: float) -> bool:
        """Whether the worker passes the marker within so many seconds."""
        if self._worker == threading.get_ident():
            raise RuntimeError(f"{self.label}: its listener can't wait for it, nor close it")
        return marker.passed.wait(timeout)

    def dismiss(self) -> Marker | None:
        """Have the worker, if there is one, end once it is through; never waits."""
        self.restart()
        if not self._has_worker():
            return None
        marker = Marker(stop=True)
        self._entries.put(marker)
        return marker

    # -- the worker

    def ensure_worker(self) -> None:
        """Start a worker unless there is one, or one is about to begin.

        Two that start at once do no harm: a worker that finds another at work ends.
        """
        if self._has_worker() or sys.is_finalizing():  # what is started then never begins
            return
        if living.is_forked():  # `threading` may have yet to begin anew: our hook starts it
            return
        self._follow_patches()
        try:
            _drain_at_exit()
            # In an empty context: else the first caller's (request id, span) would stick to it.
            worker = threading.Thread(
                target=Context().run, args=(self._work,), name=self.label, daemon=True
            )
            self._starting = worker
            worker.start()
        except RuntimeError as error:
            self._report_once(f"its thread can't be started ({error}): the next signal tries again")

    def _has_worker(self) -> bool:
        """Whether a worker is at work, or about to begin."""
        starting = self._starting
        return self._working.locked() or (starting is not None and starting.is_alive())

    def _follow_patches(self) -> None:
        """Take the kind of queue that threads wait on now.

        gevent exchanges it, and may do so after the application was imported (gunicorn with
        `--preload`). A worker that waits on the old kind stops every greenlet of its process.
        """
        if type(self._entries) is not queue.SimpleQueue:
            old, self._entries = self._entries, queue.SimpleQueue()
            with suppress(queue.Empty):
                while True:
                    self._entries.put(old.get_nowait())

    def _work(self) -> None:
        working = self._working
        self._starting = None  # before the look below: whoever puts from now on looks for himself
        # Look again after each release: whoever put something in before it saw a worker.
        while self._entries.qsize() and working.acquire(blocking=False):
            self._worker = threading.get_ident()
            stops = self._deliver_all()
            if working is not self._working:  # a listener has forked: the child begins anew
                return
            self._worker = None
            working.release()
            for marker in stops:
                marker.passed.set()

    def _deliver_all(self) -> list[Marker]:
        """Call the listener with what comes, until a marker says stop; the markers that did."""
        entries, evicted = self._entries, self._evicted
        stops: list[Marker] = []
        ahead: Entry | Marker | None = None
        with Caller(self.label) as caller:
            while not stops and entries is self._entries:
                if ahead is None and not evicted:
                    ahead = entries.get()
                item, ahead = ahead, None
                markers = [item] if isinstance(item, Marker) else []
                while evicted:
                    markers.append(evicted.pop(0))
                stops = [marker for marker in markers if marker.stop]
                for marker in markers:
                    if not marker.stop:
                        marker.passed.set()
                if isinstance(item, tuple):
                    self._open = self._close is not None
                    if self._together is not None:
                        item, ahead = _gathered(item, entries, self._together)
                    caller.call(*item)
                if self._troubled and not entries.qsize():
                    self._troubled = False
            if self._close is not None and self._open and entries is self._entries:
                self._open = False
                caller.close(self._close)
        return stops


def _gathered(
    first: Entry,
    entries: queue.SimpleQueue[Entry | Marker],
    together: Callable[[list[Any]], object],
) -> tuple[Entry, Marker | None]:
    """One entry for all that wait before the next marker, and this marker."""
    _, event, circuit = first
    events = [event]
    while True:
        try:
            item = entries.get_nowait()
        except queue.Empty:
            return (together, events, circuit), None
        if isinstance(item, Marker):
            return (together, events, circuit), item
        events.append(item[1])


class Caller(AbstractContextManager["Caller"]):
    """Calls one listener. Async ones run on an event loop of its own, made when first needed.

    It is used on one thread. No error leaves it, an interrupt or a cancellation neither: the
    worker has nobody to hand them to.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._runner: Runner | None = None

    def call(self, listener: Callable[[Any], object], event: Any, circuit: str) -> None:
        """Call the listener with a signal or a refusal of that circuit."""
        try:
            self._finish(listener(event))
        except BaseException as error:
            _log.fault(circuit, self._label, error)

    def close(self, close: Callable[[], object]) -> None:
        """Close the listener."""
        try:
            self._finish(close())
        except BaseException as error:
            report(self._label, "its listener could not be closed", error)

    def __exit__(self, *exc_info: object) -> None:
        if self._runner is not None:
            try:
                self._runner.close()
            except BaseException as error:
                report(self._label, "its event loop could not be closed", error)

    def _finish(self, answer: object) -> None:
        if not is_awaitable(answer):
            return
        if self._runner is None:
            import asyncio  # not at import: few need it

            self._runner = asyncio.Runner()
        self._runner.run(_awaited(cast("Awaitable[object]", answer)))


async def _awaited(answer: Awaitable[object]) -> None:
    await answer


def report(label: str, sentence: str, error: BaseException | None = None) -> None:
    """Log trouble that no circuit has a part in. Never raises."""
    import logging

    try:
        level = logging.WARNING if error is None else logging.ERROR
        logging.getLogger("fluxgate").log(level, "%s: %s", label, sentence, exc_info=error)
    except Exception:  # nowhere left to report it
        return


# -- the end of the process, and its forks

_queues: weakref.WeakValueDictionary[int, BackgroundQueue] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def _every() -> list[BackgroundQueue]:
    return [each for ref in _queues.valuerefs() if (each := ref()) is not None]


def _drain() -> None:
    """Let all workers end, each within its time."""
    started = time.monotonic()
    leaving = [(each, marker) for each in _every() if (marker := each.dismiss()) is not None]
    for each, marker in leaving:
        left = started + each.exit_timeout - time.monotonic()
        if not marker.passed.wait(max(left, 0.0)):
            report(each.label, "not everything was delivered before the process ended")


_unregistered: Final = [_drain]


def _drain_at_exit() -> None:
    """Have the workers end before the process does: not at import, and without a lock."""
    # Taken out and registered in one step, in C: once, by one thread (CPython 3.13t crashes where
    # two change the callbacks of the process's end at once), and no interrupt comes in between.
    with suppress(IndexError):  # it has been
        next(map(atexit.register, iter(_unregistered.pop, None)))


def _restart_all() -> None:
    for each in _every():
        each.restart()
        if not each.is_empty():
            each.ensure_worker()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart_all)
