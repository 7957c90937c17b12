"""The structure is as CONTRIBUTING says: where things are, and who may import whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(ROOT.glob("packages/*/src"))
CORE = ROOT / "packages" / "fluxgate-core" / "src" / "fluxgate"


def name_of(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path, source): path for source in SOURCES for path in source.rglob("*.py")}


def imported_at_once(tree: ast.Module) -> Iterator[ast.ImportFrom | ast.Import]:
    """The imports that run with a module: not those in functions, nor for type checkers alone."""
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        statement = pending.pop()
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield statement
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            pending += statement.orelse
        elif isinstance(statement, (ast.If, ast.Try, ast.With)):
            pending += [each for each in ast.walk(statement) if isinstance(each, ast.stmt)][1:]


def ours_in(path: Path) -> set[str]:
    """The modules of ours that a module imports when it is imported."""
    found: set[str] = set()
    for statement in imported_at_once(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif statement.module is not None:
            inner = {f"{statement.module}.{alias.name}" for alias in statement.names}
            modules = inner & MODULES.keys()
            # A package itself only where a name of its own is wanted.
            found |= modules if len(modules) == len(inner) else {*modules, statement.module}
    return found & MODULES.keys()


def test_imports_have_no_circle() -> None:
    graph = {name: ours_in(path) - {name} for name, path in MODULES.items()}
    assert graph["fluxgate._engine.circuit"] >= {"fluxgate._engine.machine"}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these modules import each other: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_integrations_use_public_names(name: str) -> None:
    package = name.partition(".")[0]
    private = {
        each
        for each in ours_in(MODULES[name])
        if each.partition(".")[0] != package and re.search(r"\._(?!_)", each)
    }
    assert not private


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a module: of itself, its classes and functions, and its attributes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text.strip()
            case _:
                pass


def test_docstrings_begin_with_a_noun() -> None:
    found = {name: list(docstrings(path)) for name, path in MODULES.items()}
    assert sum(map(len, found.values())) > 1000
    riddles = {
        f"{name}: {text.splitlines()[0]}"
        for name, texts in found.items()
        for text in texts
        if re.match(r"What('s)?\s", text)
    }
    assert not riddles


def test_the_design_names_what_there_is() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = page[page.index("## 1. ") : page.index("### States")]
    named = re.findall(r"`([\w/]+\.py)`", table)
    assert len(named) > 10
    assert [name for name in named if not (CORE / name).is_file()] == []
    tree = page[page.index("```text\nfluxgate/") : page.index("fluxgate_httpx/")]
    words = set(re.findall(r"(?<![\w.])_?[a-z]\w+", tree)) | {"_engine", "_settings"}
    missing = {
        name.removeprefix("fluxgate.")
        for name in MODULES
        if re.fullmatch(r"fluxgate\.(_engine\.|_settings\.)?\w+", name)
        and name.rpartition(".")[2] not in {*words, "pytest_plugin", "__main__"}
    }
    assert not missing


def test_the_map_names_what_there_is() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    start = page.index("## Where everything is")
    section = page[start : page.index("\n## ", start)]
    rows = re.findall(r"^\| [^|]+ \| (.+) \|$", section, re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        folders = [CORE, ROOT, CORE.parent.parent, *SOURCES]
        for named in re.findall(r"`([\w./-]+(?:\.py|\.md|\.toml|/))`", row):
            assert any((folder / named).exists() for folder in folders), named
            if (ROOT / named).is_dir():
                folders.append(ROOT / named)  # what follows in this row lies there
