"""Windows: the calls that a tripper looks at, the last `n` or those of the last `n` seconds.

A window is a recipe for tallies, which count: one object may serve many breakers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from fluxgate._naming import safe_repr
from fluxgate._tally import CountTally, Tally, TimeTally
from fluxgate._values import Strategy, check_above_zero, check_count
from fluxgate._words import number, seconds

__all__ = ["CountWindow", "TimeWindow", "Window"]

_SHORTEST_BUCKET = 1e-6
"""Seconds. A clock's reading, divided by it, is still a whole number that a float holds exactly."""


class Window(Strategy, ABC):
    """A recipe for tallies.

    Attributes:
        capacity: the most calls that it can hold; None where time is the only bound.
    """

    __slots__ = ()
    capacity: int | None = None

    @abstractmethod
    def tally(self, thresholds: tuple[float, ...], streak: int = 0) -> Tally:
        """A new, empty tally that counts slow calls by `thresholds` (seconds).

        Args:
            thresholds: what the circuit's trippers declare.
            streak: failures in a row so far; a streak outlives the window.
        """

    def describe(self) -> str:
        """The calls of the window, as words that can follow "it judges"."""
        return f"the calls that {safe_repr(self)} holds"


class CountWindow(Window):
    """The last `size` calls.

    Args:
        size: number of calls, 1 to 10,000,000; each takes some 40 bytes.
    """

    __slots__ = ("size",)
    __match_args__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size
        check_count(self, "size")

    @property
    def capacity(self) -> int | None:  # type: ignore[override]
        return self.size

    def tally(self, thresholds: tuple[float, ...], streak: int = 0) -> Tally:
        return CountTally(self.size, thresholds, streak)

    def describe(self) -> str:
        return f"the last {number(self.size, 'call')}, however old"


class TimeWindow(Window):
    """The calls of the last `size` seconds, forgotten bucket by bucket.

    Args:
        size: seconds, at most 1e9 (some 31 years).
        buckets: how many slices the time is cut into, 1 to 10,000,000, each of a microsecond or
            more. The window spans between size - size / buckets and size seconds; more buckets
            make it smoother.
    """

    __slots__ = ("buckets", "size")
    __match_args__ = ("size", "buckets")

    def __init__(self, size: float, buckets: int = 60) -> None:
        self.size = size
        self.buckets = buckets
        check_above_zero(self, "size")
        check_count(self, "buckets")
        if size / buckets < _SHORTEST_BUCKET:
            raise ValueError(
                f"{safe_repr(self)}: a bucket must last {_SHORTEST_BUCKET:g} seconds or more: "
                "enlarge size, or lower buckets"
            )

    def tally(self, thresholds: tuple[float, ...], streak: int = 0) -> Tally:
        return TimeTally(self.size / self.buckets, self.buckets, thresholds, streak)

    def describe(self) -> str:
        return f"the calls of the last {seconds(self.size)}"
