"""Retries: rules for how long an open circuit refuses calls before it probes again."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from fluxgate._values import (
    Strategy,
    check_above_zero,
    check_duration,
    check_factor,
    check_jitter,
)
from fluxgate._words import percent, seconds

__all__ = ["Always", "Backoff", "Cooldown", "Never", "Retry"]

_SERIES = 16
"""How many openings in a row `openings()` looks at."""


class Retry(Strategy, ABC):
    """Asked once per opening. Subclass it for your own; it must be a pure function.

    Attributes:
        jitter_ratio: the delay is multiplied by a number drawn once per opening, uniformly from
            1 - jitter_ratio to 1 + jitter_ratio, so that many processes don't probe at once.
    """

    __slots__ = ()
    jitter_ratio: float = 0.0

    @abstractmethod
    def delay(self, reopens: int) -> float:
        """Seconds to stay open (`math.inf`: until somebody resets the circuit).

        Args:
            reopens: how often the circuit has gone from half-open back to open since it was
                last closed; 0 at the first opening.
        """

    def openings(self) -> list[float]:
        """The lengths (seconds) of the first openings in a row, until they change no more.

        Jitter aside. At most 16 are looked at.
        """
        lengths: list[float] = []
        for reopens in range(_SERIES):
            try:
                delay = float(self.delay(reopens))
            except Exception:
                delay = math.nan
            if not delay >= 0:
                delay = 60.0  # as a circuit takes a retry that raises or returns no duration
            if lengths and delay == lengths[-1]:
                break
            lengths.append(delay)
        return lengths

    def describe(self) -> str:
        """How long the circuit stays open, as words that can follow "it stays open".

        They are made of what `delay` returns for the first openings, so a retry of your own has
        them without writing any.
        """
        lengths = self.openings()
        if lengths == [math.inf]:
            return "until somebody calls reset()"
        if lengths == [0]:
            return "0 s: the very next call probes"
        shown = [seconds(each) if each < math.inf else "until reset()" for each in lengths]
        text = shown[0]
        if len(shown) > 1:
            later = shown[1:] if len(shown) <= 6 else [*shown[1:5], "…", shown[-1]]
            # The series was cut off while it still changed, or it has come to rest.
            end = " and on" if len(lengths) == _SERIES else " from then on"
            text = f"{text} at first; after each failed recovery {', '.join(later)}{end}"
        if self.jitter_ratio:
            text += f"; each time ± {percent(self.jitter_ratio)} by chance"
        return text


class Always(Retry):
    """Probe with the very next call."""

    __slots__ = ()

    def delay(self, reopens: int) -> float:
        return 0.0


class Never(Retry):
    """Stay open until `reset()`."""

    __slots__ = ()

    def delay(self, reopens: int) -> float:
        return math.inf


class Cooldown(Retry):
    """Stay open for a fixed time.

    Args:
        duration: seconds, 0 or 1e-9 to 1e9 (some 31 years).
        jitter_ratio: ratio 0-1 by which the duration varies, up and down.
    """

    __slots__ = ("duration", "jitter_ratio")
    __match_args__ = ("duration", "jitter_ratio")

    def __init__(self, duration: float, jitter_ratio: float = 0.0) -> None:
        self.duration = duration
        self.jitter_ratio = jitter_ratio
        check_duration(self, "duration", remedy="; Never() stays open for good")
        check_jitter(self, "jitter_ratio")

    def delay(self, reopens: int) -> float:
        return self.duration


class Backoff(Retry):
    """Stay open longer each time a probe fails: initial x multiplier ^ reopens.

    Args:
        initial: seconds of the first opening, 1e-9 to 1e9.
        multiplier: growth per failed recovery, 1 to 1e9.
        max_duration: seconds, `initial` to 1e9; the delay grows no further (jitter is applied to
            the capped delay, so that capped processes still spread).
        jitter_ratio: ratio 0-1 by which the delay varies, up and down.
    """

    __slots__ = ("initial", "jitter_ratio", "max_duration", "multiplier")
    __match_args__ = ("initial", "multiplier", "max_duration", "jitter_ratio")

    def __init__(
        self,
        initial: float,
        multiplier: float = 2.0,
        max_duration: float = 300.0,
        jitter_ratio: float = 0.0,
    ) -> None:
        self.initial = initial
        self.multiplier = multiplier
        self.max_duration = max_duration
        self.jitter_ratio = jitter_ratio
        check_above_zero(self, "initial")
        check_above_zero(self, "max_duration")
        check_factor(self, "multiplier")
        check_jitter(self, "jitter_ratio")
        if max_duration < initial:
            raise ValueError(f"{self!r}: max_duration must be at least initial")

    def delay(self, reopens: int) -> float:
        try:
            return min(self.initial * float(self.multiplier) ** reopens, self.max_duration)
        except OverflowError:
            return self.max_duration
