"""Probers: recovery without traffic. They call a function through a circuit that is not closed.

    prober = Prober(breaker, ping)                 # a thread, while the circuit isn't closed
    async with AsyncProber(breaker, ping): ...     # a task of this loop, asyncio or trio

A circuit turns half-open at the first call after its cooldown. Where calls are rare, that is late,
and it is somebody's call that tries. A prober makes these calls: once the cooldown is over, and
then one each `interval` until the circuit has closed or opened again. While it is closed, a prober
waits for the signal of its opening, and does nothing.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final, Self

from fluxgate._bell import Bell
from fluxgate._callables import Kind, describe, kind_of
from fluxgate._engine import living, nested
from fluxgate._front import Front
from fluxgate._loops import Loop, running_loop
from fluxgate._naming import safe_repr
from fluxgate._threads import SoleThread
from fluxgate._values import seconds_in_range
from fluxgate._words import seconds
from fluxgate.attempt import Attempt
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.errors import CallNotPermittedError, WrongFrontError
from fluxgate.signals import Signal
from fluxgate.state import State

__all__ = ["AsyncProber", "Prober"]

_PAUSE: Final = 0.5
"""Seconds until another try where a probe was refused: the slots are taken, the dice were against
it, or a fleet's lease is on its way (which waits for a call for two seconds)."""
_RECOVERING: Final = (State.OPEN, State.HALF_OPEN, State.FORCED_OPEN)
"""The states in which a probe can be due; of forced open, where it was forced for a time."""
_MOST_HUNG: Final = 3
"""How many threads may hang in the function; as long as they do, it is called no more."""


