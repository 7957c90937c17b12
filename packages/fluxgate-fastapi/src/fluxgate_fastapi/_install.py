"""`install(app)`: one call that makes refusals answers, and settings the application's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette

from fluxgate import CallNotPermittedError, ConfigError
from fluxgate.integration import ConfigSource, as_config
from fluxgate.problem import TYPE
from fluxgate.registry import Registry
from fluxgate_fastapi._handler import CircuitOpenHandler, Hook
from fluxgate_fastapi._lifespan import attend
from fluxgate_fastapi._registry import ATTRIBUTE, Installed


@dataclass(frozen=True)
class _Terms:
    """What `install` was called with; equal terms make a second call harmless."""

    registry: Registry | None
    config: Any
    strict: bool
    handler: CircuitOpenHandler


def install(
    app: Starlette,
    *,
    registry: Registry | None = None,
    config: ConfigSource | None = None,
    strict: bool = False,
    problem_json: bool = True,
    show_name: bool = False,
    hook: Hook | None = None,
    type: str = TYPE,  # noqa: A002 - RFC 9457's name
) -> Registry:
    """Answer refusals with a 503, give the application its circuits, and check it at its start.

    Call it before the application starts, also for each mounted sub-application: their
    exceptions, and their lifespans, are their own. (To share circuits, pass the same registry.)
    Calling it again with equal arguments does nothing.

    Args:
        app: a `FastAPI` or `Starlette` application.
        registry: its circuits; by default a registry of its own.
        config: the circuits' settings, if they are not in the registry: a mapping, the path of a
            TOML file, or pydantic settings. Checked when the application starts.
        strict: whether a circuit that `config` doesn't name is an error.
        problem_json: whether the body is RFC 9457 problem+json, or else `{"detail": ...}`.
        show_name: whether it names the circuit, and says why it opened.
        hook: called with the request and the refusal; the `Response` that it returns is sent,
            and on None the usual one.
        type: the problem's type, a URI.

    Returns:
        The application's registry.

    Raises:
        ConfigError: contradictory arguments, or others than those of an earlier call; or the
            application handles refusals already.
        RuntimeError: the application has started.
    """
    if not isinstance(app, Starlette):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"install() takes a FastAPI or Starlette application, not {app!r}; "
            "CircuitBreakerMiddleware wraps any ASGI application"
        )
    handler = CircuitOpenHandler(problem_json, show_name, hook, type)
    terms = _Terms(registry, config, strict, handler)
    installed: Installed | None = getattr(app, ATTRIBUTE, None)
    if installed is not None and installed.terms is not None:
        if installed.terms == terms:
            return installed.registry
        raise ConfigError(
            f"install() was called for this application before, with other arguments: "
            f"{installed.terms}, and now {terms}; call it once"
        )
    if registry is not None and (config is not None or strict):
        other = "config=" if config is not None else "strict=True"
        raise ConfigError(f"registry= and {other} contradict each other: give it to the Registry")
    if app.middleware_stack is not None:
        raise RuntimeError("install() comes too late: the application has started")
    if CallNotPermittedError in app.exception_handlers:
        raise ConfigError(
            "the application has an exception handler for CallNotPermittedError: "
            "pass it as hook=, or leave it out"
        )
    if registry is None:
        registry = Registry(None if config is None else as_config(config), strict=strict)
    installed = Installed(registry, terms)
    app.exception_handlers[CallNotPermittedError] = handler
    # A group may hold a refusal. Who has a handler for groups keeps it.
    app.exception_handlers.setdefault(ExceptionGroup, handler)
    app.router.lifespan_context = attend(app, installed)
    setattr(app, ATTRIBUTE, installed)
    return registry
