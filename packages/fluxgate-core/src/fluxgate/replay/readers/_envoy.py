"""Envoy's access logs: the default format, Istio's, and JSON with the usual names.

A line begins with the request's *start*; its duration is in milliseconds. Response flags say what
happened: `UO` is Envoy's own circuit breaker refusing, `DC` a client that went.
Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fluxgate.replay._trace import number
from fluxgate.replay.readers._row import Found, Row, Skipped, Unusable, divided, moment

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
LINE: Final = re.compile(
    rf"\[(?P<start_time>\d{{4}}-\d\d-\d\dT[^\]]+)\] "
    rf"(?P<request>{_QUOTED}) (?P<response_code>\d+|-) (?P<response_flags>[\w,-]+) (?P<rest>.*)"
)
# Istio's has three fields more before the bytes, and the cluster after the host.
_REST: Final = re.compile(
    rf"(?:(?P<response_code_details>\S+) \S+ (?P<failure>{_QUOTED}|-) )?"
    rf"(?P<bytes_received>\d+|-) (?P<bytes_sent>\d+|-) (?P<duration>\d+|-) "
    rf"(?P<upstream_service_time>\"?[\d-]+\"?) {_QUOTED} {_QUOTED} {_QUOTED} "
    rf'"(?P<authority>[^"]*)" "(?P<upstream_host>[^"]*)"(?: (?P<upstream_cluster>\S+))?'
)
# Envoy answered without asking the upstream.
_BY_ITSELF: Final = {
    "NR": "no route",
    "RL": "its rate limit",
    "UAEX": "external authorization",
    "DPE": "a malformed request",
    "RLSE": "its rate limit service",
    "IH": "an invalid header",
    "NFCF": "no filter configuration",
}


def is_envoy(record: Mapping[str, Any]) -> bool:
    """Whether a record in JSON is of Envoy."""
    return "response_flags" in record or ("response_code" in record and "start_time" in record)


def rows(line: str) -> Iterator[Found]:
    """The call of one line of text."""
    found = LINE.match(line)
    rest = found and _REST.match(found["rest"])
    if found is None or rest is None:
        yield Unusable("the line isn't Envoy's default format, nor Istio's")
        return
    yield from of_record({**found.groupdict(), **rest.groupdict()})


def of_record(record: Mapping[str, Any]) -> Iterator[Found]:
    """The call of one record in JSON."""
    flags = set(str(record.get("response_flags") or "").split(","))
    for flag, why in _BY_ITSELF.items():
        if flag in flags:
            yield Skipped(f"Envoy answered by itself: {why} ({flag})")
            return
    status = number(record.get("response_code"))
    if not status and flags & {"DC", "DR"}:
        yield Skipped("the client went before there was an answer")
        return
    if not status and flags & {"", "-"}:
        status = None
    named = [record.get(name) for name in ("upstream_cluster", "authority", "upstream_host")]
    upstream = _cluster(next((each for each in named if each and each != "-"), None))
    yield Row(
        moment(record.get("start_time")),
        divided(record.get("duration"), 1000),
        # 0: no answer came, and the flags say why.
        failed=True if status == 0 else None,
        key=upstream,
        status=status or None,
        error=next((flag for flag in sorted(flags) if flag not in ("", "-")), None),
        refused="UO" in flags,
        fields={"upstream": upstream, **record},
    )


def _cluster(key: object) -> object:
    """The host of a cluster of Istio's: `outbound|80||shop.svc` is `shop.svc`."""
    if isinstance(key, str) and key.startswith("outbound|"):
        return key.rpartition("|")[2] or key
    return key
