"""Memory, import and decorating: what having a breaker costs before it's called.

Memory and imports are measured in processes of their own, where nothing else counts.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from types import FunctionType
from typing import Any

from report import Figure, over
from thin import Fn, async_dependency, dependency, plain_decorator
from timing import Effort, Turn, own_code, race

# Isolated (-I): no PYTHON* variables, no user site, nothing but what is installed. The
# package's folder is appended for a checkout that isn't installed; both sides do it.
PREFIX = "import sys; sys.path.append({path!r}); "

IMPORTING = """
from time import perf_counter
before = set(sys.modules)
start = perf_counter()
import fluxgate
seconds = perf_counter() - start
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
strangers = sorted(tops - sys.stdlib_module_names - {"fluxgate"})
import json
print(json.dumps({"seconds": seconds, "strangers": strangers}))
"""

MEMORY = """
import gc, json, tracemalloc
from fluxgate import AsyncCircuitBreaker, CircuitBreaker
names = [f"breaker-{number}" for number in range(20_000)]
answer = {}
for kind in CircuitBreaker, AsyncCircuitBreaker:
    warm_up = [kind(name) for name in names[:100]]
    kept = [None] * 10_000
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(10_000):
        kept[number] = kind(names[number])
    gc.collect()
    answer[kind.__name__] = (tracemalloc.get_traced_memory()[0] - before) / 10_000
    tracemalloc.stop()
print(json.dumps(answer))
"""

DECORATING = """
import gc, json, resource
from fluxgate import AsyncCircuitBreaker, CircuitBreaker
sync, asynchronous = CircuitBreaker("sync"), AsyncCircuitBreaker("async")
def decorate(pairs):
    for _ in range(pairs):
        @sync
        def plain(): ...
        @asynchronous
        async def coroutine(): ...
def state():
    gc.collect()
    return sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decorate(10_000)
blocks, peak = state()
decorate({pairs})
blocks_after, peak_after = state()
print(json.dumps({{"blocks": blocks_after - blocks, "peak": peak_after - peak}}))
"""


def package_folder() -> str:
    """Where `fluxgate` is imported from."""
    import fluxgate

    if fluxgate.__file__ is None:
        raise RuntimeError("fluxgate is not a regular package")
    return str(Path(fluxgate.__file__).parent.parent)


def run(code: str) -> str:
    """Run code in a fresh, isolated interpreter and return what it prints."""
    command = [sys.executable, "-I", "-c", PREFIX.format(path=package_folder()) + code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def answer_of(code: str) -> Mapping[str, float]:
    """What code prints, as JSON."""
    answer: dict[str, float] = json.loads(run(code))
    return answer


def memory(_effort: Effort) -> Iterator[Figure]:
    """Idle default breakers."""
    for kind, size in answer_of(MEMORY).items():
        what = f"an idle default {kind} (tracemalloc, 10,000 of them)"
        yield Figure("memory", what, size / 1024, reach=4, unit="KiB")


def importing(effort: Effort) -> Iterator[Figure]:
    """`import fluxgate`, above bare Python."""
    run(IMPORTING)  # compiles
    above, inside = [], []
    strangers: list[str] = []
    for _ in range(effort.few * 2):
        start = perf_counter()
        run("")
        middle = perf_counter()
        run("import fluxgate")
        above.append((perf_counter() - middle) - (middle - start))
        answer = json.loads(run(IMPORTING))
        inside.append(answer["seconds"])
        strangers = answer["strangers"]
    note = f"{median(inside) * 1e3:.1f} ms inside the process"
    what = "import fluxgate, above bare Python"
    yield Figure("import", what, median(above) * 1e3, reach=30, unit="ms", note=note)
    what = "third-party packages that import fluxgate imports"
    names = ", ".join(strangers)
    yield Figure("import", what, len(strangers), reach=0, unit="packages", note=names)


def decorating(effort: Effort) -> Iterator[Figure]:
    """Decorating, as an endpoint does that decorates once per request."""
    from fluxgate import AsyncCircuitBreaker, CircuitBreaker

    turns = {
        "plain": decorations(dependency, plain_decorator),
        "ours": decorations(dependency, CircuitBreaker("decorating")),
        "async": decorations(async_dependency, AsyncCircuitBreaker("decorating-async")),
    }
    times = race(turns, effort.rounds, max(100, effort.calls // 4))
    line = partial(over, times, section="decorating", reach=5)
    yield line("ours", "plain", what="@cb ÷ functools.wraps")
    yield line("async", "plain", what="@cb on async def ÷ functools.wraps")
    many = effort.rounds * 5_000
    left = answer_of(DECORATING.format(pairs=many // 2))
    # Linux counts in KiB, macOS in bytes.
    peak = left["peak"] / (1024 if sys.platform == "darwin" else 1)
    what = f"memory blocks left by {many:,} decorations"
    note = f"peak memory {peak:+,.0f} KiB"
    yield Figure("decorating", what, left["blocks"], unit="blocks", note=note)


def decorations(template: Fn, decorate: Callable[[Any], object]) -> Turn:
    """Decorate that many functions."""

    def turn(calls: int) -> float:
        # New functions every time: what a cache remembers of an old one doesn't count.
        todo = [FunctionType(template.__code__, globals()) for _ in range(calls)]
        start = perf_counter()
        for fn in todo:
            decorate(fn)
        return perf_counter() - start

    return own_code(turn)
