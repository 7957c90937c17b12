"""Hostile input is refused with a reason, or counted; and polars changes none of the answers."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxgate.replay import Trace
from fluxgate.replay.readers import TraceError, _frames, _input, read


@pytest.fixture(params=["polars", "plain"])
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setattr(_frames, "pl", None)
    else:
        pytest.importorskip("polars")


def write(folder: Path, text: str) -> Path:
    path = folder / "trace"
    path.write_text(text, encoding="utf-8", newline="")
    return path


with_and_without_polars = pytest.mark.usefixtures("_library")


@with_and_without_polars
def test_odd_numbers(tmp_path: Path) -> None:
    rows = ["nan,1,0", "inf,1,0", "-1,1,0", "1e400,1,0", "1,nan,0", "1,-0.5,0", "1,inf,0", "1,1,9"]
    rows += ["1795850233000,1,0", "5,1,maybe", "7,0.5,1", ",,", "6,0.5,0"]
    trace = read(write(tmp_path, "start,duration,failed\n" + "\n".join(rows) + "\n"))
    assert [call.start for call in trace] == [6.0, 7.0]  # the clock stepped back
    assert trace.rejected == {
        "start is missing or no number": 4,
        "start is before 1970": 1,
        "duration is missing or no number": 2,
        "duration is negative": 1,
        "failed is neither true nor false": 2,
        "start is after the year 5000: give Unix seconds, not milliseconds": 1,
    }


@with_and_without_polars
@pytest.mark.parametrize("row", ["1,1", '"1",1,0', "", "\r", " "])
def test_odd_rows(tmp_path: Path, row: str) -> None:
    trace = read(write(tmp_path, f"start,duration,failed\n1,1,0\n{row}\n2,1,0"))
    assert [call.start for call in trace] == [1.0] + [1.0] * (row == '"1",1,0') + [2.0]
    assert trace.unusable == (row == "1,1")


@with_and_without_polars
def test_odd_keys(tmp_path: Path) -> None:
    keys = ["=cmd|' /C calc'!A0", "@SUM(1)", "<script>", "\x1b[31mred", "\u202egnp", "k" * 5000]
    text = "start,duration,failed,key\n" + "".join(f"1,1,0,{key}\n" for key in keys)
    found = [str(call.key) for call in read(write(tmp_path, text))]
    assert found[:3] == keys[:3]  # text, which no report runs
    assert found[3:5] == ["\\x1b[31mred", "\\u202egnp"]
    assert len(found[5]) == 200


def test_lone_surrogates(tmp_path: Path) -> None:
    text = '{"start":1,"duration":1,"failed":true,"key":"\\ud800","error":"\\udfff"}'
    (call,) = read(write(tmp_path, text))
    assert (call.key, call.error) == ("\\ud800", "\\udfff")
    str(call).encode()


@with_and_without_polars
def test_many_keys(tmp_path: Path) -> None:
    rows = "".join(f"{place},1,0,host-{place}\n" for place in range(100_000))
    trace = read(write(tmp_path, "start,duration,failed,key\n" + rows))
    assert len(trace) == 100_000
    assert trace[99_999].key == "host-99999"


@pytest.mark.parametrize("suffix", ["", "\n1,1,0\n"])
@with_and_without_polars
def test_a_line_without_end(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_input, _frames):
        monkeypatch.setattr(module, "LONGEST_LINE", 2**16)
    path = tmp_path / "trace"
    with path.open("wb") as file:
        file.write(b"start,duration,failed\n2,1,0\n")
        for _ in range(8):
            file.write(b"9" * 2**20)
        file.write(suffix.encode())
    tracemalloc.start()
    trace = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert len(trace) == 1 + bool(suffix)
    assert trace.unusable == 1


@with_and_without_polars
def test_rows_of_other_lengths(tmp_path: Path) -> None:
    trace = read(write(tmp_path, "start,duration,failed\n1,1,0\n1,1,0,0\n1,1\n2,1,0\n"))
    assert len(trace) == 2
    assert trace.rejected == {
        "the row has more fields than columns": 1,
        "the row has fewer fields than columns": 1,
    }


def test_a_field_without_end(tmp_path: Path) -> None:
    text = "start,duration,failed\n1,1,0\n" + '"' + "x" * csv.field_size_limit() + "\n2,1,0\n"
    trace = read(write(tmp_path, text))
    assert len(trace) >= 1
    assert trace.unusable == 1


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(b"start,duration,failed,key\n1,1,0,\xff\xfe\n")
    assert read(path)[0].key == "\\xff\\xfe"


@pytest.mark.parametrize("first", ["start,dur\rfailed", '"' + "x" * 200_000])
def test_a_head_that_can_not_be_read(tmp_path: Path, first: str) -> None:
    with pytest.raises(TraceError, match="the first line"):
        read(write(tmp_path, first + "\n1,1,0\n"), format="csv")


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_file_that_can_not_be(name: str) -> None:
    with pytest.raises(TraceError, match="no file can have the name"):
        read(name)


def test_names_that_can_not_be_shown(tmp_path: Path) -> None:
    names = "".join(f'"\\ud800\\u001b[31m{"x" * 9000}{number}":1,' for number in range(20))
    with pytest.raises(TraceError, match="no column 'start'") as caught:
        read(write(tmp_path, f'{{{names}"y":1}}'), format="json")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 1000


@pytest.mark.parametrize("odd", [[], {}, [[]]], ids=repr)
@pytest.mark.parametrize("place", ["kind", "code", "port"])
def test_spans_of_any_shape(tmp_path: Path, odd: object, place: str) -> None:
    port = {"key": "server.port", "value": {"arrayValue": odd if place == "port" else 80}}
    span = {
        "kind": odd if place == "kind" else 3,
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "2000000000",
        "attributes": [{"key": "server.address", "value": {"stringValue": "a"}}, port],
        "status": {"code": odd if place == "code" else 2},
    }
    sound = {**span, "kind": 3, "attributes": [], "status": {"code": 2}}
    batch = {"resourceSpans": [{"scopeSpans": [{"spans": [span, sound]}]}]}
    trace = read(write(tmp_path, json.dumps(batch)))
    assert len(trace) + sum(trace.skipped.values()) + trace.unusable == 2


@pytest.mark.parametrize("format", ["nginx", "otlp"])
def test_a_wide_record(tmp_path: Path, format: str) -> None:  # noqa: A002
    """The tries and spans of a record share its fields: copies would fill the memory."""
    count = 2_000
    fields = {f"field-{number}": 1 for number in range(count)}
    record: dict[str, Any] = {**fields, "msec": "1795850233.1", "request_time": "0.5"}
    record["upstream_addr"] = ", ".join(["10.0.0.1:80"] * count)
    if format == "otlp":
        attributes = [{"key": key, "value": {"intValue": 1}} for key in fields]
        span = {
            "kind": 3,
            "startTimeUnixNano": 1e18,
            "endTimeUnixNano": 2e18,
            "status": {"code": 2},
        }
        scopes = [{"spans": [span] * count}]
        resource = {"resource": {"attributes": attributes}, "scopeSpans": scopes}
        record = {"resourceSpans": [resource]}
    path = write(tmp_path, json.dumps(record))
    tracemalloc.start()
    trace = read(path, format=format, failed="`field-7` == 1")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(trace) + trace.unusable == count
    assert peak < 2**24  # a copy for each would be 200 MiB


@pytest.mark.parametrize("text", ["__0__ == 1", "`a b` == __1__", "-__9__", "____0 > `a b`"])
def test_names_like_our_own_stand_ins(tmp_path: Path, text: str) -> None:
    with pytest.raises(TraceError, match="there is no column"):
        read(write(tmp_path, '{"start":1,"duration":1,"failed":0}'), failed=text)


def test_no_advice_about_python(tmp_path: Path) -> None:
    """Python's parser warns about `1if`, and a regular expression's backslash."""
    path = write(tmp_path, '{"start":1,"duration":1,"code":"a"}')
    with pytest.raises(TraceError, match="can't have"):
        read(path, failed="(1if code else 2)")
    assert len(read(path, failed=r'code == "\d"')) == 1


def test_gz_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    rows = "start,duration,failed\n" + "".join(f"{n},0.{n},0\n" for n in range(200_000))
    whole = gzip.compress(rows.encode())
    path.write_bytes(whole[: len(whole) // 2])
    trace = read(path)
    assert 0 < len(trace) < 200_000
    assert trace.rejected["the gz file breaks off, or is damaged, here"] == 1
    path.write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(TraceError, match="can't be unpacked"):
        read(path)


HOSTILE_JSON = [
    "[" * 100_000,
    '{"a":' * 100_000,
    "1" * 5000,
    "null",
    '"text"',
    '{"start":[1],"duration":{},"failed":[]}',
    '{"start":' + "1" * 5000 + ',"duration":1,"failed":1}',
]


@pytest.mark.parametrize("first", [
    '{"start":1,"duration":1,"failed":true}',
    '{"msec":"1.0","request_time":"0.5","status":"200"}',
    '{"start_time":"2026-01-01T00:00:00Z","response_flags":"-","response_code":200,"duration":1}',
    '{"circuit":"a","outcome":"success","start":1,"duration":1}',
    '{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":3,"startTimeUnixNano":"1000000000",'
    '"endTimeUnixNano":"2000000000","status":{}}]}]}]}',
], ids=["json", "nginx", "envoy", "recording", "otlp"])  # fmt: skip
def test_hostile_json(tmp_path: Path, first: str) -> None:
    trace = read(write(tmp_path, "\n".join([first, *HOSTILE_JSON])))
    assert len(trace) == 1
    assert trace.unusable >= 5


LOADED: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
WEIRD: list[Any] = [None, 0, -1, 1e308, "", "x", [], {}, [[]], [{}], {"a": 1}, True, "1, 2 : 3"]


@given(st.data())
@settings(max_examples=200, **LOADED)
def test_records_of_any_shape(tmp_path: Path, data: st.DataObject) -> None:
    names = [
        "msec", "request_time", "upstream_addr", "upstream_response_time", "upstream_status",
        "start_time", "duration", "response_code", "response_flags", "upstream_cluster", "status",
        "circuit", "outcome", "start", "resourceSpans", "time_iso8601", "key", "error",
    ]  # fmt: skip
    record = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(WEIRD)))
    for name in ("nginx", "envoy", "recording", "otlp", "har", "json"):
        log = {"log": {"entries": [record, {"request": record, "response": record, **record}]}}
        path = write(tmp_path, json.dumps(log if name == "har" else record))
        try:
            trace = read(path, format=name)
        except TraceError:
            continue
        assert len(trace) >= 1


NUMBERS = st.sampled_from([
    "1", "2.5", " 3", "1_0", "1e1", "+4", "nan", "inf", "-1", "x", "", " ", "\u0661", "0x10", ".5",
    "5.", "2026-11-28T07:00:00Z", "2026-11-28", "1e999", "infinity", "1795850233.123456",
])  # fmt: skip
WORDS = st.sampled_from(["1", "0", "true", "FALSE", "yes", " no", "", "maybe", "2", "1.0"])
KEYS = st.sampled_from(["a", "b", "", "=x", "ü", "\x07", "a b"])
STATUSES = st.sampled_from(["200", "503", "", "0", "-", "99999", "404.0", "nan"])
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, WORDS, KEYS, STATUSES, KEYS, WORDS), max_size=12)
MAPPINGS = st.sampled_from([
    {},
    {"duration": "duration/1000"},
    {"duration": "duration*start"},
    {"failed": "status >= 500"},
    {"failed": "status >= 500 or error == 'a'"},
    {"failed": "not failed and duration < 2"},
    {"failed": "key != error"},
    {"key": "error", "start": "duration"},
])  # fmt: skip


@given(ROWS, MAPPINGS)
@settings(max_examples=150, **LOADED)
def test_polars_changes_nothing(
    tmp_path: Path, rows: list[tuple[str, ...]], mapping: dict[str, str]
) -> None:
    pytest.importorskip("polars")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONE)
    writer.writerow(["start", "duration", "failed", "key", "status", "error", "refused"])
    writer.writerows(rows)
    path = write(tmp_path, out.getvalue())

    def answer() -> tuple[Any, ...]:
        try:
            trace: Trace = read(path, columns=mapping)
        except TraceError as error:
            return ("error", sorted(str(error)))
        return list(trace), trace.rejected

    fast = answer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_frames, "pl", None)
        assert answer() == fast
