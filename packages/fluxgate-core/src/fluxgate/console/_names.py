"""Names and reasons as the console writes them: ids for URLs, printable text, sentences."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

from fluxgate._naming import LONGEST, printable
from fluxgate._words import number
from fluxgate.fleet.store import key_of
from fluxgate.signals import Reason
from fluxgate.state import State

ID: Final = 24
"""Characters of an id."""


@lru_cache(maxsize=10_000)
def id_of(name: str) -> str:
    """The id of a circuit: a digest of its name, the same in all processes.

    A fleet cuts long names; both forms have one id, since it is made of the fleet's key.
    """
    key = key_of(name).encode(errors="surrogatepass")
    return blake2b(key, digest_size=ID // 2).hexdigest()


def shown(name: str) -> str:
    """A name as it is shown: printable, cut."""
    return printable(name, LONGEST)


def sentence_of(reason: Reason | None) -> str | None:
    """A reason in one printable line, without the last errors; None where it says nothing."""
    if reason is None or reason.clause == f"initial_state={State.CLOSED}":
        return None
    return printable(str(reason), LONGEST + 100)


def printable_reason(reason: Reason) -> tuple[str, str | None]:
    """The clause with what it measured, and the evidence: window and last errors."""
    clause = Reason(reason.clause, reason.measured, reason.calls)
    parts = [] if reason.window is None else [f"in {reason.window}"]
    if reason.errors:
        listed = ", ".join(f"{count} × {label}" for label, count in reason.errors)
        parts.append(f"last errors: {listed}")
    evidence = printable("; ".join(parts), 3 * LONGEST) or None
    return printable(str(clause), LONGEST), evidence


def failures_in_words(failures: int, calls: int) -> str:
    """How many calls failed: `42 of 100 calls failed`."""
    return f"{failures:,} of {number(calls, 'call')} failed"
