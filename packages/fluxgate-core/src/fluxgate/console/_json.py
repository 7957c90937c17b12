"""The JSON API, version 1: the same views as the pages, for programs.

    GET  api/v1/state?filter=pay&page=1        a page of circuits, worst first
    GET  api/v1/circuits/{id}                  one circuit, with what controls need
    GET  api/v1/audit                          the latest attempts to use a control
    POST api/v1/circuits/{id}/{action}         a control

`api-v1.schema.json` beside this module has the shapes. Fields may be added; none is removed or
changes its meaning within a version. Times are seconds, points in time seconds since the epoch,
shares ratios 0-1; null is unknown, or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fluxgate.console._names import evidence_of, line_of, measurement, shown
from fluxgate.console._view import Action, Change, Detail, Entry, Overview, ProcessRow, Row, Strip
from fluxgate.state import State

LETTERS: Final = {
    State.CLOSED: "C",
    State.OPEN: "O",
    State.HALF_OPEN: "H",
    State.METRICS_ONLY: "M",
    State.DISABLED: "D",
    State.FORCED_OPEN: "F",
    None: "-",
}
"""The letters of a strip, a minute each."""

Sign = Callable[[str], Mapping[str, str]]
"""Gives the `operation` and `token` for an action."""


def encoded(value: Mapping[str, Any]) -> bytes:
    """An object as JSON; no text of it can end a script element or be taken for markup."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def state_of(view: Overview) -> dict[str, Any]:
    """The overview."""
    return {
        "service": view.service,
        "host": view.host,
        "pid": view.pid,
        "fleet": view.fleet,
        "processes": view.processes,
        "absent": view.absent,
        "at": round(view.at, 3),
        "age": round(view.age, 3),
        "error": view.error,
        "counts": {str(state): count for state, count in view.counts.items()},
        "total": view.total,
        "page": view.page,
        "pages": view.pages,
        "filter": view.filter,
        "circuits": [row_of(row) for row in view.rows],
    }


def row_of(row: Row) -> dict[str, Any]:
    """A circuit."""
    return {
        "id": row.id,
        "name": row.name,
        "state": str(row.state),
        "open_in": row.open_in,
        "processes": row.processes,
        "since": _number(row.since),
        "reason": line_of(row.reason),
        "calls_rate": _number(row.calls_rate),
        "failed": _number(row.failed),
        "slow": _number(row.slow),
        "refused_rate": _number(row.refused_rate),
        "retry_after": _number(row.retry_after),
        "reopens": row.reopens,
        "shadow": line_of(row.shadow),
        "strip": strip_of(row.strip),
        "reverts_in": _number(row.reverts_in),
    }


def strip_of(strip: Strip) -> str:
    """A strip as letters."""
    return "".join(LETTERS[state] for state in strip)


def circuit_of(view: Detail, sign: Sign) -> dict[str, Any]:
    """A circuit in full.

    Args:
        view: the circuit.
        sign: gives the id and the token of an operation, for a control that is allowed.
    """
    return {
        "circuit": row_of(view.row),
        "changes": [_change(change) for change in view.changes],
        "evidence": list(view.evidence),
        "policy": [{"title": title, "points": list(points)} for title, points in view.policy],
        "totals": dict(view.totals),
        "settings": dict(view.settings),
        "processes": [_process(process) for process in view.processes],
        "errors": [{"error": error, "count": count} for error, count in view.errors],
        "audit": [entry_of(entry) for entry in view.audit],
        "actions": [_action(action, sign) for action in view.actions],
    }


def outcome_of(entry: Entry, row: Row | None) -> dict[str, Any]:
    """The answer to a control that was done, now or before, with the circuit after it if known."""
    found: dict[str, Any] = {"outcome": entry.outcome, "operation": entry.operation}
    if entry.after is not None:
        found["after"] = str(entry.after)
    return found if row is None else {**found, "circuit": row_of(row)}


def problem_of(status: int, title: str, detail: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """An error, as RFC 9457 has it; `problems` are sentences by field."""
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "problems": dict(fields),
    }


def audit_of(entries: Iterable[Entry]) -> dict[str, Any]:
    """The latest attempts on all circuits."""
    return {"audit": [entry_of(entry) for entry in entries]}


def entry_of(entry: Entry) -> dict[str, Any]:
    """An attempt to use a control."""
    found = entry._asdict()
    found["at"] = round(entry.at, 3)
    for name in ("before", "after"):
        found[name] = None if found[name] is None else str(found[name])
    return found


def _change(change: Change) -> dict[str, Any]:
    return {
        "at": round(change.at, 3),
        "old": None if change.old is None else str(change.old),
        "new": str(change.new),
        "reason": measurement(change.reason),
        "evidence": evidence_of(change),
        "by": None if change.reason.by is None else shown(change.reason.by),
        "note": None if change.reason.note is None else shown(change.reason.note),
        "origin": change.origin,
    }


def _process(row: ProcessRow) -> dict[str, Any]:
    found = row._asdict()
    found["state"] = None if row.state is None else str(row.state)
    found["age"] = round(row.age, 3)
    found["reason"] = line_of(row.reason)
    return found


def _action(action: Action, sign: Sign) -> dict[str, Any]:
    found = action._asdict()
    return {**found, **(sign(action.action) if action.allowed else {})}


def _number(value: float | None) -> float | None:
    """A number with as many digits as are worth sending."""
    return None if value is None else round(value, 3)
