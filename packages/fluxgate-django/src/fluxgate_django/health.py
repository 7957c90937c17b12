# pyright: reportMissingTypeStubs=false
"""A check for django-health-check 4 and newer: how this worker's circuits are.

    path(
        "health/",
        HealthCheckView.as_view(
            checks=[
                "health_check.Database",
                ("fluxgate_django.health.Circuits", {"critical": ["payments"]}),
            ]
        ),
    )

An open circuit means that a dependency is down, and that this service copes. Who restarts it for
that makes the outage worse. So by default no circuit makes the service unhealthy; those of
`critical` do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

try:
    # It has no types.
    from health_check.base import HealthCheck  # type: ignore[import-untyped]
    from health_check.exceptions import (  # type: ignore[import-untyped]
        ServiceReturnedUnexpectedResult,
        ServiceUnavailable,
        ServiceWarning,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fluxgate_django.health needs django-health-check 4 or newer: "
        "pip install 'django-health-check>=4'",
        name=error.name,
    ) from error

from fluxgate import ConfigError, Info, State
from fluxgate_django.registry import breakers

__all__ = ["Circuits"]

_IMPAIRED = (State.OPEN, State.FORCED_OPEN, State.HALF_OPEN)


@dataclasses.dataclass
class Circuits(HealthCheck):  # type: ignore[misc]
    """Fails while a critical circuit is open. Its report names circuits: keep it from the public.

    Args:
        critical: names of circuits without which the service can do nothing. One that has not been
            used yet is made, so that a name that the settings don't know is reported.
        warn: whether an open or half-open circuit that is not critical is reported, too, as a
            warning. django-health-check answers those with a 500, like errors.

    Raises:
        TypeError: `critical` is a string.
    """

    critical: Collection[str] = ()
    warn: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.critical, str):
            raise TypeError(f"critical is a list of names: [{self.critical!r}]")

    async def run(self) -> None:
        """Look at the circuits of this process; nothing here waits.

        Raises:
            ServiceUnavailable: a critical circuit is open, its time not yet up, or forced open.
            ServiceWarning: with `warn`, another is open or half-open.
            ServiceReturnedUnexpectedResult: a critical circuit can't be made.
        """
        try:
            vital = {name: breakers[name].info() for name in self.critical}
        except ConfigError as error:
            raise ServiceReturnedUnexpectedResult(str(error)) from error
        refusing = [info for info in vital.values() if _refuses(info)]
        if refusing:
            raise ServiceUnavailable(_sentences(refusing))
        impaired = self._impaired()
        if self.warn and impaired:
            raise ServiceWarning(_sentences(impaired))

    def pretty_status(self) -> str:
        """`OK`, or which circuits are degraded."""
        impaired = self._impaired()
        return f"degraded: {_sentences(impaired)}" if impaired else "OK"

    def _impaired(self) -> list[Info]:
        infos = [breaker.info() for breaker in breakers.registry.values()]
        return [info for info in infos if info.state in _IMPAIRED]


def _refuses(info: Info) -> bool:
    """Whether the next call would be refused.

    Not once the time is up: a worker that gets no traffic for being unhealthy could never probe.
    """
    return info.state is State.FORCED_OPEN or (info.state is State.OPEN and info.retry_after != 0)


def _sentences(infos: list[Info]) -> str:
    return "; ".join(_sentence(info) for info in infos)


def _sentence(info: Info) -> str:
    why = "" if info.last_trip is None else f" ({info.last_trip})"
    when = "" if info.retry_after is None else f", probes in {info.retry_after:.0f} s"
    return f"circuit {info.name!r} is {info.state.replace('_', ' ')}{why}{when}"
