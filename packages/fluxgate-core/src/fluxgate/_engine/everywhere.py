"""Listeners of every circuit of this process, of those that are made later, too.

A listener is put in here first, and then each living circuit looks; a new circuit is put among the
living first, and then looks itself. So each circuit has found it, whichever was earlier. Circuits
are held weakly: a listener keeps none alive.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fluxgate._engine import living
from fluxgate._engine.dispatch import hooks_of
from fluxgate.signals import Listener, Subscription

if TYPE_CHECKING:
    from fluxgate._engine.circuit import Circuit
    from fluxgate._engine.dispatch import Hooks

listeners: Final[dict[int, Callable[[Circuit], Hooks]]] = {}
"""By the number of their registration; each step of a dict is atomic, so there is no lock."""
_numbers = itertools.count()


def number() -> int:
    """The number of a new registration, of one circuit or of all."""
    return next(_numbers)


def hooks(circuit: Circuit) -> list[Hooks]:
    """The listeners of a circuit as they are now, in the order in which they came."""
    return [hooks_for(circuit) for hooks_for in listeners.copy().values()]


def listen(listener: Listener) -> Subscription:
    """Add a listener to every circuit."""
    found = hooks_of(listener)
    return _listen(lambda _: found)


def listen_to_each(listener_for: Callable[[Circuit], Listener]) -> Subscription:
    """Add a listener of its own to every circuit, for whoever must tell equal names apart.

    Args:
        listener_for: gives the listener of a circuit. It is called under that circuit's lock, and
            anew whenever listeners come or go; the listener must not keep the circuit alive.
    """
    return _listen(lambda circuit: hooks_of(listener_for(circuit)))


def _listen(hooks_for: Callable[[Circuit], Hooks]) -> Subscription:
    mine = number()
    listeners[mine] = hooks_for

    def end() -> None:
        listeners.pop(mine, None)
        _gather()

    try:
        _gather()
    except BaseException:  # an interrupt: nobody gets what would end it
        end()
        raise
    return Subscription(end)


def _gather() -> None:
    for circuit in living.every():
        circuit.hear_everywhere()
