"""A circuit the naive way, written from `docs/design.md` and the docstrings of what users call.

It knows the rules and none of the engine's shortcuts: no lanes, no journals, no folding ahead of
time, no running totals. It writes down each call, and looks at all of them again whenever something
has to be decided or read. It imports nothing of the engine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fluxgate import FluxgateError

# -- expressions, as plain tuples

Spec = tuple[Any, ...]

BY_HAND = ("metrics_only", "disabled", "forced_open")
RECORDING = ("closed", "metrics_only")


class Transient(Exception):
    """An error that only a predicate knows."""


def is_transient(error: Exception) -> bool:
    return isinstance(error, Transient)


KINDS: dict[str, type[Exception]] = {
    "builtins.ConnectionError": ConnectionError,
    "builtins.TimeoutError": TimeoutError,
    "builtins.LookupError": LookupError,
}


def text(spec: Spec) -> str:
    """The expression that a spec stands for, as in a settings file."""
    match spec:
        case ("and", left, right):
            return f"({text(left)} & {text(right)})"
        case ("or", left, right):
            return f"({text(left)} | {text(right)})"
        case ("not", inner):
            return f"~{text(inner)}"
        case (kind, *arguments):
            return f"{kind}({', '.join(map(repr, arguments))})"
    raise AssertionError(spec)


def tracks(spec: Spec, error: BaseException) -> bool:
    """Whether a tracker matches an error."""
    match spec:
        case ("and", left, right):
            return tracks(left, error) and tracks(right, error)
        case ("or", left, right):
            return tracks(left, error) or tracks(right, error)
        case ("not", inner):
            return not tracks(inner, error)
        case ("All",):
            return True
        case ("TypeOf", *names):
            return isinstance(error, tuple(KINDS[name] for name in names))
        case ("CausedBy", *names):
            return any(tracks(("TypeOf", *names), each) for each in causes(error))
        case ("Custom", _):
            return is_transient(error)  # type: ignore[arg-type]
    raise AssertionError(spec)


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on; of groups among them also the members."""
    yield error
    if error.__cause__ is not None:
        yield from causes(error.__cause__)
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from causes(each)


