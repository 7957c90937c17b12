"""Errors that Fluxgate raises. All of them derive from `FluxgateError`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from fluxgate._naming import safe_str
from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate.signals import Reason

__all__ = ["CallNotPermittedError", "ConfigError", "FluxgateError", "WrongFrontError"]


class FluxgateError(Exception):
    """The base of every error that Fluxgate raises of its own accord."""


class ConfigError(FluxgateError, ValueError):
    """A setting that can't be read: the message names its path and the remedy."""


class WrongFrontError(FluxgateError, TypeError):
    """A breaker was handed something that it can't protect; such a call is ignored.

    A sync breaker was handed something async, or the reverse, or a call gave a call that has yet to
    be made: a task, a future, a generator. The message names the remedy.
    """


class CallNotPermittedError(FluxgateError):
    """The circuit refused the call: it was not made.

    It crosses process pools and task queues by pickle, and by serializers that know text alone and
    make it again from its `args` (Celery's JSON): a state may be given by its value, and a reason
    as its `repr()` or any other text.
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
        state: object = self.args[1]
        return state if type(state) is State else _state_in(state)

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be tried again; None where nobody knows.

        Nobody knows when half-open, forced open, or open under `Never`.
        """
        seconds: object = self.args[2]
        return seconds if seconds is None or type(seconds) is float else _seconds_in(seconds)

    @property
    def reason(self) -> Reason | None:
        """Why the circuit opened."""
        reason: object = self.args[3]
        return None if reason is None else _reason_in(reason)

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason is not None else ""
        return f"circuit {self.name!r} is {self.state.replace('_', ' ')}{why}: {self._remedy()}"

    def _remedy(self) -> str:
        if self.state is State.HALF_OPEN:
            return "it is probing whether the dependency is back; try again shortly"
        if self.retry_after is not None:
            return f"the call was not made; try again in {self.retry_after:.3g} s"
        return "the call was not made; it stays so until reset() is called"


def _state_in(given: object) -> State:
    """A state by its value, or as its `repr()` or `str()` has it."""
    text = str(given).lower()
    try:
        return State(text)
    except ValueError:
        # The longest first: "<State.FORCED_OPEN: 'forced_open'>" has "open" in it, too.
        states = sorted(State, key=len, reverse=True)
        return next((state for state in states if state in text), State.OPEN)


def _seconds_in(given: object) -> float | None:
    """A number of seconds as another serializer has it: whole, a decimal, or text."""
    try:
        return float(str(given))
    except ValueError:
        return None


def _reason_in(given: object) -> Reason:
    """A reason by its own `repr()`; of any other text, one whose clause is that text."""
    from fluxgate.signals import Reason  # not at import: nothing else here needs it

    if isinstance(given, Reason):
        return given
    if not (isinstance(given, str) and given.startswith("Reason(")):
        return Reason(safe_str(given))
    import ast  # not at import: for refusals that come from another process alone

    try:
        called: Any = ast.parse(given, mode="eval").body
        return Reason(**{each.arg: ast.literal_eval(each.value) for each in called.keywords})
    except Exception:  # cut off, or of a newer version: it may quote messages, so none of it
        return Reason("a reason that can't be read")
