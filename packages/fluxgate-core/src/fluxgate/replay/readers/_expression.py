"""Expressions over the fields of a record: `ts`, `ms / 1000`, `status >= 500 or error != ""`.

Python's own parser reads them, and everything but names, numbers, text, `*`, `/`, comparisons and
`and`, `or`, `not` is refused, so nothing of a user's text is ever run.
"""

from __future__ import annotations

import ast
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from fluxgate._settings.errors import did_you_mean
from fluxgate.replay._trace import number
from fluxgate.replay.readers._row import COLUMNS, TraceError

_LONGEST: Final = 500
_COMPARED: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
# Without any of these, a text is the name of a field as it is: `@timestamp`, `response time`.
_OPERATORS: Final = re.compile(r"[*/<>=!()\"'`]|\b(?:and|or|not)\b")


class Expression:
    """A checked expression; call it with the fields of a record, and the row made of them.

    A column's name is that column of the row (so `status` of nginx is one try's, and `duration` is
    in seconds); any other is the field. Whatever can't be worked out, for want of a field or of a
    number, is None.

    Args:
        text: the expression. Fields whose names aren't words stand in backquotes.
        column: the column that it is for, whose own name then is that of the field:
            `duration=duration/1000`.

    Raises:
        TraceError: it isn't one.
    """

    def __init__(self, text: str, column: str | None = None) -> None:
        self.text = text.strip()
        self.column = column
        self.names: list[str] = []
        """The fields that it reads."""
        if not self.text or len(self.text) > _LONGEST:
            raise TraceError(f"an expression has 1 to {_LONGEST} characters: {text[:40]!r}")
        self.tree: ast.expr = self._parsed()
        self._evaluate = _compiled(self.tree, column)

    def _parsed(self) -> ast.expr:
        if not _OPERATORS.search(self.text) and number(self.text) is None:
            self.names.append(self.text)
            return ast.Name(self.text)
        quoted: dict[str, str] = {}
        prefix = "__"
        while prefix in self.text:  # a name of the user's own must not be taken for one of these
            prefix += "_"

        def stand_in(found: re.Match[str]) -> str:
            name = f"{prefix}{len(quoted)}"
            quoted[name] = found[1]
            return name

        source = re.sub(r"`([^`]+)`", stand_in, self.text)
        try:
            with warnings.catch_warnings():  # about Python, such as those of `1if x`
                warnings.simplefilter("ignore")
                tree = ast.parse(source, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            remedy = "; equality is ==" if re.search(r"[^<>=!]=[^=]", self.text) else ""
            raise TraceError(f"{self.text!r} is no expression{remedy}") from None
        return self._checked(tree, quoted)

    def _checked(self, node: ast.expr, quoted: Mapping[str, str]) -> ast.expr:
        """The tree with names as they were written, or an error."""
        match node:
            case ast.Name() | ast.Attribute():
                name = ast.unparse(node)
                name = quoted.get(name, name)
                self.names.append(name)
                return ast.Name(name)
            case ast.Constant(value=bool() | int() | float() | str()):
                return node
            case ast.BinOp(left, ast.Mult() | ast.Div() as op, right):
                return ast.BinOp(self._checked(left, quoted), op, self._checked(right, quoted))
            case ast.UnaryOp(ast.Not() | ast.USub() as sign, operand):
                return ast.UnaryOp(sign, self._checked(operand, quoted))
            case ast.BoolOp(op, values):
                return ast.BoolOp(op, [self._checked(each, quoted) for each in values])
            case ast.Compare(left, [op], [right]) if type(op) in _COMPARED:
                return ast.Compare(
                    self._checked(left, quoted), [op], [self._checked(right, quoted)]
                )
            case _:
                raise TraceError(
                    f"{self.text!r}: an expression has names, numbers, text, * and /, comparisons, "
                    f"and, or, not; it can't have {ast.unparse(node)[:60]!r}"
                )

    def __call__(self, fields: Mapping[str, Any], row: Sequence[Any]) -> Any:
        """Its value for one record."""
        return self._evaluate(fields, row)

    def check(self, fields: Mapping[str, Any]) -> None:
        """Raise a `TraceError` unless it reads fields of these alone."""
        for name in self.names:
            if name not in fields and field(fields, name) is None:
                there = ", ".join(list(fields)[:20])
                hint = did_you_mean(name, fields)
                raise TraceError(f"there is no column {name!r} among {there}{hint}")

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def mapping_of(text: str | Mapping[str, str]) -> dict[str, Expression]:
    """Columns of a trace with their expressions: `start=ts,duration=ms/1000`.

    Raises:
        TraceError: the text isn't that.
    """
    parts = dict(text) if isinstance(text, Mapping) else dict(_parts(text))
    for name in parts:
        if name not in COLUMNS:
            hint = did_you_mean(name, COLUMNS)
            raise TraceError(f"{name!r} is no column of a trace ({', '.join(COLUMNS)}){hint}")
    return {name: Expression(each, name) for name, each in parts.items()}


def _parts(text: str) -> Iterator[tuple[str, str]]:
    if not text.strip():
        return
    # At a comma that a column's name and `=` follow: text in an expression may have commas.
    for part in re.split(r",(?=\s*\w+\s*=(?!=))", text):
        name, equals, expression = part.partition("=")
        if not equals:
            raise TraceError(f"a mapping is COLUMN=EXPRESSION, such as start=ts, not {part!r}")
        yield name.strip(), expression


def field(fields: Mapping[str, Any], name: str) -> Any:
    """A field of a record: by its name, or by a path into nested records."""
    if name in fields or "." not in name:
        return fields.get(name)
    found: Any = fields
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = cast("Mapping[str, Any]", found).get(part)
    return found


_Evaluate: TypeAlias = Callable[[Mapping[str, Any], Sequence[Any]], Any]


def _compiled(node: ast.expr, column: str | None) -> _Evaluate:
    """A function of a record's fields and row."""
    match node:
        case ast.Name(name):
            return _reading(name, column)
        case ast.Constant(value):
            return lambda _fields, _row: value
        case ast.BinOp(left, op, right):
            a, b = _compiled(left, column), _compiled(right, column)
            return _times(a, b) if isinstance(op, ast.Mult) else _by(a, b)
        case ast.UnaryOp(op, operand):
            of = _compiled(operand, column)
            return _minus(of) if isinstance(op, ast.USub) else _not(of)
        case ast.BoolOp(op, values):
            return _joined([_compiled(each, column) for each in values], isinstance(op, ast.Or))
        case ast.Compare(left, [op], [right]):
            a, b = _compiled(left, column), _compiled(right, column)
            compare = _COMPARED[type(op)]
            return lambda fields, row: _compared(compare, a(fields, row), b(fields, row))
        case _:
            raise AssertionError(node)


def _reading(name: str, column: str | None) -> _Evaluate:
    if name in COLUMNS and name != column:
        place = COLUMNS.index(name)
        return lambda fields, row: fields.get(name) if row[place] is None else row[place]
    if "." not in name:
        return lambda fields, _row: fields.get(name)
    return lambda fields, _row: field(fields, name)


def _times(left: _Evaluate, right: _Evaluate) -> _Evaluate:
    def evaluate(fields: Mapping[str, Any], row: Sequence[Any]) -> float | None:
        a, b = number(left(fields, row)), number(right(fields, row))
        return None if a is None or b is None else a * b

    return evaluate


def _by(left: _Evaluate, right: _Evaluate) -> _Evaluate:
    def evaluate(fields: Mapping[str, Any], row: Sequence[Any]) -> float | None:
        a, b = number(left(fields, row)), number(right(fields, row))
        return a / b if a is not None and b else None

    return evaluate


def _minus(of: _Evaluate) -> _Evaluate:
    def evaluate(fields: Mapping[str, Any], row: Sequence[Any]) -> float | None:
        found = number(of(fields, row))
        return None if found is None else -found

    return evaluate


def _not(of: _Evaluate) -> _Evaluate:
    def evaluate(fields: Mapping[str, Any], row: Sequence[Any]) -> bool | None:
        truth = _truth(of(fields, row))
        return None if truth is None else not truth

    return evaluate


def _joined(parts: list[_Evaluate], decides: bool) -> _Evaluate:
    """`or`, which a truth decides, and `and`; as in SQL, what is unknown decides nothing."""

    def evaluate(fields: Mapping[str, Any], row: Sequence[Any]) -> bool | None:
        truths = [_truth(part(fields, row)) for part in parts]
        if decides in truths:
            return decides
        return None if None in truths else not decides

    return evaluate


_TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _truth(value: Any) -> bool | None:
    if isinstance(value, str):
        return _TRUTHS.get(value.strip().lower())
    return None if value is None else bool(value)


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool | None:
    if not (isinstance(left, str) and isinstance(right, str)):
        left, right = number(left), number(right)
    if left is None or right is None or left != left or right != right:  # NaN is unknown, too
        return None
    return compare(left, right)
