"""Health page: the state of all circuits as JSON, for those who run the service."""

# FastAPI reads the annotations of the endpoint as they stand here, so they are no strings.

from collections.abc import Collection
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from fluxgate import Info, State
from fluxgate.registry import Registry
from fluxgate_fastapi._checks import CRITICAL
from fluxgate_fastapi._handler import encodable
from fluxgate_fastapi._registry import registry_of

_REFUSING = (State.OPEN, State.FORCED_OPEN)
_IMPAIRED = (*_REFUSING, State.HALF_OPEN)


class CircuitHealth(BaseModel):
    """The state of one circuit."""

    state: State
    retry_after: float | None = Field(description="Seconds until it probes, if it is open.")
    since: float = Field(description="When it entered this state, seconds since the epoch.")
    calls: int = Field(description="Calls in its window.")
    failure_rate: float | None = Field(description="The share of them that failed, 0 to 1.")
    reason: str | None = Field(description="Why it last opened.")


class Health(BaseModel):
    """The state of all circuits, and the status of the service that follows from it."""

    status: Literal["healthy", "degraded", "unhealthy"]
    circuits: dict[str, CircuitHealth]


def health(
    registry: Registry | None = None,
    *,
    critical: Collection[str] = (),
    path: str = "/health/circuits",
    **options: Any,
) -> APIRouter:
    """A router with one page, the state of all circuits.

        app.include_router(health(critical={"database"}))

    An open circuit means that a dependency is down, and that this service copes: it is
    *degraded*, and the answer is a 200, since restarting it would help nobody. It is *unhealthy*,
    a 503, while the circuit of a critical dependency refuses calls: no longer than until it may
    probe, since who takes the traffic away at a 503 would leave nobody to do so. The page makes no
    circuits. It names them: keep it from the public.

    Args:
        registry: whose circuits; by default those of the application that serves the request.
        critical: names of circuits without which the service can do nothing.
        path: where the page is.
        options: what `APIRouter` takes: `dependencies=`, `tags=`, `include_in_schema=` ...

    Raises:
        TypeError: `critical` is a string. When the application starts, a name there that the
            settings nearly have, or that a strict registry doesn't know, is a `ConfigError`.
    """
    if isinstance(critical, str):
        raise TypeError(f"critical is a set of names: {{{critical!r}}}")
    vital = frozenset(critical)
    router = APIRouter(**options)

    @router.get(
        path,
        summary="The circuits' health",
        responses={503: {"model": Health, "description": "A critical circuit is open"}},
    )
    async def circuits(request: Request, response: Response) -> Health:
        """The circuits of this process."""
        source = registry_of(request) if registry is None else registry
        infos = {name: breaker.info() for name, breaker in source.items()}
        status: Literal["healthy", "degraded", "unhealthy"] = "healthy"
        if any(info.state in _IMPAIRED for info in infos.values()):
            status = "degraded"
        if any(name in vital and _refuses(info) for name, info in infos.items()):
            status = "unhealthy"
            response.status_code = 503
        response.headers["Cache-Control"] = "no-store"
        return Health(
            status=status,
            circuits={encodable(name): _circuit(info) for name, info in infos.items()},
        )

    vars(circuits)[CRITICAL] = vital, registry
    return router


def _refuses(info: Info) -> bool:
    """Whether a call would be refused now; an open circuit probes once its time is up."""
    return info.state in _REFUSING and info.retry_after != 0


def _circuit(info: Info) -> CircuitHealth:
    trip = None if info.last_trip is None else info.last_trip.without_messages.details
    return CircuitHealth(
        state=info.state,
        retry_after=info.retry_after,
        since=info.since,
        calls=info.metrics.total_count,
        failure_rate=info.metrics.failure_rate,
        reason=None if trip is None else encodable(trip),
    )
