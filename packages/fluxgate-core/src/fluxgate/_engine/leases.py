"""Leases: what a phase has in place of probe slots of its own while the fleet owns it.

The fleet grants leases in the background, to processes whose calls want to probe. Guarded by the
circuit's lock; time is clock seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from fluxgate._tally import Thresholds
from fluxgate.signals import Outcome


class Lease(NamedTuple):
    """A probe that this process may make.

    Attributes:
        token: its number in the whole fleet.
        deadline: clock time at which it goes to another, used or not.
        wanted_until: clock time at which it is given back if no call has come for it; well before
            the deadline, so that a probe doesn't go on beside its successor's.
    """

    token: int
    deadline: float
    wanted_until: float


class Ended(NamedTuple):
    """A lease that is over: a probe's outcome, or None where it proved nothing."""

    token: int
    failed: bool | None = None
    elapsed: float = 0.0
    reached: Thresholds = ()


class Leases:
    """The leases of one owned phase in this process.

    Attributes:
        granted: those that no call has taken yet, the oldest first.
        wanted: how many calls would have probed since the fleet was last asked.
        ended: finished leases that are not yet reported to the fleet.
    """

    __slots__ = ("ended", "granted", "wanted")

    def __init__(self) -> None:
        self.granted: list[Lease] = []  # few; a deque's copy is no single step without the GIL
        self.wanted = 0
        self.ended: list[Ended] = []

    def take(self, now: float) -> Lease | None:
        """A lease for a call, if there is one with enough of its time left."""
        self.give_back(now)
        return self.granted.pop(0) if self.granted else None

    def end(self, token: int, outcome: Outcome, elapsed: float, reached: Thresholds) -> None:
        """Note how a probe ended."""
        if outcome is Outcome.SUCCESS or outcome is Outcome.FAILURE:
            self.ended.append(Ended(token, outcome is Outcome.FAILURE, elapsed, reached))
        else:
            self.ended.append(Ended(token))

    def give_back(self, now: float) -> None:
        """End the leases that no call has come for in time."""
        while self.granted and now >= self.granted[0].wanted_until:
            self.ended.append(Ended(self.granted.pop(0).token))
