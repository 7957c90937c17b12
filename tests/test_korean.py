"""The Korean catalogs of the documentation are whole, and keep what a translation must keep.

Whether they are those of the pages as they stand is counted by the session `docs`, which has
Sphinx: a paragraph that has changed since is shown in English until its catalog is updated.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs" / "_site"
FOLDER = ROOT / "docs" / "locales" / "ko" / "LC_MESSAGES"
CATALOGS = sorted(FOLDER.rglob("*.po"))
HANGUL = re.compile("[\uac00-\ud7a3]")

by_catalog = pytest.mark.parametrize(
    "path", CATALOGS, ids=lambda path: path.relative_to(FOLDER).as_posix()
)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


translation = load("translation")


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale="ko")


def entries(path: Path) -> list[tuple[str, str]]:
    """A catalog's paragraphs: the original, and the Korean text or ""."""
    return [(str(each.id), str(each.string)) for each in read(path) if each.id]


def names_of(constant: str) -> tuple[str, ...]:
    """The names in a tuple of `languages.py`, which needs Sphinx to be imported."""
    tree = ast.parse((SITE / "languages.py").read_text(encoding="utf-8"))
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Tuple(elts=parts)) if (
                name == constant
            ):
                return tuple(
                    str(name)
                    for part in parts
                    for name in ast.literal_eval(
                        part.value if isinstance(part, ast.Starred) else ast.Tuple([part])
                    )
                )
            case _:
                pass
    raise AssertionError(f"languages.py has no {constant}")


def test_each_page_has_a_catalog() -> None:
    docs = ROOT / "docs"
    translated = set(names_of("TRANSLATED"))
    pages = {
        name
        for page in docs.rglob("*.md")
        if {name := page.relative_to(docs).as_posix()[:-3], name.partition("/")[0]} & translated
    } - {*names_of("FILES"), *names_of("AWAITED")}
    assert len(pages) > 15
    found = {each.relative_to(FOLDER).as_posix()[:-3] for each in CATALOGS}
    assert found == pages


@by_catalog
def test_nothing_is_fuzzy(path: Path) -> None:
    catalog = read(path)
    assert [each.id for each in catalog if each.id and each.fuzzy] == []
    assert dict(catalog.obsolete) == {}


@by_catalog
def test_every_paragraph_is_translated(path: Path) -> None:
    lacking = [text for text, korean in entries(path) if translation.has_words(text) and not korean]
    assert lacking == []


@by_catalog
def test_korean_is_korean(path: Path) -> None:
    lacking = [
        text
        for text, korean in entries(path)
        if translation.has_words(text) and not HANGUL.search(korean)
    ]
    assert lacking == []


@by_catalog
def test_code_links_and_figures_stay(path: Path) -> None:
    for text, korean in entries(path):
        if korean:
            assert translation.spans(korean) == translation.spans(text), text
            assert translation.targets(korean) == translation.targets(text), text
            assert translation.figures(korean) >= translation.figures(text), text


@by_catalog
def test_one_word_for_one_thing(path: Path) -> None:
    """Words that stood beside those of the glossary in CONTRIBUTING, or were word by word."""
    gone = re.compile("손으로|사람의 손|상태 검사|(?<!연)계기|장식[한하]|다시 오면|여닫힘|결코")
    assert [korean for _, korean in entries(path) if gone.search(korean)] == []


@by_catalog
def test_politeness_is_one(path: Path) -> None:
    """Sentences end in -니다 or -까, and instructions in -세요."""
    casual = re.compile(r"(?<![니])다\.(?=\s|$)|(?<!세)요\.(?=\s|$)|죠\.")
    assert [korean for _, korean in entries(path) if casual.search(korean)] == []


@by_catalog
def test_bold_closes_before_korean(path: Path) -> None:
    """CommonMark doesn't close bold after `code` or a full stop before a letter: it shows stars."""
    for _, korean in entries(path):
        parts = translation.CODE.sub("`", korean).split("**")
        assert len(parts) % 2 == 1, korean
        for bold, after in zip(parts[1::2], parts[2::2], strict=True):
            assert bold[-1].isalnum() or not after[:1].isalnum(), korean


@by_catalog
def test_no_text_begins_a_list(path: Path) -> None:
    """A heading such as `1. Record calls` would become a list, and be shown in English."""
    begins = re.compile(r"\d+[.)] |[-+*] |#")
    assert [korean for _, korean in entries(path) if begins.match(korean)] == []


def test_the_picture_is_that_of_today() -> None:
    """After a change of `states.svg`: `python3 noxfile.py -s docs -- --catalogs`."""
    docs = ROOT / "docs"
    assert translation.picture_in_korean(docs) == (docs / "states.ko.svg").read_text("utf-8")


def test_words_are_told_from_names() -> None:
    assert not translation.has_words("[`LogListener`](../listeners.md), Prometheus, 1.00")
    assert translation.has_words("as `LogListener` does")
    assert translation.spans("``a`b`` and `c`") == {"a`b": 1, "c": 1}
    assert translation.targets("[x](../a.md#b) ![y](c.svg)") == {"../a.md#b": 1, "c.svg": 1}
    assert translation.figures("10 s, `20`, [1,000](3.md)") == {"10", "1,000"}
