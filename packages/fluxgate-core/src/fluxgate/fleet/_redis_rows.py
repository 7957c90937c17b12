"""Answers of the Redis store's scripts, as views and reports."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from fluxgate.fleet._window import read_buckets, read_counts, width_of
from fluxgate.fleet.store import (
    MAX_COUNT,
    MAX_EPOCH,
    MAX_GRANTS,
    STATES,
    Bucket,
    Counts,
    Report,
    Shape,
    StoreError,
    View,
    report_of,
)

_MODULO: Final = 4096


def as_bytes(text: str) -> bytes:
    return text.encode(errors="replace")


def as_text(data: Any) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else str(data)


def row_of(answer: Any) -> Any:
    """An answer of a script that changes a circuit, with text in place of bytes."""
    if not isinstance(answer, list):
        return None
    found = cast("list[object]", answer)
    return [as_text(each) if isinstance(each, bytes) else each for each in found]


def rows_of(answer: Any, count: int) -> list[Any]:
    """Rows of so many circuits from an answer; None for each that can't be read."""
    if isinstance(answer, StoreError):
        return [answer] * count
    try:
        rows = json.loads(as_text(answer))
    except (ValueError, RecursionError):
        rows = None
    found = cast("list[object]", rows) if isinstance(rows, list) else []
    return found if len(found) == count else [None] * count


def reports_of(answer: Any, within: int) -> list[Report]:
    """An answer as reports; what can't be read is as good as absent."""
    if isinstance(answer, StoreError):
        return []
    try:
        now, *pairs = answer
        now, texts = min(int(now), MAX_EPOCH), iter([str(each) for each in pairs])
    except (TypeError, ValueError, OverflowError):
        return []
    found = (report_of(process, kept, now, within) for process, kept in zip(texts, texts))  # noqa: B905
    return [report for report in found if report is not None]


def view_of(name: str, row: Any, shape: Shape | None = None, counted: bool = False) -> View:
    """A row as a view; what can't be read is as good as absent."""
    try:
        known, epoch, letter, left, reopens, reason, author, reporter, now, label = row[:10]
        last, window, bad, seen, burst, probes, live, first, granted, applied, won = row[10:]
        numbers = [int(n) for n in (epoch, reopens, now, last, bad, seen, burst, live, granted)]
        first, left, known, applied, won = map(int, (first, left, known, applied, won))
    except (TypeError, ValueError, KeyError, OverflowError):  # whatever kind of reply it is
        return View(name)
    epoch, reopens, now, last, bad, seen, burst, live, granted = numbers
    label = str(label)
    thresholds = label.split(".")[1:]
    wide = width_of(label) or (1 if shape is None else shape.width)
    state = STATES.get(str(letter))
    sound = granted <= MAX_GRANTS and max(first, left) <= MAX_EPOCH
    sound = sound and all(0 <= n <= MAX_EPOCH for n in numbers)
    if not known or state is None or not sound:
        return View(name, tick=max(now, 0) // 1000 // wide)
    slow = len(thresholds)
    newest = last // 1000 // wide
    return View(
        name,
        known=True,
        epoch=epoch,
        state=state,
        remaining=None if left < 0 else left,
        reopens=min(reopens, MAX_COUNT),
        reason=str(reason),
        author=str(author),
        reporter=str(reporter),
        tick=now // 1000 // wide,
        label=label,
        buckets=tuple(
            Bucket(
                newest - (newest - tick) % _MODULO,
                counts._replace(slow=counts.slow[:slow]) if counts.slow[slow:] else counts,
            )
            for tick, counts in read_buckets(str(window))
        ),
        witnesses=bad,
        reporters=seen,
        burst=burst if bad else None,
        probes=read_counts(str(probes)) or Counts(),
        live=live,
        tokens=tuple(range(first, first + granted)),
        applied=counted and bool(applied),
        won=bool(won),
    )
