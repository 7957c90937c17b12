"""Presence: which processes there are in a fleet, whatever their circuits do.

Each process that has circuits says now and then that it is there. It does so as it reports on a
circuit, under a name that no circuit has; so a store needs no verb for it. Whoever ends says
farewell; whoever is killed doesn't, and is known as absent for some minutes.
"""

from __future__ import annotations

from typing import Final

from fluxgate._values import Record
from fluxgate.fleet.store import (
    MIN_TTL,
    REPORT_KEPT,
    RESERVED,
    Counts,
    Exchange,
    Shape,
    Store,
    View,
)

NAME: Final = f"{RESERVED}processes"
"""The name under which the processes report."""
EVERY: Final = 4.0
"""Seconds between two reports of a process that is busy; one that rests is as slow as its heart."""
ABSENT: Final = 15.0
"""Seconds without a report after which a process is taken for dead."""

_SHAPE: Final = Shape(60, REPORT_KEPT // 60_000 + 1, 0, ())


class FleetPresence(Record):
    """A process of a fleet, whatever its circuits do.

    Attributes:
        process: its name in the fleet, `HOST:PID:DIGITS`; unique.
        host: the host's name, shortened; empty if the name has none.
        pid: its process id there; None if the name has none.
        age: seconds since it was last heard of.
        absent: whether that is so long ago that it must be dead, or cut off from the store. One
            that has ended in order is no longer listed; an absent one is for ten minutes.
    """

    process: str
    host: str
    pid: int | None
    age: float
    absent: bool


class Presence:
    """The reports of this process; for the flusher's thread alone.

    Attributes:
        forked: whether this process has forked: then it may be one that only begets others, and
            is not counted before a circuit of its own is called again.
        withdrawn: whether it has withdrawn: it is not counted before that, either.
    """

    def __init__(self) -> None:
        self.forked = self.withdrawn = False
        self._calls: int | None = None  # of its circuits, when it was looked at last
        self._called = False  # since then
        self._here = False  # whether it has said that it is here
        self._at = -EVERY
        self._epoch = 0
        self._left = False

    @property
    def silent(self) -> bool:
        """Whether this process has forked or withdrawn, and was not called since."""
        return (self.forked or self.withdrawn) and not self._called

    def called(self, calls: int) -> bool:
        """Whether it was called since then, now that its circuits have so many calls.

        What a server calls while it loads its application, before it forks, is no such call.
        """
        known, self._calls = self._calls, calls
        self._called = known is not None and calls > known
        return self._called

    def due(self, now: float) -> bool:
        """Whether it is time for a report."""
        return not self._left and now >= self._at + EVERY

    def request(self, now: float) -> Exchange:
        """The exchange that says that this process is here."""
        self._at, self._here = now, True
        return self._exchange("here", Counts(1))

    def answered(self, view: View) -> None:
        """Learn the epoch, should somebody have moved what is no circuit."""
        self._epoch = view.epoch

    def leave(self, store: Store) -> None:
        """Say farewell."""
        self._left = True
        store.exchange([self._exchange("", Counts())])

    def fall_silent(self, store: Store, calls: int) -> None:
        """Take back that it is here, until its circuits have had more calls than these."""
        self.withdrawn, self._called, self._calls = True, False, calls
        self.withdraw(store)

    def withdraw(self, store: Store) -> None:
        """Take back that it is here, if it has said so: it serves nobody."""
        if self._here:
            store.exchange([self._exchange("", Counts())])
            self._here, self._at = False, -EVERY

    def _exchange(self, report: str, delta: Counts) -> Exchange:
        return Exchange(NAME, self._epoch, _SHAPE, delta, report=report, ttl=MIN_TTL)


def presences(store: Store) -> list[FleetPresence]:
    """The processes of a fleet by name, those that are absent included."""
    (reports,) = store.reports([NAME], REPORT_KEPT)
    found: list[FleetPresence] = []
    for process, _, age in sorted(reports):
        host, pid = host_and_pid(process)
        seconds = age / 1000
        found.append(FleetPresence(process, host, pid, seconds, seconds >= ABSENT))
    return found


def host_and_pid(process: str) -> tuple[str, int | None]:
    """The parts of a process's name; empty and None where it has none."""
    host, _, rest = process.partition(":")
    pid = rest.partition(":")[0]
    return (host, int(pid)) if pid.isdecimal() and len(pid) < 19 else ("", None)
