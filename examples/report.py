"""The figures: all of them measured, in this run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from fluxgate import State
from traffic import SCRIPT, Outcome, Stage, Users

Row = tuple[str, str, str]
"""A label, the figure with the breaker, the figure without; a headline has no figures."""


@dataclass(frozen=True)
class Figures:
    """One group's figures. Seconds, and counts of calls; `reached` is what the upstream counted."""

    calls: int
    answered: int
    failed: int
    refused: int
    reached: int
    outage_calls: int
    outage_reached: int
    outage_refused: int
    outage_waited_p50: float | None
    outage_waited_p95: float | None
    outage_waited_total: float
    most_waiting: int
    refused_in_recovery: int
    first_answer_after: float | None
    closed_after: float | None


def percentile(values: list[float], share: float) -> float | None:
    """Return the smallest value that `share` of the values don't exceed."""
    return sorted(values)[max(ceil(share * len(values)) - 1, 0)] if values else None


def figures(stage: Stage, users: Users, arrived: Mapping[str, int]) -> Figures:
    """Add up what a group of users met; `arrived` is the upstream's count of calls by path."""
    outage = [call for call in users.calls if call.phase.outage]
    recovery = [call for call in users.calls if call.phase is SCRIPT[-1]]
    waited = [call.waited for call in outage]
    back = stage.phase_began[SCRIPT[-1].name]
    answers = [call.ended for call in users.calls if call.outcome is Outcome.ANSWERED]
    return Figures(
        calls=len(users.calls),
        answered=users.count(Outcome.ANSWERED),
        failed=users.count(Outcome.FAILED),
        refused=users.count(Outcome.REFUSED),
        reached=sum(arrived.get(f"/{users.name}/{phase.name}", 0) for phase in SCRIPT),
        outage_calls=len(outage),
        outage_reached=sum(
            arrived.get(f"/{users.name}/{phase.name}", 0) for phase in SCRIPT if phase.outage
        ),
        outage_refused=sum(call.outcome is Outcome.REFUSED for call in outage),
        outage_waited_p50=percentile(waited, 0.5),
        outage_waited_p95=percentile(waited, 0.95),
        outage_waited_total=sum(waited),
        most_waiting=users.most_waiting,
        refused_in_recovery=sum(call.outcome is Outcome.REFUSED for call in recovery),
        first_answer_after=min((at - back for at in answers if at >= back), default=None),
        closed_after=closed_after(stage, back) if users is stage.protected else None,
    )


def closed_after(stage: Stage, back: float) -> float | None:
    """Seconds from the upstream's recovery until the circuit closed for good; None: it did not."""
    if stage.changes.state_at(float("inf")) is not State.CLOSED:
        return None
    return max((at - back for at, _ in stage.changes if at >= back), default=0.0)


def rows(stage: Stage, protected: Figures, plain: Figures) -> list[Row]:
    """Lay the figures of both groups side by side."""
    outage_seconds = sum(phase.seconds for phase in SCRIPT if phase.outage) * stage.pace

    def both(label: str, name: str, show: Any = str) -> Row:
        return f"  {label}", show(getattr(protected, name)), show(getattr(plain, name))

    return [
        ("All of the run", "", ""),
        both("calls that users made", "calls"),
        both("  answered", "answered"),
        both("  failed", "failed"),
        both("  refused at once by the breaker", "refused"),
        both("  most of them waiting at one time", "most_waiting"),
        (f"The outage ({outage_seconds:.3g} s)", "", ""),
        both("calls that users made", "outage_calls"),
        both("  reached the failing upstream", "outage_reached"),
        both("  upstream calls saved", "outage_refused"),
        both("a user waited, median", "outage_waited_p50", seconds),
        both("a user waited, 95th percentile", "outage_waited_p95", seconds),
        both("all users together waited", "outage_waited_total", seconds),
        ("After the upstream was back", "", ""),
        both("first good answer after", "first_answer_after", seconds),
        ("  circuit closed after", seconds(protected.closed_after), "-"),
        both("calls refused though it was back", "refused_in_recovery"),
    ]


def seconds(value: float | None) -> str:
    if value is None:
        return "never"
    if value < 0.1:
        return f"{value * 1000:.{1 if value >= 0.001 else 2}f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"


def verdict(protected: Figures) -> str:
    """Say in a line what the breaker did."""
    if not protected.outage_calls:
        return "Nobody called during the outage: this run shows nothing."
    share = protected.outage_refused / protected.outage_calls
    return (
        f"The breaker kept {protected.outage_refused} of {protected.outage_calls} calls "
        f"({share:.0%}) away from the failing upstream."
    )


def as_json(stage: Stage, protected: Figures, plain: Figures) -> str:
    """The figures and the circuit's transitions, for programs."""
    changes = [
        {
            "at": round(at - stage.began, 3),
            "from": signal.old_state,
            "to": signal.new_state,
            "reason": str(signal.reason),
        }
        for at, signal in stage.changes
    ]
    return json.dumps(
        {"with": vars(protected), "without": vars(plain), "changes": changes}, indent=2
    )
