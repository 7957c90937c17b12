"""Mutation testing of the engine, the windows and the strategies.

    python tests/mutation/run.py [--sample N] [--seed S] [--module NAME] [--only NAME#NUMBER]

One process collects the tests once and measures which of them run which lines. For each mutant it
forks: the child takes the code of the changed functions over and runs the tests that come by the
changed lines, the likeliest killer first. A mutant of what runs at import (a default, a constant
of a class) gets an interpreter of its own, and so does a survivor whose lines run at import or
while tests are collected, too: what was made there would be the sound code's work.

Whatever finds a mutant for the first time meets the sources as they are, too, in the same company:
a test that fails then would find every mutant.

`equivalent.toml` lists the mutants that nobody can kill, with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
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
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

sys.path.insert(0, str(Path(__file__).resolve().parent))
from planting import (
    MODULES,
    SOURCES,
    Mutant,
    fits,
    functions_of,
    import_mutated,
    listed_in,
    take_over,
)

HERE = Path(__file__).resolve().parent
CORE = HERE.parent / "core"
SLOW = 30.0
"""Seconds of CPU, while lines are traced: a test that takes longer is left out."""
BUDGET = 90.0
"""Seconds of CPU: a mutant gets so much of the tests that come by it, as traced."""
PATIENCE = 30.0
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
            *("config_text", "diagram", "explain_claims", "frozen_time", "interrupted_engine"),
            *("interrupted_registry", "leases", "linearizability", "log", "long_numbers"),
            *("naming", "probing", "problem", "record", "threads", "words"),
        ]
    ),
    *(
        f"listeners/test_{name}.py"
        for name in [
            *("listen_everywhere", "listener_order", "call_events", "aggregate", "background"),
            *("log_listener", "otel_metrics", "prometheus"),
        ]
    ),
    *(
        f"fleet/test_{name}.py"
        for name in [
            *("fleet", "circuits", "timed_controls", "window", "presence", "flusher"),
            "interrupted_fleet",
        ]
    ),
    *(f"replay/test_{name}.py" for name in ("replay", "walk", "truth")),
    *("console/test_controls.py", "console/test_reading.py"),
]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, help="so many mutants, of each module its share")
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--module", action="append", help="only this one, as `_engine/machine.py`")
    parser.add_argument("--only", action="append", help="only this mutant, as `retries.py:9#3`")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of CPU a mutant")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after that")
    parser.add_argument("--json", type=Path, help="the results, for later")
    parser.add_argument("--planted", action="store_true", help="those of `planted.toml`")
    parser.add_argument("--again", type=Path, help="only the survivors of such results")
    parser.add_argument("--plant", metavar="FILE", help="(for the process of one mutant)")
    parser.add_argument("files", nargs="*", help="other test files")
    return parser.parse_args()


def plugin_options(files: list[str]) -> list[str]:
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    found = [str(CORE / name) for name in files]
    return [*options, "--tb=no", "--no-header", f"--rootdir={HERE.parents[1]}", *found]


def calm_hypothesis() -> None:
    """The same examples each time, and no word about slow ones."""
    import hypothesis  # not before pytest, which rewrites a part of it

    hypothesis.settings.register_profile("mutation", derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("mutation")


class Tracer:
    """The lines of the engine that run, in every thread and forked child.

    Tests that trace, or fork, turn the tracing off: as long as this one is at work, that takes no
    line away. Which lines run under a tracer of the test's own isn't seen.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = frozenset(paths)
        self.hit: set[tuple[str, int]] = set()
        self.others = False
        self.process = os.getpid()
        self.children = os.open(tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR | os.O_APPEND)

    def __enter__(self) -> None:
        self.settrace = sys.settrace
        sys.settrace = self.exchanged
        self.settrace(self.call)
        threading.settrace(self.call)

    def __exit__(self, *_: object) -> None:
        sys.settrace = self.settrace
        sys.settrace(None)
        threading.settrace(None)

    def exchanged(self, function: Any) -> None:
        others = function is not None and function != self.call
        self.others |= others
        self.settrace(function if others else self.call)

    def call(self, frame: FrameType, event: str, arg: object) -> Any:
        return self.line(frame, event, arg) if frame.f_code.co_filename in self.paths else None

    def line(self, frame: FrameType, event: str, arg: object) -> Any:
        place = (frame.f_code.co_filename, frame.f_lineno)
        if place not in self.hit:
            self.hit.add(place)
            if os.getpid() != self.process:
                os.write(self.children, f"{place[0]}:{place[1]}\n".encode())
        return self.line

    def take(self) -> tuple[set[tuple[str, int]], bool]:
        """What has run since the last time, and whether somebody else has traced meanwhile."""
        size = os.lseek(self.children, 0, os.SEEK_END)
        for text in os.pread(self.children, size, 0).decode().splitlines():
            file, _, number = text.rpartition(":")
            self.hit.add((file, int(number)))
        os.ftruncate(self.children, 0)
        taken = set(self.hit), self.others
        self.hit.clear()
        self.others = False
        return taken


