"""`Trace`: recorded calls in columns, sorted by their start.

A column is an `array` (a `bytearray` of 0 and 1 for flags): some 30 bytes a call, with or without
numpy, which reads the same memory through the buffer protocol. Texts are numbers into a table of
names, since a key or an error repeats.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fluxgate._settings.errors import did_you_mean
from fluxgate._words import listed
from fluxgate.replay._numpy import np

LATEST: Final = 1e11
"""Unix seconds (the year 5138): a start beyond it is in milliseconds or smaller units."""
LONGEST: Final = 1e9
"""Seconds: the longest duration, as a circuit takes it."""

_WORDS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "0": False,
    "false": False,
    "no": False,
    "": None,
}


class Labels(NamedTuple):
    """A column of texts.

    Attributes:
        codes: for each call the place of its text in `names`; -1 where it has none.
        names: the different texts.
    """

    codes: array[int]
    names: tuple[str, ...]

    def __call__(self, place: int) -> str | None:
        """The text of one call."""
        code = self.codes[place]
        return None if code < 0 else self.names[code]


class Call(NamedTuple):
    """One row of a trace; the fields are its columns."""

    start: float
    duration: float
    failed: bool
    key: str | None = None
    status: int | None = None
    error: str | None = None
    refused: bool = False


class Trace:
    """Recorded calls, sorted by their start; of equal starts in the order in which they came.

    Made by `from_rows` or `from_columns`, which leave unusable rows out and count them.

    Attributes:
        start: Unix seconds.
        duration: seconds.
        failed: 1 for a call that failed, else 0.
        key: whom it called, such as a host or route; None where nothing is known of any call.
        status: HTTP statuses, 0 where a call has none; None as above.
        error: types of errors; None as above.
        refused: 1 for a call that a breaker refused when this was recorded: nobody knows how it
            would have ended. None: there is none.
        rejected: reasons of unusable rows, each with the number of rows.
        skipped: kinds of records that are no calls, such as spans of servers, each with the number.
        sampled: the share of all calls that these are (ratio 0-1), where a recording says so.
    """

    __slots__ = (
        "duration",
        "error",
        "failed",
        "key",
        "refused",
        "rejected",
        "sampled",
        "skipped",
        "start",
        "status",
    )

    def __init__(
        self,
        start: array[float],
        duration: array[float],
        failed: bytearray,
        *,
        key: Labels | None = None,
        status: array[int] | None = None,
        error: Labels | None = None,
        refused: bytearray | None = None,
        rejected: Mapping[str, int] | None = None,
    ) -> None:
        self.start = start
        self.duration = duration
        self.failed = failed
        self.key = key
        self.status = status
        self.error = error
        self.refused = refused
        self.rejected: dict[str, int] = dict(rejected or {})
        self.skipped: dict[str, int] = {}
        self.sampled = 1.0

    # -- making one

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any] | Sequence[Any]],
        *,
        rejected: Mapping[str, int] | None = None,
    ) -> Trace:
        """A trace of rows: mappings, or sequences in the order of `Call`.

        Args:
            rows: each with `start`, `duration`, `failed`; numbers may be texts of numbers.
            rejected: reasons of rows that were left out before, with their numbers.
        """
        building = _Building(rejected)
        for row in rows:
            if isinstance(row, Mapping):
                building.add(*(row.get(name) for name in Call._fields))
            else:
                building.add(*row)
        return building.trace()

    @classmethod
    def from_columns(
        cls,
        start: Iterable[Any],
        duration: Iterable[Any],
        failed: Iterable[Any],
        *,
        key: Labels | Iterable[Any] | None = None,
        status: Iterable[Any] | None = None,
        error: Labels | Iterable[Any] | None = None,
        refused: Iterable[Any] | None = None,
        rejected: Mapping[str, int] | None = None,
    ) -> Trace:
        """A trace of columns of equal length: lists, arrays, or anything that can be iterated.

        Numpy arrays of numbers (`start`, `duration`: float64; `failed`, `refused`: bool; `status`:
        integers, 0 for none) are taken as a whole.

        Raises:
            ValueError: the columns have different lengths.
        """
        if _is_numeric(start) and _is_numeric(duration) and _is_numeric(failed):
            return _from_numpy(start, duration, failed, key, status, error, refused, rejected)
        columns = [
            start,
            duration,
            failed,
            _texts(key),
            status,
            _texts(error),
            refused,
        ]
        building = _Building(rejected)
        for row in _zipped(columns):
            building.add(*row)
        return building.trace()

    # -- reading

    def __len__(self) -> int:
        return len(self.start)

    def __iter__(self) -> Iterator[Call]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, place: int) -> Call:
        """One call."""
        status = None if self.status is None else self.status[place] or None
        return Call(
            self.start[place],
            self.duration[place],
            bool(self.failed[place]),
            None if self.key is None else self.key(place),
            status,
            None if self.error is None else self.error(place),
            self.refused is not None and bool(self.refused[place]),
        )

    @property
    def unusable(self) -> int:
        """The number of rows that were left out."""
        return sum(self.rejected.values())

    @property
    def nbytes(self) -> int:
        """The memory of all columns, in bytes."""
        columns: list[Any] = [self.start, self.duration, self.failed, self.status, self.refused]
        columns += [each.codes for each in (self.key, self.error) if each is not None]
        return sum(memoryview(each).nbytes for each in columns if each is not None)

    def select(self, places: Sequence[int]) -> Trace:
        """The calls at these places (ascending), as a trace of their own."""
        take = _taker(places)
        chosen = Trace(
            take(self.start),
            take(self.duration),
            take(self.failed),
            key=None if self.key is None else Labels(take(self.key.codes), self.key.names),
            status=None if self.status is None else take(self.status),
            error=None if self.error is None else Labels(take(self.error.codes), self.error.names),
            refused=None if self.refused is None else take(self.refused),
        )
        chosen.sampled = self.sampled
        return chosen

    def only(self, key: str) -> Trace:
        """The calls to one dependency, as a trace of their own: a policy is for one circuit.

        What could not be used stays counted, since nobody knows whom those rows called.

        Raises:
            ValueError: no call has this key; the message names a near one, or the known ones.
        """
        names = () if self.key is None else self.key.names
        if self.key is None or key not in names:
            some = [repr(name) for name in names[:8]] + ["others"] * (len(names) > 8)
            known = f"; it has {listed(some)}" if names else "; its calls have no keys (`key=`)"
            hint = did_you_mean(key, names) or known
            raise ValueError(f"no call of the trace went to {key!r}{hint}")
        wanted = names.index(key)
        chosen = self.select([place for place, code in enumerate(self.key.codes) if code == wanted])
        chosen.key = Labels(array(self.key.codes.typecode, [0]) * len(chosen), (key,))
        chosen.rejected, chosen.skipped = dict(self.rejected), dict(self.skipped)
        return chosen

    def __repr__(self) -> str:
        return f"<Trace: {len(self)} calls, {self.unusable} unusable rows>"


# -- row by row


class _Building:
    """A trace that is being made of one row after another."""

    def __init__(self, rejected: Mapping[str, int] | None) -> None:
        self.rejected: dict[str, int] = dict(rejected or {})
        self.start, self.duration, self.failed = array("d"), array("d"), bytearray()
        self.key, self.error = _Table(), _Table()
        self.status, self.refused = array("i"), bytearray()

    def reject(self, why: str) -> None:
        self.rejected[why] = self.rejected.get(why, 0) + 1

    def add(
        self,
        start: Any = None,
        duration: Any = None,
        failed: Any = None,
        key: Any = None,
        status: Any = None,
        error: Any = None,
        refused: Any = None,
        *more: object,
    ) -> None:
        if more:
            return self.reject("the row has more fields than columns")
        begin, seconds = number(start), number(duration)
        was_refused = bool(_flag(refused))
        if was_refused and (seconds is None or math.isnan(seconds)):
            seconds = 0.0  # it was never made
        flag = False if was_refused and failed is None else _flag(failed)
        if (why := _why_unusable(begin, seconds, flag)) is not None:
            return self.reject(why)
        assert begin is not None
        assert seconds is not None
        self.start.append(begin)
        self.duration.append(seconds)
        self.failed.append(bool(flag))
        self.key.append(key)
        self.error.append(error)
        self.status.append(_status(status))
        self.refused.append(was_refused)
        return None

    def trace(self) -> Trace:
        trace = Trace(
            self.start,
            self.duration,
            self.failed,
            key=self.key.labels(),
            status=self.status if any(self.status) else None,
            error=self.error.labels(),
            refused=self.refused if any(self.refused) else None,
            rejected=self.rejected,
        )
        return _sorted(trace)


class _Table:
    """A column of texts that grows."""

    def __init__(self) -> None:
        self._codes = array("i")
        self._places: dict[str, int] = {}

    def append(self, text: object) -> None:
        if text is None or text == "":
            self._codes.append(-1)
        else:
            self._codes.append(self._places.setdefault(str(text), len(self._places)))

    def labels(self) -> Labels | None:
        return Labels(self._codes, tuple(self._places)) if self._places else None


def _why_unusable(start: float | None, duration: float | None, failed: bool | None) -> str | None:
    """Why a row can't be used; None if it can."""
    if start is None or not math.isfinite(start):
        return "start is missing or no number"
    if start < 0:
        return "start is before 1970"
    if start > LATEST:
        return "start is after the year 5000: give Unix seconds, not milliseconds"
    if duration is None or not math.isfinite(duration):
        return "duration is missing or no number"
    if duration < 0:
        return "duration is negative"
    if duration > LONGEST:
        return "duration is above 1e9 seconds"
    return "failed is neither true nor false" if failed is None else None


