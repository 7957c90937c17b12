"""What one sees of the demo where there is no terminal: plain lines. `live.py` is for terminals."""

from contextlib import AbstractContextManager
from typing import Protocol

from report import Row, percentile, seconds
from traffic import Outcome, Stage


class Screen(AbstractContextManager["Screen", None], Protocol):
    """Where the demo shows itself; entered before the first call and left after the last."""

    every: float
    """Seconds between two updates."""

    def update(self) -> None:
        """Show what is going on now."""

    def summary(self, rows: list[Row], verdict: str) -> None:
        """Show the figures; the screen has been left."""


class PlainLines(Screen):
    """A line every second and one for each transition, in 80 columns of ASCII."""

    every = 1.0

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.told = 0

    def __enter__(self) -> "PlainLines":
        print(f"{'':21}{'':11}{'calls':>7} {'waiting':>14} {'p95 of the last second':>24}")
        print(
            f"{'time':>6}  {'upstream':13}{'circuit':11}{'saved':>7}"
            f" {'with/without':>14} {'with / without':>24}",
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
        print(
            f"{stage.elapsed():5.1f}s  {stage.phase.name:13}{stage.breaker.state:11}"
            f"{with_.count(Outcome.REFUSED):7} {waiting:>14} {waited:>24}",
            flush=True,
        )

    def tell_changes(self) -> None:
        for at, signal in self.stage.changes[self.told :]:
            print(
                f"{at - self.stage.began:5.1f}s  circuit: {signal.old_state} -> "
                f"{signal.new_state} ({signal.reason})"
            )
            self.told += 1

    def summary(self, rows: list[Row], verdict: str) -> None:
        print(f"\n{'':40}{'with breaker':>14}{'without':>14}")
        for label, left, right in rows:
            print(f"{label:40}{left:>14}{right:>14}".rstrip())
        print(f"\n{verdict}", flush=True)


def p95(waited: list[float]) -> str:
    return seconds(percentile(waited, 0.95)) if waited else "-"
