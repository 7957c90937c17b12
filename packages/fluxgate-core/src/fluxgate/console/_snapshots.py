"""Snapshots: one reading for all who look within a second, from any thread.

Reading a fleet waits for its store. Whoever finds a reading going on takes the one before, if there
is any; a store that can't be reached leaves the last reading as it is, with its age.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from fluxgate._locks import ProcessLock
from fluxgate.console._history import History
from fluxgate.console._rates import Rates
from fluxgate.console._reading import Reading, Source
from fluxgate.fleet.store import StoreError

PATIENCE: Final = 3.0
"""Seconds that a look waits for somebody else's reading, at most, where it needs a newer one."""
SHARED: Final = 1.0
"""Seconds for which a reading is shared."""
EACH: Final = 250e-6
"""Seconds for which a reading is shared, for each of its circuits, if there are many. A poll takes
some 30 microseconds of CPU for a circuit of a fleet, in SQLite as in Redis, and 7 for one of this
process; so polling takes an eighth of a core at most, however many circuits there are."""


class Look(NamedTuple):
    """A reading, and how good it is.

    Attributes:
        reading: the circuits.
        age: seconds since it was made.
        error: why there is no newer one; None if there need be none.
        renewed: whether it began after the last `renew()`.
    """

    reading: Reading
    age: float
    error: str | None
    renewed: bool = True


class Snapshots:
    """The latest reading of a source.

    Args:
        source: where it is read.
        history: the transitions.
        clock: gives seconds that never go back.
    """

    def __init__(
        self,
        source: Source,
        history: History,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.history = history
        self._clock = clock
        self._rates = Rates()
        self._reading_on = ProcessLock()
        self._reading: Reading | None = None
        self._error: str | None = None
        self._tried_at = -float("inf")
        # The last renewal; that which the last try came after; and the last reading.
        self._renewal = self._tried = self._seen = object()
        self._shared = SHARED

    def look(self, *, renewed: bool = False) -> Look:
        """The circuits as they are, or were a second ago.

        Args:
            renewed: whether it matters that the last `renew()` is heeded: it then waits for a
                reading that is going on, since that one may have begun before.

        Raises:
            StoreError: the fleet's store can't be reached, and never could.
        """
        if not self._is_recent(self._clock()):
            behind = renewed and self._seen is not self._renewal
            patience = PATIENCE if self._reading is None or behind else 0.0
            self._reading_on.exclusively(self._read, patience)
        reading = self._reading
        if reading is None:
            raise StoreError(self._error or "the store has not answered yet")
        age = max(self._clock() - reading.context.at, 0.0)
        return Look(reading, age, self._error, self._seen is self._renewal)

    @property
    def last(self) -> Reading | None:
        """The latest reading, however old, without a look; None before the first."""
        return self._reading

    def renew(self) -> None:
        """Have the next look read anew: something was changed."""
        self._renewal = object()

    def _is_recent(self, now: float) -> bool:
        """Whether the last try is good enough, with a reading or with an error."""
        return now - self._tried_at < self._shared and self._tried is self._renewal

    def _read(self, alone: bool) -> None:
        began, renewal = self._clock(), self._renewal
        if not alone or self._is_recent(began):
            return  # somebody else is at it, or was while this one waited
        try:
            self.history.catch_up()
            self._reading = self.source.read(self._rates, self.history)
            self._seen = renewal
            self._rates.keep(self._reading.by_id)
            self._error = None
            self._shared = max(SHARED, EACH * len(self._reading.items))
        except StoreError as error:
            self._error = str(error)
        # A change in the middle of it may be missing in it: then the next look reads anew.
        self._tried_at, self._tried = began, renewal
