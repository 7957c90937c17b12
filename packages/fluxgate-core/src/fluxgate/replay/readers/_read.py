"""`read()`: recorded calls of any known format, as a trace."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from fluxgate._naming import encodable, printable
from fluxgate._settings.errors import did_you_mean
from fluxgate._words import listed, number
from fluxgate.replay._trace import Trace
from fluxgate.replay.readers import (
    _alb,
    _apache,
    _columns,
    _envoy,
    _har,
    _nginx,
    _otlp,
    _recording,
)
from fluxgate.replay.readers._expression import Expression, field, mapping_of
from fluxgate.replay.readers._input import Input
from fluxgate.replay.readers._row import (
    COLUMNS,
    Found,
    Row,
    Share,
    TraceError,
    Unusable,
    is_failed,
    moment,
    record_of,
)


class Format(StrEnum):
    """Formats of recorded calls."""

    CSV = "csv"
    """Columns by name; the first line has the names."""
    JSON = "json"
    """A JSON object a line, with the columns' names."""
    PARQUET = "parquet"
    """Columns by name; needs polars."""
    RECORDING = "recording"
    """By `fluxgate.replay.Recorder`."""
    NGINX = "nginx"
    """nginx's access log in JSON, keys named as the variables."""
    ALB = "alb"
    """An AWS Application Load Balancer's access log."""
    ENVOY = "envoy"
    """Envoy's access log: its default format, Istio's, or JSON."""
    APACHE = "apache"
    """Apache's access log with a duration."""
    OTLP = "otlp"
    """OpenTelemetry spans in OTLP JSON, a batch a line."""
    HAR = "har"
    """A browser's network panel."""


_TEXT: Final[dict[Format, Callable[[str], Iterator[Found]]]] = {
    Format.ALB: _alb.rows,
    Format.ENVOY: _envoy.rows,
    Format.APACHE: _apache.rows,
}
_RECORDS: Final[dict[Format, Callable[[dict[str, Any]], Iterator[Found]]]] = {
    Format.JSON: _columns.of_record,
    Format.RECORDING: _recording.rows,
    Format.NGINX: _nginx.rows,
    Format.ENVOY: _envoy.of_record,
    Format.OTLP: _otlp.rows,
}
_PROMETHEUS: Final = (
    "these are Prometheus metrics: rates have no order, and a breaker decides call by call. "
    "Take an access log, spans, or a recording by fluxgate.replay.Recorder"
)


def read(
    source: Any,
    *,
    format: Format | str | None = None,  # noqa: A002  (its name on the command line)
    columns: str | Mapping[str, str] = "",
    failed: str | None = None,
    key: str | None = None,
) -> Trace:
    """Recorded calls, as a trace.

    Rows that can't be used are left out and counted in `Trace.rejected`, with reasons; sound
    records that are no calls (a span of a server, an answer from a cache) in `Trace.skipped`.

    Args:
        source: a path, `-` for the standard input, or a data frame of polars or pandas. Files may
            be compressed by gzip.
        format: by default it is recognised.
        columns: expressions for columns of the trace: `start=ts,duration=ms/1000`, or a mapping.
            An expression has names of fields, numbers, text, `*`, `/`, comparisons, `and`, `or`,
            `not`.
        failed: which calls failed, as an expression such as `status >= 500`; by default, where
            nothing else says so, those with a status of 500 or more, or an error.
        key: the field, or expression, for the key: whom the call went to.

    Raises:
        TraceError: the format isn't known or can't be used, a column is missing, an expression is
            wrong, or no row can be used. The message names the remedy.
        OSError: the file can't be opened.
    """
    mapping = mapping_of(columns)
    for name, text in (("failed", failed), ("key", key)):
        if text is not None:
            mapping[name] = Expression(text, name)
    if not isinstance(source, (str, Path)):
        from fluxgate.replay.readers import _frames  # not at import: it loads polars

        return _usable(_frames.of_frame(source, mapping), "the data frame")
    with Input(source) as opened:
        chosen = _named(format) if format is not None else recognised(opened)
        trace = _read(opened, chosen, mapping)
        return _usable(trace, f"{opened.name} as {chosen}")


def _read(opened: Input, chosen: Format, mapping: dict[str, Expression]) -> Trace:
    if chosen in (Format.CSV, Format.PARQUET):
        from fluxgate.replay.readers import _frames

        trace = _frames.of_file(opened, mapping, parquet=chosen is Format.PARQUET)
        if trace is not None:
            return trace
    if chosen is Format.CSV:
        return _trace(_columns.csv_rows(opened.lines(), mapping), mapping)
    if chosen is Format.HAR:
        return _trace(_har.rows(_document(opened)), mapping)
    return _trace(_of_lines(opened.lines(), chosen, mapping), mapping)


def _of_lines(
    lines: Iterable[str | Unusable], chosen: Format, mapping: dict[str, Expression]
) -> Iterator[Found]:
    """The calls of a format with a record a line."""
    of_text = _TEXT.get(chosen)
    of_record = _RECORDS.get(chosen)
    checked = chosen is not Format.JSON
    for line in lines:
        if isinstance(line, Unusable):
            yield line
        elif of_record is not None and (of_text is None or line.lstrip().startswith("{")):
            record = _record(line)
            if isinstance(record, Unusable):
                yield record
                continue
            if not checked:  # the first tells whether the names are right, as a CSV's head does
                _columns.check(record, mapping)
                checked = True
            yield from of_record(record)
        elif of_text is not None:
            yield from of_text(line)


def _record(line: str) -> dict[str, Any] | Unusable:
    try:
        record = record_of(json.loads(line))
    except (ValueError, RecursionError):
        return Unusable("the line is no JSON")
    return Unusable("the line is no JSON object") if record is None else record


