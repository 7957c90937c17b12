"""Replay: thresholds tried on recorded calls.

A trace of calls is put through the real circuit, with a manual clock and seeded dice, once for each
policy; the result says when it would have opened, and what that would have cost and spared.
"""

from __future__ import annotations

from fluxgate.replay._recorder import Recorder
from fluxgate.replay._replay import MOST_UNKNOWN, MOST_UNUSABLE, replay
from fluxgate.replay._result import (
    Advice,
    Axis,
    Bracket,
    Cell,
    Kind,
    Opening,
    Outage,
    PolicyResult,
    Recommendation,
    ReplayResult,
    Role,
    Scores,
    Span,
    Spread,
    Step,
    SweepResult,
    Timeline,
    TraceSummary,
)
from fluxgate.replay._sweep import sweep
from fluxgate.replay._trace import Call, Labels, Trace

__all__ = [
    "MOST_UNKNOWN",
    "MOST_UNUSABLE",
    "Advice",
    "Axis",
    "Bracket",
    "Call",
    "Cell",
    "Kind",
    "Labels",
    "Opening",
    "Outage",
    "PolicyResult",
    "Recommendation",
    "Recorder",
    "ReplayResult",
    "Role",
    "Scores",
    "Span",
    "Spread",
    "Step",
    "SweepResult",
    "Timeline",
    "Trace",
    "TraceSummary",
    "replay",
    "sweep",
]
