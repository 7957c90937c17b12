"""How things are timed: many short turns side by side, compared round by round.

On a shared machine two timings taken a second apart can differ by half, so an absolute
time proves nothing. In a *race* every contestant has one short turn per round, and only
turns of one round are compared: what slows the machine slows both sides of the ratio.
The median over the rounds then drops the rounds in which it hit only one of them.
"""

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import median
from time import perf_counter
from types import FunctionType
from typing import Any, Protocol, TypeVar, cast

from thin import AsyncFn, Down, Fn

F = TypeVar("F", bound=Callable[..., Any])
Turn = Callable[[int], float]
"""Makes that many calls and returns the seconds they took."""

WARM_UP = 500
"""Untimed calls before each turn: the contestant before has just left the caches to us."""

PATTERN = (*repeat(False, 9), True)
"""Every tenth call fails: spread evenly, so that no window of ten holds more than one."""


class Caller(Protocol):
    """Anything with a breaker's `call`."""

    def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn` under protection."""
        ...


def own_code(turn: F) -> F:
    """Give a timing loop a code object of its own.

    The interpreter specialises instructions per code object. Contestants that shared
    one loop would undo each other's specialisation, and the one measured alone would win.
    """
    if not isinstance(turn, FunctionType):
        raise TypeError(f"{turn!r} has no code to copy")
    code = turn.__code__.replace()
    copy = FunctionType(code, turn.__globals__, turn.__name__, turn.__defaults__, turn.__closure__)
    return cast(F, copy)


def healthy(fn: Fn) -> Turn:
    """Calls that all succeed."""

    def turn(calls: int) -> float:
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            fn()
        return perf_counter() - start

    return own_code(turn)


def failing(fn: Fn) -> Turn:
    """Calls of which every tenth fails, and the caller handles it."""

    def turn(calls: int) -> float:
        todo = PATTERN * max(1, calls // len(PATTERN))
        start = perf_counter()
        for fail in todo:
            try:  # noqa: SIM105 - suppress() would cost more than what is timed
                fn(fail)
            except Down:
                pass
        # Asked for a number that isn't a multiple of ten: scale to it.
        return (perf_counter() - start) * calls / len(todo)

    return own_code(turn)


def rejected(fn: Fn, refusal: type[BaseException]) -> Turn:
    """Calls that are all refused, and the caller handles it."""

    def turn(calls: int) -> float:
        try:
            fn()
        except refusal as error:
            # A peer that raises one and the same object piles up tracebacks on it.
            error.__traceback__ = None
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            try:
                fn()
            except refusal:
                pass
            else:
                raise RuntimeError("a call was admitted that should have been refused")
        return perf_counter() - start

    return own_code(turn)


def calling(caller: Caller, fn: Fn) -> Turn:
    """Calls handed to `caller.call`, written as a user writes them."""

    def turn(calls: int) -> float:
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            caller.call(fn)
        return perf_counter() - start

    return own_code(turn)


def async_healthy(runner: asyncio.Runner, fn: AsyncFn) -> Turn:
    """Awaited calls that all succeed: one running loop, the clock inside the coroutine."""

    async def awaiting(calls: int) -> float:
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            await fn()
        return perf_counter() - start

    own = own_code(awaiting)
    return lambda calls: runner.run(own(calls))


def async_calling(runner: asyncio.Runner, caller: Caller, fn: AsyncFn) -> Turn:
    """Awaited calls handed to `caller.call`."""

    async def awaiting(calls: int) -> float:
        todo = repeat(None, calls)
        start = perf_counter()
        for _ in todo:
            await caller.call(fn)
        return perf_counter() - start

    own = own_code(awaiting)
    return lambda calls: runner.run(own(calls))


class Times:
    """Nanoseconds per call by contestant and round."""

    __slots__ = ("by_name",)

    def __init__(self, by_name: Mapping[str, Sequence[float]]) -> None:
        self.by_name = by_name

    def ns(self, name: str) -> float:
        """The median of one contestant."""
        return median(self.by_name[name])

    def ratio(self, name: str, other: str) -> float:
        """The median over the rounds of one contestant's time over another's."""
        pairs = zip(self.by_name[name], self.by_name[other], strict=True)
        return median(mine / theirs for mine, theirs in pairs)


def race(
    turns: Mapping[str, Turn],
    rounds: int,
    calls: int,
    after_round: Callable[[], None] | None = None,
    *,
    warm_up: int = WARM_UP,
) -> Times:
    """Give every contestant one turn per round, in an order that changes each round.

    `warm_up` calls go untimed before each turn; fewer will do for calls that take longer.
    """
    names = list(turns)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in turns.values():
        turn(warm_up)
    # The collector stays on, as in production: who makes garbage pays for it. What was
    # there before is frozen, so nobody pays for the heap of the others.
    gc.collect()
    gc.freeze()
    try:
        for number in range(rounds):
            shift = number % len(names)
            order = names[shift:] + names[:shift]
            # Backwards every other time round: nobody has always the same predecessor.
            for name in reversed(order) if number // len(names) % 2 else order:
                gc.collect()
                turns[name](warm_up)
                times[name].append(turns[name](calls) / calls * 1e9)
            if after_round is not None:
                after_round()
    finally:
        gc.unfreeze()
    return Times(times)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    calls: int

    @property
    def few(self) -> int:
        """Rounds for what takes long."""
        return max(5, self.rounds // 10)

    def race(self, turns: Mapping[str, Turn]) -> Times:
        """A race with all the rounds."""
        return race(turns, self.rounds, self.calls)
