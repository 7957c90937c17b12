"""Rhythm: when the flusher comes.

Every 100 to 250 ms; at once when somebody waits for it; soon when failures pile up. A process in
which nothing is due for some seconds rests: its flusher sleeps until it is time to see whether the
store is still there, and comes within a tick of the first call (`_doorbell`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from fluxgate._bell import Bell

TICK: Final = (0.1, 0.25)
"""Seconds between two flushes, drawn anew each time so that processes don't keep step."""
IDLE: Final = (0.2, 0.25)
"""The same while nobody has anything to hand in."""
HURRY: Final = (0.03, 0.06)
"""The same while this process has probes: no more of them than there are slots do so at once."""
SOON: Final = (0.0, 0.05)
"""Seconds from the alarm that failures pile up to the flush: not everybody's at the same moment."""
SOONEST: Final = 0.1
"""Seconds that there are between two flushes, at least, however many failures pile up."""
REST: Final = 5.0
"""Seconds for which nothing was due, after which the flusher rests."""
HEARTBEAT: Final = 10.0
"""Seconds after which an idle process asks whether the store is still there."""

dice: Final = random.SystemRandom()
"""Dice of our own: `random`'s are the program's, which may have seeded them and fork afterwards."""


class Rhythm:
    """The flusher's sleep, and what ends it. All but `sleep` may be called anywhere.

    Attributes:
        clock: gives seconds.
        bell: wakes the sleeper.
        pace: seconds of a sleep, from and to.
        flushed_at: clock time of the last flush.
        stirred_at: clock time when anything was last due, but for a heartbeat.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.bell = Bell()
        self.pace = TICK
        self.flushed_at = 0.0
        self.stirred_at = clock()
        self._urgent = self._alarmed = self._roused = False  # why it was rung

    def wake(self) -> None:
        """Have the flusher come now."""
        self._urgent = True
        self.bell.ring()

    def alarm(self) -> None:
        """Have it come soon: failures pile up. Called under a circuit's lock, so it never waits."""
        self._alarmed = True
        self.bell.ring()

    def rouse(self) -> None:
        """End its rest: there are calls again. Called under a circuit's lock, too."""
        self._roused = True
        self.bell.ring()

    def tired(self) -> bool:
        """Whether nothing was due for so long that it may rest."""
        return self.clock() >= self.stirred_at + REST

    def heartbeat_due(self, now: float) -> bool:
        """Whether it is time to see whether the store is still there."""
        return now >= self.flushed_at + HEARTBEAT

    def sleep(self, *, rest: bool = False) -> None:
        """Wait until it is time for the next tick, or somebody wants one sooner.

        Args:
            rest: whether there is nothing to do before the next heartbeat, unless it is rung for.
        """
        now = self.clock()
        until = now + dice.uniform(*self.pace)
        if rest:
            until = max(until, self.flushed_at + HEARTBEAT + dice.uniform(*self.pace))
        while not self._urgent and now < until:
            rung = self.bell.wait(until - now)
            now = self.clock()
            if rung and self._alarmed:
                self._alarmed = False
                soon = max(now, self.flushed_at + SOONEST) + dice.uniform(*SOON)
                until = min(until, soon)
            if rung and self._roused:
                self._roused = False
                self.stirred_at = now
                until = min(until, now + dice.uniform(*TICK))
        # First: what comes from now on is for the next tick.
        self._urgent = self._alarmed = self._roused = False
