"""Whole columns: data frames of polars and pandas, Parquet files, and CSV files read by polars.

CSV files that are quoted, compressed or irregular are left to the standard library's reader, which
counts what is wrong line by line; so the answers are the same with polars and without.
"""

from __future__ import annotations

import ast
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fluxgate.replay._trace import Labels, Trace, number
from fluxgate.replay.readers._columns import check, separator
from fluxgate.replay.readers._expression import Expression
from fluxgate.replay.readers._input import LONGEST_LINE, Input
from fluxgate.replay.readers._row import COLUMNS, TraceError, moment

if TYPE_CHECKING:
    import polars

np: Any
pl: Any
try:
    import numpy as np
    import polars as pl
except ImportError:
    np = pl = None

_FLAGS: Final = {"1": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "false": 0.0, "no": 0.0}


def of_frame(frame: Any, mapping: Mapping[str, Expression]) -> Trace:
    """The calls of a data frame.

    Raises:
        TraceError: it isn't one of polars or pandas, or polars is missing.
    """
    library = type(frame).__module__.partition(".")[0]
    if library not in ("polars", "pandas"):
        raise TraceError(
            "read() takes a path or a data frame of polars or pandas, "
            f"not {type(frame).__name__}; Trace.from_rows() takes rows"
        )
    _needed("data frames")
    if library == "pandas":
        names = {each: str(each) for each in frame.columns}
        frame = pl.DataFrame({name: _of_pandas(frame[each]) for each, name in names.items()})
    return _trace(frame.lazy(), mapping)


def of_file(opened: Input, mapping: Mapping[str, Expression], *, parquet: bool) -> Trace | None:
    """The calls of a Parquet or CSV file; None of a CSV that is to be read line by line."""
    if parquet:
        _needed("Parquet")
        if opened.path is None:
            raise TraceError("Parquet is read from a file, not from the standard input")
        try:
            return _trace(pl.scan_parquet(opened.path), mapping)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise TraceError(f"{opened.name} can't be read as Parquet: {reason}") from None
    if pl is None or opened.path is None or opened.zipped:
        return None
    first = opened.head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")[0]
    between = separator(first.decode("utf-8", "replace"))
    if not _is_regular(opened.path, between.encode(), first.count(between.encode())):
        return None
    try:
        # All as text: numbers are read as the other reader reads them.
        lazy = pl.scan_csv(opened.path, separator=between, infer_schema=False, quote_char=None)
        return _trace(lazy.with_columns(pl.all().fill_null("")), mapping)
    except pl.exceptions.PolarsError:  # a row with too many fields, or no UTF-8
        return None


def _needed(what: str) -> None:
    if pl is None:
        raise TraceError(f'{what} need polars: pip install "fluxgate-core[replay]"')


def _is_regular(path: Path, separator: bytes, separators: int) -> bool:
    """Whether a CSV has no quotes, lines of bounded length, and no rows that are too short.

    polars fills rows that are too short, and refuses those that are too long.
    """
    length = lines = found = 0
    last = b""
    with path.open("rb") as file:
        while block := file.read(2**20):
            if (
                b'"' in block
                or b"\0" in block
                or (b"\r" in block and b"\r" in block.replace(b"\r\n", b""))
            ):
                return False
            end = block.rfind(b"\n")
            length = length + len(block) if end < 0 else len(block) - end
            if length > LONGEST_LINE:
                return False
            lines += block.count(b"\n")
            found += block.count(separator)
            last = block[-1:]
    return found == separators * (lines + (last != b"\n"))


def _of_pandas(column: Any) -> Any:
    """A column of pandas as polars takes it: without pyarrow, that is by numpy or by objects."""
    kind = column.dtype.kind if hasattr(column.dtype, "kind") else "O"
    if kind in "biuf" and not column.isna().any():
        return column.to_numpy()
    if kind == "M":
        return column.to_numpy(dtype="datetime64[ns]")
    if kind == "m":
        return column.to_numpy(dtype="timedelta64[ns]")
    values = column.astype(object).where(column.notna(), None).tolist()
    if kind in "biuf":
        return [None if each is None else float(each) for each in values]
    return pl.Series([None if each is None else str(each) for each in values], dtype=pl.String)


