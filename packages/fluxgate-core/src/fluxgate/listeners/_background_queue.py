"""A bounded queue, and the one thread that works it off: what `Background` is made of.

Whoever posts must never wait, and may be anybody: a call, the garbage collector or a signal
handler in the middle of another post, the worker itself. So nobody waits for a lock here:
`SimpleQueue` is made for being re-entered, and the locks are flags, only ever tried.

The thread knows the mailbox and the mailbox doesn't know its `Background`, so that this can be
collected, whereupon the thread ends.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from fluxgate import _log
from fluxgate._callables import is_awaitable

if TYPE_CHECKING:
    from asyncio import Runner

News: TypeAlias = tuple[Callable[[Any], object], Any, str]
"""What to call, with what, and the circuit that it is about."""


class Mark:
    """A place in the queue, passed once everything before it has been dealt with."""

    __slots__ = ("passed", "stop")

    def __init__(self, *, stop: bool = False) -> None:
        self.passed = threading.Event()
        self.stop = stop


class Mailbox:
    """The queue of one listener, and its worker while there is one.

    Args:
        label: what to call the listener in logs.
        close: closes the listener, if it can be closed; may be async.
        maxsize: news that may wait (one more for each thread that posts at the same moment).
        exit_timeout: seconds that the interpreter waits for it at its exit, at most.
    """

    def __init__(
        self, label: str, close: Callable[[], object] | None, maxsize: int, exit_timeout: float
    ) -> None:
        self.exit_timeout = exit_timeout
        self.label = label
        self._close = close
        self._maxsize = maxsize
        self.restart()
        _mailboxes[next(_numbers)] = self

    def restart(self) -> None:
        """Begin anew in a forked child: what is queued is the parent's to tell."""
        self._queue: SimpleQueue[News | Mark] = SimpleQueue()
        self._evicted: list[Mark] = []
        self._running = threading.Lock()  # held for as long as there is a worker
        self._worker: int | None = None
        self._open = self._close is not None
        self._lost: list[None] = []
        self._folded = 0
        self._folding = threading.Lock()
        self._troubled = threading.Lock()  # held from the first trouble until all is told

    # -- posting: from any thread, at any moment, without waiting

    def post(self, news: News) -> None:
        """Queue a signal. If that is full, the oldest goes: the newest says how things stand."""
        dropped = False
        if self._queue.qsize() >= self._maxsize:
            with suppress(Empty):  # or else the worker was quicker
                oldest = self._queue.get_nowait()
                dropped = not isinstance(oldest, Mark)
                if isinstance(oldest, Mark):
                    self._evicted.append(oldest)
        self._queue.put(news)
        self._hire()
        if dropped:
            self._drop()

    def offer(self, news: News) -> None:
        """Queue what may come in floods, if half of the queue is free: the rest is for signals."""
        if self._queue.qsize() * 2 < self._maxsize:
            self._queue.put(news)
            self._hire()
        else:
            self._drop()

    @property
    def dropped(self) -> int:
        """How much news was dropped."""
        return self._folded + len(self._lost)

    def _drop(self) -> None:
        lost = self._lost
        lost.append(None)  # atomic, unlike += 1
        if len(lost) > 1000 and self._folding.acquire(blocking=False):
            try:
                count = len(lost)
                del lost[:count]
                self._folded += count
            finally:
                self._folding.release()
        self._complain(
            f"its queue is full ({self._maxsize}): the oldest signals and the newest refusals are "
            "dropped and counted until it has caught up"
        )

    def _complain(self, sentence: str) -> None:
        """Log trouble, once until all that is queued has been told."""
        if self._troubled.acquire(blocking=False):
            report(self.label, sentence)

    # -- waiting for the worker

    def mark(self, *, stop: bool = False) -> Mark:
        """A mark at the end of the queue; the worker passes it, or stops there."""
        mark = Mark(stop=stop)
        if self._running.locked() or self._queue.qsize() or (stop and self._open):
            self._queue.put(mark)
            self._hire()
        else:
            mark.passed.set()
        return mark

    def wait(self, mark: Mark, timeout: float) -> bool:
        """Whether the worker passes the mark within so many seconds."""
        if self._worker == threading.get_ident():
            raise RuntimeError(f"{self.label}: its listener can't wait for it, nor close it")
        return mark.passed.wait(timeout)

    def dismiss(self) -> Mark | None:
        """Have the worker, if there is one, stop once it is through; never waits."""
        if not self._running.locked():
            return None
        mark = Mark(stop=True)
        self._queue.put(mark)
        return mark

    # -- the worker

    def _hire(self) -> None:
        """Start a worker unless there is one."""
        running = self._running
        # A thread that is started when the interpreter is being torn down never begins.
        if running.locked() or sys.is_finalizing() or not running.acquire(blocking=False):
            return
        ticket = [running]
        try:
            _finish_at_exit()
            # In an empty context: else the first caller's (request id, span) would stick to it.
            threading.Thread(
                target=Context().run, args=(self._work, ticket), name=self.label, daemon=True
            ).start()
        except BaseException as error:
            if _take(ticket):  # or else it has begun after all
                running.release()
            if not isinstance(error, RuntimeError):
                raise
            self._complain(f"its thread can't be started ({error}): the next signal tries again")

    def _work(self, ticket: list[threading.Lock]) -> None:
        running = _take(ticket)
        if running is None:  # who started it was interrupted, and thinks that it didn't begin
            return
        while True:
            self._worker = threading.get_ident()
            stops = self._tell_all()
            if running is not self._running:  # a listener has forked: the child begins anew
                return
            self._worker = None
            running.release()
            for mark in stops:
                mark.passed.set()
            # Look again after the release: who posted before it saw a worker.
            if not self._queue.qsize() or not running.acquire(blocking=False):
                return

    def _tell_all(self) -> list[Mark]:
        """Tell the listener what comes, until told to stop; the marks that said so."""
        queue, evicted = self._queue, self._evicted
        stops: list[Mark] = []
        with Teller(self.label) as teller:
            while not stops and queue is self._queue:
                item = queue.get()
                marks = [item] if isinstance(item, Mark) else []
                while evicted:
                    marks.append(evicted.pop(0))
                stops = [mark for mark in marks if mark.stop]
                for mark in marks:
                    if not mark.stop:
                        mark.passed.set()
                if not isinstance(item, Mark):
                    self._open = self._close is not None
                    teller.tell(*item)
                if self._troubled.locked() and not queue.qsize():
                    self._troubled.release()
            if self._close is not None and self._open and queue is self._queue:
                self._open = False
                teller.close(self._close)
        return stops


