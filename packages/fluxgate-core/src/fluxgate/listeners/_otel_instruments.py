"""Instruments for OpenTelemetry: names, kinds and units, and how each is read from a circuit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

from fluxgate.listeners._aggregate import Reading
from fluxgate.listeners._aggregate_fleets import FleetReading

NAME: Final = "fluxgate.circuit.name"
STATE: Final = "fluxgate.circuit.state"
OUTCOME: Final = "fluxgate.call.outcome"
THRESHOLD: Final = "fluxgate.call.threshold"
CLAUSE: Final = "fluxgate.reason.clause"
TRIPPER: Final = "fluxgate.tripper"
URL: Final = "fluxgate.fleet.url"
CONNECTION: Final = "fluxgate.fleet.connection"
BOUND: Final = "le"
"""Without our namespace: the name that Prometheus uses, and whatever reads its histograms."""

Value = str | float
Point = tuple[float, dict[str, Value]]
"""A number, and its attributes beside the circuit's name or the fleet's URL."""
R = TypeVar("R", bound=Reading | FleetReading)


class Kind(StrEnum):
    """The kinds of observable instruments."""

    COUNTER = "counter"
    """It only grows; added up over attributes and processes."""
    UP_DOWN_COUNTER = "up_down_counter"
    """Added up over attributes and processes."""
    GAUGE = "gauge"
    """Not to be added up."""


class Instrument(NamedTuple, Generic[R]):
    """One instrument.

    Attributes:
        name: its name.
        kind: which kind it is.
        unit: what it counts, in UCUM's notation.
        description: its description in the exports.
        points: gives the numbers of one circuit name, or of one fleet.
        subject: the attribute that says which circuit or fleet it is about.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    points: Callable[[R], Iterator[Point]]
    subject: str = NAME


def _state(reading: Reading) -> Iterator[Point]:
    for state, count in reading.states.items():
        yield count, {STATE: state.value}


def _calls(reading: Reading) -> Iterator[Point]:
    totals = reading.totals
    yield totals.successes, {OUTCOME: "success"}
    yield totals.failures, {OUTCOME: "failure"}
    yield totals.ignored, {OUTCOME: "ignored"}
    yield totals.cancelled, {OUTCOME: "cancelled"}
    yield totals.stale, {OUTCOME: "stale"}


def _time(reading: Reading) -> Iterator[Point]:
    yield reading.totals.duration, {}


def _time_buckets(reading: Reading) -> Iterator[Point]:
    for bound, count in reading.totals.histogram.items():
        yield count, {BOUND: "+Inf" if bound == inf else repr(float(bound))}


def _slow_calls(reading: Reading) -> Iterator[Point]:
    for threshold, count in sorted(reading.totals.slow_counts.items()):
        yield count, {THRESHOLD: float(threshold)}


def _rejections(reading: Reading) -> Iterator[Point]:
    yield reading.totals.rejected, {}


def _trips(reading: Reading) -> Iterator[Point]:
    for clause, count in reading.totals.trips.items():
        yield count, {CLAUSE: clause}


def _transitions(reading: Reading) -> Iterator[Point]:
    for state, count in reading.totals.transitions.items():
        yield count, {STATE: state.value}


def _probes(reading: Reading) -> Iterator[Point]:
    yield reading.probes, {}


def _reopens(reading: Reading) -> Iterator[Point]:
    yield reading.reopens, {}


def _retry_after(reading: Reading) -> Iterator[Point]:
    if reading.retry_after is not None:
        yield reading.retry_after, {}


def _would_open(reading: Reading) -> Iterator[Point]:
    yield int(reading.would_open), {TRIPPER: "live"}
    yield int(reading.shadow_open), {TRIPPER: "shadow"}


def _fleet_circuits(reading: Reading) -> Iterator[Point]:
    if reading.shared is not None:
        for state, count in reading.shared.states.items():
            yield count, {STATE: state.value}


def _fleet_epoch(reading: Reading) -> Iterator[Point]:
    if reading.shared is not None:
        yield reading.shared.epoch, {}


def _fleet_leases(reading: Reading) -> Iterator[Point]:
    if reading.shared is not None:
        yield reading.shared.leases, {}


def _fleet_connections(reading: FleetReading) -> Iterator[Point]:
    yield reading.attached, {CONNECTION: "attached"}
    yield reading.detached, {CONNECTION: "detached"}


def _fleet_dropped(reading: FleetReading) -> Iterator[Point]:
    yield reading.counts.dropped, {}


def _fleet_flushes(reading: FleetReading) -> Iterator[Point]:
    yield reading.counts.flushes, {}


def _fleet_flush_time(reading: FleetReading) -> Iterator[Point]:
    yield reading.counts.flush_seconds, {}


