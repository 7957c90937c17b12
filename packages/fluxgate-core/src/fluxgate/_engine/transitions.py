"""The state table: which states there are, what moves a circuit, and where to."""

from __future__ import annotations

from enum import StrEnum

from fluxgate.state import State

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
METRICS_ONLY, DISABLED, FORCED_OPEN = State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN


class Event(StrEnum):
    """Events that move a circuit: the first three are automatic, the others are controls."""

    TRIPPED = "tripped"
    COOLED = "cooled"
    RECOVERED = "recovered"
    OPEN_FOR = "open_for"
    RESET = "reset"
    FORCE_OPEN = "force_open"
    DISABLE = "disable"
    METRICS_ONLY = "metrics_only"


CONTROLS = {
    Event.RESET: CLOSED,
    Event.FORCE_OPEN: FORCED_OPEN,
    Event.DISABLE: DISABLED,
    Event.METRICS_ONLY: METRICS_ONLY,
}

CONTROL_OF = {state: event for event, state in CONTROLS.items()}

TRANSITIONS: dict[State, dict[Event, State]] = {
    CLOSED: {Event.TRIPPED: OPEN, Event.OPEN_FOR: OPEN, **CONTROLS},
    OPEN: {Event.COOLED: HALF_OPEN, Event.OPEN_FOR: OPEN, **CONTROLS},
    HALF_OPEN: {
        Event.TRIPPED: OPEN,
        Event.RECOVERED: CLOSED,
        Event.OPEN_FOR: OPEN,
        **CONTROLS,
    },
    # What was set by hand stays until a hand changes it, or the time is over that it gave; then
    # comes what stood before (`Phase.successor`), which no table can say.
    METRICS_ONLY: {**CONTROLS},
    DISABLED: {**CONTROLS},
    FORCED_OPEN: {**CONTROLS},
}
