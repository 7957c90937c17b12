"""`@circuit("search")`: a view, or any function, behind a circuit."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import Any, Final, ParamSpec, TypeVar, cast

from fluxgate import WrongFrontError
from fluxgate.integration import FAILING_STATUSES, checked_statuses, describe
from fluxgate_django import conf
from fluxgate_django._async import is_async
from fluxgate_django._guard import COROUTINE, Fallback, Guard, Use, note, uses

__all__ = ["Circuit", "circuit", "uses"]

_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR

P = ParamSpec("P")
R = TypeVar("R")


class Circuit(Guard):
    """The decorator that `circuit` makes."""

    __slots__ = ("_noted",)

    _noted: bool

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """`fn` behind the circuit; it keeps its signature, its attributes and its kind.

        Raises:
            TypeError: `fn` is a class, or can't be called, or doesn't go with the fallback.
        """
        return cast("Callable[P, R]", self._decorate(fn))

    def _decorate(self, fn: Any) -> Any:
        if isinstance(fn, (staticmethod, classmethod)):
            descriptor = cast(Any, fn)
            return type(descriptor)(self._decorate(descriptor.__func__))
        if isinstance(fn, type):
            raise TypeError(
                f"{self!r} decorates functions, and {fn.__qualname__} is a class: inherit from "
                f"CircuitMixin and set circuit = {self.name!r}, or use @method_decorator({self!r}, "
                'name="dispatch")'
            )
        if not callable(fn):
            raise TypeError(f"{self!r} decorates functions; this can't be called: {fn!r}")
        # What `method_decorator` tries decorators on is a function of its own.
        module = str(getattr(fn, "__module__", None) or "?")
        tried = module.startswith("django.utils.")
        if not self._noted:
            self._noted = not tried  # of a method, the name comes with the first request
            note(self, Use(self.name, "a method" if tried else f"{module}.{describe(fn)}"))
        flags = _flags(fn)
        if flags & _GENERATORS:
            return self._generator(fn)
        if flags & inspect.CO_COROUTINE:
            wrapper = self._async(fn)
        elif is_async(fn):  # marked
            wrapper = self._async(_coroutine_of(fn))
        else:
            if not tried and isinstance(fn, FunctionType):
                self._check_sync(fn)
            wrapper = self._sync(fn)
        return _typed(functools.update_wrapper(wrapper, fn), fn)

    def _sync(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        call = self.call

        def guarded(*args: Any, **kwargs: Any) -> Any:
            return call(fn, args, kwargs)

        return guarded

    def _async(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        call = self.call

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            result = call(fn, args, kwargs)
            if type(result) is COROUTINE or inspect.isawaitable(result):
                return await result
            return result

        return guarded

    def _generator(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """A generator behind the circuit: admitted at its first item, settled at its end."""
        if self.fallback is not None or self.on_open is not None:
            raise TypeError(
                f"{describe(fn)} is a generator: it may fail after its first items, so neither "
                "fallback= nor on_open= can replace it; catch the error where the items are read"
            )
        asynchronous = _flags(fn) & inspect.CO_ASYNC_GENERATOR

        @functools.wraps(fn)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            registry = conf.settings().registry
            circuits = registry.asynchronous if asynchronous else registry
            return circuits[self.name](fn)(*args, **kwargs)

        return guarded

    def _check_sync(self, fn: Callable[..., Any]) -> None:
        # `dispatch` of an async view is not async itself.
        if is_async(self.fallback) and fn.__name__ != "dispatch":
            raise WrongFrontError(
                f"fallback {describe(self.fallback)} is async, and {describe(fn)} is not"
            )


def circuit(
    name: str,
    *,
    fallback: Fallback | None = None,
    on_open: Callable[..., Any] | str | None = None,
    statuses: Iterable[int] = FAILING_STATUSES,
) -> Circuit:
    """A decorator that puts a function behind a circuit of the settings.

        @circuit("search", on_open="shop.views.search_is_down")
        def search(request): ...

    For function views, sync and async, with `method_decorator` for those of classes (see also
    `CircuitMixin`), for actions of REST framework, operations of Ninja (below its own decorator),
    and for any function: tasks, commands. The circuit is the same as `breakers[name]`; it is
    looked up at each call.

    A response with one of `statuses` is a failure. `Http404`, `PermissionDenied`, and the
    exceptions that stand for a response in REST framework and Ninja, count by their status; errors
    of the client's (`BadRequest`, `SuspiciousOperation`, invalid data) are ignored. The circuit's
    tracker decides about other exceptions, its result tracker about other results.

    Args:
        name: the circuit's name. Without settings of its own it has the `DEFAULTS`.
        fallback: called with any `Exception` that comes out, refusals and `Http404` included; its
            result takes the call's place. Let it raise what it has no answer to. It may be async
            if the function is.
        on_open: a view, or its dotted path, that is called with the arguments of the call when the
            circuit refuses it; `request.refusal` is the refusal. Sync or async, whichever the view
            is. It goes before the fallback.
        statuses: the statuses that are failures.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the name is empty, or a status lies outside of 100 to 599.
    """
    if not isinstance(name, str):
        raise TypeError(f'circuit({name!r}): the name comes first, as in @circuit("search")')
    if not name:
        raise ValueError("circuit(''): the name must not be empty")
    if fallback is not None:
        if not callable(fallback):
            raise TypeError(f"fallback must be callable with the exception: {fallback!r}")
        if _flags(fallback) & _GENERATORS:
            raise TypeError(f"fallback {describe(fallback)} is a generator: it must give a result")
    if not (on_open is None or isinstance(on_open, str) or callable(on_open)):
        raise TypeError(f"on_open must be a view or its dotted path: {on_open!r}")
    made = Circuit(name, fallback, on_open, checked_statuses(statuses))
    made._noted = False
    return made


def _flags(fn: Any) -> int:
    """The flags of a function's code, which say what calling it gives; 0 of what has none.

    `method_decorator` decorates at each request, so this may not be slow.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    return code.co_flags if isinstance(code, CodeType) else 0


def _coroutine_of(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A real coroutine function around `fn`, which is only marked as async.

    Such a function may return any awaitable.
    """

    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, **kwargs)

    return functools.update_wrapper(coroutine, fn)


def _typed(wrapper: Any, fn: Any) -> Any:
    """The wrapper with the function's annotations evaluated, if they are strings.

    Whoever reads them from the signature, as Ninja does, looks for names in the wrapper's module.
    """
    if not isinstance(fn, FunctionType):
        return wrapper
    try:
        signature = inspect.signature(fn)
    except NameError:  # from Python 3.14 on they are evaluated when they are read
        return wrapper
    annotated = [each for each in signature.parameters.values() if isinstance(each.annotation, str)]
    if annotated:
        parameters = dict(signature.parameters)
        for each in annotated:
            try:
                found = eval(each.annotation, fn.__globals__)
            except Exception:
                continue  # as it stands then, for whoever reads it
            parameters[each.name] = each.replace(annotation=found)
        wrapper.__signature__ = signature.replace(parameters=list(parameters.values()))
    return wrapper
