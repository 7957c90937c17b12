"""A soak: threads, event loops, signals, finalisers and forks on a few circuits, for some time.

    python tests/core/soaking.py SECONDS

It runs in rounds of some seconds. At the end of each, everything is at rest: then each circuit has
settled exactly the calls that it has let in, and refused exactly those that were refused, holds no
slot, and closes once its dependency is well. Prints a line of JSON for the whole, and exits with 1
at the first thing that isn't so.

What every call does is chance: it returns, raises whatever there is, hangs for longer than a probe
may, is cancelled, dropped, or makes calls of its own. In every other round the collector runs after
each allocation; in the others the main thread's signal handler raises. Both at once would raise in
finalisers, and what is raised there Python itself drops, with whatever they were about to do.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import itertools
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from fluxgate import CallNotPermittedError, CircuitBreaker, Signal, State
from fluxgate.listeners import Background
from fluxgate.permits import All, Random
from fluxgate.retries import Backoff, Cooldown
from fluxgate.testing import RecordedCalls
from fluxgate.trackers import TypeOf
from fluxgate.trippers import AvgLatency, Closed, FailureRate, FailureStreak, MinRequests, SlowRate
from fluxgate.windows import CountWindow, TimeWindow

ROUND = 5.0
PROBE_TIMEOUT = 0.05
THREADS, LOOPS, TASKS = 4, 2, 20


class Interrupt(BaseException):
    """What the signal handler raises."""


class Oddity(BaseException):
    """Neither an `Exception` nor any of Python's own."""


class Subject:
    """A circuit, what is known of its calls, and the story that its signals tell."""

    def __init__(self, name: str, **settings: Any) -> None:
        self.background = Background(lambda _: None)
        self.states, self.broken = [State.CLOSED], 0
        self.breaker = CircuitBreaker(
            name,
            listeners=[self.hear, self.background],
            probe_timeout=PROBE_TIMEOUT,
            max_half_open_calls=2,
            **settings,
        )
        self.begin()

    def begin(self) -> None:
        """Count from zero; next() of these is one step, whatever interrupts it."""
        self.states, self.broken = [self.breaker.state], 0
        self.admitted, self.refused = itertools.count(), itertools.count()

    def hear(self, signal: Signal) -> None:
        if signal.old_state is not signal.new_state:
            self.broken += signal.old_state is not self.states[-1]
            self.states[-1] = signal.new_state


def subjects() -> list[Subject]:
    return [
        Subject("streak", tripper=FailureStreak(3), retry=Cooldown(0.01), permit=All()),
        Subject(
            "rate",
            tripper=MinRequests(5) & FailureRate(0.3),
            retry=Backoff(0.005, 2.0, 0.05, 0.5),
            permit=Random(0.5),
            window=TimeWindow(0.5, 10),
            tracker=TypeOf(ConnectionError),
            shadow=FailureStreak(2),
            buckets=(0.001, 0.1),
        ),
        Subject(
            "slow",
            tripper=Closed() & (SlowRate(0.5, 0.02) | AvgLatency(0.02)),
            retry=Cooldown(0.02, 0.5),
            window=CountWindow(10),
            cancelled_after=0.01,
        ),
    ]


ERRORS: tuple[Callable[[], BaseException], ...] = (
    *(ConnectionError, ConnectionError, ConnectionError, ValueError, StopIteration),
    *(SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Oddity),
    lambda: ExceptionGroup("", [ConnectionError(), ValueError()]),
    lambda: BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()]),
)


