"""Strategies from the expressions that build them: a whitelist over `ast`, never `eval`.

An expression is calls of the classes that one module of strategies exports, with numbers and
strings as arguments, joined by `&` and `|` (and `~` for trackers). The text is cut into tokens
first, which bounds the parser's input and avoids its warnings; the syntax tree is then walked node
by node, and every node that is not listed here is refused.
"""

from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType
from typing import Final, Literal, NoReturn, TypeAlias

from fluxgate import _dotted, permits, retries, trackers, trippers, windows
from fluxgate._naming import safe_str
from fluxgate._settings.errors import Mistake, SettingError, did_you_mean
from fluxgate._values import Composable, Strategy

StrategyKind: TypeAlias = Literal["window", "tracker", "tripper", "retry", "permit"]
"""The kinds of strategies, each named as the setting that holds one."""

MAX_LENGTH: Final = 2000
"""Characters in an expression."""
MAX_DEPTH: Final = 50
"""Clauses, or brackets, inside each other."""

_MODULES: dict[StrategyKind, ModuleType] = {
    "window": windows,
    "tracker": trackers,
    "tripper": trippers,
    "retry": retries,
    "permit": permits,
}
BASES: dict[StrategyKind, type[Strategy]] = {
    "window": windows.Window,
    "tracker": trackers.Tracker,
    "tripper": trippers.Tripper,
    "retry": retries.Retry,
    "permit": permits.Permit,
}
EXAMPLES: dict[StrategyKind, str] = {
    "window": "CountWindow(100)",
    "tracker": 'TypeOf("ConnectionError", "TimeoutError")',
    "tripper": "MinRequests(10) & FailureRate(0.5)",
    "retry": "Cooldown(60)",
    "permit": "RampUp(0.1, 1.0, 60)",
}
NAMES: dict[StrategyKind, dict[str, type[Strategy]]] = {
    kind: {
        name: getattr(module, name)
        for name in module.__all__
        if not inspect.isabstract(getattr(module, name))
    }
    for kind, module in _MODULES.items()
}
"""The whitelist. A strategy that its module exports is in it."""

_UNREADABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that no Python source can hold: Python's parser raises errors of many kinds there."""
_TOKEN = re.compile(
    r"""\s | [^\W\d]\w*                                        # space, name
    | (?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?(?![\w.])  # number
    | "[^"\\\n]*" | '[^'\\\n]*' | [()=,.&|~+-]                  # string, sign""",
    re.VERBOSE,
)


def imported(path: str) -> object:
    """The object that a dotted path names.

    Raises:
        SettingError: it can't be imported.
    """
    try:
        return _dotted.load(path, "")
    except ValueError as error:
        raise SettingError(str(error).removeprefix(": "), mistake=Mistake.IMPORT) from error
    except Exception as error:
        raise SettingError(
            f'"{path}" can\'t be imported: that raised {type(error).__name__}: {safe_str(error)}',
            mistake=Mistake.IMPORT,
        ) from error


def is_dotted(text: str) -> bool:
    """Whether `text` looks like the dotted path of something importable."""
    if len(text) > MAX_LENGTH:
        return False
    module, _, inner = text.partition(":")
    parts = [*module.split("."), *(inner.split(".") if inner else [])]
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def read(kind: StrategyKind, text: str) -> Strategy:
    """The strategy that an expression builds.

    Raises:
        SettingError: it can't be read, or builds nothing valid.
    """
    return _Reader(kind, text).read()


