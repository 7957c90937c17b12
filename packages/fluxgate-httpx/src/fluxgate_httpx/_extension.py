"""Response extensions of normal calls: one read-only dict a key, shared by many responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

_MOST: Final = 2048


class ReadOnlyDict(dict[str, Any]):
    """A dict that can't be changed. A copy of it can, and so can what was pickled."""

    def _fixed(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this is shared by many responses and can't be changed: use dict(...)")

    if not TYPE_CHECKING:  # for a checker it is a dict, which no `NoReturn` can stand in for
        __setitem__ = __delitem__ = __ior__ = _fixed
        clear = pop = popitem = setdefault = update = _fixed

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class HealthyExtensions(dict[str, ReadOnlyDict]):
    """The extension of a normal call's response, by key. Emptied when full."""

    def __missing__(self, key: str) -> ReadOnlyDict:
        if len(self) >= _MOST:
            self.clear()
        extension = self[key] = ReadOnlyDict(key=key, probe=False, refused=False)
        return extension
