"""Readings of all circuits for monitoring: by name, few names, sums that never fall.

Circuits with equal names are separate circuits. Their counters are added here, and the worst of
their states is shown. A sum must not fall when one of its circuits is collected, or the monitoring
system takes that for a restart and counts the rest of it once more; so the counts of such a circuit
stay in the sum for as long as there are circuits of its name.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from fluxgate import _log
from fluxgate._engine.circuit import Circuit
from fluxgate._front import Front
from fluxgate._locks import ProcessLock
from fluxgate._naming import encodable, safe_repr
from fluxgate.breaker import circuits as every_circuit
from fluxgate.listeners._aggregate_fleets import FleetReader, FleetReading
from fluxgate.metric import Info, Totals
from fluxgate.policy import Policy
from fluxgate.state import State
from fluxgate.trippers import NEVER, Tripper, _Both

Key = TypeVar("Key")

OTHER: Final = "other"
"""The name of all circuits, and of all reasons, beyond the bound."""

WORST_FIRST: Final = (
    State.FORCED_OPEN,
    State.OPEN,
    State.HALF_OPEN,
    State.DISABLED,
    State.METRICS_ONLY,
    State.CLOSED,
)
"""States by severity: calls are refused, then calls pass unprotected, then all is well."""

Source = Callable[[], Iterable[Front]]
"""Gives the breakers to read, such as `fluxgate.circuits` or a registry's `values`."""


class Shared(NamedTuple):
    """The circuits of one name that are in a fleet, as their fleets have them.

    Attributes:
        states: in how many of them this process believes the fleet to be in each state; all
            states are there.
        epoch: the number of the fleet's last transition that this process knows of, the highest.
        leases: probes that the fleet has granted to this process and that are not over, added.
    """

    states: Mapping[State, int]
    epoch: int
    leases: int


class Reading(NamedTuple):
    """All circuits of one name at one moment.

    Attributes:
        name: their name, or `OTHER`.
        state: the worst of their states.
        states: how many of them are in each state; all states are there.
        totals: their lifetime counts, added. `slow_counts` has every threshold of their policies,
            `trips` every clause that could open them and `transitions` every state, from the first
            reading on, at 0.
        histogram_duration: seconds that the calls in `totals.histogram` took together; less than
            `totals.duration` where some of the circuits have no `buckets`.
        probes: probes in flight, added.
        reopens: how often probing has failed since it was last closed, the highest.
        retry_after: seconds until an open one probes, the longest; None if none has such a time.
        would_open: whether a metrics-only one would open now.
        shadow_open: whether a shadow tripper would have one open now.
        shared: those that are in a fleet; None if none is.
    """

    name: str
    state: State
    states: Mapping[State, int]
    totals: Totals
    histogram_duration: float
    probes: int
    reopens: int
    retry_after: float | None
    would_open: bool
    shadow_open: bool
    shared: Shared | None = None


class _LastRead:
    """A circuit as it was last read."""

    __slots__ = ("clauses", "failing", "info", "label", "leases", "policy", "ref")

    info: Info
    policy: Policy | None
    clauses: tuple[str, ...]

    def __init__(self, circuit: Circuit, label: str) -> None:
        self.ref = weakref.ref(circuit)
        self.label = label
        self.policy = None
        self.failing = False
        self.leases: int | None = None  # None: in no fleet

    def read(self, front: Front) -> None:
        """Read the circuit; if that raises, what was read before stays."""
        try:
            policy, info = front.policy, front.info()
            member = front._circuit.fleet
            leases = None if member is None or member.left else member.leases()
            if policy is not self.policy:
                self.clauses = clauses_of(policy)
        except Exception as error:
            _log.fault(front.name, "reading the circuit", error)
            self.failing = True
            return
        self.policy, self.info, self.leases = policy, info, leases
        self.failing = False


class _Collected(NamedTuple):
    """The counts of the circuits of one name that have been collected."""

    totals: Totals
    histogram_duration: float


class _Kept(NamedTuple):
    """State that a reader keeps between two readings.

    A reading makes the next one and publishes it in one assignment when it is through: an interrupt
    in the middle leaves nothing counted twice.
    """

    circuits: Mapping[int, _LastRead]
    collected: Mapping[str, _Collected]
    """By name."""


