"""What one sees of the demo where there is no terminal: plain lines. `live.py` is for terminals."""

from contextlib import AbstractContextManager
from typing import Protocol

from figures import percentile
from report import Table, seconds
from traffic import Call, Outcome, Stage, Users


class Screen(AbstractContextManager["Screen", None], Protocol):
    """Where the demo shows itself; entered before the first call and left after the last."""

    every: float
    """Seconds between two updates."""

    def update(self) -> None:
        """Show what is going on now."""

    def summary(self, tables: list[Table], samples: list[str], verdict: str) -> None:
        """Show the figures; the screen has been left."""


class PlainLines(Screen):
    """A line every second and one for each transition, in 80 columns of ASCII."""

    every = 1.0

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.told = 0

    def __enter__(self) -> "PlainLines":
        print(f"{'':28}{'calls':>5}{'waiting':>9}{'p95 of last second':>19}{'200/502/503':>17}")
        print(
            f"{'time':>6}  {'upstream':10}{'circuit':10}{'saved':>5}{'w / w/o':>9}"
            f"{'with / without':>19}{'FastAPI':>9}{'Django':>9}",
            flush=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.tell_changes()

    def update(self) -> None:
        self.tell_changes()
        stage, with_, without = self.stage, self.stage.protected, self.stage.unprotected
        waiting = f"{with_.waiting}/{without.waiting}"
        waited = f"{p95(with_.lately())} / {p95(without.lately())}"
        answers = "".join(f"{answers_of(users):>9}" for users in stage.apps.values())
        print(
            f"{stage.elapsed():5.1f}s  {stage.phase.name:10}{stage.breaker.state:10}"
            f"{with_.count(Outcome.REFUSED):5}{waiting:>9}{waited:>19}{answers}",
            flush=True,
        )

    def tell_changes(self) -> None:
        for at, signal in self.stage.changes[self.told :]:
            print(
                f"{at - self.stage.began:5.1f}s  circuit: {signal.old_state} -> "
                f"{signal.new_state} ({signal.reason})"
            )
            self.told += 1

    def summary(self, tables: list[Table], samples: list[str], verdict: str) -> None:
        for rows in tables:
            print()
            for label, left, right in rows:
                print(f"{label:46}{left:>14}{right:>14}".rstrip())
        print("", *samples, "", verdict, sep="\n", flush=True)


def answers_of(users: Users) -> str:
    """How many of its last second's answers had which status."""
    lately = [call.answer[:3] for call in users.lately()]
    return "/".join(str(lately.count(status)) for status in ("200", "502", "503"))


def p95(calls: list[Call]) -> str:
    return seconds(percentile([call.waited for call in calls], 0.95)) if calls else "-"
