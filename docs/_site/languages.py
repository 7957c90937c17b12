"""The languages of the site: links between them, and how much of each page is translated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from translation import has_words

# Sections and pages that are translated in full; what is elsewhere stays English.
TRANSLATED = (
    *("index", "start", "learn", "how-to", "moving", "operate"),
    *("console", "fleet", "guide", "listeners"),
    *("reference/index", "why/index"),  # the titles in the navigation
)
# They show files of the repository, which are English.
FILES = ("how-to/examples",)
# Pages of those sections that are new, and not translated yet; the list is to be empty.
AWAITED = ()
KOREAN = "examples.ko"  # was written in Korean


def is_translated(page: str) -> bool:
    """Whether a page has a Korean catalog."""
    return bool({page, page.partition("/")[0]} & set(TRANSLATED)) and page not in {*FILES, *AWAITED}


def count(doctree: nodes.document) -> tuple[int, int]:
    """Paragraphs that are translated, and all, of those that have words to translate."""
    done = [
        bool(node["translated"])
        for node in doctree.findall(nodes.Element)
        if "translated" in node and (node["translated"] or has_words(node.rawsource))
    ]
    return sum(done), len(done)


def on_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Give the templates the page's address in the other language, and whether it is English."""
    korean = app.config.language == "ko"
    context["other_language"] = (
        context["content_root"] + ("../" if korean else "ko/") + (f"{pagename}.html")
    )
    if korean and doctree is not None:
        translated, total = count(doctree)
        context["english"] = not translated and pagename != KOREAN
        if is_translated(pagename):
            progress[pagename] = (translated, total)


progress: dict[str, tuple[int, int]] = {}  # paragraphs translated, and all, by page


def on_finished(app: Sphinx, exception: Exception | None) -> None:
    """Write down how many paragraphs of each page are translated."""
    if exception is None and app.config.language == "ko":
        counts = json.dumps(progress, indent=2, sort_keys=True)
        Path(app.outdir, "translated.json").write_text(counts, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", on_page)
    app.connect("build-finished", on_finished)
    return {"parallel_read_safe": True, "version": "1"}
