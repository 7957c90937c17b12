"""`APIRouter(route_class=BreakerRoute)`: each endpoint behind a circuit, by response status."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, Unpack

from fastapi import Request, Response
from fastapi.routing import APIRoute

from fluxgate.integration import FAILING_STATUSES, checked_statuses
from fluxgate_fastapi._declaration import BreakerSettings, Declaration
from fluxgate_fastapi._outcome import settle_raised
from fluxgate_fastapi._registry import state_of


class BreakerRoute(APIRoute):
    """A route behind a circuit that sees the response, returned error responses included.

        router = APIRouter(route_class=BreakerRoute)
        router = APIRouter(route_class=BreakerRoute.named("search", statuses={502, 503, 504}))

    By default each endpoint has a circuit of its own, called by the endpoint's module and name
    (`shop.api.find`); `named` puts all endpoints of a router behind one.

    Attributes:
        circuit: the circuit's name; None for the endpoint's.
        statuses: a response, or an `HTTPException`, with one of these is a failure.
        settings: the breaker's parameters. The tracker decides about other exceptions, and
            `result_tracker` the responses whose status is no failure.
    """

    circuit: ClassVar[str | None] = None
    statuses: ClassVar[frozenset[int]] = FAILING_STATUSES
    settings: ClassVar[BreakerSettings] = {}

    declared: Declaration
    """The circuit's name and settings."""

    @classmethod
    def named(
        cls,
        name: str | None = None,
        *,
        statuses: Iterable[int] = FAILING_STATUSES,
        **settings: Unpack[BreakerSettings],
    ) -> type[BreakerRoute]:
        """A route class with settings of its own.

        Args:
            name: the circuit's name; None for one per endpoint.
            statuses: the statuses that are failures.
            settings: the breaker's parameters, as of `Breaker`.

        Raises:
            TypeError, ValueError: as of `Breaker`; or `statuses` are no HTTP statuses.
        """
        Declaration(name if name is not None else cls.__name__, settings)  # complain here
        own = {"circuit": name, "statuses": checked_statuses(statuses), "settings": settings}
        return type(cls.__name__, (cls,), {"__module__": cls.__module__, **own})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the circuit."""
        handle = super().get_route_handler()
        statuses = self.statuses
        declared = self.declared = Declaration(
            self.circuit if self.circuit is not None else _name(self.endpoint), self.settings
        )

        async def protected(request: Request) -> Response:
            registry = state_of(request.scope.get("app")).registry
            if declared.settings and not declared.is_declared(registry):
                declared.declare(registry)
            with registry[declared.name].attempt() as attempt:
                try:
                    response = await handle(request)
                except BaseException as error:
                    settle_raised(attempt, error, statuses)
                    raise
                if response.status_code in statuses:
                    attempt.fail()
                else:
                    attempt.returned(response)
                return response

        return protected


def _name(endpoint: Any) -> str:
    """The endpoint's own name: unlike its path, it is the same wherever a router is included."""
    name = getattr(endpoint, "__qualname__", type(endpoint).__qualname__)
    return f"{getattr(endpoint, '__module__', '?')}.{name}"
