"""The console's pages and JSON as tests use them, whatever serves them."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["fields_of", "form", "links_of", "named"]


def fields_of(page: str) -> dict[str, str]:
    """The hidden fields of the form on a page."""
    found = re.findall(r'<input type=hidden name="([^"]*)" value="([^"]*)">', page)
    return {html.unescape(name): html.unescape(value) for name, value in found}


def form(page: str, note: str = "a drill", **more: str) -> dict[str, str]:
    """A form as somebody fills it in."""
    return {**fields_of(page), "note": note, "seconds": "900", **more}


def links_of(page: str) -> set[str]:
    """Wherever a page leads: links, forms, styles, scripts; not to a place in itself."""
    found = re.findall(r"""(?:href|src|action)=(?:"([^"]*)"|([^\s>"]+))""", page)
    links = {html.unescape(quoted or bare) for quoted, bare in found}
    return {link for link in links if not link.startswith("#")}


def named(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The circuit of that name in what `api/v1/state` says."""
    (found,) = [each for each in state["circuits"] if each["name"] == name]
    return dict(found)
