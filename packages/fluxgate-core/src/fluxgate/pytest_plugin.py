"""Fixtures for pytest: breakers on a clock, on dice and on a record that the test holds.

Opt in with `pytest_plugins = ["fluxgate.pytest_plugin"]` in the top `conftest.py`, or with
`-p fluxgate.pytest_plugin`.

    def test_opens(fluxgate_breaker, fluxgate_clock, fluxgate_signals):
        breaker = fluxgate_breaker("payments", retry=Cooldown(30))
        tripped(breaker)
        fluxgate_clock.advance(30)
        ...
        assert fluxgate_signals.moves[0] == ("closed", "open")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, overload

import pytest

from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.signals import Listener
from fluxgate.testing import LoadedDice, ManualClock, RecordedSignals

__all__ = [
    "MakeBreaker",
    "fluxgate_breaker",
    "fluxgate_clock",
    "fluxgate_dice",
    "fluxgate_signals",
]


class MakeBreaker(Protocol):
    """The type of `fluxgate_breaker`: `CircuitBreaker(...)`, bound to the other fixtures."""

    @overload
    def __call__(
        self, name: str = ..., *, asynchronous: Literal[False] = ..., **settings: Any
    ) -> CircuitBreaker: ...
    @overload
    def __call__(
        self, name: str = ..., *, asynchronous: Literal[True], **settings: Any
    ) -> AsyncCircuitBreaker: ...


@pytest.fixture
def fluxgate_clock() -> ManualClock:
    """A clock that stands at 0 until it is advanced."""
    return ManualClock()


@pytest.fixture
def fluxgate_dice() -> LoadedDice:
    """Dice that give 0.0 each time, so permits admit; override the fixture for others."""
    return LoadedDice(0.0)


@pytest.fixture
def fluxgate_signals() -> RecordedSignals:
    """The signals of all breakers that `fluxgate_breaker` made."""
    return RecordedSignals()


@pytest.fixture
def fluxgate_breaker(
    fluxgate_clock: ManualClock,
    fluxgate_dice: LoadedDice,
    fluxgate_signals: RecordedSignals,
) -> MakeBreaker:
    """Makes breakers on the clock, the dice and the record of the other fixtures.

    `fluxgate_breaker("payments", asynchronous=True, retry=Cooldown(30))`: the parameters of
    `CircuitBreaker`, any of which may be given; `listeners` hear beside the record.
    """

    def make(
        name: str = "test",
        *,
        asynchronous: bool = False,
        listeners: Iterable[Listener] = (),
        **settings: Any,
    ) -> Any:
        front: Callable[..., Any] = AsyncCircuitBreaker if asynchronous else CircuitBreaker
        bound: dict[str, Any] = {"clock": fluxgate_clock, "dice": fluxgate_dice, **settings}
        return front(name, listeners=[fluxgate_signals, *listeners], **bound)

    return make
