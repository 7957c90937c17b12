"""The documentation's site: its sources are whole, and `docs` looks at what it built, too."""

from __future__ import annotations

import ast
import importlib.util
import re
import zlib
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def load(name: str) -> ModuleType:
    """A module of `docs/_site` that needs no Sphinx."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", DOCS / "_site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


checks = load("checks")


def constant(path: Path, name: str) -> object:
    """The value of a constant in a file that needs Sphinx to be imported."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                return ast.literal_eval(value)
            case _:
                pass
    raise AssertionError(name)


def test_reference_has_every_module() -> None:
    shown = [
        name
        for page in (DOCS / "reference").glob("*.rst")
        for name in re.findall(r"^\.\. public:: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(shown) == len(set(shown))
    assert set(shown) == set(checks.exported(ROOT))


def test_pages_of_files_exist() -> None:
    pages = {
        page.relative_to(ROOT).as_posix(): re.findall(r"<!-- the file (\S+) -->", text)
        for page in DOCS.rglob("*.md")
        if (text := page.read_text(encoding="utf-8"))
    }
    led_to = constant_of_repository()
    assert [there for there in led_to.values() if not (ROOT / there).is_file()] == []
    shown = {source: page for page, sources in pages.items() for source in sources}
    assert len(shown) > 3
    assert {source: led_to.get(source) for source in shown} == shown


def test_pages_say_whom_they_are_for() -> None:
    firsts = {
        page.relative_to(DOCS).as_posix(): text.split("\n\n")[1]
        for page in DOCS.rglob("*.md")
        if not (text := page.read_text(encoding="utf-8")).startswith("<!-- the file ")
    }
    del firsts["examples.ko.md"]  # its text came as it is
    assert len(firsts) > 40
    assert {page: first for page, first in firsts.items() if not first.startswith("For ")} == {}


def constant_of_repository() -> dict[str, str]:
    found = constant(DOCS / "_site" / "repository.py", "PAGES")
    assert isinstance(found, dict)
    return found


def test_what_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("@import 'https://a/x.css'; b {background: url(//c/d.png)}")
    (tmp_path / "page.html").write_text(
        "<a href='https://e/'>no</a><script defer src=\"https://f/g.js\"></script>"
        '<link rel="stylesheet" href="https://h/i.css"><link rel=canonical href=https://j/>'
        "<img alt=x src='//k/l.png'><script>import('https://m/n.js')</script>"
    )
    assert checks.foreign(tmp_path) == [
        "page.html: https://f/g.js",
        "page.html: https://h/i.css",
        "page.html: //k/l.png",
        "style.css: https://a/x.css",
        "style.css: //c/d.png",
    ]
    (tmp_path / "page.html").write_text("<script src=_static/own.js></script><img src=data:x>")
    (tmp_path / "style.css").write_text("b {background: url(own.png)}")
    assert checks.foreign(tmp_path) == []


def test_links_of_the_site_are_followed(tmp_path: Path) -> None:
    (tmp_path / "ko").mkdir()
    (tmp_path / "a b.html").write_text(
        "<h1 id='한국어'>x</h1><a href='#한국어'>y</a><a href=//e/>z</a>"
    )
    (tmp_path / "ko" / "page.html").write_text(
        "<a href='../a%20b.html#%ED%95%9C%EA%B5%AD%EC%96%B4'>yes</a>"
        "<a href='../a%20b.html#no'>no</a>"
        "<img src='none.png'><a href='https://e/none'>not asked for</a><a href='..'>a folder</a>"
    )
    links = ["..", "../a%20b.html#no", "none.png"]
    assert checks.dead(tmp_path) == [f"ko/page.html: {link}" for link in links]
    (tmp_path / "ko" / "page.html").write_text("<a href='page.html'>here</a>")
    assert checks.dead(tmp_path) == []


def test_what_the_reference_lacks(tmp_path: Path) -> None:
    names = (
        "fluxgate.State py:class 1 core.html#$ -\nfluxgate.State.OPEN py:attribute 1 c.html#$ -\n"
    )
    packed = zlib.compress(names.encode())
    (tmp_path / "objects.inv").write_bytes(b"# Sphinx\n# Project\n# Version\n# zlib\n" + packed)
    exported = {"fluxgate": ["Signal", "State"], "fluxgate.state": ["State"]}
    assert checks.undocumented(tmp_path, exported) == ["fluxgate.Signal"]
