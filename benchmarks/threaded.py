"""Many threads that call one function."""

from itertools import repeat
from threading import Barrier, Thread
from time import perf_counter

from thin import Fn
from timing import Turn, own_code


def threaded(fn: Fn, threads: int) -> Turn:
    """Share the calls among threads; the time is from the first start to the last end."""

    def turn(calls: int) -> float:
        share = max(1, calls // threads)
        gate = Barrier(threads)
        times: list[tuple[float, float]] = []

        def work() -> None:
            todo = repeat(None, share)
            gate.wait()
            start = perf_counter()
            for _ in todo:
                fn()
            times.append((start, perf_counter()))

        workers = [Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if len(times) != threads:
            raise RuntimeError("a thread died")
        lasted = max(end for _, end in times) - min(start for start, _ in times)
        return lasted * calls / (share * threads)

    return own_code(turn)
