"""HAR: the network panel of a browser, as it saves it.

Source: http://www.softwareishard.com/blog/har-12-spec/; names with an underscore are the
browser's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

from fluxgate.replay.readers._row import Found, Row, Skipped, Unusable, divided, moment, record_of

# The page or the user wanted it so: it says nothing about the server.
_CANCELLED: Final = ("net::ERR_ABORTED", "net::ERR_BLOCKED", "NS_BINDING_ABORTED")


def rows(document: Mapping[str, Any]) -> Iterator[Found]:
    """The calls of a whole document."""
    entries = (record_of(document.get("log")) or {}).get("entries")
    for each in cast("list[object]", entries) if isinstance(entries, list) else []:
        entry = record_of(each)
        yield Unusable("an entry is no object") if entry is None else _row(entry)


def _row(entry: Mapping[str, Any]) -> Found:
    request, response = record_of(entry.get("request")), record_of(entry.get("response"))
    if request is None or response is None:
        return Unusable("the entry has no request or no response")
    if entry.get("_fromCache"):
        return Skipped("the browser answered from its cache")
    # Chromium's name of it, and Playwright's.
    error = response.get("_error") or response.get("_failureText") or None
    if str(error).startswith(_CANCELLED):
        return Skipped("the page cancelled the request, or an extension blocked it")
    try:
        url = urlsplit(str(request.get("url")))
        host, scheme = url.netloc.rpartition("@")[2], url.scheme
    except ValueError:
        return Unusable("the entry's URL can't be read")
    if scheme not in ("http", "https", "ws", "wss"):
        return Skipped("the URL is no call to a server (data:, blob:)")
    status = response.get("status")
    return Row(
        moment(entry.get("startedDateTime")),
        divided(entry.get("time"), 1000),
        # 0 or -1: no answer came.
        failed=True if status in (0, -1, None) else None,
        key=host,
        status=status,
        error=error,
        fields={**request, **response, **entry},
    )
