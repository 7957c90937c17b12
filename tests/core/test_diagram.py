"""The state diagrams: they show the machine's whole table, and can be read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest

from fluxgate import Policy, State
from fluxgate._engine.transitions import TRANSITIONS, Event
from fluxgate.cli import main
from fluxgate.cli._diagram.svg import svg_diagram
from fluxgate.cli._diagram.text import text_diagram
from fluxgate.cli._states import BY_HAND, OWN, SHORTLY, from_anywhere, in_words, label, moves
from fluxgate.retries import Backoff, Never
from fluxgate.trippers import Closed, FailureRate, MinRequests, SlowRate

PAGE = Path(__file__).parents[2] / "docs" / "states.svg"
SVG = "{http://www.w3.org/2000/svg}"
ALL_MOVES = {
    (source, event, target)
    for source, events in TRANSITIONS.items()
    for event, target in events.items()
}


# -- what they show


def test_the_diagram_of_the_docs_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """After a change of the table: `python -m fluxgate diagram --output docs/states.svg`."""
    assert main(["diagram", "--output", str(PAGE), "--check"]) == 0, capsys.readouterr().err


def test_every_transition_is_spoken_of_once() -> None:
    spoken = [(move.source, event, move.target) for move in moves() for event in move.events]
    spoken += [
        (source, event, target) for event, target in from_anywhere().items() for source in State
    ]
    assert len(spoken) == len(set(spoken))
    assert set(spoken) == ALL_MOVES
    assert len(in_words()) == len(moves()) + len(from_anywhere())


def test_every_state_and_event_has_its_words() -> None:
    assert set(SHORTLY) == set(State)
    assert set(OWN) == {Event.TRIPPED, Event.COOLED, Event.RECOVERED}
    assert set(BY_HAND) == set(from_anywhere().values()) - {State.CLOSED}


@pytest.mark.parametrize("picture", [svg_diagram(), text_diagram()], ids=["svg", "characters"])
def test_every_state_and_every_arrow_is_in_the_picture(picture: str) -> None:
    shown = picture.partition("</desc>")[2] or picture
    shown = re.sub(r">\w+(\(\))?: .*<", "", shown)  # the legend
    for state in State:
        assert len(re.findall(rf"\b{state.upper()}\b", shown)) >= 1
    for event in Event:
        arrows = sum(event in move.events for move in moves()) + (event in from_anywhere())
        found = re.findall(rf"(?<!\w){re.escape(label(event))}(?![\w(])", shown)
        # The frame's caption names open_for() once more.
        assert len(found) - (event is Event.OPEN_FOR and "<" in shown) == arrows, event
    if "<" in shown:
        arrows = len(moves()) + len(from_anywhere())
        assert shown.count('marker-end="url(#tip)"') == arrows


@pytest.mark.parametrize("draw", [svg_diagram, text_diagram])
def test_a_transition_that_has_no_place_is_no_secret(
    draw: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who adds one to the table is told to draw it, too."""
    assert callable(draw)
    monkeypatch.setitem(TRANSITIONS[State.CLOSED], Event.COOLED, State.HALF_OPEN)
    with pytest.raises(KeyError, match="HALF_OPEN"):
        draw()


def test_a_table_that_changes_changes_the_diagram(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(TRANSITIONS[State.HALF_OPEN], Event.OPEN_FOR)
    assert main(["diagram", "--output", str(PAGE), "--check"]) == 1
    assert f"python -m fluxgate diagram --output {PAGE}" in capsys.readouterr().err


def test_it_is_written_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "states.svg"
    assert main(["diagram", "--output", str(path), "--check"]) == 1
    assert not path.exists()
    assert main(["diagram", "--output", str(path)]) == 0
    assert main(["diagram", "--output", str(path), "--check"]) == 0
    path.write_text(path.read_text() + " ")
    assert main(["diagram", "--output", str(path), "--check"]) == 1
    capsys.readouterr()
    assert main(["diagram"]) == 0
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        main(["diagram", "--check"])
    assert left.value.code == 2
    assert "--check needs --output" in capsys.readouterr().err


def test_a_policys_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "payments.svg"
    words = ["explain", "Closed() & FailureRate(0.5)", "--name", "a <b> & \x07c", "--retry"]
    assert main([*words, "Never()", "--state", "open", "--svg", str(path)]) == 0
    assert f"The diagram is in {path}." in capsys.readouterr().out
    svg = ET.fromstring(path.read_text(encoding="utf-8"))
    texts = [element.text or "" for element in svg.iter(f"{SVG}text")]
    assert texts[2] == "The states of 'a <b> & \\x07c'"
    assert "tripped: FailureRate(0.5) fires; half-open: a probe fails" in texts
    assert "cooled: never" in texts
    assert "recovered: a probe succeeds" in texts
    (never,) = svg.findall(f".//{SVG}path[@class='arrow never']")
    assert never.get("d") == "M620,180 V290 H522"
    (marked,) = [box for box in svg.iter(f"{SVG}rect") if "marked" in (box.get("class") or "")]
    assert marked.get("class") == "box refuse marked"


# -- how it reads


class Area(NamedTuple):
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Area) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def texts(svg: ET.Element) -> dict[str, Area]:
    """Where each text stands. Its width is a guess that errs on the large side."""
    found: dict[str, Area] = {}
    for place, element in enumerate(svg.iter(f"{SVG}text")):
        kind, text = element.get("class") or "", element.text or ""
        size = {"title": 18.0, "small": 13.0}.get(kind, 15.0)
        width = 0.58 * size * len(text) * (1.15 if kind in ("title", "name") else 1.0)
        x, y = float(element.get("x", "nan")), float(element.get("y", "nan"))
        left = {"start": x, "middle": x - width / 2, "end": x - width}[
            element.get("text-anchor", "")
        ]
        found[f"{place} {text}"] = Area(left, y - 0.8 * size, left + width, y + 0.25 * size)
    return found


