"""Circuits as the store of a fleet has them: as the command shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fluxgate.fleet._circuits import circuit_of
from fluxgate.fleet._verdict import read_reason
from fluxgate.fleet.store import Report, Store, View, circuits_in
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

    @property
    def quiet(self) -> bool:
        """Whether it is closed, and nothing fails."""
        return self.state == State.CLOSED and not self.failures


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


def row_of(view: View) -> Row:
    """The row of a view."""
    circuit, reason = circuit_of(view, []), read_reason(view.reason)
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
    )


def rows(store: Store) -> list[Row]:
    """Every circuit of the store, by name."""
    names = circuits_in(store)
    return [row_of(view) for view in store.read(names) if view.known] if names else []


def look_at(store: Store) -> Look:
    """Every circuit, and what the processes report of it."""
    found = rows(store)
    names = [row.name for row in found]
    reports = dict(zip(names, map(sorted, store.reports(names)), strict=True)) if names else {}
    return Look(found, {name: each for name, each in reports.items() if each})


def details(store: Store, view: View) -> dict[str, Any]:
    """All that the store has of a circuit."""
    return {
        **row_of(view)._asdict(),
        "reason": str(read_reason(view.reason)) if view.reason else None,
        "reopens": view.reopens,
        "author": view.author or None,
        "witnesses": view.witnesses,
        "reporters": view.reporters,
        "probes": view.live,
        "reports": {report.process: report.text for report in store.reports([view.name])[0]},
    }
