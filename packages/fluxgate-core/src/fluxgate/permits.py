"""Permits: rules for which share of the calls a half-open circuit admits as probes."""

from __future__ import annotations

from abc import ABC, abstractmethod

from fluxgate._naming import safe_repr
from fluxgate._values import Strategy, check_above_zero, check_ratio
from fluxgate._words import percent, seconds

__all__ = ["All", "Permit", "RampUp", "Random"]


class Permit(Strategy, ABC):
    """The share of calls to admit; the circuit throws the dice and counts the slots.

    Subclass it for your own; `ratio` must be a pure function.
    """

    __slots__ = ()

    @abstractmethod
    def ratio(self, elapsed: float) -> float:
        """The share of calls (ratio 0-1) to admit, `elapsed` seconds after the cooldown ended.

        The first call after it finds the circuit half-open, however late it comes: `elapsed` is
        then as long as nobody called.
        """

    def describe(self) -> str:
        """Which calls are probes, as a clause that can follow "half-open,"."""
        return f"{safe_repr(self)} decides which share of the calls is admitted as probes"


class All(Permit):
    """Admit every call for which a probe slot is free."""

    __slots__ = ()

    def ratio(self, elapsed: float) -> float:
        return 1.0

    def describe(self) -> str:
        return "every call is admitted as a probe"


class Random(Permit):
    """Admit a fixed share of the calls.

    Args:
        ratio: the share, in (0, 1].
    """

    __slots__ = ("share",)
    __match_args__ = ("share",)

    def __init__(self, ratio: float) -> None:
        self.share = ratio  # `ratio` is the method that every permit has
        check_ratio(self, "share", called="ratio")

    def ratio(self, elapsed: float) -> float:
        return self.share

    def describe(self) -> str:
        return f"{percent(self.share)} of the calls are admitted as probes"


class RampUp(Permit):
    """Admit a share that grows linearly with the time since the cooldown ended.

    Args:
        initial: the share at the start, in (0, 1].
        final: the share after `duration` and from then on, in (0, 1], at least `initial`.
        duration: seconds, 1e-9 to 1e9.
    """

    __slots__ = ("duration", "final", "initial")
    __match_args__ = ("initial", "final", "duration")

    def __init__(self, initial: float, final: float, duration: float) -> None:
        self.initial = initial
        self.final = final
        self.duration = duration
        check_ratio(self, "initial")
        check_ratio(self, "final")
        check_above_zero(self, "duration")
        if final < initial:
            raise ValueError(f"{safe_repr(self)}: final must be at least initial")

    def ratio(self, elapsed: float) -> float:
        share = min(max(elapsed / self.duration, 0.0), 1.0)
        return self.initial + (self.final - self.initial) * share

    def describe(self) -> str:
        first = f"{percent(self.initial)} of the calls are admitted as probes at first"
        return f"{first}, {percent(self.final)} after {seconds(self.duration)}"
