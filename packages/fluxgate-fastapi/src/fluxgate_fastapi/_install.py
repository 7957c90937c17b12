"""`install(app)`: refusals become 503 responses, and the application gets its circuits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from fluxgate import CallNotPermittedError, ConfigError
from fluxgate.integration import ConfigSource, as_config
from fluxgate.problem import TYPE
from fluxgate.registry import Registry
from fluxgate_fastapi._handler import CircuitOpenHandler, Hook
from fluxgate_fastapi._lifespan import with_checks
from fluxgate_fastapi._middleware import CircuitBreakerMiddleware
from fluxgate_fastapi._registry import ATTRIBUTE, AppState

if TYPE_CHECKING:
    from fluxgate.fleet import Fleet


@dataclass(frozen=True)
class _Arguments:
    """The arguments of `install`; a second call with equal ones does nothing."""

    registry: Registry | None
    config: Any
    strict: bool
    fleet: Any
    handler: CircuitOpenHandler


def install(
    app: Starlette,
    *,
    registry: Registry | None = None,
    config: ConfigSource | None = None,
    strict: bool = False,
    fleet: Fleet | str | None = None,
    problem_json: bool = True,
    show_name: bool = False,
    hook: Hook | None = None,
    type: str = TYPE,  # noqa: A002 - RFC 9457's name
) -> Registry:
    """Answer refusals with a 503, give the application its circuits, and check it at its start.

    Refusals are answered wherever they are raised: in endpoints, in middleware, in mounted
    applications. Answers to what middleware raises pass through `CORSMiddleware`.

    Call it before the application starts. A mounted application that is to have circuits, or
    answers, of its own is installed itself. (To share circuits, pass the same registry.) Calling
    it again with equal arguments does nothing.

    Args:
        app: a `FastAPI` or `Starlette` application.
        registry: its circuits; by default a registry of its own.
        config: the circuits' settings, if they are not in the registry: a mapping, the path of a
            TOML file, or pydantic settings. Checked when the application starts.
        strict: whether a circuit that `config` doesn't name is an error.
        fleet: what shares the circuits with other processes: a `fluxgate.fleet.Fleet`, or a URL;
            by default what `config` says.
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
        TypeError: `app` is no FastAPI or Starlette application.
    """
    if not isinstance(app, Starlette):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"install() takes a FastAPI or Starlette application, not {app!r}; "
            "CircuitBreakerMiddleware wraps any ASGI application"
        )
    handler = CircuitOpenHandler(problem_json, show_name, hook, type)
    arguments = _Arguments(registry, config, strict, fleet, handler)
    state: AppState | None = getattr(app, ATTRIBUTE, None)
    if state is not None and state.arguments is not None:
        if state.arguments == arguments:
            return state.registry
        # Their names alone: a URL or settings may hold a password.
        others = [
            f"{each.name}="
            for each in fields(arguments)
            if getattr(arguments, each.name) != getattr(state.arguments, each.name)
        ]
        raise ConfigError(
            "install() was called for this application before, with other arguments "
            f"({', '.join(others)}): call it once"
        )
    if registry is not None and (config is not None or strict or fleet is not None):
        other = "strict=True" if strict else "fleet="
        other = "config=" if config is not None else other
        raise ConfigError(f"registry= and {other} contradict each other: give it to the Registry")
    if app.middleware_stack is not None:
        raise RuntimeError("install() comes too late: the application has started")
    if CallNotPermittedError in app.exception_handlers:
        raise ConfigError(
            "the application has an exception handler for CallNotPermittedError: "
            "pass it as hook=, or leave it out"
        )
    if registry is None:
        settings = None if config is None else as_config(config)
        registry = Registry(settings, strict=strict, fleet=fleet)
    state = AppState(registry, arguments)
    app.exception_handlers[CallNotPermittedError] = handler
    _answer_everywhere(app, handler)
    app.router.lifespan_context = with_checks(app, state)
    setattr(app, ATTRIBUTE, state)
    return registry


def _answer_everywhere(app: Starlette, handler: CircuitOpenHandler) -> None:
    """Answer the refusals that exception handlers don't see.

    Around the router: exception groups that hold one (a handler for `ExceptionGroup` would get all
    other groups, too, and Starlette makes a RuntimeError of those that it handles too late), and
    mounted applications without an `install` of their own. Around the application's middleware:
    what that raises. Which middleware there is, is known when the stack is built.
    """
    router = app.router
    router.middleware_stack = CircuitBreakerMiddleware.with_handler(
        router.middleware_stack, handler
    )
    build = app.build_middleware_stack

    def build_middleware_stack() -> ASGIApp:
        # The class itself, and no factory: tracing tools patch the classes that they find here.
        own = Middleware(
            CircuitBreakerMiddleware,
            problem_json=handler.problem_json,
            show_name=handler.show_name,
            hook=handler.hook,
            type=handler.type,
        )
        added = app.user_middleware
        if not added:
            return build()
        # Inside CORS, or else a browser would not let its page read the answer.
        outer = [at for at, each in enumerate(added, 1) if cast(object, each.cls) is CORSMiddleware]
        place = max(outer, default=0)
        if place == len(added):
            return build()  # nothing is left that it could answer for
        app.user_middleware = [*added[:place], own, *added[place:]]
        try:
            return build()
        finally:
            app.user_middleware = added

    app.build_middleware_stack = build_middleware_stack  # type: ignore[method-assign]
