"""The command `python -m fluxgate replay`: which thresholds, answered with one's own calls."""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fluxgate import config
from fluxgate._settings.errors import Mistake, SettingError, did_you_mean
from fluxgate._words import number, percent
from fluxgate.policy import DEFAULT, Policy

_EXAMPLES: Final = """\
examples:
  python -m fluxgate replay access.jsonl --key upstream --policy shop.toml:payments
  python -m fluxgate replay calls.csv --map start=ts,duration=ms/1000 --policy "FailureStreak(5)"
  python -m fluxgate replay trace.parquet --sweep "FailureRate=0.1..0.9/9" --html report.html
  python -m fluxgate replay calls.jsonl --only api.example.com --present shop.toml:api
  python -m fluxgate replay calls.csv --outage 2026-11-27T14:02..2026-11-27T14:31 --workers 8

The exit status is 2 where more than 1 % of the rows can't be used.
"""
_FILE: Final = re.compile(r"(?P<file>.+\.toml)(?::(?P<name>.+))?")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "replay",
        help="try policies on recorded calls: an access log, spans, a table",
        description=(
            "Put recorded calls through the real circuit, once for each policy: when would it have "
            "opened, and what would that have cost and spared?"
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="the calls; - for the standard input")
    parser.add_argument(
        "--format", metavar="NAME", help="the file's format, where it isn't recognised"
    )
    parser.add_argument(
        "--map",
        metavar="COLUMNS",
        default="",
        help="which fields are the columns, such as start=ts,duration=ms/1000",
    )
    parser.add_argument("--failed", metavar="RULE", help='which calls failed: "status >= 500"')
    parser.add_argument(
        "--key", metavar="FIELD", help="whom a call went to; the largest are reported each"
    )
    parser.add_argument("--only", metavar="KEY", help="replay the calls to this one alone")
    parser.add_argument(
        "--policy",
        metavar="POLICY",
        action="append",
        default=[],
        help='FILE.toml:NAME, or an expression such as "FailureStreak(5)"; may be repeated',
    )
    parser.add_argument(
        "--present", metavar="POLICY", help="the policy that was in force, as for --policy"
    )
    parser.add_argument(
        "--sweep",
        metavar="GRID",
        action="append",
        default=[],
        help='vary a number of the first policy: "FailureRate=0.1..0.9/9"; may be repeated',
    )
    parser.add_argument(
        "--outage",
        metavar="FROM..TO",
        action="append",
        type=_outage,
        help="when the dependency was down (ISO 8601, UTC unless said, or Unix seconds); else a "
        "rule finds it; may be repeated",
    )
    parser.add_argument(
        "--slow", metavar="SECONDS", type=_above_zero, help="a call that takes as long is bad"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=1,
        help="deal the calls to N circuits, as processes without a fleet have them (default 1)",
    )
    parser.add_argument(
        "--sampled",
        metavar="SHARE",
        type=_share,
        default=None,
        help="the share of all calls that the file holds, drawn by chance, such as 0.1 (default: "
        "what a recording says of itself, else 1)",
    )
    parser.add_argument(
        "--routes", metavar="N", type=int, default=10, help="how many keys to report (default 10)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the dice (default 0)")
    parser.add_argument(
        "--processes",
        metavar="N",
        type=int,
        default=0,
        help="processes that share a sweep's work (default: one for each core)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page there")
    parser.add_argument("--plain", action="store_true", help="no colours, even on a terminal")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from fluxgate import replay  # not at import: other commands don't wait for numpy
    from fluxgate.replay import readers

    policies = [_policy(text) for text in options.policy]
    present = None if options.present is None else _policy(options.present)
    trace = readers.read(
        options.file,
        format=options.format,
        columns=options.map,
        failed=options.failed,
        key=options.key,
    )
    replayed = trace
    if options.only is not None:
        try:
            replayed = trace.only(options.only)
        except ValueError as error:
            raise SettingError(str(error), "--only", Mistake.UNKNOWN) from error
    given: dict[str, Any] = {
        "present": present,
        "outages": options.outage,
        "slow": options.slow,
        "workers": options.workers,
        "sampled": options.sampled,
        "seed": options.seed,
    }
    result: replay.ReplayResult | replay.SweepResult
    try:
        if options.sweep:
            base = policies[0] if policies else present or ("the default", DEFAULT)
            result = replay.sweep(
                replayed,
                options.sweep,
                base=base,
                policies=policies,
                processes=options.processes,
                **given,
            )
        else:
            shown = policies or ([] if present else [("the default", DEFAULT)])
            result = replay.replay(replayed, shown, routes=options.routes, **given)
    except (TypeError, ValueError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(str(error)) from error
    _show(result, options)
    return _status(trace)


def _show(result: Any, options: argparse.Namespace) -> None:
    from fluxgate.replay import report  # not at import: see `_run`

    if options.html is not None:
        options.html.write_text(report.render_html(result), encoding="utf-8", newline="\n")
    if options.json:
        print(json.dumps(result.as_json(), indent=2, allow_nan=False))
        return
    report.show(result, plain=options.plain)
    if options.html is not None:
        print(f"The page is in {options.html}.")


def _status(trace: Any) -> int:
    """2 where too many rows can't be used, with the reasons on the standard error."""
    from fluxgate.replay import MOST_UNUSABLE

    rows = len(trace) + trace.unusable
    if not trace.unusable or trace.unusable <= MOST_UNUSABLE * rows:
        return 0
    share = percent(trace.unusable / rows)
    print(f"{number(trace.unusable, 'row')} of {rows:,} ({share}) can't be used:", file=sys.stderr)
    for why, count in sorted(trace.rejected.items(), key=lambda pair: -pair[1]):
        print(f"  {count:,}  {why}", file=sys.stderr)
    return 2


def _policy(text: str) -> tuple[str, Policy]:
    """A policy and what it is called, from `FILE.toml:NAME` or an expression.

    Of a file's entry the policy alone is taken: neither listeners nor the state that it starts in.

    Raises:
        ConfigError: it can't be read, or the file has no such circuit.
    """
    match = _FILE.fullmatch(text)
    if match is None:
        tripper = config.parse("tripper", text)
        try:
            return text, Policy(tripper=tripper)
        except ValueError as error:
            raise SettingError(str(error), "--policy") from error
    file, name = match["file"], match["name"]
    found = config.load(file)
    if name is None:
        if len(found.names) != 1:
            known = f": {', '.join(found.names)}" if found.names else ""
            raise SettingError(
                f"say which of its circuits is meant, as {file}:NAME{known}", file, Mistake.UNKNOWN
            )
        (name,) = found.names
    if found.entry(name) is None:
        raise SettingError(
            f"no entry for {name!r}{did_you_mean(name, found.names)}", file, Mistake.UNKNOWN
        )
    return f"{file}:{name}", found.make(name).policy


def _outage(text: str) -> tuple[float, float]:
    begin, dots, end = text.partition("..")
    if not dots:
        raise argparse.ArgumentTypeError(f"{text!r}: write FROM..TO")
    outage = _moment(begin), _moment(end)
    if not outage[0] < outage[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: it must begin before it ends")
    return outage


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 2026-11-27T14:02:00, with +01:00 or Z where it isn't UTC, "
            "or Unix seconds"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _above_zero(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no share of calls drawn by chance (0-1); a sample that prefers failures "
            "(tail sampling) can't be replayed, since it overstates them"
        )
    return share
