"""Threads that call one function, or each its own."""

from collections.abc import Sequence
from itertools import repeat
from threading import Barrier, Thread
from time import perf_counter

from thin import Fn
from timing import Turn, own_code


def threaded(fn: Fn, threads: int) -> Turn:
    """Share the calls of one function among threads."""
    return side_by_side([fn] * threads)


def side_by_side(functions: Sequence[Fn]) -> Turn:
    """Share the calls among threads, one for each function.

    The time is from the first start to the last end.
    """
    threads = len(functions)

    def turn(calls: int) -> float:
        share = max(1, calls // threads)
        gate = Barrier(threads)
        times: list[tuple[float, float]] = []

        def work(fn: Fn) -> None:
            todo = repeat(None, share)
            gate.wait()
            start = perf_counter()
            for _ in todo:
                fn()
            times.append((start, perf_counter()))

        workers = [Thread(target=work, args=(fn,)) for fn in functions]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if len(times) != threads:
            raise RuntimeError("a thread died")
        lasted = max(end for _, end in times) - min(start for start, _ in times)
        return lasted * calls / (share * threads)

    return own_code(turn)
