"""Circuits of the whole fleet, for pages and scripts: as the store has them, with each process."""

from __future__ import annotations

import re
from typing import Final

from fluxgate._engine.phase import BY_HAND
from fluxgate._values import Record
from fluxgate.fleet._verdict import read_reason
from fluxgate.fleet._window import MINUTE, added
from fluxgate.fleet.store import MAX_THRESHOLDS, Report, Store, View
from fluxgate.signals import Reason
from fluxgate.state import State

_REPORT: Final = re.compile(
    r"(?P<state>[a-z_]+) (?P<failures>\d{1,18})/(?P<calls>\d{1,18})"
    r"(?: @[0-9a-f]+)? ?(?P<reason>.*)",
    re.DOTALL,
)
_STATES: Final = {str(state): state for state in State}


class FleetProcess(Record):
    """One process's own view of a circuit that isn't quietly closed, as it last reported it.

    Attributes:
        process: its name in the fleet, `HOST:PID:DIGITS`; unique.
        host: the host's name, shortened; empty if the name has none.
        pid: its process id there; None if the name has none.
        state: the circuit's state in that process; None where its report can't be read.
        calls: calls of the circuit in that process since it began (successes and failures).
        failures: those that failed.
        reason: why the circuit is in that state there, in a few words; the whole report, where it
            can't be read.
        age: seconds since the report. A process that lives reports once a second; one that
            doesn't any more is left out after 10 s.
    """

    process: str
    host: str
    pid: int | None
    state: State | None
    calls: int
    failures: int
    reason: str
    age: float


class FleetCircuit(Record):
    """A circuit of the fleet as the store has it.

    Attributes:
        name: the circuit's name; one of more than 96 characters is cut, and ends in a digest.
        state: the fleet's state.
        epoch: the number of its last move; 0 before the first.
        retry_after: seconds until it may be probed; None unless it refuses, and somebody knows.
        reopens: how often probing has failed since it was last closed.
        reason: why it is in this state, and who has set it; None before the first move.
        author: the process that has moved it there; None before the first move.
        calls: calls of all processes in the merged window; half-open, the probes that have ended.
        failures: those that failed.
        probes: probes that are going on in all processes together.
        witnesses: processes with a failure or slow call in the window.
        reporters: processes with calls in the window.
        reporter: the process that has last reported calls; None if none has.
        processes: each process where it isn't quietly closed (or whose circuit the fleet has in
            another state), by name.
        reverts_in: seconds until a state that was set by hand for a time ends; None otherwise.
    """

    name: str
    state: State
    epoch: int
    retry_after: float | None
    reopens: int
    reason: Reason | None
    author: str | None
    calls: int
    failures: int
    probes: int
    witnesses: int
    reporters: int
    reporter: str | None
    processes: tuple[FleetProcess, ...]
    reverts_in: float | None = None


def circuits_of(store: Store) -> list[FleetCircuit]:
    """Every circuit of a store, by name: three requests, however many circuits there are."""
    names = sorted(store.scan())
    if not names:
        return []
    views = store.read(names)
    reports = store.reports(names)
    return [circuit_of(*each) for each in zip(views, reports, strict=True) if each[0].known]


def circuit_of(view: View, reports: list[Report]) -> FleetCircuit:
    """A circuit from its view and the reports of its processes."""
    left = None if view.remaining is None else view.remaining / 1000
    if view.state is State.HALF_OPEN:
        counts = view.probes
    else:  # the store drops what is too old when somebody adds to it
        recent = (each.counts for each in view.buckets if view.tick - each.tick <= MINUTE)
        counts = added(recent, MAX_THRESHOLDS)
    return FleetCircuit(
        name=view.name,
        state=view.state,
        epoch=view.epoch,
        retry_after=left if view.state in (State.OPEN, State.FORCED_OPEN) else None,
        reopens=view.reopens,
        reason=read_reason(view.reason) if view.reason else None,
        author=view.author or None,
        calls=counts.calls,
        failures=counts.failures,
        probes=view.live,
        witnesses=view.witnesses,
        reporters=view.reporters,
        reporter=view.reporter or None,
        processes=tuple(map(process_of, sorted(reports))),
        reverts_in=left if view.state in BY_HAND else None,
    )


def process_of(report: Report) -> FleetProcess:
    """A process from its report; whatever that is, it is shown."""
    host, _, rest = report.process.partition(":")
    pid = rest.partition(":")[0]
    known = pid.isdecimal() and len(pid) < 19
    found = _REPORT.fullmatch(report.text)
    state = None if found is None else _STATES.get(found["state"])
    readable = found is not None and state is not None
    return FleetProcess(
        process=report.process,
        host=host if known else "",
        pid=int(pid) if known else None,
        state=state,
        calls=int(found["calls"]) if found is not None and readable else 0,
        failures=int(found["failures"]) if found is not None and readable else 0,
        reason=found["reason"] if found is not None and readable else report.text,
        age=report.age / 1000,
    )
