"""Places: the bytecodes before which it matters whether a thread is preempted, and who sees them.

Bytecodes that only move what is the frame's own are no places: to be preempted before one of them
is the same as before the next that meets something shared. What is written in C is one step.
"""

from __future__ import annotations

import ast
import dis
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType, FunctionType
from typing import Any, Final, Protocol

import fluxgate

# Names of bytecodes that read and write nothing but their own frame. Those of a later Python that
# are not listed count as places, which costs time and misses nothing.
_OWN: Final = frozenset(
    """
    BUILD_CONST_KEY_MAP BUILD_LIST BUILD_MAP BUILD_SLICE BUILD_STRING BUILD_TUPLE CACHE
    CHECK_EXC_MATCH COPY COPY_FREE_VARS END_FOR EXTENDED_ARG IS_OP JUMP_BACKWARD
    JUMP_BACKWARD_NO_INTERRUPT JUMP_FORWARD KW_NAMES LIST_APPEND LIST_TO_TUPLE
    LOAD_ASSERTION_ERROR LOAD_CLOSURE LOAD_COMMON_CONSTANT LOAD_CONST LOAD_GLOBAL LOAD_SMALL_INT
    MAKE_CELL MAKE_FUNCTION MAP_ADD NOP NOT_TAKEN POP_EXCEPT POP_ITER POP_TOP PRECALL
    PUSH_EXC_INFO PUSH_NULL RAISE_VARARGS RERAISE RESUME RETURN_CONST RETURN_GENERATOR
    RETURN_VALUE SET_FUNCTION_ATTRIBUTE SWAP UNARY_NEGATIVE
    """.split()  # noqa: SIM905
)
_TESTS: Final = frozenset({"IS_OP", "COMPARE_OP", "CONTAINS_OP", "TO_BOOL", "UNARY_NOT"})
_CALLS: Final = frozenset({"CALL", "CALL_FUNCTION_EX", "CALL_KW"})


