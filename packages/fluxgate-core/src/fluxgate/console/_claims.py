"""Claims: an operation is done once, and an actor does one a second, whichever process is asked.

In a fleet the store keeps them, under names that no circuit has; a claim is a move of such a name,
and of those who move it one wins. The claim of an operation also holds its entry of the audit, so
that every process shows what was done in another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from hashlib import blake2b
from typing import Final, Protocol

from fluxgate._locks import ProcessLock
from fluxgate._naming import printable
from fluxgate._values import MAX_SECONDS
from fluxgate.console._names import shown
from fluxgate.console._tokens import HOUR
from fluxgate.console._view import Entry
from fluxgate.fleet import Fleet
from fluxgate.fleet.store import DAY, MAX_REASON, MIN_TTL, RESERVED, Move, Store, View
from fluxgate.state import State

PAUSE: Final = 1.0
"""Seconds between two controls of one actor."""
BATCH: Final = 1000
"""Claims that one reading reads, at most; the page of a process that starts has all soon."""
TIMEOUT: Final = 2.0
"""Seconds that a claim waits for the store, at most."""
OPERATION: Final = f"{RESERVED}operation:"
_ACTOR: Final = f"{RESERVED}actor:"
_LONGEST: Final = MAX_REASON - 20
_LATEST: Final = 1e11
"""Seconds since the epoch (the year 5138)."""


class Claim(StrEnum):
    """The outcome of a claim."""

    WON = "won"
    """Nobody has done it: do it."""
    REPEATED = "repeated"
    """It was done."""
    UNCERTAIN = "uncertain"
    """It is being done, or nobody knows whether it was: the store failed in the middle of it."""
    SOON = "soon"
    """The actor has done something else less than a second ago."""


class Claims(Protocol):
    """Where claims are kept."""

    def claim(self, operation: str, actor: str) -> Claim:
        """Claim an operation for an actor. May raise `StoreError`."""
        ...

    def note(self, entry: Entry) -> None:
        """Keep the outcome of an operation that was claimed. May raise `StoreError`."""
        ...


class LocalClaims:
    """The claims of the one process that there is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = ProcessLock()
        self._operations: dict[str, float] = {}  # by id: when their tokens have expired
        self._actors: dict[str, float] = {}  # by name: when they may act again

    def claim(self, operation: str, actor: str) -> Claim:
        now = self._clock()
        with self._lock.here():
            for kept in (self._operations, self._actors):
                for each in [each for each, until in kept.items() if until <= now]:
                    del kept[each]
            if operation in self._operations:
                return Claim.REPEATED
            if actor in self._actors:
                return Claim.SOON
            self._actors[actor] = now + PAUSE
            self._operations[operation] = now + 2 * HOUR
        return Claim.WON

    def note(self, entry: Entry) -> None:
        pass


class FleetClaims:
    """The claims of all processes of a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def claim(self, operation: str, actor: str) -> Claim:
        digest = blake2b(actor.encode(errors="surrogatepass"), digest_size=16).hexdigest()
        names = [OPERATION + operation, _ACTOR + digest]

        def ask(store: Store) -> Claim:
            done, acted = store.read(names)
            if done.known:
                return _of_known(done)
            if acted.known and acted.remaining:
                return Claim.SOON
            pause = round(PAUSE * 1000)
            paced = Move(acted.name, acted.epoch, 0, State.OPEN, pause, ttl=MIN_TTL)
            if not store.move(paced).won:
                return Claim.SOON
            claimed = Move(done.name, 0, 0, State.OPEN, ttl=DAY)
            return Claim.WON if store.move(claimed).won else Claim.UNCERTAIN

        return self._fleet._flusher.ask(ask, TIMEOUT)

    def note(self, entry: Entry) -> None:
        name = f"{OPERATION}{entry.operation}"
        move = Move(name, None, 0, State.OPEN, reason=_written(entry), ttl=DAY)
        self._fleet._flusher.ask(lambda store: store.move(move), TIMEOUT)


def _of_known(view: View) -> Claim:
    """The answer to an operation that somebody has claimed before."""
    entry = entry_of(view, "")
    return Claim.REPEATED if entry is not None and entry.outcome == "done" else Claim.UNCERTAIN


def _written(entry: Entry) -> str:
    fields = (
        f"{entry.at:.3f}",
        entry.id,
        entry.action,
        "" if entry.seconds is None else f"{entry.seconds:g}",
        str(entry.before or ""),
        str(entry.after or ""),
        entry.outcome,
        printable(entry.actor, 64),
        printable(entry.address or "", 45),
        entry.note or "",  # the last: it is the part that can be cut
    )
    return "\t".join(fields)[:_LONGEST]


def entry_of(view: View, name: str) -> Entry | None:
    """The entry in the claim of an operation; None where it isn't noted yet, or can't be read.

    Args:
        view: the claim.
        name: the circuit's name, from its id.
    """
    fields = view.reason.split("\t")
    if len(fields) != 10:
        return None
    at, circuit, action, seconds, before, after, outcome, actor, address, note = fields
    try:
        when, how_long = float(at), float(seconds) if seconds else None
        # What no clock says, and NaN, could be neither shown nor sent.
        if not 0 < when <= _LATEST or not (how_long is None or 0 < how_long <= MAX_SECONDS):
            return None
        return Entry(
            at=when,
            actor=shown(actor),
            address=shown(address) or None,
            circuit=shown(name),
            id=circuit,
            action=action,
            seconds=how_long,
            note=shown(note) or None,
            before=State(before) if before else None,
            after=State(after) if after else None,
            outcome=outcome,
            why=None,
            operation=view.name.removeprefix(OPERATION),
        )
    except ValueError:
        return None


class UsedControls:
    """The latest controls that were used in any process, by the claims of their operations.

    A claim is there for a day, and a reading comes each second; so each is read until it holds its
    entry, and then no more.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._latest: list[tuple[float, View]] = []  # by time, newest first
        self._noted: set[str] = set()  # claims whose entry was read
        self._asked: set[str] = set()

    def read(self, store: Store, names: Iterable[str]) -> list[View]:
        """The claims with the latest entries, newest first.

        Args:
            store: the fleet's.
            names: all reserved names in it.
        """
        here = {name for name in names if name.startswith(OPERATION)}
        self._noted &= here
        self._asked &= here
        self._latest = [each for each in self._latest if each[1].name in here]
        # Those first that have not been read yet: some never get an entry, for the store failed.
        left = sorted(here - self._noted, key=lambda name: (name in self._asked, name))[:BATCH]
        for view in store.read(left) if left else ():
            self._asked.add(view.name)
            if (entry := entry_of(view, "")) is not None:
                self._noted.add(view.name)
                self._latest.append((entry.at, view))
        self._latest.sort(key=lambda each: -each[0])
        del self._latest[self._most :]
        return [view for _, view in self._latest]


def circuit_in(view: View) -> str:
    """The id of the circuit that a claim is about; empty where there is none."""
    return view.reason.partition("\t")[2].partition("\t")[0]
