"""Circuits of a fleet as a source of the console: as the store has them, with each process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

from fluxgate._engine.circuit import Circuit
from fluxgate.breaker import CircuitBreaker
from fluxgate.console._audit import KEPT
from fluxgate.console._claims import UsedControls, circuit_in, entry_of
from fluxgate.console._evidence import evidence_of
from fluxgate.console._history import History, worst
from fluxgate.console._names import kept, shown
from fluxgate.console._rates import Rates
from fluxgate.console._reading import Context, Item, Reading, magnitude
from fluxgate.console._view import Entry, ProcessRow, Row
from fluxgate.console._words import Words
from fluxgate.fleet import Fleet, FleetCircuit, FleetPresence, FleetProcess
from fluxgate.fleet._circuits import FleetLook, circuit_of, look_at, process_of
from fluxgate.fleet.store import Report, Store, View, key_of
from fluxgate.metric import Info, Snapshot
from fluxgate.signals import Reason
from fluxgate.state import State

TIMEOUT: Final = 2.0
"""Seconds that a reading waits for the store, at most."""
EACH: Final = 1e-3
"""Seconds more for each circuit: a host that is busy with an outage takes longer for many, and what
came too late would come too late each time."""
EXACT: Final = 3.0
"""Seconds by which two readings of one time may differ: by their precision, and on their way."""
REFUSING: Final = frozenset({State.OPEN, State.FORCED_OPEN})


class FleetItem(Item):
    """A circuit of a fleet.

    Its state is the worst of the fleet's and of its processes': each of them may have opened by
    itself while the fleet is closed.

    Args:
        view: the circuit as the store has it.
        reports: what its processes report.
        breakers: the breakers of its name in this process, whose full name it has then.
        present: the processes of the fleet, by name.
        living: how many of them live.
    """

    def __init__(
        self,
        view: View,
        reports: Sequence[Report],
        breakers: Sequence[CircuitBreaker],
        present: dict[str, FleetPresence],
        living: int,
    ) -> None:
        self.view = view
        # Seconds since the epoch, of which the source knows: when its state began, and ends.
        self.since: float | None = None
        self.due: float | None = None
        self._living = living
        self.own: Sequence[FleetProcess] = ()
        state = view.state
        if reports:  # of few circuits
            heard = (report for report in reports if not _is_dead(report.process, present))
            self.own = [process_of(report) for report in sorted(heard)]
            states = (each.state for each in self.own if each.state is not None)
            state = worst((state, *states))
        trouble = 0
        if view.witnesses and view.state is State.CLOSED:
            trouble = magnitude(sum(bucket.counts.failures for bucket in view.buckets))
        name = breakers[0].name if breakers else view.name
        super().__init__(name, state, trouble, breakers)

    @cached_property
    def circuit(self) -> FleetCircuit:
        """The circuit, but for its processes."""
        return circuit_of(self.view, [])

    @property
    def info(self) -> Info | None:
        return self._info

    @cached_property
    def _info(self) -> Info | None:
        breakers = self.breakers
        return breakers[0].info() if breakers else None

    @property
    def reason(self) -> Reason | None:
        """Why it is in its state."""
        if self.state is self.view.state:
            return self.circuit.reason
        if self.info is not None and self.info.state is self.state:
            return self.info.reason
        said = next((each.reason for each in self.own if each.state is self.state), "")
        return Reason(said) if said else None

    def evidence(self, say: Words) -> tuple[str, ...]:
        circuit = self.circuit
        metrics = Snapshot(circuit.calls, circuit.failures, 0, 0.0, dict(circuit.slow_counts))
        breakers = self.breakers
        policy = breakers[0].policy if breakers else None
        return evidence_of(self.view.state, metrics, policy, circuit.probes, say)

    def _make_row(self, context: Context) -> Row:
        circuit, info = self.circuit, self.info
        known = self.state is circuit.state
        retry_after = circuit.retry_after
        if not known:
            retry_after = None if self.due is None else max(self.due - context.wall, 0.0)
        since = self.since
        slow = next(iter(circuit.slow_counts.values()), None)
        shadow = None if info is None else info.would_open or info.shadow
        refusing = sum(each.state in REFUSING for each in self.own)
        return Row(
            id=self.id,
            name=shown(self.name),
            state=self.state,
            # The reports follow the state within a second.
            open_in=refusing if refusing or self.state not in REFUSING else None,
            processes=max(self._living, refusing),
            since=since,
            reason=kept(self.reason),
            calls_rate=circuit.rate,
            failed=circuit.failures / circuit.calls if circuit.calls else None,
            slow=slow / circuit.calls if slow is not None and circuit.calls else None,
            refused_rate=self._refused_rate(context),
            retry_after=retry_after,
            reopens=circuit.reopens,
            shadow=kept(shadow),
            strip=context.history.strip(self.id, self.state, since, context.wall),
            reverts_in=circuit.reverts_in if known else None,
        )

    def times(self, now: float) -> tuple[float | None, float | None]:
        """Since when it is in its state, and when it is tried again, as this reading has it.

        Where processes have opened by themselves: since the first has, until the next is due.

        Args:
            now: seconds since the epoch.
        """
        if self.state is self.view.state:
            age = self.circuit.age if self.view.epoch else None
            return None if age is None else now - age, None
        own = [each for each in self.own if each.state is self.state]
        ages = [each.state_age for each in own if each.state_age is not None]
        left = [each.retry_after for each in own if each.retry_after is not None]
        return now - max(ages) if ages else None, now + min(left) if left else None

    def _refused_rate(self, context: Context) -> float | None:
        """Refusals of all processes a second: each reports its total once a second."""
        if not self.own:
            return 0.0 if self.state is State.CLOSED else None
        found: list[float] = []
        for each in self.own:
            if each.refused is not None:
                at = context.at - each.age
                (rate,) = context.rates.of(f"{self.id}/{each.process}", at, each.refused)
                if rate is not None:
                    found.append(rate)
        return sum(found) if found else None

    def processes(self, reading: Reading) -> tuple[ProcessRow, ...]:
        own = {each.process: each for each in self.own}
        found = [
            _process_row(presence, own.pop(presence.process, None), self.view.state)
            for presence in reading.presences or ()
        ]
        found += [_reporting(each) for each in own.values()]  # of a version without presences
        # By name alone: two that look alike may differ in what can't be compared, such as a pid.
        return tuple(sorted(found, key=lambda row: row.process))


def _is_dead(process: str, present: dict[str, FleetPresence]) -> bool:
    presence = present.get(process)
    return presence is not None and presence.absent


def _process_row(presence: FleetPresence, own: FleetProcess | None, fleet: State) -> ProcessRow:
    if own is not None:
        return _reporting(own)
    quiet = not presence.absent and fleet is State.CLOSED
    return ProcessRow(
        process=shown(presence.process),
        host=presence.host,
        pid=presence.pid,
        state=State.CLOSED if quiet else None,
        calls=None,
        failures=None,
        refused=None,
        reason=None,
        age=presence.age,
        absent=presence.absent,
    )


def _reporting(own: FleetProcess) -> ProcessRow:
    return ProcessRow(
        process=shown(own.process),
        host=own.host,
        pid=own.pid,
        state=own.state,
        calls=own.calls,
        failures=own.failures,
        refused=own.refused,
        reason=kept(Reason(own.reason)) if own.reason else None,
        age=own.age,
        absent=False,
    )


def _steady(old: float | None, new: float | None) -> float | None:
    """A time that is known to some seconds, as it was known before."""
    return old if old is not None and new is not None and abs(new - old) < EXACT else new


def _entries(claims: Sequence[View], items: Sequence[Item]) -> tuple[Entry, ...]:
    """The controls that were used, newest first, by what their claims hold."""
    if not claims:
        return ()
    names = {item.id: item.name for item in items}
    found = (entry_of(view, names.get(circuit_in(view), "")) for view in claims)
    return tuple(entry for entry in found if entry is not None)


class FleetSource:
    """The circuits of a fleet: all that its store has, and those of this process."""

    def __init__(
        self,
        fleet: Fleet,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.fleet = fleet
        self._clock = clock
        self._wall = wall
        self._times: dict[tuple[str, State, int], tuple[float | None, float | None]] = {}
        self._count = 0  # circuits in the store
        self._used = UsedControls(KEPT)

    def has(self, circuit: Circuit) -> bool:
        return circuit.is_of(self.fleet)

    def read(self, rates: Rates, history: History) -> Reading:
        """All circuits now.

        Raises:
            StoreError: the store can't be reached or used, or hasn't answered in time.
        """
        flusher = self.fleet._flusher
        look, claims = flusher.ask(self._look, TIMEOUT + EACH * self._count)
        own: dict[str, list[CircuitBreaker]] = {}
        for member in flusher.members():
            if (circuit := member.circuit) is not None:
                own.setdefault(member.key, []).append(CircuitBreaker._over(circuit))
        present = {each.process: each for each in look.processes}
        living = sum(not each.absent for each in look.processes)
        items: list[FleetItem] = []
        for view, reports in zip(look.views, look.reports, strict=True):
            breakers = own.pop(key_of(view.name), ()) if own else ()
            items.append(FleetItem(view, reports, breakers, present, living))
        items += [  # which nobody has called yet
            FleetItem(View(breakers[0].name), (), breakers, present, living)
            for breakers in own.values()
        ]
        context = Context(self._clock(), self._wall(), rates, history)
        self._date(items, context.wall)
        self._observe(items, context)
        return Reading(context, [*items], look.processes, _entries(claims, items))

    def _look(self, store: Store) -> tuple[FleetLook, list[View]]:
        """All that a store has, and the claims that hold the latest controls; in its thread."""
        look = look_at(store)
        self._count = len(look.views)  # also of a reading that nobody waits for any more
        return look, self._used.read(store, look.reserved)

    def _date(self, items: Sequence[FleetItem], now: float) -> None:
        """Say since when the circuits are in their states, and when they are tried again.

        Stores and processes say so to the second, at most: what is the same as far as one can know
        stays the same, or a page in which nothing changes would be another one each time.
        """
        known, self._times = self._times, {}
        for item in items:
            if not (item.view.epoch or item.own):
                continue
            key = (item.id, item.state, item.view.epoch)
            times = known.get(key, (None, None))
            if times[0] is None or item.state is not item.view.state:  # a move is made once
                since, due = item.times(now)
                times = _steady(times[0], since), _steady(times[1], due)
            item.since, item.due = self._times[key] = times

    @staticmethod
    def _observe(items: Sequence[FleetItem], context: Context) -> None:
        """Note the transitions of circuits that have no breaker here."""
        history, now = context.history, context.wall
        for item in items:
            if item.state is history.last(item.id):
                continue
            history.observe(item.id, item.state, item.since, item.reason, now)
