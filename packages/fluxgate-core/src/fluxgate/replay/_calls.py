"""`Calls`: a trace in the order of starts and in the order of ends, as a replay walks it."""

from __future__ import annotations

from array import array
from itertools import accumulate
from math import inf
from typing import Any

from fluxgate.replay._numpy import np
from fluxgate.replay._trace import Trace


class Calls:
    """A trace, prepared once for any number of policies.

    Attributes:
        start: Unix seconds, ascending; the place of a call is its index here.
        duration: seconds.
        failed: 1 for a call that failed.
        unknown: 1 for a call of which nobody knows how it would have ended; None: there is none.
            It takes no time.
        end: Unix seconds of each call's end.
        order: places, in the order of ends; of equal ends in the order of starts.
        ends: `end` in that order.
        durations: `duration` in that order.
    """

    def __init__(self, trace: Trace) -> None:
        self.start, self.failed = trace.start, trace.failed
        self.unknown = trace.refused
        self._status, self._error = trace.status, trace.error
        self.duration: array[float] = trace.duration
        if self.unknown is not None:
            pairs = zip(self.unknown, trace.duration, strict=True)
            self.duration = array("d", (0.0 if unknown else each for unknown, each in pairs))
        self.order: array[int]
        if np is not None and len(trace):
            end = np.frombuffer(self.start) + np.frombuffer(self.duration)
            order = np.argsort(end, kind="stable")
            self.end = array("d", end.tobytes())
            self.order = array("q", order.astype(np.int64, copy=False).tobytes())
            self.ends = array("d", end[order].tobytes())
            self.durations = array("d", np.frombuffer(self.duration)[order].tobytes())
            reach = np.maximum.accumulate(end)
            self._reach = array("d", reach.tobytes())
        else:
            self.end = array("d", map(float.__add__, self.start, self.duration))
            self.order = array("q", sorted(range(len(self.end)), key=self.end.__getitem__))
            self.ends = array("d", map(self.end.__getitem__, self.order))
            self.durations = array("d", map(self.duration.__getitem__, self.order))
            self._reach = array("d", accumulate(self.end, max))
        self._bad: dict[float, list[int]] = {}

    def __len__(self) -> int:
        return len(self.start)

    def reach(self, place: int) -> float:
        """The latest end of all calls before `place`."""
        return self._reach[place - 1] if place else -inf

    def bad(self, slow: float) -> list[int]:
        """Positions in the order of ends of what is no fast success; the last one is the length.

        Args:
            slow: seconds from which a call is slow.
        """
        if slow not in self._bad:
            if np is not None and len(self):
                order = np.frombuffer(self.order, dtype=np.int64)
                mask: Any = np.frombuffer(self.failed, dtype=np.uint8) != 0
                if self.unknown is not None:
                    mask = mask | (np.frombuffer(self.unknown, dtype=np.uint8) != 0)
                mask = mask[order] | (np.frombuffer(self.durations) >= slow)
                found: list[int] = np.flatnonzero(mask).tolist()
            else:
                failed, unknown, durations = self.failed, self.unknown, self.durations
                found = [
                    position
                    for position, place in enumerate(self.order)
                    if failed[place]
                    or durations[position] >= slow
                    or (unknown is not None and unknown[place])
                ]
            self._bad[slow] = [*found, len(self)]
        return self._bad[slow]

    def cause(self, place: int) -> str | None:
        """The cause of a failed call: its error, or its status."""
        if self._error is not None and (error := self._error(place)) is not None:
            return error
        if self._status is not None and (status := self._status[place]):
            return f"HTTP {status}"
        return None
