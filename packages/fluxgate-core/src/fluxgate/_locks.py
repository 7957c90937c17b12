"""A lock that is of use in a forked child, whichever thread held it in the parent.

A child has none of its parent's other threads, and a lock that one of these held stays locked there
for ever. Making it anew in a fork hook comes too late: hooks of modules that were imported before
us (`threading`) run first, and with them the garbage collector and signal handlers, whose
finalisers may call a breaker. And some servers (uWSGI) fork without running hooks.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from operator import call
from typing import Final, TypeVar

R = TypeVar("R")


class ProcessLock:
    """A re-entrant lock, which is another one in each process.

        with lock.here():
            ...

    What it guards must be sound after each step: the child may find it half done.
    """

    __slots__ = ("__weakref__", "_locks")

    def __init__(self) -> None:
        self._locks: Final = {os.getpid(): threading.RLock()}
        _every.add(self)

    def here(self) -> threading.RLock:
        """The lock of this process."""
        process = os.getpid()
        lock = self._locks.get(process)
        if lock is None:  # a forked child, in which several threads may come at once
            lock = self._locks.setdefault(process, threading.RLock())
            for other in list(self._locks):
                if other != process:
                    self._locks.pop(other, None)
        return lock

    def exclusively(self, step: Callable[[bool], R], patience: float) -> R:
        """Call `step` under the lock, or without it; interrupts leave it as it was.

        Args:
            step: called with whether the lock was taken.
            patience: seconds to wait for it, at most.
        """
        lock = self.here()
        held: list[bool] = []
        try:
            try:
                # Taking the lock and noting that it is held are one step in C, and so are releasing
                # it and forgetting that: a signal handler can raise before or after, and the lock
                # is released exactly as often as it was taken.
                held.extend(map(lock.acquire, (True,), (patience,)))
                return step(any(held))
            finally:
                held[:] = filter(None, map(call, [lock.release] * sum(held)))
        finally:  # once more, for an interrupt in the middle of the above
            held[:] = filter(None, map(call, [lock.release] * sum(held)))


_every: Final[weakref.WeakSet[ProcessLock]] = weakref.WeakSet()


def _forget_others() -> None:
    # A child's child may get the number of a process that is gone.
    for each in list(_every):
        each.here()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_others)
