"""The figures, laid out for people and for programs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from figures import Figures, closed_after, figures
from traffic import SCRIPT, Stage

Row = tuple[str, str, str]
"""A label and two figures; a headline has no figures."""
Table = list[Row]
"""Its first row names the columns."""


@dataclass(frozen=True)
class Report:
    """The figures of all groups, and how to lay them out."""

    stage: Stage
    protected: Figures
    plain: Figures
    app: Figures

    @classmethod
    def of(cls, stage: Stage, arrived: Mapping[str, int]) -> "Report":
        groups = stage.protected, stage.unprotected, stage.through_app
        return cls(stage, *(figures(stage, users, arrived) for users in groups))

    def tables(self) -> list[Table]:
        return [self.side_by_side(), self.through_app()]

    def side_by_side(self) -> Table:
        """The users with a breaker beside those without."""
        outage_seconds = sum(phase.seconds for phase in SCRIPT if phase.outage) * self.stage.pace
        with_, without = self.protected, self.plain

        def both(label: str, name: str, show: Any = str) -> Row:
            return f"  {label}", show(getattr(with_, name)), show(getattr(without, name))

        return [
            ("Measured in this run", "with breaker", "without"),
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
            ("  circuit closed after", seconds(closed_after(self.stage)), "-"),
            both("calls refused though it was back", "refused_in_recovery"),
        ]

    def through_app(self) -> Table:
        """What the FastAPI application made of the same outage, as its users see it."""
        app = self.app
        splits = app.answers, app.outage_answers
        told = {
            "200": "200",
            "502": "502: the upstream failed",
            "503 with Retry-After": "503 with Retry-After: its circuit is open",
            "503": "503 without: its circuit is half-open",
        }
        others = (counts.total() - sum(counts[each] for each in told) for counts in splits)
        return [
            ("Measured in this run", "all of the run", "the outage"),
            ("What the FastAPI application answered", "", ""),
            ("  requests that users made", str(app.calls), str(app.outage_calls)),
            *(
                (f"    {label}", *(str(counts[answer]) for counts in splits))
                for answer, label in told.items()
            ),
            ("    anything else, or nothing", *map(str, others)),
            ("  calls that it made to the upstream", str(app.reached), str(app.outage_reached)),
            ("From a user's request to the answer's last byte", "", ""),
            (
                "  a 503, median",
                seconds(app.refusal_took_p50),
                seconds(app.outage_refusal_took_p50),
            ),
        ]

    def verdict(self) -> str:
        """Say in a line what the breaker did."""
        calls, refused = self.protected.outage_calls, self.protected.outage_refused
        if not calls:
            return "Nobody called during the outage: this run shows nothing."
        return (
            f"The breaker kept {refused} of {calls} calls ({refused / calls:.0%}) "
            "away from the failing upstream."
        )

    def as_json(self) -> str:
        """The figures and the circuit's transitions, for programs."""
        changes = [
            {
                "at": round(at - self.stage.began, 3),
                "from": signal.old_state,
                "to": signal.new_state,
                "reason": str(signal.reason),
            }
            for at, signal in self.stage.changes
        ]
        report = {
            "with": vars(self.protected) | {"closed_after": closed_after(self.stage)},
            "without": vars(self.plain),
            "app": vars(self.app),
            "changes": changes,
        }
        return json.dumps(report, indent=2)


def seconds(value: float | None) -> str:
    if value is None:
        return "never"
    if value < 0.1:
        return f"{value * 1000:.{1 if value >= 0.001 else 2}f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
