"""Records that pages and JSON are made of: plain values, already checked, not yet escaped.

Names and sentences come from circuits and people, so whoever writes them into a page escapes them.
Control characters, bidirectional marks and lone surrogates are escapes in them already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from fluxgate.signals import Reason
from fluxgate.state import State

MINUTES: Final = 30
"""Minutes that a strip covers."""
PAGE: Final = 200
"""Rows of a page."""
PLAIN_PAGE: Final = 100
"""Rows of a page for a client that doesn't take gzip: 60 KB hold about as many, and a poll is to
have no more."""

Strip: TypeAlias = tuple[State | None, ...]
"""The worst state in each of the last `MINUTES` minutes, oldest first; None: unknown."""


class Row(NamedTuple):
    """A circuit in the overview.

    Attributes:
        id: a digest of the name, for URLs: 24 hexadecimal digits.
        name: its name, printable and cut to 200 characters.
        state: its state; in a fleet that of the fleet.
        open_in: in how many processes it refuses calls; None without a fleet.
        processes: how many processes report; None without a fleet.
        since: when it entered the state, seconds since the epoch; None where nobody knows.
        reason: why; None where there is nothing to say.
        calls_rate: calls a second, lately; None where it is not known yet.
        failed: the share of the calls in the window that failed (ratio 0-1); None without calls.
        slow: the share that was slow, likewise; None, too, where nothing counts slow calls.
        refused_rate: refusals a second, lately; None where it is not known yet.
        retry_after: seconds until it probes; None where it doesn't, or nobody knows.
        reopens: how often probing has failed since it was last closed.
        shadow: why the shadow tripper, or a metrics-only circuit, would have opened it; None: it
            would not.
        strip: the last half hour.
        reverts_in: seconds until what was set by hand ends by itself; None: it doesn't.
    """

    id: str
    name: str
    state: State
    open_in: int | None = None
    processes: int | None = None
    since: float | None = None
    reason: Reason | None = None
    calls_rate: float | None = None
    failed: float | None = None
    slow: float | None = None
    refused_rate: float | None = None
    retry_after: float | None = None
    reopens: int = 0
    shadow: Reason | None = None
    strip: Strip = (None,) * MINUTES
    reverts_in: float | None = None


class Overview(NamedTuple):
    """The overview: one page of rows, and the head above them.

    Attributes:
        service: the service's name; empty where nobody gave one.
        host: the host of the process that answers.
        pid: that process.
        processes: how many processes of the fleet report; None without one.
        absent: how many were there lately and have gone without a farewell; 0 without a fleet.
        age: seconds since the data was read.
        error: why the data could not be read anew, where it is older than it should be; else None.
        counts: circuits by state, of all pages, whatever the filter.
        rows: this page, worst first.
        total: how many circuits the filter leaves.
        page: the number of this page, from 1.
        pages: how many there are, 1 or more.
        filter: the text that names must contain; empty: all.
        fleet: whether the source is a fleet.
        at: when the data was read, seconds since the epoch.
    """

    service: str
    host: str
    pid: int
    processes: int | None
    absent: int
    age: float
    error: str | None
    counts: Mapping[State, int]
    rows: tuple[Row, ...]
    total: int
    page: int
    pages: int
    filter: str
    fleet: bool
    at: float


class Change(NamedTuple):
    """A transition of a circuit.

    Attributes:
        at: when, seconds since the epoch.
        old: the state before; None where nobody saw it.
        new: the state after.
        reason: the clause that decided, what it measured, and who did it.
        origin: `local`, `fleet` or `peer`, as `fluxgate.Origin`.
        errors: the last errors with their counts, most frequent first.
    """

    at: float
    old: State | None
    new: State
    reason: Reason
    origin: str = "local"
    errors: tuple[tuple[str, int], ...] = ()


class ProcessRow(NamedTuple):
    """A process of the fleet in the detail of a circuit.

    Attributes:
        process: its name in the fleet; unique.
        host: its host; empty where the name has none.
        pid: its process id there; None where the name has none.
        state: the circuit's state there; None where nobody knows.
        calls: calls of the circuit there since it began; None where it doesn't report any, as
            while it is quietly closed.
        failures: those that failed, likewise.
        refused: refusals, likewise.
        reason: the clause that decided there; None where there is nothing to say.
        age: seconds since it was last heard of.
        absent: whether it has gone without a farewell.
    """

    process: str
    host: str
    pid: int | None
    state: State | None
    calls: int | None
    failures: int | None
    refused: int | None
    reason: Reason | None
    age: float
    absent: bool


class Action(NamedTuple):
    """A control of a circuit.

    Attributes:
        action: `open_for`, `force_open`, `disable`, `metrics_only` or `reset`.
        effect: what it does now, in a sentence: `refuses about 120 calls/s in 8 processes`.
        allowed: whether this actor may use it here.
        why_not: why not, in a sentence; None where it may.
        asks_name: whether the circuit's name must be typed.
        timed: whether it takes a duration; `open_for` needs one, `reset` has none.
    """

    action: str
    effect: str
    allowed: bool
    why_not: str | None
    asks_name: bool
    timed: bool


class Entry(NamedTuple):
    """An attempt to use a control, as the audit has it, denied ones included.

    Attributes:
        at: when, seconds since the epoch.
        actor: who; `-` where nobody was let in.
        address: where the request came from; None where nobody knows.
        circuit: the circuit's name; empty where there is none of that id.
        id: the circuit's id.
        action: the control, as it was asked for.
        seconds: for how long; None: until reset, or it takes no duration.
        note: why, as the actor said; None where it didn't.
        before: the state before; None where there is no such circuit.
        after: the state after; None where nothing was done.
        outcome: `done`, `repeated` (the id was known, so nothing was done), `denied`, `invalid`
            (an argument can't be used) or `failed` (the fleet's store could not be reached).
        why: why it was not done; None where it was.
        operation: the id of the operation; None where there was none.
    """

    at: float
    actor: str
    address: str | None
    circuit: str
    id: str
    action: str
    seconds: float | None
    note: str | None
    before: State | None
    after: State | None
    outcome: str
    why: str | None
    operation: str | None


class Detail(NamedTuple):
    """A circuit in full.

    Attributes:
        row: as in the overview.
        changes: transitions, newest first.
        evidence: sentences, such as `42 of 100 failed; opens at 50`.
        policy: its policy in the words of `python -m fluxgate explain`, by title; empty where no
            breaker of this process has the name.
        totals: lifetime counts of this process by name (`successes`, `failures`, …); likewise.
        settings: expressions to paste, by name; likewise.
        processes: the processes of the fleet; empty without one.
        audit: the latest attempts on this circuit, newest first.
        actions: the controls, those that are not allowed included.
        errors: the last errors with their counts, most frequent first; messages are in them only
            where the console was made with `error_messages=True`.
    """

    row: Row
    changes: tuple[Change, ...]
    evidence: tuple[str, ...]
    policy: tuple[tuple[str, tuple[str, ...]], ...]
    totals: Mapping[str, int]
    settings: Mapping[str, str]
    processes: tuple[ProcessRow, ...]
    audit: tuple[Entry, ...]
    actions: tuple[Action, ...]
    errors: tuple[tuple[str, int], ...]


class Dialog(NamedTuple):
    """The dialog of one control; it is shown again with what was given where that can't be used.

    Attributes:
        row: the circuit.
        action: the control.
        operation: the id of the operation: sending the form twice does it once.
        token: what proves that this page made the form; good for this actor and this operation.
        note: what was given as the reason; empty at first.
        seconds: the duration that was given or is proposed; None: until reset.
        problems: why it can't be done as given, by field (`note`, `seconds`, `name`; empty: as a
            whole).
    """

    row: Row
    action: Action
    operation: str
    token: str
    note: str = ""
    seconds: float | None = 900.0
    problems: Mapping[str, str] = {}
