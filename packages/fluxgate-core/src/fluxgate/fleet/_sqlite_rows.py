"""Rows of the SQLite store: views, counts and text as its columns hold them."""

from __future__ import annotations

from typing import Any

from fluxgate.fleet._window import read_buckets, read_counts, width_of
from fluxgate.fleet.store import MAX_EPOCH, MAX_THRESHOLDS, STATES, Bucket, Counts, View


def view_of(name: str, row: tuple[Any, ...] | None, now: int, width: int = 1) -> View:
    """A row as a view; what can't be read is as good as absent."""
    if row is None:
        return View(name, tick=now // 1000 // width)
    _, epoch, letter, until, reopens, reason, author, reporter, label, burst = row[:10]
    counts, text, reporters, witnesses, live = row[11:16]
    state, probes = STATES.get(str(letter)), read_counts(str(counts))
    numbers = (epoch, reopens, burst, reporters, witnesses, live, 0 if until is None else until)
    if state is None or probes is None or not _sound(numbers):
        return View(name, tick=now // 1000 // width)
    thresholds = str(label).count(".")
    width = width_of(str(label)) or width
    kept_buckets = read_buckets(str(text)) if text else ()
    buckets = tuple(
        Bucket(tick, Counts(*counts[:3], counts.slow[:thresholds])) for tick, counts in kept_buckets
    )
    return View(
        name,
        known=True,
        epoch=epoch,
        state=state,
        remaining=None if until is None else max(until - now, 0),
        reopens=reopens,
        reason=str(reason),
        author=str(author),
        reporter=str(reporter),
        tick=now // 1000 // width,
        label=str(label),
        buckets=buckets,
        witnesses=witnesses,
        reporters=reporters,
        burst=max(now - burst, 0) if witnesses else None,
        probes=probes,
        live=live,
    )


def _sound(numbers: tuple[object, ...]) -> bool:
    for number in numbers:  # no generator: a page reads thousands of rows
        if not isinstance(number, int) or not 0 <= number <= MAX_EPOCH:
            return False
    return True


def padded(counts: Counts) -> tuple[int, ...]:
    """Counts as the columns of a row: as many thresholds as a row has, the missing ones 0."""
    slow = (*counts.slow, *(0 for _ in range(MAX_THRESHOLDS)))[:MAX_THRESHOLDS]
    return (*counts[:3], *slow)


def clean(text: str) -> str:
    """Text without what SQLite can't store or compare: lone surrogates, and NUL."""
    return text.encode(errors="replace").decode().replace("\0", "")
