"""Frozen values with named fields.

What `dataclasses.dataclass(frozen=True)` makes, for the type checkers, too; but importing
`dataclasses` takes a quarter of the time that importing all of fluxgate does.
"""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, dataclass_transform


@dataclass_transform(frozen_default=True)
class Record:
    """A value whose fields are its annotations, in their order; some may have defaults."""

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