class Runner:
    """A pytest plugin in whose place for running tests the mutants are run."""

    def __init__(self, mutants: list[Mutant], options: argparse.Namespace) -> None:
        self.mutants = mutants
        self.budget: float = options.budget
        self.until = time.monotonic() + 60 * options.minutes
        self.json: Path | None = options.json
        self.results: dict[str, str] = {}
        self.kills: dict[str, Counter[str]] = defaultdict(Counter)
        self.early: set[tuple[str, int]] = set()
        self.killer = ""
        # Who has killed, and how it was run then, and found nothing without a fault.
        self.sound: set[tuple[str, str]] = set()

    def pytest_sessionstart(self) -> None:
        calm_hypothesis()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_collection(self) -> Iterator[None]:
        paths = {str(SOURCES / name): name for name in MODULES}

        def note(frame: FrameType, *_: object) -> None:
            code = frame.f_code
            if code.co_filename in paths:
                lines = {line for _, _, line in code.co_lines() if line is not None}
                self.early |= {(paths[code.co_filename], line) for line in lines}

        sys.setprofile(note)
        yield
        sys.setprofile(None)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.items = {item.nodeid: item for item in session.items}
        began = time.time()
        self.took, self.lines = self.measure()
        slow = [name for name, seconds in self.took.items() if seconds > SLOW]
        for name in slow:
            say(f"  left out, {self.took.pop(name):.1f} s: {name}")
        say(f"{len(self.took)} tests measured in {time.time() - began:.0f} s")
        self.functions = {name: functions_of(name) for name in MODULES}
        for number, mutant in enumerate(self.mutants, 1):
            if time.monotonic() > self.until:
                self.mutants = self.mutants[: number - 1]
                break
            result = self.result_of(mutant)
            self.results[mutant.name] = result
            if not result.startswith("killed"):
                say(f"[{number}/{len(self.mutants)}] {mutant.name}: {result}\n{mutant.change}")
            elif number % 50 == 0:
                lived = sum(not each.startswith("killed") for each in self.results.values())
                say(f"[{number}/{len(self.mutants)}] {lived} live")
            if self.json and number % 10 == 0:
                self.keep(self.json)
        if self.json:
            self.keep(self.json)
        return True

    def keep(self, file: Path) -> None:
        survivors = {
            mutant.name: mutant.change
            for mutant in self.mutants
            if not self.results.get(mutant.name, "killed").startswith("killed")
        }
        file.write_text(json.dumps({"results": self.results, "survivors": survivors}, indent=1))

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
        tracer = Tracer(paths)
        unseen, failed = [], []
        names = list(self.items)
        for name, following in zip(names, [*names[1:], None], strict=True):
            with tracer:
                seconds, passed = self.timed(name, following)
            hit, others = tracer.take()
            if not passed:
                failed.append(name)
                continue
            took[name] = seconds
            if others:
                unseen.append(name)
            for file, number in hit:
                lines[paths[file]][number].add(name)
        for name, following in zip(failed, [*failed[1:], None], strict=False):
            seconds, passed = self.timed(name, following)
            if passed:
                took[name] = seconds
                unseen.append(name)
            else:
                say(f"  left out, it fails: {name}")
        for by_line in lines.values():
            for names_there in by_line.values():
                names_there.update(unseen)
        return took, lines

    def timed(self, name: str, following: str | None) -> tuple[float, bool]:
        began = time.process_time()
        reports = self.one(name, following)
        return time.process_time() - began, not any(report.failed for report in reports)

    def one(self, name: str, following: str | None) -> list[pytest.TestReport]:
        item = self.items[name]
        nextitem = self.items[following] if following else None
        return runtestprotocol(item, nextitem=nextitem, log=False)

    def result_of(self, mutant: Mutant) -> str:
        first, last = mutant.lines
        early = not mutant.in_function or any(
            (mutant.module, line) in self.early for line in range(first, last + 1)
        )
        if fits(mutant, self.functions[mutant.module]):
            result = self.of_sound_tests(mutant, self.tests_for(mutant), self.run)
            if result.startswith("killed") or not early:
                return result
        return self.of_sound_tests(mutant, self.tests_for(mutant, early=early), self.run_fresh)

    def of_sound_tests(
        self, mutant: Mutant, tests: list[str], run: Callable[[Mutant, list[str]], str]
    ) -> str:
        """How it ends; a test that finds it must not find anything in the sources as they are."""
        while tests:
            result = run(mutant, tests)
            killer = self.killer
            if not result.startswith("killed") or (run.__name__, killer) in self.sound:
                return result
            unchanged = mutant._replace(source=(SOURCES / mutant.module).read_text())
            before = tests[: tests.index(killer) + 1] if killer else tests
            if run(unchanged, before).startswith("lives"):
                self.sound.add((run.__name__, killer))
                return result
            unsound = self.killer
            if not unsound:
                raise pytest.UsageError("without a fault, the sources can't be imported")
            say(f"  left out, it fails without a fault: {unsound}")
            self.took.pop(unsound, None)
            tests.remove(unsound)
        return "no test comes by"

    def tests_for(self, mutant: Mutant, *, early: bool = False) -> list[str]:
        """The tests that come by its lines: who has killed neighbours first, then the quick.

        Where it is run `early`, before any test, all others follow: a test whose parameters were
        made then may look at them without running a line of the module.
        """
        first, last = mutant.reach
        by_line = self.lines[mutant.module]
        near: set[str] = set()
        near = near.union(*(by_line.get(line, near) for line in range(first, last + 1)))
        kills = self.kills[mutant.module]
        there = (name for name in (self.took if early else near) if name in self.took)
        return self.in_budget(
            sorted(there, key=lambda name: (-kills[name], name not in near, self.took[name]))
        )

    def in_budget(self, tests: Iterable[str]) -> list[str]:
        left, chosen = self.budget, []
        for name in tests:
            left -= self.took[name]
            if left < 0:
                break
            chosen.append(name)
        return chosen

    def run(self, mutant: Mutant, tests: list[str]) -> str:
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
            limit = PATIENCE + 20 * (self.took[tests[at]] if at >= 0 else 1.0)
            ready, _, _ = select.select([read], [], [], limit)
            self.killer = tests[max(at, 0)]
            if not ready:
                return f"killed by time in {self.killer}"
            for byte in os.read(read, 4096) or b"F":
                if byte == ord("."):
                    at += 1
                    self.killer = tests[at]
                elif byte == ord("E"):
                    return f"lives after {len(tests)} tests"
                else:
                    self.kills[mutant.module][self.killer] += 1
                    return f"killed by {self.killer}"

    def run_fresh(self, mutant: Mutant, tests: list[str]) -> str:
        """The same as `run`, in another interpreter; without a killer where it can't import."""
        files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
        with tempfile.NamedTemporaryFile("w+", suffix=".json") as file:
            json.dump([mutant.module, mutant.source, tests], file)
            file.flush()
            command = [sys.executable, __file__, "--plant", file.name, *files]
            limit = 4 * PATIENCE + 5 * sum(self.took[name] for name in tests)
            nothing = subprocess.DEVNULL
            try:
                done = subprocess.run(command, stdout=nothing, stderr=nothing, timeout=limit)
            except subprocess.TimeoutExpired:
                done = None
            _, *begun = Path(file.name).read_text().splitlines()
            self.killer = begun[-1] if begun else ""
        if done is None:
            return f"killed by time in {self.killer}"
        if done.returncode == 0:
            return f"lives after {len(tests)} tests"
        return f"killed by {self.killer or 'the import'}"


