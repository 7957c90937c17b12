"""A bell and a gate: they wake threads from anywhere, finalisers and signal handlers included.

`threading.Event` is no such thing: its `set` and `wait` hold a lock that isn't re-entrant, and a
finaliser or handler that runs in there and sets it waits for itself.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Bell:
    """A wake-up for one thread. Rung more than once before that thread waits, it has rung once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the thread, or have its next `wait` return at once; never waits itself."""
        with suppress(RuntimeError):  # it has rung already
            self._lock.release()

    @property
    def rung(self) -> bool:
        """Whether it has rung, and nobody has waited since."""
        return not self._lock.locked()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the bell, at most so many seconds if any are given; whether it has rung."""
        return self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0))


class Gate:
    """Closed at first, and open for good once it is opened; any number of threads may wait."""

    __slots__ = ("_lock", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let everybody through from now on; never waits itself."""
        self.is_open = True
        with suppress(RuntimeError):  # somebody was quicker
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is open, at most so many seconds if any are given; whether it is."""
        if not self.is_open and self._lock.acquire(timeout=-1 if timeout is None else timeout):
            with suppress(RuntimeError):
                self._lock.release()  # the next one waits, too
        return self.is_open


def drained(queue: deque[T]) -> list[T]:
    """Take what is in a queue to which other threads append; nothing of theirs is lost.

    (Swapping the queue for a new one would lose what is appended to the old one afterwards.)
    """
    taken: list[T] = []
    with suppress(IndexError):
        while True:
            taken.append(queue.popleft())
    return taken
