"""Reports: what a process says of its circuit with its flushes, while it isn't quietly closed.

    open 12/40/7/35/10 @18c2f FailureRate(0.5)

State, failures, calls and refusals, the seconds since the state began and until the circuit is
tried again (if somebody knows), the epoch in which it has opened by itself (if it has), and the
clause why. People read it, and whoever decides whether most processes have opened (`_verdict`).
"""

from __future__ import annotations

import math

from fluxgate._engine.circuit import Circuit
from fluxgate.fleet._head import Head
from fluxgate.fleet.store import MAX_REPORT, Report
from fluxgate.signals import Reason
from fluxgate.state import State


def write_report(circuit: Circuit, head: Head, *, opened: bool) -> str:
    """This process's report on a circuit; empty while it is quietly closed.

    Args:
        circuit: the circuit.
        head: what this process knows of the fleet.
        opened: whether the circuit has opened here by itself, while the fleet is closed.
    """
    state = circuit.state
    if state is State.CLOSED and head.state is State.CLOSED:
        return ""
    totals, reason = circuit._machine.totals, circuit._machine.phase.reason
    clause = "" if reason is None else reason.clause
    mark = f" {_mark(head.epoch)}" if opened else ""
    count = totals.successes + totals.failures
    age, left = circuit.times()
    times = f"{age:.0f}" if left is None else f"{age:.0f}/{math.ceil(left)}"
    numbers = f"{totals.failures}/{count}/{circuit.refused()}/{times}"
    return f"{state} {numbers}{mark} {clause}"[:MAX_REPORT]


def openings(reports: list[Report], epoch: int) -> int:
    """How many processes say that they have opened by themselves in that epoch."""
    return sum(_mark(epoch) in report.text.split(" ")[2:3] for report in reports)


def opened_alone(circuit: Circuit, head: Head) -> Reason | None:
    """Why a circuit has opened here by its tripper, while the fleet is closed; else None."""
    phase, closed = circuit._machine.phase, circuit.policy.closed
    if head.state is not State.CLOSED or phase.leases is not None:
        return None
    if phase.state not in (State.OPEN, State.HALF_OPEN) or closed.merged() != closed:
        return None  # what can't be merged is each process's own affair
    return phase.last_trip if phase.tripped else None


def _mark(epoch: int) -> str:
    return f"@{epoch:x}"
