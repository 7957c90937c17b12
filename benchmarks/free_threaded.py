"""What a second thread brings: calls a second by two threads ÷ by one, with and without the GIL.

    python3.14t benchmarks/free_threaded.py
    python3.14 benchmarks/free_threaded.py

needs `fluxgate-core` in the environment (or its `src` on PYTHONPATH) and two cores with nothing
else to do. Breakers of their own and one that both threads call stand beside the thinnest wrapper,
and beside one that counts its calls in the plainest way that is right, under a lock. In each round
every contestant makes as many calls by one thread as by two; medians over the rounds count.
"""

import argparse
import platform
import sys
from collections.abc import Callable
from threading import Lock

from thin import Fn, dependency, thinnest
from threaded import side_by_side
from timing import Turn, race

from fluxgate import CircuitBreaker

THREADS = 2


def breaker() -> Fn:
    """A function behind a breaker of its own, whose window is full."""
    protected = CircuitBreaker("measured")(dependency)
    for _ in range(300):
        protected()
    return protected


def counting() -> Fn:
    """The thinnest wrapper, and a count of its calls."""
    lock, wrapped = Lock(), thinnest(dependency)
    count = 0

    def counted() -> object:
        nonlocal count
        result = wrapped()
        with lock:
            count += 1
        return result

    return counted


MAKERS: dict[str, Callable[[], Fn]] = {
    "thinnest wrapper": lambda: thinnest(dependency),
    "count under a lock": counting,
    "breaker": breaker,
}


def contestants() -> dict[str, Turn]:
    """Each kind, by one thread, by two with one each, and by two that share one."""
    turns: dict[str, Turn] = {}
    for name, make in MAKERS.items():
        turns[f"{name}, 1"] = side_by_side([make()])
        turns[f"{name}, own"] = side_by_side([make() for _ in range(THREADS)])
        turns[f"{name}, shared"] = side_by_side([make()] * THREADS)
    return turns


def main() -> None:
    """Measure and print, one kind a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--calls", type=int, default=100_000, help="of a turn (%(default)s)")
    given = parser.parse_args()
    if given.rounds < 1 or given.calls < 1000:
        parser.error("at least one round, and a thousand calls in a turn")
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"CPython {platform.python_version()}, {'with' if gil else 'without'} the GIL")
    times = race(contestants(), given.rounds, given.calls)
    print("| | ns a call, 1 thread | ÷ wrapper | 2 threads ÷ 1: one each | one shared |")
    print("|---|---|---|---|---|")
    for name in MAKERS:
        one = f"{name}, 1"
        print(
            f"| {name} | {times.ns(one):.0f} | {times.ratio(one, 'thinnest wrapper, 1'):.2f} "
            f"| {times.ratio(one, f'{name}, own'):.2f} "
            f"| {times.ratio(one, f'{name}, shared'):.2f} |"
        )


if __name__ == "__main__":
    main()
