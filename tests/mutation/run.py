"""Mutation testing of the engine, the windows and the strategies.

    python tests/mutation/run.py [--sample N] [--seed S] [--module NAME] [--only NAME#NUMBER]

One process collects the tests once and measures which of them run which lines. For each mutant it
forks: the child takes the code of the changed functions over and runs the tests that come by the
changed lines, the likeliest killer first. A mutant of what runs at import (a default, a constant
of a class) gets an interpreter of its own.

`equivalent.toml` lists the mutants that nobody can kill, with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import importlib.machinery
import json
import math
import os
import pickle
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

sys.path.insert(0, str(Path(__file__).resolve().parent))
from mutants import MODULES, SOURCES, Mutant, mutants_of

HERE = Path(__file__).resolve().parent
CORE = HERE.parent / "core"
SLOW = 3.0
"""Seconds: a test that takes longer is no fast test, and left out."""
BUDGET = 10.0
"""Seconds: a mutant gets so much of the tests that come by it."""
PATIENCE = 20.0
"""Seconds that one test may take longer than it took without a fault: loops, deadlocks."""

FILES = [
    *(
        f"test_{name}.py"
        for name in [
            *("states", "half_open", "strategies", "tallies", "lane", "numbers", "traps"),
            *("controls", "nested_calls", "in_probe", "errors_in_strategies", "reentrancy"),
            *("interrupts", "breaker", "blocks", "async", "available", "healthy", "saved"),
            *("explained", "integration", "cancelled_after", "refusal_elsewhere"),
            *("iteration_end", "unmade", "config", "registry", "testing", "fork", "model"),
        ]
    ),
    *(
        f"listeners/test_{name}.py"
        for name in ("listen_everywhere", "listener_order", "call_events", "aggregate")
    ),
    *(f"fleet/test_{name}.py" for name in ("fleet", "circuits", "timed_controls", "window")),
]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, help="so many mutants, of each module its share")
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--module", action="append", help="only this one, as `_engine/machine.py`")
    parser.add_argument("--only", action="append", help="only this mutant, as `retries.py:9#3`")
    parser.add_argument("--json", type=Path, help="the results, for later")
    parser.add_argument("--again", type=Path, help="only the survivors of such results")
    parser.add_argument("--plant", metavar="FILE", help="(for the process of one mutant)")
    parser.add_argument("files", nargs="*", help="other test files")
    return parser.parse_args()


def plugin_options(files: list[str]) -> list[str]:
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    found = [str(CORE / name) for name in files if (CORE / name).exists()]
    return [*options, "--tb=no", "--no-header", f"--rootdir={HERE.parents[1]}", *found]


def calm_hypothesis() -> None:
    """The same examples each time, and no word about slow ones."""
    import hypothesis  # not before pytest, which rewrites a part of it

    hypothesis.settings.register_profile("mutation", derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("mutation")


class Runner:
    """A pytest plugin in whose place for running tests the mutants are run."""

    def __init__(self, mutants: list[Mutant]) -> None:
        self.mutants = mutants
        self.results: dict[str, str] = {}
        self.kills: dict[str, Counter[str]] = defaultdict(Counter)

    def pytest_sessionstart(self) -> None:
        calm_hypothesis()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        began = time.time()
        self.took, self.lines = self.measure()
        say(f"{len(self.took)} tests measured in {time.time() - began:.0f} s")
        slow = [name for name, seconds in self.took.items() if seconds > SLOW]
        for name in slow:
            say(f"  left out, {self.took.pop(name):.1f} s: {name}")
        self.functions = {name: functions_of(name) for name in MODULES}
        for number, mutant in enumerate(self.mutants, 1):
            tests = self.tests_for(mutant)
            result = self.run(mutant, tests) if tests else "no test comes by"
            self.results[mutant.name] = result
            if not result.startswith("killed"):
                say(f"[{number}/{len(self.mutants)}] {mutant.name}: {result}\n{mutant.change}")
            elif number % 50 == 0:
                lived = sum(not each.startswith("killed") for each in self.results.values())
                say(f"[{number}/{len(self.mutants)}] {lived} live")
        return True

    def measure(self) -> tuple[dict[str, float], dict[str, dict[int, set[str]]]]:
        """Which test takes how long, and which tests come by a line; those that fail are left out.

        In a child, so that nothing of it stays here.
        """
        with tempfile.TemporaryFile() as file:
            child = os.fork()
            if not child:
                try:
                    pickle.dump(self.measured(), file)
                    file.flush()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            file.seek(0)
            took, lines = pickle.load(file)
        return took, lines

    def measured(self) -> tuple[dict[str, float], dict[str, dict[int, set[str]]]]:
        paths = {str(SOURCES / name): name for name in MODULES}
        took: dict[str, float] = {}
        lines: dict[str, dict[int, set[str]]] = {name: defaultdict(set) for name in MODULES}
        names = list(self.items)
        for name, following in zip(names, [*names[1:], None], strict=True):
            hit: set[tuple[str, int]] = set()

            def line(frame: FrameType, _: str, __: object, hit: Any = hit) -> Any:
                hit.add((frame.f_code.co_filename, frame.f_lineno))
                return line

            def enter(frame: FrameType, event: str, arg: object, hit: Any = hit) -> Any:
                return line(frame, event, arg, hit) if frame.f_code.co_filename in paths else None

            sys.settrace(enter)
            threading.settrace(enter)
            began = time.perf_counter()
            reports = self.one(name, following)
            took[name] = time.perf_counter() - began
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            if any(report.failed for report in reports):
                del took[name]
                say(f"  left out, it fails while lines are traced: {name}")
                continue
            for file, number in hit:
                lines[paths[file]][number].add(name)
        return took, lines

    def one(self, name: str, following: str | None) -> list[pytest.TestReport]:
        item = self.items[name]
        nextitem = self.items[following] if following else None
        return runtestprotocol(item, nextitem=nextitem, log=False)

    def tests_for(self, mutant: Mutant) -> list[str]:
        """The tests that come by its lines: who has killed neighbours first, then the quick."""
        first, last = mutant.lines
        by_line = self.lines[mutant.module]
        near = range(first, last + 1)
        names = set().union(*(by_line.get(line, set()) for line in near))
        if not mutant.in_function:  # it runs at import, before any test
            names = set().union(*by_line.values())
        kills = self.kills[mutant.module]
        there = sorted(
            (name for name in names if name in self.took),
            key=lambda name: (-kills[name], self.took[name]),
        )
        left, chosen = BUDGET, []
        for name in there:
            left -= self.took[name]
            if left < 0:
                break
            chosen.append(name)
        return chosen

    def run(self, mutant: Mutant, tests: list[str]) -> str:
        if not mutant.in_function:
            return self.run_fresh(mutant, tests)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            os.setpgid(0, 0)
            self.child(mutant, tests, write)
        os.close(write)
        try:
            return self.watch(read, tests, mutant)
        finally:
            os.close(read)
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError):
                    kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def child(self, mutant: Mutant, tests: list[str], write: int) -> None:
        try:
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
            take_over(mutant, self.functions[mutant.module])
            for name, following in zip(tests, [*tests[1:], None], strict=True):
                os.write(write, b".")
                if any(report.failed for report in self.one(name, following)):
                    os.write(write, b"F")
                    os._exit(0)
            os.write(write, b"E")
        except BaseException:  # the mutant breaks the runner, too
            os.write(write, b"F")
        finally:
            os._exit(0)

    def watch(self, read: int, tests: list[str], mutant: Mutant) -> str:
        at = -1
        while True:
            limit = PATIENCE + 10 * (self.took[tests[at]] if at >= 0 else 1.0)
            ready, _, _ = select.select([read], [], [], limit)
            if not ready:
                return f"killed by time in {tests[at]}"
            for byte in os.read(read, 4096) or b"F":
                if byte == ord("."):
                    at += 1
                elif byte == ord("E"):
                    return f"lives after {len(tests)} tests"
                else:
                    self.kills[mutant.module][tests[max(at, 0)]] += 1
                    return f"killed by {tests[max(at, 0)]}"

    def run_fresh(self, mutant: Mutant, tests: list[str]) -> str:
        files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump([mutant.module, mutant.source, tests[:2000]], file)
            file.flush()
            command = [sys.executable, __file__, "--plant", file.name, *files]
            try:
                done = subprocess.run(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=240
                )
            except subprocess.TimeoutExpired:
                return "killed by time"
        return f"lives after {len(files)} files" if done.returncode == 0 else "killed"


def functions_of(module: str) -> list[tuple[tuple[str, int], FunctionType]]:
    """All living functions of a module, each with the key of its code."""
    path = str(SOURCES / module)
    importlib.import_module("fluxgate." + module.removesuffix(".py").replace("/", "."))
    by_place = {
        (code.co_qualname, code.co_firstlineno): key
        for key, code in codes(compile(Path(path).read_text(), path, "exec"))
    }
    return [
        (by_place[each.__code__.co_qualname, each.__code__.co_firstlineno], each)
        for each in gc.get_objects()
        if type(each) is FunctionType
        and each.__code__.co_filename == path
        and (each.__code__.co_qualname, each.__code__.co_firstlineno) in by_place
    ]


def codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """The code of each function in a module, with its name and which of that name it is."""
    count: Counter[str] = Counter()

    def walk(outer: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
        for const in outer.co_consts:
            if isinstance(const, CodeType):
                name = const.co_qualname
                count[name] += 1
                yield (name, count[name]), const
                yield from walk(const)

    return walk(code)


def take_over(mutant: Mutant, functions: list[tuple[tuple[str, int], FunctionType]]) -> None:
    """Have the functions of this process run the mutant's code."""
    new = dict(codes(compile(mutant.source, str(SOURCES / mutant.module), "exec")))
    for key, function in functions:
        if key in new and len(new[key].co_freevars) == len(function.__code__.co_freevars):
            function.__code__ = new[key]
    circuit = importlib.import_module("fluxgate._engine.circuit")
    circuit._CRITICAL = circuit.Circuit._locked.__code__  # type: ignore[attr-defined]