@cache
def rebound(path: Path) -> frozenset[str]:
    """Names of attributes that anything but a constructor binds, in a folder or in one file.

    Any other attribute is bound before its object is seen by a second thread, and never again.
    """
    names: set[str] = set()

    def visit(node: ast.AST, constructor: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                visit(child, getattr(child, "name", "") == "__init__")
                continue
            if (
                isinstance(child, ast.Attribute)
                and not isinstance(child.ctx, ast.Load)
                and not constructor
            ):
                names.add(child.attr)
            visit(child, constructor)

    for file in [path] if path.is_file() else path.rglob("*.py"):
        visit(ast.parse(file.read_text(encoding="utf-8")), constructor=False)
    return frozenset(names)


class _Offsets:
    """The bytecodes of a code before which a thread may be preempted."""

    def __init__(self, code: CodeType, shared: frozenset[str], *, each: bool) -> None:
        self.calls: set[int] = set()  # those of them that call something
        found = (one.offset for one in dis.get_instructions(code)) if each else None
        self.all = frozenset(found or self._of(code, shared))

    def _of(self, code: CodeType, shared: frozenset[str]) -> Iterator[int]:
        before = ""
        constructor = code.co_name == "__init__"
        for each in dis.get_instructions(code):
            name = each.opname
            tests = name.startswith(("POP_JUMP", "JUMP_IF"))
            own = (
                name in _OWN
                or name.startswith(("LOAD_FAST", "STORE_FAST"))
                or (tests and ("NONE" in name or (before in _TESTS and not each.is_jump_target)))
                or (name in ("LOAD_ATTR", "LOAD_METHOD") and each.argval not in shared)
                or (name == "STORE_ATTR" and constructor and each.argval not in shared)
                or (name == "BINARY_OP" and "=" not in each.argrepr and "[" not in each.argrepr)
            )
            if name not in ("CACHE", "EXTENDED_ARG", "PRECALL"):
                before = name
            if not own:
                if name in _CALLS:
                    self.calls.add(each.offset)
                yield each.offset


UNWATCHED: Final = (
    *("_dotted.py", "_settings", "_values.py", "_words.py", "policy.py"),  # make frozen values
    "_log.py",  # has a lock that is no run's
)
"""Modules of the core in which nobody is preempted."""


class Places:
    """The places of all code in a folder, or in one file.

    Args:
        path: where the code is.
        each: whether every bytecode is a place, also those that meet nothing shared.
    """

    def __init__(self, path: Path, *, each: bool = False) -> None:
        self.path = str(path)
        self._path = path
        self._unwatched = tuple(str(path / name) for name in UNWATCHED)
        self._each = each
        self._known: dict[CodeType, _Offsets] = {}

    def of(self, code: CodeType) -> _Offsets | None:
        """Those of a function; None for other people's."""
        offsets = self._known.get(code)
        if offsets is None:
            file = code.co_filename
            if not file.startswith(self.path) or file.startswith(self._unwatched):
                return None
            offsets = self._known[code] = _Offsets(code, rebound(self._path), each=self._each)
        return offsets


SOURCES: Final = Path(fluxgate.__file__).parent
PLACES: Final = Places(SOURCES)


class Observer(Protocol):
    """Who is told where a thread is."""

    def entered(self, frame: FrameType) -> None:
        """A function begins."""

    def met(self, frame: FrameType) -> bool:
        """The thread is at a place; whether it goes on being observed."""


class Watch(Protocol):
    """Watches threads, each from its `begin` to its `end`."""

    places: Places

    def begin(self, observer: Observer) -> None:
        """Watch this thread from now on."""

    def end(self) -> None:
        """Watch this thread no longer."""


class _Tracing:
    """By `sys.settrace`, up to CPython 3.11; from 3.12 on that is not reliable in threads."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def begin(self, observer: Observer) -> None:
        def enter(frame: FrameType, *_: object) -> Any:
            offsets = self.places.of(frame.f_code)
            if offsets is None:
                return None
            observer.entered(frame)
            places = offsets.all
            frame.f_trace_opcodes, frame.f_trace_lines = True, False

            def step(frame: FrameType, event: str, _: object) -> Any:
                if event == "opcode" and frame.f_lasti in places and not observer.met(frame):
                    sys.settrace(None)
                return step

            return step

        sys.settrace(enter)

    def end(self) -> None:
        sys.settrace(None)


class _Monitoring:
    """By `sys.monitoring`."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._observers: dict[int, Observer] = {}

    def begin(self, observer: Observer) -> None:
        self._observers[get_ident()] = observer

    def end(self) -> None:
        self._observers.pop(get_ident(), None)

    def started(self, code: CodeType, offset: int) -> None:
        observer = self._observers.get(get_ident())
        if observer is not None:
            observer.entered(sys._getframe(1))

    def stepped(self, code: CodeType, offset: int) -> object:
        offsets = self.places.of(code)
        if offsets is None or offset not in offsets.all:
            return sys.monitoring.DISABLE
        observer = self._observers.get(get_ident())
        if observer is not None and not observer.met(sys._getframe(1)):
            self.end()
        return None


@contextmanager
def watching(places: Places) -> Iterator[Watch]:
    """Prepare to watch threads."""
    if sys.version_info < (3, 12):
        yield _Tracing(places)
        return
    watch, monitoring, tool = _Monitoring(places), sys.monitoring, 4
    events = monitoring.events
    codes = [
        code for each in functions(places) for code in nested(each.__code__) if places.of(code)
    ]
    monitoring.use_tool_id(tool, "places")
    try:
        monitoring.register_callback(tool, events.PY_START, watch.started)
        monitoring.register_callback(tool, events.INSTRUCTION, watch.stepped)
        for code in codes:
            monitoring.set_local_events(tool, code, events.PY_START | events.INSTRUCTION)
        monitoring.restart_events()
        yield watch
    finally:
        for code in codes:
            monitoring.set_local_events(tool, code, events.NO_EVENTS)
        monitoring.free_tool_id(tool)


def functions(places: Places) -> Iterator[FunctionType]:
    """The functions and methods of the imported modules in which there are places."""
    for module in list(sys.modules.values()):
        if (getattr(module, "__file__", None) or "").startswith(places.path):
            yield from _functions(vars(module), module.__name__)


def _functions(names: Mapping[str, object], module: str) -> Iterator[FunctionType]:
    for value in list(names.values()):
        if isinstance(value, type) and value.__module__ == module:
            yield from _functions(vars(value), module)
        for each in (value, getattr(value, "__func__", None), getattr(value, "fget", None)):
            if isinstance(each, FunctionType):
                yield each


def nested(code: CodeType) -> Iterator[CodeType]:
    """A code, and those of the functions that it defines."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from nested(const)
