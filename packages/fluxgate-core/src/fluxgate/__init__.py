"""Fluxgate: a circuit breaker that can't wedge, costs next to nothing, and explains itself."""

from fluxgate.attempt import Attempt
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker, circuits
from fluxgate.errors import CallNotPermittedError, ConfigError, FluxgateError, WrongFrontError
from fluxgate.metric import Info, Metrics, Snapshot, Totals
from fluxgate.policy import Policy
from fluxgate.signals import Listener, Reason, Signal, SignalKind
from fluxgate.state import State

__all__ = [
    "AsyncCircuitBreaker",
    "Attempt",
    "CallNotPermittedError",
    "CircuitBreaker",
    "ConfigError",
    "FluxgateError",
    "Info",
    "Listener",
    "Metrics",
    "Policy",
    "Reason",
    "Signal",
    "SignalKind",
    "Snapshot",
    "State",
    "Totals",
    "WrongFrontError",
    "circuits",
]
