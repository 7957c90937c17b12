"""Logging of faults in what users handed in (trackers, strategies, listeners): logger `fluxgate`.

Reporting never raises: a log handler that does must not replace the caller's own result. It never
floods either: a bug in a tracker would be an error for each call, and an event in an error tracker
for each of these. So a fault is logged when it first happens, and once a minute while it goes on,
with the number of times in between.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import Final

from fluxgate._locks import ProcessLock
from fluxgate._naming import LONGEST, printable

PAUSE: Final = 60.0
"""Seconds between two lines about one fault."""
MOST_FAULTS: Final = 200
"""Number of faults with a count of their own; further ones are counted as one."""

Key = tuple[str, str, str]
_OTHERS: Final[Key] = ("", "", "")


class _Repeats:
    """How often one fault has happened since it was last logged."""

    __slots__ = ("count", "logged")

    def __init__(self, logged: float) -> None:
        self.logged = logged
        self.count = 0


_faults: Final[dict[Key, _Repeats]] = {}
# Re-entrant: a signal handler or a finaliser may report a fault in the middle of another report.
# It is held for a few steps that call nobody, so it may be waited for anywhere.
_lock: Final = ProcessLock()


def fault(circuit: str, what: str, error: BaseException) -> None:
    """Log that `what` raised `error`; the call that it was asked about goes on.

    Args:
        circuit: the circuit's name.
        what: whose fault it is, such as "tracker Custom(...)".
        error: what it raised; logged with its traceback.
    """
    kind = printable(type(error).__name__)
    repeats = _repeats((circuit, what, kind))
    if repeats is None:
        return
    more = f" ({repeats} times more since this was last logged)" if repeats else ""
    _log(circuit, f"{what} raised {kind}; the call went on without it{more}", error)


def warn(circuit: str, sentence: str) -> None:
    """Log a warning that somebody should act on; the caller sees to it that it comes rarely."""
    _log(circuit, sentence, None)


def _repeats(key: Key) -> int | None:
    """How often the fault was kept back since it was last logged; None if it is kept back now."""
    now = monotonic()
    with _lock.here():
        if key not in _faults and len(_faults) >= MOST_FAULTS:
            for old in [old for old, seen in _faults.items() if now - seen.logged >= PAUSE]:
                del _faults[old]
            if len(_faults) >= MOST_FAULTS:
                key = _OTHERS
        seen = _faults.get(key)
        if seen is None:
            _faults[key] = _Repeats(now)
            return 0
        if now - seen.logged < PAUSE:
            seen.count += 1
            return None
        count, seen.count, seen.logged = seen.count, 0, now
        return count


def _log(circuit: str, sentence: str, error: BaseException | None) -> None:
    import logging  # not at import: it is a third of what importing fluxgate would cost

    try:
        level = logging.WARNING if error is None else logging.ERROR
        logging.getLogger("fluxgate").log(
            level, "circuit %r: %s", circuit[:LONGEST], sentence, exc_info=error
        )
    except Exception:  # there is nowhere left to report this
        return


def _restart() -> None:
    """Begin anew: in a forked child, which has had no faults of its own."""
    _faults.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart)
