"""What both applications share: a circuit of the fleet, and how to say what it has seen."""

import os
from typing import Any

from fluxgate import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.fleet import Fleet
from fluxgate.retries import Cooldown
from fluxgate.trippers import Closed, FailureRate, MinRequests
from fluxgate.windows import TimeWindow

UPSTREAM = os.environ["UPSTREAM_URL"]
fleet = Fleet(os.environ["FLEET_URL"])
SETTINGS: dict[str, Any] = {
    "fleet": fleet,
    "window": TimeWindow(60.0),
    "tripper": Closed() & MinRequests(10) & FailureRate(0.5),
    "retry": Cooldown(1.0),
    "max_half_open_calls": int(os.environ["SLOTS"]),
}


def seen(breaker: CircuitBreaker | AsyncCircuitBreaker) -> dict[str, Any]:
    """A circuit, as the process that answers has it."""
    info = breaker.info()
    view = info.fleet
    assert view is not None
    return {
        "worker": os.getpid(),
        "state": info.state,
        "epoch": view.epoch,
        "attached": view.attached,
        "calls": view.metrics.total_count,
    }
