"""What a healthy response's extension says: made once for each key, and shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

_MOST: Final = 2048


class Told(dict[str, Any]):
    """A dict that can't be changed. A copy of it can, and so can what was pickled."""

    def _fixed(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this is shared by many responses and can't be changed: use dict(...)")

    if not TYPE_CHECKING:  # for a checker it is a dict, which no `NoReturn` can stand in for
        __setitem__ = __delitem__ = __ior__ = _fixed
        clear = pop = popitem = setdefault = update = _fixed

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class Healthy(dict[str, Told]):
    """By key, what the extension of a normal call's response says. Emptied when full."""

    def __missing__(self, key: str) -> Told:
        if len(self) >= _MOST:
            self.clear()
        told = self[key] = Told(key=key, probe=False, refused=False)
        return told
