"""The state diagram as SVG. The content is the table of transitions; positions are fixed here.

The same table always gives the same file, to the last byte. A table with a transition that has no
position here is a KeyError, so that none is left out.
"""

from __future__ import annotations

import textwrap
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

from fluxgate._engine.transitions import Event
from fluxgate.cli._diagram.legend import legend, never_cools
from fluxgate.cli._states import SHORTLY, Move, from_anywhere, in_words, label, moves
from fluxgate.policy import Policy
from fluxgate.state import State

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
METRICS_ONLY, DISABLED, FORCED_OPEN = State.METRICS_ONLY, State.DISABLED, State.FORCED_OPEN

WIDTH: Final = 860
_LONGEST: Final = 48
"""Characters of a name that fit into the title."""
_BOX: Final = (200, 60)
_BOXES: Final[dict[State, tuple[int, int]]] = {  # the middle of each
    CLOSED: (190, 150),
    OPEN: (650, 150),
    HALF_OPEN: (420, 300),
    METRICS_ONLY: (284, 536),
    DISABLED: (500, 536),
    FORCED_OPEN: (716, 536),
}


class _Route(NamedTuple):
    """An arrow's path, and the position of its label (the baseline of the first line)."""

    path: str
    at: tuple[int, int]
    anchor: str = "middle"


_ROUTES: Final[dict[tuple[State, State], _Route]] = {
    (CLOSED, OPEN): _Route("M290,150 H548", (419, 122)),
    (OPEN, OPEN): _Route("M620,120 C620,76 680,76 680,118", (692, 88), "start"),
    (OPEN, HALF_OPEN): _Route("M620,180 V290 H522", (608, 240), "end"),
    (HALF_OPEN, OPEN): _Route("M520,314 H690 V182", (702, 240), "start"),
    (HALF_OPEN, CLOSED): _Route("M320,300 H190 V182", (202, 240), "start"),
}
_FROM_ANYWHERE: Final[dict[State, _Route]] = {
    CLOSED: _Route("M56,452 V150 H88", (66, 240), "start"),
    METRICS_ONLY: _Route("M284,468 V504", (294, 494), "start"),
    DISABLED: _Route("M500,468 V504", (510, 494), "start"),
    FORCED_OPEN: _Route("M136,468 H716 V504", (726, 494), "start"),
}

_STYLE: Final = """
svg { color-scheme: light dark; font: 15px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
.page { fill: #ffffff; } .frame { fill: #f6f8fa; stroke: #d0d7de; }
text { fill: #1f2328; } .small { font-size: 13px; fill: #57606a; }
.title { font-size: 18px; font-weight: 600; } .name { font-weight: 600; }
.box { stroke-width: 1.5; } .marked { stroke-width: 4; }
.pass { fill: #dafbe1; stroke: #1a7f37; } .refuse { fill: #ffebe9; stroke: #cf222e; }
.probe { fill: #fff8c5; stroke: #9a6700; } .any { fill: #eaeef2; stroke: #57606a; }
.arrow { fill: none; stroke: #57606a; stroke-width: 1.5; } .tip { fill: #57606a; }
.never { stroke-dasharray: 3 5; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; } .frame { fill: #161b22; stroke: #30363d; }
  text { fill: #e6edf3; } .small { fill: #9da7b3; }
  .pass { fill: #12261e; stroke: #3fb950; } .refuse { fill: #25171c; stroke: #f85149; }
  .probe { fill: #272115; stroke: #d29922; } .any { fill: #21262d; stroke: #9da7b3; }
  .arrow { stroke: #9da7b3; } .tip { fill: #9da7b3; }
}
"""
_KIND: Final = {OPEN: "refuse", FORCED_OPEN: "refuse", HALF_OPEN: "probe"}


