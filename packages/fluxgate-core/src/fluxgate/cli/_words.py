"""Traffic and rough durations in words: what `explain` needs beside `fluxgate._words`."""

from __future__ import annotations

from fluxgate._words import seconds


def traffic(rate: float) -> str:
    """Calls per second, or per minute where they are few: `6 calls/min`."""
    if rate < 1:
        return f"{rate * 60:.3g} call{'s' * (round(rate * 60, 6) != 1)}/min"
    return f"{rate:.4g} call{'s' * (rate != 1)}/s"


def about(value: float) -> str:
    """A duration, roughly: `about 17 s`, `about 39 min`."""
    if value == 0:
        return "at once"
    near = float(f"{value:.2g}") if value < 120 else round(value / 60) * 60
    return f"about {seconds(near)}"
