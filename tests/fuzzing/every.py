"""Every target there is."""

from __future__ import annotations

from . import addresses, contents, foreign, pages, recorded, settings, stores
from .planted import FAULTY
from .targets import TARGETS

__all__ = ["FAULTY", "TARGETS"]

for each in (addresses, contents, foreign, pages, recorded, settings, stores):
    assert each, "importing it has made its targets"
