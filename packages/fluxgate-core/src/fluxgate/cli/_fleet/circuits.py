"""Circuits as the store of a fleet has them: as the command shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from fluxgate.fleet._circuits import circuit_of
from fluxgate.fleet._circuits import look_at as whole
from fluxgate.fleet._presence import FleetPresence, presences
from fluxgate.fleet._verdict import read_reason
from fluxgate.fleet.store import Report, Store, View
from fluxgate.listeners._aggregate import WORST_FIRST
from fluxgate.state import State


class Row(NamedTuple):
    """A circuit as `list` shows it.

    Attributes:
        name: the circuit's name.
        state: its state, by its value (`forced_open`).
        epoch: the number of its last move.
        retry_after: seconds until it is probed; None unless it is open, or forced open for a time.
        calls: calls in the merged window; half-open, the probes that have ended.
        failures: those that failed.
        reporter: the process that has last reported calls.
        reverts_in: seconds until a state that was set by hand ends by itself; None, it doesn't.
        by: who has set it by hand; None where nobody said.
        note: why; the same.
        states: in how many processes it is in each state by itself; without those where it is
            closed as the fleet is.
        processes: how many processes the fleet has, whatever their circuits do.
    """

    name: str
    state: str
    epoch: int
    retry_after: float | None
    calls: int
    failures: int
    reporter: str | None
    reverts_in: float | None = None
    by: str | None = None
    note: str | None = None
    states: Mapping[str, int] = MappingProxyType({})
    processes: int = 0

    @property
    def quiet(self) -> bool:
        """Whether it is closed, in each process, and nothing fails."""
        return self.worst == State.CLOSED and not self.failures

    @property
    def worst(self) -> str:
        """Its state; while the fleet is closed, the worst of its processes'."""
        if self.state != State.CLOSED:
            return self.state
        return next((str(each) for each in WORST_FIRST if str(each) in self.states), self.state)


class Look(NamedTuple):
    """A look at the store.

    Attributes:
        rows: every circuit, by name.
        reports: what the processes report, by circuit; only circuits that have a report.
        error: why the store couldn't be read this time, and rows and reports are those of the
            last time that it could; empty if all is well.
    """

    rows: Sequence[Row]
    reports: Mapping[str, Sequence[Report]]
    error: str = ""


def row_of(view: View, reports: list[Report], processes: int) -> Row:
    """The row of a view.

    Args:
        view: the circuit as the store has it.
        reports: what the processes report of it.
        processes: how many there are.
    """
    circuit, reason = circuit_of(view, reports), read_reason(view.reason)
    own = Counter(str(each.state) for each in circuit.processes if each.state is not None)
    if circuit.state is State.CLOSED:
        del own[str(State.CLOSED)]
    return Row(
        name=circuit.name,
        state=str(circuit.state),
        epoch=circuit.epoch,
        retry_after=circuit.retry_after,
        calls=circuit.calls,
        failures=circuit.failures,
        reporter=circuit.reporter,
        reverts_in=circuit.reverts_in,
        by=reason.by,
        note=reason.note,
        states=dict(own),
        processes=max(processes, own.total()),  # one of an older version says that of no circuit
    )


def look_at(store: Store) -> Look:
    """Every circuit, and what the processes report of it."""
    found = whole(store)
    processes = _living(found.processes)
    pairs = [*zip(found.views, found.reports, strict=True)]
    return Look(
        [row_of(view, reports, processes) for view, reports in pairs],
        {view.name: sorted(reports) for view, reports in pairs if reports},
    )


def _living(processes: Sequence[FleetPresence]) -> int:
    return sum(not each.absent for each in processes)


def details(store: Store, view: View) -> dict[str, Any]:
    """All that the store has of a circuit."""
    (reports,) = store.reports([view.name])
    return {
        **row_of(view, reports, _living(presences(store)))._asdict(),
        "reason": str(read_reason(view.reason)) if view.reason else None,
        "reopens": view.reopens,
        "author": view.author or None,
        "witnesses": view.witnesses,
        "reporters": view.reporters,
        "probes": view.live,
        "reports": {report.process: report.text for report in sorted(reports)},
    }