def leaves(error: BaseException) -> list[Exception]:
    """The errors that a tracker is asked about."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error] if isinstance(error, Exception) and not isinstance(error, FluxgateError) else []


ALWAYS, NEVER = ("always",), ("never",)


def fold(spec: Spec, half_open: bool) -> Spec:
    """A tripper as it reads in half-open (or else in closed): its state clauses are decided."""
    match spec:
        case ("Closed",):
            return NEVER if half_open else ALWAYS
        case ("HalfOpened",):
            return ALWAYS if half_open else NEVER
        case ("and" | "or" as both, left, right):
            left, right = fold(left, half_open), fold(right, half_open)
            decides, leaves_it = (NEVER, ALWAYS) if both == "and" else (ALWAYS, NEVER)
            if decides in (left, right):
                return decides
            if left == leaves_it:
                return right
            return left if right == leaves_it else (both, left, right)
    return spec


def clauses(folded: Spec) -> list[Spec]:
    """The clauses of a tripper that has been folded."""
    if folded[0] in ("and", "or"):
        return clauses(folded[1]) + clauses(folded[2])
    return [folded]


def fires_on_success(folded: Spec) -> bool:
    """Whether fast successes alone could make it fire."""
    match folded:
        case ("and", left, right):
            return fires_on_success(left) and fires_on_success(right)
        case ("or", left, right):
            return fires_on_success(left) or fires_on_success(right)
    return folded[0] in ("always", "MinRequests")


def makes_sense(spec: Spec, capacity: float) -> bool:
    """Whether a tripper can do its work with a window of so many calls."""
    closed, half_open = fold(spec, False), fold(spec, True)
    most = max((clause[1] for clause in clauses(closed) if clause[0] == "MinRequests"), default=0)
    return (
        closed != NEVER
        and not fires_on_success(closed)
        and not fires_on_success(half_open)
        and most <= capacity
    )


class Plan(NamedTuple):
    """A policy; strategies as specs."""

    window: Spec
    tripper: Spec
    retry: Spec
    permit: Spec
    slots: int
    timeout: float
    tracker: Spec
    healthy: Spec | None
    judges_results: bool
    cancelled_after: float | None
    shadow: Spec | None

    @property
    def capacity(self) -> float:
        return self.window[1] if self.window[0] == "CountWindow" else math.inf

    @property
    def makes_sense(self) -> bool:
        trippers = [self.tripper] if self.shadow is None else [self.tripper, self.shadow]
        return all(makes_sense(each, self.capacity) for each in trippers)

    @property
    def thresholds(self) -> set[float]:
        return {
            clause[2]
            for spec in (self.tripper, self.shadow)
            if spec is not None
            for half_open in (False, True)
            for clause in clauses(fold(spec, half_open))
            if clause[0] == "SlowRate"
        }

    def delay(self, reopens: int, roll: float) -> float:
        """How long an opening lasts."""
        match self.retry:
            case ("Always",):
                return 0.0
            case ("Cooldown", seconds, jitter):
                pass
            case ("Backoff", initial, multiplier, longest, jitter):
                seconds = min(initial * multiplier**reopens, longest)
            case _:
                return math.inf
        return seconds * (1 + jitter * (2 * roll - 1)) if jitter else seconds

    def share(self, elapsed: float) -> float:
        """The share of the calls that is admitted, so long after the cooldown."""
        match self.permit:
            case ("Random", ratio):
                return ratio
            case ("RampUp", initial, final, duration):
                return initial + (final - initial) * min(elapsed / duration, 1.0)
        return 1.0

    def outcome_of(self, error: BaseException, elapsed: float) -> str:
        """The outcome of a call that raised."""
        if not isinstance(error, Exception):
            limit, exits = self.cancelled_after, (KeyboardInterrupt, SystemExit, GeneratorExit)
            late = limit is not None and elapsed >= limit
            ends = any(isinstance(each, exits) for each in causes(error))
            return "failures" if late and not ends else "cancelled"
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            return "successes"
        left = leaves(error)
        if left and self.healthy is not None:
            left = [each for each in left if not tracks(self.healthy, each)]
            if not left:
                return "successes"
        return "failures" if any(tracks(self.tracker, each) for each in left) else "ignored"


# -- the calls of a window


@dataclass
class Record:
    """One call that succeeded or failed."""

    failed: bool
    elapsed: float
    ended: float
    slow: set[float]


@dataclass
class View:
    """What a tripper judges: the records of a window, and the streak."""

    records: list[Record]
    streak: int

    @property
    def failures(self) -> int:
        return sum(record.failed for record in self.records)

    @property
    def duration(self) -> float:
        return math.fsum(record.elapsed for record in self.records)

    def slow(self, threshold: float) -> int:
        return sum(threshold in record.slow for record in self.records)

    def fires(self, folded: Spec) -> bool:
        total = len(self.records)
        match folded:
            case ("never",):
                return False
            case ("and", left, right):
                return self.fires(left) and self.fires(right)
            case ("or", left, right):
                return self.fires(left) or self.fires(right)
            case ("MinRequests", count):
                return total >= count
            case ("FailureRate", ratio):
                return total > 0 and self.failures / total >= ratio
            case ("SlowRate", ratio, threshold):
                return total > 0 and self.slow(threshold) / total >= ratio
            case ("AvgLatency", threshold):
                return total > 0 and self.duration / total >= threshold
            case ("FailureStreak", count):
                return self.streak >= count
        raise AssertionError(folded)

    def has_evidence(self, folded: Spec) -> bool:
        """Whether each clause can judge about probes."""
        for clause in clauses(folded):
            match clause:
                case ("MinRequests", count):
                    judged = len(self.records) >= count
                case ("FailureStreak", count):
                    last_succeeded = bool(self.records) and not self.records[-1].failed
                    judged = last_succeeded or self.streak >= count
                case _:
                    judged = len(self.records) >= 1
            if not judged:
                return False
        return True


# -- the circuit

Words = tuple[str | None, str | None]
"""A note, and who left it."""

WORDLESS: Words = (None, None)


@dataclass(eq=False)
class Ticket:
    """A call that has been let in; with a deadline, if it is a probe."""

    generation: int
    state: str
    deadline: float | None = None
    settled: bool = False


class Beneath(NamedTuple):
    """What stood when a state was set by hand for a time."""

    state: str
    retry_at: float
    reopens: int
    words: Words


NOTHING_BENEATH = Beneath("closed", -math.inf, 0, WORDLESS)


class Save(NamedTuple):
    """A circuit's state for another process."""

    state: str
    elapsed: float
    left: float | None
    reopens: int
    opened: bool
    trip_words: Words
    wall: float
    reverts_in: float | None
    words: Words


