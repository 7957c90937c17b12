"""Results of `replay()` and `sweep()`: what the reports show, and what `--json` writes.

Times are Unix seconds, durations seconds, shares ratios from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Any, cast

from fluxgate.state import State


@dataclass(frozen=True, slots=True)
class Opening:
    """A moment at which a circuit opened, and why.

    Attributes:
        at: Unix seconds.
        reason: the clause and what it measured, such as `FailureRate(0.5): 0.6 over 10 calls`.
        worker: which of the circuits, from 0 on.
        outage: whether it opened in an outage; else it was a false opening.
    """

    at: float
    reason: str
    worker: int = 0
    outage: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A time that one circuit spent in one state.

    Attributes:
        state: the state.
        begin: Unix seconds.
        end: Unix seconds; the end of the trace for the last one.
        worker: which of the circuits, from 0 on.
    """

    state: State
    begin: float
    end: float
    worker: int = 0


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the dependency was down or slow: the truth that policies are held against.

    Attributes:
        begin: Unix seconds.
        end: Unix seconds.
        given: whether the user said so; else the rule found it.
        peak: the greatest share of failed or slow calls in a rolling minute (ratio 0-1).
    """

    begin: float
    end: float
    given: bool = False
    peak: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of several outages: the middle one and the longest; None where there is none."""

    median: float | None = None
    worst: float | None = None

    @classmethod
    def of(cls, seconds: list[float]) -> Spread:
        """The spread of these seconds."""
        return cls(median(seconds), max(seconds)) if seconds else cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Numbers by which policies are compared.

    A call is bad if it failed, or took as long as what the truth calls slow.

    Attributes:
        opened: how often a circuit opened.
        refused: calls that it refused.
        outages_seen: outages in which it was open at some time.
        outages_missed: the others.
        seconds_to_open: from an outage's begin to the first refusal-giving state.
        false_openings: openings outside every outage.
        good_refused: calls it refused that went well in the recording.
        bad_spared: calls it refused that went badly.
        bad_let_through: calls it admitted that went badly.
        waiting_saved: seconds that the refused bad calls took in the recording.
        seconds_to_closed: from an outage's end to the closed state.
        openings_per_hour: `opened`, an hour of the trace and a circuit.
        unknown: calls of which nobody knows how they would have ended, since a breaker refused
            them when this was recorded; they are in none of the other numbers but `refused`.
    """

    opened: int = 0
    refused: int = 0
    outages_seen: int = 0
    outages_missed: int = 0
    seconds_to_open: Spread = Spread()
    false_openings: int = 0
    good_refused: int = 0
    bad_spared: int = 0
    bad_let_through: int = 0
    waiting_saved: float = 0.0
    seconds_to_closed: Spread = Spread()
    openings_per_hour: float = 0.0
    unknown: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """Scores where the calls of unknown outcome count: had all failed, had all succeeded."""

    all_failed: Scores
    all_succeeded: Scores


class Role(StrEnum):
    """Kinds of rows in the table of policies."""

    NO_BREAKER = "no breaker"
    PRESENT = "present"
    GIVEN = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult(Scores):
    """One policy, replayed.

    Attributes:
        policy: how it was named: `shop.toml:payments`, or the tripper's expression.
        role: no breaker, the present policy, or one that was given.
        settings: the settings that aren't defaults, the tripper first, as expressions.
        openings: every opening.
        spans: every stay in a state.
        bracket: the scores with calls of unknown outcome; None where there are none.
    """

    policy: str
    role: Role = Role.GIVEN
    settings: Mapping[str, str]
    openings: tuple[Opening, ...] = ()
    spans: tuple[Span, ...] = ()
    bracket: Bracket | None = None

    @property
    def toml(self) -> str:
        """The settings as lines of a TOML file, for a table of `[breakers]`."""
        return "\n".join(f"{name} = {_toml(value)}" for name, value in self.settings.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """A trace in numbers.

    Attributes:
        calls: usable rows.
        failed: those that failed.
        refused: those that a breaker refused when they were recorded.
        unusable: rows that were left out.
        rejected: why, with the number of rows.
        skipped: kinds of records that are no calls, with the number of each.
        begin: Unix seconds of the first start.
        end: Unix seconds of the last end.
        keys: how many different keys there are; 0 where calls have none.
        key: the one key that all have, if it is one.
        median_duration: seconds.
        longest_duration: seconds.
        slow: seconds from which the truth calls a call slow; None where no call is.
    """

    calls: int
    failed: int
    refused: int
    unusable: int
    rejected: Mapping[str, int]
    begin: float
    end: float
    keys: int
    key: str | None
    median_duration: float
    longest_duration: float
    slow: float | None
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Calls by slices of time, for a picture. The lists are of equal length.

    Attributes:
        begin: Unix seconds of the first slice.
        width: seconds of a slice.
        calls: calls that started in it.
        failed: those that failed.
        duration: the mean duration in seconds; 0 where there was no call.
    """

    begin: float
    width: float
    calls: tuple[int, ...]
    failed: tuple[int, ...]
    duration: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayResult:
    """Policies, held against one trace.

    Attributes:
        trace: the calls.
        timeline: the same by time.
        outages: the truth.
        rule: the words of the rule that found it, or that it was given.
        policies: no breaker, the present policy if one was named, then those given.
        workers: circuits that the calls were dealt to.
        limits: sentences to be printed beside the numbers each time.
        warnings: sentences about this trace.
        routes: the same for each key with enough calls, the most called first.
        routes_left_out: keys that have no result of their own.
    """

    trace: TraceSummary
    timeline: Timeline
    outages: tuple[Outage, ...]
    rule: str
    policies: tuple[PolicyResult, ...]
    workers: int = 1
    limits: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    routes: tuple[ReplayResult, ...] = ()
    routes_left_out: int = 0

    def as_json(self) -> dict[str, Any]:
        """The same as dictionaries and lists, for `json.dumps`."""
        result: dict[str, Any] = _plain(self)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A setting of a grid.

    Attributes:
        name: such as `FailureRate`, or `SlowRate.threshold` where a clause has several arguments.
        values: ascending, as in the expression.
    """

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One policy of a grid.

    Attributes:
        place: for each axis the place of its value.
        result: the policy on the whole trace.
        on_front: whether no other policy of the grid is better in one number and worse in none.
        fitted: scores on the first two thirds of the trace, by which it was chosen.
        held_out: scores on the last third.
    """

    place: tuple[int, ...]
    result: PolicyResult
    on_front: bool
    fitted: Scores
    held_out: Scores