class _Schedule:
    """When to probe, and what a probe's end means: the logic of both probers.

    Times are seconds of the circuit's clock.
    """

    _kinds: tuple[Kind, ...]

    def __init__(
        self,
        breaker: CircuitBreaker | AsyncCircuitBreaker,
        function: Callable[[], object],
        *,
        interval: float = 1.0,
        timeout: float = 10.0,
    ) -> None:
        name = type(self).__name__
        if not isinstance(breaker, Front):
            raise TypeError(f"{name}: breaker must be a circuit breaker, not {safe_repr(breaker)}")
        if not callable(function):
            raise TypeError(
                f"{name}: function must be callable without arguments: {safe_repr(function)}"
            )
        if kind_of(function) not in self._kinds:
            kind = "an async def" if self._kinds == (Kind.COROUTINE,) else "no generator"
            raise WrongFrontError(f"{name}: function {describe(function)} must be {kind}")
        for field, value in (("interval", interval), ("timeout", timeout)):
            seconds_in_range(field, value)
        self.name = breaker.name
        # Weakly: the circuit holds its listeners, and a cycle would keep it listed after its end.
        self._circuit = weakref.ref(breaker._circuit)
        self._function: Callable[[], Any] = function
        self._interval = interval
        self._timeout = timeout
        self._next = -inf
        self._closed = False

    def due(self) -> float | None:
        """Seconds until the next probe, 0 for now; None where only a signal can make one due."""
        circuit = self._circuit()
        if circuit is None:
            return None
        phase, now = circuit.phase, circuit.clock()
        if phase.state not in _RECOVERING:
            return None
        left = phase.retry_at - now
        if left > 0:
            return left if left < inf else None
        if not circuit.available():
            return _PAUSE
        return max(self._next - now, 0.0)

    def admitted(self) -> Attempt | None:
        """A probe that the circuit has let in; None where it refuses."""
        circuit = self._circuit()
        if circuit is None:
            return None
        try:
            attempt = Attempt(circuit, circuit.admit())
        except CallNotPermittedError:
            self.put_off(_PAUSE)
            return None
        self.put_off(self._interval)
        return attempt

    def put_off(self, delay: float) -> None:
        """Let so many seconds pass until the next probe."""
        circuit = self._circuit()
        if circuit is not None:
            self._next = circuit.clock() + delay

    @property
    def limit(self) -> float:
        """Seconds that a probe may take: the circuit ignores those that take `probe_timeout`."""
        circuit = self._circuit()
        ignored = inf if circuit is None else circuit.policy.probe_timeout
        return min(self._timeout, 0.9 * ignored)

    def raised(self, attempt: Attempt, error: BaseException) -> None:
        """End a probe by its error: a failure, but for a refusal by a circuit further down."""
        if isinstance(error, Exception) and not isinstance(error, CallNotPermittedError):
            attempt.fail(error)
        else:
            attempt.raised(error)

    def timed_out(self, attempt: Attempt) -> None:
        """End a probe that hangs, as a failure; not if it has ended meanwhile."""
        attempt.fail(f"no answer to a probe in {seconds(self.limit)}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.name!r}: {describe(self._function)}>"


class Prober(_Schedule):
    """Probes from a thread, which is there only while the circuit is not closed.

    It may be made anywhere, in a settings module and before a fork, too: a process has a thread of
    its own. It goes on without being referenced, as long as its circuit lives, until `close()`, the
    end of a `with` block, or the end of the process. It is a listener of its circuit, so
    `Registry.close()` and the lifespan of `fluxgate_fastapi.install` close it, too.

    What the function raises is a failure, whatever the tracker; what it returns is a success,
    unless the circuit's `result_tracker` finds otherwise. Nothing is logged but what the circuit
    reports.

    Args:
        breaker: either front of the circuit.
        function: called without arguments; one that is async runs on an event loop of its own.
            Its calls of the same circuit are parts of the probe.
        interval: seconds between two probes of a half-open circuit.
        timeout: seconds after which a probe that has not ended is a failure; at most nine tenths of
            the circuit's `probe_timeout` count. Its thread is left behind; if three hang, no more
            are started until one has ended.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: a time is out of range.
    """

    _kinds = (Kind.FUNCTION, Kind.COROUTINE)

    def __init__(
        self,
        breaker: CircuitBreaker | AsyncCircuitBreaker,
        function: Callable[[], object],
        *,
        interval: float = 1.0,
        timeout: float = 10.0,
    ) -> None:
        super().__init__(breaker, function, interval=interval, timeout=timeout)
        self._is_async = kind_of(function) is Kind.COROUTINE
        self._begin()
        _probers.add(self)
        self._subscription = breaker.listen(self)
        if breaker.state is not State.CLOSED:
            self._wake(start=True)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._thread = SoleThread(f"fluxgate-prober-{self.name}")
        # Both are rung on the path of any call, and in the middle of their own waits.
        self._alarm = Bell()
        self._ended = Bell()
        self._hung: list[threading.Thread] = []

    def __call__(self, signal: Signal) -> None:
        """Take notice of a transition; it waits for nothing."""
        if signal.new_state is not signal.old_state:
            self._wake(start=signal.new_state in _RECOVERING)

    def _wake(self, *, start: bool) -> None:
        if living.is_forked():  # `threading` may have yet to begin anew: our hook looks what is due
            return
        self._begin_here()
        self._alarm.ring()
        if start and not self._closed:
            self._thread.start(self._probe_until_closed)

    def _probe_until_closed(self) -> None:
        while True:
            self._alarm.wait(0.0)  # what it rang for is seen to now
            wait = None if self._closed else self.due()
            if wait == 0:
                self._probe()
                continue
            if not self._thread.is_current():  # gevent's greenlets live on in a forked child
                return
            if wait is None and self._thread.end(unless=lambda: self._alarm.rung):
                return
            self._alarm.wait(wait)

    def _probe(self) -> None:
        limit = self.limit
        self._hung = [thread for thread in self._hung if thread.is_alive()]
        if len(self._hung) >= _MOST_HUNG:
            self.put_off(self._interval)
            return
        attempt = self.admitted()
        if attempt is None:
            return
        self._ended = ended = Bell()
        # A thread of its own: a function that hangs must not hold the prober.
        worker = threading.Thread(
            target=self._call, args=(attempt, ended), name="fluxgate-probe", daemon=True
        )
        try:
            worker.start()
        except RuntimeError:  # no more threads: says nothing about the dependency
            attempt.ignore()
            return
        if not self._closed:
            ended.wait(limit)
        if attempt.settled:
            return
        if self._closed:
            attempt.ignore()
        else:
            self.timed_out(attempt)
            self._hung.append(worker)

    def _call(self, attempt: Attempt, ended: Bell) -> None:
        try:
            nested.begin(attempt._admission, attempt._circuit.name)
            function = self._function
            if self._is_async:
                result = asyncio.run(asyncio.wait_for(function(), self.limit))
            else:
                result = function()
        except BaseException as error:  # of this thread alone: nobody waits for it
            self.raised(attempt, error)
        else:
            attempt.returned(result)
        finally:
            ended.ring()

    def close(self, timeout: float = 1.0) -> bool:
        """Probe no more. A probe that goes on is ignored.

        Args:
            timeout: seconds to wait for the thread, 0 or more.

        Returns:
            Whether the thread has ended.
        """
        self._closed = True
        self._subscription()
        self._alarm.ring()
        self._ended.ring()
        return self._thread.join(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _begin_here(self) -> None:
        """Begin anew in another process, once: some servers (uWSGI) fork without running hooks."""
        if self._process != os.getpid():
            self._begin()

    def _restart(self) -> None:
        """Begin anew in a forked child, which has none of the threads."""
        self._begin_here()
        # Not at once: the hooks of other modules have yet to run.
        self.put_off(_PAUSE)
        if self.due() is not None:
            self._wake(start=True)


class AsyncProber(_Schedule):
    """Probes from a task of the running loop, on asyncio or trio.

    As a context manager it runs as long as the block does; or `run()` is given to a task group or
    nursery. See `Prober` for what counts as what.

    Args:
        breaker: either front of the circuit.
        function: an `async def` that is called without arguments.
        interval: seconds between two probes of a half-open circuit.
        timeout: seconds after which a probe is cancelled, and a failure; at most nine tenths of the
            circuit's `probe_timeout` count.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: a time is out of range.
    """

    _kinds = (Kind.COROUTINE,)

    def __init__(
        self,
        breaker: CircuitBreaker | AsyncCircuitBreaker,
        function: Callable[[], Awaitable[object]],
        *,
        interval: float = 1.0,
        timeout: float = 10.0,
    ) -> None:
        super().__init__(breaker, function, interval=interval, timeout=timeout)
        self._breaker = breaker
        self._loop: Loop | None = None
        self._end: Callable[[], Awaitable[None]] | None = None

    def __call__(self, signal: Signal) -> None:
        """Take notice of a transition; it waits for nothing, and may be called on any thread."""
        loop = self._loop
        if loop is not None and signal.new_state is not signal.old_state:
            loop.wake()

    async def run(self) -> None:
        """Probe until this is cancelled, or closed.

        Raises:
            RuntimeError: it runs already.
        """
        if self._loop is not None:
            raise RuntimeError(f"{self!r} runs already: make one for each task")
        self._loop = loop = running_loop()
        try:
            with self._breaker.listen(self):
                while not self._closed:
                    loop.clear()
                    wait = self.due()
                    if wait == 0:
                        await self._probe(loop)
                    else:
                        await loop.wait(wait)
        finally:
            self._loop = None

    async def _probe(self, loop: Loop) -> None:
        attempt = self.admitted()
        if attempt is None:
            return
        nested.begin(attempt._admission, attempt._circuit.name)
        try:
            ended, result = await loop.limited(self._function, self.limit)
        except BaseException as error:
            self.raised(attempt, error)
            if not isinstance(error, Exception):
                raise
        else:
            if ended:
                attempt.returned(result)
            else:
                self.timed_out(attempt)

    async def aclose(self) -> None:
        """Probe no more; `run()` returns once a probe that goes on has ended."""
        self._closed = True
        if self._loop is not None:
            self._loop.wake()

    async def __aenter__(self) -> Self:
        self._closed = False
        self._end = await running_loop().start(self.run)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closed = True
        if self._end is not None:
            await self._end()


# -- processes: their forks and their ends

_probers: weakref.WeakSet[Prober] = weakref.WeakSet()


def _restart_all() -> None:
    for prober in list(_probers):
        if not prober._closed:
            prober._restart()


def _close_all() -> None:
    for prober in list(_probers):
        prober.close(0)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart_all)
atexit.register(_close_all)
