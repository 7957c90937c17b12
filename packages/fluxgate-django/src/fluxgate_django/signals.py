"""Django signals of transitions, refusals, and of what the console is used for.

    @receiver(circuit_opened)
    def page_somebody(sender, *, name, transition, **kwargs): ...

They are sent where they are caused, in the midst of a call: receivers must not be slow, and what
one raises is logged (logger `django.dispatch`) and swallowed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from django.dispatch import Signal as DjangoSignal

from fluxgate import CallNotPermittedError, CircuitBreaker, Signal, SignalKind, State
from fluxgate_django._async import is_async

__all__ = [
    "announce",
    "circuit_closed",
    "circuit_controlled",
    "circuit_half_opened",
    "circuit_opened",
    "circuit_rejected",
]


class CircuitSignal(DjangoSignal):
    """A signal that is sent in the midst of a call, by sync and by async code alike."""

    def connect(
        self,
        receiver: Callable[..., Any],
        sender: object | None = None,
        weak: bool = True,
        dispatch_uid: Hashable | None = None,
    ) -> None:
        """Connect a receiver.

        Raises:
            TypeError: it is async. On an event loop nothing can wait for it here.
        """
        if is_async(receiver):
            raise TypeError(
                f"receiver {getattr(receiver, '__qualname__', receiver)} is async, and circuits "
                "are sent in the midst of a call: connect a function that is not, which "
                "may hand on what is slow"
            )
        super().connect(receiver, sender, weak, dispatch_uid)


circuit_opened: Final = CircuitSignal()
"""A circuit opened or was forced open, also for another time after a failed probe.

Sent with `name` and `transition`, a `fluxgate.Signal`, which has the states and the reason.
"""
circuit_half_opened: Final = CircuitSignal()
"""A circuit admits probes. Sent with `name` and `transition`."""
circuit_closed: Final = CircuitSignal()
"""A circuit closed. Sent with `name` and `transition`."""
circuit_rejected: Final = CircuitSignal()
"""A circuit refused a call that was decorated with `circuit`, or a request.

Sent once for each refusal that `circuit`, the middleware, or a hook for REST framework or Ninja has
met, with `name`, `error`, a `CallNotPermittedError`, and `request`, which is None outside a view.
"""
circuit_controlled: Final = DjangoSignal()
"""Somebody used a control of the console, or tried to and was refused.

Sent with `entry`, a `fluxgate.console.Entry` (who, from where, which circuit, what, why, and what
became of it), and `request`. It is sent in the view, so its receivers may ask a database.
"""

_BY_STATE: Final = {
    State.OPEN: circuit_opened,
    State.FORCED_OPEN: circuit_opened,
    State.HALF_OPEN: circuit_half_opened,
    State.CLOSED: circuit_closed,
}


def announce(signal: Signal) -> None:
    """The listener that sends Django's signals; every circuit of the settings has it."""
    if signal.kind is SignalKind.TRANSITION and (sent := _BY_STATE.get(signal.new_state)):
        sent.send_robust(CircuitBreaker, name=signal.circuit_name, transition=signal)


def send_rejected(error: CallNotPermittedError, request: object | None) -> None:
    """Send `circuit_rejected`, once for one refusal, whoever meets it first."""
    if getattr(error, "_announced", False):
        return
    error._announced = True  # type: ignore[attr-defined]
    circuit_rejected.send_robust(CircuitBreaker, name=error.name, error=error, request=request)
