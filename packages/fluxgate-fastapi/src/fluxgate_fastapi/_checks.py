"""Mistakes that can be seen before the first call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

from fluxgate import ConfigError, FluxgateError, WrongFrontError
from fluxgate.integration import raise_all
from fluxgate.registry import Registry, UnknownCircuitError
from fluxgate_fastapi._declaration import Declared


class _Dependant(Protocol):
    """The part of FastAPI's dependency tree that is looked at."""

    call: Any
    name: str | None
    dependencies: list[_Dependant]


def mismatches(route: Any) -> list[FluxgateError]:
    """What is wrong with a sync endpoint that gets an async breaker, which it can't await.

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
        if sub.name is not None and isinstance(sub.call, Declared) and sub.call.gives_async
    ]


def declared_in(route: Any) -> Iterator[Declared]:
    """The circuits that a route names, its dependencies' included."""
    own = getattr(route, "declared", None)  # BreakerRoute
    if own is None:
        own = getattr(getattr(route, "original_route", None), "declared", None)
    if isinstance(own, Declared):
        yield own
    for dependant in _tree(route):
        if isinstance(dependant.call, Declared):
            yield dependant.call


def check_routes(routes: Iterable[Any], registry: Registry) -> list[Declared]:
    """Everything that the routes say about circuits, checked and declared.

    Args:
        routes: routes, or the contexts that `iter_route_contexts` gives.
        registry: where the circuits will be.

    Returns:
        What was found.

    Raises:
        FluxgateError: the mistakes, each with its route. One mistake keeps its own type.
    """
    problems: list[FluxgateError] = []
    found: list[tuple[str, Declared]] = []
    for route in routes:
        problems += mismatches(route)
        found += [(where(route), each) for each in declared_in(route)]
    sound: list[tuple[str, Declared]] = []
    for place, each in found:
        try:
            each.declare(registry)
            sound.append((place, each))
        except ConfigError as error:
            problems.append(_placed(error, place))
    told: set[str] = set()
    for place, each in sound:
        # Only when all have been declared: the order of the routes then means nothing.
        try:
            registry[each.name]
        except ConfigError as error:
            if each.name not in told:
                problems.append(_placed(error, place))
            told.add(each.name)
    raise_all(problems, "mistakes")
    return [each for _, each in found]


def where(route: Any) -> str:
    """A route as one would call it: `GET /orders/{id}`."""
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
