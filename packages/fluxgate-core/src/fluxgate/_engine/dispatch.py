"""Dispatch: delivers a circuit's signals to its listeners, in order, outside the circuit's lock.

The machine puts notices into its outbox, the circuit dates them while it holds the lock, and
whoever comes out of the lock delivers what is there, on the path of the call that caused it. One
thread delivers at a time, for everybody; so a listener that calls back into its circuit only adds
to the outbox that its own caller is emptying.

An interrupt (an exception that a signal handler raises) may come between any two steps, inside a
listener included. Each listener hears each signal exactly once all the same, since nothing that is
known of a delivery stands in a local variable: how far it has come is the state of an iterator,
and who delivers is given back twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from operator import call, length_hint
from typing import Any, TypeAlias

from fluxgate import _log
from fluxgate._engine.phase import Notice
from fluxgate._naming import safe_repr
from fluxgate.errors import CallNotPermittedError
from fluxgate.signals import Listener, Signal

Hook: TypeAlias = Callable[[CallNotPermittedError], object]
"""A listener's method for refusals."""


def hook_of(listener: object) -> Hook | None:
    """A listener's method for refusals, if it has one.

    To be called outside the lock: looking an attribute up may run the listener's code.
    """
    hook = getattr(listener, "rejected", None)
    return hook if callable(hook) else None


class Delivery:
    """The delivery of one signal or refusal to each listener, exactly once.

    Args:
        listeners: who receives it, in this order.
        about: the `Signal`, or the error of a refusal.
    """

    __slots__ = ("_calls", "_left", "_listeners")

    def __init__(self, listeners: Sequence[Callable[[Any], object]], about: object) -> None:
        self._listeners = listeners
        self._left = iter(listeners)
        # One step of this takes a listener out and calls it, in C: an interrupt can come before
        # or after, never in between.
        self._calls = map(call, self._left, repeat(about))  # pyright: ignore[reportArgumentType]

    def finish(self, circuit: str) -> BaseException | None:
        """Call those who have yet to hear it; the first interrupt of theirs is returned.

        An error of theirs is logged: it must reach neither the caller nor the other listeners.
        """
        interrupt: BaseException | None = None
        while True:
            error: Exception | None = None
            try:
                for _ in self._calls:
                    pass
            except Exception as raised:
                error = raised
            except BaseException as raised:
                interrupt = interrupt or raised
                continue
            left = length_hint(self._left)
            if error is None:
                if not left:
                    return interrupt
                error = StopIteration()  # a listener's, which has only ended the loop
            listener = self._listeners[len(self._listeners) - left - 1]
            _log.fault(circuit, f"listener {safe_repr(listener)}", error)

    def drop(self) -> None:
        """Skip the remaining listeners."""
        for _ in self._left:
            pass


class Dispatch:
    """The way from one circuit's outbox to its listeners.

    Args:
        circuit: the circuit's name, for the log.
        listeners: who hears of everything.
        outbox: what there is to hear, the oldest first; the machine appends to it.

    Attributes:
        hooks: the listeners' methods for refusals.
        refused: refusals not yet delivered, since they happened inside another lock.
    """

    __slots__ = ("_circuit", "_outbox", "_turn", "hooks", "listeners", "refused")

    def __init__(self, circuit: str, listeners: Sequence[Listener], outbox: list[Notice]) -> None:
        self._circuit = circuit
        self._outbox = outbox
        self.listeners: tuple[Listener, ...] = ()
        self.hooks: tuple[Hook, ...] = ()
        for listener in listeners:
            self.add(listener, hook_of(listener))
        self.refused: list[Delivery] = []
        self._turn: dict[str, object] = {}  # who delivers

    def add(self, listener: Listener, hook: Hook | None) -> None:
        """Add a listener; the caller holds the circuit's lock."""
        self.listeners = (*self.listeners, listener)
        if hook is not None:
            self.hooks = (*self.hooks, hook)

    def date(self, wall: float) -> None:
        """Make signals of the notices in the outbox, for those who listen now.

        The caller holds the circuit's lock. To do it twice does no harm.

        Args:
            wall: wall-clock time, seconds since the epoch.
        """
        for notice in self._outbox.copy():  # whoever delivers takes out of it meanwhile
            if notice.delivery is None:
                signal = Signal(
                    self._circuit,
                    notice.old_state,
                    notice.new_state,
                    wall,
                    notice.generation,
                    notice.reason,
                    notice.kind,
                    notice.shadow,
                    notice.origin,
                )
                notice.delivery = Delivery(self.listeners, signal)

    def deliver(self) -> None:
        """Call the listeners with what is in the outbox, unless somebody is at it.

        An interrupt of theirs goes on to the caller once all have heard.
        """
        interrupt: BaseException | None = None
        turn = self._turn  # a listener that forks gets a new one in the child
        me = object()
        while self._next() is not None:
            try:
                try:
                    # One step, like a lock's acquire(), but it shows whose claim it is without a
                    # local variable, which an interrupt may leave unset.
                    if turn.setdefault("", me) is not me:
                        break  # whoever it is looks at the outbox again before going
                    while (notice := self._next()) is not None:
                        assert notice.delivery is not None
                        interrupt = notice.delivery.finish(self._circuit) or interrupt
                        if self._outbox and self._outbox[0] is notice:  # not so after a fork
                            del self._outbox[0]
                finally:
                    if "" in turn and turn[""] is me:
                        del turn[""]
            finally:  # once more, for an interrupt in the middle of the above
                if "" in turn and turn[""] is me:
                    del turn[""]
        if interrupt is not None:
            raise interrupt

    def _next(self) -> Notice | None:
        """The oldest notice, if it has its date."""
        for notice in self._outbox[:1]:  # one step: another thread may take it out
            if notice.delivery is not None:
                return notice
        return None

    def report_refused(self, error: CallNotPermittedError) -> None:
        """Call the hooks for refusals: on the path of the call, by several threads at once.

        As with signals, an interrupt goes on to the caller once all have heard.
        """
        interrupt = Delivery(self.hooks, error).finish(self._circuit)
        if interrupt is not None:
            raise interrupt

    def postpone_refused(self, error: CallNotPermittedError) -> None:
        """Keep a refusal for `deliver_refused`."""
        self.refused.append(Delivery(self.hooks, error))

    def deliver_refused(self) -> None:
        """Call the hooks with the refusals that were kept."""
        interrupt: BaseException | None = None
        while first := self.refused[:1]:
            interrupt = first[0].finish(self._circuit) or interrupt
            if self.refused[:1] == first:
                del self.refused[:1]
        if interrupt is not None:
            raise interrupt

    def restart(self) -> None:
        """Begin anew in a forked child: the parent delivers what is in the outbox."""
        for notice in self._outbox:
            if notice.delivery is not None:
                notice.delivery.drop()
        self._outbox.clear()
        self.refused = []
        self._turn = {}
