"""Real processes whose store is killed, stopped, filled, cut off, deleted and overwritten.

`python3 noxfile.py -s chaos` runs the long form (32 processes, too) and prints a table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .chaos import PLACES, SLOTS, Crew, OnFile, OnServer, Outcome, most_at_once, quantile

pytestmark = pytest.mark.slow

LONG = os.environ.get("FLUXGATE_CHAOS") == "1"
COUNTS = (8, 32) if LONG else (8,)
SHORT = (
    *("redis-killed", "redis-stopped", "redis-full", "redis-read_only", "redis-flushed"),
    *("redis-connections_killed", "redis-cut", "sqlite-locked", "sqlite-deleted"),
    *("sqlite-emptied", "sqlite-noise"),
)
ALL = tuple(
    f"{store}-{fault}"
    for store, place in (("redis", OnServer), ("sqlite", OnFile))
    for fault in place.faults
)


class Crews:
    """One crew at a time: processes cost more than what they are for."""

    def __init__(self) -> None:
        self._key: tuple[str, int] | None = None
        self._crew: Crew | None = None
        self._calm: list[float] = []
        self.rows: list[tuple[str, ...]] = []

    def get(self, store: str, count: int) -> Crew:
        if self._crew is None or self._key != (store, count):
            self.close()
            self._key = (store, count)
            self._crew = Crew(PLACES[store](), count, 400.0 / count)
            self._calm = self._crew.calm(10.0 if LONG else 1.0)
            self._row("no fault", self._calm)
        return self._crew

    def note(self, fault: str, outcome: Outcome) -> None:
        self._row(
            fault.replace("_", " "),
            outcome.took,
            str(len(outcome.exceptions)),
            str(outcome.refused),
            *(
                f"{seconds:.2f} s"
                for seconds in (
                    outcome.lasted,
                    outcome.attached_after,
                    outcome.open_after,
                    outcome.closed_after,
                )
            ),
        )

    def _row(self, fault: str, took: list[float], *rest: str) -> None:
        assert self._key is not None
        store, count = self._key
        added = [quantile(took, share) - quantile(self._calm, share) for share in (0.99, 0.999)]
        if not rest:
            added = [quantile(took, share) for share in (0.99, 0.999)]
        times = [
            f"{seconds * 1e6:+.0f} us" if rest else f"{seconds * 1e6:.0f} us" for seconds in added
        ]
        self.rows.append((f"{store} x {count}: {fault}", str(len(took)), *times, *rest))

    def close(self) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def table(self) -> str:
        heads = ("fault", "calls", "p99", "p99.9", "exceptions", "refused")
        heads += ("lasted", "attached", "all open", "all closed")
        rows = [heads, *((*row, *[""] * (len(heads) - len(row))) for row in self.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )


@pytest.fixture(scope="module")
def crews() -> Iterator[Crews]:
    made = Crews()
    yield made
    made.close()
    print(f"\n\n{made.table()}\n")


@pytest.mark.parametrize("fault", ALL if LONG else SHORT)
@pytest.mark.parametrize("count", COUNTS)
def test_faults(crews: Crews, count: int, fault: str) -> None:
    """No exception, no refusal of the healthy, one epoch after the other, and all equal after."""
    store, _, name = fault.partition("-")
    crew = crews.get(store, count)
    outcome = crew.suffer(name, 3.0 if LONG else 0.4)
    crews.note(name, outcome)
    assert outcome.exceptions == []
    assert outcome.refused == 0
    assert outcome.took, "nobody called"
    for epochs in crew.epochs:
        assert epochs, "it has seen no transition"
        assert epochs == sorted(set(epochs))
    assert 0 < most_at_once(crew.probes) <= SLOTS
    assert outcome.attached_after < 15.0
