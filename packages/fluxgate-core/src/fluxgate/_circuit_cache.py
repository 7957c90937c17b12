"""The circuits of a registry: which of them it keeps alive, and which it lets go.

`known` holds every circuit that there is under a name, weakly; `kept` holds, strongly, those that
the registry keeps alive. Both are plain dicts: each read and each write is one step, so lookups
take no lock. Making and letting go take one, and yet leave the dicts right line by line, since
garbage collection and signal handlers can run inside it on the same thread and come back here.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fluxgate._engine.circuit import Circuit
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.metric import Info
from fluxgate.policy import Policy
from fluxgate.state import State

_PATIENCE: Final = 1.0
"""Seconds to wait for whoever is making a circuit."""
_LOOKS: Final = 4
"""How many of the circuits that could not go are looked at again each time one is made."""


class Ref(weakref.ref[Circuit]):
    """A circuit that may go, and how it began."""

    __slots__ = ("key", "policy", "state")

    key: str
    state: State
    policy: Policy


class Entry:
    """A circuit that is kept alive, with its two fronts."""

    __slots__ = ("asynchronous", "circuit", "ref", "sync", "used")

    def __init__(self, circuit: Circuit, ref: Ref) -> None:
        self.circuit = circuit
        self.ref = ref
        self.sync = CircuitBreaker._over(circuit)
        self.asynchronous = AsyncCircuitBreaker._over(circuit)
        self.used = False  # looked up since it was last considered for going

    def can_go(self) -> bool:
        """Whether a fresh circuit could stand in for this one.

        Nothing in it was set by hand then, and it isn't open, or not for anybody.
        """
        circuit, ref = self.circuit, self.ref
        if circuit.policy is not ref.policy:
            return False
        if circuit.state is State.OPEN or circuit.state is State.HALF_OPEN:
            return _forsaken(circuit.info(), ref.policy)
        return circuit.state is ref.state


def _forsaken(info: Info, policy: Policy) -> bool:
    """Whether nobody has come back to a circuit that has been open.

    It has waited in vain for as long as it was open, or has got no probes for as long as one may
    take.
    """
    age = time.time() - info.since + 0.001  # a wall clock's seconds are rounded
    if info.state is State.HALF_OPEN:
        return not info.probes and age >= policy.probe_timeout
    return info.open_for is not None and age >= 2 * info.open_for


class CircuitCache:
    """Circuits by name, at most `bound` of them kept alive as far as they let it."""

    __slots__ = (
        "__weakref__",
        "_dead",
        "_lock",
        "_pinned",
        "_ring",
        "_warned",
        "bound",
        "kept",
        "known",
    )

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.kept: dict[str, Entry] = {}
        self.known: dict[str, Ref] = {}
        self._dead: list[Ref] = []  # what is still in `known` and is no more
        self._ring: OrderedDict[str, Entry] = OrderedDict()  # who may go, the next one first
        self._pinned: OrderedDict[str, Entry] = OrderedDict()  # who could not, when last seen
        self._warned = False
        self._lock = threading.RLock()
        _caches.add(self)

    def living(self) -> list[tuple[str, Circuit]]:
        """Every circuit that there is, in the order in which they were made."""
        refs = list(self.known.values())  # one step: nothing can come between
        return [(ref.key, circuit) for ref in refs if (circuit := ref()) is not None]

    def find(self, key: str) -> Circuit | None:
        """The circuit of that name if there is one."""
        ref = self.known.get(key)
        return None if ref is None else ref()

    def enter(self, key: str, make: Callable[[str], Circuit]) -> Entry:
        """Keep the circuit of that name alive; `make` it if there is none."""
        with _Patiently(self._lock):
            circuit = self.find(key)
            if circuit is None:
                circuit = make(key)  # which may run anything, this included
            ref, circuit = self._note(key, circuit)
            entry = self.kept.get(key)
            if entry is not None:
                return entry
            let_go = self._make_room()
            entry = self.kept.setdefault(key, Entry(circuit, ref))
            self._ring[key] = entry
        del let_go  # outside the lock: what hangs on a circuit may have finalisers
        return entry

    def forget(self, key: str) -> bool:
        """Take a circuit out, and say whether it was there. Who holds it keeps it."""
        with _Patiently(self._lock):
            ref = self.known.pop(key, None)
            circuit = None if ref is None else ref()  # it dies after the lock is released
            self._ring.pop(key, None)
            self._pinned.pop(key, None)
            self.kept.pop(key, None)
        return circuit is not None

    def _note(self, key: str, circuit: Circuit) -> tuple[Ref, Circuit]:
        """Make a circuit known, unless there is one by now: then that is the one."""
        for _ in range(len(self._dead)):
            dead = _popped(self._dead)
            if dead is not None and self.known.get(dead.key) is dead:
                self.known.pop(dead.key, None)
        ref = Ref(circuit, self._dead.append)
        ref.key, ref.state, ref.policy = key, circuit.state, circuit.policy
        there = self.known.setdefault(key, ref)
        other = there()
        if other is not None:
            return there, other
        self.known[key] = ref
        return ref, circuit

    def _make_room(self) -> list[Entry]:
        """Take out as many as will be too many; the caller drops them.

        The CLOCK algorithm: a lookup sets a flag, which saves a circuit once. Those that can't go
        stand apart, so that nobody has to pass them all; a few are looked at each time, and come
        back as the last in turn. Each step is paid for by a lookup that set a flag, a move that
        pinned a circuit, or the circuit that this is for: on average they are few, however many
        circuits there are.
        """
        let_go: list[Entry] = []
        excess = len(self.kept) + 1 - self.bound
        if excess <= 0:
            return let_go
        ring, pinned = self._ring, self._pinned
        for _ in range(min(len(pinned), _LOOKS)):
            key, entry = _first(pinned)
            if entry is not None:
                (ring if entry.can_go() else pinned)[key] = entry
        for _ in range(2 * len(ring)):
            if len(let_go) >= excess:
                break
            key, entry = _first(ring)
            if entry is None:
                break
            if entry.used:
                entry.used = False
                ring[key] = entry
            elif not entry.can_go():
                pinned[key] = entry
            elif self.kept.get(key) is entry:
                self.kept.pop(key, None)
                let_go.append(entry)
        if len(let_go) < excess and not self._warned:
            self._warned = True
            _warn(len(self.kept) + 1, self.bound)
        return let_go

    def _restart(self) -> None:
        """Begin anew in a forked child, where whoever holds the lock may not exist."""
        self._lock = threading.RLock()
        for key, entry in list(self.kept.items()):  # it may have been about to be put there
            if key not in self._pinned:
                self._ring.setdefault(key, entry)


class _Patiently:
    """Holds a lock, or, where that takes too long, goes on without it.

    A finaliser that runs inside it may wait for a circuit's lock, whose holder may, in a finaliser
    of its own, wait for this one; or a factory may import a module which another thread is
    importing, and which asks for a circuit. What is done inside is right without the lock, too:
    it keeps two threads from making one circuit twice and throwing one away.
    """

    __slots__ = ("_held", "_lock")

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._held = self._lock.acquire(timeout=_PATIENCE)

    def __exit__(self, *error: object) -> None:
        if self._held:
            self._lock.release()


def _popped(refs: list[Ref]) -> Ref | None:
    """The last of them, taken out; None if there is none by now."""
    try:
        return refs.pop()
    except IndexError:
        return None


def _first(order: OrderedDict[str, Entry]) -> tuple[str, Entry] | tuple[str, None]:
    """The first in an order, taken out; None if there is none by now."""
    try:
        return order.popitem(last=False)
    except KeyError:
        return "", None


def _warn(count: int, bound: int) -> None:
    import logging  # not at import: it is a third of what importing fluxgate would cost

    logging.getLogger("fluxgate").warning(
        "a registry holds %d circuits, more than max_circuits=%d, and none can go: those that are "
        "open or set by hand stay; raise max_circuits, or see why there are so many",
        count,
        bound,
    )


_caches: weakref.WeakSet[CircuitCache] = weakref.WeakSet()


def _restart_all() -> None:
    for cache in list(_caches):
        cache._restart()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart_all)
