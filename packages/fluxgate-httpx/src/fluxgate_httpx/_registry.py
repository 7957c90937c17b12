"""The registry behind a transport: from a factory, from settings, or the one handed in."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from fluxgate import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.config import Config, Factory, SettingError
from fluxgate.integration import ConfigSource, Host, as_config, parse_host, raise_all
from fluxgate.registry import Registry
from fluxgate_httpx._key import by_host, by_origin

if TYPE_CHECKING:
    from fluxgate.fleet import Fleet

CircuitSource: TypeAlias = Factory | ConfigSource
"""Where circuits come from: a function of the key, settings by key, or a TOML file of them."""

MAX_HOSTS: Final = 1024


def registry_for(
    circuits: CircuitSource | None,
    registry: Registry | None,
    max_hosts: int | None,
    key: object,
    fleet: Fleet | str | None = None,
) -> Registry:
    """The registry that those arguments of a transport ask for."""
    if registry is not None:
        given = "circuits=" if circuits is not None else "max_hosts="
        if circuits is not None or max_hosts is not None:
            raise TypeError(
                f"{given} and registry= contradict each other: a registry makes its own circuits, "
                "and has a bound. Use Registry(settings, factory=..., max_circuits=...) alone"
            )
        if fleet is not None:
            raise TypeError(
                "fleet= and registry= contradict each other: use Registry(..., fleet=...) alone"
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
        return Registry(max_circuits=max_hosts, fleet=fleet)
    config = _config(circuits)
    if config is None:
        return Registry(factory=_factory(circuits), max_circuits=max_hosts, fleet=fleet)
    # now, not when some host is first called
    raise_all([*config.problems(), *_unreachable(config, key)])
    return Registry(config, max_circuits=max_hosts, fleet=fleet)


def _unreachable(config: Config, key: object) -> Iterator[SettingError]:
    """The rules for hosts that no request can meet.

    With a key function of the caller's, any name may be a circuit's.
    """
    if key not in (by_host, by_origin):
        return
    seen: dict[str, str] = {}
    patterns: list[str] = []
    for name in config.breakers:
        host = parse_host(name)
        problem = _not_a_host(host, name)
        rule = host.names[0] if key is by_origin else (*host.bare_names, *host.names)[0]
        if problem is None and rule in seen:
            problem = f"it is the same circuit as {seen[rule]!r}: keep one"
            if key is by_host and "://" in name + seen[rule]:
                problem += ", or tell the schemes apart with key=by_origin"
        if problem is None and "*" in rule:
            earlier = next((each for each in patterns if _covers(each, rule)), None)
            if earlier is not None:
                problem = f"{earlier!r} stands before it and fits all that it fits: put it first"
            patterns.append(rule)
        seen.setdefault(rule, name)
        if problem is not None:
            yield SettingError(problem, name)


def _covers(pattern: str, other: str) -> bool:
    """Whether everything that fits the pattern `other` fits `pattern`, too."""
    return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), other))


def _not_a_host(host: Host, name: str) -> str | None:
    """The reason why no request goes to a host that is written so; None if one can."""
    if host.rest and ("://" in name or "." in host.host or host.port is not None):
        return f"a circuit is a host's, without {host.rest!r}: leave that out, or use key="
    if not host.host or any(each.isspace() for each in host.host):
        return "it names no host"
    if host.port is not None and host.port > 65535:
        return f"there is no port {host.port}"
    return None


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
