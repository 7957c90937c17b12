"""Names of things for messages: a `repr()` and a `str()` that can't raise.

Objects that users hand in may raise while they are shown (a detached database object, a `__repr__`
that reads what is gone). A message about one must not replace the caller's own result or error.
"""

from __future__ import annotations

import sys
from typing import Final

# Here, since nearly all modules of ours import this one before anything that may not be ours.
if getattr(sys.modules["fluxgate"], "__distribution__", None) != "fluxgate-core":
    from fluxgate._clash import refuse

    refuse()

LONGEST: Final = 200
"""Characters of a name or message that go into a log, a chat or a page."""


def safe_repr(thing: object, longest: int | None = LONGEST) -> str:
    """The repr of anything, in one printable line of bounded length; its type where that raises."""
    try:
        shown = repr(thing)
    except Exception as error:
        return f"<{type(thing).__name__}, whose repr() raises {type(error).__name__}>"
    return printable(shown, longest)


def which(thing: object) -> str:
    """The repr of anything, and for an object of a class from where that is: `All() of shop.rules`.

    For messages about a wrong kind of object, which may have the name of the right one.
    """
    module = type(thing).__module__
    shown = safe_repr(thing)
    return shown if isinstance(thing, type) or module == "builtins" else f"{shown} of {module}"


def safe_str(thing: object) -> str:
    """The text of anything, in one printable line of bounded length; empty where that raises."""
    try:
        shown = str(thing)
    except Exception:
        return ""
    return printable(" ".join(shown.split()))


def printable(text: str, longest: int | None = LONGEST) -> str:
    """The text with control characters, bidirectional marks and lone surrogates as escapes.

    Args:
        text: anything.
        longest: characters to keep; None, all of them.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escaped(c) for c in text)
    if longest is None or len(text) <= longest:
        return text
    return f"{text[: longest - 1]}…"


def encodable(text: str) -> str:
    """The text with lone surrogates as escapes, so that UTF-8 can hold it; else as it is."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
