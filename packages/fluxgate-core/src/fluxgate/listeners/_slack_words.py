"""Texts of Slack messages, in Slack's markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluxgate._naming import printable
from fluxgate.signals import Signal
from fluxgate.state import State

MOST: Final = 1500
"""Characters of an explanation that are shown; Slack cuts messages much later."""

MOST_LISTED: Final = 10
"""Circuits of a message about several whose reasons are shown; of the others, the names."""
MOST_OF_ONE: Final = 120
"""Characters of a name or a reason, where there are several."""

_MEANS: Final = {
    State.OPEN: ("open: calls are refused",) * 2,
    State.FORCED_OPEN: (
        "forced open: calls are refused until it is reset",
        "forced open: calls are refused until they are reset",
    ),
    State.HALF_OPEN: (
        "half-open: a few calls probe whether it is back",
        "half-open: a few calls probe whether they are back",
    ),
    State.CLOSED: ("closed: calls pass again",) * 2,
    State.METRICS_ONLY: ("metrics-only: calls pass, whatever happens",) * 2,
    State.DISABLED: ("disabled: calls pass, and nothing is counted",) * 2,
}
"""Texts for each state: for one circuit, and for several."""
_SIGNS: Final = {
    State.OPEN: ":red_circle:",
    State.FORCED_OPEN: ":red_circle:",
    State.HALF_OPEN: ":large_yellow_circle:",
    State.CLOSED: ":large_green_circle:",
    State.METRICS_ONLY: ":white_circle:",
    State.DISABLED: ":white_circle:",
}


def message(
    signals: Sequence[Signal],
    *,
    source: str,
    lasted: float | None = None,
    probes_in: float | None = None,
    again: bool = False,
    notes: tuple[str, ...] = (),
) -> str:
    """The text about a transition, or about several of one new state.

    Args:
        signals: the transitions, one or more, each of another circuit.
        source: the service and host of the circuits.
        lasted: seconds since the outage, or the first of several, began.
        probes_in: seconds until an open circuit probes.
        again: whether the circuit had recovered a short while ago.
        notes: sentences to add.
    """
    one, state = len(signals) == 1, signals[0].new_state
    means = _MEANS[state][0 if one else 1]
    verb = f"{'is' if one else 'are'} {means}{' (again)' * again}"
    lines = [f"{_SIGNS[state]} {_who(signals)} {verb}", _why(signals)]
    facts = [escaped(source)]
    if lasted is not None:
        facts.append(
            f"{duration(lasted)} after {'it first' if one else 'the first of them'} opened"
        )
    if probes_in is not None:
        facts.append(f"probes in {duration(probes_in)}")
    lines.append(" · ".join(facts))
    lines.extend(f"_{note}_" for note in notes)
    return "\n".join(lines)


def resolved(openings: Sequence[Signal], *, source: str, lasted: float) -> str:
    """The text that replaces a thread's first message once all its outages are over."""
    verb = "was open for" if len(openings) == 1 else "were open for up to"
    head = f":large_green_circle: resolved: {_who(openings)} {verb} {duration(lasted)}"
    return f"{head}\n{_why(openings)}\n{escaped(source)}"


def _who(signals: Sequence[Signal]) -> str:
    return code(signals[0].circuit_name) if len(signals) == 1 else f"{len(signals)} circuits"


def _why(signals: Sequence[Signal]) -> str:
    """The reason; of several circuits, a line for each, and the names of those beyond a bound."""
    if len(signals) == 1:
        return f">{code(signals[0].reason.details)}"
    lines = [
        f">{code(signal.circuit_name, MOST_OF_ONE)} {code(str(signal.reason), MOST_OF_ONE)}"
        for signal in signals[:MOST_LISTED]
    ]
    if others := [signal.circuit_name for signal in signals[MOST_LISTED:]]:
        lines.append(f">and {len(others)} more: {code(', '.join(others))}")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """The text without what Slack takes for links, mentions and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str, most: int = MOST) -> str:
    """The text in one line, shown as code; cut after `most` characters."""
    line = printable(" ".join(text.replace("`", "'").split()), None)
    return f"`{escaped(line if len(line) <= most else f'{line[:most]}…')}`"


def duration(seconds: float) -> str:
    """Seconds in words, such as "2 h 5 min"."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
