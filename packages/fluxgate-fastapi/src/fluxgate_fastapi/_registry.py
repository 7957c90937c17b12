"""Which registry serves an application, and what is known about its routes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fastapi.requests import HTTPConnection

from fluxgate.integration import raise_all
from fluxgate.registry import Registry
from fluxgate_fastapi._checks import mismatches

ATTRIBUTE = "_fluxgate_installed"
"""Of an application: its `Installed`. To look into `app.state` would cost ten times as much."""

_defaults: dict[str, Registry] = {}


def default_registry() -> Registry:
    """The registry of the process, which serves applications that have none of their own."""
    made = _defaults.get("default")
    # setdefault is atomic: two threads that come first get the same one
    return _defaults.setdefault("default", Registry()) if made is None else made


class Installed:
    """What an application has of us.

    Attributes:
        registry: the application's circuits.
        terms: what `install` was called with; None where nobody called it.
        checked: the routes that have been checked, at the lifespan's start or their first use;
            by id, since they have no hash, and held, so that an id stays its own.
    """

    __slots__ = ("checked", "registry", "terms")

    def __init__(self, registry: Registry, terms: object = None) -> None:
        self.registry = registry
        self.terms = terms
        self.checked: dict[int, Any] = {}

    def first_use(self, scope: Mapping[str, Any]) -> None:
        """Check the route that is being served.

        Raises:
            WrongFrontError: a sync function there gets an async breaker.
        """
        route = scope.get("route")
        if route is not None:
            raise_all(mismatches(route), "mistakes")
            self.checked[id(route)] = route

    def __repr__(self) -> str:
        return f"<Fluxgate, installed with {self.registry!r}>"


def installed_in(app: Any) -> Installed:
    """What serves `app`: what was installed, or else the process-wide registry."""
    try:
        return app._fluxgate_installed  # type: ignore[no-any-return]
    except AttributeError:
        installed = Installed(default_registry())
    with suppress(AttributeError):  # no application, or one of another kind: made anew each time
        setattr(app, ATTRIBUTE, installed)
    return installed


def registry_of(where: Any) -> Registry:
    """The registry that serves an application, a request or a WebSocket.

    Args:
        where: a `FastAPI` or `Starlette` application, a `Request`, or a `WebSocket`.
    """
    app = where.scope.get("app") if isinstance(where, HTTPConnection) else where
    return installed_in(app).registry
