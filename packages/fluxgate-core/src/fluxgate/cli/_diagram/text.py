"""The state diagram in characters, for a terminal, drawn from the table of transitions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from fluxgate.cli._states import Move, from_anywhere, label, moves
from fluxgate.state import State

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN

_SIZE: Final = (76, 11)
_BOX: Final = 17
_BOXES: Final[dict[State, tuple[int, int]]] = {CLOSED: (0, 0), OPEN: (45, 0), HALF_OPEN: (45, 8)}

_Strokes = tuple[tuple[int, int, str], ...]
"""Column, row and text of each stroke."""
_Write = Callable[[int, int, str], None]


class _Arrow(NamedTuple):
    """An arrow's strokes, and the position of its labels.

    `stacked` puts each label on a line of its own; `before` ends the text at the position.
    """

    strokes: _Strokes
    at: tuple[int, int]
    stacked: bool = False
    before: bool = False


def _upright(column: int, rows: range, tip: str) -> _Strokes:
    """A line that goes up to its tip, or down."""
    last = rows[0] if tip == "▲" else rows[-1]
    return tuple((column, row, tip if row == last else "│") for row in rows)


_ARROWS: Final[dict[tuple[State, State], _Arrow]] = {
    (CLOSED, OPEN): _Arrow(((18, 1, "─" * 25 + "▶"),), (21, 0)),
    (OPEN, OPEN): _Arrow(((63, 1, "↺"),), (65, 1)),
    (OPEN, HALF_OPEN): _Arrow(_upright(49, range(3, 8), "▼"), (48, 5), before=True),
    (HALF_OPEN, OPEN): _Arrow(_upright(57, range(3, 8), "▲"), (59, 5), stacked=True),
    (HALF_OPEN, CLOSED): _Arrow((*_upright(8, range(3, 9), "▲"), (8, 9, "└" + "─" * 35)), (10, 6)),
}


def text_diagram(marked: State | None = None) -> str:
    """The diagram, some 15 lines of 76 characters.

    Args:
        marked: a state to highlight.
    """
    page = [[" "] * _SIZE[0] for _ in range(_SIZE[1])]

    def write(column: int, row: int, text: str) -> None:
        page[row][column : column + len(text)] = text

    for move in moves():
        _draw(move, write)
    for state, (column, row) in _BOXES.items():
        name = f"» {state.upper()} «" if state is marked else state.upper()
        write(column, row, f"┌{'─' * (_BOX - 2)}┐")
        write(column, row + 1, f"│{name:^{_BOX - 2}}│")
        write(column, row + 2, f"└{'─' * (_BOX - 2)}┘")
    lines = ["".join(row).rstrip() for row in page]
    lines += ["", "by hand, from every state:"]
    for event, target in from_anywhere().items():
        name = f"» {target.upper()} «" if target is marked else target.upper()
        lines.append(f"    {label(event):<15} ─▶ {name}")
    return "\n".join(lines)


def _draw(move: Move, write: _Write) -> None:
    arrow = _ARROWS[move.source, move.target]
    for stroke in arrow.strokes:
        write(*stroke)
    column, row = arrow.at
    names = [label(event) for event in move.events]
    for place, name in enumerate(names if arrow.stacked else [", ".join(names)]):
        write(column - len(name) if arrow.before else column, row + place, name)
