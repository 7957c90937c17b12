"""The figures, laid out for people and for programs."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from figures import Figures, closed_after, figures
from scraping import Scraped
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
    apps: dict[str, Figures]
    scraped: dict[str, Scraped]

    @classmethod
    def of(cls, stage: Stage, arrived: Mapping[str, int], scraped: dict[str, Scraped]) -> "Report":
        return cls(
            stage,
            figures(stage, stage.protected, arrived),
            figures(stage, stage.unprotected, arrived),
            {name: figures(stage, users, arrived) for name, users in stage.apps.items()},
            scraped,
        )

    def tables(self) -> list[Table]:
        return [self.side_by_side(), self.through_apps()]

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

    def through_apps(self) -> Table:
        """What the applications made of the same outage: for their users, and by their metrics."""
        apps, scraped = self.apps.values(), self.scraped.values()
        return [
            ("Measured in this run", "FastAPI app", "Django app"),
            ("What its users were answered in all of the run", "", ""),
            row("  requests that users made", (app.calls for app in apps)),
            *answers([app.answers for app in apps]),
            row("  calls that it made to the upstream", (app.reached for app in apps)),
            ("What they were answered in the outage", "", ""),
            row("  requests that users made", (app.outage_calls for app in apps)),
            *answers([app.outage_answers for app in apps]),
            row("  calls that it made to the upstream", (app.outage_reached for app in apps)),
            ("From a user's request to the answer's last byte", "", ""),
            row("  a 503, median", (seconds(app.refusal_took_p50) for app in apps)),
            ("What its /metrics say at the end", "", ""),
            row("  state of the circuit", (each.state for each in scraped)),
            row("  times it opened", (each.opened for each in scraped)),
            row("  calls it refused", (each.refused for each in scraped)),
        ]

    def raw_samples(self) -> list[str]:
        """A line of each application's /metrics, as it came."""
        return [f"{name} /metrics: {each.line}" for name, each in self.scraped.items()]

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
            "apps": {
                name: vars(app) | {"scraped": vars(self.scraped[name])}
                for name, app in self.apps.items()
            },
            "changes": changes,
        }
        return json.dumps(report, indent=2)


ANSWERS = {
    "200": "200",
    "502": "502: the upstream failed",
    "503 with Retry-After": "503 with Retry-After: its circuit is open",
    "503": "503 without: its circuit is half-open",
}


def row(label: str, figures: Iterable[object]) -> Row:
    left, right = map(str, figures)
    return label, left, right


def answers(counts: Sequence[Counter[str]]) -> list[Row]:
    """How many requests ended in which way."""
    others = (count.total() - sum(count[each] for each in ANSWERS) for count in counts)
    return [
        *(row(f"    {label}", (each[key] for each in counts)) for key, label in ANSWERS.items()),
        row("    anything else, or nothing", others),
    ]


def seconds(value: float | None) -> str:
    if value is None:
        return "never"
    if value < 0.1:
        return f"{value * 1000:.{1 if value >= 0.001 else 2}f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
