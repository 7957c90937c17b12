"""What threads see of one circuit is as if they had taken turns.

Four threads do six random things each, at once; what they saw is held against a sequential
specification of a circuit. What is read or written without the lock may be a moment ahead of the
rest, or behind: `state` and the count of refusals are left out; those of ignored and stale calls
are looked at once all threads are done, and an ignored call may count as either.
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from fluxgate import Attempt, CallNotPermittedError, CircuitBreaker
from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import Admission
from fluxgate.permits import All
from fluxgate.retries import Always
from fluxgate.trippers import Closed, FailureStreak

from .linearizing import Operation, is_linearizable
from .proving import LONG

THREADS, EACH, SLOTS = 4, 6, 1
HISTORIES = 20_000 if LONG else 200


class Ticket(NamedTuple):
    """A call that was let in."""

    number: int
    generation: int
    probe: bool
    counted: bool


class Circuit(NamedTuple):
    """A circuit that opens after two failures in a row and probes with the next call.

    Attributes:
        held: whether it is open until a hand changes it, by `open_for`.
        lane: the generation whose lane still admits, and the moment at which whoever has ended it
            had returned: a lane is taken away in the same step as a phase is exchanged, and after.
        counts: successes, failures, ignored, stale.
    """

    state: str = "closed"
    generation: int = 0
    streak: int = 0
    held: bool = False
    lane: tuple[int, int] | None = None
    tickets: frozenset[Ticket] = frozenset()
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)

    def moved(self, state: str, by: Operation, *, held: bool = False) -> Circuit:
        lane = (self.generation, by.returned) if self.state == "closed" else self.lane
        return self._replace(state=state, generation=self.generation + 1, held=held, lane=lane)

    @property
    def probes(self) -> int:
        return sum(each.probe and each.generation == self.generation for each in self.tickets)

    def counted(self, place: int) -> Circuit:
        counts = list(self.counts)
        counts[place] += 1
        return self._replace(counts=tuple(counts))

    def apply(self, operation: Operation) -> Iterator[Circuit]:
        """The circuits that there may be after an operation; none, if its result is impossible."""
        state, verb, arguments = self.state, operation.verb, operation.arguments
        match verb:
            case "admit":
                yield from self._admit(operation)
            case "settle":
                yield from self._settle(operation, *arguments)
            case "info" | "end":
                counts = self.counts if verb == "end" else self.counts[:2]
                if operation.result == (state, self.streak, self.probes, *counts):
                    yield self
            case "reset":
                yield self.moved("closed", operation)._replace(streak=0)
            case "open_for":
                if state in ("closed", "half_open"):
                    yield self.moved("open", operation, held=True)
                else:
                    yield self._replace(held=self.held or state == "open")
            case _:
                yield self if state == verb else self.moved(verb, operation)

    def _admit(self, operation: Operation) -> Iterator[Circuit]:
        (number,), let_in = operation.arguments, operation.result
        if let_in and self.lane is not None and operation.called < self.lane[1]:
            yield self._with(Ticket(number, self.lane[0], probe=False, counted=True))
        after = self
        if after.state == "open" and not after.held:
            after = after.moved("half_open", operation)
        half_open = after.state == "half_open"
        refused = after.state in ("open", "forced_open") or (half_open and after.probes >= SLOTS)
        if refused is not let_in:
            counted = after.state != "disabled"
            ticket = Ticket(number, after.generation, half_open, counted)
            yield after if refused else after._with(ticket)

    def _with(self, ticket: Ticket) -> Circuit:
        return self._replace(tickets=self.tickets | {ticket})

    def _settle(self, operation: Operation, number: int, outcome: str) -> Iterator[Circuit]:
        ticket = next((each for each in self.tickets if each.number == number), None)
        if ticket is None:
            return
        after = self._replace(tickets=self.tickets - {ticket})
        if not ticket.counted:
            yield after
        elif outcome == "ignore":
            yield after.counted(3)
            yield after.counted(2)
        elif ticket.generation != self.generation:
            yield after.counted(3)
        else:
            failed = outcome == "fail"
            after = after.counted(int(failed))._replace(streak=self.streak + 1 if failed else 0)
            if self.state == "half_open":
                yield after.moved("open" if failed else "closed", operation)
            elif failed and after.streak >= 2:
                yield after.moved("open", operation)
            else:
                yield after


# -- histories

VERBS = {"forced_open": "force_open", "disabled": "disable"}


class Recorder:
    """One breaker, and what threads do with it."""

    def __init__(self) -> None:
        self.breaker = CircuitBreaker(
            "x",
            tripper=Closed() & FailureStreak(2),
            retry=Always(),
            permit=All(),
            max_half_open_calls=SLOTS,
            clock=lambda: 100.0,
        )
        self.moments = itertools.count()  # next() of it is one step
        self.numbers = itertools.count()
        self.history: list[Operation] = []

    def do(self, verb: str, arguments: tuple[Any, ...], act: Callable[[], object]) -> None:
        called = next(self.moments)
        result = act()
        self.history.append(Operation(called, next(self.moments), verb, arguments, result))

    def admit(self, held: list[tuple[int, Attempt]]) -> None:
        number = next(self.numbers)

        def act() -> bool:
            try:
                held.append((number, self.breaker.attempt()))
            except CallNotPermittedError:
                return False
            return True

        self.do("admit", (number,), act)

    def settle(self, held: list[tuple[int, Attempt]], outcome: str) -> None:
        number, attempt = held.pop(0)
        act: dict[str, Callable[[], object]] = {
            "succeed": attempt.succeed,
            "fail": attempt.fail,
            "ignore": attempt.ignore,
        }
        self.do("settle", (number, outcome), act[outcome])

    def look(self, *, last: bool = False) -> None:
        def act() -> object:
            info = self.breaker.info()
            totals = info.totals
            counts = (totals.successes, totals.failures, totals.ignored, totals.stale)
            seen = counts if last else counts[:2]
            return (str(info.state), info.metrics.failure_streak, info.probes, *seen)

        self.do("end" if last else "info", (), act)

    def control(self, name: str) -> None:
        verb = getattr(self.breaker, VERBS.get(name, name))
        self.do(name, (), lambda: verb(10.0) if name == "open_for" else verb())

    def play(self, seed: int) -> None:
        """One thread's part."""
        dice, held = random.Random(seed), list[tuple[int, Attempt]]()
        for _ in range(EACH):
            throw = dice.random()
            if throw < 0.12:
                self.look()
            elif throw < 0.2:
                names = ("reset", "reset", "forced_open", "disabled", "open_for")
                self.control(dice.choice(names))
            elif held:
                self.settle(held, dice.choice(("succeed", "succeed", "fail", "fail", "ignore")))
            else:
                self.admit(held)
        for _ in range(len(held)):
            self.settle(held, "succeed")


