"""Circuits as the store of a fleet has them: reading all of them, and setting some by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fluxgate.fleet._verdict import read_reason, write_reason
from fluxgate.fleet._window import added
from fluxgate.fleet.store import DAY, MAX_THRESHOLDS, MIN_TTL, Move, Report, Store, View
from fluxgate.signals import Reason
from fluxgate.state import State

MOVES: Final = {"open": State.FORCED_OPEN, "reset": State.CLOSED, "disable": State.DISABLED}
"""The state that a verb sets."""
ASKED: Final = 200
"""Circuits whose reports are read in one look, at most, for each is a round trip. Those that aren't
quiet go first."""
_REPORT: Final = re.compile(
    r"(?P<state>[a-z_]+) (?P<failures>\d+)/(?P<calls>\d+)(?: @[0-9a-f]+)? ?(?P<reason>.*)"
)


class Row(NamedTuple):
    """A circuit as `list` shows it.

    Attributes:
        name: the circuit's name.
        state: its state, by its value (`forced_open`).
        epoch: the number of its last move.
        retry_after: seconds until it is probed; None unless it is open.
        calls: calls in the merged window; half-open, the probes that have ended.
        failures: those that failed.
        reporter: the process that has last reported calls.
    """

    name: str
    state: str
    epoch: int
    retry_after: float | None
    calls: int
    failures: int
    reporter: str | None

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


class Seen(NamedTuple):
    """A circuit as one process sees it: its own state, and its calls since it began.

    Attributes:
        process: the process.
        state: its state of the circuit.
        calls: its calls; None where the report can't be read.
        failures: those that failed.
        reason: why it is in that state; the report as it is, where it can't be read.
    """

    process: str
    state: str
    calls: int | None
    failures: int | None
    reason: str


def row_of(view: View) -> Row:
    """The row of a view."""
    counts = added((bucket.counts for bucket in view.buckets), MAX_THRESHOLDS)
    if view.state is State.HALF_OPEN:
        counts = view.probes
    left = None if view.remaining is None else view.remaining / 1000
    return Row(
        name=view.name,
        state=str(view.state),
        epoch=view.epoch,
        retry_after=left if view.state is State.OPEN else None,
        calls=counts.calls,
        failures=counts.failures,
        reporter=view.reporter or None,
    )


def rows(store: Store) -> list[Row]:
    """Every circuit of the store, by name."""
    names = sorted(store.scan())
    return [row_of(view) for view in store.read(names) if view.known] if names else []


def look_at(store: Store) -> Look:
    """Every circuit, and what the processes report of it."""
    found = rows(store)
    return Look(found, _reports(store, found))


def _reports(store: Store, of: Iterable[Row]) -> dict[str, list[Report]]:
    asked = sorted(of, key=lambda row: row.quiet)[:ASKED]
    found = {row.name: sorted(store.reports(row.name)) for row in asked}
    return {name: each for name, each in found.items() if each}


def seen(report: Report) -> Seen:
    """A report, taken apart."""
    found = _REPORT.fullmatch(report.text)
    if found is None:
        return Seen(report.process, "", None, None, report.text)
    calls, failures = int(found["calls"]), int(found["failures"])
    return Seen(report.process, found["state"], calls, failures, found["reason"])


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
        "reports": {report.process: report.text for report in store.reports(view.name)},
    }


def set_by_hand(store: Store, name: str, verb: str, command: str) -> View:
    """Set a circuit's state for every process.

    Args:
        store: the fleet's.
        name: the circuit.
        verb: one of `MOVES`.
        command: the command as it was given, for the reason.
    """
    state = MOVES[verb]
    reason = write_reason(Reason(command))
    ttl = MIN_TTL if state is State.CLOSED else DAY
    return store.move(Move(name, None, 0, state, reason=reason, ttl=ttl))