def svg_diagram(
    policy: Policy | None = None, *, name: str = "", marked: State | None = None
) -> str:
    """The diagram, with a legend in general or of one policy.

    Args:
        policy: the policy that the legend explains; None: any.
        name: the circuit's name, for the title.
        marked: a state to highlight.
    """
    cut = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    title = f"The states of {cut!r}" if name else "The states of a circuit"
    notes = [
        line
        for event, meaning in legend(policy).items()
        for line in textwrap.wrap(f"{label(event)}: {meaning}", 106, subsequent_indent="   ")
    ]
    height = 612 + 20 * len(notes)
    svg = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {WIDTH} {height}",
            "width": str(WIDTH),
            "height": str(height),
            "role": "img",
            "aria-labelledby": "title description",
        },
    )
    _add(svg, "title", id="title").text = title
    _add(svg, "desc", id="description").text = " ".join([*in_words(), *notes])
    _add(svg, "style").text = _STYLE
    _arrow_tip(svg)
    _add(svg, "rect", **{"class": "page", "width": str(WIDTH), "height": str(height)}, rx="8")
    _frame(svg, 56, 330, "moves by itself, and by open_for()", (28, 80), "start")
    _frame(svg, 406, 184, "set by hand, from every state", (WIDTH - 28, 430), "end")
    _text(svg, title, (20, 36), "title", "start")
    for move in moves():
        _move(svg, move, policy)
    _controls(svg)
    for state, (x, y) in _BOXES.items():
        _state(svg, state, x, y, marked=state is marked)
    for place, note in enumerate(notes):
        _text(svg, note, (24, 616 + 20 * place), "small", "start")
    ET.indent(svg)
    return ET.tostring(svg, encoding="unicode") + "\n"


def _add(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, attributes)


def _text(
    parent: ET.Element, text: str, at: tuple[int, int], kind: str = "", anchor: str = "middle"
) -> None:
    x, y = map(str, at)
    element = _add(parent, "text", **{"x": x, "y": y, "text-anchor": anchor})
    if kind:
        element.set("class", kind)
    element.text = text


def _frame(
    svg: ET.Element, y: int, height: int, caption: str, at: tuple[int, int], anchor: str
) -> None:
    box = {"x": "16", "y": str(y), "width": str(WIDTH - 32), "height": str(height), "rx": "10"}
    _add(svg, "rect", **{"class": "frame"}, **box)
    _text(svg, caption, at, "small", anchor)


def _arrow_tip(svg: ET.Element) -> None:
    size = {"viewBox": "0 0 8 8", "markerWidth": "11", "markerHeight": "11"}
    where = {"refX": "7", "refY": "4", "orient": "auto", "markerUnits": "userSpaceOnUse"}
    marker = _add(_add(svg, "defs"), "marker", id="tip", **size, **where)
    _add(marker, "path", **{"class": "tip", "d": "M0,0 L8,4 L0,8 Z"})


def _arrow(svg: ET.Element, path: str, *, never: bool = False) -> None:
    kind = "arrow never" if never else "arrow"
    _add(svg, "path", **{"class": kind, "d": path, "marker-end": "url(#tip)"})


def _move(svg: ET.Element, move: Move, policy: Policy | None) -> None:
    route = _ROUTES[move.source, move.target]
    _arrow(svg, route.path, never=move.events == (Event.COOLED,) and never_cools(policy))
    x, y = route.at
    for place, event in enumerate(move.events):
        _text(svg, label(event), (x, y + 18 * place), "", route.anchor)


def _controls(svg: ET.Element) -> None:
    """The controls, each of which leads from every state to the same one."""
    for event, target in from_anywhere().items():
        route = _FROM_ANYWHERE[target]
        _arrow(svg, route.path)
        _text(svg, label(event), route.at, "", route.anchor)
    box = {"x": "32", "y": "452", "width": "104", "height": "32", "rx": "16"}
    _add(svg, "rect", **{"class": "box any"}, **box)
    _text(svg, "every state", (84, 473))


def _state(svg: ET.Element, state: State, x: int, y: int, *, marked: bool) -> None:
    width, height = _BOX
    kind = f"box {_KIND.get(state, 'pass')}{' marked' if marked else ''}"
    box = {"x": str(x - width // 2), "y": str(y - height // 2), "rx": "10"}
    _add(svg, "rect", **{"class": kind, "width": str(width), "height": str(height)}, **box)
    _text(svg, state.upper(), (x, y - 4), "name")
    _text(svg, SHORTLY[state], (x, y + 18), "small")
