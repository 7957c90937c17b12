"""Audit: every attempt to use a control, denied ones included.

Each is a line of the logger `fluxgate.audit`, an entry of the last 200 that the page shows, and a
call of the host's own hook (Django's signal and its admin's log).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from fluxgate._locks import ProcessLock
from fluxgate._naming import printable
from fluxgate._words import seconds
from fluxgate.console._view import Entry

KEPT: Final = 200
"""Entries that are kept."""
DENIED: Final = 50
"""Entries that are kept of denied attempts: they must not push those out that count."""
NOBODY: Final = "-"
"""The actor of a request that nobody was let in for."""

_logger: Final = logging.getLogger("fluxgate.audit")


class Audit:
    """The attempts of this process.

    Args:
        hook: called with each entry; what it raises is logged.
    """

    def __init__(self, hook: Callable[[Entry], object] | None = None) -> None:
        self._hook = hook
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._denied: deque[Entry] = deque(maxlen=DENIED)
        self._lock = ProcessLock()

    def note(self, entry: Entry) -> None:
        """Note an attempt."""
        with self._lock.here():
            (self._denied if entry.outcome == "denied" else self._entries).append(entry)
        done = entry.outcome == "done"
        level = logging.INFO if entry.outcome in ("done", "repeated") else logging.WARNING
        _logger.log(
            level,
            "%s",
            sentence_of(entry),
            extra={f"fluxgate_{name}": value for name, value in entry._asdict().items()},
        )
        if self._hook is not None:
            try:
                self._hook(entry)
            except Exception:
                what = "was done" if done else "was not done"
                _logger.exception("the audit's hook raised an error; the control %s", what)

    def entries(self, circuit: str | None = None) -> tuple[Entry, ...]:
        """The latest attempts, newest first.

        Args:
            circuit: the id of a circuit; None: of all.
        """
        with self._lock.here():
            entries = [*self._entries, *self._denied]
        found = [each for each in entries if circuit in (None, each.id)]
        return tuple(sorted(found, key=lambda each: -each.at)[:KEPT])


def sentence_of(entry: Entry) -> str:
    """An attempt in one printable line."""
    where = "" if entry.address is None else f" from {entry.address}"
    how_long = "" if entry.seconds is None else f" for {seconds(entry.seconds)}"
    states = ""
    if entry.before is not None:
        after = "" if entry.after is None else f" -> {entry.after}"
        states = f" ({entry.before}{after})"
    note = "" if entry.note is None else f": {entry.note}"
    why = "" if entry.why is None else f" [{entry.why}]"
    return printable(
        f"{entry.outcome}: {entry.action}{how_long} of {entry.circuit or entry.id!r}{states} "
        f"by {entry.actor}{where}{note}{why}",
        1000,
    )
