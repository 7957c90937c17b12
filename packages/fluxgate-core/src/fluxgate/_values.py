"""Frozen values: `Record` for what is reported, `Strategy` for what a policy is made of."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Generic, NoReturn, TypeVar, dataclass_transform

from fluxgate._naming import safe_repr

_UNSET = object()


@dataclass_transform(frozen_default=True)
class Record:
    """A frozen value whose fields are its annotations, in their order; some may have defaults.

    It is what `dataclasses.dataclass(frozen=True)` makes, for the type checkers, too; but importing
    `dataclasses` takes a quarter of the time that importing all of fluxgate does.
    """

    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.__match_args__ = tuple(cls.__annotations__)  # type: ignore[misc]

    def __init__(self, *values: Any, **named: Any) -> None:
        fields, kind = self.__match_args__, type(self)
        given = dict(zip(fields, values, strict=False))
        twice = given.keys() & named.keys()
        if len(values) > len(fields) or twice or not named.keys() <= set(fields):
            raise TypeError(f"{kind.__name__} takes each of {', '.join(fields)} once, if at all")
        given.update(named)
        for name in fields:
            if name not in given:
                if not hasattr(kind, name):
                    raise TypeError(f"{kind.__name__} needs {name}=")
                given[name] = getattr(kind, name)
        self.__dict__.update(given)

    def _values(self) -> tuple[Any, ...]:
        return tuple(self.__dict__[name] for name in self.__match_args__)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r} is frozen: {name} can't be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self!r} is frozen: {name} can't be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record) or type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        fields = zip(self.__match_args__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in fields)})"


class Strategy:
    """The base of windows, trackers, trippers, retries and permits.

    A strategy is a value: written once, equal and hashable by the expression that builds it (its
    repr).

    A subclass names its constructor's arguments in `__match_args__`. Attributes are assigned in
    `__init__` and can't be changed afterwards, since one strategy may serve many breakers.
    """

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: object) -> None:
        current = getattr(self, name, _UNSET)
        if current is not _UNSET and current is not getattr(type(self), name, _UNSET):
            raise AttributeError(f"{self!r} is frozen: build a new one to change {name}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self!r} is frozen: its {name} can't be deleted")

    def _values(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in self.__match_args__}
        return {**named, **getattr(self, "__dict__", {})}

    def __repr__(self) -> str:
        values = self._values()
        args = [values.pop(name) for name in self.__match_args__]
        defaults = list(getattr(type(self).__init__, "__defaults__", None) or ())
        while args and defaults and args[-1] == defaults.pop():
            args.pop()
        args = [repr(value) for value in args]
        args += [f"{name}={value!r}" for name, value in values.items()]
        return f"{type(self).__name__}({', '.join(args)})"

    def describe(self) -> str:
        """The strategy in plain words; where a class has none of its own, its expression.

        `python -m fluxgate explain` and Django's `manage.py fluxgate show` print it. Which part of
        a sentence the words are, each base class says in its own `describe`.
        """
        return safe_repr(self)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values().values()))


class Composable(Strategy):
    """A strategy that combines with others through operators."""

    __slots__ = ()

    symbol: ClassVar[str] = ""
    """The operator that this is the result of; empty for a plain clause."""

    @property
    def conjunction(self) -> str:
        """The word that joins the parts of `describe()`: `and`, `or`; empty if it has one part."""
        return {"&": "and", "|": "or"}.get(self.symbol, "")

    def __bool__(self) -> bool:
        # Python's `a and b` would silently be `b`.
        raise TypeError(f"{self!r} has no truth value: combine with & and |, not `and` and `or`")


Part = TypeVar("Part", bound=Composable)


class Binary(Composable, Generic[Part]):
    """Two strategies and the operator between them."""

    __slots__ = ()
    __match_args__ = ("left", "right")

    left: Part
    right: Part

    def __init__(self, left: Part, right: Part) -> None:
        self.left = left
        self.right = right

    def __repr__(self) -> str:
        left = operand(self.left, inside=self.symbol)
        right = operand(self.right, inside=self.symbol, is_right=True)
        return f"{left} {self.symbol} {right}"

    def describe(self) -> str:
        """The words of both, with `and` or `or` between them."""
        word = self.conjunction
        return f"{described(self.left, word)} {word} {described(self.right, word)}"


def described(part: Composable, inside: str = "") -> str:
    """The words of `part`, in parentheses where another word than `inside` joins them."""
    words = part.describe()
    return f"({words})" if part.conjunction not in ("", inside) else words


_BINDING = {"|": 1, "&": 2, "~": 3, "": 4}


def operand(part: Composable, *, inside: str, is_right: bool = False) -> str:
    """`part` as an operand of `inside`, in parentheses where reading it back needs them."""
    loose = _BINDING[part.symbol] < _BINDING[inside] + is_right
    return f"({part!r})" if loose else repr(part)


MAX_SECONDS: Final = 1e9
"""The longest duration: some 31 years. Sums of such durations and of clocks stay exact enough."""
MIN_SECONDS: Final = 1e-9
"""The shortest duration that is not zero: the resolution of the clocks."""
MAX_COUNT: Final = 10_000_000
"""The most calls or buckets that can be asked for: a window of as many takes some 400 MB."""


def seconds_in_range(subject: str, value: object, *, zero: bool = False, remedy: str = "") -> float:
    """`value` as a number of seconds between `MIN_SECONDS` (or 0) and `MAX_SECONDS`.

    Args:
        subject: whose value it is, for the message.
        value: anything.
        zero: whether 0 is allowed.
        remedy: the end of the message about a number out of range.

    Raises:
        TypeError: it is no int or float.
        ValueError: it is out of range, or not a number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{subject} must be a number of seconds, not {safe_repr(value)}")
    if MIN_SECONDS <= value <= MAX_SECONDS or (zero and value == 0):
        return value
    least = "0, or 1e-9" if zero else "1e-9"
    raise ValueError(f"{subject} must be {least} to 1e9 seconds{remedy or _not(value)}")


