"""Targets of what files hold: recorded calls of each format, expressions, saved states."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any, Final

from fluxgate import CircuitBreaker, State
from fluxgate.errors import ConfigError
from fluxgate.metric import Info
from fluxgate.registry import Registry
from fluxgate.replay import Trace
from fluxgate.replay.readers import Format, TraceError, read
from fluxgate.replay.readers._expression import Expression, mapping_of
from fluxgate.retries import Backoff
from fluxgate.testing import ManualClock

from .inputs import Inputs
from .settings import FOLDER
from .targets import Grown, refused, shows, target

OTLP: Final = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "kind": 3,
                            "name": "GET",
                            "startTimeUnixNano": "1764312000000000000",
                            "endTimeUnixNano": "1764312001000000000",
                            "attributes": [
                                {"key": "server.address", "value": {"stringValue": "a.example"}},
                                {"key": "server.port", "value": {"intValue": "8080"}},
                                {"key": "http.response.status_code", "value": {"intValue": 503}},
                                {"key": "error.type", "value": {"stringValue": "503"}},
                            ],
                            "status": {"code": 2},
                        }
                    ]
                }
            ],
        }
    ]
}
HAR: Final = {
    "log": {
        "entries": [
            {
                "startedDateTime": "2026-11-28T07:05:20.5Z",
                "time": 120.5,
                "_fromCache": "",
                "request": {"url": "https://api.example.com/x"},
                "response": {"status": 200, "_error": "net::ERR_FAILED"},
            }
        ]
    }
}
NGINX: Final = {
    "msec": "1764312000.123",
    "time_iso8601": "2026-11-28T07:05:20+00:00",
    "request_time": "0.250",
    "upstream_addr": "10.0.0.1:80, 10.0.0.2:80 : 10.0.0.3:80",
    "upstream_response_time": "0.1, 0.1 : 0.05",
    "upstream_status": "502, 504 : 200",
    "status": "200",
    "host": "shop.example",
    "proxy_host": "backend",
}
ENVOY: Final = {
    "start_time": "2026-11-28T07:05:20.000Z",
    "response_flags": "UO,UH",
    "response_code": 503,
    "duration": "12",
    "authority": "shop.example",
    "upstream_cluster": "outbound|80||shop.svc",
    "upstream_host": "10.0.0.1:80",
}
RECORDING: Final = {
    "circuit": "payments",
    "outcome": "failure",
    "start": 1764312000.5,
    "duration": 0.25,
    "error": "ConnectionError",
    "recording": 1,
    "share": 0.5,
}
JSON: Final = {
    "start": 1764312000.5,
    "duration": 0.25,
    "failed": True,
    "key": "payments",
    "status": 503,
    "error": "x",
    "refused": False,
}
RECORDS: Final[dict[Format, Any]] = {
    Format.OTLP: OTLP,
    Format.HAR: HAR,
    Format.NGINX: NGINX,
    Format.ENVOY: ENVOY,
    Format.RECORDING: RECORDING,
    Format.JSON: JSON,
}
LINES: Final = {
    Format.CSV: b"start,duration,failed,key,status,error,refused\n1764312000.5,0.25,1,a,503,x,0\n",
    Format.APACHE: (
        b'10.0.0.9 - - [28/Nov/2026:07:05:20 +0000] "GET / HTTP/1.1" 200 5 "-" "curl" 250000\n'
        b'1764312000123456 250000 200 shop.example "GET / HTTP/1.1"\n'
    ),
    Format.ENVOY: (
        b'[2026-11-28T07:05:20.000Z] "GET / HTTP/1.1" 503 UF 0 91 12 - "-" "curl" "id" "shop" '
        b'"10.0.0.1:80"\n'
    ),
    Format.ALB: (
        b"https 2026-11-28T07:05:20.123456Z app/shop/1 10.0.0.9:5 10.0.0.1:80 0.0 0.25 0.0 502 502 "
        b'1 2 "GET https://x/ HTTP/1.1" "curl" - - arn:aws:x:targetgroup/shop/7 "Root=1" "-" "-" 0 '
        b'2026-11-28T07:05:20.000000Z "forward" "-" "-"\n'
    ),
    Format.NGINX: json.dumps(NGINX).encode(),
    Format.OTLP: json.dumps(OTLP).encode(),
    Format.HAR: json.dumps(HAR).encode(),
    Format.JSON: json.dumps(JSON).encode(),
    Format.RECORDING: json.dumps(RECORDING).encode(),
}
PARTS: Final = (
    *(
        ",",
        ";",
        "\t",
        "|",
        "\n",
        "\r\n",
        '"',
        " ",
        "-",
        "[",
        "]",
        "{",
        "}",
        ":",
        "\\",
        "\0",
        "\x1f",
    ),
    *("start", "duration", "failed", "key", "status", "error", "refused", "1764312000", "0.25"),
    *("28/Nov/2026:07:05:20 +0000", "2026-11-28T07:05:20Z", "200", "503", "true", "nan", "1e999"),
    *('{"resourceSpans":', '{"log":{', '"entries":[', '"msec":', '"start":', "app/", "https "),
    *("targetgroup/", "%D", "\\x", "\u0661", "a", "\ufeff", "99999999999", "0001-01-01", "9999"),
)
KEYS: Final = tuple({key for record in RECORDS.values() for key in record})
FORMATS: Final = tuple(Format)
COLUMNS: Final = (
    *("start=ts", "duration=duration/1000", "failed=status >= 500 or error != ''", "key=a.b.c"),
    *("start", "duration", "failed", "key", "status", "=", "/", "*", " and ", " or ", "not ", "-"),
    *("`response time`", "`", "(", ")", "'x'", '"', "1000", "0", "<", ">=", "==", "!=", ",", "."),
    *("__0__", "__9__", "ts", "@timestamp", "if ", "lambda", "[", "1j", "None", "True", "\\", "\n"),
    *("é", "9" * 5000, "1e999", "nan", "$", "  "),
)


def _checked(trace: Trace) -> None:
    """A trace is as it promises: sorted, finite, in bounds, its texts printable."""
    assert len(trace)
    starts = list(trace.start)
    assert starts == sorted(starts)
    for call in trace:
        assert math.isfinite(call.start + call.duration)
        assert 0 <= call.start <= 1e11
        assert 0 <= call.duration <= 1e9
        for text in (call.key, call.error):
            assert text is None or (len(text) <= 200 and text.isprintable())
    assert 0 < trace.sampled <= 1
    shows(trace.rejected)
    shows(trace.skipped)


def _read(raw: bytes, format: Format | None, data: Inputs | None = None) -> None:  # noqa: A002
    path = Path(FOLDER, "recorded")
    path.write_bytes(raw)
    columns = (
        {} if data is None else data.pick(({}, {}, {"failed": "status >= 500"}, {"key": "error"}))
    )
    with refused(TraceError):
        _checked(read(path, format=format, columns=columns))


def _grown(text: str) -> None:
    for format in (None, *(each for each in FORMATS if each is not Format.PARQUET)):  # noqa: A001
        _read(text.encode("utf-8", "replace"), format)


@target(
    seeds=[bytes([1 + FORMATS.index(name), 0]) + line for name, line in LINES.items()],
    tokens=PARTS,
    grown=Grown(_grown, PARTS),
)
def recorded_bytes(data: Inputs) -> None:
    """A file of any bytes, read as any format, is a trace, or a `TraceError`."""
    chosen = data.pick((None, *FORMATS))
    how = data.byte() % 4
    raw = data.phrase(PARTS).encode("utf-8", "replace") if how == 1 else data.rest()
    _read(gzip.compress(raw, 1) if how == 2 else raw, chosen)


def _wide(text: str) -> None:
    """A record with as many fields, tries or spans, and attributes as the text has characters."""
    count = len(text)
    fields = {f"field-{number}": 1 for number in range(count)}
    tries = ", ".join(["10.0.0.1:80"] * count)
    nginx = {**NGINX, **fields, "upstream_addr": tries, "upstream_response_time": "-"}
    pairs = [{"key": key, "value": {"intValue": 1}} for key in fields]
    span = {"kind": 3, "startTimeUnixNano": 1e18, "endTimeUnixNano": 2e18}
    otlp = {
        "resourceSpans": [
            {"resource": {"attributes": pairs}, "scopeSpans": [{"spans": [span] * count}]}
        ]
    }
    _read(json.dumps(nginx).encode(), Format.NGINX)
    _read(json.dumps(otlp).encode(), Format.OTLP)


@target(
    seeds=[bytes([n]) + bytes(range(40)) for n in range(6)], tokens=KEYS, grown=Grown(_wide, "x")
)
def recorded_values(data: Inputs) -> None:
    """A record of any shape, in each format of JSON, is a call, or counted as unusable."""
    chosen = data.pick(tuple(RECORDS))
    lines: list[bytes] = []
    for _ in range(1 + data.byte() % 3):
        record = data.changed(RECORDS[chosen], KEYS)
        lines.append(json.dumps(record, default=str).encode())
        if data.byte() % 4 == 0:
            lines.append(LINES[chosen])
    _read(b"\n".join(lines), chosen if data.byte() % 2 else None, data)


@target(
    seeds=[b"\0" + text.encode() for text in COLUMNS[:4]],
    tokens=COLUMNS,
    grown=Grown(lambda text: _expressed(text), COLUMNS),
)
def recorded_expression(data: Inputs) -> None:
    """An expression over a record has a value or None, whatever the record holds."""
    text = data.written(COLUMNS)
    with refused(TraceError):
        mapping_of(text)
    with refused(TraceError):
        expression = Expression(text, "failed")
        record = data.changed(NGINX, KEYS)
        if isinstance(record, dict):
            row = (1.0, 2.0, None, "a", record.get("status"), None, None, record)
            shows(expression(record, row))
            with refused(TraceError):
                expression.check(record)


def _expressed(text: str) -> None:
    with refused(TraceError):
        Expression(text)
    with refused(TraceError):
        mapping_of(text)


# -- saved states

SAVE: Final[dict[str, Any]] = {
    "fluxgate": 1,
    "name": "payments",
    "state": "open",
    "elapsed": 5.0,
    "retry_after": 25.0,
    "reopens": 2,
    "last_trip": {
        "clause": "FailureRate(0.5)",
        "measured": 0.8,
        "calls": 10,
        "window": "CountWindow(100)",
        "errors": [["ConnectionError", 8]],
        "note": None,
        "by": "ann",
    },
    "saved_at": 1764312000.0,
    "reverts_in": None,
    "note": "a drill",
    "by": "ann",
}
FIELDS: Final = (*SAVE, *SAVE["last_trip"], *State, "open_for()", "force_open()")


def _restored(saved: Any) -> None:
    clock = ManualClock()
    breaker = CircuitBreaker("payments", retry=Backoff(1, 60), clock=clock)
    with refused(ConfigError):
        breaker.restore(saved)
    for _ in range(3):
        found: Info = breaker.info()
        shows(found)
        shows(found.reason)
        json.dumps(found.save(), allow_nan=False)
        again = CircuitBreaker("payments", clock=clock)
        again.restore(found.save())
        assert again.state in (found.state, State.HALF_OPEN)
        clock.advance(30)
        breaker.available  # noqa: B018  (it moves what is over)
    registry = Registry()
    with refused(ConfigError):
        registry.restore({"payments": saved})
    with refused(ConfigError):
        registry.restore(saved)


@target(
    seeds=[b"\0" + json.dumps(SAVE).encode(), b"\1" + bytes(range(60))],
    tokens=FIELDS,
    grown=Grown(lambda text: _restored(text), ("[", '{"a":', "1", '"', "\\u", " ", ",", "-")),
)
def saved_state(data: Inputs) -> None:
    """A save of any shape is restored, or a `ConfigError`; the circuit works on, and saves."""
    if data.byte() % 2:
        _restored(data.changed(SAVE, FIELDS))
    else:
        raw = data.rest()
        _restored(raw)
        _restored(raw.decode("utf-8", "surrogateescape"))
