"""What one sees of the demo where there is no terminal: plain lines. `live.py` is for terminals."""

from contextlib import AbstractContextManager
from typing import Protocol

from figures import percentile
from report import Table, seconds
from traffic import Call, Outcome, Stage


class Screen(AbstractContextManager["Screen", None], Protocol):
    """Where the demo shows itself; entered before the first call and left after the last."""

    every: float
    """Seconds between two updates."""

    def update(self) -> None:
        """Show what is going on now."""

    def summary(self, tables: list[Table], verdict: str) -> None:
        """Show the figures; the screen has been left."""


class PlainLines(Screen):
    """A line every second and one for each transition, in 80 columns of ASCII."""

    every = 1.0

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.told = 0

    def __enter__(self) -> "PlainLines":
        print(f"{'':30}{'calls':>5}{'waiting':>13}{'p95 of last second':>19}{'app: answers':>13}")
        print(
            f"{'time':>6}  {'upstream':11}{'circuit':11}{'saved':>5}"
            f"{'with/without':>13}{'with / without':>19}{'200/502/503':>13}",
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
        app = [call.answer[:3] for call in stage.through_app.lately()]
        answers = "/".join(str(app.count(status)) for status in ("200", "502", "503"))
        print(
            f"{stage.elapsed():5.1f}s  {stage.phase.name:11}{stage.breaker.state:11}"
            f"{with_.count(Outcome.REFUSED):5}{waiting:>13}{waited:>19}{answers:>13}",
            flush=True,
        )

    def tell_changes(self) -> None:
        for at, signal in self.stage.changes[self.told :]:
            print(
                f"{at - self.stage.began:5.1f}s  circuit: {signal.old_state} -> "
                f"{signal.new_state} ({signal.reason})"
            )
            self.told += 1

    def summary(self, tables: list[Table], verdict: str) -> None:
        for rows in tables:
            print()
            for label, left, right in rows:
                print(f"{label:46}{left:>14}{right:>14}".rstrip())
        print(f"\n{verdict}", flush=True)


def p95(calls: list[Call]) -> str:
    return seconds(percentile([call.waited for call in calls], 0.95)) if calls else "-"