class Fresh:
    """The tests for a mutant in a process of its own."""

    def __init__(self, wanted: list[str]) -> None:
        self.wanted = {name: place for place, name in enumerate(wanted)}

    def pytest_sessionstart(self) -> None:
        calm_hypothesis()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self.wanted]
        items.sort(key=lambda item: self.wanted[item.nodeid])


def plant(module: str, source: str) -> None:
    """Have this process import another source in place of a module's own."""
    path = str(SOURCES / module)
    loader = importlib.machinery.SourceFileLoader
    original = loader.get_code

    def get_code(self: Any, fullname: str) -> CodeType | None:
        if self.path == path:
            return compile(source, path, "exec", dont_inherit=True)
        return original(self, fullname)

    loader.get_code = get_code  # type: ignore[method-assign]


def say(text: str) -> None:
    os.write(2, f"{text}\n".encode())


def chosen(options: argparse.Namespace) -> list[Mutant]:
    modules = options.module or MODULES
    if options.only:
        modules = sorted({name.partition(":")[0] for name in options.only})
    again = None
    if options.again:
        results = json.loads(options.again.read_text())["results"]
        again = {name for name, result in results.items() if not result.startswith("killed")}
        modules = sorted({name.partition(":")[0] for name in again})
    found = {module: list(mutants_of(module)) for module in modules}
    total = sum(map(len, found.values()))
    dice, mutants = random.Random(options.seed), []
    for each in found.values():
        if options.only or again is not None:
            mutants += [one for one in each if one.name in (again or options.only)]
        elif options.sample:
            share = max(1, round(options.sample * len(each) / total))
            mutants += sorted(dice.sample(each, min(share, len(each))), key=lambda m: m.number)
        else:
            mutants += each
    say(f"{len(mutants)} of {total} mutants of {len(found)} modules")
    return mutants


