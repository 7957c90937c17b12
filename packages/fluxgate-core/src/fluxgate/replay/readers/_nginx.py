"""nginx's access log in JSON, the keys named as the variables are.

A line is written when the request has ended, so a call began its duration before. Where nginx asked
several servers for one request, each try is a call: its variables then have a value for each, as in
`"10.0.0.1:80, 10.0.0.2:80"`; a colon stands where another group of servers took over.
Source: https://nginx.org/en/docs/http/ngx_http_upstream_module.html#variables
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fluxgate.replay._trace import number
from fluxgate.replay.readers._row import Found, Row, Skipped, Unusable, moment

TIMES: Final = ("msec", "time_iso8601", "time_local", "@timestamp", "timestamp", "time")
_BETWEEN: Final = re.compile(r", | : ")


def is_nginx(record: Mapping[str, Any]) -> bool:
    """Whether a record is of such a log."""
    return "request_time" in record or "upstream_response_time" in record


def rows(record: dict[str, Any]) -> Iterator[Found]:
    """The calls of one line."""
    logged = next((moment(record[name]) for name in TIMES if name in record), None)
    if logged is None:
        yield Unusable("the line has no time, such as msec or time_iso8601")
        return
    if "upstream_response_time" not in record and "upstream_addr" not in record:
        # A log without the variables of upstreams: the request as a whole.
        duration = number(record.get("request_time"))
        start = None if duration is None else logged - duration
        key = record.get("host") or record.get("server_name")
        yield Row(start, duration, key=key, status=record.get("status"), fields=record)
        return
    servers = _each(record.get("upstream_addr"))
    if not any(servers):
        yield Skipped("nginx answered by itself, without an upstream")
        return
    times = [number(each) for each in _each(record.get("upstream_response_time"))]
    statuses = _each(record.get("upstream_status"))
    whole = number(record.get("request_time"))
    tries: list[Row] = []
    for place in reversed(range(len(servers))):  # the last one ended when the line was written
        duration = times[place] if len(times) == len(servers) else None
        if duration is None and not tries:
            duration = whole
        status = statuses[place] if place < len(statuses) else ""
        start = None if duration is None else logged - duration
        upstream = record.get("proxy_host") or servers[place]
        tries.append(
            Row(
                start,
                duration,
                key=upstream,
                # None: the client went before an answer came; nginx's own status says so (499).
                status=status or record.get("status"),
                # A view: as many copies of a record as it has tries would be too much.
                fields=ChainMap(record, {"upstream": upstream}),
            )
        )
        logged = logged if start is None else start
    yield from reversed(tries)


def _each(value: object) -> list[str]:
    """The values of a variable, one for each try; empty where there is none (`-`)."""
    if value is None:
        return [""]
    return ["" if each == "-" else each for each in _BETWEEN.split(str(value).strip())]
