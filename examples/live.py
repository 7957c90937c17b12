"""What one sees of the demo in a terminal: a screen that redraws itself."""

import report
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from screen import Screen, p95
from traffic import SCRIPT, Outcome, Stage

from fluxgate import State

COLOURS = {State.CLOSED: "green", State.OPEN: "red", State.HALF_OPEN: "yellow"}
MARKS = {State.CLOSED: "─", State.OPEN: "█", State.HALF_OPEN: "▒"}


def can_draw() -> bool:
    """Tell whether the terminal takes colours and these marks."""
    console = Console()
    return not console.is_dumb_terminal and not console.options.ascii_only


class LiveScreen(Screen):
    """State, timelines, figures of the groups, and the latest transitions."""

    every = 0.2

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.console = Console()
        self.live = Live(console=self.console, auto_refresh=False)

    def __enter__(self) -> "LiveScreen":
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        self.live.stop()

    def update(self) -> None:
        self.live.update(self.draw(), refresh=True)

    def draw(self) -> RenderableType:
        width = min(self.console.width, 100) - 4
        parts = [self.now(), self.timelines(width - 10), self.figures(), self.latest_changes()]
        return Panel(Group(*parts), title="Fluxgate demo", width=width + 4)

    def now(self) -> RenderableType:
        stage, info = self.stage, self.stage.breaker.info()
        circuit = info.state.replace("_", " ").upper()
        if info.state is State.HALF_OPEN:
            circuit += f", {info.probes} probes on their way"
        elif info.retry_after is not None:
            circuit += f", refuses calls, probes again in {info.retry_after:.1f} s"
        reason = str(info.last_trip) if info.last_trip else "none so far"
        return Text.assemble(
            f"{min(stage.elapsed(), stage.seconds):5.1f} s of {stage.seconds:g} s\n\n",
            ("upstream  ", "bold"),
            (f"{stage.phase.name}: {stage.phase.says}\n", "red" if stage.phase.outage else "green"),
            ("circuit   ", "bold"),
            (f"{circuit}\n", COLOURS[info.state]),
            ("last trip ", "bold"),
            reason,
        )

    def timelines(self, width: int) -> RenderableType:
        """The whole demo from left to right: what the upstream was, what the circuit was."""
        stage = self.stage
        upstream, circuit = Text("\nupstream  "), Text("circuit   ")
        cell = stage.seconds / width
        seconds, drawn = 0.0, 0
        for phase in SCRIPT:
            seconds += phase.seconds * stage.pace
            cells = round(seconds / cell) - drawn
            drawn += cells
            style = "white on red" if phase.outage else "black on green"
            begun = phase.name in stage.phase_began
            upstream.append(f" {phase.name}"[:cells].ljust(cells), style if begun else "dim")
        for place in range(min(int(stage.elapsed() / cell), width)):
            state = stage.changes.state_at(stage.began + (place + 0.5) * cell)
            circuit.append(MARKS[state], COLOURS[state])
        legend = "".join(f"{MARKS[state]} {state.replace('_', ' ')}   " for state in MARKS)
        return Group(upstream, circuit, Text(" " * 10 + legend, style="dim"), Text())

    def figures(self) -> RenderableType:
        table = Table.grid(padding=(0, 3))
        table.add_column()
        stage = self.stage
        headings = "with", "without", *stage.apps
        for _ in headings:
            table.add_column(justify="right")
        table.add_row("", *(f"[bold]{heading}" for heading in headings))
        for label, figure in (
            ("calls answered", lambda users: users.count(Outcome.ANSWERED)),
            ("calls failed", lambda users: users.count(Outcome.FAILED)),
            ("upstream calls saved", lambda users: users.count(Outcome.REFUSED)),
            ("users waiting now", lambda users: users.waiting),
            ("waited, p95 of the last second", lambda users: p95(users.lately())),
        ):
            table.add_row(label, *(f"{figure(users):>8}" for users in stage.groups))
        return table

    def latest_changes(self) -> RenderableType:
        lines = [
            f"{at - self.stage.began:5.1f} s  {signal.old_state} → {signal.new_state}"
            f"  ({signal.reason})"
            for at, signal in self.stage.changes[-5:]
        ]
        text = "\n".join(lines + [""] * (5 - len(lines)))
        return Text("\n" + text, style="dim", no_wrap=True, overflow="ellipsis")

    def summary(self, tables: list[report.Table], samples: list[str], verdict: str) -> None:
        for (title, *columns), *rows in tables:
            table = Table(box=SIMPLE_HEAD)
            table.add_column(title)
            for column in columns:
                table.add_column(column, justify="right")
            for label, left, right in rows:
                table.add_row(label if left else f"[bold]{label}", left, right)
            self.console.print(table)
        for line in samples:
            self.console.print(Text(line, style="dim"))
        self.console.print(Text(f"\n{verdict}", style="bold"))
