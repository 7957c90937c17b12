"""A lock that is of use in a forked child, whichever thread held it in the parent.

A child has none of its parent's other threads, and a lock that one of these held stays locked there
for ever. Making it anew in a fork hook comes too late: hooks of modules that were imported before
us (`threading`) run first, and with them the garbage collector and signal handlers, whose
finalisers may call a breaker. And some servers (uWSGI) fork without running hooks.
"""

from __future__ import annotations

import os
import threading
from typing import Final


class ProcessLock:
    """A re-entrant lock, which is another one in each process.

        with lock.here():
            ...

    What it guards must be sound after each step: the child may find it half done.
    """

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._locks: Final = {os.getpid(): threading.RLock()}

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
