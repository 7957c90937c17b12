"""Checks of the built site."""

from __future__ import annotations

import re
from pathlib import Path

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
