"""`Trace`: rows and columns become the same calls, and unusable rows are counted."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from fluxgate.replay import Call, Labels, Trace, _trace

ROWS: list[tuple[Any, ...]] = [
    (20.0, 0.5, False, "b", 200),
    (10.0, 0.25, True, "a", 503, "Timeout"),
    (10.0, 0.75, False, None, None, None, False),
    (30.0, None, None, "a", None, None, True),
]


@pytest.fixture(params=["numpy", "plain"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trace]:
    """`Trace.from_columns`, with and without numpy."""
    if request.param == "plain":
        monkeypatch.setattr(_trace, "np", None)
        return Trace.from_columns
    np = pytest.importorskip("numpy")

    def from_columns(start: Any, duration: Any, failed: Any, **columns: Any) -> Trace:
        arrays = (np.array(each, dtype=float) for each in (start, duration, failed))
        return Trace.from_columns(*arrays, **columns)

    return from_columns


def test_sorted_by_start() -> None:
    trace = Trace.from_rows(ROWS)
    assert list(trace) == [
        Call(10.0, 0.25, True, "a", 503, "Timeout"),
        Call(10.0, 0.75, False),
        Call(20.0, 0.5, False, "b", 200),
        Call(30.0, 0.0, False, "a", refused=True),
    ]
    assert trace.unusable == 0
    assert trace.nbytes <= 200 * len(trace)


def test_rows_of_mappings() -> None:
    rows = [{"start": "1e3", "duration": "0.5", "failed": "true", "more": 1}]
    assert list(Trace.from_rows(rows)) == [Call(1000.0, 0.5, True)]


def test_columns_are_as_rows(made: Callable[..., Trace]) -> None:
    trace = made(
        [20.0, 10.0, 10.0, 30.0],
        [0.5, 0.25, 0.75, math.nan],
        [0, 1, 0, 0],
        key=["b", "a", None, "a"],
        status=[200, 503, 0, 0],
        error=Labels(array("i", [-1, 0, -1, -1]), ("Timeout",)),
        refused=[False, False, False, True],
    )
    assert list(trace) == list(Trace.from_rows(ROWS))


def test_unusable_rows_are_counted(made: Callable[..., Trace]) -> None:
    nan = math.nan
    trace = made(
        [nan, -1.0, 1.7e12, 1.0, 1.0, 1.0, 1.0, 1.0, math.inf],
        [1.0, 1.0, 1.0, nan, -0.5, 1e300, 1.0, 1.0, 1.0],
        [0, 0, 0, 0, 0, 0, nan, 1, 0],
        rejected={"the line is no JSON": 3},
    )
    assert list(trace) == [Call(1.0, 1.0, True)]
    assert trace.rejected == {
        "the line is no JSON": 3,
        "start is missing or no number": 2,
        "start is before 1970": 1,
        "start is after the year 5000: give Unix seconds, not milliseconds": 1,
        "duration is missing or no number": 1,
        "duration is negative": 1,
        "duration is above 1e9 seconds": 1,
        "failed is neither true nor false": 1,
    }


def test_rows_with_more_fields() -> None:
    trace = Trace.from_rows([(1.0, 1.0, True, "a", 1, "e", False, "more"), ("x", 1, 2)])
    assert trace.rejected == {
        "the row has more fields than columns": 1,
        "start is missing or no number": 1,
    }


def test_unequal_columns(made: Callable[..., Trace]) -> None:
    with pytest.raises(ValueError, match="different lengths"):
        made([1.0, 2.0], [1.0], [0, 0])


@pytest.mark.parametrize("plain", [False, True])
def test_selected_calls(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if plain:
        monkeypatch.setattr(_trace, "np", None)
    trace = Trace.from_rows(ROWS)
    assert [call.key for call in trace.select([0, 3])] == ["a", "a"]
    assert list(trace.select([])) == []


def test_calls_of_one_key() -> None:
    rows = [(1.0, 0.1, False, "stock"), (2.0, 0.1, True, "mail"), (3.0, 0.1, False, "stock")]
    trace = Trace.from_rows([*rows, (4.0, -1.0, False, "mail")])
    assert [call.start for call in trace.only("stock")] == [1.0, 3.0]
    assert trace.only("mail").rejected == trace.rejected != {}
    with pytest.raises(ValueError, match="did you mean 'stock'"):
        trace.only("stok")
    with pytest.raises(ValueError, match=r"'x'; it has 'stock' and 'mail'$"):
        trace.only("x")
    with pytest.raises(ValueError, match="its calls have no keys"):
        Trace.from_rows([(1.0, 0.1, False)]).only("stock")
    many = Trace.from_rows([(1.0, 0.1, False, f"host{n}") for n in range(20)])
    with pytest.raises(ValueError, match=r"'host7' and others$"):
        many.only("x")


def test_an_empty_trace(made: Callable[..., Trace]) -> None:
    assert list(made([], [], [])) == []