def _trace(lazy: polars.LazyFrame, mapping: Mapping[str, Expression]) -> Trace:
    schema = lazy.collect_schema()
    names = [name.strip() for name in schema.names()]
    if any(number(name) is not None for name in names):
        raise TraceError(f"the first line must name the columns, not {','.join(names)[:60]!r}")
    lazy = lazy.rename(dict(zip(schema.names(), names, strict=True)), strict=False)
    check(dict.fromkeys(names), mapping)
    kinds = dict(zip(names, schema.dtypes(), strict=True))
    if kinds.get("start") == pl.String:  # for expressions, too
        kinds["start"] = pl.Float64()
        lazy = lazy.with_columns(pl.col("start").map_batches(_moments, return_dtype=pl.Float64))
    sources = {
        name: _translated(mapping[name].tree, kinds) if name in mapping else pl.col(name)
        for name in COLUMNS
        if name in mapping or name in names
    }
    read = lazy.select(**sources).collect()
    whole: dict[str, Any] = {name: _column(name, read.get_column(name)) for name in sources}
    failed, status, error = (whole.get(name) for name in ("failed", "status", "error"))
    unknown = np.full(len(read), np.nan) if failed is None else failed
    if error is not None:
        found = np.frombuffer(error.codes, dtype=np.intc) >= 0 if len(read) else np.empty(0, bool)
        unknown = np.where(np.isnan(unknown) & found & ~_has(status, len(read)), 1.0, unknown)
    if status is not None:
        known = np.isnan(unknown) & _has(status, len(read))
        unknown = np.where(known, status >= 500, unknown)
    refused = whole.get("refused")
    if refused is not None:
        refused = np.nan_to_num(refused, nan=0.0) == 1
        unknown = np.where(np.isnan(unknown) & refused, 0.0, unknown)
    return Trace.from_columns(
        whole["start"],
        whole["duration"],
        unknown.astype(np.float64),
        key=whole.get("key"),
        status=status,
        error=error,
        refused=refused,
    )


def _has(status: Any, count: int) -> Any:
    if status is None:
        return np.zeros(count, dtype=bool)
    return ~np.isnan(status) & (status != 0)


def _column(name: str, series: polars.Series) -> Any:
    """A column of a trace as numpy's floats, or as labels."""
    if name in ("key", "error"):
        return _labels(series)
    kind = series.dtype
    if kind == pl.String:
        return _flags(series) if name in ("failed", "refused") else _numbers(series, name)
    if kind.is_temporal():
        if isinstance(kind, pl.Duration):
            series = series.dt.total_microseconds().cast(pl.Float64) / 1e6
        else:
            series = series.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    return _as_numpy(series.cast(pl.Float64, strict=False))


def _numbers(series: polars.Series, name: str) -> Any:
    """Numbers from text. What polars can't read is read as the standard library's reader does."""
    found = series.cast(pl.Float64, strict=False)
    odd = (found.is_null() & series.is_not_null() & (series != "")).arg_true()
    numbers = _as_numpy(found)
    if len(odd):
        read = moment if name == "start" else number
        for place, value in zip(odd.to_list(), series.gather(odd).to_list(), strict=True):
            seen = read(value)
            numbers[place] = np.nan if seen is None else seen
    return numbers


def _moments(series: polars.Series) -> Any:
    return pl.Series(_numbers(series, "start"))


def _flags(series: polars.Series) -> Any:
    """1, 0, or NaN where there is none; 2 for a word that is neither true nor false."""
    words = series.unique().to_list()  # a handful: sooner than to strip every one
    known = {word: _FLAGS.get(word.strip().lower(), 2.0) for word in words if word is not None}
    flags = series.replace_strict(known, default=2.0, return_dtype=pl.Float64)
    given = series.is_not_null() & (series != "")
    return _as_numpy(flags.set(~given, None))


