"""Controls: who sets a circuit by hand, why, and for how long; checked, for fronts and commands."""

from __future__ import annotations

from typing import Final, NamedTuple

from fluxgate._naming import printable, safe_repr
from fluxgate._values import MAX_SECONDS
from fluxgate.errors import ConfigError
from fluxgate.signals import Reason

MAX_NOTE: Final = 200
"""Characters of a note that are kept."""
MAX_BY: Final = 64
"""Characters of a name that are kept."""


class Said(NamedTuple):
    """The words that came with a control.

    Attributes:
        seconds: after which it ends by itself; None, it stays until the next control.
        note: why, in one line of at most `MAX_NOTE` characters.
        by: who, in one line of at most `MAX_BY` characters.
    """

    seconds: float | None = None
    note: str | None = None
    by: str | None = None

    def reason(self, clause: str) -> Reason:
        """The reason of the change that the control makes."""
        return Reason(clause, self.seconds, note=self.note, by=self.by)


NOTHING_SAID: Final = Said()


def said(*, seconds: object = None, note: object = None, by: object = None) -> Said:
    """The arguments of a control, checked.

    Args:
        seconds: above 0, at most 1e9; or None.
        note: text, or None. It becomes one line; what is too long is cut, and what can't be
            printed is escaped.
        by: the same.

    Raises:
        ConfigError: one of them can't be used; the message names it.
    """
    return Said(
        _seconds(seconds),
        _line("note", note, MAX_NOTE, "why, such as note='maintenance of the provider'"),
        _line("by", by, MAX_BY, "who, such as by='alice'"),
    )


def _seconds(given: object) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise ConfigError(f"seconds must be a number, or None: {safe_repr(given)}")
    if not 0 < given <= MAX_SECONDS:
        raise ConfigError(f"seconds must be above 0 and at most 1e9: {safe_repr(given)}")
    return float(given)


def _line(name: str, given: object, longest: int, example: str) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise ConfigError(f"{name} must be text that says {example}, not {safe_repr(given)}")
    line = printable(" ".join(given.split()), longest)
    if not line:
        raise ConfigError(f"{name} is empty: leave it out, or say {example}")
    return line
