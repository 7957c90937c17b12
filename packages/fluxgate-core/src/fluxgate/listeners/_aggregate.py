"""All circuits as a monitoring system wants them: by name, few names, counters that never fall.

Circuits with equal names are separate circuits. Their counters are added here, and the worst of
their states is shown. A sum must not fall when one of its circuits goes, or the monitoring system
takes it for a restart and counts the rest of it once more; so what a circuit that went had counted
stays in the sum for as long as its name lives.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from fluxgate import _log
from fluxgate._engine.circuit import Circuit
from fluxgate._front import Front
from fluxgate._naming import encodable, safe_repr
from fluxgate.breaker import circuits as every_circuit
from fluxgate.metric import Info, Totals
from fluxgate.policy import Policy
from fluxgate.state import State
from fluxgate.trippers import NEVER, Tripper, _Both

Key = TypeVar("Key")

OTHER: Final = "other"
"""The name of all that comes after the first so many."""

WORST_FIRST: Final = (
    State.FORCED_OPEN,
    State.OPEN,
    State.HALF_OPEN,
    State.DISABLED,
    State.METRICS_ONLY,
    State.CLOSED,
)
"""From "refuses every call" over "protects nobody" to "all is well"."""

Source = Callable[[], Iterable[Front]]
"""Gives the breakers to read, such as `fluxgate.circuits` or a registry's `values`."""


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


class _Seen:
    """A circuit as it was last read."""

    __slots__ = ("clauses", "failing", "info", "label", "policy", "ref")

    info: Info
    policy: Policy | None
    clauses: tuple[str, ...]

    def __init__(self, circuit: Circuit, label: str) -> None:
        self.ref = weakref.ref(circuit)
        self.label = label
        self.policy = None
        self.failing = False

    def read(self, front: Front) -> None:
        """Look at the circuit; if that raises, what was read before holds."""
        try:
            policy, info = front.policy, front.info()
            if policy is not self.policy:
                self.clauses = clauses_of(policy)
        except Exception as error:
            if not self.failing:  # once is enough
                _log.fault(front.name, "reading the circuit", error)
            self.failing = True
            return
        self.policy, self.info = policy, info
        self.failing = False


class _Name:
    """What is kept about a name between two readings."""

    __slots__ = ("gone", "gone_duration", "reasons")

    def __init__(self) -> None:
        self.gone: Totals | None = None
        self.gone_duration = 0.0
        self.reasons: set[str] = set()


