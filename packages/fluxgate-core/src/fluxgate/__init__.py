"""Fluxgate: a circuit breaker that can't wedge, costs next to nothing, and explains itself."""

from os.path import exists as _exists
from typing import TYPE_CHECKING

__distribution__ = "fluxgate-core"  # before all imports: see `_clash.py`

from fluxgate.attempt import Attempt, in_probe
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker, circuits, listen
from fluxgate.errors import CallNotPermittedError, ConfigError, FluxgateError, WrongFrontError
from fluxgate.metric import FleetView, Info, Metrics, SavedInfo, Snapshot, Totals
from fluxgate.policy import Policy
from fluxgate.signals import (
    Call,
    Listener,
    Origin,
    Outcome,
    Reason,
    Signal,
    SignalKind,
    Subscription,
)
from fluxgate.state import State

__all__ = [
    "AsyncCircuitBreaker",
    "Attempt",
    "Call",
    "CallNotPermittedError",
    "CircuitBreaker",
    "ConfigError",
    "FleetView",
    "FluxgateError",
    "Info",
    "Listener",
    "Metrics",
    "Origin",
    "Outcome",
    "Policy",
    "Reason",
    "SavedInfo",
    "Signal",
    "SignalKind",
    "Snapshot",
    "State",
    "Subscription",
    "Totals",
    "WrongFrontError",
    "circuits",
    "in_probe",
    "listen",
]

# One look at the file system, some microseconds of an import of milliseconds.
if _exists(f"{__path__[0]}/circuitbreaker.py"):
    from fluxgate._clash import warn_of_leftovers

    warn_of_leftovers()

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name):
        """Look `__version__` up when it is asked for, so that importing stays cheap."""
        if name == "__version__":
            from importlib.metadata import version

            return version("fluxgate-core")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
