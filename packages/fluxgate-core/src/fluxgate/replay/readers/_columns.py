"""Records with the columns of a trace: rows of CSV, lines of plain JSON.

Columns are found by name: `start` and `duration` are needed, and `failed` or `status` or `error`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fluxgate.replay._trace import number
from fluxgate.replay.readers._expression import Expression
from fluxgate.replay.readers._row import Found, Row, TraceError, Unusable, moment


def check(names: Mapping[str, Any], mapping: Mapping[str, Expression]) -> None:
    """Raise a `TraceError` unless these columns, with the mapping, make a trace.

    Args:
        names: the names, or a record of them.
        mapping: expressions for columns.
    """
    for expression in mapping.values():
        expression.check(names)
    there = ", ".join(list(names)[:20])
    for needed in ("start", "duration"):
        if needed not in names and needed not in mapping:
            raise TraceError(
                f"there is no column {needed!r} among {there}: name it as in --map {needed}=COLUMN"
            )
    if not {"failed", "status", "error", "refused"} & {*names, *mapping}:
        raise TraceError(
            "there is no column 'failed', 'status' or 'error': say which calls failed, as in "
            f'--failed "code >= 500"; the columns are {there}'
        )


def of_record(record: Mapping[str, Any]) -> Iterator[Found]:
    """The call of a record whose fields are named as the columns are."""
    yield Row(
        moment(record.get("start")),
        record.get("duration"),
        record.get("failed"),
        record.get("key"),
        record.get("status"),
        record.get("error"),
        record.get("refused"),
        record,
    )


def csv_rows(lines: Iterable[str | Unusable], mapping: Mapping[str, Expression]) -> Iterator[Found]:
    """The calls of a CSV file whose first line names the columns.

    Fields are separated by what the first line has most of: commas, semicolons, tabs or bars.
    """
    problems: list[Unusable] = []

    def sound() -> Iterator[str]:
        for line in lines:
            if isinstance(line, Unusable):
                problems.append(line)
            else:
                yield line

    source = sound()
    first = next(source, "")
    delimiter = separator(first)
    try:
        head = next(csv.reader([first], delimiter=delimiter), list[str]())
    except csv.Error as error:  # a name of more than 128 KiB, or the line breaks of old Macs
        raise TraceError(
            f"the first line, which names the columns, can't be read: {error}"
        ) from None
    names = [name.strip() for name in head]
    if any(number(name) is not None for name in names):
        raise TraceError(f"the first line must name the columns, not {first.strip()[:60]!r}")
    check(dict.fromkeys(names), mapping)
    reader = csv.reader(source, delimiter=delimiter)
    while True:
        try:
            values = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield Unusable(f"the line can't be read: {error}")
            continue
        if len(values) == len(names):
            yield from of_record(dict(zip(names, values, strict=True)))
        elif values:
            more = "more" if len(values) > len(names) else "fewer"
            yield Unusable(f"the row has {more} fields than columns")
    yield from problems


def separator(first: str) -> str:
    """The character between the fields of a first line."""
    return max(",;\t|", key=first.count)
