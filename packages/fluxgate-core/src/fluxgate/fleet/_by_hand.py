"""Circuits of a fleet that are set by hand in its store: by a command, or a page.

No breaker is needed here: each process follows. `breaker.force_open(fleet=True)` is for whoever has
one, and doesn't wait for the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from fluxgate._controls import Said, said
from fluxgate._engine.phase import BY_HAND
from fluxgate._engine.transitions import CONTROLS, Event
from fluxgate._naming import safe_repr
from fluxgate._settings.errors import did_you_mean
from fluxgate.errors import ConfigError
from fluxgate.fleet._head import milliseconds
from fluxgate.fleet._reverts import after_control
from fluxgate.fleet._verdict import write_reason
from fluxgate.fleet.store import DAY, MIN_TTL, Move, Store, View
from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate.fleet._member import Member

ACTIONS: Final = tuple(map(str, (Event.OPEN_FOR, *CONTROLS)))
"""The controls, by name."""
_TRIES: Final = 5
"""How often an opening is tried that others overtake."""


def checked(
    action: object, *, seconds: object = None, note: object = None, by: object = None
) -> tuple[Event, Said]:
    """The arguments of a control.

    Raises:
        ConfigError: one of them can't be used; the message names it.
    """
    if action not in ACTIONS:
        raise ConfigError(
            f"action must be one of {', '.join(ACTIONS)}, not {safe_repr(action)}"
            f"{did_you_mean(str(action), ACTIONS)}"
        )
    event = Event(str(action))
    words = said(seconds=seconds, note=note, by=by)
    if event is Event.OPEN_FOR and words.seconds is None:
        raise ConfigError("seconds is missing: open_for takes the time that it is to be open")
    if event is Event.RESET and words.seconds is not None:
        raise ConfigError("seconds go with every control but reset, which ends nothing")
    return event, words


def move_of(before: View, event: Event, words: Said) -> Move | None:
    """The move that a control makes of a circuit as it has just been read.

    Returns:
        The move; None where there is nothing to do: `open_for` never shortens an opening, and
        leaves a state alone that was set by hand.
    """
    state = CONTROLS.get(event, State.OPEN)
    remaining = milliseconds(words.seconds)
    expected, reopens, ttl = None, 0, MIN_TTL if state is State.CLOSED else DAY
    if event is Event.OPEN_FOR:
        left = before.remaining
        if before.state in BY_HAND:
            return None
        if before.state is State.OPEN and (left is None or left >= (remaining or 0)):
            return None
        # What it found there has decided, so it is void where somebody else was faster.
        expected, reopens, ttl = before.epoch, before.reopens, MIN_TTL
    then = after_control(before, state, remaining) or ""
    reason = write_reason(words.reason(f"{event}()"), then)
    return Move(before.name, expected, 0, state, remaining, reopens, reason, ttl=ttl)


def set_by_hand(
    store: Store, name: str, event: Event, words: Said, members: Sequence[Member] = ()
) -> View:
    """Set a circuit's state for every process.

    Args:
        store: the fleet's.
        name: the circuit's name.
        event: the control.
        words: for how long, why and who.
        members: those of the name in this process, which obey at once. One of all processes has
            moved the circuit, and that is this one: its signals have `Origin.FLEET`.
    """
    (view,) = store.read([name])
    for _ in range(_TRIES):
        move = move_of(view, event, words)
        if move is None:
            break
        older = [member.waiting() for member in members]
        for member in members:
            member.moving(move, store.process)
        view = store.move(move)
        for member, control in zip(members, older, strict=True):
            if view.won:
                member.overtaken(control)
            member.moved(move, view)
        if view.won:
            break
    return view