def _as_numpy(series: polars.Series) -> Any:
    return series.fill_null(float("nan")).to_numpy().copy()


def _labels(series: polars.Series) -> Labels | None:
    from fluxgate.replay.readers._read import text

    if series.dtype != pl.String:
        series = series.cast(pl.String, strict=False)
    kept = series.replace("", None)
    seen = kept.drop_nulls().unique(maintain_order=True)
    if not len(seen):
        return None
    codes = kept.cast(pl.Enum(seen)).to_physical().cast(pl.Int32).fill_null(-1).to_numpy()
    places: dict[str, int] = {}
    # Two keys that are the same once they are printable are one.
    shown = [places.setdefault(text(each) or "", len(places)) for each in seen.to_list()]
    if len(places) < len(seen):
        codes = np.where(codes < 0, -1, np.array(shown, dtype=np.intc)[codes])
    return Labels(array("i", codes.astype(np.intc).tobytes()), tuple(places))


def _translated(node: ast.expr, kinds: Mapping[str, Any]) -> Any:
    """An expression of the user as polars has it; both decide alike about what is unknown."""
    match node:
        case ast.Name(name):
            return pl.col(name)
        case ast.Constant(value):
            return pl.lit(value)
        case ast.BinOp(left, op, right):
            both = [_numeric(left, kinds), _numeric(right, kinds)]
            work_out = _product if isinstance(op, ast.Mult) else _quotient
            return pl.map_batches(both, work_out, return_dtype=pl.Float64)
        case ast.UnaryOp(ast.USub(), operand):
            return -_numeric(operand, kinds)
        case ast.UnaryOp(_, operand):
            return ~_truth(operand, kinds)
        case ast.BoolOp(op, values):
            truths = [_truth(each, kinds) for each in values]
            join = pl.any_horizontal if isinstance(op, ast.Or) else pl.all_horizontal
            return join(*truths)
        case ast.Compare(left, [op], [right]):
            of = _translated if _is_text(left, kinds) and _is_text(right, kinds) else _numeric
            a, b = of(left, kinds), of(right, kinds)
            compared: dict[type[ast.cmpop], polars.Expr] = {
                ast.Eq: a == b,
                ast.NotEq: a != b,
                ast.Lt: a < b,
                ast.LtE: a <= b,
                ast.Gt: a > b,
                ast.GtE: a >= b,
            }
            return compared[type(op)]
        case _:
            raise AssertionError(node)


def _is_text(node: ast.expr, kinds: Mapping[str, Any]) -> bool:
    match node:
        case ast.Name(name):
            return bool(kinds.get(name) == pl.String)
        case ast.Constant(value):
            return isinstance(value, str)
        case _:
            return False


def _numeric(node: ast.expr, kinds: Mapping[str, Any]) -> Any:
    found = _translated(node, kinds)
    if _is_text(node, kinds):
        return found.map_batches(_from_text, return_dtype=pl.Float64)
    return found.cast(pl.Float64, strict=False).fill_nan(None)


def _from_text(series: polars.Series) -> Any:
    return pl.Series(_numbers(series, ""), nan_to_null=True)


def _product(both: Sequence[polars.Series]) -> Any:
    left, right = (each.to_numpy() for each in both)
    return pl.Series(left * right, nan_to_null=True)


def _quotient(both: Sequence[polars.Series]) -> Any:
    """By numpy: polars multiplies by the reciprocal, and other readers don't."""
    left, right = (each.to_numpy() for each in both)
    with np.errstate(divide="ignore", invalid="ignore"):
        return pl.Series(np.where(right == 0, np.nan, left / right), nan_to_null=True)


def _truth(node: ast.expr, kinds: Mapping[str, Any]) -> Any:
    found = _translated(node, kinds)
    if _is_text(node, kinds):
        words = found.str.strip_chars().str.to_lowercase()
        return words.replace_strict(_FLAGS, default=None, return_dtype=pl.Float64) == 1
    return found.cast(pl.Boolean, strict=False)
