"""What happens when an application starts and stops."""

from __future__ import annotations

import inspect
import logging
import pkgutil
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any, cast
from weakref import WeakKeyDictionary

from fastapi import routing
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool

from fluxgate.registry import Registry
from fluxgate_fastapi._checks import check_routes, raise_all
from fluxgate_fastapi._declared import Declared
from fluxgate_fastapi._installed import ATTRIBUTE, Installed

_running: WeakKeyDictionary[Registry, int] = WeakKeyDictionary()
"""How many running applications share a registry: the last to stop closes its listeners."""


def attend(app: Starlette, installed: Installed) -> Any:
    """The application's lifespan with a check at its start, and listeners closed at its end."""
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: Any) -> AsyncGenerator[Any]:
        context = cast("AbstractAsyncContextManager[Any]", inner(served))
        # After the user's own start, which may still add settings and routes.
        async with context as state, AsyncExitStack() as stack:
            for registry, declared in check(app, installed):
                await stack.enter_async_context(_listening(registry, declared))
            yield state

    return lifespan


def check(app: Starlette, installed: Installed) -> list[tuple[Registry, list[Declared]]]:
    """Check the settings and the routes, those of mounted applications included.

    Returns:
        Each registry, and what the routes declare there.

    Raises:
        FluxgateError: the mistakes, each with its path or route.
    """
    raise_all(installed.registry.config.problems())
    # FastAPI that has this keeps included routers as they are, and app.routes doesn't show theirs.
    contexts: Any = getattr(routing, "iter_route_contexts", None)
    routes: list[Any] = list(app.routes if contexts is None else contexts(app.routes))
    found = [(installed.registry, check_routes(routes, installed.registry))]
    installed.checked = contexts is not None
    for route in routes:
        mounted = getattr(route, "app", None)
        if isinstance(mounted, Starlette):
            # Nobody runs its lifespan.
            own: Installed | None = getattr(mounted, ATTRIBUTE, None)
            if own is not None and own.terms is not None:
                found += check(mounted, own)
    return found


@asynccontextmanager
async def _listening(registry: Registry, declared: list[Declared]) -> AsyncGenerator[None]:
    _running[registry] = _running.get(registry, 0) + 1
    try:
        yield
    finally:
        _running[registry] -= 1
        if _running[registry] == 0:
            for close in _closers(registry, declared):
                await _close(close)


async def _close(close: Any) -> None:
    """Call it without stopping the loop: it may wait for a worker."""
    try:
        if inspect.iscoroutinefunction(close):
            await close()
        else:
            await run_in_threadpool(close)
    except Exception:
        logging.getLogger("fluxgate").exception("a listener could not be closed")


def _closers(registry: Registry, declared: list[Declared]) -> Iterator[Any]:
    """The `aclose` or `close` of every listener that the settings name, each once."""
    config = registry.config
    tables: list[Any] = [config.defaults, *config.breakers.values()]
    tables += [each.settings for each in declared]
    told: list[object] = []
    for table in tables:
        for listener in _listeners(table):
            if any(listener is each for each in told):
                continue
            told.append(listener)
            close = getattr(listener, "aclose", None) or getattr(listener, "close", None)
            if callable(close):
                yield close


def _listeners(table: Any) -> Iterable[object]:
    if not isinstance(table, dict):  # a factory
        return
    for key, value in cast("dict[str, Any]", table).items():
        if key.lower() == "listeners" and isinstance(value, (list, tuple)):
            for each in cast("list[object]", value):
                with suppress(ImportError, AttributeError, ValueError):
                    yield pkgutil.resolve_name(each) if isinstance(each, str) else each
