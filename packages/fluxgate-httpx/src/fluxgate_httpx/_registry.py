"""The registry behind a transport: from a factory, from settings, or the one handed in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, cast

from fluxgate import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.config import Config, Factory
from fluxgate.integration import ConfigSource, as_config, raise_all
from fluxgate.registry import Registry
from fluxgate_httpx._key import broader

CircuitSource: TypeAlias = Factory | ConfigSource
"""Where circuits come from: a function of the key, settings by key, or a TOML file of them."""

MAX_HOSTS: Final = 1024


class HostConfig(Config):
    """Settings by host: what stands under a host without its port holds for all its ports."""

    __slots__ = ()

    def entry(self, name: str) -> str | None:
        """Under which host or pattern the settings for `name` stand; None if under none."""
        names = (name, *broader(name))
        for each in names:
            if each in self.breakers:
                return each
        patterns = super().entry
        return next((found for each in names if (found := patterns(each)) is not None), None)


def registry_for(
    circuits: CircuitSource | None, registry: Registry | None, max_hosts: int | None
) -> Registry:
    """The registry that those arguments of a transport ask for."""
    if registry is not None:
        given = "circuits=" if circuits is not None else "max_hosts="
        if circuits is not None or max_hosts is not None:
            raise TypeError(
                f"{given} and registry= contradict each other: a registry makes its own circuits, "
                "and has a bound. Use Registry(settings, factory=..., max_circuits=...) alone"
            )
        if not isinstance(registry, Registry):
            raise TypeError(
                f"registry= takes a fluxgate.registry.Registry, not {registry!r}; "
                "it serves sync and async transports alike"
            )
        return registry
    if max_hosts is None:
        max_hosts = MAX_HOSTS
    if isinstance(max_hosts, bool) or not isinstance(max_hosts, int):
        raise TypeError(f"max_hosts must be a whole number, not {max_hosts!r}")
    if max_hosts < 1:
        raise ValueError(f"max_hosts must be at least 1, not {max_hosts}")
    if circuits is None:
        return Registry(max_circuits=max_hosts)
    config = _config(circuits)
    if config is None:
        return Registry(factory=_factory(circuits), max_circuits=max_hosts)
    own = HostConfig(config.breakers, config.defaults, source=config.source)
    raise_all(own.problems())  # now, not when some host is first called
    return Registry(own, max_circuits=max_hosts)


def _config(given: CircuitSource) -> Config | None:
    """The settings, if that is what was given; None for anything else."""
    if isinstance(given, (Config, str, os.PathLike, Mapping)) or hasattr(given, "fluxgate"):
        return as_config(cast("ConfigSource", given), "circuits")
    return None


def _factory(given: Any) -> Factory:
    if isinstance(given, (CircuitBreaker, AsyncCircuitBreaker)):
        raise TypeError(
            f"circuits= takes a function of the key that makes a breaker, not {given!r}: use "
            "circuits=lambda key: CircuitBreaker(key, ...), and for one circuit for all hosts "
            'key=lambda url: "all", too'
        )
    if isinstance(given, type):  # a class makes breakers, too
        make = cast("type[CircuitBreaker]", given)
        return lambda key: make(key)
    if not callable(given):
        raise TypeError(
            "circuits= takes a function of the key that makes a breaker, settings by key, "
            f"or the path of a TOML file, not {given!r}"
        )
    return cast("Factory", given)
