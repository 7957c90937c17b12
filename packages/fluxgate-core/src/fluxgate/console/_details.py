"""Views of a reading: the overview, and one circuit in full."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from fluxgate._naming import printable
from fluxgate.cli._explain.explanation import in_short, settings_of
from fluxgate.console._names import shown
from fluxgate.console._reading import Item
from fluxgate.console._snapshots import Look
from fluxgate.console._view import Action, Change, Detail, Entry, Overview, Row
from fluxgate.console._words import Words
from fluxgate.metric import Totals
from fluxgate.policy import Policy

MAX_FILTER: Final = 200
"""Characters of a filter that are looked for."""


def overview_of(look: Look, *, service: str, text: str, page: int, size: int) -> Overview:
    """A page of the overview.

    Args:
        look: the reading.
        service: the service's name.
        text: what names must contain, whatever the case.
        page: the page's number; one that isn't there is the nearest that is.
        size: rows of a page.
    """
    reading = look.reading
    wanted = text.strip()[:MAX_FILTER].casefold()
    items = [each for each in reading.items if not wanted or wanted in each.name.casefold()]
    pages = max(-(-len(items) // size), 1)
    page = min(max(page, 1), pages)
    rows = tuple(current(reading.row(each), look) for each in items[(page - 1) * size :][:size])
    presences = reading.presences
    living = None if presences is None else sum(not each.absent for each in presences)
    return Overview(
        service=shown(service),
        host=_host(),
        pid=os.getpid(),
        processes=living,
        absent=0 if presences is None or living is None else len(presences) - living,
        age=look.age,
        error=None if look.error is None else shown(look.error),
        counts=reading.counts,
        rows=rows,
        total=len(items),
        page=page,
        pages=pages,
        filter=printable(text.strip(), MAX_FILTER),
        fleet=presences is not None,
        at=reading.context.wall,
    )


def detail_of(
    look: Look,
    item: Item,
    *,
    changes: tuple[Change, ...],
    audit: tuple[Entry, ...],
    actions: tuple[Action, ...],
    error_messages: bool,
    say: Words,
) -> Detail:
    """A circuit in full.

    Args:
        look: the reading.
        item: the circuit.
        changes: its transitions.
        audit: the attempts to control it.
        actions: its controls.
        error_messages: whether the last errors are shown with their messages.
        say: the words of a language.
    """
    reading = look.reading
    info = item.info
    breakers = item.breakers
    policy = breakers[0].policy if breakers else None
    reason = None if info is None else info.reason or info.last_trip
    if reason is not None and not error_messages:
        reason = reason.without_messages
    return Detail(
        row=current(reading.row(item), look),
        changes=changes,
        evidence=item.evidence(say),
        policy=() if policy is None else _explained(policy),
        totals={} if info is None else _counts(info.totals),
        settings={} if policy is None else dict(_settings(policy)),
        processes=item.processes(reading),
        audit=audit,
        actions=actions,
        errors=() if reason is None else tuple((shown(e), n) for e, n in reason.errors),
    )


def current(row: Row, look: Look) -> Row:
    """A row with its times as of now: they were read a moment ago."""
    if row.retry_after is None and row.reverts_in is None:
        return row
    left = [
        None if seconds is None else max(seconds - look.age, 0.0)
        for seconds in (row.retry_after, row.reverts_in)
    ]
    return row._replace(retry_after=left[0], reverts_in=left[1])


def _counts(totals: Totals) -> Mapping[str, int]:
    names = ("successes", "failures", "ignored", "cancelled", "stale", "rejected")
    return {name: getattr(totals, name) for name in names}


@lru_cache(maxsize=256)
def _explained(policy: Policy) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (title, tuple(printable(point, None) for point in points))
        for title, points in in_short(policy)
    )


@lru_cache(maxsize=256)
def _settings(policy: Policy) -> tuple[tuple[str, str], ...]:
    return tuple((key, printable(text, 2000)) for key, text in settings_of(policy))


@lru_cache(maxsize=1)
def _host() -> str:
    return shown(socket.gethostname())
