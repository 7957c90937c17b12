"""The circuits of a fleet as plain text: one line each, and one for each process that reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fluxgate._layout import columns
from fluxgate._naming import printable
from fluxgate._words import number, seconds
from fluxgate._words import state as in_words
from fluxgate.cli._fleet.circuits import Look, Row
from fluxgate.fleet._circuits import FleetProcess, process_of
from fluxgate.fleet.store import Report
from fluxgate.state import State

HEADINGS: Final[tuple[str, ...]] = ("NAME", "STATE", "CALLS", "FAILED", "LAST REPORT")
NOTE: Final = "Calls of a circuit: all processes', in its window; of a process: since it began."
NONE: Final = "No process has reported a circuit yet."


def table(look: Look) -> str:
    """Every circuit, with the processes that have something to say about it."""
    if not look.rows:
        return NONE
    cells: list[tuple[str, ...]] = [HEADINGS]
    for row in look.rows:
        cells.append(cells_of(row))
        cells += [cells_of_process(process_of(each)) for each in look.reports.get(row.name, ())]
    lines = columns(cells)
    if look.reports:
        lines += ["", NOTE]
    return "\n".join(lines)


def cells_of(row: Row) -> tuple[str, ...]:
    """A circuit's line."""
    return (
        shown(row.name),
        state_of(row),
        str(row.calls),
        str(row.failures),
        shown(row.reporter),
    )


def cells_of_process(of: FleetProcess) -> tuple[str, ...]:
    """A process's line."""
    if of.state is None:
        return (f"  {shown(of.process)}", "", "-", "-", shown(of.reason))
    state, calls, failures = in_words(of.state), str(of.calls), str(of.failures)
    return (f"  {shown(of.process)}", state, calls, failures, shown(of.reason))


def state_of(row: Row) -> str:
    """A circuit's state in words, with the time that is left of it, and who has set it."""
    left = row.retry_after if row.reverts_in is None else row.reverts_in
    parts = [bare_state_of(row), "" if left is None else seconds(round(left, 1))]
    if row.state != State.CLOSED and row.by is not None:
        parts.append(f"by {shown(row.by)}")
    return ", ".join(part for part in parts if part)


def bare_state_of(row: Row) -> str:
    """A circuit's state in words; if only processes have moved by themselves, how many have."""
    if row.worst == row.state:
        return in_words(row.state)
    of = number(row.processes, "process", "processes")
    return f"{in_words(row.worst)} in {row.states[row.worst]} of {of}"


def of_details(details: Mapping[str, Any]) -> str:
    """One circuit, a line for each thing that is known of it."""
    width = max(map(len, details))
    row = Row(**{field: details[field] for field in Row._fields})
    told = {**details, "state": bare_state_of(row)}
    del told["reports"], told["states"]  # which are below
    lines = [f"{key:{width}}  {shown(value)}" for key, value in told.items()]
    own = [process_of(Report(*each)) for each in details["reports"].items()]
    if own:
        heads = ("  PROCESS", "STATE", "CALLS", "FAILED", "REASON")
        lines += ["", *columns([heads, *map(cells_of_process, own)])]
    return "\n".join(lines)


def shown(value: object) -> str:
    """A value in one printable word or line; `-` for none."""
    if value is None or value == "":
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else printable(str(value), None)