class Caller:
    """Makes calls of every kind. One for each thread, loop, handler or child."""

    def __init__(self, subjects: list[Subject], seed: object, **without: bool) -> None:
        self.subjects = subjects
        self.listens = without.get("listens", True)
        self.circles = without.get("circles", True)
        self.dice = random.Random(str(seed))
        self.depth = 0

    def body(self, subject: Subject) -> int:
        """The protected function."""
        next(subject.admitted)
        throw = self.dice.random()
        if throw < 0.005:
            time.sleep(PROBE_TIMEOUT * 1.5)  # it hangs: a probe's slot is somebody else's by now
        elif throw < 0.02 and self.depth < 2:
            self.depth += 1
            try:
                self.call()
            finally:
                self.depth -= 1
        elif throw < 0.2:
            raise self.dice.choice(ERRORS)()
        return 1

    def call(self) -> None:
        """One call of one circuit, through one of its doors."""
        subject = self.dice.choice(self.subjects)
        door = self.dice.choice(DOORS)
        try:
            door(self, subject)
        except CallNotPermittedError as refusal:
            if refusal.name == subject.breaker.name:
                next(subject.refused)
        except Interrupt:
            raise
        except BaseException:
            pass  # what the callee raised

    # -- doors; each counts as let in what it has been given

    def by_call(self, subject: Subject) -> None:
        subject.breaker.call(self.body, subject)

    def by_decorator(self, subject: Subject) -> None:
        subject.breaker(self.body)(subject)

    def by_block(self, subject: Subject) -> None:
        with subject.breaker:
            self.body(subject)

    def by_generator(self, subject: Subject) -> None:
        def items() -> Iterator[int]:
            yield self.body(subject)
            yield 2

        for _ in subject.breaker(items)():
            if self.dice.random() < 0.5:
                break  # it is dropped, or closed, in the middle

    def by_attempt(self, subject: Subject) -> None:
        attempt = subject.breaker.attempt()
        next(subject.admitted)
        throw = self.dice.random()
        if throw < 0.5:
            attempt.succeed()
        elif throw < 0.7:
            attempt.fail("down")
        elif throw < 0.8:
            attempt.ignore()
        elif throw < 0.9:
            circle: list[Any] = [attempt]
            if self.circles:
                circle.append(circle)  # dropped: the collector finds it
        del attempt

    def by_finaliser(self, subject: Subject) -> None:
        circle: list[Any] = [Late(self, subject)]
        if self.circles:
            circle.append(circle)

    def by_hand(self, subject: Subject) -> None:
        breaker = subject.breaker
        throw = self.dice.random()
        if throw < 0.05:
            breaker.reset()
        elif throw < 0.1:
            breaker.force_open(seconds=0.01)
        elif throw < 0.15:
            breaker.metrics_only(seconds=0.01)
        elif throw < 0.2:
            breaker.open_for(0.01)
        elif throw < 0.25:
            breaker.update(max_half_open_calls=self.dice.choice((1, 2)))
        elif throw < 0.3 and self.listens:
            with breaker.listen(RecordedCalls()):
                breaker.call(self.body, subject)
        else:
            breaker.info()
            assert breaker.available in (True, False)


class Late:
    """An object whose finaliser makes a call, wherever the collector happens to run."""

    def __init__(self, caller: Caller, subject: Subject) -> None:
        self.caller = caller
        self.subject = subject

    def __del__(self) -> None:
        if not hasattr(self, "subject"):
            return  # interrupted while it was made
        try:
            attempt = self.subject.breaker.attempt()
        except CallNotPermittedError:
            next(self.subject.refused)
        else:
            next(self.subject.admitted)
            attempt.succeed()


DOORS = (
    *(Caller.by_call, Caller.by_decorator, Caller.by_block, Caller.by_generator),
    *(Caller.by_attempt, Caller.by_finaliser, Caller.by_hand),
)


# -- who calls


def run_thread(caller: Caller, until: float) -> None:
    while time.monotonic() < until:
        caller.call()


def run_loop(caller: Caller, until: float) -> None:
    async def task() -> None:
        while time.monotonic() < until:
            await call_async(caller)
            await asyncio.sleep(0)

    async def run() -> None:
        await asyncio.gather(*(task() for _ in range(TASKS)))

    asyncio.run(run())


