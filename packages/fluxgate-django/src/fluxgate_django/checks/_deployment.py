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
_BEGINS_ALONE: Final = (
    "begins forced open: every call is refused until reset() in every worker, for what a worker "
    "begins with is its own, and no reset of the fleet ends it."
)
_STAYS: Final = {
    False: "stays open until reset(), which has to be called in every worker.",
    True: "stays open until reset(fleet=True), or `manage.py fluxgate reset NAME --fleet`.",
}


@register(TAG, deploy=True)
def check_deployment(**_: Any) -> list[CheckMessage]:
    """Notes of circuits that no fleet shares, that no time reopens, or that don't begin closed."""
    workers = os.environ.get("WEB_CONCURRENCY", "")
    several = f"WEB_CONCURRENCY is {workers}, and each" if workers.isdecimal() else "each"
    found: list[CheckMessage] = []
    shared = _shared()
    if not shared:
        told_apart = Info(
            f"{several} worker process has circuits of its own: a minimum such as MinRequests(10) "
            "is counted in each of them, and each opens and probes for itself.",
            hint="Give FLEET, such as sqlite:///run/shop/fluxgate.db or redis://host:6379/0, and "
            "they are one; or choose minimums for the calls of one worker.",
            obj=conf.NAME,
            id="fluxgate.I002",
        )
        found.append(told_apart)
    for name, breaker in _configured():
        if isinstance(breaker.policy.retry, Never):
            found.append(
                Caution(
                    _STAYS[shared],
                    hint="A RETRY such as Backoff(5) probes by itself.",
                    obj=f"{conf.NAME}: {name}.RETRY",
                    id="fluxgate.W004",
                )
            )
        told = _BEGINS.get(breaker.state)
        if shared and breaker.state is State.FORCED_OPEN:
            told = _BEGINS_ALONE
        if told is not None:
            found.append(
                Info(
                    told,
                    hint=_hint(breaker.state, shared),
                    obj=f"{conf.NAME}: {name}.INITIAL_STATE",
                    id="fluxgate.I003",
                )
            )
    return found


def _hint(state: State, shared: bool) -> str:
    if not shared or state is State.METRICS_ONLY:
        return "Drop INITIAL_STATE, unless you mean it."
    verb = "open" if state is State.FORCED_OPEN else "disable"
    return (
        "Drop INITIAL_STATE, unless you mean it; `manage.py fluxgate "
        f"{verb} NAME --fleet` does it for every worker, and is taken back."
    )


def _shared() -> bool:
    """Whether the circuits are those of a fleet. `memory://` ends with the process: it is none."""
    try:
        fleet = conf.settings().registry.fleet
    except ConfigError:
        return False
    return fleet is not None and not repr(fleet).startswith("<Fleet memory:")


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
