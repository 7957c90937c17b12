"""`dependencies=[guard("search")]`: protects the endpoint that it stands on."""

# FastAPI reads the annotations of __call__ as they stand here, so they are no strings.

from collections.abc import AsyncIterator, Iterable
from typing import Any, Unpack

from fastapi import Depends
from fastapi.requests import HTTPConnection

from fluxgate.integration import FAILING_STATUSES, checked_statuses
from fluxgate_fastapi._declaration import BreakerSettings, Declaration
from fluxgate_fastapi._outcome import settle_raised
from fluxgate_fastapi._registry import state_of


class Guard(Declaration):
    """The dependency that `guard` makes: one attempt per request, settled by how it ends.

    Equal by name and statuses: FastAPI runs one of several equal dependencies.
    """

    __slots__ = ("statuses",)

    statuses: frozenset[int]
    """An `HTTPException` with one of these is a failure."""

    def __init__(self, name: str, statuses: Iterable[int], settings: BreakerSettings) -> None:
        checked = checked_statuses(statuses)
        super().__init__(name, settings, checked)
        object.__setattr__(self, "statuses", checked)

    async def __call__(self, connection: HTTPConnection) -> AsyncIterator[None]:
        """Admit the request, and settle when the endpoint is done; FastAPI calls this.

        Raises:
            CallNotPermittedError: the circuit is open.
            ConfigError: as of `Breaker`.
        """
        registry = state_of(connection.scope.get("app")).registry
        if self.settings and not self.is_declared(registry):
            self.declare(registry)
        with registry[self.name].attempt() as attempt:  # which succeeds where nothing is raised
            try:
                yield
            except BaseException as error:
                settle_raised(attempt, error, self.statuses)
                raise

    def _same(self, other: Declaration) -> bool:
        return (
            isinstance(other, Guard) and self.name == other.name and self.statuses == other.statuses
        )

    def __repr__(self) -> str:
        shown = super().__repr__()
        if self.statuses == FAILING_STATUSES:
            return shown
        return f"{shown[:-1]}, statuses={sorted(self.statuses)})"


def guard(
    name: str, *, statuses: Iterable[int] = FAILING_STATUSES, **settings: Unpack[BreakerSettings]
) -> Any:
    """A dependency that puts an endpoint, a router or an application behind a circuit.

        @app.get("/search", dependencies=[guard("search")], responses=CIRCUIT_OPEN)

    It is a `Depends(...)` already, and function-scoped: it settles when the endpoint has
    returned or raised, before the response is sent. So it sees what is raised, and neither a
    returned error response nor what happens while a body is streamed; see `BreakerRoute`.

    Args:
        name: the circuit's name.
        statuses: an `HTTPException` with one of these is a failure, with another a success.
            Where guards of a circuit meet, a router's and an endpoint's, equal ones are one;
            with other statuses, each makes an attempt of its own.
        settings: the breaker's parameters, as of `Breaker`. The tracker decides about other
            exceptions.

    Raises:
        TypeError, ValueError: as of `Breaker`; or `statuses` are no HTTP statuses.
    """
    return Depends(Guard(name, statuses, settings), scope="function")
