"""An exception of a signal handler between any two instructions leaves a registry whole.

Making, evicting, forgetting and declaring a circuit are interrupted at each bytecode of the
registry. Afterwards its lock is free for other threads, so no new circuit waits for it, and the
bound on its circuits still holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from fluxgate.config import read
from fluxgate.registry import Registry

from .interrupting import interrupted, report

pytestmark = pytest.mark.slow

HIT = ("_circuit_cache.py", "_locks.py", "registry.py")


def is_lock_free(registry: Registry) -> bool:
    """Whether another thread gets the lock without waiting."""
    free: list[bool] = []

    def look() -> None:
        lock = registry._cache._lock.here()
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
        going_on = interrupted(partial(STEPS[step], registry), place, *HIT)
        if not is_lock_free(registry):
            locked.append(place)
        place += 1
    assert place > 30  # it was interrupted at all
    report(f"registry, {step}", place)
    assert locked == []


def test_no_interrupt_loses_the_bound() -> None:
    """What an interrupt has taken out of the order of eviction comes back into it."""
    place, going_on = 0, True
    while going_on:
        registry = Registry(read({}), max_circuits=2)
        for name in "ab":
            registry[name].call(int)
        going_on = interrupted(partial(registry.__getitem__, "new"), place, *HIT)
        for name in "cdef":
            registry[name].call(int)
        assert len(registry._cache.kept) <= 2, place
        assert registry["f"].info().totals.successes == 1, place
        place += 1
    assert place > 100  # it was interrupted at all
    report("registry, the bound", place)
