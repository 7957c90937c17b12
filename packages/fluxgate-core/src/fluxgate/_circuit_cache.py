"""A bounded cache of circuits by name, with eviction (CLOCK); the store of a `Registry`.

`known` has weak references to all living circuits; `kept` has strong ones to those in the cache.
Both are plain dicts, whose reads and writes are atomic, so lookups take no lock. Insertion and
eviction take one, and still keep everything consistent after every line: garbage collection and
signal handlers can run inside it on the same thread and re-enter this module, and other threads
run beside it where the lock was given up. So everything here is a dict or a list, each step of
which is atomic, on free-threaded builds, too. An `OrderedDict` can crash CPython 3.13t there.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Final, ParamSpec, TypeVar

from fluxgate._engine.circuit import Circuit
from fluxgate._locks import ProcessLock
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.metric import Info
from fluxgate.policy import Policy
from fluxgate.state import State

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_PATIENCE: Final = 1.0
"""Seconds to wait for another thread that is making a circuit."""
_LOOKS: Final = 4
"""How many circuits that could not be evicted are checked again with each insertion."""


class Ref(weakref.ref[Circuit]):
    """A weak reference to a circuit of a cache, with its initial state and policy."""

    __slots__ = ("cache", "key", "policy", "state")

    cache: weakref.ref[CircuitCache]
    key: str
    state: State
    policy: Policy

    def is_irreplaceable(self, circuit: Circuit) -> bool:
        """Whether no new circuit could replace it, whatever its state is."""
        if circuit.policy is not self.policy:
            return True
        # A new one would let calls through until it has heard of the fleet.
        return circuit.fleet is not None and circuit.fleet.owns()

    def is_gone(self) -> bool:
        """Whether the cache, or the registry's name, is not there any more."""
        cache = self.cache()
        return cache is None or cache.known.get(self.key) is not self

    def keep(self) -> None:
        """Put the circuit back into the cache if a new one could not replace it."""
        cache, circuit = self.cache(), self()
        if cache is None or circuit is None:
            return
        if circuit.state is not self.state or self.is_irreplaceable(circuit):
            cache.keep(circuit, self)


class Entry:
    """A circuit in the cache, with its two fronts."""

    __slots__ = ("asynchronous", "circuit", "ref", "sync", "used")

    def __init__(self, circuit: Circuit, ref: Ref) -> None:
        self.circuit = circuit
        self.ref = ref
        self.sync = CircuitBreaker._over(circuit)
        self.asynchronous = AsyncCircuitBreaker._over(circuit)
        self.used = False  # looked up since it was last considered for eviction

    def is_evictable(self) -> bool:
        """Whether a new circuit could replace this one.

        So it is if nothing in it was set by hand, and it is not open, or abandoned.
        """
        circuit, ref = self.circuit, self.ref
        if ref.is_irreplaceable(circuit):
            return False
        if circuit.state in (State.OPEN, State.HALF_OPEN):
            return _is_abandoned(circuit.info(), ref.policy)
        return circuit.state is ref.state


def _is_abandoned(info: Info, policy: Policy) -> bool:
    """Whether an open or half-open circuit gets no calls any more.

    Open: no call came for a second full open period. Half-open: no probe came for `probe_timeout`.
    """
    age = time.time() - info.since + 0.001  # a wall clock's seconds are rounded
    if info.state is State.HALF_OPEN:
        return not info.probes and age >= policy.probe_timeout
    return info.open_for is not None and age >= 2 * info.open_for


