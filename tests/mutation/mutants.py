"""Mutants: the engine's sources with one small fault each.

The faults are those of mutmut's operators (another comparison, another constant, an argument left
out, `and` for `or`, ...), and two that it lacks: a statement left out, a condition reversed. Only
the generator is mutmut's: it runs mutants behind a trampoline in place of each function, and the
engine looks for its own code object on the stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import Mutation, MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode
from planting import SOURCES, Mutant, outside_functions

PASS = cst.SimpleStatementLine([cst.Pass()])


def reversed_condition(node: cst.If | cst.While) -> Iterator[cst.CSTNode]:
    """`if not (x)` for `if x`."""
    test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    yield node.with_changes(test=cst.UnaryOperation(cst.Not(), test))


def dropped_statement(node: cst.SimpleStatementLine) -> Iterator[cst.CSTNode]:
    """`pass` in place of a call or an assignment to an attribute."""
    (first, *_) = node.body
    if isinstance(first, cst.Expr):
        docstring = isinstance(first.value, cst.BaseString)
        if not docstring and not isinstance(first.value, cst.Ellipsis):
            yield PASS
    elif isinstance(first, cst.AugAssign | cst.Del) or (
        isinstance(first, cst.Assign)
        and all(not isinstance(each.target, cst.Name) for each in first.targets)
    ):
        yield PASS


OPERATORS: Any = [
    *mutation_operators,
    (cst.If, reversed_condition),
    (cst.While, reversed_condition),
    (cst.SimpleStatementLine, dropped_statement),
]


class Visitor(MutationVisitor):
    """mutmut's, which also looks into decorated functions and leaves type aliases alone."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef):
            return node.name.value in ("__repr__", "__init_subclass__")
        if (
            isinstance(node, cst.If)
            and isinstance(node.test, cst.Name)
            and node.test.value == "TYPE_CHECKING"
        ):
            return True
        if isinstance(node, cst.AnnAssign) and "TypeAlias" in cst.Module([]).code_for_node(
            node.annotation.annotation
        ):
            return True
        if isinstance(node, cst.Assert):  # for type checkers
            return True
        if isinstance(node, cst.Assign) and isinstance(node.targets[0].target, cst.Name):
            named = node.targets[0].target.value in ("__all__", "__slots__", "T")
            return named or super()._skip_node_and_children(node)
        return super()._skip_node_and_children(node)


def mutants_of(module: str) -> Iterator[Mutant]:
    """All mutants of one module, without those that are the same text or don't compile."""
    code = (SOURCES / module).read_text()
    wrapper = MetadataWrapper(cst.parse_module(code))
    visitor = Visitor(OPERATORS, IgnoredCode(set(), set(), set()))
    tree = wrapper.visit(visitor)
    positions = wrapper.resolve(PositionProvider)
    at_import = outside_functions(compile(code, module, "exec"))
    seen = {code}
    for number, mutation in enumerate(visitor.mutations):
        source, lines = applied(mutation, tree, code, positions)
        if source in seen:
            continue
        seen.add(source)
        try:
            mutated = compile(source, module, "exec")
        except SyntaxError:
            continue
        change = changed(code, source, lines)
        yield Mutant(module, number, lines, change, source, at_import == outside_functions(mutated))


def applied(
    mutation: Mutation, tree: cst.Module, code: str, positions: Mapping[cst.CSTNode, CodeRange]
) -> tuple[str, tuple[int, int]]:
    """The text of the module with a mutation, and which of its lines were changed."""
    before, after = mutation.original_node, mutation.mutated_node
    if isinstance(before, cst.If | cst.While):  # only the condition differs
        assert isinstance(after, cst.If | cst.While)
        before, after = before.test, after.test
    where = positions.get(before)
    if where is None or isinstance(before, cst.Match):
        source = tree.deep_replace(before, after).code  # type: ignore[arg-type]
        same = takewhile(
            lambda pair: pair[0] == pair[1], zip(*map(str.splitlines, (code, source)), strict=False)
        )
        line = sum(1 for _ in same) + 1
        return source, (line, line)
    # Much quicker than to make the tree anew; a position leaves the parentheses around out.
    text = tree.code_for_node(
        after.with_changes(lpar=(), rpar=()) if hasattr(after, "lpar") else after
    )
    lines = code.splitlines(keepends=True)
    first, last = where.start.line, where.end.line
    lines[first - 1 : last] = [
        lines[first - 1][: where.start.column]
        + text.strip("\n")
        + lines[last - 1][where.end.column :]
    ]
    return "".join(lines), (first, last)


def changed(before: str, after: str, lines: tuple[int, int]) -> str:
    """The changed lines, before and after."""
    old, new = before.splitlines(), after.splitlines()
    first, last = lines
    end = last + len(new) - len(old)
    return "\n".join(
        [
            *(f"- {line}" for line in old[first - 1 : last]),
            *(f"+ {line}" for line in new[first - 1 : end]),
        ]
    )
