"""An exception of a signal handler can come between any two instructions; no slot is lost by it.

Each door of a half-open circuit with one slot is interrupted at each bytecode of the modules that
lie between a caller and the circuit. Whatever the interrupt hits, the slot is free afterwards, and
no finaliser complains.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest

from fluxgate import CircuitBreaker
from fluxgate._engine.phase import Admission
from fluxgate.permits import All
from fluxgate.testing import ManualClock, tripped
from fluxgate.trippers import FailureStreak

from .conftest import finish
from .interrupting import Interrupt, interrupted, report

pytestmark = pytest.mark.slow

HIT = ("breaker.py", "_front.py", "_callables.py", "attempt.py")


def block(breaker: CircuitBreaker) -> None:
    with breaker:
        pass


def stack(breaker: CircuitBreaker) -> None:
    with ExitStack() as entered:
        entered.enter_context(breaker)


def by_hand(breaker: CircuitBreaker) -> None:
    breaker.__enter__()
    breaker.__exit__(None, None, None)


def attempt(breaker: CircuitBreaker) -> None:
    breaker.attempt().succeed()


def attempt_block(breaker: CircuitBreaker) -> None:
    with breaker.attempt():
        pass


def decorated(breaker: CircuitBreaker) -> None:
    breaker(int)()


def generator(breaker: CircuitBreaker) -> None:
    def items() -> Iterator[int]:
        yield 1

    for _ in breaker(items)():
        pass


def async_call(breaker: CircuitBreaker) -> None:
    async def fetch() -> None:
        pass

    finish(breaker.to_async().call(fetch))


def async_decorated(breaker: CircuitBreaker) -> None:
    async def fetch() -> None:
        pass

    finish(breaker.to_async()(fetch)())


def async_generator(breaker: CircuitBreaker) -> None:
    async def items() -> Any:
        yield 1

    async def read() -> None:
        async for _ in breaker.to_async()(items)():
            pass

    finish(read())


def async_block(breaker: CircuitBreaker) -> None:
    async def run() -> None:
        async with breaker.to_async():
            pass

    finish(run())


def async_stack(breaker: CircuitBreaker) -> None:
    async def run() -> None:
        async with AsyncExitStack() as entered:
            await entered.enter_async_context(breaker.to_async())

    finish(run())


DOORS: dict[str, Callable[[CircuitBreaker], None]] = {
    "call": lambda breaker: breaker.call(lambda: None),
    "decorated": decorated,
    "generator": generator,
    "block": block,
    "stack": stack,
    "by hand": by_hand,
    "attempt": attempt,
    "attempt block": attempt_block,
    "async call": async_call,
    "async decorated": async_decorated,
    "async generator": async_generator,
    "async block": async_block,
    "async stack": async_stack,
}


def probing() -> CircuitBreaker:
    """A breaker whose next call takes the one slot of a probe."""
    clock = ManualClock()
    breaker = CircuitBreaker(
        "x", clock=clock, tripper=FailureStreak(1), permit=All(), max_half_open_calls=1
    )
    tripped(breaker)
    clock.advance(60)
    return breaker


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("door", DOORS)
def test_no_interrupt_costs_a_slot(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[str] = []

    def complain(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, Interrupt):  # it may hit a finaliser, too
            complaints.append(repr(unraisable.exc_value))

    monkeypatch.setattr(sys, "unraisablehook", complain)
    run, kept, place = DOORS[door], [], 0
    copy_context().run(run, probing())
    while True:
        breaker = probing()
        if not interrupted(partial(copy_context().run, run, breaker), place, *HIT):
            break
        gc.collect(0)
        if breaker.info().probes:
            kept.append(place)
        place += 1
    assert place > 30  # it was interrupted at all
    report(door, place)
    assert (kept, complaints) == ([], [])


def test_a_slot_goes_with_its_admission() -> None:
    """What nothing holds any more has given its slot back, and is counted as ignored."""
    breaker = probing()
    admission = breaker._circuit.admit()
    assert isinstance(admission, Admission)
    assert breaker.info().probes == 1
    del admission
    assert breaker.info().probes == 0
    assert breaker.info().totals.ignored == 1
    breaker.call(int)
    assert breaker.state == "closed"
