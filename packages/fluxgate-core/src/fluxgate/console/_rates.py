"""Rates: calls and refusals a second, from totals that two readings have seen.

No call pays for them: totals are counted anyway.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from fluxgate.console._names import ID

SPAN: Final = 10.0
"""Seconds over which a rate is measured, about."""
STALE: Final = 60.0
"""Seconds after which what was seen says nothing about "lately"."""
SHORTEST: Final = 0.5
"""Seconds between two readings, at least, that say anything."""


class _Seen(NamedTuple):
    at: float
    counts: tuple[int, ...]


class Rates:
    """The totals of each circuit as they were last seen; not thread-safe."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[_Seen, _Seen]] = {}

    def of(self, circuit: str, at: float, *counts: int) -> tuple[float | None, ...]:
        """How fast each of the counts grows, per second; None where that isn't known yet.

        Args:
            circuit: whose counts they are.
            at: seconds of a clock.
            counts: the totals at that time.
        """
        now = _Seen(at, counts)
        base, middle = self._seen.get(circuit, (now, now))
        fell = any(new < old for new, old in zip(counts, middle.counts, strict=True))
        if at - middle.at > STALE or fell:
            base = middle = now  # nobody has looked for long; or it is another circuit of the name
        elif at < middle.at:
            now = middle
        elif at - middle.at >= SPAN / 2:
            base, middle = middle, now
        self._seen[circuit] = (base, middle)
        passed = now.at - base.at
        if passed < SHORTEST:
            return (None,) * len(counts)
        pairs = zip(now.counts, base.counts, strict=True)
        return tuple(max(new - old, 0) / passed for new, old in pairs)

    def keep(self, circuits: Collection[str]) -> None:
        """Forget all but these, where there are many others."""
        if len(self._seen) > 2 * len(circuits) + 1000:
            kept = {each: seen for each, seen in self._seen.items() if each[:ID] in circuits}
            self._seen = kept
