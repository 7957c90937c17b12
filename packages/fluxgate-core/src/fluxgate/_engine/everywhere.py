"""Listeners of every circuit of this process, of those that are made later, too.

A listener is put in here first, and then each living circuit looks; a new circuit is put among the
living first, and then looks itself. So each circuit has found it, whichever was earlier. Circuits
are held weakly: a listener keeps none alive.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from fluxgate._engine import living
from fluxgate._engine.dispatch import hooks_of
from fluxgate.signals import Listener, Subscription

if TYPE_CHECKING:
    from fluxgate._engine.dispatch import Hooks

listeners: Final[dict[int, Hooks]] = {}
"""By the number of their registration; each step of a dict is atomic, so there is no lock."""
_numbers = itertools.count()


def number() -> int:
    """The number of a new registration, of one circuit or of all."""
    return next(_numbers)


def hooks() -> list[Hooks]:
    """The listeners as they are now, in the order in which they came."""
    return list(listeners.copy().values())


def listen(listener: Listener) -> Subscription:
    """Add a listener to every circuit."""
    mine = number()
    listeners[mine] = hooks_of(listener)

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
