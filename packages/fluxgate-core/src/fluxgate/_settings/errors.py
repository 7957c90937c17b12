"""Errors about settings: their kinds, their paths, and several of them in one exception."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import islice
from typing import Final

from fluxgate._naming import printable
from fluxgate.errors import ConfigError, FluxgateError

_MOST: Final = 1000


class Mistake(StrEnum):
    """The kind of a mistake in a setting."""

    UNKNOWN = "unknown"
    """A name or key that does not exist."""
    SYNTAX = "syntax"
    """An expression that can't be read."""
    IMPORT = "import"
    """A dotted path that leads nowhere."""
    VALUE = "value"
    """A value of the wrong kind, out of range, or at odds with another."""
    FILE = "file"
    """A file that can't be read."""


class SettingError(ConfigError):
    """One setting that can't be used.

    Attributes:
        problem: what is wrong, and the remedy.
        path: the setting (`payments.tripper`); empty if a value was given by itself.
        mistake: the kind of mistake.
    """

    def __init__(self, problem: str, path: str = "", mistake: Mistake = Mistake.VALUE) -> None:
        super().__init__(problem, path, mistake)  # all in `args`: it pickles
        self.problem = problem
        self.path = path
        self.mistake = mistake

    def at(self, path: str) -> SettingError:
        """The same error with another path."""
        return SettingError(self.problem, path, self.mistake).with_traceback(self.__traceback__)

    def __str__(self) -> str:
        # It goes to terminals and logs, and quotes what somebody wrote. The lines are ours.
        problem = "\n".join(printable(line, None) for line in self.problem.split("\n"))
        return f"{printable(self.path, None)}: {problem}" if self.path else problem


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is nearest to `name`, or None if none is near. Case doesn't count.

    Args:
        name: what was written.
        known: what could have been meant; the first thousand are looked at.
        cutoff: how alike they must be at least, from 0 to 1 (as `difflib` counts it).
    """
    from difflib import get_close_matches  # not at import: only mistakes need it

    by_folded = {each.casefold(): each for each in islice(known, _MOST)}
    found = get_close_matches(name.casefold()[:100], by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, the end of a message, if a known name is near; else nothing.

    Args:
        name: the name that isn't known.
        known: those that are.
    """
    found = nearest(name, known)
    return "" if found is None else f"; did you mean {found!r}?"


def raise_all(problems: Sequence[FluxgateError], what: str = "settings can't be used") -> None:
    """Raise all problems at once; nothing if there are none.

    Args:
        problems: the errors. One alone is raised as it is.
        what: what several are, after their number: `2 settings can't be used: ...`.

    Raises:
        ConfigError: several problems, one a line.
    """
    if len(problems) == 1:
        raise problems[0]
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise ConfigError(f"{len(problems)} {what}:{listed}")
