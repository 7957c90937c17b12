"""The lane, for integrations: a healthy call goes through without an object of its own.

`registry[key].attempt()` is right for nearly everything. Where each call is to cost next to
nothing, ask the lane first:

    ticket = enter(registry, key)
    if ticket is None:  # made or looked up for the first time, half-open, refusing, disabled
        attempt = registry[key].attempt()

and settle a ticket once: with `leave` if the call went well, else as the attempt that
`attempt_of` makes of it. A ticket holds nothing, so one that is dropped is not counted at all.
"""

from __future__ import annotations

from typing import TypeAlias

from fluxgate._engine.circuit import Circuit
from fluxgate._engine.lane import Lane
from fluxgate.attempt import Attempt
from fluxgate.registry import Registry

__all__ = ["Ticket", "attempt_of", "enter", "leave"]

Ticket: TypeAlias = tuple[Circuit, Lane, float]
"""A call that was let in through a lane. What is in it is the core's business."""


def enter(registry: Registry, key: str) -> Ticket | None:
    """Admit a call to that circuit through its lane, now; None: ask `registry[key].attempt()`."""
    entry = registry._kept.get(key)
    if entry is None or not entry.used:
        return None
    circuit = entry.circuit
    lane = circuit.lane
    if lane is None:
        return None
    clock = circuit.clock
    return circuit, lane, clock()


def leave(ticket: Ticket, result: object = None) -> None:
    """The call returned `result`; the breaker's result tracker says what that means."""
    circuit, lane, started = ticket
    clock = circuit.clock
    end = clock()
    if (elapsed := end - started) < lane.fast and end < lane.until:
        lane.append(elapsed)
        if len(lane) > 255:
            circuit.drain(lane)
    else:
        circuit.returned(lane, result, elapsed, end)


def attempt_of(ticket: Ticket) -> Attempt:
    """The same call as an `Attempt`, for whatever `leave` can't say."""
    circuit, lane, started = ticket
    attempt = Attempt(circuit, lane)
    attempt._started = started
    return attempt