def recorded(seed: int) -> list[Operation]:
    """The history of four threads that do random things at once."""
    recorder, start = Recorder(), threading.Barrier(THREADS)

    def run(number: int) -> None:
        start.wait()
        recorder.play(seed * THREADS + number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.look(last=True)
    return recorder.history


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def explained(history: list[Operation]) -> bool:
    return is_linearizable(history, Circuit(), Circuit.apply)


def overlaps(history: list[Operation]) -> bool:
    """Whether two operations were under way at once."""
    ordered = sorted(history)
    return any(left.returned > right.called for left, right in itertools.pairwise(ordered))


@pytest.mark.usefixtures("hasty")
def test_histories_are_linearizable() -> None:
    concurrent = 0
    for seed in range(HISTORIES):
        history = recorded(seed)
        concurrent += overlaps(history)
        assert explained(history), "\n".join(map(str, (seed, *sorted(history))))
    print(f"\n{HISTORIES:,} histories, {concurrent:,} of them with operations at once")
    assert concurrent


# -- the checker finds what it is there for


def test_an_impossible_history_is_refused() -> None:
    """After two failures that had returned, nobody finds the circuit closed."""

    def history(closed_from: int) -> list[Operation]:
        return [
            Operation(0, 1, "admit", (0,), True),
            Operation(2, 3, "admit", (1,), True),
            Operation(4, 5, "settle", (0, "fail"), None),
            Operation(6, 9, "settle", (1, "fail"), None),
            Operation(closed_from, 12, "info", (), ("closed", 1, 0, 0, 1)),
        ]

    assert explained(history(closed_from=8))  # while the second was on its way
    assert not explained(history(closed_from=10))


def ignores_slots(self: Machine, phase: Any, now: float) -> Admission:
    self._next_probe += 1
    phase.probes[self._next_probe] = now + 60
    return Admission(phase, self._next_probe)


def knows_no_generation(
    self: Machine, admission: Any, outcome: Any, elapsed: float, now: float, cause: Any = None
) -> Any:
    current = Admission(self.phase, None) if admission.probe is None else admission
    return settle(self, current, outcome, elapsed, now, cause)


settle = Machine.settle
PLANTED = {"_acquire_probe": ignores_slots, "settle": knows_no_generation}


# A planted bug may end a thread with an error of the engine; then its history is no evidence.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_bug_is_found(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, planted, PLANTED[planted])
    assert not all(explained(recorded(seed)) for seed in range(5_000))  # ends with the first
