"""What comes out: figures, the best of the passes, a table, JSON, and the README's section."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from timing import Times

BEGIN = "<!-- results: begin (written by run.py --markdown) -->"
END = "<!-- results: end -->"
ROW_HEAD = ("what", "reach", "measured", "verdict", "detail")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value of one pass. Smaller is better unless `higher`."""

    section: str
    what: str
    value: float
    reach: float | None = None
    unit: str = ""
    ns: tuple[float, ...] = ()
    note: str = ""
    higher: bool = False


def over(times: Times, name: str, other: str, section: str, what: str, **more: object) -> Figure:
    """The row that says `name` ÷ `other`."""
    ns = (times.ns(name), times.ns(other))
    return Figure(section, what, times.ratio(name, other), ns=ns, **more)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: the same figure in every pass."""

    passes: tuple[Figure, ...]

    @property
    def best(self) -> Figure:
        """The pass that counts."""
        pick = max if self.passes[0].higher else min
        return pick(self.passes, key=lambda figure: figure.value)

    @property
    def reached(self) -> bool | None:
        """None where there is nothing to reach."""
        best = self.best
        if best.reach is None:
            return None
        return best.value >= best.reach if best.higher else best.value <= best.reach

    def cells(self) -> tuple[str, ...]:
        """What the table says."""
        best = self.best
        sign = "≥" if best.higher else "≤"
        reach = "reported" if best.reach is None else f"{sign} {shown(best.reach, best.unit)}"
        verdict = {None: "–", True: "reached", False: "**missed**"}[self.reached]
        notes = [" ÷ ".join(f"{ns:,.0f}" for ns in best.ns) + " ns"] if best.ns else []
        if best.note:
            notes.append(best.note)
        return best.what, reach, shown(best.value, best.unit), verdict, ", ".join(notes)

    def as_json(self) -> dict[str, object]:
        """All passes, so that the best can be judged."""
        best = self.best
        return {
            "section": best.section,
            "what": best.what,
            "reach": best.reach,
            "unit": best.unit or "ratio",
            "value": best.value,
            "reached": self.reached,
            "higher_is_better": best.higher,
            "passes": [figure.value for figure in self.passes],
            "ns": [list(figure.ns) for figure in self.passes],
            "note": best.note,
        }


@dataclass(slots=True)
class PeerRow:
    """One library: per kind of call, the (ratio, ns) of every pass."""

    name: str
    version: str
    kinds: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def cells(self, kinds: Iterable[str]) -> tuple[str, ...]:
        """Nanoseconds and ratio of the best pass."""
        cells = [f"{self.name} {self.version}".strip()]
        for kind in kinds:
            if kind in self.kinds:
                ratio, ns = min(self.kinds[kind])
                cells.append(f"{ns:,.0f} ns ({ratio:.2f} ×)")
            else:
                cells.append("–")
        return tuple(cells)

    def as_json(self) -> dict[str, object]:
        """All passes."""
        kinds = {
            kind: {
                "ratio": min(passes)[0],
                "ns": min(passes)[1],
                "passes": [ratio for ratio, _ in passes],
                "passes_ns": [ns for _, ns in passes],
            }
            for kind, passes in self.kinds.items()
        }
        return {"name": self.name, "version": self.version, **kinds}


@dataclass(slots=True)
class Report:
    """Everything of one run."""

    about: dict[str, object]
    rows: list[Row]
    peers: list[PeerRow]
    kinds: Sequence[str]

    def markdown(self) -> str:
        """Both tables, aligned: readable in a terminal as it is."""
        about = (
            "{implementation} {python} on {platform}, fluxgate-core {fluxgate-core}: "
            "{rounds} rounds of {calls_per_turn} calls a turn, best of {passes}."
        )
        parts = [about.format_map(self.about)]
        if self.rows:
            parts.append(table(ROW_HEAD, [row.cells() for row in self.rows]))
            missed = [row.best.what for row in self.rows if row.reached is False]
            judged = sum(row.reached is not None for row in self.rows)
            verdict = f"{judged - len(missed)} of {judged} reached."
            parts.append(verdict + (f" Missed: {'; '.join(missed)}." if missed else ""))
        if self.peers:
            head = ("a call (÷ thinnest)", *self.kinds)
            parts.append(table(head, [peer.cells(self.kinds) for peer in self.peers]))
        return "\n\n".join(parts) + "\n"

    def write_json(self, path: Path) -> None:
        """The same for machines."""
        content = {
            "about": self.about,
            "rows": [row.as_json() for row in self.rows],
            "peers": [peer.as_json() for peer in self.peers],
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def write_markdown(self, path: Path) -> None:
        """Replace what stands between the two markers."""
        text = path.read_text(encoding="utf-8")
        head, begin, rest = text.partition(BEGIN)
        _, end, tail = rest.partition(END)
        if not (begin and end):
            raise SystemExit(f"{path} lacks the lines {BEGIN!r} and {END!r}")
        path.write_text(f"{head}{BEGIN}\n\n{self.markdown()}\n{END}{tail}", encoding="utf-8")


def shown(value: float, unit: str) -> str:
    """A ratio with two places, a count without, anything else with its unit."""
    if not unit:
        return f"{value:.2f}"
    return f"{value:,.0f} {unit}" if value == int(value) else f"{value:,.2f} {unit}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An aligned Markdown table."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