class Reader:
    """Reads circuits for one consumer, which gets the same names and reasons each time.

    Args:
        source: gives the breakers to read.
        max_circuits: number of names with figures of their own, 1 or more; a further name is
            part of `OTHER` for as long as there are circuits of it.
        max_reasons: number of reasons of trips kept under each name, 1 or more; the rest
            is `OTHER`.
        keep_names: whether a name without circuits keeps its place and its counts, for consumers
            that can't forget one.

    Raises:
        TypeError: `source` can't be called, or a number is none.
        ValueError: a number is below 1.

    Attributes:
        unreadable: how many circuits raised when they were last read.
        fleets: the fleets of the circuits when they were last read.
    """

    def __init__(
        self,
        source: Source = every_circuit,
        *,
        max_circuits: int = 256,
        max_reasons: int = 20,
        keep_names: bool = False,
    ) -> None:
        if not callable(source):
            raise TypeError(
                "circuits must be a function that gives breakers, such as fluxgate.circuits or "
                f"registry.values (not called): {safe_repr(source)}"
            )
        for what, number in (("max_circuits", max_circuits), ("max_reasons", max_reasons)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"{what} must be a whole number: {safe_repr(number)}")
            if number < 1:
                raise ValueError(f"{what} must be at least 1: {number}")
        self._source = source
        self._max_circuits = max_circuits
        self._max_reasons = max_reasons
        self._keep_names = keep_names
        self._lock = ProcessLock()
        self._restart()

    def _restart(self) -> None:
        self._readings: list[Reading] = []
        self._kept = _Kept({}, {})
        self._reasons: dict[str, set[str]] = {}  # of every name that has its own place
        self._hidden: set[str] = set()  # the names that are part of OTHER
        self.unreadable = 0
        self.fleets: list[FleetReading] = []
        self._fleet_reader = FleetReader(keep_labels=self._keep_names)
        self._pid = os.getpid()  # last: whoever sees it relies on what is above

    def read(self) -> list[Reading]:
        """Read every name, in the order in which the circuits were made.

        Reading a circuit may move it, and its listeners are then called here: a listener that waits
        for another thread's reading waits for ever.

        Any thread may read. A circuit that raises is logged and shown as it was last read.
        """
        if self._pid != os.getpid():  # a forked child: its circuits count from 0
            self._restart()
        with self._lock.here():
            if not self._is_being_read():  # a listener may ask in the middle of this
                self._readings = self._read()
            return self._readings

    def _is_being_read(self) -> bool:
        """Whether this thread is inside `_read` already.

        A flag would stay up after an interrupt that comes just before it is lowered; the stack
        can't be wrong.
        """
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code is _READ and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back  # type: ignore[assignment]
        return False

    def _read(self) -> list[Reading]:
        fronts = {id(front._circuit): front for front in self._source()}
        known, collected = self._compare(fronts)
        circuits: dict[int, _LastRead] = {}
        groups: dict[str, list[_LastRead]] = {}
        for key, front in fronts.items():
            name = encodable(front.name)
            last = known.get(key) or _LastRead(front._circuit, self._label(name))
            circuits[key] = last
            last.read(front)
            if last.policy is not None:
                groups.setdefault(last.label, []).append(last)
        self.unreadable = sum(last.failing for last in circuits.values())
        readings = [
            self._sum(label, group, collected.get(label)) for label, group in groups.items()
        ]
        self._kept = _Kept(circuits, collected)
        self.fleets = self._fleet_reader.read([front._circuit for front in fronts.values()])
        return readings

    def _compare(
        self, fronts: Mapping[int, Front]
    ) -> tuple[dict[int, _LastRead], dict[str, _Collected]]:
        """The circuits that are known, and by name the counts of those that were collected."""
        known: dict[int, _LastRead] = {}
        collected = dict(self._kept.collected)
        for key, last in self._kept.circuits.items():
            if key in fronts and last.ref() is fronts[key]._circuit:  # ids are used again
                known[key] = last
            elif last.policy is not None:
                totals, duration = last.info.totals, _timed(last.info.totals)
                if (before := collected.get(last.label)) is not None:
                    totals = _add(totals, before.totals)
                    duration += before.histogram_duration
                collected[last.label] = _Collected(totals, duration)
        living = {encodable(front.name) for front in fronts.values()}
        self._hidden &= living
        if self._hidden:
            living.add(OTHER)
        if not self._keep_names:
            self._reasons = {name: kept for name, kept in self._reasons.items() if name in living}
            collected = {name: kept for name, kept in collected.items() if name in living}
        return known, collected

    def _label(self, name: str) -> str:
        """The name that a new circuit is counted under: its own, or `OTHER` beyond the bound."""
        names = self._reasons
        if name in names or name == OTHER:
            return name
        if name in self._hidden or len(names) - (OTHER in names) >= self._max_circuits:
            self._hidden.add(name)
            return OTHER
        names[name] = set()
        return name

    def _sum(self, label: str, group: list[_LastRead], collected: _Collected | None) -> Reading:
        infos = [last.info for last in group]
        states = dict.fromkeys(WORST_FIRST, 0)
        for info in infos:
            states[info.state] += 1
        waits = [info.retry_after for info in infos if info.retry_after is not None]
        before = 0.0 if collected is None else collected.histogram_duration
        return Reading(
            name=label,
            state=next(state for state, count in states.items() if count),
            states=states,
            totals=self._totals(label, group, collected),
            histogram_duration=before + sum(_timed(info.totals) for info in infos),
            probes=sum(info.probes for info in infos),
            reopens=max(info.reopens for info in infos),
            retry_after=max(waits, default=None),
            would_open=any(info.would_open is not None for info in infos),
            shadow_open=any(info.shadow is not None for info in infos),
            shared=_shared(group),
        )

    def _totals(self, label: str, group: list[_LastRead], collected: _Collected | None) -> Totals:
        """The sum of all counts, with zeros for what can be counted, and a bound on reasons."""
        totals = group[0].info.totals
        for last in group[1:]:
            totals = _add(totals, last.info.totals)
        if collected is not None:
            totals = _add(totals, collected.totals)
        policies = [last.policy for last in group if last.policy is not None]
        slow = (threshold for policy in policies for threshold in policy.thresholds)
        reasons = self._reasons.setdefault(label, set())
        trips: dict[str, int] = {}
        possible = ((clause, 0) for last in group for clause in last.clauses)
        for named, count in (*possible, *totals.trips.items()):
            clause = encodable(named)
            if clause not in reasons and len(reasons) < self._max_reasons:
                reasons.add(clause)
            shown = clause if clause in reasons else OTHER
            trips[shown] = trips.get(shown, 0) + count
        return _complete(totals, slow, trips)


