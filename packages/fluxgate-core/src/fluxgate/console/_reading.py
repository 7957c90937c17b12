"""Readings: all circuits of a source at one moment, worst first.

A source is the circuits of this process, those of a registry, or a fleet. What only a shown circuit
needs is made when it is shown, and once for each reading: of 5,000 circuits, a page has 200.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from fluxgate._engine.circuit import Circuit
from fluxgate.breaker import CircuitBreaker
from fluxgate.console._history import History
from fluxgate.console._names import id_of
from fluxgate.console._rates import Rates
from fluxgate.console._view import Entry, ProcessRow, Row
from fluxgate.console._words import Words
from fluxgate.fleet import Fleet, FleetPresence
from fluxgate.listeners._aggregate import WORST_FIRST
from fluxgate.metric import Info
from fluxgate.state import State

_SEVERITY: Final = {state: place for place, state in enumerate(WORST_FIRST)}


class Context(NamedTuple):
    """The surroundings of a reading, which rows are made with.

    Attributes:
        at: when the reading was made, by a clock that never goes back.
        wall: the same in seconds since the epoch.
        rates: of all circuits that have been shown.
        history: the transitions.
    """

    at: float
    wall: float
    rates: Rates
    history: History


class Item(ABC):
    """One circuit of a reading, all breakers of its name.

    Attributes:
        id: as in `Row`.
        name: its name, as it is.
        state: its state; of several breakers the worst.
        trouble: how much fails (`magnitude`): the order of circuits of one state.
    """

    def __init__(
        self, name: str, state: State, trouble: int, breakers: Sequence[CircuitBreaker]
    ) -> None:
        self.name = name
        self.id = id_of(name)
        self.state = state
        self.trouble = trouble
        # Weakly: a reading that kept its circuits would find them again in the next one, for ever.
        self._circuits = tuple(weakref.ref(breaker._circuit) for breaker in breakers)
        self._row: Row | None = None

    @property
    def breakers(self) -> list[CircuitBreaker]:
        """The breakers of that name in this process that still live; there may be none."""
        living = (ref() for ref in self._circuits)
        return [CircuitBreaker._over(circuit) for circuit in living if circuit is not None]

    @property
    def order(self) -> tuple[int, int, str]:
        """The key of the order: the worst come first."""
        return (_SEVERITY[self.state], -self.trouble, self.name)

    def row(self, context: Context) -> Row:
        """The row, the same one each time."""
        if self._row is None:
            self._row = self._make_row(context)
        return self._row

    @abstractmethod
    def _make_row(self, context: Context) -> Row: ...

    @property
    @abstractmethod
    def info(self) -> Info | None:
        """The circuit in this process, once for each reading; None where it has no breaker."""

    @abstractmethod
    def evidence(self, say: Words) -> tuple[str, ...]:
        """The numbers that decide, in sentences."""

    def processes(self, reading: Reading) -> tuple[ProcessRow, ...]:
        """The processes of the fleet, and the circuit's state in each; none without a fleet."""
        return ()


def magnitude(failures: int) -> int:
    """Failures by their number of binary digits: rows must not change places with each call."""
    return failures.bit_length()


class Reading:
    """All circuits at one moment.

    Attributes:
        context: when it was made, and what rows are made with.
        items: the circuits, worst first.
        by_id: the same by id.
        presences: the processes of the fleet, those that are absent included; None without one.
        audit: controls that were used, in all processes of a fleet; empty without one.
        counts: how many circuits are in each state; all states are there.
    """

    def __init__(
        self,
        context: Context,
        items: list[Item],
        presences: Sequence[FleetPresence] | None = None,
        audit: Sequence[Entry] = (),
    ) -> None:
        items.sort(key=lambda item: item.order)
        self.context = context
        self.items = items
        self.by_id = {item.id: item for item in items}
        self.presences = presences
        self.audit = audit
        self.counts = dict.fromkeys(WORST_FIRST, 0)
        for item in items:
            self.counts[item.state] += 1

    def row(self, item: Item) -> Row:
        """The row of a circuit."""
        return item.row(self.context)


class Source(Protocol):
    """Where circuits are read."""

    @property
    def fleet(self) -> Fleet | None:
        """The fleet, whose reading may fail with a `StoreError`; None: it is no fleet."""
        ...

    def has(self, circuit: Circuit) -> bool:
        """Whether it has a circuit of this process. It doesn't wait."""
        ...

    def read(self, rates: Rates, history: History) -> Reading:
        """All circuits now."""
        ...
