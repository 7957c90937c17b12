"""`CircuitMixin`: a class-based view behind a circuit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.views import View

from fluxgate.integration import FAILING_STATUSES, checked_statuses
from fluxgate_django._guard import Guard, Use, note

if TYPE_CHECKING:
    _Base = View
else:
    _Base = object

__all__ = ["CircuitMixin"]


class CircuitMixin(_Base):
    """Puts the handlers of a view (`get`, `post`, a viewset's actions) behind a circuit.

        class Search(CircuitMixin, ListView):
            circuit = "search"

    It stands before the view class. What is refused before a handler is reached, by permissions, by
    authentication or for its method, says nothing about the circuit, and neither does `OPTIONS`.
    In REST framework a refusal goes to the exception handler.

    Attributes:
        circuit: the circuit's name.
        circuit_fallback: a method that is called with any `Exception` that comes out of a handler,
            refusals included; its result takes the place.
        circuit_on_open: a method `(request, *args, **kwargs)`, or the dotted path of a view, that
            answers while the circuit is open.
        circuit_statuses: a response with one of these is a failure.
    """

    circuit: str = ""
    circuit_fallback: Any = None
    circuit_on_open: Any = None
    circuit_statuses: Iterable[int] = FAILING_STATUSES

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        line = cls.__mro__
        if View in line and line.index(CircuitMixin) > line.index(View):
            raise TypeError(
                f"{cls.__qualname__}: CircuitMixin must stand before the view class: "
                f"class {cls.__name__}(CircuitMixin, ...)"
            )
        cls.circuit_statuses = checked_statuses(cls.circuit_statuses)
        if isinstance(cls.circuit, str) and cls.circuit:  # or a property, known at the call
            note(cls, Use(cls.circuit, f"{cls.__module__}.{cls.__qualname__}"))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Call the handler, if the circuit lets it."""
        method = (request.method or "").lower()
        if method in self.http_method_names and method != "options":
            handler = getattr(self, method, None)
            if handler is not None:  # a view serves one request, and so does what it is given
                setattr(self, method, _guarded(self._guard(), handler))
        return super().dispatch(request, *args, **kwargs)

    def _guard(self) -> Guard:
        if not self.circuit:
            raise ImproperlyConfigured(f'{type(self).__qualname__} needs a name: circuit = "..."')
        return Guard(
            self.circuit,
            self.circuit_fallback,
            self.circuit_on_open,
            frozenset(self.circuit_statuses),
        )


def _guarded(guard: Guard, handler: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return guard.call(handler, args, kwargs)

    return guarded
