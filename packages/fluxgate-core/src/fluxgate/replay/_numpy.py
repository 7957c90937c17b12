"""Numpy, where the extra `fluxgate-core[replay]` is installed: `np` is None without it."""

from __future__ import annotations

from typing import Any

np: Any
try:
    import numpy

    np = numpy
except ImportError:  # slower, the same answers
    np = None
