"""States and events in words, and the table of transitions in the form that diagrams need."""

from __future__ import annotations

from typing import NamedTuple

from fluxgate._engine.transitions import TRANSITIONS, Event
from fluxgate.state import State

SHORTLY: dict[State, str] = {
    State.CLOSED: "calls pass and are judged",
    State.OPEN: "calls are refused",
    State.HALF_OPEN: "a few calls pass as probes",
    State.METRICS_ONLY: "judged, never refused",
    State.DISABLED: "passed, not counted",
    State.FORCED_OPEN: "refused until it is reset",
}

BY_HAND: dict[State, str] = {
    State.METRICS_ONLY: (
        "every call passes and is recorded; what the policy would have done is reported "
        "(would_open) and never done. metrics_only() leads here; reset() "
        "leads away, or the seconds that it was given."
    ),
    State.DISABLED: (
        "every call passes and nothing is counted. disable() leads here; reset() leads away, or "
        "the seconds that it was given."
    ),
    State.FORCED_OPEN: (
        "every call is refused, however long, whatever the policy says. force_open() leads here; "
        "reset() leads away, or the seconds that it was given."
    ),
}

OWN: dict[Event, str] = {
    Event.TRIPPED: "its tripper fires, or a probe fails where the tripper is silent",
    Event.COOLED: "the first call after the delay that its retry strategy gives",
    Event.RECOVERED: "enough probes have ended, and the tripper does not fire",
}
"""The events by which a circuit changes its state without a control, and what causes them."""

OPEN_FOR = "the dependency said how long to stay away, as in a Retry-After header"


class Move(NamedTuple):
    """The events that lead from one state to another, in the order of the table."""

    source: State
    target: State
    events: tuple[Event, ...]


def label(event: Event) -> str:
    """An event as the diagrams write it; a control is written as its call, `reset()`."""
    return str(event) if event in OWN else f"{event}()"


def from_anywhere() -> dict[Event, State]:
    """The controls that lead to the same state from every state."""
    first, *others = TRANSITIONS.values()
    return {
        event: target
        for event, target in first.items()
        if all(other.get(event) is target for other in others)
    }


def moves() -> list[Move]:
    """All other transitions, grouped by source and target."""
    everywhere = from_anywhere()
    found: dict[tuple[State, State], list[Event]] = {}
    for source, events in TRANSITIONS.items():
        for event, target in events.items():
            if event not in everywhere:
                found.setdefault((source, target), []).append(event)
    return [Move(source, target, tuple(events)) for (source, target), events in found.items()]


def in_words() -> list[str]:
    """Every transition as a sentence, for screen readers."""
    lines = [
        f"{source} to {target}: {', '.join(map(label, events))}."
        for source, target, events in moves()
    ]
    lines += [
        f"From every state to {target}: {label(event)}."
        for event, target in from_anywhere().items()
    ]
    return lines
