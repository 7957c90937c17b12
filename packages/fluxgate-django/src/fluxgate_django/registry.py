"""`breakers["payments"]`: the circuits of this process, as the settings have them."""

from __future__ import annotations

from typing import Any, Final

from fluxgate import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.registry import AsyncCircuits, Registry
from fluxgate_django import conf

__all__ = ["AsyncBreakers", "Breakers", "breakers"]


class AsyncBreakers(AsyncCircuits):
    """The circuits of `Breakers`, each as an `AsyncCircuitBreaker`."""

    __slots__ = ()

    def __init__(self) -> None:
        """Hold nothing: what a registry holds is the current one's."""

    def __getitem__(self, key: str) -> AsyncCircuitBreaker:
        return conf.settings().registry.asynchronous[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(conf.settings().registry.asynchronous, name)

    def __repr__(self) -> str:
        return "<fluxgate_django.breakers.asynchronous>"


class Breakers(Registry):
    """The registry of the settings as they are now: one for all threads and event loops.

    `breakers[name]` makes a circuit on first use; `in`, `len` and iteration speak of those that
    there are. When `FLUXGATE` changes (`override_settings`), there are none at first: whoever holds
    a breaker of before keeps it, so ask for it where it is used. `breakers` itself can be held, and
    handed to whatever takes a registry; that reads no settings yet.

    Raises:
        ConfigError: the settings can't be used, or are strict and don't name the circuit.
    """

    __slots__ = ()

    asynchronous = AsyncBreakers()
    """The same circuits, each as an `AsyncCircuitBreaker`."""

    def __init__(self) -> None:
        """Hold nothing: what a registry holds is the current one's."""

    @property
    def registry(self) -> Registry:
        """The current one, which stays as it is when the settings change."""
        return conf.settings().registry

    def __getitem__(self, key: str) -> CircuitBreaker:
        return conf.settings().registry[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(conf.settings().registry, name)

    def __reduce__(self) -> str:
        return "breakers"  # there is one in each process

    def __repr__(self) -> str:
        return "<fluxgate_django.breakers>"


breakers: Final = Breakers()
"""The circuits of this process."""
