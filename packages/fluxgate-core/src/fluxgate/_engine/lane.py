"""Lane: how a healthy call is counted without a lock.

A circuit opens by a failure, a slow call, or the success that completes a minimum. Any
other fast success can't change a decision, so its front only appends the duration to the journal
of the current lane (`list.append` is atomic, on free-threaded builds, too). The journal is
drained into window and totals when it holds a batch, and before anything is recorded or read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fluxgate._engine.phase import Phase

BATCH = 255
"""A journal longer than this is drained. The fronts have it as a literal."""

_FULL: Final = (None,) * (BATCH + 1)
"""The beginning of a retired lane; a duration is never None."""


class Lane(list[Any]):
    """The way in and out of a healthy call, and the journal that it appends to.

    It is its own journal (durations in seconds of fast successes that are yet to be counted),
    since each attribute that need not be read makes the call some hundredths cheaper.

    Attributes:
        phase: the phase that admits through it.
        probe: None, as of an admission without a probe slot; to read a class's attribute would take
            the interpreter several times as long.
        fast_below: seconds; a success that took less goes to the journal. -inf: the lane is down,
            every outcome takes the lock.
        until: clock time of the end of the window's current bucket, in which the journal's calls
            have ended.
        at: clock time when it was made, inside that bucket.
        steady: whether it stays up for as long as the window holds the tripper's minimum of calls.
    """

    __slots__ = ("at", "fast_below", "phase", "probe", "steady", "until")

    def __init__(
        self, phase: Phase, fast_below: float, until: float, at: float, steady: bool
    ) -> None:
        super().__init__()
        self.phase = phase
        self.probe = None
        self.fast_below = fast_below
        self.until = until
        self.at = at
        self.steady = steady

    def retire(self) -> None:
        """Close this lane: late appends find it full and drain it themselves."""
        if not self or self[0] is not None:
            self[:0] = _FULL  # one step: it is retired or it is not, whatever interrupts us

    def take(self) -> list[float]:
        """Remove what a retired lane has besides what fills it, and return it.

        The list stays the same, never a new one in its place: a front may hold it.
        """
        begin = len(_FULL)
        batch: list[float] = self[begin:]
        del self[begin : begin + len(batch)]
        return batch
