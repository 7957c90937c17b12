"""The operator's verbs of a fleet, for command lines: `python -m fluxgate fleet`, `manage.py`.

    run("redis://redis.internal:6379/0", "open", ["payments"], command="shop open")

They read and move the circuits in the store, without taking part in the fleet themselves.
"""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TextIO

from fluxgate._controls import Said, said
from fluxgate._engine.transitions import Event
from fluxgate._naming import printable
from fluxgate._settings.errors import did_you_mean
from fluxgate._words import seconds as in_seconds
from fluxgate._words import state as in_words
from fluxgate.cli._fleet import circuits, report_text, watch
from fluxgate.errors import ConfigError, FluxgateError
from fluxgate.fleet import Fleet
from fluxgate.fleet._by_hand import set_by_hand
from fluxgate.fleet._url import open_store
from fluxgate.fleet.store import Store, StoreError, circuits_in

__all__ = ["SETTING", "TIMED", "VERBS", "UnknownCircuitError", "run", "user"]

SETTING: Final = ("open", "reset", "disable")
"""The verbs that set circuits, and take one name or more."""
TIMED: Final = ("open", "disable")
"""Those of them that may end by themselves."""
VERBS: Final = ("list", "show", *SETTING, "watch")
"""All verbs; `show` takes one name."""

_EVENTS: Final = {"open": Event.FORCE_OPEN, "reset": Event.RESET, "disable": Event.DISABLE}


class UnknownCircuitError(FluxgateError):
    """No process has reported a circuit of that name."""


def run(
    fleet: Fleet | str,
    verb: str,
    names: Sequence[str] = (),
    *,
    command: str,
    as_json: bool = False,
    plain: bool = False,
    seconds: float | None = None,
    note: str | None = None,
    by: str | None = None,
    known: Sequence[str] = (),
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> None:
    """Do what one verb says.

    `watch` returns when it is interrupted (Ctrl+C). A name that is to be set and that no process
    has reported yet is set nevertheless, for it may be meant for a deployment to come; `err` says
    so.

    Args:
        fleet: a fleet, or its URL. A file of SQLite must be there: it is the processes' to make.
        verb: one of `VERBS`.
        names: circuits, for `show` one, for those of `SETTING` one or more.
        command: the command as it was given; it is the note of what is set without one.
        as_json: whether to write JSON.
        plain: no colours, even on a terminal.
        seconds: after which `open` and `disable` end by themselves; None, they don't.
        note: why a circuit is set.
        by: who sets it; by default the user of the operating system.
        known: names that the caller knows to be circuits, for "did you mean".
        out: where to write; standard output by default.
        err: where notes go; standard error by default.

    Raises:
        UnknownCircuitError: `show` of a name that no process has reported.
        ConfigError: the fleet or an argument can't be used.
        StoreError: the store can't be reached or used.
    """
    if verb not in VERBS:
        raise ConfigError(f"{verb!r} is no verb of a fleet; known are {', '.join(VERBS)}")
    if verb in SETTING and not names:
        raise ConfigError(f"{verb} takes one name or more")
    if verb not in SETTING and len(names) != (verb == "show"):
        raise ConfigError(f"{verb} takes {'one name' if verb == 'show' else 'no name'}")
    if any(not name for name in names):
        raise ConfigError("a circuit's name can't be empty")
    if seconds is not None and verb not in TIMED:
        raise ConfigError(f"seconds go with {' and '.join(TIMED)}, not with {verb}")
    if verb not in SETTING and (note is not None or by is not None):
        raise ConfigError(f"a note, and who, go with {', '.join(SETTING)}, not with {verb}")
    words = said(
        seconds=seconds,
        note=command if note is None else note,
        by=user() if by is None else by,
    )
    to: TextIO = sys.stdout if out is None else out
    notes: TextIO = sys.stderr if err is None else err
    store = fleet._open_again() if isinstance(fleet, Fleet) else open_store(fleet, existing=True)
    try:
        if verb in SETTING:
            for name in names:
                _set(store, name, verb, words, known, to, notes)
        elif verb == "show":
            _show(store, names[0], as_json, known, to)
        elif verb == "list":
            _list(store, as_json, plain, to)
        else:
            _watch(store, as_json, plain, to, notes)
    finally:
        with suppress(StoreError):
            store.close()


def _set(
    store: Store,
    name: str,
    verb: str,
    words: Said,
    known: Sequence[str],
    out: TextIO,
    err: TextIO,
) -> None:
    (before,) = store.read([name])
    if not before.known:
        err.write(f"note: set for later, since {_unreported(store, name, known)}\n")
    view = set_by_hand(store, name, _EVENTS[verb], words)
    ends = "" if words.seconds is None else f" for {in_seconds(words.seconds)}"
    out.write(f"{printable(name, None)}: {in_words(view.state)}{ends} (epoch {view.epoch})\n")


def user() -> str | None:
    """The user of the operating system; None where it has no name, as in some containers."""
    try:
        return " ".join(getpass.getuser().split()) or None
    except (OSError, KeyError, ImportError):
        return None


def _unreported(store: Store, name: str, known: Sequence[str]) -> str:
    names = sorted({*circuits_in(store), *known} - {name})
    return f"no process has reported a circuit {printable(repr(name), None)} yet" + did_you_mean(
        name, names
    )


def _show(store: Store, name: str, as_json: bool, known: Sequence[str], out: TextIO) -> None:
    (view,) = store.read([name])
    if not view.known:
        raise UnknownCircuitError(_unreported(store, name, known))
    details = circuits.details(store, view)
    out.write(
        (json.dumps(details, indent=2) if as_json else report_text.of_details(details)) + "\n"
    )


def _list(store: Store, as_json: bool, plain: bool, out: TextIO) -> None:
    if as_json:
        rows = [row._asdict() for row in circuits.look_at(store).rows]
        out.write(json.dumps({"circuits": rows}, indent=2) + "\n")
        return
    look = circuits.look_at(store)
    rich = None if plain else _rich(out)
    if rich is None:
        out.write(report_text.table(look) + "\n")
    else:
        rich.show(look, out)


def _watch(store: Store, as_json: bool, plain: bool, out: TextIO, err: TextIO) -> None:
    watched = watch.Watch(store)
    rich = None if plain or as_json else _rich(out)
    if rich is None:
        watch.lines(watched, out, err, as_json=as_json)
    else:
        rich.show_live(watched.look, watched.wait, out)


def _rich(out: TextIO) -> Any:
    """The module that writes in colours; None where there is no terminal, or no rich."""
    if not out.isatty():
        return None
    try:
        import fluxgate.cli._fleet.report_rich as report_rich
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        return None
    return report_rich
