"""The store's protocol: what it keeps of a circuit, and the verbs that read and change it.

A store keeps, for each circuit name:

- its **head**: epoch, state, deadline, reopens, reason and the author of the last move;
- its **window**: counts in buckets by the store's own clock. They belong to the epoch, and begin
  anew with the next one;
- its **witnesses**: which processes have reported calls, and which bad calls, in that window;
- its **leases**: tokens of half-open probes with their deadlines, and the probes' outcomes;
- **reports** of the processes: a few words each, for people, and the votes of those that have
  opened by themselves. One that isn't renewed within `REPORT_TTL` is gone.

The rules that every store keeps (the contract tests hold all of them to it):

1. The highest epoch wins. A move makes it `max(stored + 1, known + 1, server ms)`; a re-assertion
   after a loss brings the caller's own back. So order and repetition do not matter.
2. `move` is a compare-and-set on the epoch: of those who move one epoch, one wins.
3. A delta counts in the epoch that it was counted in, or not at all: the reply says which.
4. A lease is granted while fewer than `slots` are live; an outcome counts with a live token of
   the same epoch, once.
5. The store's clock is the only one. Durations travel as milliseconds, to and fro.
6. What can't be read is as good as absent, and written anew.

Deltas count in a circuit that is closed or metrics-only; those of probes count with their token.

Stores are used by one thread (the flusher), but for `wait` (the listener), and `wake` and `close`
(anybody). They may raise `StoreError` and nothing else.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote, unquote

from fluxgate.errors import FluxgateError
from fluxgate.state import State

__all__ = [
    "Bucket",
    "Counts",
    "Exchange",
    "Hint",
    "Move",
    "Probe",
    "Report",
    "Shape",
    "Store",
    "StoreBusy",
    "StoreError",
    "View",
    "circuits_in",
    "key_of",
    "name_of",
    "report_of",
    "stamped",
]

VERSION: Final = 1
"""The version of what is stored: part of every key, so that two versions don't meet."""
MAX_THRESHOLDS: Final = 4
"""How many slow-call thresholds a merged window counts by."""
MAX_REPORT: Final = 112
"""Bytes of a process's report, at most; 128 with its time."""
REPORT_TTL: Final = 10_000
"""Milliseconds for which a report counts; a process renews it once a second while it has one."""
REPORT_KEPT: Final = 600_000
"""Milliseconds after which a report may be deleted: until then, one can ask for it."""
MAX_REASON: Final = 400
"""Characters of a reason, at most."""
MAX_GRANTS: Final = 64
"""Leases that one exchange is granted, at most."""
MAX_COUNT: Final = 2**31 - 1
"""No count is above this."""
MAX_DURATION: Final = 10**12
"""Milliseconds that a state lasts, at most: as long as a breaker's own may last."""
MAX_EPOCH: Final = 2**52
"""No epoch is above this: milliseconds since 1970 reach it in 140,000 years."""
BURST_GAP: Final = 1_500
"""Milliseconds without a bad call, after which the next begins a burst of their own."""
OTHER_SHAPE: Final = 60_000
"""Milliseconds for which a window that nobody adds to keeps counts of another shape out."""
MIN_TTL: Final = 600_000
"""Milliseconds for which a circuit that nobody touches is kept, at least."""
DAY: Final = 86_400_000
"""Milliseconds for which a state without a deadline is kept, once nobody touches it."""

RESERVED: Final = "\0"
"""Names that begin so are no circuits: what processes and consoles keep beside them."""

LETTERS: Final = {
    State.CLOSED: "C",
    State.OPEN: "O",
    State.HALF_OPEN: "H",
    State.METRICS_ONLY: "M",
    State.DISABLED: "D",
    State.FORCED_OPEN: "F",
}
"""States as they are stored."""
STATES: Final = {letter: state for state, letter in LETTERS.items()}


class StoreError(FluxgateError):
    """The store can't be reached or used now; nothing that it says may name a secret."""


class StoreBusy(StoreError):
    """Somebody else has the store for the moment. Nothing was done; the next try may go well."""


class Counts(NamedTuple):
    """Numbers of calls: of a delta, of a bucket, of an epoch's probes.

    Attributes:
        calls: successes and failures.
        failures: those that failed.
        milliseconds: how long all of them took together.
        slow: for each threshold of the shape, how many took as long or longer.
    """

    calls: int = 0
    failures: int = 0
    milliseconds: int = 0
    slow: tuple[int, ...] = ()