class Kind(StrEnum):
    """Kinds of recommendations."""

    CAUTIOUS = "cautious"
    BALANCED = "balanced"
    QUICK = "quick"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A policy one step beside a recommended one.

    Attributes:
        axis: the setting that differs.
        value: its value there.
        change: in words, what that changes.
        scores: the scores there.
    """

    axis: str
    value: float
    change: str
    scores: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A policy to take.

    Attributes:
        kind: cautious, balanced or quick.
        cell: the policy.
        reasons: sentences.
        steps: one step either way on each axis.
    """

    kind: Kind
    cell: Cell
    reasons: tuple[str, ...]
    steps: tuple[Step, ...]


class Advice(StrEnum):
    """Answers of a sweep."""

    RECOMMENDED = "recommended"
    YOURS_IS_BEST = "yours is best"
    TOO_LITTLE_DATA = "too little data"
    TOO_MANY_UNKNOWN = "too many unknown outcomes"
    NONE_HOLDS = "none holds on the last third"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """A grid of policies, held against one trace.

    Attributes:
        base: the trace, the truth, and the policies beside the grid.
        axes: the settings that vary, one or more.
        cells: one for each combination that makes a policy, the last axis running fastest.
        invalid: combinations that make no policy, with the reason.
        advice: the answer.
        why: the answer in a sentence.
        recommendations: up to three of the Pareto front; empty unless something is recommended.
    """

    base: ReplayResult
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    invalid: Mapping[str, str]
    advice: Advice
    why: str
    recommendations: tuple[Recommendation, ...] = ()

    @property
    def front(self) -> tuple[Cell, ...]:
        """The cells of the Pareto front."""
        return tuple(cell for cell in self.cells if cell.on_front)

    def as_json(self) -> dict[str, Any]:
        """The same as dictionaries and lists: the base's keys, and the grid's beside them."""
        result: dict[str, Any] = _plain(self)
        return {**result.pop("base"), **result}


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and enums as what JSON knows."""
    if isinstance(value, StrEnum):
        return str(value)
    if hasattr(value, "__dataclass_fields__"):
        # A policy's name first, as in the specification of the format.
        names = sorted(value.__dataclass_fields__, key=lambda name: name != "policy")
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        table: Any = value  # pyright: ignore[reportUnknownVariableType]
        return {str(key): _plain(each) for key, each in table.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in cast("Sequence[Any]", value)]
    return value


def _toml(value: str) -> str:
    """A literal string where it can be one, since expressions quote names with double quotes."""
    if value.replace(".", "", 1).isdigit():
        return value
    return (
        f"'{value}'" if '"' in value and "'" not in value else '"' + value.replace('"', '\\"') + '"'
    )
