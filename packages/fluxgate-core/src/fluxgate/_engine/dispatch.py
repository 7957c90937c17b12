"""Telling the listeners: in order, one at a time, outside the circuit's lock.

Signals are posted under the circuit's lock and delivered after it, on the path of the call that
caused them. Whoever wins the try-lock delivers for everybody, so a listener that calls back into
its circuit only adds to the queue that its own caller is working off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from fluxgate import _log
from fluxgate._naming import safe_repr
from fluxgate.errors import CallNotPermittedError
from fluxgate.signals import Listener, Signal

Hook: TypeAlias = Callable[[CallNotPermittedError], object]
"""What a listener has for refusals."""


def hook_of(listener: object) -> Hook | None:
    """What it has for refusals, if anything; looked up outside the lock, since it runs its code."""
    hook = getattr(listener, "rejected", None)
    return hook if callable(hook) else None


class Dispatch:
    """The queue between one circuit and its listeners."""

    __slots__ = ("_delivering", "hooks", "listeners", "queue", "refused")

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self.hooks: tuple[Hook, ...] = ()
        for listener in listeners:
            self.add(listener, hook_of(listener))
        self.refused: list[CallNotPermittedError] = []  # what the hooks have yet to be told
        self.queue: list[tuple[Listener, Signal]] = []
        self._delivering = threading.Lock()

    def add(self, listener: Listener, hook: Hook | None) -> None:
        """Tell one more; the caller holds the circuit's lock."""
        self.listeners = (*self.listeners, listener)
        if hook is not None:
            self.hooks = (*self.hooks, hook)

    def post(self, signal: Signal) -> None:
        """Queue a signal; the caller holds the circuit's lock, which gives the order."""
        self.queue.extend((listener, signal) for listener in self.listeners)

    def deliver(self) -> None:
        """Call the listeners.

        An error of theirs is logged; an interrupt goes on to the caller once all have been told.
        """
        interrupt: BaseException | None = None
        delivering = self._delivering  # a listener that forks gets a new one in the child
        while self.queue and delivering.acquire(blocking=False):
            try:
                while self.queue:
                    listener, signal = self.queue.pop(0)
                    try:
                        listener(signal)
                    except Exception as error:
                        _log.fault(signal.circuit_name, f"listener {safe_repr(listener)}", error)
                    except BaseException as error:
                        interrupt = interrupt or error
            finally:
                delivering.release()
        if interrupt is not None:
            raise interrupt

    def tell_refused(self, error: CallNotPermittedError) -> None:
        """Call the hooks for refusals: on the path of the call, by several threads at once.

        As with signals, an interrupt goes on to the caller once all have been told.
        """
        interrupt: BaseException | None = None
        for hook in self.hooks:
            try:
                hook(error)
            except Exception as fault:
                _log.fault(error.name, f"listener {safe_repr(hook)}", fault)
            except BaseException as fault:
                interrupt = interrupt or fault
        if interrupt is not None:
            raise interrupt

    def restart(self) -> None:
        """Begin anew in a forked child: what is queued is the parent's to tell."""
        self.queue = []
        self.refused = []
        self._delivering = threading.Lock()
