"""Planting: a mutant, and how the code of living functions is exchanged for its own.

The faults of `planted.toml` are written there; those of the long proof come from `mutants.py`.
"""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.machinery
import inspect
import math
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "packages" / "fluxgate-core" / "src" / "fluxgate"
MODULES = (
    *sorted(
        str(path.relative_to(SOURCES))
        for path in SOURCES.glob("_engine/*.py")
        if path.name != "__init__.py"
    ),
    *("_tally.py", "windows.py", "trackers.py", "trippers.py", "retries.py", "permits.py"),
)

Place = tuple[str, int]
"""A function of a module: its qualified name, and which one of that name it is."""


class Mutant(NamedTuple):
    """A source with one fault.

    Attributes:
        module: its path below `fluxgate/`.
        number: its place among the mutants of that module.
        lines: the first and the last line of what is changed.
        change: the changed lines, before and after.
        source: the whole text.
        in_function: whether nothing but the code of functions differs.
    """

    module: str
    number: int
    lines: tuple[int, int]
    change: str
    source: str
    in_function: bool

    @property
    def name(self) -> str:
        return f"{self.module}:{self.lines[0]}#{self.number}"

    @property
    def reach(self) -> tuple[int, int]:
        """The lines of the statement around it, of a block its head: a line has no code of its own.

        A constant in the middle of a call has none, for example.
        """
        found = self.lines
        nodes: list[ast.AST] = [ast.parse((SOURCES / self.module).read_text())]
        while nodes:
            node = nodes.pop(0)
            first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", math.inf)
            if first <= self.lines[0] <= last:
                if isinstance(node, ast.stmt):
                    inner = getattr(node, "body", None)
                    head = inner[0].lineno - 1 if inner else last
                    found = (first, max(first, head)) if self.lines[0] <= head else found
                nodes = list(ast.iter_child_nodes(node))
        return min(found[0], self.lines[0]), max(found[1], self.lines[1])

    @property
    def where(self) -> str:
        """The function or class around it; the module, an empty text."""
        names: list[str] = []
        nodes: list[ast.AST] = [ast.parse((SOURCES / self.module).read_text())]
        while nodes:
            node = nodes.pop(0)
            first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", math.inf)
            if first <= self.lines[0] <= last:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    names.append(node.name)
                nodes = list(ast.iter_child_nodes(node))
        return ".".join(names)


class Listed(NamedTuple):
    """A change that stands in a file, such as `equivalent.toml`.

    Attributes:
        module: its path below `fluxgate/`.
        change: the changed lines, before and after.
        reason: why it is there.
        where: the function or class around it, where the same lines stand in several.
        tests: those that find it, in `tests/core`.
    """

    module: str
    change: str
    reason: str
    where: str | None = None
    tests: tuple[str, ...] = ()

    def covers(self, mutant: Mutant) -> bool:
        return (self.module, self.change) == (mutant.module, mutant.change) and (
            self.where is None or self.where == mutant.where
        )

    def planted(self) -> Mutant:
        """The mutant; ValueError unless its lines stand in the module, and once."""
        code = (SOURCES / self.module).read_text()
        old, new = (
            "".join(f"{line[2:]}\n" for line in self.change.splitlines() if line[0] == sign)
            for sign in "-+"
        )
        found = []
        for part in range(code.count(old)):
            before = old.join(code.split(old)[: part + 1])
            first = before.count("\n") + 1
            source = before + new + code[len(before) + len(old) :]
            lines = (first, first + old.count("\n") - 1)
            in_function = outside_functions(compile(code, "", "exec")) == outside_functions(
                compile(source, "", "exec")
            )
            mutant = Mutant(self.module, 0, lines, self.change, source, in_function)
            if self.covers(mutant) and (not before or before.endswith("\n")):
                found.append(mutant)
        if len(found) != 1:
            raise ValueError(f"{self.module} has {len(found)} times what is to change:\n{old}")
        return found[0]


def listed_in(name: str) -> list[Listed]:
    """The changes in a file of this folder."""
    return [
        Listed(module, **{**each, "change": each["change"].strip("\n")})
        for module, entries in tomllib.loads((HERE / name).read_text()).items()
        for each in entries
    ]


def outside_functions(code: CodeType) -> list[Any]:
    """What runs at import: the code of a module and of its classes, without their functions'."""
    found: list[Any] = [code.co_code, code.co_names]
    for const in code.co_consts:
        if not isinstance(const, CodeType):
            found.append((type(const), const))
        elif not const.co_flags & inspect.CO_OPTIMIZED:  # a class's body, no function
            found.append(outside_functions(const))
    return found


def functions_of(module: str) -> list[tuple[Place, FunctionType]]:
    """All living functions of a module, each with the place of its code."""
    path = str(SOURCES / module)
    importlib.import_module("fluxgate." + module.removesuffix(".py").replace("/", "."))
    by_line = {
        (code.co_qualname, code.co_firstlineno): place
        for place, code in codes(compile(Path(path).read_text(), path, "exec"))
        if code.co_flags & inspect.CO_OPTIMIZED  # no class's body
    }
    gc.unfreeze()  # the tests freeze what importing has made, and no list has it then
    found = [
        (by_line[each.__code__.co_qualname, each.__code__.co_firstlineno], each)
        for each in gc.get_objects()
        if type(each) is FunctionType
        and each.__code__.co_filename == path
        and (each.__code__.co_qualname, each.__code__.co_firstlineno) in by_line
    ]
    if not found and any("<" not in name for name, _ in by_line):
        raise RuntimeError(f"no function of {module} was found: its mutants would all live")
    return found


def codes(code: CodeType) -> Iterator[tuple[Place, CodeType]]:
    """The code of each function in a module, with its name and which of that name it is."""
    count: Counter[str] = Counter()

    def walk(outer: CodeType) -> Iterator[tuple[Place, CodeType]]:
        for const in outer.co_consts:
            if isinstance(const, CodeType):
                name = const.co_qualname
                count[name] += 1
                yield (name, count[name]), const
                yield from walk(const)

    return walk(code)


def fits(mutant: Mutant, functions: list[tuple[Place, FunctionType]]) -> bool:
    """Whether living functions can take its code over: they keep the cells that they have."""
    new = dict(codes(compile(mutant.source, str(SOURCES / mutant.module), "exec")))
    return mutant.in_function and all(
        place in new and len(new[place].co_freevars) == len(function.__code__.co_freevars)
        for place, function in functions
    )


def take_over(mutant: Mutant, functions: list[tuple[Place, FunctionType]]) -> None:
    """Have the functions of this process run the mutant's code."""
    new = dict(codes(compile(mutant.source, str(SOURCES / mutant.module), "exec")))
    for place, function in functions:
        function.__code__ = new[place]
    circuit = importlib.import_module("fluxgate._engine.circuit")
    circuit._CRITICAL = circuit.Circuit._locked.__code__  # type: ignore[attr-defined]


def import_mutated(module: str, source: str) -> None:
    """Have this process import another source in place of a module's own."""
    path = str(SOURCES / module)
    loader = importlib.machinery.SourceFileLoader
    original = loader.get_code

    def get_code(self: Any, fullname: str) -> CodeType | None:
        if self.path == path:
            return compile(source, path, "exec", dont_inherit=True)
        return original(self, fullname)

    loader.get_code = get_code  # type: ignore[method-assign]
