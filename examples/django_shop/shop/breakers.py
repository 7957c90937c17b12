"""A circuit made in code: for what settings can't say."""

from fluxgate import CircuitBreaker
from fluxgate.retries import Cooldown
from fluxgate.trackers import TypeOf
from fluxgate.trippers import FailureStreak
from shop.alerts import listener


def make_search(name: str) -> CircuitBreaker:
    """Make the circuit of `FLUXGATE["BREAKERS"]["search"]`: no default of the settings holds."""
    return CircuitBreaker(
        name,
        tripper=FailureStreak(5),
        tracker=TypeOf("httpx.HTTPError"),
        retry=Cooldown(10),
        listeners=[listener],
    )
