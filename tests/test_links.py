"""Every link between the pages leads somewhere; what PyPI shows doesn't link into our folders."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "packages/*/*.md",
        "benchmarks/*.md",
        "examples/**/*.md",
    )
    for page in ROOT.glob(pattern)
)
SHOWN_BY_PYPI = sorted(ROOT.glob("packages/*/README.md"))

CODE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+?) *#*$", re.MULTILINE)
ELSEWHERE = ("http://", "https://", "mailto:")

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def links(text: str) -> list[str]:
    """The targets of inline links, pictures and reference definitions, outside of code."""
    prose = CODE.sub(
        lambda code: "`" if code[0].startswith("`") and "\n" not in code[0] else "", text
    )
    inline = re.findall(r"\]\(\s*<?([^)\s>]+)", prose)
    return inline + re.findall(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)", prose, re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The names of a page's headings, as GitHub and MyST make them."""
    without_code = re.sub(r"^( *)(```+|~~~+).*?^\1\2 *$", "", text, flags=re.MULTILINE | re.DOTALL)
    found: Counter[str] = Counter()
    names = set()
    for heading in HEADING.findall(without_code):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


def dead(page: Path, target: str) -> bool:
    """Whether a link of this page leads nowhere; what is on the web is not asked for."""
    if target.startswith(ELSEWHERE):
        return False
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    if path and not (there.exists() and there.is_relative_to(ROOT)):
        return True
    return bool(anchor) and anchor not in anchors(there.read_text(encoding="utf-8"))


@by_page
def test_local_links_lead_somewhere(page: Path) -> None:
    targets = links(page.read_text(encoding="utf-8"))
    assert [target for target in targets if dead(page, target)] == []


@pytest.mark.parametrize("page", SHOWN_BY_PYPI, ids=lambda page: page.parent.name)
def test_what_pypi_shows_links_absolutely(page: Path) -> None:
    targets = links(page.read_text(encoding="utf-8"))
    assert [each for each in targets if not each.startswith((*ELSEWHERE, "#"))] == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `x`: two\n[a](#one-x-two) ![b](none.png) `[c](no)`\n\n[d]: #three\n")
    assert links(page.read_text()) == ["#one-x-two", "none.png", "#three"]
    assert [dead(page, target) for target in links(page.read_text())] == [False, True, True]