class CircuitCache:
    """A bounded cache; circuits that must not be evicted may exceed it.

    Args:
        bound: how many circuits to keep, 1 or more.
    """

    __slots__ = (
        "__weakref__",
        "_dead",
        "_lock",
        "_making",
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
        self._dead: list[Ref] = []  # dead references that are still in `known`
        self._ring = Rounds()  # in the order of eviction
        self._pinned = Rounds()  # those not evictable when last checked
        self._making: list[str] = []  # names whose circuit is being made
        self._warned = False
        self._lock = ProcessLock()
        _caches.add(self)

    def living(self) -> list[tuple[str, Circuit]]:
        """Every living circuit, in the order in which they were made."""
        refs = list(self.known.values())  # one step: nothing can come between
        return [(ref.key, circuit) for ref in refs if (circuit := ref()) is not None]

    def find(self, key: str) -> Circuit | None:
        """The living circuit of that name, or None."""
        ref = self.known.get(key)
        return None if ref is None else ref()

    def enter(
        self,
        key: str,
        make: Callable[[str], Circuit],
        made: Callable[[str, Circuit], object],
    ) -> Entry:
        """The entry of that name; `make` makes its circuit if there is none.

        `made` is called with a circuit that was made, before anybody else has it. Its state at
        that time is what a new one would have again; what `made` does to it must not be lost.
        """
        entry, evicted = self.exclusively(self._enter, key, make, made)
        del evicted  # outside the lock: objects that a circuit holds may have finalisers
        return entry

    def _enter(
        self,
        key: str,
        make: Callable[[str], Circuit],
        made: Callable[[str, Circuit], object],
    ) -> tuple[Entry, list[Entry]]:
        circuit = self.find(key)
        if circuit is None:
            ref, circuit = self._make(key, make)
            made(key, circuit)
        else:
            ref, circuit = self._note(key, circuit)
        entry = self.kept.get(key)
        if entry is not None:
            return entry, []
        evicted = self._make_room()
        entry = self.kept.setdefault(key, Entry(circuit, ref))
        self._ring.add(key)
        return entry, evicted

    def _make(self, key: str, make: Callable[[str], Circuit]) -> tuple[Ref, Circuit]:
        try:
            self._making.append(key)  # before `make` reads any settings: see `Registry.declare`
            return self._note(key, make(key))  # user code, which may re-enter this module
        finally:
            if key in self._making:
                self._making.remove(key)

    def is_in_use(self, key: str) -> bool:
        """Whether a circuit of that name is living or being made."""
        return key in self._making or self.find(key) is not None

    def exclusively(self, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `step` under the lock in which circuits are made and evicted.

        The lock is given up after a while, and the step then runs without it. Otherwise two
        deadlocks are possible. A finaliser that runs inside the lock may wait for a circuit's lock,
        whose holder may, in a finaliser of its own, wait for this one. Or a factory imports a
        module that another thread is importing, and that module looks up a circuit. Each step is
        correct without the lock, too: the lock only avoids that two threads make the same circuit
        and one of the two is thrown away.
        """
        return self._lock.exclusively(lambda _: step(*args, **kwargs), _PATIENCE)

    def forget(self, key: str) -> bool:
        """Remove a circuit and return whether it was there. References to it stay valid."""
        removed = self.exclusively(self._forget, key)  # it dies after the lock is released
        return removed is not None

    def _forget(self, key: str) -> Circuit | None:
        ref = self.known.pop(key, None)
        circuit = None if ref is None else ref()
        self._ring.discard(key)
        self._pinned.discard(key)
        self.kept.pop(key, None)
        return circuit

    def _note(self, key: str, circuit: Circuit) -> tuple[Ref, Circuit]:
        """Register a circuit and return it, or the one that was registered meanwhile."""
        for _ in range(len(self._dead)):
            dead = _popped(self._dead)
            key_of_dead = getattr(dead, "key", None)  # missing where its making was interrupted
            if key_of_dead is not None and self.known.get(key_of_dead) is dead:
                self.known.pop(key_of_dead, None)
        ref = Ref(circuit, self._dead.append)
        ref.cache = weakref.ref(self)
        ref.key, ref.state, ref.policy = key, circuit.state, circuit.policy
        there = self.known.setdefault(key, ref)
        other = there()
        if other is not None:
            ref, circuit = there, other
        else:
            self.known[key] = ref
        # By identity: all refs to one circuit are equal.
        if all(keeper is not ref for keeper in circuit.keepers):
            known = (keeper for keeper in circuit.keepers if not keeper.is_gone())
            circuit.keepers = (*known, ref)
        return ref, circuit

    def keep(self, circuit: Circuit, ref: Ref) -> None:
        """Put a circuit back that was evicted, and has been set by hand or has opened since.

        Else its name would find a new one as soon as nobody holds this one. Called under the
        circuit's lock, so it takes none, and evicts nobody: the next new circuit does. `_make_room`
        looks once more after it has removed an entry, and this comes after the change: one of the
        two sees the other.
        """
        key = ref.key
        if key not in self.kept and not ref.is_gone():
            self.kept.setdefault(key, Entry(circuit, ref))
            self._ring.add(key)
            if ref.is_gone():  # removed from the registry meanwhile
                self.kept.pop(key, None)

    def _make_room(self) -> list[Entry]:
        """Remove as many entries as exceed the bound with one more; the caller drops them.

        The CLOCK algorithm: a lookup sets a flag, which saves a circuit once. Circuits that are
        not evictable are kept apart, so that the scan does not pass them; a few of them are checked
        again each time. Each step of the scan is paid for by a lookup that set a flag, by a move to
        the others, or by the new circuit, so the amortised cost is constant.
        """
        evicted: list[Entry] = []
        kept, ring, pinned = self.kept, self._ring, self._pinned
        excess = len(kept) + 1 - self.bound
        if excess <= 0:
            return evicted
        if len(ring) + len(pinned) < len(kept):  # an interrupt has lost one
            self._restore_order()
        for key in pinned.following(min(len(pinned), _LOOKS)):
            entry = kept.get(key)
            if entry is None or entry.is_evictable():
                pinned.discard(key)
                ring.add(key)
        for key in ring.following(2 * len(ring)):  # the first time may only clear a flag
            entry = kept.get(key)
            if entry is not None and entry.used:
                entry.used = False
                continue
            ring.discard(key)
            if entry is not None and not entry.is_evictable():
                pinned.add(key)
            elif (gone := kept.pop(key, None)) is not None:
                if not gone.is_evictable():  # it has been set by hand, or has opened, since
                    kept.setdefault(key, gone)
                    pinned.add(key)
                    continue
                evicted.append(gone)
                if len(evicted) >= excess:
                    break
        if len(evicted) < excess and not self._warned:
            self._warned = True
            _warn(len(kept) + 1, self.bound)
        return evicted

    def _restart(self) -> None:
        """Reset in a forked child: a thread that is not there may have been in the middle."""
        self._making.clear()
        self._restore_order()

    def _restore_order(self) -> None:
        """Put every entry back into the order of eviction: one may have been on its way there."""
        for key in list(self.kept):
            if key not in self._pinned:
                self._ring.add(key)


class Rounds:
    """Names that are gone through in turn, in rounds without end.

    A round is a copy of the names, from which one after the other is taken. So a name keeps its
    place while it is looked at, and can't be lost on its way to the end of a queue; one that is
    added comes after all others. Copying a round costs about as much as going through it.
    """

    __slots__ = ("_left", "_names")

    def __init__(self) -> None:
        self._names: dict[str, None] = {}
        self._left: list[str] = []  # of this round, the next one last

    def add(self, name: str) -> None:
        self._names[name] = None

    def discard(self, name: str) -> None:
        self._names.pop(name, None)

    def following(self, count: int) -> Iterator[str]:
        """The next `count` names; fewer if none is left. Names may come and go meanwhile."""
        for _ in range(count):
            name = _popped(self._left)
            while name not in self._names:  # None at the end of a round, or one that is gone
                if name is None:
                    left = list(self._names)
                    left.reverse()
                    self._left = left
                    if not left:
                        return
                name = _popped(self._left)
            yield name

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)


def _popped(items: list[T]) -> T | None:
    """The last item, removed; None if the list is empty by now."""
    try:
        return items.pop()
    except IndexError:
        return None


def _warn(count: int, bound: int) -> None:
    import logging  # not at import: it is a third of what importing fluxgate would cost

    logging.getLogger("fluxgate").warning(
        "a registry holds %d circuits, more than max_circuits=%d, and can evict none: those that "
        "are open or set by hand stay; raise max_circuits, or see why there are so many",
        count,
        bound,
    )


_caches: weakref.WeakSet[CircuitCache] = weakref.WeakSet()


def _restart_all() -> None:
    for cache in list(_caches):
        cache._restart()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart_all)
