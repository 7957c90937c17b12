"""Readers: recorded calls of many formats, as a `Trace`."""

from __future__ import annotations

from fluxgate.replay.readers._read import Format, read
from fluxgate.replay.readers._row import TraceError

__all__ = ["Format", "TraceError", "read"]
