"""Start-up checks of an application's routes: settings, names, sync and async."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Iterator
from typing import Any, Protocol, cast

from fluxgate import ConfigError, FluxgateError, WrongFrontError
from fluxgate.integration import did_you_mean, nearest, raise_all
from fluxgate.registry import Registry, UnknownCircuitError
from fluxgate_fastapi._declaration import Declaration

CRITICAL = "__fluxgate_critical__"
"""The attribute of a health page's endpoint: the names it calls critical, and their registry."""


class _Dependant(Protocol):
    """The part of FastAPI's dependency tree that is looked at."""

    call: Any
    name: str | None
    dependencies: list[_Dependant]


def front_mismatches(route: Any) -> list[FluxgateError]:
    """Errors for a sync endpoint that is handed an async breaker, which it can't await.

    A sync dependency may well hand one on.
    """
    endpoint = cast("_Dependant | None", getattr(route, "dependant", None))
    if endpoint is None or _is_async(endpoint.call):
        return []
    name = getattr(endpoint.call, "__qualname__", repr(endpoint.call))
    return [
        WrongFrontError(
            f"{where(route)}: {name}() is not async, and {sub.name} is an async breaker, which it "
            f"can't await: use Breaker({sub.call.name!r}, sync=True), or async def"
        )
        for sub in endpoint.dependencies
        # Without a parameter's name it is not handed in: nobody could call it.
        if sub.name is not None and isinstance(sub.call, Declaration) and sub.call.gives_async
    ]


def declared_in(route: Any) -> Iterator[Declaration]:
    """The declarations of a route, those of its dependencies included."""
    own = getattr(route, "declared", None)  # BreakerRoute
    if own is None:
        own = getattr(getattr(route, "original_route", None), "declared", None)
    if isinstance(own, Declaration):
        yield own
    for dependant in _tree(route):
        if isinstance(dependant.call, Declaration):
            yield dependant.call


def check_routes(routes: Collection[Any], registry: Registry) -> list[Declaration]:
    """Check the declarations of the routes, and hand them to the registry.

    Args:
        routes: routes, or the contexts that `iter_route_contexts` gives.
        registry: where the circuits will be.

    Returns:
        The declarations.

    Raises:
        FluxgateError: the mistakes, each with its route. One mistake keeps its own type.
    """
    problems: list[FluxgateError] = []
    found: list[tuple[str, Declaration]] = []
    for route in routes:
        problems += front_mismatches(route)
        found += [(where(route), each) for each in declared_in(route)]
    sound: list[tuple[str, Declaration]] = []
    for place, each in found:
        try:
            each.declare(registry)
            sound.append((place, each))
        except ConfigError as error:
            problems.append(_placed(error, place))
    reported: set[str] = set()
    for place, each in sound:
        # Only when all have been declared: the order of the routes then means nothing.
        try:
            registry[each.name]
        except ConfigError as error:
            if each.name not in reported:
                problems.append(_placed(error, place))
            reported.add(each.name)
    for route in routes:
        problems += unknown_critical(route, registry, {each.name for _, each in found})
    raise_all(problems, "mistakes")
    return [each for _, each in found]


def unknown_critical(route: Any, registry: Registry, declared: set[str]) -> list[ConfigError]:
    """Errors for the names that a health page calls critical, and that are no circuit's.

    A name that is like none of those that there are may be a circuit that is made later, such as
    that of a host; a strict registry makes none.
    """
    endpoint = getattr(getattr(route, "original_route", route), "endpoint", None)
    names, own = getattr(endpoint, CRITICAL, ((), None))
    source: Registry = registry if own is None else own
    known = {*source.config.breakers, *source, *(declared if source is registry else ())}
    problems: list[ConfigError] = []
    for name in sorted(names):
        if source.knows(name) or name in known:
            continue
        if source.strict or nearest(name, known, cutoff=0.8) is not None:
            told = f"health(critical={{{name!r}}}): no circuit is called {name!r}"
            problems.append(ConfigError(f"{where(route)}: {told}{did_you_mean(name, known)}"))
    return problems


def where(route: Any) -> str:
    """The name of a route in messages: `GET /orders/{id}`."""
    methods = "/".join(sorted(getattr(route, "methods", None) or ())) or "WebSocket"
    return f"{methods} {getattr(route, 'path', None) or '?'}"


def _placed(error: ConfigError, place: str) -> ConfigError:
    kind = UnknownCircuitError if isinstance(error, UnknownCircuitError) else ConfigError
    placed = kind(f"{place}: {error}")
    placed.__cause__ = error
    return placed


def _tree(route: Any) -> Iterator[_Dependant]:
    """The route's dependency tree, its endpoint first; nothing if it is not FastAPI's."""
    top = cast("_Dependant | None", getattr(route, "dependant", None))
    left = [] if top is None else [top]
    while left:
        dependant = left.pop()
        yield dependant
        left += reversed(dependant.dependencies)


def _is_async(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType]
    function = inspect.unwrap(function)
    call = getattr(function, "__call__", None)  # noqa: B004 - an instance's may be async
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, call)
    )