class Reader:
    """Reads circuits for one consumer, which gets the same names and reasons each time.

    Args:
        source: gives the breakers to read.
        max_circuits: how many names to tell apart, 1 or more; a name that comes after them is
            part of `OTHER` for as long as it lives.
        max_reasons: how many reasons of trips to tell apart under each name, 1 or more; the rest
            is `OTHER`.
        keep_names: whether a name that went keeps its place and its counts, for consumers that
            can't forget one.

    Raises:
        TypeError: `source` can't be called, or a number is none.
        ValueError: a number is below 1.

    Attributes:
        unreadable: how many circuits raised when they were last read.
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
        self._restart()

    def _restart(self) -> None:
        self._lock = threading.RLock()
        self._busy = False
        self._readings: list[Reading] = []
        self._seen: dict[int, _Seen] = {}
        self._names: dict[str, _Name] = {}
        self._hidden: set[str] = set()  # the names that are part of OTHER
        self.unreadable = 0
        self._pid = os.getpid()  # last: who sees it goes on with what is above

    def read(self) -> list[Reading]:
        """Every name, in the order in which the circuits were made.

        Reading a circuit may bring news of it, which its listeners are then told, here and now: one
        that waits for another thread's reading waits for ever.

        Any thread may ask. A circuit that raises is logged and shown as it was last read.
        """
        if self._pid != os.getpid():  # a forked child: its circuits count from 0
            self._restart()
        with self._lock:
            if not self._busy:  # a listener may ask in the middle of this
                self._busy = True
                try:
                    self._readings = self._read()
                finally:
                    self._busy = False
            return self._readings

    def _read(self) -> list[Reading]:
        fronts = {id(front._circuit): front for front in self._source()}
        known = self._part(fronts)
        self._seen = {}
        groups: dict[str, list[_Seen]] = {}
        for key, front in fronts.items():
            seen = known.get(key) or _Seen(front._circuit, self._label(encodable(front.name)))
            self._seen[key] = seen
            seen.read(front)
            if seen.policy is not None:
                groups.setdefault(seen.label, []).append(seen)
        self.unreadable = sum(seen.failing for seen in self._seen.values())
        return [self._sum(label, group) for label, group in groups.items()]

    def _part(self, fronts: Mapping[int, Front]) -> dict[int, _Seen]:
        """Which circuits are known; what the others, which went, had counted is kept."""
        known: dict[int, _Seen] = {}
        for key, seen in self._seen.items():
            if key in fronts and seen.ref() is fronts[key]._circuit:  # ids are used again
                known[key] = seen
            elif seen.policy is not None:
                name, totals = self._name(seen.label), seen.info.totals
                name.gone = totals if name.gone is None else _add(name.gone, totals)
                name.gone_duration += _timed(totals)
        living = {encodable(front.name) for front in fronts.values()}
        self._hidden &= living
        if self._hidden:
            living.add(OTHER)
        if not self._keep_names:
            self._names = {name: kept for name, kept in self._names.items() if name in living}
        return known

    def _label(self, name: str) -> str:
        """The name that the numbers of a new circuit go under."""
        if name in self._names or name == OTHER:
            return name
        if name in self._hidden or len(self._names) - (OTHER in self._names) >= self._max_circuits:
            self._hidden.add(name)
            return OTHER
        self._name(name)
        return name

    def _name(self, label: str) -> _Name:
        if label not in self._names:
            self._names[label] = _Name()
        return self._names[label]

    def _sum(self, label: str, group: list[_Seen]) -> Reading:
        infos, name = [seen.info for seen in group], self._name(label)
        states = dict.fromkeys(WORST_FIRST, 0)
        for info in infos:
            states[info.state] += 1
        waits = [info.retry_after for info in infos if info.retry_after is not None]
        return Reading(
            name=label,
            state=next(state for state, count in states.items() if count),
            states=states,
            totals=self._totals(name, group),
            histogram_duration=name.gone_duration + sum(_timed(info.totals) for info in infos),
            probes=sum(info.probes for info in infos),
            reopens=max(info.reopens for info in infos),
            retry_after=max(waits, default=None),
            would_open=any(info.would_open is not None for info in infos),
            shadow_open=any(info.shadow is not None for info in infos),
        )

    def _totals(self, name: _Name, group: list[_Seen]) -> Totals:
        """What all have counted, zeros for what they could count, and few reasons."""
        totals = group[0].info.totals
        for seen in group[1:]:
            totals = _add(totals, seen.info.totals)
        if name.gone is not None:
            totals = _add(totals, name.gone)
        policies = [seen.policy for seen in group if seen.policy is not None]
        slow = (threshold for policy in policies for threshold in policy.thresholds)
        trips: dict[str, int] = {}
        possible = ((clause, 0) for seen in group for clause in seen.clauses)
        for named, count in (*possible, *totals.trips.items()):
            clause = encodable(named)
            if clause not in name.reasons and len(name.reasons) < self._max_reasons:
                name.reasons.add(clause)
            label = clause if clause in name.reasons else OTHER
            trips[label] = trips.get(label, 0) + count
        return _complete(totals, slow, trips)


def _timed(totals: Totals) -> float:
    return totals.duration if totals.histogram else 0.0


# -- sums of lifetime counts, and what can be counted under a policy


def _add(one: Totals, other: Totals) -> Totals:
    """The counts of two circuits together.

    Of two histograms, the bounds that both have are kept, where nothing has to be guessed.
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
    if not one or not other:  # a circuit without `buckets` has no say
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
    """The clauses that an opening can be counted by; a tripper of the user's may name more."""
    closed = _telling(policy.closed)
    half_open = ("probe failed",) if policy.half_open is NEVER else _telling(policy.half_open)
    return tuple(dict.fromkeys((*closed, *half_open, "open_for()")))


def _telling(tripper: Tripper) -> Iterator[str]:
    """The clauses that a tripper can name when it is asked why it fired."""
    if not isinstance(tripper, _Both):
        yield repr(tripper)
    elif tripper.symbol == "&":
        yield from _telling(tripper.right if tripper.left.fires_on_success else tripper.left)
    else:
        yield from _telling(tripper.left)
        yield from _telling(tripper.right)
