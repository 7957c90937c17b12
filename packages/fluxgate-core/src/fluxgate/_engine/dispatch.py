"""Dispatch: delivers a circuit's signals to its listeners, in order, outside the circuit's lock.

The machine puts notices into its outbox, the circuit dates them while it holds the lock, and
whoever comes out of the lock delivers what is there, on the path of the call that caused it. One
thread delivers at a time, for everybody; so a listener that calls back into its circuit only adds
to the outbox that its own caller is emptying.

An interrupt (an exception that a signal handler raises) may come between any two steps, inside a
listener included. Each listener hears each signal exactly once all the same, since nothing that is
known of a delivery stands in a local variable: who has yet to hear it is a list, and who delivers
is given back twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import call
from types import BuiltinMethodType, MethodType
from typing import Any, NamedTuple, TypeAlias

from fluxgate import _log
from fluxgate._engine.phase import Notice
from fluxgate._naming import safe_repr
from fluxgate.errors import CallNotPermittedError
from fluxgate.signals import Call, Listener, Signal

Rejected: TypeAlias = Callable[[CallNotPermittedError], object]
CallEnded: TypeAlias = Callable[[Call], object]

# With types that `map` understands.
_call: Any = call
_pop = list[Callable[[Any], object]].pop


class Hooks(NamedTuple):
    """A listener, and its methods for refusals and for calls, if it has them."""

    listener: Listener
    rejected: Rejected | None
    call_ended: CallEnded | None


def hooks_of(listener: Listener) -> Hooks:
    """A listener with its methods.

    To be called outside the lock: looking an attribute up may run the listener's code.
    """
    rejected, ended = getattr(listener, "rejected", None), getattr(listener, "call_ended", None)
    return Hooks(
        listener, rejected if callable(rejected) else None, ended if callable(ended) else None
    )


def _identity(listener: object) -> object:
    """Equal for one and the same listener, without a step into its code.

    A method is made anew by each look-up (`signals.append`), so it goes by whose it is.
    """
    if isinstance(listener, MethodType):
        return id(listener.__self__), id(listener.__func__)
    if isinstance(listener, BuiltinMethodType):
        return id(listener.__self__), listener.__name__
    return id(listener)


class Delivery:
    """The delivery of one signal or refusal to each listener, exactly once.

    Args:
        listeners: who receives it, in this order.
        about: the `Signal`, or the error of a refusal.
    """

    __slots__ = ("_about", "_left", "_listeners")

    def __init__(self, listeners: Sequence[Callable[[Any], object]], about: object) -> None:
        self._listeners = listeners
        self._about = about
        # The next one last. A list, since several threads may take from it: a step of an iterator
        # that they shared would not be atomic on free-threaded builds.
        self._left = list(reversed(listeners))

    def finish(self, circuit: str) -> BaseException | None:
        """Call those who have yet to hear it; the first interrupt of theirs is returned.

        An error of theirs is logged: it must reach neither the caller nor the other listeners.
        """
        interrupt: BaseException | None = None
        left = self._left
        while left:
            error: Exception
            try:
                # A step of this takes a listener out and calls it, in C: an interrupt can come
                # before or after, never in between.
                count, done = len(left), 0
                calls = map(_call, map(_pop, repeat(left, count)), repeat(self._about))
                for done, _ in enumerate(calls, 1):  # noqa: B007
                    pass
                if done == count:
                    break
                error = StopIteration()  # a listener's, which has only ended the loop
            except Exception as raised:
                if isinstance(raised, IndexError) and is_end(raised) and not left:
                    break  # another thread has taken the last one
                error = raised
            except BaseException as raised:
                interrupt = interrupt or raised
                continue
            listener = self._listeners[-1 - len(left)]
            _log.fault(circuit, f"listener {safe_repr(listener)}", error)
        return interrupt

    def drop(self) -> None:
        """Skip the remaining listeners."""
        self._left.clear()


def is_end(error: IndexError) -> bool:
    """Whether an `IndexError` is that of the `pop` in C which ends the loop where it was caught.

    A step's has a frame below. The list can't tell: somebody may have put something in since.
    """
    return error.__traceback__ is not None and error.__traceback__.tb_next is None


class Dispatch:
    """The way from one circuit's outbox to its listeners.

    Args:
        circuit: the circuit's name, for the log.
        outbox: what there is to hear, the oldest first; the machine appends to it.

    Attributes:
        own: the circuit's own listeners by the number of their registration.
        rejected: the methods for refusals, of all listeners.
        call_ended: the methods for calls, of all listeners.
        hears_refusals: whether there are any of either.
        later: refusals and calls not yet delivered, since they were caused inside a lock.
    """

    __slots__ = (
        "_circuit",
        "_listeners",
        "_outbox",
        "_turn",
        "call_ended",
        "hears_refusals",
        "later",
        "own",
        "rejected",
    )

    def __init__(self, circuit: str, outbox: list[Notice]) -> None:
        self._circuit = circuit
        self._outbox = outbox
        self.own: dict[int, Hooks] = {}
        self._listeners: tuple[Listener, ...] = ()
        self.rejected: tuple[Rejected, ...] = ()
        self.call_ended: tuple[CallEnded, ...] = ()
        self.hears_refusals = False
        self.later: list[Delivery] = []
        self._turn: dict[str, object] = {}  # who delivers

    def gather(self, everywhere: Iterable[Hooks]) -> None:
        """Take up who listens now; the caller holds the circuit's lock. Twice does no harm.

        Args:
            everywhere: the listeners of all circuits, which come after the circuit's own. One
                that is registered twice is called once, at its first place.
        """
        each_once: dict[object, Hooks] = {}
        for hooks in (*self.own.values(), *everywhere):
            each_once.setdefault(_identity(hooks.listener), hooks)
        all_hooks = each_once.values()
        self._listeners = tuple(hooks.listener for hooks in all_hooks)
        self.rejected = tuple(h.rejected for h in all_hooks if h.rejected is not None)
        self.call_ended = tuple(h.call_ended for h in all_hooks if h.call_ended is not None)
        self.hears_refusals = bool(self.rejected or self.call_ended)

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
                notice.delivery = Delivery(self._listeners, signal)

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
                    if turn.get("") is me:  # one look: it may be another's, who gives it back
                        del turn[""]
            finally:  # once more, for an interrupt in the middle of the above
                if turn.get("") is me:
                    del turn[""]
        if interrupt is not None:
            raise interrupt

    def _next(self) -> Notice | None:
        """The oldest notice, if it has its date."""
        for notice in self._outbox[:1]:  # one step: another thread may take it out
            if notice.delivery is not None:
                return notice
        return None

    def deliver_now(self, deliveries: Sequence[Delivery]) -> None:
        """Call the methods for refusals and calls: on the path of a call, by several at once.

        As with signals, an interrupt goes on to the caller once all have heard.
        """
        interrupt: BaseException | None = None
        for delivery in deliveries:
            interrupt = delivery.finish(self._circuit) or interrupt
        if interrupt is not None:
            raise interrupt

    def deliver_later(self) -> None:
        """Deliver what waits in `later`; what comes meanwhile is for those who bring it."""
        interrupt: BaseException | None = None
        for _ in range(len(self.later)):  # no more, or a busy circuit would keep one caller here
            for first in self.later[:1]:  # one step: another thread may take it out
                # In place until all have heard: an interrupt must not lose it.
                interrupt = first.finish(self._circuit) or interrupt
                self._forget(first)
        if interrupt is not None:
            raise interrupt

    def _forget(self, delivery: Delivery) -> None:
        try:
            self.later.remove(delivery)
        except ValueError:  # another thread was quicker
            return

    def restart(self) -> None:
        """Begin anew in a forked child: the parent delivers what is in the outbox."""
        for notice in self._outbox:
            if notice.delivery is not None:
                notice.delivery.drop()
        self._outbox.clear()
        for delivery in self.later:
            delivery.drop()
        self.later.clear()
        self._turn = {}
