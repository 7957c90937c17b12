"""Reports: text of 80 columns, JSON and a page, as the golden files have them.

    FLUXGATE_GOLDEN=1 python -m pytest tests/core/replay/test_reports.py

writes the golden files anew: look at what has changed.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fluxgate.replay import Call, ReplayResult, SweepResult, Trace, replay, report, sweep, traces

GOLDEN = Path(__file__).parent / "golden"
POLICIES = ["MinRequests(10) & FailureRate(0.5)", "MinRequests(20) & SlowRate(0.5, 1.0)"]
by_kind = pytest.mark.parametrize("kind", traces.KINDS)


@cache
def replayed(kind: str) -> ReplayResult:
    trace, outages = traces.KINDS[kind](seed=1)
    return replay(trace, POLICIES, present="FailureStreak(5)", outages=outages)


@cache
def swept() -> SweepResult:
    trace, outages = traces.brown_out(seed=1)
    grids = ["FailureRate=0.1,0.3,0.5,0.7", "MinRequests=5,20,50"]
    return sweep(trace, grids, present="FailureStreak(5)", outages=outages)


def is_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("FLUXGATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8")


def rounded(value: Any) -> Any:
    """Floats as they are on every platform, and no lists of the timeline."""
    if isinstance(value, float):
        return float(f"{value:.10g}") if value > 1e6 else float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items() if name != "timeline"}
    return [rounded(each) for each in value] if isinstance(value, list) else value


# -- golden files


@by_kind
def test_text_is_golden(kind: str) -> None:
    is_golden(f"{kind}.txt", report.render_text(replayed(kind)))


@by_kind
def test_json_is_golden(kind: str) -> None:
    found = replayed(kind).as_json()
    text = json.dumps(rounded(found), indent=1, allow_nan=False)
    is_golden(f"{kind}.json", re.sub(r"\n {3,}", " ", text) + "\n")
    assert sum(found["timeline"]["calls"]) == found["trace"]["calls"]


def test_sweep_is_golden() -> None:
    is_golden("sweep.txt", report.render_text(swept()))


@by_kind
def test_page_is_golden(kind: str) -> None:
    is_golden(f"{kind}.outline.txt", "\n".join(outline(report.render_html(replayed(kind)))) + "\n")


# -- text


@pytest.mark.parametrize("kind", [*traces.KINDS, "sweep"])
def test_eighty_columns(kind: str) -> None:
    text = report.render_text(swept() if kind == "sweep" else replayed(kind))
    wide = [line for line in text.splitlines() if len(line) > 80]
    assert not wide
    assert "one past" in text


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_colours_change_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    result = replayed("flapping")
    rich, plain = Terminal(), Terminal()
    report.show(result, rich)
    report.show(result, plain, plain=True)
    assert "\x1b[" in rich.getvalue()
    assert "\x1b[" not in plain.getvalue()
    bare = re.sub(r"\x1b\[[\d;]*m", "", rich.getvalue())
    heads = re.compile(r"^(=+|-+)\n", re.MULTILINE)
    lines = [line.rstrip() for line in bare.splitlines()]
    assert lines == heads.sub("", plain.getvalue()).splitlines()


def test_a_terminal_of_ascii() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report.show(replayed("flapping"), out)
    out.flush()
    shown = out.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "-- -- -- --" in shown
    assert "?" not in shown


# -- the page


class Page(HTMLParser):
    """Elements with their nesting; fails at one that isn't closed by its own end."""

    VOID = frozenset({"meta", "br", "line"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self.open[-1] if self.open else "", data.strip()))


def outline(text: str) -> Iterator[str]:
    """Headings, the head and first cells of tables, and how many parts each picture has."""
    page = Page(text)
    for tag, words in page.words:
        if tag in ("h1", "h2", "h3", "summary", "th"):
            yield f"{tag} {words}"
    counts: dict[str, int] = {}
    for tag, attributes in page.elements:
        kind = attributes.get("class")
        if tag in ("svg", "table") or (tag in ("rect", "path") and kind not in ("failed", "late")):
            name = f"{tag} {kind}" if kind else tag
            counts[name] = counts.get(name, 0) + 1
    yield from (f"{count} × {name}" for name, count in sorted(counts.items()))