def _take(ticket: list[threading.Lock]) -> threading.Lock | None:
    """What only one of two can have."""
    try:
        return ticket.pop()
    except IndexError:
        return None


class Teller(AbstractContextManager["Teller"]):
    """Calls one listener. Async ones run on an event loop of its own, made when first needed.

    It is used on one thread. No error leaves it, an interrupt or a cancellation neither: the
    worker has nobody to hand them to.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._runner: Runner | None = None

    def tell(self, listener: Callable[[Any], object], news: Any, circuit: str) -> None:
        """Hand over one piece of news."""
        try:
            self._finish(listener(news))
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
    except Exception:  # nowhere left to tell it
        return


# -- the end of the process, and its forks

_mailboxes: weakref.WeakValueDictionary[int, Mailbox] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def _every() -> list[Mailbox]:
    return [mailbox for ref in _mailboxes.valuerefs() if (mailbox := ref()) is not None]


def _finish_at_exit() -> None:
    atexit.unregister(_finish)  # once, and not at import
    atexit.register(_finish)


def _finish() -> None:
    """Let all workers end, each within its time."""
    started = time.monotonic()
    leaving = [(mailbox, mark) for mailbox in _every() if (mark := mailbox.dismiss()) is not None]
    for mailbox, mark in leaving:
        left = started + mailbox.exit_timeout - time.monotonic()
        if not mark.passed.wait(max(left, 0.0)):
            report(mailbox.label, "not everything was told before the process ended")


def _restart_all() -> None:
    for mailbox in _every():
        mailbox.restart()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart_all)
