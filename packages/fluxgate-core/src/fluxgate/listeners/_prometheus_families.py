"""Metrics for Prometheus: names, types and labels, and how each is read from a circuit.

The same entries make the samples of a scrape and the values of a worker's files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from fluxgate.listeners._aggregate import WORST_FIRST, Reading
from fluxgate.listeners._aggregate_fleets import FleetReading
from fluxgate.state import State

Kind = Literal["gauge", "counter", "summary", "histogram"]
Part = tuple[str, tuple[str, ...], float]
"""A series: the suffix of its name, its labels after the first, its value."""
R = TypeVar("R", bound=Reading | FleetReading)

SEVERITY: Final = {state: number for number, state in enumerate(reversed(WORST_FIRST))}
_STATES: Final = {
    worst: tuple(("", (state.value,), float(state is worst)) for state in State) for worst in State
}


class Family(NamedTuple, Generic[R]):
    """One metric.

    Attributes:
        name: its name; a counter's series add `_total`, a summary's `_sum` and `_count`.
        kind: its type.
        help: its description on the page.
        parts: gives the series of one circuit name, or of one fleet.
        labels: the labels after the first.
        unit: what it is measured in; the name ends with it.
        across: for a gauge, how the values of several workers become one; workers that have
            ended don't count.
        subject: the first label: what its series are about.
    """

    name: str
    kind: Kind
    help: str
    parts: Callable[[R], Iterable[Part]]
    labels: tuple[str, ...] = ()
    unit: str = ""
    across: Literal["livemax", "livesum", ""] = ""
    subject: Literal["circuit", "fleet"] = "circuit"


def _seconds(number: float) -> str:
    return "+Inf" if number == inf else repr(float(number))


def _state(reading: Reading) -> tuple[Part, ...]:
    return _STATES[reading.state]


def _severity(reading: Reading) -> tuple[Part, ...]:
    return (("", (), SEVERITY[reading.state]),)


def _circuits(reading: Reading) -> Iterator[Part]:
    for state, count in reading.states.items():
        yield "", (state.value,), count


def _calls(reading: Reading) -> tuple[Part, ...]:
    totals = reading.totals
    return (
        ("_total", ("success",), totals.successes),
        ("_total", ("failure",), totals.failures),
        ("_total", ("ignored",), totals.ignored),
        ("_total", ("cancelled",), totals.cancelled),
        ("_total", ("stale",), totals.stale),
    )


def _rejections(reading: Reading) -> tuple[Part, ...]:
    return (("_total", (), reading.totals.rejected),)


def _slow_calls(reading: Reading) -> Iterator[Part]:
    for threshold, count in sorted(reading.totals.slow_counts.items()):
        yield "_total", (_seconds(threshold),), count


def _duration(reading: Reading) -> tuple[Part, ...]:
    totals = reading.totals
    return (
        ("_count", (), totals.successes + totals.failures),
        ("_sum", (), totals.duration),
    )


def _histogram(reading: Reading) -> Iterator[Part]:
    count = 0
    for bound, count in reading.totals.histogram.items():
        yield "_bucket", (_seconds(bound),), count
    if reading.totals.histogram:
        yield "_count", (), count
        yield "_sum", (), reading.histogram_duration


def _trips(reading: Reading) -> Iterator[Part]:
    for reason, count in reading.totals.trips.items():
        yield "_total", (reason,), count


def _transitions(reading: Reading) -> Iterator[Part]:
    for state, count in reading.totals.transitions.items():
        yield "_total", (state.value,), count


def _probes(reading: Reading) -> tuple[Part, ...]:
    return (("", (), reading.probes),)


def _reopens(reading: Reading) -> tuple[Part, ...]:
    return (("", (), reading.reopens),)


def _retry_after(reading: Reading) -> tuple[Part, ...]:
    return (("", (), reading.retry_after or 0.0),)


def _would_open(reading: Reading) -> tuple[Part, ...]:
    return (("", ("live",), reading.would_open), ("", ("shadow",), reading.shadow_open))


def _fleet_circuits(reading: Reading) -> Iterator[Part]:
    if reading.shared is not None:
        for state, count in reading.shared.states.items():
            yield "", (state.value,), count


def _fleet_epoch(reading: Reading) -> Iterator[Part]:
    if reading.shared is not None:
        yield "", (), reading.shared.epoch


def _fleet_leases(reading: Reading) -> Iterator[Part]:
    if reading.shared is not None:
        yield "", (), reading.shared.leases


def _fleet_connections(reading: FleetReading) -> tuple[Part, ...]:
    return (("", ("attached",), reading.attached), ("", ("detached",), reading.detached))


def _fleet_dropped(reading: FleetReading) -> tuple[Part, ...]:
    return (("_total", (), reading.counts.dropped),)


def _fleet_flushes(reading: FleetReading) -> tuple[Part, ...]:
    return (("_count", (), reading.counts.flushes), ("_sum", (), reading.counts.flush_seconds))


def _fleet_failed_flushes(reading: FleetReading) -> tuple[Part, ...]:
    return (("_total", (), reading.counts.failed_flushes),)


def _nothing(_: Reading) -> tuple[Part, ...]:
    return ()


FAMILIES: Final[tuple[Family[Reading], ...]] = (
    Family(
        "fluxgate_circuit_state",
        "gauge",
        "1 for the state that the circuit is in, 0 for the others; of several circuits of one "
        "name, the worst state.",
        _state,
        labels=("state",),
        across="livemax",
    ),
    Family(
        "fluxgate_circuit_severity",
        "gauge",
        "The state as a number, the worse the higher: "
        + ", ".join(f"{number} {state}" for state, number in SEVERITY.items())
        + ".",
        _severity,
        across="livemax",
    ),
    Family(
        "fluxgate_circuits",
        "gauge",
        "Circuits of this name by state: more than one where names are equal, or in several "
        "worker processes.",
        _circuits,
        labels=("state",),
        across="livesum",
    ),
    Family(
        "fluxgate_calls",
        "counter",
        "Calls that were admitted and have ended, by outcome.",
        _calls,
        labels=("outcome",),
    ),
    Family(
        "fluxgate_rejections",
        "counter",
        "Calls that the circuit refused.",
        _rejections,
    ),
    Family(
        "fluxgate_slow_calls",
        "counter",
        "Calls that took at least the threshold (seconds), for the thresholds of the policy.",
        _slow_calls,
        labels=("threshold",),
    ),
    Family(
        "fluxgate_call_duration_seconds",
        "summary",
        "How long the calls that succeeded or failed took.",
        _duration,
        unit="seconds",
    ),
    Family(
        "fluxgate_call_duration_distribution_seconds",
        "histogram",
        "How long the calls that succeeded or failed took, for circuits with buckets.",
        _histogram,
        unit="seconds",
    ),
    Family(
        "fluxgate_trips",
        "counter",
        "How often the circuit opened, by what caused it.",
        _trips,
        labels=("reason",),
    ),
    Family(
        "fluxgate_circuit_transitions",
        "counter",
        "How often the circuit entered a state, by that state.",
        _transitions,
        labels=("state",),
    ),
    Family(
        "fluxgate_probes_in_flight",
        "gauge",
        "Probes of a half-open circuit that have not ended.",
        _probes,
        across="livesum",
    ),
    Family(
        "fluxgate_reopens",
        "gauge",
        "How often probing has failed since the circuit was last closed.",
        _reopens,
        across="livemax",
    ),
    Family(
        "fluxgate_retry_after_seconds",
        "gauge",
        "Seconds until an open circuit probes; 0 where it isn't open, or has no such time.",
        _retry_after,
        unit="seconds",
        across="livemax",
    ),
    Family(
        "fluxgate_would_open",
        "gauge",
        "1 if a tripper on trial would have the circuit open now: the live one of a metrics-only "
        "circuit, the shadow of any.",
        _would_open,
        labels=("tripper",),
        across="livemax",
    ),
    Family(
        "fluxgate_fleet_circuits",
        "gauge",
        "Circuits of this name in a fleet, by the state that the fleet is in as far as this "
        "process knows.",
        _fleet_circuits,
        labels=("state",),
        across="livesum",
    ),
    Family(
        "fluxgate_fleet_epoch",
        "gauge",
        "The number of the fleet's last transition of this circuit that this process knows of.",
        _fleet_epoch,
        across="livemax",
    ),
    Family(
        "fluxgate_fleet_leases",
        "gauge",
        "Probes that the fleet has granted to this process and that are not over.",
        _fleet_leases,
        across="livesum",
    ),
)

FLEET_FAMILIES: Final[tuple[Family[FleetReading], ...]] = (
    Family(
        "fluxgate_fleet_connections",
        "gauge",
        "1 for what a process is: attached to its fleet's store, or detached; summed over "
        "processes.",
        _fleet_connections,
        labels=("state",),
        across="livesum",
        subject="fleet",
    ),
    Family(
        "fluxgate_fleet_dropped_calls",
        "counter",
        "Calls that this process has counted and the fleet never will.",
        _fleet_dropped,
        subject="fleet",
    ),
    Family(
        "fluxgate_fleet_flush_duration_seconds",
        "summary",
        "How long exchanges with the store took, failed ones included.",
        _fleet_flushes,
        unit="seconds",
        subject="fleet",
    ),
    Family(
        "fluxgate_fleet_failed_flushes",
        "counter",
        "Exchanges that the store has not answered, or was too busy for.",
        _fleet_failed_flushes,
        subject="fleet",
    ),
)
"""Of fleets; there are none where no circuit is in a fleet."""

UNREADABLE: Final[Family[Reading]] = Family(
    "fluxgate_unreadable_circuits",
    "gauge",
    "Circuits that raised when they were read, and are shown as they were before.",
    _nothing,
    across="livesum",
)
