"""The sync and the async twin of a thing are the same code but for `await`, and stay so.

They are written twice because one function call more would cost a tenth of what a breaker costs,
and because generators and coroutines can't share a body. So their syntax trees are compared,
without `await`, annotations and docstrings; what differs has to stand in `ALLOWED`, with its
reason. Whoever changes one of a pair, and not the other, fails here.
"""

from __future__ import annotations

import ast
import difflib
import textwrap
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

import fluxgate
import fluxgate_httpx

CORE = Path(fluxgate.__file__).parent
HTTPX = Path(fluxgate_httpx.__file__).parent


class Twins(NamedTuple):
    """Two functions or methods that ought to be the same, by qualified name."""

    file: Path
    sync: str
    other: str


PAIRS: dict[str, Twins] = {
    "call": Twins(CORE / "breaker.py", "CircuitBreaker.call", "AsyncCircuitBreaker.call"),
    "decorated": Twins(
        CORE / "breaker.py", "CircuitBreaker._protect", "AsyncCircuitBreaker._protect"
    ),
    "attempted": Twins(
        CORE / "breaker.py", "CircuitBreaker._attempted", "AsyncCircuitBreaker._attempted"
    ),
    "fallback": Twins(
        CORE / "breaker.py", "CircuitBreaker._with_fallback", "AsyncCircuitBreaker._with_fallback"
    ),
    "call with fallback": Twins(
        CORE / "breaker.py",
        "CircuitBreaker.call_with_fallback",
        "AsyncCircuitBreaker.call_with_fallback",
    ),
    "enter": Twins(
        CORE / "breaker.py", "CircuitBreaker.__enter__", "AsyncCircuitBreaker.__aenter__"
    ),
    "attempt's enter": Twins(CORE / "attempt.py", "Attempt.__enter__", "Attempt.__aenter__"),
    "attempt's exit": Twins(CORE / "attempt.py", "Attempt.__exit__", "Attempt.__aexit__"),
    "block's exit": Twins(CORE / "_blocks.py", "SyncBlock.__call__", "AsyncBlock.__call__"),
    "request": Twins(
        HTTPX / "_transports.py",
        "SyncTransportBase.handle_request",
        "AsyncTransportBase.handle_async_request",
    ),
    "transport's close": Twins(
        HTTPX / "_transports.py", "SyncTransportBase.close", "AsyncTransportBase.aclose"
    ),
    "transport's enter": Twins(
        HTTPX / "_transports.py", "SyncTransportBase.__enter__", "AsyncTransportBase.__aenter__"
    ),
    "transport's exit": Twins(
        HTTPX / "_transports.py", "SyncTransportBase.__exit__", "AsyncTransportBase.__aexit__"
    ),
    "body": Twins(HTTPX / "_bodies.py", "SyncBody.__iter__", "AsyncBody.__aiter__"),
    "body's close": Twins(HTTPX / "_bodies.py", "SyncBody.close", "AsyncBody.aclose"),
    "upload": Twins(HTTPX / "_bodies.py", "RequestBody.__iter__", "RequestBody.__aiter__"),
    "upload's close": Twins(HTTPX / "_bodies.py", "RequestBody.close", "RequestBody.aclose"),
}
"""Not among them: `protect_generator` and `protect_async_generator`. `yield from` does for the one,
in one expression, what the other has to spell out."""

NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "aclose": "close",
    "handle_async_request": "handle_request",
}
"""The async names of Python and of httpx, and the sync ones."""


class Difference(NamedTuple):
    """Lines that one twin has in place of the other's."""

    sync: str
    other: str
    why: str


