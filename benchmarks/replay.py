"""The reach of replay: seconds and memory, with the extra `fluxgate-core[replay]` and without.

    python benchmarks/replay.py [--calls 10000000] [--only read,sweep,plain]

needs fluxgate-core[replay] in the environment; "without" hides polars and numpy from a process. The
traces are made with a fixed seed: a day with three outages. Each figure is of a process of its own;
memory is the most that it held, beyond what a process has that has only imported the package. A
figure depends on the machine and on what else it does (CPU seconds less so): it is held against a
reach, not a peer.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DAY = 86_400.0
BEGIN = 1_764_000_000.0
OUTAGES = [(20_000, 21_000), (50_000, 50_600), (75_000, 76_000)]
POLICY = "MinRequests(10) & FailureRate(0.5)"
GRID = ["FailureRate=0.05..0.95/10", "MinRequests=5,10,20,30,40,50,60,70,80,100"]


def write(path: Path, calls: int) -> None:
    """Write a day of calls as CSV."""
    import numpy as np
    import polars as pl

    random = np.random.default_rng(1)
    at = np.cumsum(random.exponential(DAY / calls, calls))
    down = np.zeros(calls, dtype=bool)
    for begin, end in OUTAGES:
        down |= (at >= begin) & (at < end)
    failed = random.random(calls) < np.where(down, 0.7, 0.005)
    duration = random.lognormal(-3, 0.5, calls) + np.where(down & failed, 1.0, 0.0)
    pl.DataFrame(
        {"start": (BEGIN + at).round(6), "duration": duration.round(6), "failed": failed}
    ).write_csv(path)


def hide_the_extra() -> None:
    """Make polars and numpy look as if they weren't installed."""
    for name in ("numpy", "polars"):
        sys.modules[name] = None  # type: ignore[assignment]


def most_memory() -> int:
    """The most that this process has held, in bytes."""
    try:  # what getrusage() says begins with what the parent had
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) * 1024  # type: ignore[index]


def measured(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The figures of some work, and the memory that it took."""
    import fluxgate.replay.readers._frames  # noqa: F401  (polars, where it is)

    before = most_memory()
    figures = work()
    figures["bytes a call"] = (most_memory() - before) / figures["calls"]
    return figures


def one_policy(path: Path) -> dict[str, float]:
    """Read the file and replay one policy."""
    from fluxgate.replay import replay
    from fluxgate.replay.readers import read

    began, busy = time.perf_counter(), time.process_time()
    trace = read(path)
    have_read, busy_reading = time.perf_counter(), time.process_time()
    result = replay(trace, [POLICY])
    ended, busy_at_end = time.perf_counter(), time.process_time()
    assert result.policies[1].outages_seen == len(OUTAGES), result.policies[1]
    return {
        "calls": len(trace),
        "seconds": ended - began,
        "reading": have_read - began,
        "replaying": ended - have_read,
        "CPU seconds": busy_at_end - busy,
        "reading, CPU": busy_reading - busy,
        "trace": trace.nbytes / len(trace),
    }


def walks(path: Path) -> dict[str, float]:
    """Nanoseconds a call of the walk alone, in batches and one by one."""
    from fluxgate import Policy, config
    from fluxgate.replay._calls import Calls
    from fluxgate.replay._walk import fast, one_by_one
    from fluxgate.replay.readers import read

    trace = read(path)
    calls = Calls(trace)
    figures: dict[str, float] = {"calls": len(trace)}
    slow = config.parse("tripper", "MinRequests(20) & (FailureRate(0.5) | SlowRate(0.5, 1.0))")
    policies = {
        "CountWindow": Policy(),
        "TimeWindow and SlowRate": Policy(
            tripper=slow, window=config.parse("window", "TimeWindow(60)")
        ),
    }
    for name, policy in policies.items():
        walked = {}
        for way in (fast, one_by_one):
            began = time.process_time()
            walked[way] = way(calls, policy)
            passed = time.process_time() - began
            figures[f"{name}, {way.__name__.replace('_', ' ')}"] = passed / len(trace) * 1e9
        assert walked[fast].moves == walked[one_by_one].moves
    return figures


def sweep(path: Path) -> dict[str, float]:
    """A hundred policies on two processes."""
    from fluxgate.replay import sweep
    from fluxgate.replay.readers import read

    trace = read(path)
    began = time.perf_counter()
    result = sweep(trace, GRID, processes=2)
    assert len(result.cells) == 100, len(result.cells)
    return {"calls": len(trace), "seconds": time.perf_counter() - began}


WORK = {"one": one_policy, "walks": walks, "sweep": sweep}


def run(kind: str, path: Path, extra: bool) -> dict[str, float]:
    """Do some work in a process of its own."""
    command = [sys.executable, __file__, "--work", kind, str(path)]
    output = subprocess.run(
        command if extra else [*command, "--plain"],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    if output.returncode:
        sys.exit(output.stderr)
    figures: dict[str, float] = json.loads(output.stdout)
    return figures


def show(what: str, figures: dict[str, float]) -> None:
    print(what)
    for name, value in figures.items():
        print(f"  {name:40} {value:14,.2f}")
    sys.stdout.flush()


def main(options: argparse.Namespace) -> None:
    wanted = set(options.only.split(","))
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large.csv"), Path(folder, "small.csv")
        write(small, 1_000_000)
        if "read" in wanted:
            write(large, options.calls)
            show("one policy (reach: 10 s with reading, 200 bytes a call)", run("one", large, True))
            large.unlink()
        if "walks" in wanted:
            show("nanoseconds a call of the walk alone", run("walks", small, True))
        if "sweep" in wanted:
            show("100 policies (reach: 60 s on two cores)", run("sweep", small, True))
        if "plain" in wanted:
            show("one policy, without the extra", run("one", small, False))
            show("walks, without the extra", run("walks", small, False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--only", default="read,walks,sweep,plain")
    parser.add_argument("--work", nargs=2, metavar=("KIND", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    if given.work is None:
        main(given)
    else:
        if given.plain:
            hide_the_extra()
        kind, file = given.work
        print(json.dumps(measured(lambda: WORK[kind](Path(file)))))
