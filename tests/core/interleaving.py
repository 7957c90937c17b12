"""Interleavings of threads, tried one after the other: a search with bounded preemption.

Two or three threads take turns, and one of them runs at a time. Between any two bytecodes at which
a thread meets what others may share, it may be preempted, and another goes on; where one waits for
a lock or has ended, another goes on anyway. `explore` runs a scenario once for each way to place so
many preemptions (Musuvathi and Qadeer, "Iterative Context Bounding for Systematic Testing of
Multithreaded Programs", 2007). A run is repeated from the start by its list of decisions.

Bytecodes that only move what is the frame's own are no places: to be preempted before one of them
is the same as before the next that meets something shared. What is written in C is one step.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, Generic, NamedTuple, TypeVar
from unittest import mock

from fluxgate import _locks
from fluxgate._engine import circuit

from .places import PLACES, Places, Watch, watching

W = TypeVar("W")


class Decision(NamedTuple):
    """A thread that goes on at a place, and not the one that would have.

    Attributes:
        kind: `preempts` the thread that runs; `follows` one that has ended or waits for a lock.
        number: which of the run's places of that kind it is, counted from 0.
        thread: who goes on.
    """

    kind: str
    number: int
    thread: int


class Alternative(NamedTuple):
    """A place of a run, with the threads that could have gone on instead."""

    kind: str
    number: int
    threads: tuple[int, ...]


class Abandoned(BaseException):
    """Ends the threads of a run that can't go on."""


class Run(Generic[W]):
    """One run of the threads of a scenario.

    Args:
        world: what they share.
        workers: one for each thread.
        plan: the decisions to take, in their order; for the rest whoever runs goes on.
        more: whether preemptions beyond the plan are to be found.
        watch: sees the places that a thread comes to.
    """

    def __init__(
        self,
        world: W,
        workers: Sequence[Callable[[W], object]],
        plan: tuple[Decision, ...],
        *,
        more: bool,
        watch: Watch,
    ) -> None:
        self.world = world
        self.workers = workers
        self.plan = list(reversed(plan))
        self.more = more
        self.watch = watch
        self.alternatives: list[Alternative] = []
        self.errors: list[BaseException] = []
        self.steps: list[str] = []  # for whoever reads what went wrong
        self.running = 0
        self._numbers = {"preempts": 0, "follows": 0}
        self._left = sum(each.kind == "preempts" for each in plan)
        self._begun: set[int] = set()
        self._met: set[int] = set()  # those that have come to a place
        self._ended: set[int] = set()
        self._waits: dict[int, Lock] = {}
        self._gates = [threading.Lock() for _ in workers]
        self._abandoned = False

    def go(self) -> None:
        """Run the threads until all have ended, or none can go on."""
        for gate in self._gates:
            gate.acquire()
        threads = [
            threading.Thread(target=self._thread, args=(number,), daemon=True)
            for number in range(len(self.workers))
        ]
        for thread in threads:
            thread.start()
        self._follow()
        for thread in threads:
            thread.join()
        if self.plan and not self.errors:
            raise RuntimeError(f"not the same run as before: {self.plan} was never reached")

    def _thread(self, number: int) -> None:
        self._gates[number].acquire()
        if self._watches():
            self.watch.begin(self)
        try:
            if not self._abandoned:
                self.workers[number](self.world)
        except Abandoned:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.watch.end()
            self._ended.add(number)
            if not self._abandoned and len(self._ended) < len(self.workers):
                self._follow()

    def _follow(self) -> None:
        try:
            self._go_on(self._decide("follows"))
        except Abandoned:  # all the others know it
            return

    # -- places

    def _watches(self) -> bool:
        return self.more or self._left > 0

    def entered(self, frame: FrameType) -> None:
        """To be preempted before the call of a function is the same as at its first place."""
        caller = frame.f_back
        if caller is None or not self.alternatives:
            return
        offsets, last = self.watch.places.of(caller.f_code), self.alternatives[-1]
        if (
            offsets is not None
            and caller.f_lasti in offsets.calls
            and frame.f_code.co_name in caller.f_code.co_names
            and (last.kind, last.number) == ("preempts", self._numbers["preempts"] - 1)
        ):
            self.alternatives.pop()

    def met(self, frame: FrameType) -> bool:
        """The running thread is at a place; whether the places after it matter."""
        me = self.running
        if me not in self._met:  # the same as if it had not begun
            self._met.add(me)
            return True
        number = self._numbers["preempts"]
        if self.plan and self.plan[-1].number != number:  # nothing to decide, as nearly always
            self._numbers["preempts"] = number + 1
            return True
        after = self._decide("preempts")
        if after != me:
            code = frame.f_code
            place = f"{Path(code.co_filename).name}:{frame.f_lineno} ({code.co_qualname})"
            self.steps.append(f"thread {me} until {place}, byte {frame.f_lasti}")
            self._hand_over(me, after)
        return self._watches()

    def _decide(self, kind: str) -> int:
        """Who goes on."""
        number = self._numbers[kind]
        self._numbers[kind] = number + 1
        ready = self._ready()
        if not ready:
            self._abandon(RuntimeError("deadlock: every thread waits for a lock"))
        if self.plan and self.plan[-1][:2] == (kind, number):
            decision = self.plan.pop()
            self._left -= kind == "preempts"
            if decision.thread not in ready:
                self._abandon(RuntimeError(f"not the same run as before: {decision}"))
            return decision.thread
        after = self.running if kind == "preempts" else ready[0]
        if not self.plan and (self.more or kind == "follows"):
            others = tuple(each for each in ready if each != after)
            if others:
                self.alternatives.append(Alternative(kind, number, others))
        return after

    def _ready(self) -> list[int]:
        """The threads that can go on; of several that do the same, the first to begin."""
        ready: list[int] = []
        beginners: list[Callable[[W], object]] = []
        for number, worker in enumerate(self.workers):
            if number in self._ended or (
                number in self._waits and self._waits[number].owner is not None
            ):
                continue
            if number not in self._begun:
                if worker in beginners:
                    continue
                beginners.append(worker)
            ready.append(number)
        return ready

    def _hand_over(self, me: int, after: int) -> None:
        self._go_on(after)
        self._gates[me].acquire()
        if self._abandoned:
            self.watch.end()
            raise Abandoned

    def _go_on(self, thread: int) -> None:
        self.running = thread
        self._begun.add(thread)
        self._gates[thread].release()

    def _abandon(self, error: Exception) -> None:
        self.errors.append(error)
        self._abandoned = True
        for number, gate in enumerate(self._gates):
            if number not in self._ended and gate.locked():
                gate.release()
        raise Abandoned

    def wait(self, lock: Lock) -> None:
        """Let others go on until a lock is free."""
        me = self.running
        self.steps.append(f"thread {me} waits for a lock")
        self._waits[me] = lock
        self._hand_over(me, self._decide("follows"))
        del self._waits[me]


