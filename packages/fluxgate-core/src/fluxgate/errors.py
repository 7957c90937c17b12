"""What Fluxgate raises. All of it derives from `FluxgateError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate.signals import Reason

__all__ = ["CallNotPermittedError", "ConfigError", "FluxgateError", "WrongFrontError"]


class FluxgateError(Exception):
    """The base of every error that Fluxgate raises of its own accord."""


class ConfigError(FluxgateError, ValueError):
    """A setting that can't be read: the message names its path and the remedy."""


class WrongFrontError(FluxgateError, TypeError):
    """A sync breaker was handed something async, or the reverse; nothing was counted."""


class CallNotPermittedError(FluxgateError):
    """The circuit refused the call: it was not made.

    Picklable, so that it crosses process pools and task queues.

    Attributes:
        name: the circuit's name.
        state: `State.OPEN`, `State.HALF_OPEN` (no probe slot for this call) or
            `State.FORCED_OPEN`.
        retry_after: seconds until a call may be tried again; None where nobody knows
            (half-open, forced open, `Never`), never 0 for "unknown".
        reason: why the circuit opened.
    """

    def __init__(
        self,
        name: str,
        state: State,
        retry_after: float | None = None,
        reason: Reason | None = None,
    ) -> None:
        # BaseException.__new__ has stored all four in `args`, which is what pickle rebuilds from.
        self.name = name
        self.state = state
        self.retry_after = retry_after
        self.reason = reason

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason is not None else ""
        return f"circuit {self.name!r} is {self.state.replace('_', ' ')}{why}: {self._remedy()}"

    def _remedy(self) -> str:
        if self.state is State.HALF_OPEN:
            return "it is probing whether the dependency is back; try again shortly"
        if self.retry_after is not None:
            return f"the call was not made; try again in {self.retry_after:.3g} s"
        return "the call was not made; it stays so until reset() is called"