def count_in_range(subject: str, value: object, *, most: int = MAX_COUNT) -> int:
    """`value` as a whole number from 1 to `most`.

    Raises:
        TypeError: it is no int.
        ValueError: it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{subject} must be a whole number, not {safe_repr(value)}")
    if value < 1:
        raise ValueError(f"{subject} must be at least 1{_not(value)}")
    if value > most:
        raise ValueError(f"{subject} must be at most {most:,}{_not(value)}")
    return value


def _not(value: float) -> str:
    """`, not 7`; nothing for an integer of so many digits that Python doesn't print it."""
    return f", not {value}" if isinstance(value, float) or abs(value) < 10**20 else ""


def _number(owner: object, name: str, called: str = "") -> float:
    value: object = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        subject = f"{safe_repr(owner)}: {called or name}"
        raise TypeError(f"{subject} must be a number, not {type(value).__name__}")
    return value


def check_ratio(owner: object, name: str, *, called: str = "") -> None:
    """`owner.name` is a ratio in (0, 1]; `called` is the argument's name where it differs."""
    if not 0 < _number(owner, name, called) <= 1:
        raise ValueError(f"{safe_repr(owner)}: {called or name} must be in (0, 1]")


def check_factor(owner: object, name: str) -> None:
    """`owner.name` is a number from 1 to 1e9."""
    if not 1 <= _number(owner, name) <= 1e9:
        raise ValueError(f"{safe_repr(owner)}: {name} must be 1 to 1e9")


def check_jitter(owner: object, name: str) -> None:
    """`owner.name` is a ratio in [0, 1]."""
    if not 0 <= _number(owner, name) <= 1:
        raise ValueError(f"{safe_repr(owner)}: {name} must be in [0, 1]")


def check_duration(owner: object, name: str, *, remedy: str = "") -> None:
    """`owner.name` is a number of seconds, 0 or more, in range."""
    subject = f"{safe_repr(owner)}: {name}"
    seconds_in_range(subject, getattr(owner, name), zero=True, remedy=remedy)


def check_above_zero(owner: object, name: str) -> None:
    """`owner.name` is a number of seconds above 0, in range."""
    seconds_in_range(f"{safe_repr(owner)}: {name}", getattr(owner, name))


def check_count(owner: object, name: str) -> None:
    """`owner.name` is a whole number, 1 or more, in range."""
    count_in_range(f"{safe_repr(owner)}: {name}", getattr(owner, name))
