"""Pages and links of the repository in the site.

The same Markdown is read in the repository and on the site. A page of the site may consist of a
file elsewhere in the repository (`<!-- the file CHANGELOG.md -->`), and links to such a file, or to
a folder that a page is about, lead to that page. Links to other files become downloads, as MyST
makes them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]

# Files and folders outside docs/, and the pages that are about them.
PAGES = {
    "CHANGELOG.md": "docs/why/changelog.md",
    "CONTRIBUTING.md": "docs/why/contributing.md",
    "SECURITY.md": "docs/why/security.md",
    "benchmarks": "docs/why/benchmarks.md",
    "benchmarks/README.md": "docs/why/benchmarks.md",
    "examples": "docs/how-to/examples.md",
    "examples/README.md": "docs/how-to/examples.md",
    "examples/django_shop": "docs/how-to/examples.md",
    "packages/fluxgate-core": "docs/guide.md",
    "packages/fluxgate-core/README.md": "docs/reference/index.md",
    "packages/fluxgate-django": "docs/how-to/django.md",
    "packages/fluxgate-fastapi": "docs/how-to/fastapi.md",
    "packages/fluxgate-httpx": "docs/how-to/httpx.md",
}

WHOLE_FILE = re.compile(r"<!-- the file (\S+) -->\n?")
CODE_OR_LINK = re.compile(
    r"^( *)(?P<fence>```+|~~~+).*?^\1(?P=fence) *$|`[^`\n]+`|(?P<text>\]\()(?P<target>[^)\s]+)",
    re.MULTILINE | re.DOTALL,
)
HEADING_WITH_NAME = re.compile(r"^(#+ .*?) *\{#([\w-]+)\}$", re.MULTILINE)


def rebased(text: str, source: str, page: str) -> str:
    """The text of `source`, with links that are right on `page` (both are paths)."""

    def link(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or "://" in target or target.startswith(("#", "mailto:")):
            return found[0]
        path, hash_, anchor = target.partition("#")
        there = os.path.normpath(os.path.join(os.path.dirname(source), path))
        there = PAGES.get(there, there)
        if there == page and hash_:
            return f"{found['text']}#{anchor}"
        return found["text"] + os.path.relpath(there, os.path.dirname(page)) + hash_ + anchor

    return CODE_OR_LINK.sub(link, text)


def on_source_read(app: Sphinx, docname: str, content: list[str]) -> None:
    """Put whole files in, lead links to pages of the site, name headings as MyST does."""
    page = os.path.relpath(app.env.doc2path(docname), ROOT)
    if not page.endswith(".md"):
        return
    text = content[0]
    if whole := WHOLE_FILE.search(text):
        source = whole[1]
        app.env.note_dependency(str(ROOT / source))
        inner = rebased((ROOT / source).read_text(encoding="utf-8"), source, page)
        text = text.replace(whole[0], inner)
    else:
        text = rebased(text, page, page)
    content[0] = HEADING_WITH_NAME.sub(r"(\2)=\n\1", text)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", on_source_read)
    return {"parallel_read_safe": True, "version": "1"}
