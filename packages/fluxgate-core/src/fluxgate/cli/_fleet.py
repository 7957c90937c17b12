"""The command `python -m fluxgate fleet`: the circuits of a fleet, as its store has them."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from typing import Any, Final

from fluxgate._naming import printable
from fluxgate.fleet._url import open_store
from fluxgate.fleet._verdict import read_reason, write_reason
from fluxgate.fleet._window import added
from fluxgate.fleet.store import DAY, MAX_THRESHOLDS, MIN_TTL, Move, Store, StoreError, View
from fluxgate.signals import Reason
from fluxgate.state import State

_MOVES: Final = {"open": State.FORCED_OPEN, "reset": State.CLOSED, "disable": State.DISABLED}
_COLUMNS: Final = ("name", "state", "epoch", "retry_after", "calls", "failures", "reporter")
_GLANCE: Final = 1.0  # seconds between two looks of `watch`, where no push comes


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "fleet",
        help="show and set the circuits that many processes share",
        description="Show and set the circuits of a fleet, as its store has them.",
    )
    parser.add_argument("url", metavar="URL", help="such as redis://host:6379/0 or sqlite:///path")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, words in (
        ("list", "every circuit"),
        ("show", "one circuit, and what each process says of it"),
        ("open", "refuse every call, until reset"),
        ("reset", "close, and start afresh"),
        ("disable", "let every call pass and count nothing, until reset"),
        ("watch", "every circuit, and then each change, until interrupted"),
    ):
        each = verbs.add_parser(verb, help=words, description=f"{words[0].upper()}{words[1:]}.")
        if verb == "show":
            each.add_argument("names", metavar="NAME", nargs=1)
        elif verb in _MOVES:
            each.add_argument("names", metavar="NAME", nargs="+")
        if verb not in _MOVES:
            each.add_argument("--format", choices=("text", "json"), default="text")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    store = open_store(options.url)
    try:
        if options.verb in _MOVES:
            return _set(store, options.names, options.verb)
        as_json = options.format == "json"
        if options.verb == "show":
            return _show(store, options.names[0], as_json)
        if options.verb == "watch":
            with suppress(KeyboardInterrupt):
                _watch(store, as_json)
            return 0
        circuits = _circuits(store)
        print(json.dumps({"circuits": circuits}, indent=2) if as_json else _table(circuits))
        return 0
    finally:
        with suppress(StoreError):
            store.close()


def _set(store: Store, names: list[str], verb: str) -> int:
    state = _MOVES[verb]
    reason = write_reason(Reason(f"python -m fluxgate fleet {verb}"))
    ttl = MIN_TTL if state is State.CLOSED else DAY
    for name in names:
        view = store.move(Move(name, None, 0, state, reason=reason, ttl=ttl))
        print(f"{printable(name, None)}: {view.state.replace('_', ' ')} (epoch {view.epoch})")
    return 0


def _show(store: Store, name: str, as_json: bool) -> int:
    (view,) = store.read([name])
    if not view.known:
        print(f"no process has reported a circuit {printable(name, None)!r}")
        return 1
    reports = {report.process: report.text for report in store.reports(name)}
    details = {
        **_row(view),
        "reason": str(read_reason(view.reason)) if view.reason else None,
        "reopens": view.reopens,
        "author": view.author or None,
        "witnesses": view.witnesses,
        "reporters": view.reporters,
        "probes": view.live,
        "reports": reports,
    }
    if as_json:
        print(json.dumps(details, indent=2))
        return 0
    width = max(map(len, details))
    for key, value in details.items():
        if key != "reports":
            print(f"{key:{width}}  {_cell(value)}")
    for process, text in reports.items():
        print(f"  {printable(process, None)}: {printable(text, None)}")
    return 0


def _watch(store: Store, as_json: bool) -> None:
    seen: dict[str, dict[str, Any]] = {}
    while True:
        for row in _circuits(store):
            # Of numbers that run, none is a change.
            what = {key: row[key] for key in ("state", "epoch", "calls", "failures", "reporter")}
            if seen.get(row["name"]) != what:
                seen[row["name"]] = what
                line = "  ".join(_cell(row[key]) for key in _COLUMNS)
                print(json.dumps(row) if as_json else line, flush=True)
        store.wait(_GLANCE)


def _circuits(store: Store) -> list[dict[str, Any]]:
    names = sorted(store.scan())
    return [_row(view) for view in store.read(names) if view.known] if names else []


def _row(view: View) -> dict[str, Any]:
    counts = added((bucket.counts for bucket in view.buckets), MAX_THRESHOLDS)
    if view.state is State.HALF_OPEN:
        counts = view.probes
    left = None if view.remaining is None else view.remaining / 1000
    return {
        "name": view.name,
        "state": str(view.state),
        "epoch": view.epoch,
        "retry_after": left if view.state is State.OPEN else None,
        "calls": counts.calls,
        "failures": counts.failures,
        "reporter": view.reporter or None,
    }


def _table(circuits: list[dict[str, Any]]) -> str:
    rows = [_COLUMNS, *(tuple(_cell(each[key]) for key in _COLUMNS) for each in circuits)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else printable(str(value), None)
