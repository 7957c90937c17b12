"""Access logs of AWS Application Load Balancers.

A line's time is that of the response; the first fields are
`type time elb client:port target:port request_processing_time target_processing_time
response_processing_time elb_status_code target_status_code …`. A time is -1 where the target never
answered: then the request's creation, a later field, says how long it took.
Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import Final

from fluxgate.replay._trace import number
from fluxgate.replay.readers._row import Found, Row, Skipped, Unusable, moment

LINE: Final = re.compile(r"(?:https?|h2|grpcs|wss?) \d{4}-\d\d-\d\dT[\d:.]+Z (?:app/)?\S+ \S+ ")
_NAMES: Final = (
    "type",
    "time",
    "elb",
    "client",
    "target",
    "request_processing_time",
    "target_processing_time",
    "response_processing_time",
    "elb_status_code",
    "target_status_code",
    "received_bytes",
    "sent_bytes",
    "request",
    "user_agent",
    "ssl_cipher",
    "ssl_protocol",
    "target_group_arn",
    "trace_id",
    "domain_name",
    "chosen_cert_arn",
    "matched_rule_priority",
    "request_creation_time",
    "actions_executed",
    "redirect_url",
    "error_reason",
)


def rows(line: str) -> Iterator[Found]:
    """The call of one line."""
    values = _split(line)
    if len(values) < 13:
        yield Unusable("the line has too few fields for an ALB")
        return
    fields = {
        name: "" if value == "-" else value for name, value in zip(_NAMES, values, strict=False)
    }
    group = re.search(r":targetgroup/([^/]+)/", fields.get("target_group_arn", ""))
    if not fields["target"] and not group:
        yield Skipped("the load balancer answered by itself, without a target")
        return
    if fields["elb_status_code"] == "460":
        yield Skipped("the client went before the load balancer could answer")
        return
    ended, duration = moment(fields["time"]), number(fields["target_processing_time"])
    if duration is None or duration < 0:
        created = moment(fields.get("request_creation_time"))
        duration = None if created is None or ended is None else max(0.0, ended - created)
    upstream = group[1] if group else fields["target"]
    yield Row(
        None if ended is None or duration is None else ended - duration,
        duration,
        key=upstream,
        status=fields["target_status_code"] or fields["elb_status_code"],
        fields={"upstream": upstream, **fields},
    )


def _split(line: str) -> list[str]:
    """Fields between spaces; those in quotes may have spaces."""
    try:
        return next(csv.reader([line], delimiter=" ", escapechar="\\"), list[str]())
    except csv.Error:  # a field of more than 128 KiB
        return []
