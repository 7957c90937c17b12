"""`Background(listener)`: a listener that may wait, or is async, on a thread of its own."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from fluxgate._callables import Kind, describe, kind_of
from fluxgate._naming import safe_repr
from fluxgate.errors import CallNotPermittedError
from fluxgate.listeners._background_queue import BackgroundQueue
from fluxgate.listeners._options import count, seconds
from fluxgate.signals import Call, Listener, Signal

__all__ = ["Background"]


class Background:
    """Calls a listener on a thread of its own, so that no protected call waits for it.

    Signals are queued and delivered one at a time, in order per circuit. An `async` listener runs
    on the thread's own event loop, whichever front caused the signal. What the listener raises is
    logged, and the next signal delivered. One `Background` may serve any number of breakers.

    The thread starts with the first signal (never at import, so it may be made in a settings
    module, and before a fork: a child has a thread of its own, and an empty queue). It ends with
    `close()`, when the `Background` is no longer used, or at the end of the process.

    Where the listener has `rejected` or `call_ended`, so has this: refusals and calls take up half
    of the queue at most.

    Example:
        breaker = CircuitBreaker("payments", listeners=[Background(send_mail)])

    Args:
        listener: a callable that takes a `Signal`, sync or async. Its `close()` or `aclose()`, if
            any, is called on the thread by `close()` of this one; it may be used again afterwards.
        maxsize: how many signals may wait, 1 or more. When it is full, the oldest is dropped: the
            newest says how things stand.
        exit_timeout: seconds that the end of the process is put off, at most, for what is still
            queued; 0 or more.

    Raises:
        TypeError: the listener can't be called with a signal, or an option is of the wrong kind.
        ValueError: an option is out of range.
    """

    __slots__ = ("__weakref__", "_listener", "_queue")

    def __init__(
        self, listener: Listener, *, maxsize: int = 1000, exit_timeout: float = 5.0
    ) -> None:
        _check(listener)
        self._listener = listener
        close = getattr(listener, "aclose", None) or getattr(listener, "close", None)
        self._queue = BackgroundQueue(
            f"{type(self).__name__}({describe(listener)})",
            close if callable(close) else None,
            count("maxsize", maxsize, least=1),
            seconds("exit_timeout", exit_timeout),
            self._together(),
        )
        # Not at exit: that waits for what is queued, which this would not.
        weakref.finalize(self, self._queue.dismiss).atexit = False

    def _together(self) -> Callable[[list[Signal]], object] | None:
        """A function that takes all queued signals together; None delivers them one by one."""
        return None

    def __call__(self, signal: Signal) -> None:
        """Queue a signal; never waits."""
        self._queue.put((self._listener, signal, signal.circuit_name))

    @property
    def rejected(self) -> Callable[[CallNotPermittedError], None]:
        """Queues a refusal, for a listener that has `rejected`; never waits.

        Raises:
            AttributeError: the listener has no `rejected`.
        """
        rejected = getattr(self._listener, "rejected", None)
        if not callable(rejected):
            raise AttributeError(f"{self!r} has no 'rejected': its listener has none")
        queue = self._queue

        def put(error: CallNotPermittedError) -> None:
            # A copy: the error itself is being raised, and holds on to its caller's frames.
            queue.offer((rejected, CallNotPermittedError(*error.args), error.name))

        return put

    @property
    def call_ended(self) -> Callable[[Call], None]:
        """Queues a call, for a listener that has `call_ended`; never waits.

        Raises:
            AttributeError: the listener has no `call_ended`.
        """
        call_ended = getattr(self._listener, "call_ended", None)
        if not callable(call_ended):
            raise AttributeError(f"{self!r} has no 'call_ended': its listener has none")
        queue = self._queue
        return lambda call: queue.offer((call_ended, call, call.circuit_name))

    @property
    def dropped(self) -> int:
        """How many signals, refusals and calls were dropped since it was made, or since a fork.

        The first is logged, and then one a minute, with their number.
        """
        return self._queue.dropped

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all that is queued now has been delivered; not on an event loop.

        Args:
            timeout: seconds, 0 or more.

        Returns:
            Whether it was delivered in time.

        Raises:
            RuntimeError: the listener called this, and would wait for itself.
        """
        queue = self._queue
        return queue.wait(queue.marker(), seconds("timeout", timeout))

    def close(self, timeout: float = 5.0) -> bool:
        """Deliver what is queued, close the listener, and let the thread end.

        Nothing is lost if a signal comes later: it starts a new thread.

        Args:
            timeout: seconds to wait for it, 0 or more. What takes longer goes on all the same.

        Returns:
            Whether it was done in time.

        Raises:
            RuntimeError: the listener called this, and would wait for itself.
        """
        queue = self._queue
        return queue.wait(queue.marker(stop=True), seconds("timeout", timeout))

    async def aclose(self, timeout: float = 5.0) -> bool:
        """`close()`, for coroutines: the event loop goes on meanwhile (asyncio or trio)."""
        import asyncio  # not at import: who awaits this has it

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            trio: Any = sys.modules["trio"]
            threads = trio.to_thread
            closed: bool = await threads.run_sync(self.close, timeout, abandon_on_cancel=True)
            return closed
        return await asyncio.to_thread(self.close, timeout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({describe(self._listener)})"


def _check(listener: object) -> None:
    if not callable(listener):
        raise TypeError(
            f"Background takes a listener, callable with a Signal, not {safe_repr(listener)}"
        )
    if isinstance(listener, type):
        raise TypeError(f"{listener.__name__} is a class: give Background an instance of it")
    kind = kind_of(listener)
    if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        raise TypeError(f"listener {describe(listener)} is a generator: it would never run")
