"""The lane: how a healthy call is counted without a lock.

A circuit opens on bad news: a failure, a slow call, or the success that completes a minimum. Any
other fast success can't change a decision, so its shell only appends the duration to the journal
of the current lane (`list.append` is atomic, on free-threaded builds, too). The journal is
drained into window and totals when it holds a batch, and before anything is recorded or read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluxgate._phase import Phase

BATCH = 255
"""A journal longer than this is drained."""


class Lane:
    """What the way in and out of a healthy call reads.

    Attributes:
        phase: the phase that admits through it.
        fast: seconds; a success that took less goes to the journal. -inf: the lane is down, every
            outcome takes the lock.
        until: clock time of the end of the window's current bucket, in which the journal's calls
            have ended.
        at: clock time when it was made, inside that bucket.
        journal: durations (seconds) of fast successes that are yet to be counted.
        room: who appends, and then finds the journal longer than this, drains it. Retiring a lane
            takes its room away first and drains it second, so that nothing is left behind.
    """

    __slots__ = ("at", "fast", "journal", "phase", "room", "until")

    probe = None  # what goes through a lane holds no probe slot

    def __init__(self, phase: Phase, fast: float, until: float, at: float) -> None:
        self.phase = phase
        self.fast = fast
        self.until = until
        self.at = at
        self.journal: list[float] = []
        self.room = BATCH