def _document(opened: Input) -> dict[str, Any]:
    try:
        document = record_of(json.loads(opened.document()))
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{opened.name} is no JSON document: {str(error)[:100]}") from None
    if document is None:
        raise TraceError(f"{opened.name} is no HAR: it isn't a JSON object")
    return document


def _trace(found: Iterable[Found], mapping: Mapping[str, Expression]) -> Trace:
    rejected: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    shares: set[float] = set()

    unseen = {name for expression in mapping.values() for name in expression.names}
    example: Mapping[str, Any] = {}

    def usable() -> Iterator[tuple[Any, ...]]:
        nonlocal example
        for row in found:
            if isinstance(row, Row):
                if unseen:
                    example = example or row.fields
                    unseen.difference_update([name for name in unseen if _has(name, row)])
                yield _finished(row, mapping)
            elif isinstance(row, Unusable):
                rejected[row.why] += 1
            elif isinstance(row, Share):
                shares.add(row.share)
            else:
                skipped[row.why] += 1

    trace = Trace.from_rows(usable())
    if example and unseen:  # in no record: a slip, not an optional field
        name = min(unseen)
        there = ", ".join(list(example)[:20])
        hint = did_you_mean(name, [*example, *COLUMNS])
        raise TraceError(f"no record has a field {name!r}; the first has {there}{hint}")
    trace.skipped.update(skipped)
    if len(shares) > 1:
        raise TraceError(
            "the recording has parts of different shares ("
            f"{listed(f'{share:g}' for share in sorted(shares))}): record each in a file of its own"
        )
    trace.sampled = next(iter(shares), 1.0)
    for why, count in rejected.items():
        trace.rejected[why] = trace.rejected.get(why, 0) + count
    return trace


def _has(name: str, row: Row) -> bool:
    return (
        name in row.fields
        or (name in COLUMNS and row[COLUMNS.index(name)] is not None)
        or field(row.fields, name) is not None
    )


def _finished(row: Row, mapping: Mapping[str, Expression]) -> tuple[Any, ...]:
    """The columns of a row, by the user's expressions where there are any."""
    start, duration, failed, key, status, error, refused, fields = row
    if mapping:
        values: list[Any] = list(row[:-1])
        for name, expression in mapping.items():
            values[COLUMNS.index(name)] = expression(fields, row)
        start, duration, failed, key, status, error, refused = values
        if "start" in mapping:
            start = moment(start)
    if failed is None or failed == "":
        failed = is_failed(status, error)
    return start, duration, failed, text(key), status, text(error), refused


def text(value: object) -> str | None:
    """A key or an error, in one printable line of bounded length."""
    if value is None or value == "":
        return None
    return printable(encodable(value if isinstance(value, str) else str(value)))


def _usable(trace: Trace, what: str) -> Trace:
    if len(trace):
        return trace
    reasons = [*trace.rejected.items(), *trace.skipped.items()]
    if not reasons:
        raise TraceError(f"there is no call in {what}")
    found = listed(f"{why} ({number(count, 'row')})" for why, count in reasons[:5])
    raise TraceError(f"there is no usable call in {what}: {found}")


# -- recognition


def _named(name: str) -> Format:
    try:
        return Format(str(name).lower())
    except ValueError:
        raise TraceError(f"{name!r} is no format: they are {', '.join(Format)}") from None


def recognised(opened: Input) -> Format:
    """The format of what the input begins with.

    Raises:
        TraceError: it is none, or one that a replay can't be made of.
    """
    head = opened.head.removeprefix(b"\xef\xbb\xbf")
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    if b"\0" in head[:4096]:
        raise TraceError(f"{opened.name} is no text: the formats are {', '.join(Format)}")
    beginning = head.decode("utf-8", "replace").lstrip()
    line = beginning.partition("\n")[0]
    if beginning.startswith("{"):
        return _of_json(beginning, line, opened.name)
    if beginning.startswith("["):
        if _envoy.LINE.match(line):
            return Format.ENVOY
        raise TraceError(f"{opened.name} is a JSON array: write an object a line (JSON Lines)")
    if beginning.startswith(("# HELP", "# TYPE")):
        raise TraceError(f"{opened.name}: {_PROMETHEUS}")
    if _alb.LINE.match(line):
        return Format.ALB
    if _apache.PRECISE.match(line):
        return Format.APACHE
    if found := _apache.USUAL.match(line):
        if found["duration"] is None:
            raise TraceError(
                f"{opened.name} is an access log without durations: add %D to Apache's LogFormat, "
                "or take nginx's in JSON (docs/operate/replay.md has both)"
            )
        return Format.APACHE
    if re.search(r"[,;\t|]", line):
        return Format.CSV
    raise TraceError(
        f"the format of {opened.name} isn't recognised by its first line, {line[:60]!r}: "
        f"name it with --format ({', '.join(Format)})"
    )


def _of_json(beginning: str, line: str, name: str) -> Format:
    if re.match(r'\{\s*"log"\s*:\s*\{', beginning):
        return Format.HAR
    if re.search(r'"resultType"\s*:\s*"', beginning):
        raise TraceError(f"{name}: {_PROMETHEUS}")
    if re.match(r'\{\s*"resourceSpans"', beginning):
        return Format.OTLP
    if found := re.match(r'\{\s*"resource(Metrics|Logs)"', beginning):
        raise TraceError(f"{name} has OTLP {found[1].lower()}: a replay needs spans (traces)")
    record = _record(line)
    if isinstance(record, Unusable):
        raise TraceError(f"the first line of {name} is no JSON object: {line[:60]!r}")
    if _recording.is_recording(record):
        return Format.RECORDING
    if _nginx.is_nginx(record):
        return Format.NGINX
    return Format.ENVOY if _envoy.is_envoy(record) else Format.JSON
