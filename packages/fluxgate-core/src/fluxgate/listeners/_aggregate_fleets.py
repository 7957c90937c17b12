"""Readings of fleets for monitoring: by URL, sums that never fall.

The fleets are those of the circuits that are read. Fleets with equal URLs are separate fleets of
one store: their counts are added, as those of circuits with equal names are.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from fluxgate._engine.circuit import Circuit
from fluxgate._naming import encodable

if TYPE_CHECKING:
    from fluxgate.fleet._flusher import Flusher


class FleetCounts(NamedTuple):
    """Counts of fleets in this process.

    Attributes:
        dropped: calls that were counted here and never reach the store.
        flushes: exchanges with the store, successful ones and others.
        failed_flushes: those of them that the store has not answered, or was too busy for.
        flush_seconds: how long all of them took together.
    """

    dropped: int = 0
    flushes: int = 0
    failed_flushes: int = 0
    flush_seconds: float = 0.0


class FleetReading(NamedTuple):
    """All fleets of one URL at one moment, in this process.

    Attributes:
        name: their URL, without a password.
        attached: how many of them had an answer of the store when it was last asked.
        detached: how many had none.
        counts: their lifetime counts, added.
    """

    name: str
    attached: int
    detached: int
    counts: FleetCounts


class _LastRead(NamedTuple):
    """A fleet as it was last read."""

    ref: weakref.ref[Flusher]
    label: str
    counts: FleetCounts


class _Kept(NamedTuple):
    """State between two readings, published in one assignment."""

    fleets: dict[int, _LastRead]
    gone: dict[str, FleetCounts]
    """By label."""


class FleetReader:
    """Reads the fleets of circuits for one consumer.

    Args:
        keep_labels: whether a URL without fleets keeps its counts, for consumers that can't forget
            one.
    """

    def __init__(self, *, keep_labels: bool = False) -> None:
        self._keep_labels = keep_labels
        self._kept = _Kept({}, {})

    def read(self, circuits: Collection[Circuit]) -> list[FleetReading]:
        """Read every fleet that has one of these circuits."""
        known, gone = self._kept
        fleets: dict[int, _LastRead] = {}
        groups: dict[str, list[Flusher]] = {}
        for flusher in _serving(circuits):
            label = encodable(flusher.label)
            fleets[id(flusher)] = _LastRead(weakref.ref(flusher), label, _counts(flusher))
            groups.setdefault(label, []).append(flusher)
        gone = dict(gone)
        for key, last in known.items():
            now = fleets.get(key)
            if now is None or now.ref() is not last.ref():  # ids are used again
                gone[last.label] = _add(gone.get(last.label, FleetCounts()), last.counts)
        if not self._keep_labels:
            gone = {label: counts for label, counts in gone.items() if label in groups}
        readings = list[FleetReading]()
        for label, group in groups.items():
            counts = gone.get(label, FleetCounts())
            for flusher in group:
                counts = _add(counts, fleets[id(flusher)].counts)
            attached = sum(flusher.attached for flusher in group)
            readings.append(FleetReading(label, attached, len(group) - attached, counts))
        self._kept = _Kept(fleets, gone)
        return readings


def _serving(circuits: Collection[Circuit]) -> list[Flusher]:
    """The flushers of these circuits' fleets; nothing is imported where there is no fleet."""
    module = sys.modules.get("fluxgate.fleet._fleet")
    if module is None or not any(circuit.fleet is not None for circuit in circuits):
        return []
    wanted = {id(circuit) for circuit in circuits}
    living: list[Flusher] = module.living()
    return [
        flusher
        for flusher in living
        if not flusher.closed and any(id(each.circuit) in wanted for each in flusher.members())
    ]


def _counts(flusher: Flusher) -> FleetCounts:
    return FleetCounts(
        flusher.dropped, flusher.flushes, flusher.failed_flushes, flusher.flush_seconds
    )


def _add(one: FleetCounts, other: FleetCounts) -> FleetCounts:
    return FleetCounts(
        one.dropped + other.dropped,
        one.flushes + other.flushes,
        one.failed_flushes + other.failed_flushes,
        one.flush_seconds + other.flush_seconds,
    )
