"""What Fluxgate raises. All of it derives from `FluxgateError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate.signals import Reason

__all__ = ["CallNotPermittedError", "ConfigError", "FluxgateError", "WrongFrontError"]


class FluxgateError(Exception):
    """The base of every error that Fluxgate raises of its own accord."""


class ConfigError(FluxgateError, ValueError):
    """A setting that can't be read: the message names its path and the remedy."""


class WrongFrontError(FluxgateError, TypeError):
    """A sync breaker was handed something async, or the reverse; such a call is ignored."""


class CallNotPermittedError(FluxgateError):
    """The circuit refused the call: it was not made.

    Picklable, so that it crosses process pools and task queues.
    """

    def __init__(
        self,
        name: str,
        state: State,
        retry_after: float | None = None,
        reason: Reason | None = None,
    ) -> None:
        super().__init__(name, state, retry_after, reason)

    # All four live in `args`: what pickle rebuilds from, and what makes a refusal cheap.

    @property
    def name(self) -> str:
        """The circuit's name."""
        return cast("str", self.args[0])

    @property
    def state(self) -> State:
        """`State.OPEN`, `State.HALF_OPEN` (no probe slot for this call) or `State.FORCED_OPEN`."""
        return cast("State", self.args[1])

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be tried again; None where nobody knows.

        Nobody knows when half-open, forced open, or open under `Never`.
        """
        return cast("float | None", self.args[2])

    @property
    def reason(self) -> Reason | None:
        """Why the circuit opened."""
        return cast("Reason | None", self.args[3])

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason is not None else ""
        return f"circuit {self.name!r} is {self.state.replace('_', ' ')}{why}: {self._remedy()}"

    def _remedy(self) -> str:
        if self.state is State.HALF_OPEN:
            return "it is probing whether the dependency is back; try again shortly"
        if self.retry_after is not None:
            return f"the call was not made; try again in {self.retry_after:.3g} s"
        return "the call was not made; it stays so until reset() is called"