def _fleet_failed_flushes(reading: FleetReading) -> Iterator[Point]:
    yield reading.counts.failed_flushes, {}


INSTRUMENTS: Final[tuple[Instrument[Reading], ...]] = (
    Instrument(
        "fluxgate.circuit.state",
        Kind.UP_DOWN_COUNTER,
        "{circuit}",
        "Circuits by state: 1 for the state that a circuit is in, 0 for the others; more where "
        "several have one name.",
        _state,
    ),
    Instrument(
        "fluxgate.circuit.calls",
        Kind.COUNTER,
        "{call}",
        "Calls that were admitted and have ended, by outcome.",
        _calls,
    ),
    Instrument(
        "fluxgate.circuit.rejections",
        Kind.COUNTER,
        "{call}",
        "Calls that the circuit refused.",
        _rejections,
    ),
    Instrument(
        "fluxgate.circuit.slow_calls",
        Kind.COUNTER,
        "{call}",
        "Calls that took at least the threshold (seconds), for the thresholds of the policy.",
        _slow_calls,
    ),
    Instrument(
        "fluxgate.circuit.call.time",
        Kind.COUNTER,
        "s",
        "Seconds that the calls which succeeded or failed took together.",
        _time,
    ),
    Instrument(
        "fluxgate.circuit.call.time_buckets",
        Kind.COUNTER,
        "{call}",
        "Calls that took at most `le` seconds, for circuits with buckets.",
        _time_buckets,
    ),
    Instrument(
        "fluxgate.circuit.trips",
        Kind.COUNTER,
        "{trip}",
        "How often the circuit opened, by what caused it.",
        _trips,
    ),
    Instrument(
        "fluxgate.circuit.transitions",
        Kind.COUNTER,
        "{transition}",
        "How often the circuit entered a state, by that state.",
        _transitions,
    ),
    Instrument(
        "fluxgate.circuit.probes",
        Kind.UP_DOWN_COUNTER,
        "{call}",
        "Probes of a half-open circuit that have not ended.",
        _probes,
    ),
    Instrument(
        "fluxgate.circuit.reopens",
        Kind.GAUGE,
        "{reopen}",
        "How often probing has failed since the circuit was last closed.",
        _reopens,
    ),
    Instrument(
        "fluxgate.circuit.retry_after",
        Kind.GAUGE,
        "s",
        "Seconds until an open circuit probes; none where it isn't open, or has no such time.",
        _retry_after,
    ),
    Instrument(
        "fluxgate.circuit.would_open",
        Kind.GAUGE,
        "1",
        "1 if a tripper on trial would have the circuit open now: the live one of a metrics-only "
        "circuit, the shadow of any.",
        _would_open,
    ),
    Instrument(
        "fluxgate.fleet.circuits",
        Kind.UP_DOWN_COUNTER,
        "{circuit}",
        "Circuits in a fleet, by the state that the fleet is in as far as this process knows.",
        _fleet_circuits,
    ),
    Instrument(
        "fluxgate.fleet.epoch",
        Kind.GAUGE,
        "1",
        "The number of the fleet's last transition of the circuit that this process knows of.",
        _fleet_epoch,
    ),
    Instrument(
        "fluxgate.fleet.leases",
        Kind.UP_DOWN_COUNTER,
        "{call}",
        "Probes that the fleet has granted to this process and that are not over.",
        _fleet_leases,
    ),
)

FLEET_INSTRUMENTS: Final[tuple[Instrument[FleetReading], ...]] = (
    Instrument(
        "fluxgate.fleet.connections",
        Kind.UP_DOWN_COUNTER,
        "{process}",
        "1 for what a process is: attached to its fleet's store, or detached.",
        _fleet_connections,
        URL,
    ),
    Instrument(
        "fluxgate.fleet.dropped_calls",
        Kind.COUNTER,
        "{call}",
        "Calls that this process has counted and the fleet never will.",
        _fleet_dropped,
        URL,
    ),
    Instrument(
        "fluxgate.fleet.flushes",
        Kind.COUNTER,
        "{flush}",
        "Exchanges with the store, failed ones included.",
        _fleet_flushes,
        URL,
    ),
    Instrument(
        "fluxgate.fleet.flush.time",
        Kind.COUNTER,
        "s",
        "Seconds that exchanges with the store took together.",
        _fleet_flush_time,
        URL,
    ),
    Instrument(
        "fluxgate.fleet.failed_flushes",
        Kind.COUNTER,
        "{flush}",
        "Exchanges that the store has not answered, or was too busy for.",
        _fleet_failed_flushes,
        URL,
    ),
)
"""Of fleets; they have no points where no circuit is in a fleet."""
