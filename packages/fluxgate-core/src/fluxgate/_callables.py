"""Kinds of callables, and the protection of those that are generators."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from enum import Enum, auto
from typing import Any, TypeVar, cast

from fluxgate._engine import nested
from fluxgate._engine.circuit import Circuit
from fluxgate._naming import safe_repr
from fluxgate.attempt import Attempt

Fn = TypeVar("Fn", bound=Callable[..., Any])


class Kind(Enum):
    """Kinds of callables, by the result of calling them."""

    FUNCTION = auto()
    COROUTINE = auto()
    GENERATOR = auto()
    ASYNC_GENERATOR = auto()


def kind_of(fn: Callable[..., Any]) -> Kind:
    """The kind of a function, method, partial, or object with `__call__`."""
    import inspect  # not at import: it is a fifth of what importing fluxgate would cost

    while isinstance(fn, functools.partial):
        fn = fn.func
    candidates: list[Callable[..., Any]] = [fn]
    if not (inspect.isroutine(fn) or inspect.isclass(fn)):
        candidates.append(getattr(type(fn), "__call__", fn))  # noqa: B004 - it is the function
    if any(map(inspect.iscoroutinefunction, candidates)):
        return Kind.COROUTINE
    if any(map(inspect.isgeneratorfunction, candidates)):
        return Kind.GENERATOR
    if any(map(inspect.isasyncgenfunction, candidates)):
        return Kind.ASYNC_GENERATOR
    return Kind.FUNCTION


def is_awaitable(given: object) -> bool:
    """Whether `await given` works."""
    from inspect import isawaitable

    return isawaitable(given)


def describe(fn: object) -> str:
    """The name of `fn` in an error message."""
    return str(getattr(fn, "__qualname__", None) or safe_repr(fn))


class _FirstItem(Generator[Any, Any, Any]):
    """A generator that notes how long its first item took, and that it was closed early."""

    def __init__(
        self, inner: Generator[Any, Any, Any], clock: Callable[[], float], attempt: Attempt
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._attempt = attempt
        self._started = clock()
        self.elapsed: float | None = None

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *exc_info: Any) -> Any:
        return self._step(self._inner.throw, *exc_info)

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        attempt = self._attempt
        if attempt.probe:
            nested.begin(attempt._admission, attempt._circuit.name)
        try:
            return step(*args)
        finally:
            if attempt.probe:  # what is suspended has no calls inside it
                nested.end(attempt._admission)
            if self.elapsed is None:
                self.elapsed = self._clock() - self._started

    def close(self) -> None:
        self._attempt.ignore()  # first: what the inner one does now proves nothing
        self._inner.close()


def protect_generator(circuit: Circuit, fn: Fn) -> Fn:
    """`fn`, admitted at the first `next`; it settles when it ends, fails or is closed."""

    @functools.wraps(fn)
    def protected(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = fn(*args, **kwargs)  # nothing of it runs yet
        attempt = Attempt(circuit, circuit.admit())
        items = _FirstItem(inner, circuit.clock, attempt)
        try:
            result = yield from items
        except BaseException as error:
            attempt.raised(error, items.elapsed)
            raise
        attempt.succeed(items.elapsed)
        return result

    return protected  # type: ignore[return-value]


def protect_async_generator(circuit: Circuit, fn: Fn) -> Fn:
    """`fn`, admitted at the first `anext`; it settles when it ends, fails or is closed."""

    @functools.wraps(fn)
    async def protected(*args: Any, **kwargs: Any) -> Any:
        items = fn(*args, **kwargs)  # nothing of it runs yet
        attempt = Attempt(circuit, circuit.admit())
        started = circuit.clock()
        elapsed: float | None = None
        try:
            step = anext(items)
            while True:
                nested.begin(attempt._admission, circuit.name)
                try:
                    item = await step
                except StopAsyncIteration:
                    break
                finally:
                    nested.end(attempt._admission)  # what is suspended has no calls inside it
                    if elapsed is None:
                        elapsed = circuit.clock() - started
                try:
                    sent = cast(Any, (yield item))
                except GeneratorExit:
                    attempt.ignore()  # first: closing the inner one may raise
                    await items.aclose()
                    raise
                except BaseException as error:
                    step = items.athrow(error)
                else:
                    step = items.asend(sent)
        except BaseException as error:
            attempt.raised(error, elapsed)
            raise
        attempt.succeed(elapsed)

    return protected  # type: ignore[return-value]