class Lock:
    """A re-entrant lock of the threads of a run, in place of `threading.RLock`.

    Args:
        stage: where they run.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._depth = 0
        self.owner: int | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it. A thread with a time limit waits as well, or, on an impatient stage, doesn't."""
        run = self._stage.run
        if run is None or self._stage.lockless:
            return True
        while self.owner not in (None, run.running):
            if timeout >= 0 and self._stage.impatient:
                return False
            run.wait(self)
        self.owner = run.running
        self._depth += 1
        return True

    def release(self) -> None:
        """Give it back."""
        if self._depth:
            self._depth -= 1
            if not self._depth:
                self.owner = None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class Stage:
    """What the locks of one exploration know.

    Attributes:
        run: the run that goes on; None outside of one, where one thread is alone.
        impatient: whether a wait with a time limit is over at once.
        lockless: whether locks let everybody in: the fault that a search must find.
    """

    def __init__(self, *, impatient: bool = False, lockless: bool = False) -> None:
        self.run: Run[Any] | None = None
        self.impatient = impatient
        self.lockless = lockless


class Broken(AssertionError):
    """What must hold does not, in one order."""


@contextmanager
def _staged(stage: Stage) -> Iterator[None]:
    """The engine's locks are those of a stage, and no cycle of objects is collected."""
    stand_in = SimpleNamespace(RLock=lambda: Lock(stage))
    collects = gc.isenabled()
    gc.disable()
    try:
        with (
            mock.patch.object(circuit, "threading", stand_in),
            mock.patch.object(_locks, "threading", stand_in),
        ):
            yield
    finally:
        if collects:
            gc.enable()


def runs(
    setup: Callable[[], W],
    workers: Sequence[Callable[[W], object]],
    *,
    bound: int,
    stage: Stage | None = None,
    places: Places | None = None,
) -> Generator[Run[W], None, None]:
    """Run the workers in every order with so many preemptions at most.

    Args:
        setup: makes what the threads share, anew for each run.
        workers: what each thread does with it; those that are the same object may change places.
        bound: preemptions in one run.
        stage: which locks there are.
        places: where a thread may be preempted.
    """
    stage, places = stage or Stage(), places or PLACES
    with _staged(stage), watching(places) as watch:
        # Once without a search, so that what is made but once is there: modules, caches.
        yield _done(Run(setup(), workers, (), more=False, watch=watch), stage)
        todo: list[tuple[tuple[Decision, ...], int]] = [((), 0)]
        count = 0
        while todo:
            plan, price = todo.pop()
            run = Run(setup(), workers, plan, more=price < bound, watch=watch)
            yield _done(run, stage)
            found = [
                ((*plan, Decision(kind, number, thread)), price + (kind == "preempts"))
                for kind, number, threads in run.alternatives
                for thread in threads
            ]
            todo.extend(reversed(found))  # the earliest place first
            count += 1
            if not count % 500:
                gc.collect()


def _done(run: Run[W], stage: Stage) -> Run[W]:
    stage.run = run
    run.go()
    stage.run = None
    return run


def explore(
    setup: Callable[[], W],
    workers: Sequence[Callable[[W], object]],
    check: Callable[[W], object],
    *,
    bound: int,
    stage: Stage | None = None,
    places: Places | None = None,
) -> int:
    """Check what must hold after each of the `runs`; how many runs there were.

    Raises:
        Broken: `check` has raised, an error reached a worker, or every thread waited for a lock.
    """
    count = 0
    with closing(runs(setup, workers, bound=bound, stage=stage, places=places)) as every:
        for run in every:
            try:
                for error in run.errors:
                    raise error
                check(run.world)
            except Exception as error:
                order = "\n  ".join(run.steps or ["one after the other"])
                raise Broken(
                    f"{type(error).__name__}: {error}\n"
                    f"after {count:,} runs in which it held, in this one:\n  {order}"
                ) from error
            count += 1
    return count
