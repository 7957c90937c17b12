"""The reference's pages that are written by hand: settings, errors, and every public name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from fluxgate import CircuitBreaker, Policy
from fluxgate.config import KEYS

from .test_site import checks

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
EXPORTED: dict[str, list[str]] = checks.exported(ROOT)


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the page's table with that heading, by what stands first."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    lines = text[text.index(heading) :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in cells}


@pytest.mark.parametrize(("module", "names"), EXPORTED.items(), ids=lambda value: str(value)[:40])
def test_each_name_is_on_a_page(module: str, names: list[str]) -> None:
    pages = [ROOT / "README.md", *ROOT.glob("packages/*/README.md"), *ROOT.glob("docs/**/*.md")]
    words = set(re.findall(r"\w+", " ".join(page.read_text(encoding="utf-8") for page in pages)))
    assert [f"{module}.{name}" for name in names if name not in words] == []


def test_each_setting_has_its_default() -> None:
    known = rows("settings.md", "| setting | default | unit |")
    assert sorted(known) == sorted(KEYS)
    policy, front = Policy(), inspect.signature(CircuitBreaker).parameters
    for key in KEYS:
        if key in policy.__match_args__:
            assert known[key][0] == repr(getattr(policy, key)), key
    assert known["listeners"][0] == "[]"
    assert list(front["listeners"].default) == []
    assert known["initial_state"][0] == front["initial_state"].default
    assert known["clock"][0] == f"time.{front['clock'].default.__name__}"


def test_each_error_is_there() -> None:
    known = rows("errors.md", "| error | is also a |")
    errors = {
        name
        for names in EXPORTED.values()
        for name in names
        if name.endswith("Error") or name == "StoreBusy"
    }
    assert {name.rpartition(".")[2] for name in known} | {"FluxgateError"} == errors
