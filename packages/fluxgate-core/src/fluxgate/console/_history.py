"""History: the transitions of circuits, and the worst state of each of the last minutes.

It hears of transitions as any listener of all circuits does; that costs nothing until a circuit
moves. Of circuits that have no breaker in this process it learns what each reading shows.
"""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from fluxgate._engine.circuit import Circuit
from fluxgate._engine.everywhere import listen_to_each
from fluxgate._locks import ProcessLock
from fluxgate.console._names import id_of, kept, shown
from fluxgate.console._view import MINUTES, Change, Strip
from fluxgate.listeners._aggregate import WORST_FIRST
from fluxgate.signals import Listener, Origin, Reason, Signal, SignalKind
from fluxgate.state import State

EACH: Final = 30
"""Transitions that are kept of a circuit."""
ALL: Final = 20_000
"""Transitions that are kept of all circuits together."""
CIRCUITS: Final = 10_000
"""Circuits whose strips are kept: those that have moved last."""
SAME: Final = 5.0
"""Seconds within which a reading and a signal of the same state are one transition."""

_SEVERITY: Final = {state: place for place, state in enumerate(WORST_FIRST)}


def worst(states: Iterable[State]) -> State:
    """The worst of states; closed if there are none."""
    return min(states, key=_SEVERITY.__getitem__, default=State.CLOSED)


class _Minute(NamedTuple):
    """A minute in which a circuit moved.

    Attributes:
        number: minutes since the epoch.
        before: its state when the minute began.
        worst: the worst state in it.
        after: its state when the minute ended.
    """

    number: int
    before: State | None
    worst: State
    after: State


class History:
    """The transitions of the circuits of a source in this process since it was made; bounded.

    Args:
        wall: gives seconds since the epoch.
        has: whether a circuit is one of those; names don't tell, since two registries may have
            circuits of equal names. It is called on the path of calls: it must not wait.
        errors: whether the last errors stand in the evidence with their messages.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        *,
        has: Callable[[Circuit], bool] = lambda _: True,
        errors: bool = False,
    ) -> None:
        self.began = wall()
        self._errors = errors
        self._news: deque[Signal] = deque(maxlen=ALL)
        self._lock = ProcessLock()
        self._changes: OrderedDict[str, deque[Change]] = OrderedDict()
        self._count = 0
        self._minutes: OrderedDict[str, deque[_Minute]] = OrderedDict()
        news = self._news

        def listener_for(circuit: Circuit) -> Listener:
            known = weakref.ref(circuit)

            def hear(signal: Signal) -> None:
                # On the path of somebody's call, perhaps in a finaliser: no lock, and nothing to
                # wait for. Whoever reads sorts it in.
                if signal.kind is SignalKind.TRANSITION:
                    circuit = known()
                    if circuit is not None and has(circuit):
                        news.append(signal)

            return hear

        # A console that nobody holds any more must not live on as a listener.
        self.close = weakref.finalize(self, listen_to_each(listener_for))
        self.close.atexit = False

    def catch_up(self) -> None:
        """Sort in what has been heard since the last time."""
        with self._lock.here():
            while self._news:
                signal = self._news.popleft()
                self._note(
                    id_of(signal.circuit_name),
                    change_of(
                        signal.timestamp,
                        signal.old_state,
                        signal.new_state,
                        signal.reason,
                        signal.origin,
                        errors=self._errors,
                    ),
                )

    def last(self, circuit: str) -> State:
        """The state of a circuit after its last transition; closed, where none is known."""
        minutes = self._minutes.get(circuit)
        return minutes[-1].after if minutes else State.CLOSED

    def observe(
        self, circuit: str, state: State, since: float | None, reason: Reason | None, now: float
    ) -> None:
        """Note a state that a reading shows and that is not the `last` one: no signal said so.

        Args:
            circuit: its id.
            state: its state.
            since: when it entered that state, seconds since the epoch; None where nobody knows.
            reason: why.
            now: when it was read.
        """
        with self._lock.here():
            minutes = self._minutes.get(circuit)
            last = minutes[-1].after if minutes else None
            at = now if since is None else min(since, now)
            why = Reason("unknown") if reason is None else reason
            self._note(circuit, change_of(at, last, state, why, Origin.PEER, errors=False))

    def _note(self, circuit: str, change: Change) -> None:
        changes = self._changes.get(circuit)
        if changes and _is_same(changes[-1], change):
            return
        if changes is None:
            changes = self._changes[circuit] = deque()
        self._changes.move_to_end(circuit)
        changes.append(change)
        self._count += 1
        if len(changes) > EACH:
            changes.popleft()
            self._count -= 1
        elif self._count > ALL:
            self._drop_one()
        self._mark(circuit, change)

    def _drop_one(self) -> None:
        """Drop the oldest transition of the circuit that has not moved for longest."""
        oldest, changes = next(iter(self._changes.items()))
        if changes:  # else it was made as the process forked
            changes.popleft()
            self._count -= 1
        if not changes:
            del self._changes[oldest]

    def _mark(self, circuit: str, change: Change) -> None:
        minutes = self._minutes.get(circuit)
        if minutes is None:
            minutes = self._minutes[circuit] = deque(maxlen=MINUTES + 1)
            if len(self._minutes) > CIRCUITS:
                self._minutes.popitem(last=False)
        self._minutes.move_to_end(circuit)
        number = int(change.at // 60)
        if minutes and number <= minutes[-1].number:  # a clock that was set back, too
            last = minutes[-1]
            minutes[-1] = last._replace(worst=worst((last.worst, change.new)), after=change.new)
            return
        before = minutes[-1].after if minutes else change.old
        known = [state for state in (before, change.new) if state is not None]
        minutes.append(_Minute(number, before, worst(known), change.new))

    # -- reading

    def changes(self, circuit: str) -> tuple[Change, ...]:
        """The transitions of a circuit, newest first."""
        with self._lock.here():
            return tuple(reversed(self._changes.get(circuit, ())))

    def strip(self, circuit: str, state: State, since: float | None, now: float) -> Strip:
        """The worst state in each of the last `MINUTES` minutes.

        Args:
            circuit: its id.
            state: its state now.
            since: when it entered that state; None where nobody knows.
            now: seconds since the epoch.
        """
        end = int(now // 60)
        begin = end - MINUTES + 1
        with self._lock.here():
            moves = tuple(self._minutes.get(circuit, ()))
        if not moves:
            first = int((self.began if since is None else since) // 60)
            return tuple(state if begin + n >= first else None for n in range(MINUTES))
        first = int(self.began // 60)
        found: list[State | None] = []
        place, current = 0, moves[0].before
        for number in range(begin, end + 1):
            while place < len(moves) and moves[place].number < number:
                current = moves[place].after
                place += 1
            if place < len(moves) and moves[place].number == number:
                found.append(moves[place].worst)
            else:
                known = place > 0 or number >= first
                found.append(current if known else None)
        if found[-1] is None or _SEVERITY[state] < _SEVERITY[found[-1]]:
            found[-1] = state
        return tuple(found)


def change_of(
    at: float, old: State | None, new: State, reason: Reason, origin: Origin, *, errors: bool
) -> Change:
    """A transition as pages show it."""
    found = reason if errors else reason.without_messages
    listed = tuple((shown(label), count) for label, count in found.errors)
    return Change(at, old, new, kept(reason) or reason, str(origin), listed)


def _is_same(known: Change, other: Change) -> bool:
    """Whether a transition is one that is known: two breakers of a name, a signal and a reading."""
    return known.new is other.new and abs(known.at - other.at) < SAME
