"""The states of a circuit."""

from enum import StrEnum

__all__ = ["State"]


class State(StrEnum):
    """Where a circuit stands. The first three are the breaker's own, the others are set by hand."""

    CLOSED = "closed"
    """Calls pass and are recorded; the tripper may open the circuit."""
    OPEN = "open"
    """Calls are refused until the retry strategy's delay is over."""
    HALF_OPEN = "half_open"
    """A few calls pass as probes; their outcomes decide."""
    METRICS_ONLY = "metrics_only"
    """Calls pass and are recorded; what the tripper would do is reported, never done."""
    DISABLED = "disabled"
    """Calls pass and nothing is counted."""
    FORCED_OPEN = "forced_open"
    """Calls are refused until somebody resets the circuit."""
