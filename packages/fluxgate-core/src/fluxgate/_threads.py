"""A thread that a process has once, whoever starts it, and from wherever.

To start a thread is to wait until it has begun, and the collector may run a finaliser on it before
that. So none is started under a lock: the finaliser may need it, and would wait for whoever waits
for that thread. Who is to start one is decided under the lock, and who has been is looked at there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from fluxgate._locks import ProcessLock


class SoleThread:
    """A daemon thread of which there is one at most; it may be started again after its end.

    Args:
        name: the thread's.
    """

    __slots__ = ("_lock", "_name", "_thread")

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._lock: Final = ProcessLock()
        self._thread: threading.Thread | None = None

    def start(self, run: Callable[[], object]) -> None:
        """Have a thread call `run`, unless there is one, or one is about to begin.

        Raises:
            RuntimeError: the system gives no more threads; the next start tries again.
        """
        thread: threading.Thread | None = None
        try:
            with self._lock.here():
                if not self._is_gone():
                    return
                thread = threading.Thread(
                    target=self._begin, args=(run,), name=self._name, daemon=True
                )
                self._thread = thread
            thread.start()
        except BaseException:
            with self._lock.here():
                if thread is self._thread and thread is not None and thread.ident is None:
                    self._thread = None
            raise

    def _is_gone(self) -> bool:
        thread = self._thread
        # One that has no number has yet to begin, and somebody is about to start it.
        return thread is None or (thread.ident is not None and not thread.is_alive())

    def _begin(self, run: Callable[[], object]) -> None:
        with self._lock.here():
            if self._thread is None:  # an interrupt came while it was started
                self._thread = threading.current_thread()
        if self.is_current():
            run()

    def end(self, unless: Callable[[], bool]) -> bool:
        """Count as ended from now on, on this thread, unless there is more to do; whether it does.

        Whoever gives it more to do and then starts it is never missed: either `unless` sees it, or
        another thread is started.
        """
        with self._lock.here():
            if self.is_current():
                if unless():
                    return False
                self._thread = None
            return True

    def is_current(self) -> bool:
        """Whether this is the thread on which it runs."""
        return self._thread is threading.current_thread()

    def is_alive(self) -> bool:
        """Whether it runs."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    @property
    def was_started(self) -> bool:
        """Whether it runs, has run, or is about to."""
        return self._thread is not None

    def join(self, timeout: float) -> bool:
        """Wait for its end, at most so many seconds; whether it has ended. Never for itself."""
        thread = self._thread
        if thread is None or thread is threading.current_thread() or not thread.is_alive():
            return True
        thread.join(timeout)
        return not thread.is_alive()