def number(value: object) -> float | None:
    """A number, also one that is written as text; None for all else."""
    if type(value) is float:
        return value
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def _flag(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    if value is None:
        return None
    found = number(value)
    return bool(found) if found in (0.0, 1.0) else None


def _status(value: object) -> int:
    found = number(value)
    return int(found) if found is not None and 0 <= found <= 999 else 0


def _texts(column: Labels | Iterable[Any] | None) -> Iterable[Any] | None:
    if not isinstance(column, Labels):
        return column
    names = column.names
    return (None if code < 0 else names[code] for code in column.codes)


_END: Final = object()


def _zipped(columns: list[Iterable[Any] | None]) -> Iterator[list[Any]]:
    iterators = [None if each is None else iter(each) for each in columns]
    while True:
        row = [None if each is None else next(each, _END) for each in iterators]
        ended = [value is _END for value in row]
        if any(ended):
            given = [end for end, each in zip(ended, iterators, strict=True) if each is not None]
            if not all(given):
                raise ValueError("the columns of a trace have different lengths")
            return
        yield row


# -- as a whole


def _is_numeric(column: Any) -> bool:
    return np is not None and type(column) is np.ndarray and column.dtype.kind in "biuf"


def _from_numpy(
    start: Any,
    duration: Any,
    failed: Any,
    key: Labels | Iterable[Any] | None,
    status: Any,
    error: Labels | Iterable[Any] | None,
    refused: Any,
    rejected: Mapping[str, int] | None,
) -> Trace:
    """The same as row by row, with a mask for each reason."""
    assert np is not None
    count = len(start)
    labels = [_coded(key), _coded(error)]
    for column in (duration, failed, status, refused, *(each and each.codes for each in labels)):
        if column is not None and len(column) != count:
            raise ValueError("the columns of a trace have different lengths")
    start, duration = (np.asarray(each, dtype=np.float64) for each in (start, duration))
    flags = None if refused is None else _mask(refused)
    if flags is not None:
        duration = np.where(flags & np.isnan(duration), 0.0, duration)
    counts: dict[str, int] = dict(rejected or {})
    usable = np.ones(count, dtype=bool)
    for why, wrong in (
        ("start is missing or no number", ~np.isfinite(start)),
        ("start is before 1970", start < 0),
        ("start is after the year 5000: give Unix seconds, not milliseconds", start > LATEST),
        ("duration is missing or no number", ~np.isfinite(duration)),
        ("duration is negative", duration < 0),
        ("duration is above 1e9 seconds", duration > LONGEST),
        ("failed is neither true nor false", ~((failed == 0) | (failed == 1))),
    ):
        found = wrong & usable
        if number := int(found.sum()):
            counts[why] = counts.get(why, 0) + number
            usable &= ~found
    kept = None if usable.all() else usable

    def take(column: Any, kind: Any) -> bytes:
        whole = np.asarray(column)
        part = whole if kept is None else whole[kept]
        taken: bytes = part.astype(kind, copy=False).tobytes()
        return taken

    statuses = None
    if status is not None:
        whole = np.nan_to_num(np.asarray(status, dtype=np.float64), nan=0.0)
        whole = np.where((whole >= 0) & (whole <= 999), whole, 0)
        statuses = array("i", take(whole, np.intc)) if whole.any() else None
    keys, errors = (
        None if each is None else Labels(array("i", take(each.codes, np.intc)), each.names)
        for each in labels
    )
    trace = Trace(
        array("d", take(start, np.float64)),
        array("d", take(duration, np.float64)),
        bytearray(take(np.asarray(failed, dtype=np.float64) == 1, np.uint8)),
        key=keys,
        status=statuses,
        error=errors,
        refused=bytearray(take(flags, np.uint8)) if flags is not None and flags.any() else None,
        rejected=counts,
    )
    return _sorted(trace)


def _mask(column: Any) -> Any:
    assert np is not None
    return (
        np.asarray([bool(_flag(each)) for each in column] if not _is_numeric(column) else column)
        == 1
    )


def _coded(column: Labels | Iterable[Any] | None) -> Labels | None:
    if column is None or isinstance(column, Labels):
        return column
    table = _Table()
    for text in column:
        table.append(text)
    return table.labels()


def _sorted(trace: Trace) -> Trace:
    """The same calls by their start; a stable order."""
    start = trace.start
    places: Sequence[int]
    if np is not None:
        seen = np.frombuffer(start) if start else np.empty(0)
        if bool((seen[1:] >= seen[:-1]).all()):
            return trace
        places = np.argsort(seen, kind="stable")
    else:
        places = sorted(range(len(start)), key=start.__getitem__)
    chosen = trace.select(places)
    chosen.rejected = trace.rejected
    return chosen


def _taker(places: Sequence[int]) -> Callable[[Any], Any]:
    """Copies the chosen places of a column."""
    numpy, chosen = np, None if np is None else np.asarray(places, dtype=np.intp)

    def take(column: Any) -> Any:
        kind: str = getattr(column, "typecode", "B")  # flags are bytes
        copied: Any = bytearray() if kind == "B" else _new_array(kind)
        if numpy is None:
            copied.extend(map(column.__getitem__, places))
        else:
            whole = numpy.frombuffer(column, dtype=kind) if len(column) else numpy.empty(0, kind)
            taken = whole[chosen].tobytes()
            copied.extend(taken) if kind == "B" else copied.frombytes(taken)
        return copied

    return take


_new_array: Callable[[str], Any] = array
"""An array by its type code; as a name of its own, since one of its forms is deprecated."""