@pytest.mark.parametrize("kind", ["crash", "sweep"])
def test_a_page_of_its_own(kind: str) -> None:
    text = report.render_html(swept() if kind == "sweep" else replayed(kind))
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "form", "a"}
    assert not re.search(r"https?:|url\(|@import|\bon\w+=|src=|href=", text)
    assert {"table", "svg", "title"} <= tags
    # Each part of a picture says in words what it is; the timeline's base lines are no parts.
    parts = re.findall(r"<(rect|path|svg)\b[^>]*[^/]>(<title>)?", text)
    assert parts
    assert all(said for _, said in parts)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


HOSTILE = ["<script>alert(1)</script>", '"><img src=x>', "=1+1", "\x1b[31m", "\u202egnp", "&amp;"]


def test_hostile_keys_are_text() -> None:
    rows = [
        Call(1e9 + at, 0.1, at % 3 == 0, HOSTILE[at % len(HOSTILE)], None, HOSTILE[0])
        for at in range(1200)
    ]
    trace = Trace.from_rows(rows, rejected={"<b>odd</b>": 3})
    result = replay(trace, ["FailureStreak(2)"])
    result = replace(
        result, policies=tuple(replace(each, policy=HOSTILE[0]) for each in result.policies)
    )
    page = Page(report.render_html(result))
    assert not {tag for tag, _ in page.elements} & {"script", "img", "b>"}
    text = report.render_text(result)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>" in text
    assert all(len(line) <= 80 for line in text.splitlines())


# -- odd results


def test_nothing_to_show() -> None:
    result = replay(Trace.from_rows([]), ["FailureStreak(2)"])
    assert "no usable call" in report.render_text(result)
    Page(report.render_html(result))


def test_a_trace_bad_throughout() -> None:
    rows = [Call(1e9 + at, 0.1, at % 2 == 0) for at in range(300)]
    text = " ".join(report.render_text(replay(Trace.from_rows(rows))).split())
    assert "no rule finds an outage where the median minute has 50 % bad calls" in text


def test_many_policies_and_circuits() -> None:
    trace, outages = traces.crash(seed=1)
    policies = [f"FailureStreak({count})" for count in range(1, 32)]
    result = replay(trace, policies, outages=outages, workers=4)
    text = report.render_text(result)
    assert "of any of its circuits" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "circuit 4 of 4" in report.render_html(result)


def test_rows_left_out() -> None:
    rows = [Call(1e9 + at, 0.1, False) for at in range(10)]
    trace = Trace.from_rows(rows, rejected={"the line is no JSON": 1200})
    trace.skipped["the span isn't of kind CLIENT"] = 7
    text = report.render_text(replay(trace))
    assert "1,200 rows can't be used: the line is no JSON." in text
    assert "7 records left out as no calls: the span isn't of kind CLIENT." in text


def test_unknown_ends_are_bracketed() -> None:
    sample = traces.crash(seed=1).trace
    rows = [
        call._replace(refused=place % 4 == 0) if call.failed else call
        for place, call in enumerate(sample)
    ]
    text = " ".join(report.render_text(replay(Trace.from_rows(rows), ["FailureStreak(5)"])).split())
    assert "were refused when this was recorded" in text
    assert "Had all succeeded:" in text


def test_a_grid_of_one_axis() -> None:
    trace, outages = traces.crash(seed=1)
    result = sweep(trace, "FailureRate=0.2,0.4,0.6", outages=outages)
    text = report.render_text(result)
    assert "Seconds to open (median)" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    Page(report.render_html(result))


def test_a_grid_of_three_axes() -> None:
    trace, outages = traces.crash(seed=1)
    grids = ["FailureRate=0.2,0.6", "MinRequests=5,50", "Cooldown=10,60"]
    result = sweep(trace, grids, outages=outages)
    page = report.render_html(result)
    assert "False openings (Cooldown = 10)" in page
    Page(page)
    assert all(len(line) <= 80 for line in report.render_text(result).splitlines())
