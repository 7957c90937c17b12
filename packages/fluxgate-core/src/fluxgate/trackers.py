"""Trackers: rules for which exceptions count as failures.

A tracker sees every `Exception` that leaves a protected call, but not cancellations and not the
refusals of other circuits; of an exception group it sees the leaves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from fluxgate import _dotted
from fluxgate._naming import safe_repr
from fluxgate._values import Binary, Composable, described, operand
from fluxgate._words import listed

__all__ = ["All", "CausedBy", "Custom", "Tracker", "TypeOf"]


class Tracker(Composable, ABC):
    """A rule for which exceptions are failures. Rules combine with `&`, `|` and `~`."""

    __slots__ = ()

    @abstractmethod
    def tracks(self, error: Exception) -> bool:
        """Whether `error` counts as a failure; if not, its call is ignored."""

    def describe(self) -> str:
        """Which exceptions are failures, as words that can follow "exceptions that are"."""
        return f"tracked by {safe_repr(self)}"

    def __and__(self, other: Tracker) -> Tracker:
        return _And(self, other) if isinstance(other, Tracker) else NotImplemented

    def __or__(self, other: Tracker) -> Tracker:
        return _Or(self, other) if isinstance(other, Tracker) else NotImplemented

    def __invert__(self) -> Tracker:
        return _Not(self)


class All(Tracker):
    """Every `Exception` is a failure."""

    __slots__ = ()

    def tracks(self, error: Exception) -> bool:
        return True

    def describe(self) -> str:
        return "of any type"


class TypeOf(Tracker):
    """Exceptions of the given types, and of their subclasses, are failures.

    Args:
        types: exception classes, or their dotted names (`"httpx.ConnectError"`), which are
            imported at once.
    """

    __slots__ = ("types",)
    __match_args__ = ("types",)

    types: tuple[type[BaseException], ...]

    def __init__(self, *types: type[BaseException] | str) -> None:
        name = type(self).__name__
        if not types:
            raise ValueError(f"{name}(): name at least one exception type, or use All()")
        resolved: list[type[BaseException]] = []
        for given in types:
            owner = (
                f'{name}("{given}")' if isinstance(given, str) else f"{name}({safe_repr(given)})"
            )
            kind = _dotted.load(given, owner) if isinstance(given, str) else given
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                shown = safe_repr(kind)  # pyright: ignore[reportUnknownArgumentType]
                raise TypeError(f"{owner}: {shown} is not an exception type")
            if not issubclass(kind, Exception) and kind is not BaseException:
                raise ValueError(
                    f"{owner}: only an Exception can be a failure; "
                    f"a call that ends with {kind.__name__} is counted as cancelled"
                )
            resolved.append(kind)
        self.types = tuple(resolved)

    def tracks(self, error: Exception) -> bool:
        return isinstance(error, self.types)

    @property
    def conjunction(self) -> str:
        return "or" if len(self.types) > 1 else ""

    def describe(self) -> str:
        return listed(map(_dotted.name_of, self.types), "or")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_quoted(kind) for kind in self.types)})"


class CausedBy(TypeOf):
    """Exceptions of the given types, or with a cause of such a type, are failures.

    A cause is what an exception was raised `from`: `raise AppError from error`, as
    `tenacity.RetryError` is. Causes of causes count, and so do the members of a cause that is an
    exception group. An exception that was merely being handled at the time (`__context__`) is no
    cause.

    Args:
        types: exception classes, or their dotted names (`"httpx.ConnectError"`), which are
            imported at once.
    """

    __slots__ = ()

    def tracks(self, error: Exception) -> bool:
        if isinstance(error, self.types):  # mostly: then nothing is built
            return True
        waiting: list[BaseException] = [error]
        seen: set[int] = set()  # causes can be a circle
        while waiting:
            each = waiting.pop()
            if isinstance(each, self.types):
                return True
            if id(each) in seen:
                continue
            seen.add(id(each))
            if each.__cause__ is not None:
                waiting.append(each.__cause__)
            if isinstance(each, BaseExceptionGroup):
                waiting += each.exceptions  # pyright: ignore[reportUnknownMemberType]
        return False

    @property
    def conjunction(self) -> str:
        return ", or"  # beside another `or`, too, it must be clear what "one" is

    def describe(self) -> str:
        return f"{super().describe()}, or caused by {'one' if len(self.types) == 1 else 'these'}"


class Custom(Tracker):
    """Exceptions for which `predicate(error)` is true are failures.

    Args:
        predicate: called with the exception, outside any lock; or its dotted name, which is
            imported at once. If it raises, that is logged and the call is ignored.
    """

    __slots__ = ("predicate",)
    __match_args__ = ("predicate",)

    predicate: Callable[[Exception], object]

    def __init__(self, predicate: Callable[[Exception], object] | str) -> None:
        owner = f"Custom({safe_repr(predicate)})"
        found = _dotted.load(predicate, owner) if isinstance(predicate, str) else predicate
        if not callable(found):
            raise TypeError(f"{owner}: predicate must be callable with the exception")
        self.predicate = found

    def tracks(self, error: Exception) -> bool:
        return bool(self.predicate(error))

    def describe(self) -> str:
        return f"accepted by {_dotted.name_of(self.predicate)}"

    def __repr__(self) -> str:
        return f"Custom({_quoted(self.predicate)})"


class _And(Binary[Tracker], Tracker):
    __slots__ = ("left", "right")
    symbol = "&"

    def tracks(self, error: Exception) -> bool:
        return self.left.tracks(error) and self.right.tracks(error)


class _Or(Binary[Tracker], Tracker):
    __slots__ = ("left", "right")
    symbol = "|"

    def tracks(self, error: Exception) -> bool:
        return self.left.tracks(error) or self.right.tracks(error)


class _Not(Tracker):
    __slots__ = ("inner",)
    __match_args__ = ("inner",)
    symbol = "~"

    def __init__(self, inner: Tracker) -> None:
        self.inner = inner

    def tracks(self, error: Exception) -> bool:
        return not self.inner.tracks(error)

    def __repr__(self) -> str:
        return f"~{operand(self.inner, inside='~')}"

    def describe(self) -> str:
        return f"not {described(self.inner)}"


def _quoted(target: object) -> str:
    return f'"{_dotted.name_of(target)}"'
