"""Apache's access logs, with a duration.

Two forms: the usual ones (`common`, `combined`, with or without a virtual host in front) with `%D`
at the end, and the one of docs/operate/replay.md, `%{usec}t %D %>s %v "%r"`. Apache logs when a
request has ended, but `%t` is when it *began*.
Source: https://httpd.apache.org/docs/2.4/mod/mod_log_config.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from fluxgate.replay.readers._row import Found, Row, Unusable, divided, moment

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
USUAL: Final = re.compile(
    r"(?:(?P<vhost>\S+:\d+) )?(?P<client>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "
    rf"(?P<request>{_QUOTED}) (?P<status>\d{{3}}|-) (?P<bytes>\d+|-)"
    rf"(?: {_QUOTED} {_QUOTED})?(?: (?P<duration>\d+))?\s*$"
)
PRECISE: Final = re.compile(
    r"(?P<usec>\d{16}) (?P<duration>\d+) (?P<status>\d{3}|-) (?P<vhost>\S+)"
    rf"(?: (?P<request>{_QUOTED}))?\s*$"
)


def rows(line: str) -> Iterator[Found]:
    """The call of one line."""
    found = PRECISE.match(line) or USUAL.match(line)
    if found is None:
        yield Unusable("the line isn't Apache's common or combined format, nor the precise one")
        return
    fields = found.groupdict()
    if fields["duration"] is None:
        yield Unusable("the line has no duration: add %D to Apache's LogFormat")
        return
    usec = divided(fields.get("usec"), 1e6)
    # An internal redirection to an error page keeps the request's own status in `%>s`.
    yield Row(
        moment(fields.get("time")) if usec is None else usec,
        divided(fields["duration"], 1e6),
        key=fields["vhost"],
        status=fields["status"],
        fields=fields,
    )
