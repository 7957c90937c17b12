"""Checks of the built site."""

from __future__ import annotations

import ast
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# A browser fetches these by itself; a link (`<a href>`) is followed by whoever clicks it.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|object)\b[^>]*?(?:src|srcset|data)=["']?"""
    r"""((?:https?:)?//[^"'>\s]+)"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|icon|preload|preconnect|dns-prefetch))[^>]*?"""
    r"""href=["']?((?:https?:)?//[^"'>\s]+)"""
)
FETCHED_BY_STYLE = re.compile(r"""(?:@import\s+["']?|url\(\s*["']?)((?:https?:)?//[^"')\s]+)""")


def foreign(site: Path) -> list[str]:
    """What the pages and styles of a site would load from elsewhere: file and address."""
    found = []
    for file in sorted(site.rglob("*")):
        if file.suffix not in (".html", ".css"):
            continue
        text = file.read_text(encoding="utf-8")
        addresses = [first or second for first, second in FETCHED.findall(text)]
        addresses += FETCHED_BY_STYLE.findall(text)
        found += [f"{file.relative_to(site)}: {address}" for address in addresses]
    return found


class _Page(HTMLParser):
    """The ids and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name == "id":
                self.ids.add(value)
            elif value and name in ("href", "src"):
                self.links.add(value)


def dead(site: Path) -> list[str]:
    """The links within a site that lead to no file, or to no place of a page: file and link.

    Sphinx looks at those of the sources; a translated page has links of its own.
    """
    site = site.resolve()
    pages = {file: _Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            known = pages[there].ids if there in pages else None
            missing = parts.fragment and known is not None and unquote(parts.fragment) not in known
            if not there.is_file() or missing:
                found.append(f"{file.relative_to(site)}: {link}")
    return found


def exported(root: Path) -> dict[str, list[str]]:
    """The `__all__` of each module of the packages without an underscore in its name."""
    found: dict[str, list[str]] = {}
    for source in sorted(root.glob("packages/*/src")):
        for path in sorted(source.rglob("*.py")):
            parts = path.relative_to(source).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if "._" in name:
                continue
            for statement in ast.parse(path.read_text(encoding="utf-8")).body:
                match statement:
                    case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.expr() as value):
                        found[name] = ast.literal_eval(value)
                    case ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value):
                        found[name] = ast.literal_eval(value)
                    case _:
                        pass
    return found


def undocumented(site: Path, names_by_module: dict[str, list[str]]) -> list[str]:
    """The public names that the built reference doesn't have.

    A name is documented once, at the shallowest module of its package that exports it.
    """
    *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    objects = [line.split() for line in zlib.decompress(packed).decode("utf-8").splitlines()]
    described = {
        (name.partition(".")[0], name.rpartition(".")[2])
        for name, kind, *_ in objects
        if kind.startswith("py:")
    }
    return [
        f"{module}.{name}"
        for module, names in names_by_module.items()
        for name in names
        if (module.partition(".")[0], name) not in described
    ]
