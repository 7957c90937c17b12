"""`read()`: the calls of each format, as its producer writes it."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from fluxgate.replay import Call
from fluxgate.replay.readers import Format, TraceError, read

DATA = Path(__file__).parent / "data"


def brief(calls: Any) -> list[tuple[Any, ...]]:
    return [(call.key, call.status, call.failed) for call in calls]


def write(folder: Path, text: str, name: str = "trace") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# -- samples of real producers: see producers.py


def test_nginx() -> None:
    trace = read(DATA / "nginx.jsonl")
    in_order = brief(trace)
    assert sorted(in_order[:3]) == [
        ("shop", 200, False),
        ("shop", 200, False),
        ("shop", 404, False),
    ]
    assert in_order[3:5] == [("shop", 503, True), ("shop", 502, True)]
    # Each try of `pair` is a call: the first server was down.
    assert in_order[5:] == [
        ("pair", 502, True),
        ("pair", 200, False),
        ("pair", 502, True),
        ("pair", 503, True),
    ]
    assert trace.skipped == {"nginx answered by itself, without an upstream": 1}
    assert max(trace.duration) >= 0.2


def test_apache() -> None:
    precise, combined = read(DATA / "apache.log"), read(DATA / "apache-combined.log")
    assert brief(precise) == [
        ("shop.example", 200, False),
        ("shop.example", 404, False),
        ("shop.example", 200, False),
        ("shop.example", 503, True),
        ("shop.example", 502, True),
    ]
    assert sorted(precise.duration) == sorted(combined.duration)
    for exact, whole in zip(sorted(precise.start), combined.start, strict=True):
        assert whole <= exact < whole + 1


def test_otlp() -> None:
    trace = read(DATA / "otlp.jsonl")
    assert brief(trace) == [
        ("payments.example:8443", 200, False),
        ("payments.example:8443", 404, False),  # ERROR by the conventions, and no failure
        ("payments.example:8443", 503, True),
        ("stock.example", None, True),
    ]
    assert trace[3].error == "timeout"
    assert trace.skipped == {"the span isn't of kind CLIENT": 1}


def test_har() -> None:
    trace = read(DATA / "browser.har")
    assert [call.failed for call in trace] == [False, False, False, True, True]
    assert trace[4].error == "net::ERR_EMPTY_RESPONSE"
    assert trace[2].duration >= 0.2


@pytest.mark.skipif(not shutil.which("nginx"), reason="no nginx: apt-get install nginx-light")
def test_nginx_that_runs(tmp_path: Path) -> None:
    from .producers import nginx

    trace = read(write(tmp_path, nginx(("200", "503", "static", "pair/200"))))
    assert brief(trace)[:2] == [("shop", 200, False), ("shop", 503, True)]
    assert len(trace) == 4


@pytest.mark.skipif(not shutil.which("apache2"), reason="no apache2: apt-get install apache2-bin")
def test_apache_that_runs(tmp_path: Path) -> None:
    from .producers import apache

    for text in apache(("200", "503")):
        assert [call.status for call in read(write(tmp_path, text))] == [200, 503]


def test_otlp_exporter(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.json.file")
    from .producers import otlp

    otlp(tmp_path / "spans")
    assert brief(read(tmp_path / "spans")) == brief(read(DATA / "otlp.jsonl"))


# -- formats by their documentation

ALB = (
    "https 2026-07-02T22:23:00.186641Z app/shop/50dc6c495c0c9188 192.168.131.39:2817 {target} "
    '0.000 {time} 0.000 {elb} {status} 34 366 "GET https://www.example.com:443/ HTTP/1.1" '
    '"curl/7.46.0 \\"x\\"" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 {group} "Root=1-58337262" '
    '"www.example.com" "-" 0 2026-07-02T22:22:48.186641Z "forward" "-" "-"\n'
)
GROUP = (
    "arn:aws:elasticloadbalancing:us-east-2:123456789012:targetgroup/my-targets/73e2d6bc24d8a067"
)


def test_alb(tmp_path: Path) -> None:
    rows = [
        ("10.0.0.1:80", "0.250", "200", "200", GROUP),
        ("10.0.0.1:80", "-1", "504", "-", GROUP),  # it never answered
        ("-", "-1", "503", "-", GROUP),  # no healthy target
        ("-", "-1", "301", "-", "-"),  # a redirect of the load balancer's own
        ("10.0.0.1:80", "-1", "460", "-", GROUP),  # the client went
    ]
    names = ("target", "time", "elb", "status", "group")
    text = "".join(ALB.format(**dict(zip(names, row, strict=True))) for row in rows)
    trace = read(write(tmp_path, text))
    assert brief(trace) == [
        ("my-targets", 504, True),
        ("my-targets", 503, True),
        ("my-targets", 200, False),
    ]
    assert trace[2] == Call(1783030979.936641, 0.25, False, "my-targets", 200)
    assert trace[0].duration == 12.0
    assert sum(trace.skipped.values()) == 2
    assert trace.rejected == {}


ENVOY = (
    '[2026-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" {code} {flags} 154 0 {ms} 100 '
    '"10.0.35.28" "nsq2http" "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "{host}"\n'
)
ISTIO = (
    '[2026-11-25T21:26:18.409Z] "GET /status/418 HTTP/1.1" 503 UF upstream_reset '
    '- "delayed connect error: 111" 0 135 4 4 "-" "curl/7.73.0-DEV" "84961386-6d84-929d" '
    '"httpbin:8000" "127.0.0.1:80" inbound|8000|| 127.0.0.1:41854 10.44.1.27:80 - default\n'
)


def test_envoy(tmp_path: Path) -> None:
    text = "".join(
        (
            ENVOY.format(code=200, flags="-", ms=226, host="tcp://10.0.2.1:80"),
            ENVOY.format(code=503, flags="UO", ms=0, host="-"),
            ENVOY.format(code=0, flags="DC", ms=9, host="-"),
            ENVOY.format(code=404, flags="NR", ms=0, host="-"),
            ENVOY.format(code=504, flags="UT", ms=15000, host="tcp://10.0.2.1:80"),
        )
    )
    trace = read(write(tmp_path, text))
    assert trace[0] == Call(1776284220.31, 0.226, False, "locations", 200)
    assert trace[1].refused
    assert (trace[2].failed, trace[2].error, trace[2].duration) == (True, "UT", 15.0)
    assert sum(trace.skipped.values()) == 2


def test_envoy_of_istio(tmp_path: Path) -> None:
    trace = read(write(tmp_path, ISTIO))
    assert trace[0][2:] == (True, "inbound|8000||", 503, "UF", False)


def test_envoy_in_json(tmp_path: Path) -> None:
    record = {
        "start_time": "2026-04-15T20:17:00.310Z",
        "duration": 226,
        "response_code": 503,
        "response_flags": "UF",
        "upstream_cluster": "outbound|80||reviews.default.svc.cluster.local",
    }
    (call,) = read(write(tmp_path, json.dumps(record)))
    assert call[1:5] == (0.226, True, "reviews.default.svc.cluster.local", 503)


def test_nginx_without_upstream(tmp_path: Path) -> None:
    record = {
        "time_local": "28/Nov/2026:08:00:00 +0100",
        "request_time": "1.5",
        "status": "500",
        "host": "shop.example",
    }
    (call,) = read(write(tmp_path, json.dumps(record)))
    assert call == Call(1795849198.5, 1.5, True, "shop.example", 500)


def test_recording(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"recording": 1, "share": 1.0},
        {"circuit": "a", "outcome": "success", "start": 10.0, "duration": 0.5, "process": 7},
        {"circuit": "a", "outcome": "failure", "start": 11.0, "duration": 1, "error": "Timeout"},
        {"circuit": "a", "outcome": "rejected", "start": 12.0},
        {"circuit": "a", "outcome": "cancelled", "start": 13.0, "duration": 1},
        {"circuit": "a", "outcome": "exploded", "start": 13.0, "duration": 1},
    ]
    trace = read(write(tmp_path, "\n".join(map(json.dumps, lines))))
    assert list(trace) == [
        Call(10.0, 0.5, False, "a"),
        Call(11.0, 1.0, True, "a", None, "Timeout"),
        Call(12.0, 0.0, False, "a", refused=True),
    ]
    assert trace.skipped == {"the call was cancelled: it moves nothing": 1}
    assert trace.unusable == 1


# -- columns and expressions

CSV = "ts,ms,code,up stream\n10,500,200,a\n11,1500,503,b\n12,0,,a\n"


def test_csv_mapped(tmp_path: Path) -> None:
    path = write(tmp_path, CSV)
    trace = read(
        path,
        columns="start=ts,duration=ms/1000,status=code,key=up stream",
        failed="ms >= 1000 or code == 200",
    )
    assert list(trace) == [
        Call(10.0, 0.5, True, "a", 200),
        Call(11.0, 1.5, True, "b", 503),
    ]
    assert trace.rejected == {"failed is neither true nor false": 1}  # 0 ms, and no code


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("__import__('os').system('x')", "it can't have"),
        ("status = 500", "equality is =="),
        ("ms + 1", "no column 'ms + 1'"),
        ("(a if b else c)", "it can't have"),
        ("x[0] == 1", "it can't have"),
        ("f'{x}' == 1", "it can't have"),
        ("(" * 240, "is no expression"),
        ("x == " + "9" * 600, "1 to 500 characters"),
        ("", "1 to 500 characters"),
        ("sttus >= 500", "did you mean 'status'?"),
    ],
)
def test_expressions_refused(tmp_path: Path, expression: str, says: str) -> None:
    path = write(tmp_path, "start,duration,status\n1,1,200\n")
    with pytest.raises(TraceError, match=re.escape(says)):
        read(path, failed=expression)


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ("begin=ts", "'begin' is no column of a trace"),
        ("strt=ts", "did you mean 'start'?"),
        ("start", "COLUMN=EXPRESSION"),
        ("start=ts", "no column 'duration'"),
        ("start=ts,duration=ms", "no column 'failed', 'status' or 'error'"),
    ],
)
def test_mappings_refused(tmp_path: Path, mapping: str, says: str) -> None:
    with pytest.raises(TraceError, match=re.escape(says)):
        read(write(tmp_path, CSV), columns=mapping)


def test_expressions_of_logs() -> None:
    # `status` is one try's, and `request_time` nginx's own variable.
    trace = read(DATA / "nginx.jsonl", failed="status >= 400", key="upstream_addr")
    assert [call.failed for call in trace if call.status == 404] == [True]
    assert any("," in str(call.key) for call in trace)
    spans = read(DATA / "otlp.jsonl", key="service.name")
    assert {call.key for call in spans} == {"shop"}


def test_upstream_is_the_key() -> None:
    path = DATA / "nginx.jsonl"
    assert list(read(path, key="upstream")) == list(read(path))


def test_a_field_that_no_record_has() -> None:
    wanted = r"no record has a field 'upstram'; the first has .*; did you mean 'upstream'\?"
    with pytest.raises(TraceError, match=wanted):
        read(DATA / "nginx.jsonl", key="upstram")
    with pytest.raises(TraceError, match=r"no record has a field 'server\.adress'"):
        read(DATA / "otlp.jsonl", key="server.adress")
    # Optional: some have it.
    assert any(call.key for call in read(DATA / "otlp.jsonl", key="error.type"))


def test_json_lines_by_path(tmp_path: Path) -> None:
    rows = [{"t": {"at": "2026-11-28T07:00:00Z"}, "ms": 5, "ok": True}, {"t": 3, "ms": 1}]
    trace = read(
        write(tmp_path, "\n".join(map(json.dumps, rows))),
        columns="start=t.at,duration=ms/1000,failed=not ok",
    )
    assert list(trace) == [Call(1795849200.0, 0.005, False)]
    assert trace.unusable == 1


# -- where it comes from


def test_gz_bom_and_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\ufeffstart,duration,failed\r\n\r\n1,0.5,true\r\n"
    wanted = [Call(1.0, 0.5, True)]
    assert list(read(write(tmp_path, text))) == wanted
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert list(read(path)) == wanted
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert list(read("-")) == wanted


def test_data_frames() -> None:
    pl, pd = pytest.importorskip("polars"), pytest.importorskip("pandas")
    columns = {
        "at": ["2026-11-28T07:00:00.250Z", "2026-11-28T07:00:01Z", None],
        "ms": [500, 1500, 2],
        "status": [200, 503, 200],
        "host": ["a", None, "b"],
    }
    mapping = "start=at,duration=ms/1000,key=host"
    wanted = [
        Call(1795849200.25, 0.5, False, "a", 200),
        Call(1795849201.0, 1.5, True, None, 503),
    ]
    frame = pl.DataFrame(columns)
    dates = frame.with_columns(pl.col("at").str.to_datetime(time_zone="UTC"))
    spans = dates.with_columns(ms=pl.duration(milliseconds=pl.col("ms")))
    pandas = pd.DataFrame(columns)
    stamped = pandas.assign(at=pd.to_datetime(pandas["at"], format="ISO8601"))
    for each in (frame, dates, pandas, stamped):
        trace = read(each, columns=mapping)
        assert list(trace) == wanted
        assert trace.unusable == 1
    assert list(read(spans, columns="start=at,duration=ms,key=host")) == wanted


def test_parquet(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    path = tmp_path / "trace.parquet"
    frame = pl.DataFrame({"start": [2.0, 1.0], "duration": [1.0, 0.5], "failed": [True, False]})
    frame.write_parquet(path)
    assert list(read(path)) == [Call(1.0, 0.5, False), Call(2.0, 1.0, True)]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TraceError, match="can't be read as Parquet"):
        read(path)


def test_no_frame() -> None:
    with pytest.raises(TraceError, match=r"data frame of polars or pandas, not list"):
        read([1, 2])


# -- what can't be used

REFUSED = {
    "": "is empty",
    "\n \n": "is empty",
    '{"status":"success","data":{"resultType":"matrix","result":[]}}': "Prometheus",
    "# HELP calls_total Calls\n": "Prometheus",
    '{"resourceMetrics":[]}': "OTLP metrics",
    "[1, 2]": "JSON array",
    "{broken": "no JSON object",
    "words\n": "isn't recognised",
    "\0\1\2": "is no text",
    "1,2,3\n": "must name the columns",
    '{"log":{"entries":[]}}': "no call",
    '{"log":{"entries":': "no JSON document",
    "start,duration,failed\n": "there is no call",
    "start,duration,failed\nx,1,0\n": "start is missing or no number (1 row)",
    '127.0.0.1 - - [28/Nov/2026:07:17:13 +0000] "GET / HTTP/1.1" 200 2\n': "without durations",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_refused_with_a_reason(tmp_path: Path, text: str) -> None:
    with pytest.raises(TraceError, match=re.escape(REFUSED[text])):
        read(write(tmp_path, text))


def test_formats_by_name(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"'htr' is no format: they are csv, json"):
        read(DATA / "nginx.jsonl", format="htr")
    with pytest.raises(TraceError, match=r"the line isn't Apache's .* \(8 rows\)"):
        read(DATA / "nginx.jsonl", format=Format.APACHE)
    with pytest.raises(TraceError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
