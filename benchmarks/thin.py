"""The floor: a dependency that does nothing, and the thinnest wrapper that times it.

A breaker has to know how long a call took and whether it failed. These wrappers find
out just that and do nothing with it, so they are what a breaker can't go below.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from time import perf_counter

Fn = Callable[..., object]
AsyncFn = Callable[..., Awaitable[object]]


class Down(Exception):
    """What the dependency raises when it fails."""


def dependency(fail: bool = False) -> None:
    """Return at once, or raise."""
    if fail:
        raise Down


async def async_dependency(fail: bool = False) -> None:
    """Return at once, or raise, without ever suspending."""
    if fail:
        raise Down


def thinnest(fn: Fn) -> Fn:
    """Time a call: two clock reads and a try/except."""

    @wraps(fn)
    def wrapper(*args: object, **kwargs: object) -> object:
        start = perf_counter()
        try:
            result = fn(*args, **kwargs)
        except BaseException:
            start = perf_counter() - start
            raise
        start = perf_counter() - start
        return result

    return wrapper


def async_thinnest(fn: AsyncFn) -> AsyncFn:
    """Time an awaited call: two clock reads and a try/except."""

    @wraps(fn)
    async def wrapper(*args: object, **kwargs: object) -> object:
        start = perf_counter()
        try:
            result = await fn(*args, **kwargs)
        except BaseException:
            start = perf_counter() - start
            raise
        start = perf_counter() - start
        return result

    return wrapper


class ThinCaller:
    """The same as a method that is handed the function: the floor of `breaker.call(fn)`."""

    __slots__ = ()

    def call(self, fn: Fn, *args: object, **kwargs: object) -> object:
        """Time one call of `fn`."""
        start = perf_counter()
        try:
            result = fn(*args, **kwargs)
        except BaseException:
            start = perf_counter() - start
            raise
        start = perf_counter() - start
        return result


class AsyncThinCaller:
    """`ThinCaller` for coroutine functions."""

    __slots__ = ()

    async def call(self, fn: AsyncFn, *args: object, **kwargs: object) -> object:
        """Time one awaited call of `fn`."""
        start = perf_counter()
        try:
            result = await fn(*args, **kwargs)
        except BaseException:
            start = perf_counter() - start
            raise
        start = perf_counter() - start
        return result


def plain_decorator(fn: Fn) -> Fn:
    """The plainest decorator with `functools.wraps`: the floor of decorating."""

    @wraps(fn)
    def wrapper(*args: object, **kwargs: object) -> object:
        return fn(*args, **kwargs)

    return wrapper
