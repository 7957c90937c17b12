"""The lock around a machine: who may be inside, what waits, and when things are told.

The lock serves threads, any number of event loops and trio alike: what it guards never waits,
never logs, and calls no user code but the strategies. Garbage collection and signal handlers can
run *inside* it on the same thread, and what they call may want this lock, or one that a thread
waiting for this one holds. So who finds a lock busy looks whether its own thread is already
inside a circuit. If so it doesn't wait: a settlement goes to the inbox, which the holder empties
before it leaves and looks at again afterwards.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from fluxgate import _log
from fluxgate._dispatch import Dispatch
from fluxgate._lane import Lane
from fluxgate._machine import Machine
from fluxgate.errors import CallNotPermittedError
from fluxgate.signals import Signal

Step = Callable[..., Any]


class _Deferred:
    """The answer of a lock that was not waited for."""


DEFERRED: Final = _Deferred()


class Guarded:
    """A machine behind its lock.

    Attributes:
        name: the circuit's name.
        clock: gives seconds, for durations and deadlines.
        lane: the way through for healthy calls; None while the circuit does not record.
    """

    __slots__ = (
        "_busy",
        "_dispatch",
        "_inbox",
        "_lock",
        "_machine",
        "_rejections",
        "clock",
        "lane",
        "name",
    )

    def __init__(
        self, name: str, machine: Machine, dispatch: Dispatch, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self.clock = clock
        self._machine = machine
        self._dispatch = dispatch
        self._inbox: list[tuple[Step, tuple[Any, ...]]] = []
        self._rejections: list[None] = []
        self._lock = threading.RLock()
        self._busy = False
        self.lane = machine.lane

    def _perform(self, step: Step, *args: Any) -> None:
        """Do `step` under the lock: now, or, where this thread must not wait, soon."""
        if self._busy and inside_a_circuit():
            self._inbox.append((step, args))
            if self._busy:
                return  # its holder looks again before it is done
            step, args = nothing, ()
        self._locked(step, args)
        if self._inbox or self._machine.advice.faults or self._dispatch.queue or _untold:
            self._afterwards()

    def _exclusively(self, step: Step, *args: Any) -> Any:
        """Do `step` under the lock for its result; `DEFERRED` where waiting could deadlock."""
        if self._busy and inside_a_circuit():
            return DEFERRED
        return self._locked(step, args)

    def _locked(self, step: Step, args: tuple[Any, ...]) -> Any:
        with self._lock:
            # An RLock, since a signal handler can come between these two lines; nothing has been
            # touched then.
            self._busy = True
            try:
                lane = self.lane
                if lane:  # there is one, and it isn't empty
                    self._absorb(lane)
                if self._rejections or self._inbox:
                    self._catch_up()
                return step(*args)
            except BaseException:  # a signal handler raised in the middle of a step
                self._machine.recover()
                raise
            finally:
                machine = self._machine
                if machine.lane is not self.lane or machine.outbox:
                    self._publish()
                self._busy = False

    def _catch_up(self) -> None:
        """Count the rejections, and do what others left in the inbox."""
        rejections, inbox = self._rejections, self._inbox
        count = len(rejections)
        del rejections[:count]
        self._machine.totals.rejected += count
        while inbox:
            step, args = inbox.pop(0)
            step(*args)

    def _absorb(self, lane: Lane) -> None:
        batch = lane.take()
        if batch:
            if lane is self._machine.lane:
                self._machine.absorb(lane, batch)
            else:
                self._machine.absorb_late(lane, batch, self.clock())

    def _publish(self) -> None:
        """Put the machine's lane up for all to see, and fetch what it has to tell."""
        machine = self._machine
        while (lane := machine.lane) is not self.lane:
            retired, self.lane = self.lane, lane
            if retired is not None:
                retired.retire()  # who appends from now on drains it, what came before is here
                self._absorb(retired)
        if machine.outbox:
            wall = time.time()
            for notice in machine.outbox:
                old, new, generation, reason, kind, shadow = notice
                self._dispatch.post(
                    Signal(self.name, old, new, wall, generation, reason, kind, shadow)
                )
            machine.outbox.clear()

    def _afterwards(self) -> None:
        """Now that the lock is free: the inbox again, the faults, the listeners."""
        while self._inbox and not self._busy:
            self._locked(nothing, ())
        pending = self._machine.advice.faults or self._dispatch.queue
        if (pending or _untold) and inside_a_circuit():  # its holder tells when it is out
            if pending:
                _untold.append(self)
            return
        if pending:
            self._tell()
        while _untold:
            try:
                _untold.pop(0)._tell()
            except IndexError:  # another thread was quicker
                return

    def _tell(self) -> None:
        for what, error in self._machine.advice.take_faults():
            if error is None:
                _log.warn(self.name, what)
            else:
                _log.fault(self.name, what, error)
        self._dispatch.deliver()
        while self._dispatch.refused:
            try:
                self._dispatch.tell_refused(self._dispatch.refused.pop(0))
            except IndexError:  # another thread was quicker
                return

    def _tell_refused(self, error: CallNotPermittedError) -> None:
        """Call what listeners have for refusals: here, or, inside another circuit, later."""
        if inside_a_circuit():
            self._dispatch.refused.append(error)
            _untold.append(self)
        else:
            self._dispatch.tell_refused(error)

    def restart(self) -> None:
        """Begin anew in a forked child, where the lock's holder may not exist."""
        self._lock = threading.RLock()
        self._busy = False
        self._inbox = []
        self._rejections = []
        if self.lane is not None:  # a call that forked may be on its way through it
            self.lane.retire()
            self.lane.take()
        self._machine.restart()
        self._dispatch.restart()
        self.lane = self._machine.lane


_untold: list[Guarded] = []
"""Circuits with something to tell that was caused inside another circuit's lock."""

_CRITICAL: Final[CodeType] = Guarded._locked.__code__


def inside_a_circuit() -> bool:
    """Whether this thread is, further down its stack, inside any circuit's lock."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _CRITICAL:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def nothing() -> None:
    """A step for when catching up is all that is wanted."""
