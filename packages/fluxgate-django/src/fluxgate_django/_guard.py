"""Guard of one function by a circuit: the common part of `circuit` and `CircuitMixin`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, Final, NamedTuple, TypeGuard, cast
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from django.views import View

from fluxgate import Attempt, CallNotPermittedError, ConfigError, WrongFrontError
from fluxgate.integration import Ticket, attempt_of, describe, enter, leave
from fluxgate_django import conf
from fluxgate_django._async import is_async
from fluxgate_django._outcome import known, settle_raised, settle_returned
from fluxgate_django.signals import send_rejected

Fallback = Callable[[Exception], Any]
"""Called with any `Exception` that comes out, refusals included; its result takes the place."""

COROUTINE: Final[Any] = CoroutineType
"""The type of what an async function returns."""


class Use(NamedTuple):
    """A circuit that is named in code.

    Attributes:
        name: the circuit's name.
        where: the dotted name of what is behind it.
    """

    name: str
    where: str


_uses: Final[WeakKeyDictionary[Any, Use]] = WeakKeyDictionary()
"""By their holder, a decorator or a class; an entry goes with it."""


def note(holder: object, use: Use) -> None:
    """Remember a circuit that is named in code, as long as `holder` lives."""
    _uses[holder] = use


def uses() -> list[Use]:
    """The circuits that decorators and mixins name, in the modules imported so far."""
    return sorted(_uses.values())


class Guard:
    """A circuit's name, and what answers when it, or the call, gives nothing.

    The circuit is looked up at each call, so that it is the one of the settings as they are then.

    Args:
        name: the circuit's name.
        fallback: called with any `Exception` that comes out of the call.
        on_open: a view, or its dotted path, that answers what the circuit refuses.
        statuses: a response with one of these is a failure.
    """

    __slots__ = ("__weakref__", "fallback", "name", "on_open", "statuses")

    def __init__(
        self,
        name: str,
        fallback: Fallback | None,
        on_open: Callable[..., Any] | str | None,
        statuses: frozenset[int],
    ) -> None:
        self.name = name
        self.fallback = fallback
        self.on_open = on_open
        self.statuses = statuses

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of `fn(*args, **kwargs)`, or of the fallback or view that stands in for it.

        It is a coroutine if `fn` returns one: whoever calls something async awaits this.

        Raises:
            CallNotPermittedError: the circuit refused the call, and nothing answers for it.
            ConfigError: the circuit's settings, or `on_open`, can't be used.
        """
        registry = conf.settings().registry
        attempt = None
        ticket = enter(registry, self.name)
        if ticket is None:  # no lane: it may refuse
            breaker = registry[self.name]
            try:
                # As a block: calls of this circuit inside are parts of the probe that this may be.
                attempt = breaker.attempt().__enter__()
            except CallNotPermittedError as refusal:
                send_rejected(refusal, request_in(args))
                if self.on_open is not None:
                    return self._opened(fn, refusal, args, kwargs)
                if self.fallback is None:
                    raise
                return self._fallen_back(fn, refusal, args)
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            settle_raised(_attempt(attempt, ticket), error, self.statuses)
            if self.fallback is None or not _is_answerable(error):
                raise
            return self._fallen_back(fn, error, args)
        if (
            ticket is not None
            and (type(result) is HttpResponse or _is_rendered(result))
            and result.status_code not in self.statuses
        ):  # how nearly every view ends
            leave(ticket, result)
            return result
        attempt = _attempt(attempt, ticket)
        if type(result) is COROUTINE:
            return self._finish(attempt, cast("Awaitable[Any]", result), args)
        settle_returned(attempt, result, args, self.statuses)
        return result

    async def _finish(
        self, attempt: Attempt, awaitable: Awaitable[Any], args: tuple[Any, ...]
    ) -> Any:
        """The second half of an async call: await it, and settle."""
        try:
            result = await awaitable
        except BaseException as error:
            settle_raised(attempt, error, self.statuses)
            if self.fallback is None or not _is_answerable(error):
                raise
            answer = self.fallback(error)
            return await answer if inspect.isawaitable(answer) else answer
        settle_returned(attempt, result, args, self.statuses)
        return result

    def _fallen_back(self, fn: Callable[..., Any], error: Any, args: tuple[Any, ...]) -> Any:
        """The fallback's answer."""
        assert self.fallback is not None
        answer = self.fallback(error)
        if type(answer) is COROUTINE and not is_awaited(fn, args):
            answer.close()  # nobody will await it
            raise WrongFrontError(f"fallback {describe(self.fallback)} is async, and the call not")
        return answer

    def _opened(
        self,
        fn: Callable[..., Any],
        refusal: CallNotPermittedError,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """The response of the view for an open circuit, which runs as Django runs views."""
        view = self.view_on_open()
        awaited = is_awaited(fn, args)
        at = _place_of_request(args)
        if at is not None:
            args = args[at:]  # a method's view gets no `self`
            args[0].refusal = refusal
        if awaited and not is_async(view):
            view = sync_to_async(view, thread_sensitive=True)
        elif is_async(view) and not awaited:
            view = async_to_sync(view)
        return view(*args, **kwargs)

    def view_on_open(self) -> Callable[..., Any]:
        """The view that answers while the circuit is open.

        Raises:
            ConfigError: it can't be imported, or is no view.
        """
        view: Any = self.on_open
        if isinstance(view, str):
            try:
                view = import_string(view)
            except ImportError as error:
                raise ConfigError(f"circuit {self.name!r}: on_open={view!r}: {error}") from error
        if isinstance(view, type) and issubclass(view, View):
            view = cast("type[View]", view).as_view()
        if not callable(cast("object", view)):
            raise ConfigError(f"circuit {self.name!r}: on_open={view!r} is not a view")
        return cast("Callable[..., Any]", view)

    def __repr__(self) -> str:
        return f"<circuit({self.name!r})>"


def _attempt(attempt: Attempt | None, ticket: Ticket | None) -> Attempt:
    """The call as an attempt, whichever way it was let in."""
    if attempt is not None:
        return attempt
    assert ticket is not None
    return attempt_of(ticket)


def is_awaited(fn: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Whether what `fn` returns is awaited: `dispatch` of an async class-based view, too."""
    if is_async(fn):
        return True
    if getattr(fn, "__name__", None) != "dispatch":
        return False
    owner = getattr(getattr(fn, "func", fn), "__self__", args[0] if args else None)
    return bool(getattr(owner, "view_is_async", False))


def request_in(args: tuple[Any, ...]) -> Any:
    """The request that a view, or a view's method, is called with; None if there is none."""
    at = _place_of_request(args)
    return None if at is None else args[at]


def _place_of_request(args: tuple[Any, ...]) -> int | None:
    kinds = (HttpRequest, *known("rest_framework.request", "Request"))
    for at, argument in enumerate(args[:2]):
        if issubclass(type(argument), kinds):  # isinstance would evaluate what is lazy
            return at
    return None


def _is_rendered(result: Any) -> bool:
    """Whether it is a response whose body is there, or is streamed."""
    return issubclass(type(result), HttpResponseBase) and getattr(result, "is_rendered", True)


def _is_answerable(error: BaseException) -> TypeGuard[Exception]:
    """Whether a fallback is asked: not if somebody's code is wrong about what is async."""
    return isinstance(error, Exception) and not isinstance(error, WrongFrontError)