class Bucket(NamedTuple):
    """The calls of one slice of the store's time; slice `tick` begins at `tick × width` s."""

    tick: int
    counts: Counts


class Shape(NamedTuple):
    """How a circuit's window is kept.

    Attributes:
        width: seconds of a bucket.
        keep: how many buckets are kept, the current one included.
        calls: the older buckets go once the others hold so many calls; 0, only time counts.
        thresholds: what the slow calls are counted by (microseconds, ascending).
    """

    width: int
    keep: int
    calls: int
    thresholds: tuple[int, ...]

    @property
    def label(self) -> str:
        """Label of the shape: counts of two processes are added only if it is the same."""
        return ".".join(map(str, (self.width, *self.thresholds)))


class Probe(NamedTuple):
    """The outcome of a leased probe; one without calls only gives its slot back.

    Attributes:
        token: the lease's number, as the store gave it.
        counts: the probe's own call.
    """

    token: int
    counts: Counts = Counts()


class Exchange(NamedTuple):
    """A request to the store: a process sends counts of a circuit, and gets the circuit's view.

    Attributes:
        name: the circuit's name.
        epoch: the epoch that the counts belong to; 0 before the first move.
        shape: how the window is kept.
        delta: calls since the last exchange.
        witness: whether the delta holds what could make the circuit open.
        wants: how many leases it asks for.
        slots: how many may be live in the whole fleet.
        lease: milliseconds of a lease.
        probes: outcomes of leased probes.
        report: a few words about this process, of at most `MAX_REPORT` bytes; None: as it was.
        ttl: milliseconds for which the circuit is kept when nobody touches it any more.
    """

    name: str
    epoch: int
    shape: Shape
    delta: Counts = Counts()
    witness: bool = False
    wants: int = 0
    slots: int = 0
    lease: int = 0
    probes: tuple[Probe, ...] = ()
    report: str | None = None
    ttl: int = MIN_TTL


class Move(NamedTuple):
    """A change of a circuit's state.

    Attributes:
        name: the circuit's name.
        expected: the epoch that it moves on from; None: whichever (a control by hand).
        known: the highest epoch that the caller has seen.
        state: the state to come.
        remaining: milliseconds until it may be probed, or until what was set by hand is over;
            None: until somebody changes it.
        reopens: how often probing has failed since it was last closed.
        reason: why, of at most `MAX_REASON` characters.
        reassert: it brings `known` back after a loss, and is not a new epoch (half-open, it is
            one above, which ends the leases that were lost).
        ttl: as in `Exchange`; a deadline prolongs it.
    """

    name: str
    expected: int | None
    known: int
    state: State
    remaining: int | None = None
    reopens: int = 0
    reason: str = ""
    reassert: bool = False
    ttl: int = MIN_TTL


class Report(NamedTuple):
    """A process, and what it says of itself.

    Attributes:
        process: its name.
        text: its report.
        age: milliseconds since it was written.
    """

    process: str
    text: str
    age: int = 0


class View(NamedTuple):
    """A circuit as the store has it, which is the truth.

    Attributes:
        name: the circuit's name.
        known: whether the store has it.
        epoch: the number of its last move; 0 before the first.
        state: its state.
        remaining: milliseconds until it may be probed, or until what was set by hand is over;
            None where there is no deadline.
        reopens: how often probing has failed since it was last closed.
        reason: why it is in this state.
        author: the process that moved it there.
        reporter: the process that last reported calls.
        tick: the store's current bucket.
        label: the label of the shape that the buckets are kept in.
        buckets: the window, oldest first.
        witnesses: processes with a bad call in the window: a failure or a slow call.
        reporters: processes with calls in the window.
        burst: milliseconds since the first of the latest series of bad calls; None without any.
        probes: outcomes of the epoch's probes.
        live: live leases.
        tokens: leases granted by this exchange.
        applied: whether the delta of this exchange was counted; an empty one is not.
        won: whether this move was made.
    """

    name: str
    known: bool = False
    epoch: int = 0
    state: State = State.CLOSED
    remaining: int | None = None
    reopens: int = 0
    reason: str = ""
    author: str = ""
    reporter: str = ""
    tick: int = 0
    label: str = ""
    buckets: tuple[Bucket, ...] = ()
    witnesses: int = 0
    reporters: int = 0
    burst: int | None = None
    probes: Counts = Counts()
    live: int = 0
    tokens: tuple[int, ...] = ()
    applied: bool = False
    won: bool = False


