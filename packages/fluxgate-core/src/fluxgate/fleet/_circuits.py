"""Circuits of the whole fleet, for pages and scripts: as the store has them, with each process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from fluxgate._engine.phase import BY_HAND
from fluxgate._values import Record
from fluxgate.fleet._presence import FleetPresence, host_and_pid, presences
from fluxgate.fleet._verdict import read_reason
from fluxgate.fleet._window import MINUTE, WHOLE, added, width_of
from fluxgate.fleet.store import MAX_THRESHOLDS, RESERVED, Report, Store, View, circuits_in
from fluxgate.signals import Reason
from fluxgate.state import State

_REPORT: Final = re.compile(
    r"(?P<state>[a-z_]+) (?P<failures>\d{1,18})/(?P<calls>\d{1,18})"
    r"(?:/(?P<refused>\d{1,18})(?:/(?P<age>\d{1,10})(?:/(?P<left>\d{1,10}))?)?)?"
    r"(?: @[0-9a-f]+)? ?(?P<reason>.*)",
    re.DOTALL,
)
_LATER: Final = ("refused", "age", "left")
"""Parts of a report that older versions leave out."""
_OLDEST: Final = 1e10
"""Seconds of an age that can be: what is above it is no time that any store has seen."""
_LATELY: Final = 10
"""Seconds that a rate looks back."""
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
        refused: calls of the circuit that it has refused since it began; None where it is of a
            version that doesn't say so, or its report can't be read.
        state_age: seconds since the circuit entered its state in that process; None likewise.
        retry_after: seconds until the circuit may be probed there; None unless it refuses, and
            somebody knows.
    """

    process: str
    host: str
    pid: int | None
    state: State | None
    calls: int
    failures: int
    reason: str
    age: float
    refused: int | None = None
    state_age: float | None = None
    retry_after: float | None = None


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
        age: seconds since its last move, about; None before the first, and where nobody knows.
        rate: calls a second of all processes together, in the last whole seconds (10, where the
            window has them); None while calls are not counted.
        slow_counts: calls in the merged window that took as many seconds or longer, by the
            thresholds of the processes' trippers.
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
    age: float | None = None
    rate: float | None = None
    slow_counts: Mapping[float, int] = {}


class FleetLook(NamedTuple):
    """All that a store has, as it has it: what of it is read is up to whoever looks.

    Attributes:
        views: the circuits, by name.
        reports: what the processes report of each, in that order.
        processes: the processes.
        reserved: names that are no circuits: what others keep there.
    """

    views: list[View]
    reports: list[list[Report]]
    processes: list[FleetPresence]
    reserved: list[str]


def look_at(store: Store) -> FleetLook:
    """Every circuit and process of a store: four requests, however many there are."""
    stored = sorted(store.scan())
    names = [name for name in stored if not name.startswith(RESERVED)]
    reserved = [name for name in stored if name.startswith(RESERVED)]
    if not names:
        return FleetLook([], [], presences(store), reserved)
    found = zip(store.read(names), store.reports(names), strict=True)
    known = [pair for pair in found if pair[0].known]
    views, reports = [view for view, _ in known], [each for _, each in known]
    return FleetLook(views, reports, presences(store), reserved)


def circuits_of(store: Store) -> list[FleetCircuit]:
    """Every circuit of a store, by name: three requests, however many circuits there are."""
    names = circuits_in(store)
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
        age=_age_of(view),
        rate=_rate_of(view),
        slow_counts=dict(zip(_thresholds_of(view), counts.slow, strict=False)),
    )


def _width_of(view: View) -> int:
    """Seconds of a bucket."""
    return width_of(view.label) or 1


def _thresholds_of(view: View) -> tuple[float, ...]:
    """The thresholds (seconds) that a view's slow calls are counted by."""
    parts = view.label.split(".")[1:]
    return tuple(int(part) / 1e6 for part in parts if part.isdecimal() and len(part) < 18)


def _age_of(view: View) -> float | None:
    """Seconds since the last move, whose epoch is the store's time unless others were ahead."""
    age = view.tick * _width_of(view) - view.epoch / 1000
    return max(age, 0.0) if view.epoch and -_width_of(view) <= age <= _OLDEST else None


def _rate_of(view: View) -> float | None:
    """Calls a second, in whole buckets; a window of a number of calls may have few of them."""
    if view.state not in (State.CLOSED, State.METRICS_ONLY):
        return None if view.state is State.DISABLED else 0.0
    width = _width_of(view)
    ages = {view.tick - each.tick: each.counts.calls for each in view.buckets}
    most = max(round(_LATELY / width), 1)
    count = min(max(max(ages, default=0), WHOLE), most)
    return sum(ages.get(age, 0) for age in range(1, count + 1)) / (count * width)


def process_of(report: Report) -> FleetProcess:
    """A process from its report; whatever that is, it is shown."""
    host, pid = host_and_pid(report.process)
    found, age = _REPORT.fullmatch(report.text), report.age / 1000
    state = None if found is None else _STATES.get(found["state"])
    if found is None or state is None:
        return FleetProcess(report.process, host, pid, None, 0, 0, report.text, age)
    refused, since, left = (int(each) if each else None for each in found.group(*_LATER))
    return FleetProcess(
        process=report.process,
        host=host,
        pid=pid,
        state=state,
        calls=int(found["calls"]),
        failures=int(found["failures"]),
        reason=found["reason"],
        age=age,
        refused=refused,
        state_age=None if since is None else since + age,
        retry_after=None if left is None else max(left - age, 0.0),
    )