async def call_async(caller: Caller) -> None:
    subject, dice = caller.dice.choice(caller.subjects), caller.dice
    breaker = subject.breaker.to_async()

    async def body() -> int:
        next(subject.admitted)
        throw = dice.random()
        if throw < 0.1:
            await asyncio.sleep(dice.choice((0.0, 0.001, PROBE_TIMEOUT * 1.5)))
        elif throw < 0.25:
            raise dice.choice(ERRORS[:4] + ERRORS[5:])()
        return 1

    async def items() -> Any:
        yield await body()
        yield 2

    async def guarded() -> None:
        try:
            kind = dice.random()
            if kind < 0.4:
                await breaker.call(body)
            elif kind < 0.6:
                await breaker(body)()
            elif kind < 0.8:
                async with breaker:
                    await body()
            else:
                stream = breaker(items)()
                async for _ in stream:
                    if dice.random() < 0.5:
                        break
                await stream.aclose()
        except CallNotPermittedError:
            next(subject.refused)
        except BaseException:
            pass  # asyncio would end the loop for some of them

    task = asyncio.create_task(guarded())
    if dice.random() < 0.2:
        await asyncio.sleep(0)
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Main:
    """The main thread's part: signals, interrupts and forks."""

    def __init__(self, subjects: list[Subject]) -> None:
        self.subjects = subjects
        self.handler = Caller(subjects, "handler")
        # Circuits of its own: an interrupted call may have been let in or not, and nobody knows.
        self.own = [
            Subject("own", tripper=FailureStreak(3), retry=Cooldown(0.01), permit=All()),
            Subject("own time", window=TimeWindow(0.5, 5), retry=Cooldown(0.01), permit=All()),
        ]
        # Nor can anybody end what listen() was about to return.
        self.caller = Caller(self.own, "main", listens=False)
        self.dice = random.Random("main")
        self.raising = self.interruptible = False
        self.calls = self.interrupts = self.forks = 0

    def on_signal(self, *_: object) -> None:
        interruptible, self.interruptible = self.interruptible, False
        self.handler.call()
        if interruptible and self.dice.random() < 0.5:
            self.interrupts += 1
            raise Interrupt
        self.interruptible = interruptible

    def run(self, until: float, *, raising: bool) -> None:
        self.raising = raising
        signal.signal(signal.SIGALRM, self.on_signal)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        try:
            self._run(until)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _run(self, until: float) -> None:
        fork_at = time.monotonic() + ROUND / 4
        while (now := time.monotonic()) < until:
            self.calls += 1
            try:
                self.interruptible = self.raising
                self.caller.call()
                self.interruptible = False
            except Interrupt:
                pass
            if now >= fork_at:
                self.fork()
                fork_at = now + ROUND / 4
        self.interruptible = False

    def fork(self) -> None:
        """A child has the states and counts from zero; it goes on by itself."""
        self.forks += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        child = os.fork()
        if not child:
            gc.freeze()  # what the parent's threads have dropped is not the child's
            status = 1
            try:
                for subject in self.subjects:
                    subject.begin()
                # A child of a process that was collecting never collects again (CPython).
                caller = Caller(self.subjects, self.forks, circles=False)
                for _ in range(100):
                    caller.call()
                found = [each for subject in self.subjects for each in problems(subject)]
                sys.stderr.write("".join(f"in a child: {each}\n" for each in found))
                status = int(bool(found))
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"a child ended with {status}"
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)


# -- what must hold


def count_of(counter: itertools.count[int]) -> int:
    return int(repr(counter)[6:-1])


def problems(subject: Subject) -> list[str]:
    """What is wrong with a circuit at rest."""
    info = subject.breaker.info()
    totals = info.totals
    found: list[str] = []
    for what, seen, known in (
        ("settled", totals.settled, count_of(subject.admitted)),
        ("refused", totals.rejected, count_of(subject.refused)),
        ("slots held", info.probes, 0),
        ("moves out of order", subject.broken, 0),
    ):
        if seen != known:
            found.append(f"{subject.breaker.name}: {what}: {seen}, not {known}")
    return found


def closes(subject: Subject) -> bool:
    """Whether it closes now that its dependency is well."""
    deadline = time.monotonic() + 30
    while subject.breaker.info().state is not State.CLOSED and time.monotonic() < deadline:
        try:
            attempt = subject.breaker.attempt()
        except CallNotPermittedError:
            next(subject.refused)
            time.sleep(0.001)
        else:
            next(subject.admitted)
            attempt.succeed()
    return subject.breaker.state is State.CLOSED


def main(seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds * 20 + 300, exit=True)
    shared = subjects()
    main_thread = Main(shared)
    gc.freeze()
    gc.set_threshold(1)
    began, number, blocks, sizes = time.monotonic(), 0, list[int](), list[int]()
    while time.monotonic() < began + seconds:
        until, number = time.monotonic() + min(ROUND, seconds / 3), number + 1
        threads = [
            threading.Thread(target=run, args=(Caller(shared, (number, place)), until))
            for place, run in enumerate([run_thread] * THREADS + [run_loop] * LOOPS)
        ]
        for thread in threads:
            thread.start()
        raising = number % 2 == 0
        (gc.disable if raising else gc.enable)()
        main_thread.run(until, raising=raising)
        for thread in threads:
            thread.join()
        del threads
        gc.collect()
        found = [each for subject in shared for each in problems(subject)]
        for subject in (*shared, *main_thread.own):
            assert subject.background.flush(30)
            if not closes(subject):
                found.append(f"{subject.breaker.name} doesn't close")
            if subject.breaker.info().probes:
                found.append(f"{subject.breaker.name} holds a slot")
        assert not found, "\n".join(found)
        gc.collect()
        blocks.append(sys.getallocatedblocks())
        sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    gc.set_threshold(700, 10, 10)
    print(
        json.dumps(
            {
                "seconds": round(time.monotonic() - began),
                "rounds": number,
                "admitted": sum(count_of(each.admitted) for each in shared),
                "refused": sum(count_of(each.refused) for each in shared),
                "transitions": sum(
                    sum(each.breaker.info().totals.transitions.values()) for each in shared
                ),
                "interrupts": main_thread.interrupts,
                "forks": main_thread.forks,
                "blocks": blocks,
                "kilobytes": sizes,
            }
        )
    )


if __name__ == "__main__":
    main(float(sys.argv[1]))
