"""Results that are calls yet to be made: tasks, futures, generators and the like.

A call that gives one has not failed, and has not succeeded either: what fails is still to come, and
the breaker would not see it. Fronts refuse it and name the remedy.
"""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final

from fluxgate._callables import Kind, describe, kind_of

MADE: Final[set[type[Any]]] = {type(None), bool, int, float, str, bytes, list, tuple, dict, set}
"""Types of results that are no such calls. It grows, so that a healthy call looks in here alone."""

_MOST = 1000  # types that are made at run time come and go: they must not be kept for ever

_AWAIT = (
    "is something to await: use AsyncCircuitBreaker, or to_async(), which shares this circuit, and "
    "await its call({fn}, ...)"
)
_REMEDIES: Final = {
    "future": (
        "is work that goes on elsewhere: protect the function that does the work, as in "
        "executor.submit(breaker(work)), or settle an attempt() when it is done"
    ),
    "generator": (
        "has not begun: decorate the generator function itself, or read its items inside the call"
    ),
    "context manager": (
        "has not been entered: put a block of the breaker inside it, around what may fail"
    ),
}


def advice_on(fn: object, result: object, *, is_async: bool = False) -> str | None:
    """The message about a result that is a call yet to be made, with the remedy; None if it isn't.

    Args:
        fn: what returned it.
        result: what it returned.
        is_async: whether it was awaited: an async function has run by then, so a generator that it
            returns may read on what was fetched.
    """
    try:
        found = _kind_of_call(result)
    except Exception:  # somebody else's metaclass: the caller's result matters more
        return None
    if found is None or (is_async and found == "generator"):
        return None
    if found == "awaitable" and is_async:
        remedy = "is something to await: await it inside"
    else:
        remedy = _REMEDIES.get(found, _AWAIT).format(fn=describe(fn))
    return (
        f"{describe(fn)} gives a call that has yet to be made: its {type(result).__name__} {remedy}"
    )


def _kind_of_call(result: Any) -> str | None:
    kind: Any = type(result)  # pyright: ignore[reportUnknownVariableType]
    if issubclass(kind, GeneratorType):
        if result.gi_code.co_flags & 0x100:  # inspect.CO_ITERABLE_COROUTINE
            return "awaitable"
        begun = result.gi_suspended or result.gi_running or result.gi_frame is None
        # A generator expression has asked for its source already.
        return None if begun or result.gi_code.co_name == "<genexpr>" else "generator"
    if issubclass(kind, AsyncGeneratorType):
        return None if result.ag_code.co_name == "<genexpr>" else "generator"
    if hasattr(kind, "__await__"):
        return "awaitable"
    if hasattr(kind, "add_done_callback"):  # concurrent.futures, grpc, dask
        return "future"
    if kind.__module__ == "contextlib" and kind.__name__.endswith("GeneratorContextManager"):
        return "context manager"
    if len(MADE) >= _MOST:
        MADE.clear()
    MADE.add(kind)
    return None


def check_decorated(fn: Any) -> str | None:
    """The message about a breaker above `@contextmanager`; None if `fn` is no such function."""
    if getattr(fn, "__globals__", {}).get("__name__") == "contextlib" and hasattr(
        fn, "__wrapped__"
    ):
        return (
            f"{describe(fn)} makes a context manager, which can't fail: "
            f"it {_REMEDIES['context manager']}"
        )
    return None


def is_async_inside(fn: Any) -> bool:
    """Whether a plain function wraps an async one, by `functools.wraps`."""
    from inspect import unwrap

    try:
        return kind_of(unwrap(fn)) is Kind.COROUTINE
    except ValueError:  # it wraps itself
        return False


def close(result: object) -> None:
    """Close a coroutine that nobody is going to await, so that Python doesn't warn."""
    if isinstance(result, CoroutineType):
        result.close()
