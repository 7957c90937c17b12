"""Watching a fleet: on a terminal a page that stays up to date, else a line for each change.

The first look must succeed. A store that is lost later is what an operator watches for: that is
said, and the watch goes on until the store is back.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any, Final, TextIO

from fluxgate.cli._fleet.circuits import Look, look_at
from fluxgate.cli._fleet.report_text import cells_of, cells_of_process
from fluxgate.fleet._circuits import FleetProcess, process_of
from fluxgate.fleet.store import Store, StoreError

_GLANCE: Final = 1.0  # seconds between two looks where no push comes
_QUICK: Final = 0.1  # seconds of a look that may follow another at once


class Watch:
    """A store, looked at again and again.

    Raises:
        StoreError: it can't be read the first time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._took = 0.0  # seconds of the last look
        self._look: Look | None = self._read()
        self._last = self._look

    def _read(self) -> Look:
        began = time.monotonic()
        try:
            return look_at(self._store)
        finally:
            self._took = time.monotonic() - began

    def look(self) -> Look:
        """The circuits now; with an error, as they were when the store last answered."""
        found, self._look = self._look, None
        if found is None:
            try:
                found = self._read()
            except StoreError as error:
                return self._last._replace(error=f"not up to date: {error}")
        self._last = found
        return found

    def wait(self) -> None:
        """Return when a push has come, or a second has passed.

        Later where a look takes long (10,000 circuits: seconds), so that watching is a small part
        of what the store does.
        """
        if self._took > _QUICK:
            time.sleep(self._took)
        try:
            self._store.wait(max(_GLANCE, 4 * self._took))
        except StoreError:
            time.sleep(_GLANCE)


def _timeless(process: FleetProcess) -> tuple[object, ...]:
    """A process without the times that run."""
    return (
        *(process.process, process.state, process.reason),
        *(process.calls, process.failures, process.refused),
    )


def lines(watch: Watch, out: TextIO, err: TextIO, *, as_json: bool) -> None:
    """A line for each circuit, and then one for each change, until interrupted."""
    shown: dict[str, Any] = {}
    complained = ""
    with suppress(KeyboardInterrupt):
        while True:
            look = watch.look()
            if look.error != complained:
                complained = look.error
                if complained:
                    err.write(f"{complained}\n")
            for row in look.rows:
                reports = look.reports.get(row.name, ())
                processes = [process_of(each) for each in reports]
                # Time that runs is no change.
                timeless = row._replace(retry_after=None, reverts_in=None, processes=0)
                what = timeless, [_timeless(each) for each in processes]
                if shown.get(row.name) != what:
                    shown[row.name] = what
                    if as_json:
                        told = {each.process: each.text for each in reports}
                        out.write(json.dumps({**row._asdict(), "reports": told}) + "\n")
                    else:
                        cells = [cells_of(row), *map(cells_of_process, processes)]
                        out.write("".join("  ".join(each).rstrip() + "\n" for each in cells))
            out.flush()
            watch.wait()
