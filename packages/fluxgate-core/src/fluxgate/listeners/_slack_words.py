"""What Slack is told, in Slack's markup."""

from __future__ import annotations

from typing import Final

from fluxgate.signals import Signal
from fluxgate.state import State

MOST: Final = 1500
"""Characters of an explanation that are shown; Slack cuts messages much later."""

_MEANS: Final = {
    State.OPEN: "is open: calls are refused",
    State.FORCED_OPEN: "is forced open: calls are refused until it is reset",
    State.HALF_OPEN: "is half-open: a few calls probe whether it is back",
    State.CLOSED: "is closed: calls pass again",
    State.METRICS_ONLY: "is metrics-only: calls pass, whatever happens",
    State.DISABLED: "is disabled: calls pass, and nothing is counted",
}
_SIGNS: Final = {
    State.OPEN: ":red_circle:",
    State.FORCED_OPEN: ":red_circle:",
    State.HALF_OPEN: ":large_yellow_circle:",
    State.CLOSED: ":large_green_circle:",
    State.METRICS_ONLY: ":white_circle:",
    State.DISABLED: ":white_circle:",
}


def message(
    signal: Signal,
    *,
    source: str,
    lasted: float | None = None,
    probes_in: float | None = None,
    again: bool = False,
    notes: tuple[str, ...] = (),
) -> str:
    """The text about a transition.

    Args:
        signal: the transition.
        source: the service and host that it happened in.
        lasted: seconds since the outage began.
        probes_in: seconds until an open circuit probes.
        again: whether the circuit had recovered a short while ago.
        notes: sentences to add.
    """
    what = _MEANS[signal.new_state]
    lines = [f"{_SIGNS[signal.new_state]} {code(signal.circuit_name)} {what}{' (again)' * again}"]
    lines.append(f">{code(signal.reason.details)}")
    facts = [escaped(source)]
    if lasted is not None:
        facts.append(f"{duration(lasted)} after it first opened")
    if probes_in is not None:
        facts.append(f"probes in {duration(probes_in)}")
    lines.append(" · ".join(facts))
    lines.extend(f"_{note}_" for note in notes)
    return "\n".join(lines)


def resolved(opening: Signal, *, source: str, lasted: float) -> str:
    """The text that takes the place of the first message once the outage is over."""
    why = f">{code(opening.reason.details)}"
    head = f":large_green_circle: resolved: {code(opening.circuit_name)} was open"
    return f"{head} for {duration(lasted)}\n{why}\n{escaped(source)}"


def escaped(text: str) -> str:
    """The text without what Slack takes for links, mentions and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """The text in one line, shown as it is; cut where it is very long."""
    line = " ".join(text.replace("`", "'").split())
    return f"`{escaped(line if len(line) <= MOST else f'{line[:MOST]}…')}`"


def duration(seconds: float) -> str:
    """Seconds, as people say them."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
