"""What each group of users met, counted and timed in this run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from traffic import SCRIPT, Call, Outcome, Stage, Users

from fluxgate import State


@dataclass(frozen=True)
class Figures:
    """One group's figures. Seconds, and counts of calls; `reached` is what the upstream counted.

    `answers` tells how many calls ended in which way: with a status, or with an exception.
    """

    calls: int
    answered: int
    failed: int
    refused: int
    reached: int
    answers: Counter[str]
    outage_calls: int
    outage_reached: int
    outage_refused: int
    outage_answers: Counter[str]
    outage_waited_p50: float | None
    outage_waited_p95: float | None
    outage_waited_total: float
    refusal_took_p50: float | None
    outage_refusal_took_p50: float | None
    most_waiting: int
    refused_in_recovery: int
    first_answer_after: float | None


def percentile(values: list[float], share: float) -> float | None:
    """Return the smallest value that `share` of the values don't exceed."""
    return sorted(values)[max(ceil(share * len(values)) - 1, 0)] if values else None


def refusal_took(calls: list[Call]) -> float | None:
    return percentile([call.waited for call in calls if call.outcome is Outcome.REFUSED], 0.5)


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
        reached=sum(arrived.get(f"/{users.path}/{phase.name}", 0) for phase in SCRIPT),
        answers=Counter(call.answer for call in users.calls),
        outage_calls=len(outage),
        outage_reached=sum(
            arrived.get(f"/{users.path}/{phase.name}", 0) for phase in SCRIPT if phase.outage
        ),
        outage_refused=sum(call.outcome is Outcome.REFUSED for call in outage),
        outage_answers=Counter(call.answer for call in outage),
        outage_waited_p50=percentile(waited, 0.5),
        outage_waited_p95=percentile(waited, 0.95),
        outage_waited_total=sum(waited),
        refusal_took_p50=refusal_took(users.calls),
        outage_refusal_took_p50=refusal_took(outage),
        most_waiting=users.most_waiting,
        refused_in_recovery=sum(call.outcome is Outcome.REFUSED for call in recovery),
        first_answer_after=min((at - back for at in answers if at >= back), default=None),
    )


def closed_after(stage: Stage) -> float | None:
    """Seconds from the upstream's recovery until the circuit closed for good; None: it did not."""
    if stage.changes.state_at(float("inf")) is not State.CLOSED:
        return None
    back = stage.phase_began[SCRIPT[-1].name]
    return max((at - back for at, _ in stage.changes if at >= back), default=0.0)
