"""Fluxgate's state on an application: its registry, and which routes have been checked."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastapi.requests import HTTPConnection

from fluxgate.integration import raise_all
from fluxgate.registry import Registry
from fluxgate_fastapi._checks import front_mismatches

ATTRIBUTE = "_fluxgate"
"""The application's attribute that holds its `AppState`: `app.state` costs ten times as much."""

_defaults: dict[str, Registry] = {}


def default_registry() -> Registry:
    """The registry of the process, which serves applications that have none of their own."""
    made = _defaults.get("default")
    # setdefault is atomic: two threads that come first get the same one
    return _defaults.setdefault("default", Registry()) if made is None else made


class AppState:
    """Fluxgate's state on the application.

    Attributes:
        registry: the application's circuits.
        arguments: the arguments of `install`; None where nobody called it.
        checked: the routes that have been checked, at the lifespan's start or their first use;
            by id, since they have no hash, and held, so that an id stays its own.
        consoles: the consoles of the routers that the application has included, by router.
    """

    __slots__ = ("arguments", "checked", "consoles", "registry")

    def __init__(self, registry: Registry, arguments: object = None) -> None:
        self.registry = registry
        self.arguments = arguments
        self.checked: dict[int, Any] = {}
        self.consoles: dict[object, Any] = {}

    def first_use(self, scope: Mapping[str, Any]) -> None:
        """Check the route that is being served, once.

        Raises:
            WrongFrontError: a sync function there gets an async breaker.
        """
        route = scope.get("route")
        if route is not None:
            raise_all(front_mismatches(route), "mistakes")
            self.checked[id(route)] = route

    def __repr__(self) -> str:
        return f"<Fluxgate state with {self.registry!r}>"


def state_of(app: Any) -> AppState:
    """The state of `app`; without `install`, one with the process-wide registry."""
    try:
        return app._fluxgate  # type: ignore[no-any-return]
    except AttributeError:
        state = AppState(default_registry())
    with suppress(AttributeError):  # no application, or one of another kind: made anew each time
        setattr(app, ATTRIBUTE, state)
    return state


def registry_of(where: Any) -> Registry:
    """The registry that serves an application, a request or a WebSocket.

    Args:
        where: a `FastAPI` or `Starlette` application, a `Request`, or a `WebSocket`.
    """
    app = where.scope.get("app") if isinstance(where, HTTPConnection) else where
    return state_of(app).registry
