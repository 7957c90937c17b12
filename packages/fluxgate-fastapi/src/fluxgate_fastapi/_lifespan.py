"""Lifespan of an application: checks at its start; at its end listeners close, the fleet hears."""

from __future__ import annotations

import inspect
import logging
import os
import pkgutil
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

from fastapi import routing
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool

from fluxgate.integration import raise_all
from fluxgate.registry import Registry
from fluxgate_fastapi._checks import check_routes
from fluxgate_fastapi._declaration import BreakerSettings, Declaration
from fluxgate_fastapi._registry import ATTRIBUTE, AppState


@dataclass(slots=True)
class _Shared:
    """The running applications of one registry; the last to stop closes the listeners."""

    applications: int = 0
    declared: dict[int, Declaration] = field(default_factory=dict[int, Declaration])
    """By id, since equal ones may have other settings; also of those that have stopped."""


_running: WeakKeyDictionary[Registry, _Shared] = WeakKeyDictionary()
_lock = threading.Lock()
"""For `_running`: servers may run in several threads."""


def _restart() -> None:
    """Begin anew in a forked child, where the lock's holder may not exist."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart)


def with_checks(app: Starlette, state: AppState) -> Any:
    """The application's lifespan with a check at its start, and listeners closed at its end."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: Any) -> AsyncGenerator[Any]:
        context = cast("AbstractAsyncContextManager[Any]", inner(served))
        # After the user's own start, which may still add settings and routes.
        async with context as yielded, AsyncExitStack() as stack:
            for registry, declared in check(app, state):
                await stack.enter_async_context(_listening(registry, declared))
            yield yielded

    return lifespan


def check(app: Starlette, state: AppState) -> list[tuple[Registry, list[Declaration]]]:
    """Check the settings and the routes, those of mounted applications included.

    Returns:
        Each registry, and what the routes declare there.

    Raises:
        FluxgateError: the mistakes, each with its path or route.
    """
    raise_all(state.registry.config.problems())
    # FastAPI that has this keeps included routers as they are, and app.routes doesn't show theirs.
    contexts: Any = getattr(routing, "iter_route_contexts", None)
    routes: list[Any] = list(app.routes if contexts is None else contexts(app.routes))
    found = [(state.registry, check_routes(routes, state.registry))]
    # Requests name a route of an included router by the original. Those not here (added later, or
    # in a router that can't be looked into) are checked at their first use.
    originals = [getattr(route, "original_route", route) for route in routes]
    state.checked = {id(route): route for route in originals}
    for route in routes:
        mounted = getattr(route, "app", None)
        if isinstance(mounted, Starlette):
            # Nobody runs its lifespan.
            own: AppState | None = getattr(mounted, ATTRIBUTE, None)
            if own is not None and own.arguments is not None:
                found += check(mounted, own)
    return found


@asynccontextmanager
async def _listening(registry: Registry, declared: list[Declaration]) -> AsyncGenerator[None]:
    with _lock:
        shared = _running.setdefault(registry, _Shared())
        shared.applications += 1
        shared.declared.update((id(each), each) for each in declared)
    try:
        yield
    finally:
        with _lock:
            shared.applications -= 1
            last = shared.applications == 0
            if last:
                del _running[registry]
        if last:
            for close in _closers(registry, shared.declared.values()):
                await _close(close)
            if registry.fleet is not None:  # a signal may end the process: no exit handler says it
                await _close(registry.fleet.withdraw)


async def _close(close: Any) -> None:
    """Call it without stopping the loop: it may wait for a worker."""
    try:
        if inspect.iscoroutinefunction(close):
            await close()
        else:
            await run_in_threadpool(close)
    except Exception:
        logging.getLogger("fluxgate").exception("a listener or fleet could not be closed")


def _closers(registry: Registry, declared: Iterable[Declaration]) -> Iterator[Any]:
    """The `aclose` or `close` of every listener, each once: of circuits, settings and routes.

    The registry doesn't know the settings of a route whose circuit has not been used yet.
    """
    routes = (listener for each in declared for listener in _listeners(each.settings))
    each_once = {id(listener): listener for listener in (*registry.listeners(), *routes)}
    for listener in each_once.values():
        close = getattr(listener, "aclose", None) or getattr(listener, "close", None)
        if callable(close):
            yield close


def _listeners(settings: BreakerSettings) -> Iterator[object]:
    for each in settings.get("listeners", ()):
        with suppress(ImportError, AttributeError, ValueError):
            yield pkgutil.resolve_name(each) if isinstance(each, str) else each