class _Reader:
    """Reads one expression. `depth` is how many operators or brackets surround a node."""

    def __init__(self, kind: StrategyKind, text: str) -> None:
        self.kind: StrategyKind = kind
        self.base = BASES[kind]
        self.names = NAMES[kind]
        self.text = text
        # What the parser sees: a TOML string may have several lines, and a text that was copied
        # from a page may have spaces that Python doesn't take for any. Character by character, so
        # that columns stay; without the margin, which would be an indentation.
        self.source = re.sub(r"\s", " ", text).lstrip()
        self.margin = len(text) - len(text.lstrip())

    def read(self) -> Strategy:
        self._scan()
        try:
            tree = ast.parse(self.source, mode="eval")
        except SyntaxError as error:
            at = (error.offset or len(self.source) + 1) - 1 + self.margin
            self._refuse(_plain(error.msg) if at < len(self.text) else "it ends too soon", at)
        except (RecursionError, MemoryError):
            self._refuse("it is nested too deeply", 0)
        return self._strategy(tree.body, 0)

    def _scan(self) -> None:
        text = self.text
        if len(text) > MAX_LENGTH:
            raise SettingError(
                f"{_excerpt(text, 0)}: it has {len(text)} characters, at most {MAX_LENGTH} are "
                "read; build it in code and give the dotted path of the result",
                mistake=Mistake.SYNTAX,
            )
        unreadable = _UNREADABLE.search(text)
        if unreadable is not None:
            self._refuse(f"{unreadable[0]!a} can't be read", unreadable.start())
        at = depth = 0
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                self._refuse(f"{text[at]!r} can't be read", at)
            depth += {"(": 1, ")": -1}.get(token[0], 0)
            if depth > MAX_DEPTH:
                self._refuse(f"brackets are nested more than {MAX_DEPTH} deep", at)
            at = token.end()

    def _strategy(self, node: ast.expr, depth: int) -> Strategy:
        if depth > MAX_DEPTH:
            self._refuse(
                f"clauses are nested more than {MAX_DEPTH} deep; "
                "build it in code and give the dotted path of the result",
                node,
            )
        match node:
            case ast.Call():
                return self._call(node)
            case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as op, right=right):
                first, second = self._strategy(left, depth + 1), self._strategy(right, depth + 1)
                if not issubclass(self.base, Composable):
                    self._refuse(f"a {self.kind} can't be combined with another: give one", node)
                # Both are of one kind, and every composable kind has both operators.
                joined = first & second if isinstance(op, ast.BitAnd) else first | second  # type: ignore[operator]
                assert isinstance(joined, self.base)
                return joined
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                inner = self._strategy(operand, depth + 1)
                if not isinstance(inner, trackers.Tracker):
                    self._refuse(f"~ turns trackers around, and this is a {self.kind}", node)
                return ~inner
            case ast.BoolOp(op=op):
                word, sign = ("and", "&") if isinstance(op, ast.And) else ("or", "|")
                self._refuse(f"write {sign} in place of `{word}`", node)
            case ast.UnaryOp(op=ast.Not()) if self.kind == "tracker":
                self._refuse("write ~ in place of `not`", node)
            case ast.Name(id=name) if name in self.names:
                self._refuse(f"write {_usage(self.names[name])}, with brackets", node)
            case ast.Name(id=name):
                self._unknown(name, node)
            case ast.BinOp() | ast.UnaryOp():
                self._refuse("only & and | (and ~ for trackers) join clauses", node)
            case _:
                self._refuse(f"expected a {self.kind}, such as {EXAMPLES[self.kind]}", node)

    def _call(self, node: ast.Call) -> Strategy:
        match node.func:
            case ast.Name(id=name):
                pass
            case ast.Attribute(attr=name) if name in self.names:
                self._refuse(f"write {name}(...) without its module", node)
            case _:
                self._refuse(f"only a {self.kind}, by its name, can be called", node)
        if name not in self.names:
            self._unknown(name, node)
        strategy = self.names[name]
        args = [self._argument(each, strategy) for each in node.args]
        kwargs: dict[str, float | str] = {}
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in kwargs:
                self._refuse(f"{keyword.arg} is given twice", keyword)
            kwargs[keyword.arg] = self._argument(keyword.value, strategy)
        try:
            inspect.signature(strategy).bind(*args, **kwargs)
        except TypeError as error:
            self._refuse(f"{name}: {error}; it is written {_usage(strategy)}", node)
        try:
            return strategy(*args, **kwargs)
        except (TypeError, ValueError) as error:
            mistake = Mistake.VALUE if error.__cause__ is None else Mistake.IMPORT
            raise SettingError(str(error), mistake=mistake) from error
        except Exception as error:  # what an import may raise
            raised = f"importing it raised {type(error).__name__}: {safe_str(error)}"
            raise SettingError(
                f"{self._written(node)}: {raised}", mistake=Mistake.IMPORT
            ) from error

    def _argument(self, node: ast.expr, owner: type[Strategy]) -> float | str:
        match node:
            case ast.Constant(value=bool()):
                pass
            case ast.Constant(value=int() | float() | str() as value):
                return value
            case ast.UnaryOp(
                op=ast.USub() | ast.UAdd() as op,
                operand=ast.Constant(value=int() | float() as value),
            ) if not isinstance(value, bool):
                return -value if isinstance(op, ast.USub) else value
            case ast.Name() | ast.Attribute() if self.kind == "tracker":
                self._refuse(f'write the name in quotes: "{self._written(node)}"', node)
            case _:
                pass
        self._refuse(f"{owner.__name__} takes numbers and strings", node)

    def _written(self, node: ast.expr) -> str:
        """The text of a node; `ast.unparse` would exceed the stack with a long `a.a.a`."""
        return ast.get_source_segment(self.source, node) or ""

    def _unknown(self, name: str, node: ast.AST) -> NoReturn:
        for other, names in NAMES.items():
            if name in names:
                self._refuse(f"{name} is a {other}, and a {self.kind} is wanted", node)
        self._refuse(
            f"no {self.kind} is called {name}; known are {', '.join(self.names)}"
            + did_you_mean(name, self.names),
            node,
            Mistake.UNKNOWN,
        )

    def _refuse(
        self, why: str, where: int | ast.AST, mistake: Mistake = Mistake.SYNTAX
    ) -> NoReturn:
        if isinstance(where, ast.AST):  # whose columns count bytes
            before = self.source.encode()[: getattr(where, "col_offset", 0)]
            where = len(before.decode()) + self.margin
        where = min(where, len(self.text))
        raise SettingError(
            f"{_excerpt(self.text, where)}: column {where + 1}: {why}", mistake=mistake
        ) from None


def _usage(strategy: type[Strategy]) -> str:
    """How a strategy is written: `Cooldown(duration, jitter_ratio=0.0)`."""
    parameters = inspect.signature(strategy).parameters.values()
    return f"{strategy.__name__}({', '.join(map(_parameter, parameters))})"


def _parameter(parameter: inspect.Parameter) -> str:
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return f"{parameter.name}..."
    return str(parameter.replace(annotation=inspect.Parameter.empty))


def _plain(message: str) -> str:
    """A message of Python's parser, without its advice about Python."""
    advice = re.search(r"[.,] (?:Perhaps|Maybe|did you)", message)
    return message[: advice.start()] if advice else message


def _excerpt(text: str, at: int) -> str:
    """The text; of a long one, some 60 characters on both sides of `at`."""
    start, end = max(at - 60, 0), at + 60
    part = re.sub(r"\s", " ", text[start:end])
    return f"`{'…' * (start > 0)}{part}{'…' * (end < len(text))}`"
