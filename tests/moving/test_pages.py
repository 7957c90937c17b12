"""The pages of `docs/moving/` have what each must have; their own halves run with all pages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {page.stem: page for page in sorted((ROOT / "docs" / "moving").glob("*.md"))}
PAGES.pop("index", None)
SHOWN = {"polly": "csharp", "resilience4j": "java"}
"""Those whose half is shown and not run, in their language."""

by_page = pytest.mark.parametrize("name", PAGES)


def pins() -> dict[str, str]:
    """The exact versions that the session `moving` installs."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines = groups["dependency-groups"]["moving"] + groups["dependency-groups"]["peer-fluxgate"]
    return dict(line.split("==") for line in lines if "==" in line)


def test_all_peers_have_a_page() -> None:
    assert set(PAGES) == {
        "aiobreaker",
        "circuitbreaker",
        "fluxgate",
        "polly",
        "purgatory",
        "pybreaker",
        "resilience4j",
        "tenacity",
    }


@by_page
def test_the_first_sentence_says_for_whom(name: str) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    assert text.split("\n\n")[1].startswith("For whoever ")


@by_page
def test_both_halves_are_there(name: str) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    fences = re.findall(r"^```(\w+)$", text, re.MULTILINE)
    peers = SHOWN.get(name, "py")
    assert peers in fences
    assert "python" in fences[fences.index(peers) :]
    if name in SHOWN:
        assert "is shown, not run" in " ".join(text.split())


@by_page
def test_names_and_behaviour_are_tables(name: str) -> None:
    sections = PAGES[name].read_text(encoding="utf-8").split("\n## ")
    names = next(each for each in sections if each.startswith("Name by name"))
    behaviour = next(each for each in sections if each.startswith(("Behaviour", "What differs")))
    assert names.count("\n|") > 8
    assert behaviour.count("\n|") > 6


@by_page
def test_versions_are_those_that_run(name: str) -> None:
    if name in SHOWN:
        return
    text = PAGES[name].read_text(encoding="utf-8")
    named = set(re.findall(rf"\b{name}`?(?: here)?(?: is about version)? (\d+\.\d+\.\d+)", text))
    named |= set(re.findall(r"about\s+version (\d+\.\d+\.\d+)", text))
    assert named == {pins()[name]}


def test_each_page_runs_in_the_session() -> None:
    text = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    session = text[text.index("def moving") :].split("@nox")[0]
    for name in PAGES.keys() - SHOWN.keys():
        assert f'"{name}"' in session