def report(results: dict[str, str], changes: dict[str, str]) -> bool:
    """Print the table; whether enough were killed and every survivor is listed."""
    listed = tomllib.loads((HERE / "equivalent.toml").read_text())
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    unlisted = []
    for name, result in results.items():
        module = name.partition(":")[0]
        kind = "killed" if result.startswith("killed") else "lives"
        if kind == "lives" and changes[name] in {
            each["change"].strip("\n") for each in listed.get(module, [])
        }:
            kind = "listed"
        elif kind == "lives":
            unlisted.append(name)
        rows[module][kind] += 1
    total: Counter[str] = sum(rows.values(), Counter())
    print(f"{'module':24}{'mutants':>9}{'killed':>9}{'listed':>9}{'live':>6}")
    for module, row in [*rows.items(), ("all", total)]:
        count = row.total()
        print(f"{module:24}{count:9}{row['killed']:9}{row['listed']:9}{row['lives']:6}")
    count = total.total()
    share = total["killed"] / count
    error = 1.96 * math.sqrt(share * (1 - share) / count)
    print(f"killed: {share:.1%} (95 % confidence: ± {error:.1%} where it is a sample)")
    return share >= 0.95 and not unlisted


def main() -> int:
    options = arguments()
    if options.plant:
        module, source, wanted = json.loads(Path(options.plant).read_text())
        plant(module, source)
        return int(pytest.main([*plugin_options([]), *options.files], plugins=[Fresh(wanted)]))
    mutants = chosen(options)
    runner = Runner(mutants)
    status = pytest.main(plugin_options(options.files or FILES), plugins=[runner])
    changes = {mutant.name: mutant.change for mutant in mutants}
    if options.json:
        survivors = {
            name: changes[name]
            for name, result in runner.results.items()
            if not result.startswith("killed")
        }
        kept = {"results": runner.results, "survivors": survivors}
        options.json.write_text(json.dumps(kept, indent=1))
    if not runner.results:
        return int(status) or 1
    return 0 if report(runner.results, changes) else 1


if __name__ == "__main__":
    sys.exit(main())
