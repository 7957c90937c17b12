"""An exception of a signal handler between any two instructions leaves a registry whole.

Making, evicting, forgetting and declaring a circuit are interrupted at each bytecode of the
registry. Afterwards its lock is free for other threads, so no new circuit waits for it, and the
bound on its circuits still holds.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from fluxgate.config import read
from fluxgate.registry import Registry

HIT = ("_circuit_cache.py", "registry.py")


class Interrupt(BaseException):
    """What the signal handler raises."""


class Interrupter:
    """Raises at the given bytecode, counted over all frames of the modules that are `HIT`."""

    def __init__(self, place: int) -> None:
        self.left = place

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.endswith(HIT):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                raise Interrupt
        return self


def interrupted(step: Callable[[], object], place: int) -> bool:
    """Whether an interrupt came at that place, and not the end of the step before it."""
    before = sys.gettrace()  # coverage's
    sys.settrace(Interrupter(sys.maxsize))  # Python 3.12 reports no opcodes at first
    sys.settrace(Interrupter(place))
    try:
        step()
    except Interrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def is_lock_free(registry: Registry) -> bool:
    """Whether another thread gets the lock without waiting."""
    free: list[bool] = []

    def look() -> None:
        lock = registry._cache._lock
        free.append(lock.acquire(blocking=False))
        if free[0]:
            lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return free[0]


STEPS: dict[str, Callable[[Registry], object]] = {
    "make": lambda registry: registry["new"],
    "forget": lambda registry: registry.__delitem__("b"),
    "declare": lambda registry: registry.declare("new", tripper="FailureRate(0.9)"),
}


@pytest.mark.parametrize("step", STEPS)
def test_no_interrupt_locks_it(step: str) -> None:
    locked, place, going_on = [], 0, True
    while going_on:
        registry = Registry(read({}), max_circuits=2)
        for name in "ab":
            registry[name].call(int)
        going_on = interrupted(partial(STEPS[step], registry), place)
        if not is_lock_free(registry):
            locked.append(place)
        place += 1
    assert place > 30  # it was interrupted at all
    assert locked == []


def test_no_interrupt_loses_the_bound() -> None:
    """What an interrupt has taken out of the order of eviction comes back into it."""
    place, going_on = 0, True
    while going_on:
        registry = Registry(read({}), max_circuits=2)
        for name in "ab":
            registry[name].call(int)
        going_on = interrupted(partial(registry.__getitem__, "new"), place)
        for name in "cdef":
            registry[name].call(int)
        assert len(registry._cache.kept) <= 2, place
        assert registry["f"].info().totals.successes == 1, place
        place += 1
    assert place > 100  # it was interrupted at all