_READ: Final = Reader._read.__code__


def _shared(group: list[_LastRead]) -> Shared | None:
    """Those of a name's circuits that are in a fleet; None if none is."""
    states, epoch, leases, found = dict.fromkeys(WORST_FIRST, 0), 0, 0, False
    for last in group:
        view = last.info.fleet
        if last.leases is not None and view is not None:
            found = True
            states[view.state] += 1
            epoch, leases = max(epoch, view.epoch), leases + last.leases
    return Shared(states, epoch, leases) if found else None


def _timed(totals: Totals) -> float:
    return totals.duration if totals.histogram else 0.0


# -- sums of lifetime counts, and what can be counted under a policy


def _add(one: Totals, other: Totals) -> Totals:
    """The counts of two circuits together.

    Of two histograms, only the bounds that both have are kept: no others have a known sum.
    """
    return Totals(
        successes=one.successes + other.successes,
        failures=one.failures + other.failures,
        ignored=one.ignored + other.ignored,
        cancelled=one.cancelled + other.cancelled,
        stale=one.stale + other.stale,
        rejected=one.rejected + other.rejected,
        slow_counts=_add_by_key(one.slow_counts, other.slow_counts),
        duration=one.duration + other.duration,
        trips=_add_by_key(one.trips, other.trips),
        transitions=_add_by_key(one.transitions, other.transitions),
        histogram=_add_histograms(one.histogram, other.histogram),
    )


def _add_by_key(one: Mapping[Key, int], other: Mapping[Key, int]) -> dict[Key, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in (*one, *other)}


def _add_histograms(one: Mapping[float, int], other: Mapping[float, int]) -> Mapping[float, int]:
    if not one or not other:  # a circuit without `buckets` has no histogram
        return one or other
    return {bound: count + other[bound] for bound, count in one.items() if bound in other}


def _complete(totals: Totals, thresholds: Iterable[float], trips: Mapping[str, int]) -> Totals:
    """The same counts with 0 for thresholds and states that were never reached, and these trips."""
    slow_counts = {**dict.fromkeys(thresholds, 0), **totals.slow_counts}
    transitions = {**dict.fromkeys(WORST_FIRST, 0), **totals.transitions}
    changed: dict[str, Any] = {
        **vars(totals),
        "slow_counts": slow_counts,
        "trips": trips,
        "transitions": transitions,
    }
    return Totals(**changed)


def clauses_of(policy: Policy) -> tuple[str, ...]:
    """The clauses that openings are counted by; a user's own tripper may give more."""
    closed = _clauses(policy.closed)
    half_open = ("probe failed",) if policy.half_open is NEVER else _clauses(policy.half_open)
    return tuple(dict.fromkeys((*closed, *half_open, "open_for()")))


def _clauses(tripper: Tripper) -> Iterator[str]:
    """The clauses that a tripper can give as the reason why it fired."""
    if not isinstance(tripper, _Both):
        yield _shown(tripper)
    elif tripper.symbol == "&":
        yield from _clauses(tripper.right if tripper.left.fires_on_success else tripper.left)
    else:
        yield from _clauses(tripper.left)
        yield from _clauses(tripper.right)


def _shown(tripper: Tripper) -> str:
    try:
        return repr(tripper)
    except Exception:  # of an argument: the reason of a trip is then this, too
        return safe_repr(tripper)
