"""`Bench`: a trace and its truth, on which any number of policies are measured."""

from __future__ import annotations

import math
from array import array
from dataclasses import fields
from functools import cached_property
from typing import Any, NamedTuple

from fluxgate._values import Strategy
from fluxgate.policy import DEFAULT, Policy
from fluxgate.replay._calls import Calls
from fluxgate.replay._result import Bracket, PolicyResult, Role, Scores
from fluxgate.replay._scores import WHOLE, Part, Scorer, joined
from fluxgate.replay._trace import Trace
from fluxgate.replay._truth import Truth
from fluxgate.replay._walk import fast

SETTINGS = ("tripper", "window", "retry", "permit", "max_half_open_calls", "probe_timeout")
"""The settings that a replay depends on."""


MOST_REMARKS = 3
"""Remarks on one policy that are shown; of many circuits, each has its own."""


class Candidate(NamedTuple):
    """A policy to measure.

    Attributes:
        name: what it is called.
        policy: the policy as it is written.
        role: no breaker, the present policy, or another.
        replayed: the policy as it is replayed, which differs for a sampled trace; None: as written.
    """

    name: str
    policy: Policy
    role: Role = Role.GIVEN
    replayed: Policy | None = None


class Measured(NamedTuple):
    """A policy on the whole trace, its scores on parts of it, and what its circuits remarked."""

    result: PolicyResult
    parts: list[Scores]
    remarks: list[str]


class _Dealt(NamedTuple):
    calls: Calls
    scorer: Scorer


class Bench:
    """A trace, dealt to circuits.

    Args:
        trace: the calls.
        truth: when the dependency was down.
        workers: circuits; calls go to one after the other.
        seed: of the dice.
    """

    def __init__(self, trace: Trace, truth: Truth, workers: int = 1, seed: int = 0) -> None:
        self._trace, self._truth = trace, truth
        self._workers, self._seed = workers, seed
        self._dealt = self._deal(trace, truth.bad)

    def _deal(self, trace: Trace, bad: bytearray) -> list[_Dealt]:
        dealt: list[_Dealt] = []
        for worker in range(self._workers):
            part, wrong = trace, bad
            if self._workers > 1:
                part = trace.select(range(worker, len(trace), self._workers))
                wrong = bad[worker :: self._workers]
            calls = Calls(part)
            dealt.append(_Dealt(calls, Scorer(calls, self._truth, wrong)))
        return dealt

    @cached_property
    def _brackets(self) -> tuple[list[_Dealt], list[_Dealt]]:
        """The calls, had those of unknown outcome all failed, and all succeeded."""
        trace, bad = self._trace, self._truth.bad
        unknown = trace.refused
        assert unknown is not None
        sides: list[list[_Dealt]] = []
        for failed in (True, False):
            seconds = _typical(trace, failed)
            durations = array(
                "d",
                (
                    seconds if strange else each
                    for strange, each in zip(unknown, trace.duration, strict=True)
                ),
            )
            flags = bytearray(
                failed if strange else each
                for strange, each in zip(unknown, trace.failed, strict=True)
            )
            wrong = bytearray(
                failed if strange else each for strange, each in zip(unknown, bad, strict=True)
            )
            side = Trace(trace.start, durations, flags, status=trace.status, error=trace.error)
            sides.append(self._deal(side, wrong))
        return sides[0], sides[1]

    def without(self) -> PolicyResult:
        """The numbers without a breaker."""
        tallies = [scorer.tally(None) for _, scorer in self._dealt]
        spans = (
            span for place, (_, each) in enumerate(self._dealt) for span in each.spans([], place)
        )
        return PolicyResult(
            policy=str(Role.NO_BREAKER),
            role=Role.NO_BREAKER,
            settings={},
            spans=tuple(spans),
            **_as_fields(joined(tallies)),
        )

    def measure(self, candidate: Candidate, parts: tuple[Part, ...] = ()) -> Measured:
        """Replay one policy, and score it."""
        policy = candidate.replayed or candidate.policy
        recorded = candidate.role is Role.PRESENT and self._trace.refused is not None
        walks = [
            fast(calls, policy, self._seed + place, as_recorded=recorded)
            for place, (calls, _) in enumerate(self._dealt)
        ]
        both = list(zip(walks, (scorer for _, scorer in self._dealt), strict=True))
        scores, *others = (
            joined([scorer.tally(walk, part) for walk, scorer in both]) for part in (WHOLE, *parts)
        )
        openings = [
            opening
            for place, (walk, scorer) in enumerate(both)
            for opening in scorer.openings(walk.moves, place)
        ]
        result = PolicyResult(
            policy=candidate.name,
            role=candidate.role,
            settings=settings_of(candidate.policy),
            openings=tuple(sorted(openings, key=lambda opening: opening.at)),
            spans=tuple(
                span
                for place, (walk, scorer) in enumerate(both)
                for span in scorer.spans(walk.moves, place)
            ),
            bracket=self._bracket(policy),
            **_as_fields(scores),
        )
        remarks = list(dict.fromkeys(remark for walk in walks for remark in walk.remarks))
        return Measured(result, others, remarks[:MOST_REMARKS])

    def _bracket(self, policy: Policy) -> Bracket | None:
        if self._trace.refused is None:
            return None
        failed, succeeded = (
            joined(
                [
                    scorer.tally(fast(calls, policy, self._seed + place))
                    for place, (calls, scorer) in enumerate(side)
                ]
            )
            for side in self._brackets
        )
        return Bracket(all_failed=failed, all_succeeded=succeeded)


def settings_of(policy: Policy) -> dict[str, str]:
    """The settings of a policy that a replay depends on, as expressions; the defaults left out."""
    settings = {name: getattr(policy, name) for name in SETTINGS}
    return {
        name: repr(value) if isinstance(value, Strategy) else f"{value:g}"
        for name, value in settings.items()
        if name == "tripper" or value != getattr(DEFAULT, name)
    }


def _as_fields(scores: Scores) -> dict[str, Any]:
    return {field.name: getattr(scores, field.name) for field in fields(Scores)}


def _typical(trace: Trace, failed: bool) -> float:
    """The median duration (seconds) of the calls that failed, or that didn't."""
    unknown = trace.refused or bytes(len(trace))
    columns = zip(trace.duration, trace.failed, unknown, strict=True)
    durations = sorted(
        each for each, flag, strange in columns if bool(flag) is failed and not strange
    )
    middle = durations[len(durations) // 2] if durations else 0.0
    return middle if math.isfinite(middle) else 0.0
