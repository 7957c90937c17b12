"""Deployment checks: `manage.py check --deploy`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from django.core.checks import CheckMessage, Info, register
from django.core.checks import Warning as Caution

from fluxgate import AsyncCircuitBreaker, CircuitBreaker, ConfigError, State
from fluxgate.retries import Never
from fluxgate_django import conf
from fluxgate_django.checks._settings import TAG

_BEGINS: Final = {
    State.DISABLED: "begins disabled: every call goes through, and none is counted.",
    State.METRICS_ONLY: "begins as metrics only: it counts calls, and never opens.",
    State.FORCED_OPEN: "begins forced open: every call is refused until reset() in every worker.",
}


@register(TAG, deploy=True)
def check_deployment(**_: Any) -> list[CheckMessage]:
    """Warn about separate circuits in each worker, and about circuits not starting as closed."""
    workers = os.environ.get("WEB_CONCURRENCY", "")
    several = f"WEB_CONCURRENCY is {workers}, and each" if workers.isdecimal() else "each"
    found: list[CheckMessage] = []
    if not _shared():
        told_apart = Info(
            f"{several} worker process has circuits of its own: a minimum such as MinRequests(10) "
            "is counted in each of them, and each opens and probes for itself.",
            hint="Give FLEET, and they are one; or choose minimums for the calls of one worker.",
            obj=conf.NAME,
            id="fluxgate.I002",
        )
        found.append(told_apart)
    for name, breaker in _configured():
        if isinstance(breaker.policy.retry, Never):
            found.append(
                Caution(
                    "stays open until reset(), which has to be called in every worker.",
                    hint="A RETRY such as Backoff(5) probes by itself.",
                    obj=f"{conf.NAME}: {name}.RETRY",
                    id="fluxgate.W004",
                )
            )
        told = _BEGINS.get(breaker.state)
        if told is not None:
            found.append(
                Info(
                    told,
                    hint="Drop INITIAL_STATE, unless you mean it.",
                    obj=f"{conf.NAME}: {name}.INITIAL_STATE",
                    id="fluxgate.I003",
                )
            )
    return found


def _shared() -> bool:
    """Whether the circuits are those of a fleet."""
    try:
        return conf.settings().config.fleet is not None
    except ConfigError:
        return False


def _configured() -> Iterator[tuple[str, CircuitBreaker | AsyncCircuitBreaker]]:
    """A breaker by each table of settings that can be used. Factories are not called."""
    try:
        config = conf.settings().config
    except ConfigError:
        return
    tables: dict[str, Any] = {"DEFAULTS": {}, **config.breakers}
    for name, entry in tables.items():
        if isinstance(entry, Mapping):
            with suppress(ConfigError):
                yield name, config.make(name, cast("Mapping[str, Any]", entry))