ANSWER = Difference(
    "return self._check_result(fallback, fallback(error))",
    "answer = fallback(error)\nreturn answer if is_awaitable(answer) else answer",
    "an async breaker takes sync and async fallbacks; a sync one must not get a coroutine",
)
ALLOWED: dict[str, list[Difference]] = {
    "call": [
        Difference(
            "result = fn(*args, **kwargs) if kwargs else fn(*args)",
            "awaitable = fn(*args, **kwargs) if kwargs else fn(*args)\n"
            "if type(awaitable) is not _COROUTINE:\n"
            "    self._check_awaitable(fn, awaitable)\n"
            "result = awaitable",
            "only an async call can be given something that can't be awaited",
        )
    ],
    "attempted": [
        Difference(
            "result = fn(*args, **kwargs)",
            "awaitable = fn(*args, **kwargs)\n"
            "self._check_awaitable(fn, awaitable)\n"
            "result = awaitable",
            "only an async call can be given something that can't be awaited",
        )
    ],
    "fallback": [ANSWER],
    "call with fallback": [ANSWER],
    "request": [
        Difference(
            "substitute: Response = self._substituted(refusal, guard.on_open(refusal))",
            "given = guard.on_open(refusal)\n"
            "given = given if isawaitable(given) else given\n"
            "substitute: Response = self._substituted(refusal, given)",
            "an async transport takes sync and async hooks",
        )
    ],
    "upload": [
        Difference(
            "yield from self._source",
            "for chunk in self._source:\n    yield chunk",
            "no async generator has `yield from`",
        )
    ],
    "body": [
        Difference(
            "",
            "probe = settlement.probe\nchunks = self._stream.__iter__()",
            "it has to be closed, below",
        ),
        Difference(
            "if settlement.probe:\n    for chunk in self._stream:",
            "for chunk in chunks:\n    if probe:",
            "the sync one looks once, and then passes chunks by `yield from`, without a step",
        ),
        Difference(
            "        yield chunk\nelse:\n    yield from self._stream",
            "yield chunk",
            "no async generator has `yield from`",
        ),
        Difference(
            "settlement.ended()",
            "else:\n    settlement.ended()\nfinally:\n"
            "    if isinstance(chunks, AsyncGenerator):\n        chunks.close()",
            "nothing closes an async generator that is left early, but for the loop, later",
        ),
    ],
}


class Normal(ast.NodeTransformer):
    """A syntax tree without `async`, `await`, annotations of arguments and docstrings."""

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return cast("ast.AST", self.visit(node.value))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        body = node.body
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body = body[1:] or [ast.Pass()]
        name = NAMES.get(node.name, node.name)
        plain = ast.FunctionDef(name, node.args, body, [], None)
        return ast.copy_location(plain, node)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        self.generic_visit(node)
        plain = ast.For(node.target, node.iter, node.body, node.orelse)
        return ast.copy_location(plain, node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        self.generic_visit(node)
        return ast.copy_location(ast.With(node.items, node.body), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = NAMES.get(node.attr, node.attr)
        return node


def definition(source: str, name: str) -> ast.stmt:
    """A function or method by its qualified name; of overloads, what they stand for."""
    found: Any = ast.parse(source)
    for part in name.split("."):
        found = [each for each in found.body if getattr(each, "name", None) == part][-1]
    return cast("ast.stmt", found)


def normal(source: str, name: str) -> list[str]:
    """The lines of a function or method as its twin would have them."""
    plain: ast.AST = Normal().visit(definition(source, name))
    return ast.unparse(ast.fix_missing_locations(plain)).splitlines()


def differences(source: str, twins: Twins) -> list[tuple[str, str]]:
    """Each run of lines that differ, as the sync and the async twin have it."""
    sync, other = normal(source, twins.sync), normal(source, twins.other)
    found: list[tuple[str, str]] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, sync, other, autojunk=False).get_opcodes():
        if tag != "equal":
            found.append((dedented(sync[a:b]), dedented(other[c:d])))
    return found


def dedented(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines))


@pytest.mark.parametrize("pair", PAIRS)
def test_twins_differ_as_allowed(pair: str) -> None:
    allowed = [(each.sync, each.other) for each in ALLOWED.get(pair, [])]
    assert differences(PAIRS[pair].file.read_text(), PAIRS[pair]) == allowed


def test_what_is_allowed_has_a_pair() -> None:
    assert ALLOWED.keys() <= PAIRS.keys()
    assert all(each.why for listed in ALLOWED.values() for each in listed)


@pytest.mark.parametrize(
    ("pair", "line", "mutated"),
    [
        ("call", "if len(lane) > 255:", "if len(lane) > 256:"),
        ("decorated", "circuit.returned(lane, result, elapsed, end)", "pass"),
        ("attempted", "attempt.raised(error)", "attempt.fail(error)"),
        ("transport's close", "self._closed = True", "self._closed = False"),
        ("transport's exit", "if not self._closed:", "if True:"),
        ("body's close", "self._settlement.left()", "pass"),
    ],
)
def test_a_drift_is_seen(pair: str, line: str, mutated: str) -> None:
    """A line that one twin has changed, and the other has not."""
    twins = PAIRS[pair]
    source = twins.file.read_text()
    method = ast.get_source_segment(source, definition(source, twins.other))
    assert method is not None
    assert line in method
    drifted = source.replace(method, method.replace(line, mutated, 1))
    assert differences(drifted, twins) != differences(source, twins)