@dataclass
class Model:
    """A circuit, the naive way.

    Attributes:
        roll: what the dice show.
        entered: the probes whose blocks and functions the caller runs in.
        listening: whether a listener hears of each call.
    """

    plan: Plan
    state: str
    now: float
    wall: float = 0.0
    roll: float = 0.0
    generation: int = 0
    reopens: int = 0
    streak: int = 0
    retry_at: float = math.inf
    until: float = math.inf
    beneath: Beneath | None = None
    opened: bool = False
    moved: bool = False
    words: Words = WORDLESS
    trip_words: Words = WORDLESS
    records: list[Record] = field(default_factory=list)
    probes: list[Ticket] = field(default_factory=list)
    entered: list[Ticket] = field(default_factory=list)
    was_firing: bool = False
    shadow_open: bool | None = False
    counts: Counter[str] = field(default_factory=Counter)
    slow: Counter[float] = field(default_factory=Counter)
    duration: float = 0.0
    admitted: int = 0
    signals: list[tuple[str, str, str, bool]] = field(default_factory=list)
    listening: bool = False
    heard: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.settings = self.plan
        self.began = self.cooled_at = self.now

    @property
    def half_open(self) -> bool:
        return self.state == "half_open"

    @property
    def tripper(self) -> Spec:
        return fold(self.settings.tripper, self.half_open)

    @property
    def shadow(self) -> Spec | None:
        spec = self.settings.shadow
        return None if spec is None else fold(spec, self.half_open)

    def view(self) -> View:
        """The calls that the window holds now."""
        window = self.settings.window
        records = self.records
        if self.half_open:
            minimums = [
                c[1] for c in clauses(self.tripper) if c[0] in ("MinRequests", "FailureStreak")
            ]
            size = window[1] if window[0] == "CountWindow" else 100
            records = records[-max([size, *minimums]) :]
        elif window[0] == "CountWindow":
            records = records[-window[1] :]
        else:
            _, seconds, buckets = window
            first = self.now // (seconds / buckets) - buckets + 1
            records = [each for each in records if each.ended // (seconds / buckets) >= first]
        return View(records, self.streak)

    # -- calls

    def acquire(self) -> Ticket | None:
        """Let a call in, or refuse it."""
        if self.state in ("disabled", "forced_open"):
            self.expire()
        if self.state == "open" and self.now >= self.retry_at:
            self.move("half_open", cooled_at=self.retry_at)
        if self.state in ("open", "forced_open"):
            return self.refuse()
        ticket = Ticket(self.generation, self.state)
        if self.half_open and not self.inside_probe():
            self.reclaim()
            if len(self.probes) >= self.settings.slots:
                return self.refuse()
            if not self.roll < self.settings.share(self.now - self.cooled_at):
                return self.refuse()
            ticket.deadline = self.now + self.settings.timeout
            self.probes.append(ticket)
        if self.state != "disabled":
            self.admitted += 1
        return ticket

    def refuse(self) -> None:
        self.counts["rejected"] += 1
        self.heard["rejected"] += self.listening

    def inside_probe(self) -> bool:
        """Whether the caller runs inside a probe that holds its slot."""
        return any(probe in self.probes for probe in self.entered)

    def enter(self, ticket: Ticket) -> None:
        """The caller runs inside that call from now on."""
        self.entered = [each for each in self.entered if not each.settled]
        if ticket in self.probes:
            self.entered.append(ticket)

    def in_probe(self) -> bool:
        """Whether the caller runs inside a probe, also one of a stay that is over."""
        return any(not probe.settled for probe in self.entered)

    def available(self) -> bool:
        """Whether a call made now could be admitted, if the dice are kind."""
        trial = copy(self)
        trial.roll, trial.counts, trial.heard, trial.signals = 0.0, Counter(), Counter(), []
        trial.probes, trial.entered = deepcopy((self.probes, self.entered))
        return trial.acquire() is not None

    def end(self, ticket: Ticket, error: BaseException, elapsed: float) -> None:
        """A call that raised."""
        self.settle(ticket, self.settings.outcome_of(error, elapsed), elapsed)

    def settle(self, ticket: Ticket, outcome: str, elapsed: float) -> None:
        """End a call."""
        counted = self._settle(ticket, outcome, elapsed)
        if counted is not None:
            self.heard[counted] += self.listening

    def _settle(self, ticket: Ticket, outcome: str, elapsed: float) -> str | None:
        """How a call was counted, in words; None, if nothing is counted."""
        if ticket.settled:
            return "ignored"  # its slot was reclaimed, and it was counted then
        ticket.settled = True
        if ticket.deadline is not None:
            if ticket in self.probes:
                self.probes.remove(ticket)
            if self.now >= ticket.deadline:
                outcome = "ignored"  # overdue
        elif ticket.state == "half_open":
            outcome = "ignored"  # a part of a probe, which has an outcome of its own
        if ticket.state == "disabled":
            return None
        if ticket.generation != self.generation:
            outcome = "stale"
        self.counts[outcome] += 1
        if outcome in ("successes", "failures"):
            self.record(outcome == "failures", elapsed)
        return outcome

    def record(self, failed: bool, elapsed: float) -> None:
        """Count a call, and decide."""
        self.duration += elapsed
        slow = {threshold for threshold in self.settings.thresholds if elapsed >= threshold}
        self.slow.update(slow)
        view, tripper, shadow = self.view(), self.tripper, self.shadow
        before = len(view.records)
        fired = self.was_firing and view.fires(tripper)
        if self.shadow_open and not self.half_open and shadow and not view.fires(shadow):
            self.report_shadow(False)  # time has cleared it
        self.records.append(Record(failed, elapsed, self.now, slow))
        self.streak = self.streak + 1 if failed else 0
        view = self.view()
        if self.half_open:
            self.decide(view, failed)
            return

        def matters(folded: Spec) -> bool:
            """Whether this call may have made it fire."""
            return failed or any(
                (clause[0] == "MinRequests" and before < clause[1] <= len(view.records))
                or (clause[0] == "SlowRate" and clause[2] in slow)
                or clause[0] == "AvgLatency"
                for clause in clauses(folded)
            )

        if shadow and (self.shadow_open or matters(shadow)):
            fires = view.fires(shadow)
            if fires != self.shadow_open:
                self.report_shadow(fires)
        if matters(tripper):
            self.was_firing = fired  # what has cleared in between is reported again
            fires = view.fires(tripper)
            if self.state == "metrics_only":
                if fires and not self.was_firing:
                    self.signals.append((self.state, self.state, "would_open", False))
                self.was_firing = fires
            elif fires:
                self.move("open")
                return
        self.expire()

    def decide(self, view: View, failed: bool) -> None:
        """After a probe: what the shadow would do, and what the circuit does."""

        def verdict(folded: Spec) -> bool | None:
            if folded == NEVER:  # the classic rule
                return failed
            return view.fires(folded) if view.has_evidence(folded) else None

        if (shadow := self.shadow) is not None:
            fires = verdict(shadow)
            if fires is not None and fires != self.shadow_open:
                self.report_shadow(fires)
        fires = verdict(self.tripper)
        if fires is not None:
            self.move("open" if fires else "closed")

    def report_shadow(self, fires: bool) -> None:
        self.shadow_open = fires
        kind = "would_open" if fires else "would_close"
        self.signals.append((self.state, self.state, kind, True))

    def reclaim(self) -> None:
        """Take back the slots of probes that are overdue."""
        for probe in list(self.probes):
            assert probe.deadline is not None
            if self.now >= probe.deadline:
                self._settle(probe, "ignored", 0.0)

    def look(self) -> None:
        """What `info()` does beside showing a picture."""
        self.expire()
        self.reclaim()

    # -- moves

    def move(
        self,
        state: str,
        retry_at: float | None = None,
        *,
        words: Words = WORDLESS,
        cooled_at: float | None = None,
    ) -> None:
        """Begin a stay in a state."""
        old = self.state
        if state == "open":
            self.opened = True
            self.trip_words = words
            self.reopens += old == "half_open"
            if retry_at is None:
                retry_at = self.now + self.plan.delay(self.reopens, self.roll)
        elif state == "closed":
            self.reopens = 0
        self.begin(state, -math.inf if retry_at is None else retry_at, words, cooled_at)

    def begin(
        self,
        state: str,
        retry_at: float,
        words: Words,
        cooled_at: float | None = None,
    ) -> None:
        old = self.state
        if state != old:
            self.signals.append((old, state, "transition", False))
        elif self.shadow_open and old in RECORDING:
            self.report_shadow(False)
        self.state, self.settings, self.retry_at, self.words = state, self.plan, retry_at, words
        self.until, self.beneath = math.inf, None
        self.began = self.now
        self.cooled_at = self.now if cooled_at is None else cooled_at
        self.generation += 1
        self.moved = True
        self.records, self.probes, self.was_firing = [], [], False
        self.shadow_open = None if state == "half_open" else False

    def expire(self) -> None:
        """End a state that was set by hand, if its time is over."""
        if self.now < self.until:
            return
        state, retry_at, reopens, words = self.beneath or NOTHING_BENEATH
        forced, cooled_at = self.state == "forced_open", min(self.retry_at, self.now)
        if (state == "open" and self.now >= retry_at) or (state == "closed" and forced):
            state = "half_open"
        refuses = state in ("open", "forced_open")
        self.reopens = reopens
        self.begin(
            state,
            retry_at if refuses else -math.inf,
            words if refuses else self.words,
            cooled_at if forced else None,
        )

    # -- controls

    def control(self, name: str, seconds: float | None, words: Words) -> None:
        self.expire()
        state = {"disable": "disabled", "force_open": "forced_open"}.get(name, name)
        if name == "reset":
            self.streak = 0
            self.move("closed", words=words)
            return
        until = math.inf if seconds is None else self.now + seconds
        beneath = None
        if seconds is not None:
            if self.until < math.inf:
                beneath = self.beneath
            elif self.state != state:
                beneath = Beneath(self.state, self.retry_at, self.reopens, self.words)
        if self.state != state:
            self.move(state, until if state == "forced_open" else None, words=words)
        elif seconds is None and words == WORDLESS and self.until == math.inf:
            return  # nothing was said
        else:
            self.words = words
            if state == "forced_open":
                self.retry_at = until
        self.until, self.beneath, self.moved = until, beneath, True

    def open_for(self, seconds: float, words: Words) -> None:
        self.expire()
        retry_at = self.now + seconds
        if self.state in ("closed", "half_open"):
            self.move("open", retry_at, words=words)
        elif self.state == "open" and retry_at > self.retry_at:
            self.retry_at = retry_at
            if words != WORDLESS:
                self.words = self.trip_words = words

    def update(self, plan: Plan) -> None:
        self.plan = plan
        if self.state in RECORDING:
            old = self.shadow
            self.settings = plan
            if self.shadow != old:
                if self.shadow_open:
                    self.report_shadow(False)
                self.shadow_open = False
            for record in self.records:
                record.slow &= plan.thresholds
            self.expire()

    # -- another process

    def save(self) -> Save:
        return Save(
            self.state,
            self.now - self.began,
            self.retry_after,
            self.reopens,
            self.opened,
            self.trip_words,
            self.wall,
            None if self.until == math.inf else max(self.until - self.now, 0.0),
            self.words,
        )

    def restore(self, save: Save) -> bool:
        """Go on where another circuit was; whether that was done."""
        if self.moved or self.state != "closed":
            return False
        age = max(self.wall - save.wall, 0.0)
        self.opened, self.trip_words = save.opened, save.trip_words
        if save.state == "closed":
            return True
        until = math.inf
        if save.reverts_in is not None and save.state in BY_HAND:
            until = self.now + save.reverts_in - age
        retry_at = -math.inf
        if save.state == "forced_open":
            retry_at = until
        elif save.state == "open":
            if save.left is None:
                retry_at = self.now + self.plan.delay(save.reopens, self.roll)
            else:
                retry_at = self.now + save.left - age
        words = save.trip_words if save.state == "open" and save.opened else save.words
        self.streak, self.reopens = 0, save.reopens
        self.begin(save.state, retry_at, words)
        self.until = until
        self.began = self.cooled_at = self.now - age - save.elapsed
        if save.state == "metrics_only":
            self.expire()  # it looks for its lane
        return True

    @property
    def retry_after(self) -> float | None:
        """Seconds until a call may be tried again; None where nobody knows."""
        if self.state not in ("open", "forced_open") or self.retry_at == math.inf:
            return None
        return max(self.retry_at - self.now, 0.0)