class Fresh:
    """The tests for a mutant in a process of its own.

    Args:
        file: says which mutant and tests, in a line; those that begin are added to it, one a line.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.module, self.source, wanted = json.loads(file.read_text())
        self.wanted = {name: place for place, name in enumerate(wanted)}

    def pytest_sessionstart(self) -> None:
        calm_hypothesis()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self.wanted]
        items.sort(key=lambda item: self.wanted[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        with self.file.open("a") as file:
            file.write(f"\n{nodeid}")


def say(text: str) -> None:
    os.write(2, f"{text}\n".encode())


def chosen(options: argparse.Namespace) -> list[Mutant]:
    if options.planted:
        planted = [each.planted() for each in listed_in("planted.toml")]
        return [each._replace(number=number) for number, each in enumerate(planted, 1)]
    from mutants import mutants_of  # mutmut comes with it, which the planted ones don't need

    modules = options.module or MODULES
    if options.only:
        modules = sorted({name.partition(":")[0] for name in options.only})
    again = None
    if options.again:  # by what they change, since lines move
        survivors = json.loads(options.again.read_text())["survivors"]
        again = {(name.partition(":")[0], change) for name, change in survivors.items()}
        modules = options.module or sorted({module for module, _ in again})
    found = {module: list(mutants_of(module)) for module in modules}
    for listed in listed_in("equivalent.toml"):
        if listed.module in found and not any(map(listed.covers, found[listed.module])):
            raise SystemExit(f"equivalent.toml lists what is no mutant:\n{listed.change}")
    total = sum(map(len, found.values()))
    dice, mutants = random.Random(options.seed), []
    for each in found.values():
        if again is not None:
            mutants += [one for one in each if (one.module, one.change) in again]
        elif options.only:
            mutants += [one for one in each if one.name in options.only]
        elif options.sample:
            share = max(1, round(options.sample * len(each) / total))
            mutants += sorted(dice.sample(each, min(share, len(each))), key=lambda m: m.number)
        else:
            mutants += each
    dice.shuffle(mutants)  # what a run has done when it is stopped is a sample, too
    say(f"{len(mutants)} of {total} mutants of {len(found)} modules")
    return mutants


def report(mutants: list[Mutant], results: dict[str, str]) -> bool:
    """Print the table; whether enough were killed and every survivor is listed."""
    listed = listed_in("equivalent.toml")
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in mutants:
        kind = "killed" if results[mutant.name].startswith("killed") else "lives"
        if kind == "lives" and any(each.covers(mutant) for each in listed):
            kind = "listed"
        rows[mutant.module][kind] += 1
    total: Counter[str] = sum(rows.values(), Counter())
    print(f"{'module':24}{'mutants':>9}{'killed':>9}{'listed':>9}{'live':>6}")
    for module, row in [*sorted(rows.items()), ("all", total)]:
        count = row.total()
        print(f"{module:24}{count:9}{row['killed']:9}{row['listed']:9}{row['lives']:6}")
    count = total.total()
    share = total["killed"] / count
    error = 1.96 * math.sqrt(share * (1 - share) / count)
    print(f"killed: {share:.1%} (95 % confidence: ± {error:.1%} where it is a sample)")
    return share >= 0.95 and not total["lives"]


def main() -> int:
    options = arguments()
    if options.plant:
        fresh = Fresh(Path(options.plant))
        import_mutated(fresh.module, fresh.source)
        return int(pytest.main([*plugin_options([]), *options.files], plugins=[fresh]))
    mutants = chosen(options)
    runner = Runner(mutants, options)
    files = options.files or FILES
    if options.planted:
        files = sorted({test for each in listed_in("planted.toml") for test in each.tests})
    status = pytest.main(plugin_options(files), plugins=[runner])
    if not runner.results or len(runner.results) < len(runner.mutants):
        return int(status) or 1
    return 0 if report(runner.mutants, runner.results) else 1


if __name__ == "__main__":
    sys.exit(main())
