"""Names and reasons as the console keeps them: ids for URLs, printable text, expressions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from fluxgate._naming import LONGEST, printable
from fluxgate.console._view import Change
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


def kept(reason: Reason | None) -> Reason | None:
    """A reason as rows and transitions keep it; None where it says nothing.

    Without the last errors, which have a place of their own, and with a clause of bounded length.
    """
    if reason is None or reason.clause == f"initial_state={State.CLOSED}":
        return None
    clause = shown(reason.clause)
    return Reason(
        clause, reason.measured, reason.calls, reason.window, note=reason.note, by=reason.by
    )


def line_of(reason: Reason | None) -> str | None:
    """A reason as an expression in one printable line: `FailureRate(0.5): 0.58 over 100 calls`."""
    return None if reason is None else printable(str(reason), LONGEST + 100)


def measurement(reason: Reason) -> str:
    """The clause and what it measured, without the window, the errors, and who did it."""
    return shown(str(Reason(reason.clause, reason.measured, reason.calls)))


def evidence_of(change: Change) -> str | None:
    """The window and the last errors of a transition; None where nothing is known of them."""
    reason = change.reason
    parts = [] if reason.window is None else [f"in {reason.window}"]
    if change.errors:
        parts.append(f"last errors: {errors_in_words(change.errors)}")
    return printable("; ".join(parts), 3 * LONGEST) or None


def errors_in_words(errors: Iterable[tuple[str, int]]) -> str:
    """The last errors with their counts, in one line."""
    return ", ".join(f"{count:,} × {label}" for label, count in errors)