class Hint(NamedTuple):
    """A push: that circuit may have moved.

    Attributes:
        key: the circuit's; an empty one means that any of them may have moved.
        epoch: the one that it moved to; 0 where nobody says.
        author: the process that moved it; empty where nobody says.
    """

    key: str
    epoch: int = 0
    author: str = ""


class Store(Protocol):
    """Where the fleet's circuits are kept. Every method may raise `StoreError`."""

    process: str
    """This process, as witnesses, authors and reports name it: readable, unique, short."""

    def exchange(self, requests: list[Exchange]) -> list[View | StoreError]:
        """Hand in and read: one view a request, in their order.

        A request that failed alone is a `StoreError` in its place. Raises where all have failed;
        then nobody knows which of them were counted.
        """
        ...

    def move(self, move: Move) -> View:
        """Move a circuit if its epoch is as expected, and push that to every process."""
        ...

    def read(self, names: list[str]) -> list[View]:
        """Read circuits; changes nothing but the time of their expiry."""
        ...

    def scan(self) -> list[str]:
        """The names of all circuits that the store has."""
        ...

    def reports(self, names: list[str], within: int = REPORT_TTL) -> list[list[Report]]:
        """The last report of each process on each of these circuits, in the order of the names.

        Args:
            names: the circuits.
            within: milliseconds; older reports are left out. At most `REPORT_KEPT`.
        """
        ...

    def wait(self, timeout: float) -> list[Hint]:
        """Pushes that have come, waiting at most so many seconds for the first one.

        After each (re)connection the first is a `Hint("")`: pushes may have been missed.
        """
        ...

    def wake(self) -> None:
        """End a `wait` that is going on."""
        ...

    def close(self) -> None:
        """Give back connections and files. What is called afterwards opens them anew."""
        ...

    def before_fork(self) -> None:
        """Close what a child must not inherit, and let nobody in until the fork is over."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Drop what the parent had open, without a farewell, and take a name of its own."""
        ...


def circuits_in(store: Store) -> list[str]:
    """The names of all circuits that a store has, sorted."""
    return sorted(name for name in store.scan() if not name.startswith(RESERVED))


def stamped(text: str, now: int) -> str:
    """A report with the store's time, as SQLite and Redis keep it.

    Args:
        text: the report.
        now: the store's time, milliseconds.
    """
    return f"{now} {text}"


def report_of(process: str, stamped: str, now: int, within: int = REPORT_TTL) -> Report | None:
    """A report from what is kept; None where it is too old, or no report.

    Args:
        process: who reported it.
        stamped: what is kept, as `stamped()` made it.
        now: the store's time, milliseconds.
        within: milliseconds for which a report is believed.
    """
    at, space, text = stamped.partition(" ")
    if not (space and text and at.isdecimal() and len(at) < 19):
        return None
    age = max(now - int(at), 0)
    return Report(process, text, age) if age < within else None


_LONGEST: Final = 96
_CUT: Final = re.compile(r"[A-Za-z0-9_.~/:@%-]{71}\*[0-9a-f]{24}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.~/:@-]")


def key_of(name: str) -> str:
    """A name as it stands in keys and pushes: escaped, bounded; a long one ends in a digest.

    What `name_of` gives for a key leads to that key again.
    """
    if _CUT.fullmatch(name):
        return name
    key = quote(name, safe="/:@", errors="surrogatepass") if _UNSAFE.search(name) else name
    if len(key) <= _LONGEST:
        return key
    digest = blake2b(name.encode(errors="surrogatepass"), digest_size=12).hexdigest()
    return f"{key[: _LONGEST - 25]}*{digest}"  # a star is in no escaped name


def name_of(key: str) -> str:
    """The name of a key; of a long name, the key itself: its beginning and the digest.

    So it is for a key that is nobody's (`%ff`), which whoever can write to a store may have made.
    """
    if _CUT.fullmatch(key):
        return key
    try:
        return unquote(key, errors="surrogatepass")
    except UnicodeDecodeError:
        return key
