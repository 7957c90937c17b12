"""Metrics for Prometheus: names, types and labels, and how each is read from a circuit.

The same entries make the samples of a scrape and the values of a worker's files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Final, Literal, NamedTuple

from fluxgate.listeners._aggregate import WORST_FIRST, Reading
from fluxgate.state import State

Kind = Literal["gauge", "counter", "summary", "histogram"]
Part = tuple[str, tuple[str, ...], float]
"""A series of a circuit: the suffix of its name, its labels after `circuit`, its value."""

SEVERITY: Final = {state: number for number, state in enumerate(reversed(WORST_FIRST))}
_STATES: Final = {
    worst: tuple(("", (state.value,), float(state is worst)) for state in State) for worst in State
}


class Family(NamedTuple):
    """One metric.

    Attributes:
        name: its name; a counter's series add `_total`, a summary's `_sum` and `_count`.
        kind: its type.
        help: its description on the page.
        parts: gives the series of one circuit name.
        labels: the labels after `circuit`.
        unit: what it is measured in; the name ends with it.
        across: for a gauge, how the values of several workers become one; workers that have
            ended don't count.
    """

    name: str
    kind: Kind
    help: str
    parts: Callable[[Reading], Iterable[Part]]
    labels: tuple[str, ...] = ()
    unit: str = ""
    across: Literal["livemax", "livesum", ""] = ""


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


def _nothing(_: Reading) -> tuple[Part, ...]:
    return ()


FAMILIES: Final = (
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
)

UNREADABLE: Final = Family(
    "fluxgate_unreadable_circuits",
    "gauge",
    "Circuits that raised when they were read, and are shown as they were before.",
    _nothing,
    across="livesum",
)
