"""`Console`, the public class: who is let in, and the fronts for ASGI and WSGI."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast

from fluxgate._naming import safe_repr
from fluxgate.console._access import is_local
from fluxgate.console._act import Controls, Problem
from fluxgate.console._audit import Audit
from fluxgate.console._claims import FleetClaims, LocalClaims
from fluxgate.console._exchange import Actor, Request, Response
from fluxgate.console._history import History
from fluxgate.console._local import LocalSource
from fluxgate.console._of_fleet import FleetSource
from fluxgate.console._reading import Source
from fluxgate.console._site import Site
from fluxgate.console._snapshots import Snapshots
from fluxgate.console._tokens import Tokens, secret_of
from fluxgate.console._view import Entry
from fluxgate.errors import ConfigError
from fluxgate.fleet import Fleet
from fluxgate.registry import Registry

if TYPE_CHECKING:
    from fluxgate.console._asgi import Asgi
    from fluxgate.console._wsgi import Wsgi

Name: TypeAlias = "str | None"
Admission: TypeAlias = "Callable[[Request], Name | Awaitable[Name]]"
"""A function that gives the name of whoever makes a request, or None to refuse it."""

LOCAL: Final = "local"
"""The name of whoever is let in by loopback alone."""

_logger: Final = logging.getLogger("fluxgate")


class Console:
    """A page that says which circuits refuse calls, why, since when, and where; and its JSON.

        console = Console(fleet, read=signed_in, control=on_call, secret=settings.SECRET)
        app.mount("/circuits", console.asgi)

    Each front (`asgi`, `wsgi`, those of FastAPI and Django) does what `respond` says. A healthy
    call costs nothing more for it: it shows what circuits count anyway.

    Args:
        source: whose circuits: a `Fleet`, so those of all its processes; a `Registry`, or its fleet
            if it has one; None: those of this process.
        read: called with each `Request`; gives the name of whoever makes it, or None to refuse it.
            An async function is for ASGI alone. Whatever it raises lets nobody in.
        control: the same for whoever may also use the controls; asked for whoever `read` lets in.
            None: there are none.
        local_only: whether only requests by loopback are let in, with a `Host` of this machine and
            no header of a proxy. It can stand in place of `read`.
        single_process: whether this process is the only one of its service, so that controls make
            sense without a fleet.
        critical: names of circuits that are disabled only by whoever types the name.
        secret: signs the tokens of forms; at least 16 bytes, the same in all processes that serve
            the console. Needed with `control`, unless the front has a proof of its own (Django).
        service: the service's name, for the head of the page.
        error_messages: whether the last errors are shown with their messages, where the circuits'
            own setting keeps those. They may hold secrets.
        audited: called with an `Entry` for each attempt to use a control, denied ones too.

    Raises:
        ConfigError: an argument can't be used, or nobody says who is let in.
    """

    def __init__(
        self,
        source: Registry | Fleet | None = None,
        *,
        read: Admission | None = None,
        control: Admission | None = None,
        local_only: bool = False,
        single_process: bool = False,
        critical: Collection[str] = (),
        secret: str | bytes | None = None,
        service: str | None = None,
        error_messages: bool = False,
        audited: Callable[[Entry], object] | None = None,
    ) -> None:
        if read is None and not local_only:
            raise ConfigError(
                "read is missing: give a function that returns the name of whoever makes a "
                "request, or None to refuse it; or local_only=True"
            )
        for name, function in (("read", read), ("control", control), ("audited", audited)):
            if function is not None and not callable(function):
                raise ConfigError(f"{name} must be a function, not {safe_repr(function)}")
        for name, flag in (
            ("local_only", local_only),
            ("single_process", single_process),
            ("error_messages", error_messages),
        ):
            if not isinstance(flag, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError(f"{name} must be True or False, not {safe_repr(flag)}")
        if service is not None and not isinstance(service, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"service must be text, not {safe_repr(service)}")
        key = secret_of(secret)
        if control is not None and key is None:
            raise ConfigError(
                "secret is missing: with control= the forms carry signed tokens. Give 16 bytes or "
                "more that nobody can guess, the same in every process"
            )
        self._read = read
        self._control = control
        self._local_only = local_only
        names, found = _names(critical), _source(source)
        self._history = History(has=found.has, errors=error_messages)
        self._audit = Audit(audited)
        fleet = found.fleet
        controls = Controls(
            fleet,
            self._audit,
            LocalClaims() if fleet is None else FleetClaims(fleet),
            None if key is None else Tokens(key),
            enabled=control is not None,
            single=single_process,
            critical=names,
        )
        self._site = Site(
            Snapshots(found, self._history),
            controls,
            self._audit,
            service=service or "",
            single=fleet is None and not single_process,
            local_only=local_only,
            error_messages=error_messages,
        )

    # -- who is let in

    def admit(self, request: Request) -> Actor | None:
        """Whoever makes a request; None is nobody.

        Raises:
            ConfigError: `read` or `control` is async, which only ASGI can await.
            Exception: whatever these functions raise; nobody is let in then.
        """
        if not self._is_here(request):
            return None
        name = LOCAL if self._read is None else _now("read", self._read(request))
        if not name:
            return None
        control = None if self._control is None else _now("control", self._control(request))
        return _actor(name, control)

    async def admit_async(self, request: Request) -> Actor | None:
        """The same, for `read` and `control` that may be async."""
        if not self._is_here(request):
            return None
        name = LOCAL if self._read is None else await _awaited(self._read, request)
        if not name:
            return None
        control = None if self._control is None else await _awaited(self._control, request)
        return _actor(name, control)

    def _is_here(self, request: Request) -> bool:
        return not self._local_only or is_local(request)

    # -- responses

    def respond(self, request: Request, actor: Actor | None) -> Response:
        """The response to a request.

        It may wait for the fleet's store, some seconds at most: an async application calls it in a
        thread. It never raises: an error of ours is logged, and a 500 without details.

        Args:
            request: the request.
            actor: who makes it; None is nobody, who is refused.
        """
        if not self._is_here(request):
            actor = None
        try:
            return self._site.respond(request, actor)
        except Exception:
            return self.failed(request)

    def handle(self, request: Request) -> Response:
        """The response to a request of whoever `read` and `control` say that it is."""
        try:
            actor = self.admit(request)
        except Exception:
            return self.failed(request)
        return self.respond(request, actor)

    def failed(self, request: Request) -> Response:
        """The response after an error of `read` or `control`, or of ours; it lets nobody in.

        To be called while the error is handled: it is logged, and its details are nowhere else.
        """
        _logger.exception("the console could not answer a request")
        if request.method == "POST":
            try:
                self._site.respond(request, None)  # audited
            except Exception:
                _logger.exception("the console could not audit a request")
        return self._site.problem(request, Problem(500, "went_wrong"))

    def audit(self) -> tuple[Entry, ...]:
        """The latest attempts to use a control in this process, newest first; 200 at most."""
        return self._audit.entries()

    # -- fronts

    @property
    def asgi(self) -> Asgi:
        """The console as an ASGI application, to be mounted anywhere."""
        from fluxgate.console._asgi import Asgi  # not at import: a process has one front

        return Asgi(self)

    @property
    def wsgi(self) -> Wsgi:
        """The console as a WSGI application, to be mounted anywhere.

        Raises:
            ConfigError: `read` or `control` is async, which WSGI can't await.
        """
        from fluxgate.console._wsgi import Wsgi

        for name, function in (("read", self._read), ("control", self._control)):
            if iscoroutinefunction(function):
                raise ConfigError(f"{name} is async, which WSGI can't await: give a sync function")
        return Wsgi(self)

    def close(self) -> None:
        """Stop listening to transitions. A console that nobody holds any more does so by itself."""
        self._history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _source(given: object) -> Source:
    if given is None:
        return LocalSource()
    if isinstance(given, Fleet):
        return FleetSource(given)
    if isinstance(given, Registry):
        return LocalSource(given) if given.fleet is None else FleetSource(given.fleet)
    raise ConfigError(f"source must be a Fleet, a Registry or None, not {safe_repr(given)}")


def _names(critical: Collection[str]) -> frozenset[str]:
    if isinstance(critical, str) or not all(isinstance(each, str) for each in critical):
        raise ConfigError(
            f'critical must be names of circuits, such as ["payments"]: {safe_repr(critical)}'
        )
    return frozenset(critical)


def _now(name: str, answer: Name | Awaitable[Name]) -> object:
    if isawaitable(answer):
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        raise ConfigError(f"{name} is async, which only ASGI can await")
    return answer


async def _awaited(function: Admission, request: Request) -> object:
    answer = function(request)
    return await answer if isawaitable(answer) else answer


def _actor(name: object, control: object) -> Actor:
    """The actor that the answers of `read` and `control` name.

    Raises:
        ConfigError: they are neither names nor None; `True` would leave the audit without a name.
    """
    for which, answer in (("read", name), ("control", control)):
        if answer is not None and not isinstance(answer, str):
            raise ConfigError(
                f"{which} must return a name, or None to refuse, not {safe_repr(answer)}"
            )
        if isinstance(answer, str) and answer and not answer.strip():
            raise ConfigError(
                f"{which} returned a name of spaces alone, which the audit can't show"
            )
    return Actor(cast("str", control or name), control=bool(control))