def strokes(svg: ET.Element) -> Iterator[Area]:
    """The straight pieces of each arrow; of a curve, the box of its points."""
    for path in svg.iter(f"{SVG}path"):
        if "arrow" not in (path.get("class") or ""):
            continue
        x = y = 0.0
        for command, given in re.findall(r"([MHVC])([-\d., ]+)", path.get("d", "")):
            numbers = [float(each) for each in re.findall(r"-?[\d.]+", given)]
            points = {"M": numbers, "H": [*numbers, y], "V": [x, *numbers], "C": numbers}[command]
            xs, ys = points[::2], points[1::2]
            if command == "C":  # the curve stays within three quarters of its handles' height
                ys = [y + 0.75 * (each - y) for each in ys]
            if command != "M":
                yield Area(min(x, *xs), min(y, *ys), max(x, *xs), max(y, *ys))
            x, y = points[-2:]


PICTURES = {
    "general": svg_diagram(),
    "long": svg_diagram(
        Policy(
            tripper=MinRequests(20)
            & (FailureRate(0.5) | SlowRate(0.3, 1.0))
            & (Closed() | FailureRate(0.25) & SlowRate(0.1, 2.0)),
            retry=Backoff(1.0, 1.5, 600.0, 0.25),
        ),
        name="a-name-that-is-much-longer-than-any.name.of.a.circuit.should.be:all-in-all",
    ),
    "short": svg_diagram(Policy(retry=Never()), marked=State.HALF_OPEN),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_nothing_covers_a_label(picture: str) -> None:
    svg = ET.fromstring(picture)
    placed = texts(svg)
    width, height = (float(each) for each in (svg.get("viewBox") or "").split()[2:])
    for text, area in placed.items():
        assert not any(area.meets(stroke) for stroke in strokes(svg)), text
        assert area.left >= 0, text
        assert area.right <= width, text
        assert area.bottom <= height, text
    for (one, first), (other, second) in itertools.combinations(placed.items(), 2):
        assert not first.meets(second), (one, other)


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_boxes_hold_their_words_and_stand_apart(picture: str) -> None:
    svg = ET.fromstring(picture)
    boxes = [
        Area(*(x, y, x + width, y + height))
        for box in svg.iter(f"{SVG}rect")
        if "box" in (box.get("class") or "")
        for x, y, width, height in [
            [float(box.get(name, "nan")) for name in ("x", "y", "width", "height")]
        ]
    ]
    assert len(boxes) == len(State) + 1
    assert not any(one.meets(other) for one, other in itertools.combinations(boxes, 2))
    for box in boxes:
        inside = [area for area in texts(svg).values() if area.meets(box)]
        assert inside
        for area in inside:
            assert box.left <= area.left
            assert area.right <= box.right


def test_it_can_be_heard() -> None:
    """For those who can't see it: a role, a title, and all transitions in words."""
    svg = ET.fromstring(svg_diagram())
    assert svg.get("role") == "img"
    ids = {element.get("id"): element for element in svg if element.get("id")}
    title, description = (ids[each] for each in (svg.get("aria-labelledby") or "").split())
    assert title.text == "The states of a circuit"
    assert all(sentence in (description.text or "") for sentence in in_words())
    assert "half_open to open: tripped, open_for()." in (description.text or "")


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read_by_day_and_by_night(dark: bool) -> None:
    style = ET.fromstring(svg_diagram()).findtext(f"{SVG}style") or ""
    day, night = style.split("@media (prefers-color-scheme: dark)")
    rules: dict[str, str] = {}
    for text in (day, night)[: 1 + dark]:
        for name, body in re.findall(r"([.\w]+) \{ ([^{}]*) \}", text):
            for key, colour in re.findall(r"(fill|stroke): (#\w{6})", body):
                rules[f"{name} {key}"] = colour
    for ground in (".page", ".frame", ".pass", ".refuse", ".probe", ".any"):
        for text in ("text", ".small"):
            assert contrast(rules[f"{text} fill"], rules[f"{ground} fill"]) >= 4.5
    for line in (".pass stroke", ".refuse stroke", ".probe stroke", ".arrow stroke", ".tip fill"):
        assert contrast(rules[line], rules[".frame fill"]) >= 3
