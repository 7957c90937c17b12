"""For the tests of code that uses breakers: time and chance in your hand, signals on record.

    clock, signals = ManualClock(), RecordedSignals()
    breaker = CircuitBreaker(
        "payments", tripper=FailureStreak(3), clock=clock, dice=LoadedDice(), listeners=[signals]
    )
    tripped(breaker)
    clock.advance(60)
    breaker.call(pay)
    assert signals.moves == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]

None of this imports a test framework; `fluxgate.pytest_plugin` has the fixtures for pytest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, overload

from fluxgate._front import Front
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.signals import Call, Signal, SignalKind
from fluxgate.state import State

__all__ = ["LoadedDice", "ManualClock", "RecordedCalls", "RecordedSignals", "tripped"]

Breaker = TypeVar("Breaker", CircuitBreaker, AsyncCircuitBreaker)


class ManualClock:
    """A clock that stands still until `advance()` is called; for a breaker's `clock=`.

    Example:
        clock = ManualClock()
        breaker = CircuitBreaker("payments", clock=clock)
        clock.advance(60)

    Args:
        now: seconds that it shows at first.
    """

    __slots__ = ("_now",)

    def __init__(self, now: float = 0.0) -> None:
        self._now = _seconds("ManualClock", now)

    def __call__(self) -> float:
        """The seconds that it shows."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Go on by `seconds`, 0 or more. It never goes back: no clock that a breaker uses does.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """
        if _seconds("advance", seconds) < 0:
            raise ValueError(f"advance({seconds}): a clock can't go back; make a new one")
        self._now += seconds

    def __repr__(self) -> str:
        return f"ManualClock({self._now!r})"


class LoadedDice:
    """Dice that give what you say; for a breaker's `dice=`.

    A permit admits a call if the number is below its ratio: 0.0 is always admitted, 0.999 is
    admitted by a ratio of 1 alone. Jitter is least at 0.0, most towards 1, and none at 0.5.

    Example:
        CircuitBreaker("payments", dice=LoadedDice(0.5))         # always
        CircuitBreaker("payments", dice=LoadedDice([0.0, 0.9]))  # one throw each

    Args:
        numbers: in [0, 1): one for all throws, or those to give in turn.

    Raises:
        ValueError: a number is outside [0, 1).
    """

    __slots__ = ("_always", "_given", "_numbers", "thrown")

    thrown: int
    """How often they have been thrown."""

    def __init__(self, numbers: float | Iterable[float] = 0.0) -> None:
        self._always = numbers if isinstance(numbers, (int, float)) else None
        self._numbers: list[float] = []
        self._given = 0
        self.thrown = 0
        if isinstance(numbers, (int, float)):
            _check_sides(numbers)
        else:
            self.load(*numbers)

    def load(self, *numbers: float) -> None:
        """Give these next, in turn, before going on as before.

        Raises:
            ValueError: a number is outside [0, 1).
        """
        _check_sides(*numbers)
        self._numbers.extend(numbers)

    def __call__(self) -> float:
        """The next number.

        Raises:
            AssertionError: all have been given.
        """
        if self._given < len(self._numbers):
            number = self._numbers[self._given]
            self._given += 1
        elif self._always is not None:
            number = self._always
        else:
            raise AssertionError(
                f"{self!r} was thrown once more than it has numbers: "
                "give more, or a single number for all throws"
            )
        self.thrown += 1
        return number

    def __repr__(self) -> str:
        return f"LoadedDice({self._numbers if self._always is None else self._always})"


class RecordedSignals(Sequence[Signal]):
    """A listener that keeps what it hears, as a sequence of signals.

    Example:
        signals = RecordedSignals()
        breaker = CircuitBreaker("payments", listeners=[signals])
        breaker.force_open()
        assert signals.moves == [("closed", "forced_open")]
        assert signals[-1].reason.clause == "force_open()"
    """

    __slots__ = ("_signals",)

    def __init__(self) -> None:
        self._signals: list[Signal] = []

    def __call__(self, signal: Signal) -> None:
        self._signals.append(signal)

    @property
    def moves(self) -> list[tuple[State, State]]:
        """The transitions, each as (old state, new state); states equal their names."""
        transitions = (s for s in self._signals if s.kind is SignalKind.TRANSITION)
        return [(signal.old_state, signal.new_state) for signal in transitions]

    def clear(self) -> None:
        """Forget what was heard so far."""
        self._signals.clear()

    @overload
    def __getitem__(self, index: int) -> Signal: ...
    @overload
    def __getitem__(self, index: slice) -> list[Signal]: ...
    def __getitem__(self, index: int | slice) -> Signal | list[Signal]:
        return self._signals[index]

    def __len__(self) -> int:
        return len(self._signals)

    def __iter__(self) -> Iterator[Signal]:
        return iter(list(self._signals))

    def __repr__(self) -> str:
        moves = ", ".join(f"{s.old_state} -> {s.new_state}" for s in self._signals)
        return f"<RecordedSignals: {moves or 'none'}>"


class RecordedCalls(Sequence[Call]):
    """A listener that keeps each call, as a sequence of calls; it leaves signals alone.

    Example:
        calls = RecordedCalls()
        breaker = CircuitBreaker("payments", listeners=[calls])
        breaker.call(pay)
        assert calls[-1].outcome == "success"
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def __call__(self, signal: Signal) -> None:
        """Signals are `RecordedSignals`' business."""

    def call_ended(self, call: Call) -> None:
        """Keep a call."""
        self._calls.append(call)

    def clear(self) -> None:
        """Forget what was heard so far."""
        self._calls.clear()

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...
    def __getitem__(self, index: int | slice) -> Call | list[Call]:
        return self._calls[index]

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls))

    def __repr__(self) -> str:
        return f"<RecordedCalls: {', '.join(call.outcome for call in self._calls) or 'none'}>"


def tripped(breaker: Breaker, *, most: int = 1000) -> Breaker:
    """Make calls of it fail until its tripper opens it, and give it back.

    Unlike `force_open()`, this leaves it as an outage would: open, with a reason, and probing
    once its delay is over.

    Args:
        breaker: one that is closed.
        most: failures after which to give up.

    Raises:
        AssertionError: it was not closed, or that many failures did not open it.
    """
    front: Front = breaker
    if front.state is not State.CLOSED:
        raise AssertionError(f"{front!r} is not closed: reset() it first")
    for _ in range(most):
        front.attempt().fail()
        if front.state is not State.CLOSED:
            return breaker
    raise AssertionError(
        f"{most} failures did not open {front!r}: its tripper is {front.policy.tripper!r}"
    )


def _seconds(what: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{what}({value}): seconds must be finite")
    return value


def _check_sides(*numbers: float) -> None:
    for number in numbers:
        if not 0 <= number < 1:
            raise ValueError(f"dice give numbers in [0, 1), not {number!r}")
