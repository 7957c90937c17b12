"""The report as one page: no scripts, nothing to load, light and dark, to be printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Final

from fluxgate._words import number
from fluxgate.replay._result import PolicyResult, ReplayResult, SweepResult
from fluxgate.replay.report import _contents as contents
from fluxgate.replay.report import _svg
from fluxgate.replay.report._contents import Result, Table
from fluxgate.replay.report._text import heat_table

_MOST_OPENINGS: Final = 500
_MOST_PLANES: Final = 12
_STYLE: Final = """
:root {
  color-scheme: light dark; --page: #ffffff; --text: #1f2328; --quiet: #57606a; --line: #d0d7de;
  --soft: #f6f8fa; --open: #cf222e; --half: #bf8700; --closed: #b4e2c0; --failed: #cf222e;
  --late: #0969da; --outage: #8250df; --heat: #1a7f37; --mark: #fff8c5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0d1117; --text: #e6edf3; --quiet: #9da7b3; --line: #30363d; --soft: #161b22;
    --open: #f85149; --half: #d29922; --closed: #1b4527; --failed: #f85149; --late: #58a6ff;
    --outage: #a371f7; --heat: #3fb950; --mark: #3a2f12;
  }
}
@media print {
  :root {
    --page: #ffffff; --text: #000000; --quiet: #444444; --line: #bbbbbb; --soft: #ffffff;
    --open: #cf222e; --half: #bf8700; --closed: #b4e2c0; --failed: #cf222e; --late: #0969da;
    --outage: #8250df; --heat: #1a7f37; --mark: #fff8c5;
  }
  section { break-inside: avoid; } details { display: block; }
  svg rect, .swatch { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
body {
  background: var(--page); color: var(--text); margin: 2rem auto; max-width: 64rem;
  padding: 0 1rem; font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif;
}
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; } .quiet { color: var(--quiet); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--quiet); vertical-align: bottom; white-space: pre-line; }
th:first-child, td:first-child { text-align: left; } td { white-space: nowrap; }
.words td { text-align: left; white-space: normal; } .words th { text-align: left; }
ul.names { list-style: none; padding: 0; }
tr.marked td { background: var(--mark); }
code, pre { font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--soft); border: 1px solid var(--line); padding: .6rem; overflow-x: auto; }
.warning { border-left: 4px solid var(--half); padding: .2rem .8rem; background: var(--soft); }
.advice { border: 1px solid var(--line); border-radius: 6px; padding: 0 1rem; margin: .8rem 0; }
svg { max-width: 100%; height: auto; display: block; margin: .5rem 0; }
svg text { fill: var(--text); font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
svg .label { text-anchor: end; } svg .small { fill: var(--quiet); font-size: 11px; }
svg .axis { font-weight: 600; }
.base { stroke: var(--line); } .failed { fill: var(--failed); } .late { fill: var(--late); }
.outage { fill: var(--outage); fill-opacity: .16; } .closed { fill: var(--closed); }
.open { fill: var(--open); } .half { fill: var(--half); }
.seen { fill: var(--text); } .false { fill: var(--page); stroke: var(--open); }
.heat { fill: var(--heat); } .front .heat { stroke: var(--text); stroke-width: 2; }
.front text { font-weight: 700; }
.swatch { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em; }
.swatch.open { background: var(--open); } .swatch.half { background: var(--half); }
.swatch.closed { background: var(--closed); }
.swatch.outage { background: var(--outage); opacity: .3; }
"""


def page(result: Result) -> str:
    """The page."""
    base = contents.base_of(result)
    title = escape(contents.title(result))
    parts = [
        f"<h1>{title}</h1>",
        _paragraph(contents.summary(result)),
        *(f'<p class="warning">{escape(each)}</p>' for each in contents.warnings(result)),
    ]
    if isinstance(result, SweepResult):
        parts += _section("Recommendation", _advice(result))
    parts += _section("Policies", _policies(base))
    if base.trace.calls:
        parts += _section("Timeline", _timeline(base))
    if isinstance(result, SweepResult):
        parts += _section("The grid", _grid(result))
    if (routes := contents.routes_table(base)) is not None:
        parts += _section(routes.title, [table(routes), _quiet(contents.routes_note(base))])
    if out := contents.left_out(result):
        parts += _section("Left out", [_list(out)])
    parts += _section("Limits", [_list(contents.limits(result))])
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )


def table(given: Table, kind: str = "numbers") -> str:
    """A table; that which is wide is scrolled by itself."""
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in given.head)
    rows = "\n".join(
        ('<tr class="marked">' if place in given.marked else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for place, row in enumerate(given.rows)
    )
    return (
        f'<div class="scroll"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _section(title: str, parts: Iterable[str]) -> list[str]:
    return ["<section>", f"<h2>{escape(title)}</h2>", *parts, "</section>"]


def _policies(result: ReplayResult) -> Iterator[str]:
    rows: list[str] = []
    for letter, policy in zip(contents.letters(result.policies), result.policies, strict=True):
        more = escape(contents.settings_of(policy))
        rows.append(
            f"<li><b>{letter}</b> <code>{escape(contents.named(policy))}</code>"
            + (f' <span class="quiet"><code>{more}</code></span>' if more else "")
            + "</li>"
        )
    yield f'<ul class="names">{"".join(rows)}</ul>'
    yield table(contents.policies_table(result))
    yield _quiet(contents.LEGEND)
    yield _list(contents.brackets(result))


def _timeline(result: ReplayResult) -> Iterator[str]:
    yield _svg.timeline(result)
    yield (
        '<p class="quiet"><span class="swatch closed"></span>closed'
        '<span class="swatch open"></span>open<span class="swatch half"></span>half-open'
        '<span class="swatch outage"></span>outage. Filled triangles: openings in an outage; '
        "hollow ones: false openings. All times are UTC.</p>"
    )
    for letter, policy in zip(contents.letters(result.policies), result.policies, strict=True):
        yield _openings(letter, policy)


def _openings(letter: str, policy: PolicyResult) -> str:
    shown, more = contents.openings(policy, _MOST_OPENINGS)
    if not shown:
        return ""
    rows = Table("", ("at (UTC)", "reason"), [(at, reason) for at, reason in shown])
    rest = _quiet(f"and {more:,} more, which --json has" if more else "")
    listed = table(rows, "words")
    opened = " open" if len(shown) <= 10 else ""
    return (
        f"<details{opened}><summary>{letter} opened {number(len(policy.openings), 'time')}"
        f"</summary>{listed}{rest}</details>"
    )


def _advice(result: SweepResult) -> Iterator[str]:
    yield f"<p>{escape(contents.answer(result))}</p>"
    for given in result.recommendations:
        title, sentences = contents.recommendation(given)
        yield (
            f'<div class="advice"><h3>{escape(title)}</h3>{_list(sentences)}'
            f"<pre>{escape(contents.pasted(given))}</pre></div>"
        )


def _grid(result: SweepResult) -> Iterator[str]:
    yield _quiet("The stronger the colour, the better. ★ and a frame: on the Pareto front.")
    for place, (fixed, cells) in enumerate(contents.planes(result)):
        if place == _MOST_PLANES:
            yield _quiet("Further planes of the grid are in --json.")
            break
        for measure in contents.MEASURES:
            heading = measure.title + (f" ({fixed})" if fixed else "")
            yield f"<h3>{escape(heading)}</h3>"
            yield _svg.heat_map(result, cells, measure)
            numbers = table(heat_table(result, cells, measure))
            yield f"<details><summary>as a table</summary>{numbers}</details>"
    front, more = contents.front_table(result)
    yield f"<h3>{escape(front.title)}</h3>{table(front)}"
    yield _quiet(f"and {more} more rows" if more else "")
    yield _quiet(contents.FRONT_NOTE)
    yield _list(f"{what} makes no policy: {why}" for what, why in list(result.invalid.items())[:20])


def _paragraph(sentences: Iterable[str]) -> str:
    return "<p>" + "<br>\n".join(escape(each) for each in sentences) + "</p>"


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(each)}</li>\n" for each in sentences)
    return f"<ul>\n{items}</ul>" if items else ""


def _quiet(sentence: str) -> str:
    return f'<p class="quiet">{escape(sentence)}</p>' if sentence else ""
