"""OTLP JSON: spans as a collector's file exporter writes them, one batch a line.

A call is a span of kind CLIENT. By OpenTelemetry's conventions a client's span has the status ERROR
for a 404, too; so where there is an HTTP status, that decides.
Sources: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding and
https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from fluxgate.replay._trace import number
from fluxgate.replay.readers._row import Found, Row, Skipped, Unusable, divided, record_of

# The collector writes numbers, as the specification asks; some exporters write the names.
_CLIENT: Final = frozenset[object]({3, "3", "SPAN_KIND_CLIENT"})
_ERROR: Final = frozenset[object]({2, "2", "STATUS_CODE_ERROR"})
_USUAL_PORTS: Final = frozenset[object]({None, "", 80, 443, "80", "443"})
# The newer name of the conventions first.
_HOSTS: Final = ("server.address", "net.peer.name", "peer.service", "rpc.service", "db.system.name")
_STATUSES: Final = ("http.response.status_code", "http.status_code")


def rows(record: Mapping[str, Any]) -> Iterator[Found]:
    """The calls of one batch."""
    for resource in _list(record.get("resourceSpans")):
        about = _attributes(_dict(resource.get("resource")).get("attributes"))
        # Until 2022 a scope was an instrumentation library.
        scopes = resource.get("scopeSpans") or resource.get("instrumentationLibrarySpans")
        for scope in _list(scopes):
            for span in _list(scope.get("spans")):
                yield _row(span, about)


def _row(span: Mapping[str, Any], resource: dict[str, Any]) -> Found:
    if not _is_one_of(_CLIENT, span.get("kind")):
        return Skipped("the span isn't of kind CLIENT")
    start, end = number(span.get("startTimeUnixNano")), number(span.get("endTimeUnixNano"))
    if not start or not end:
        return Unusable("the span has no start or no end")
    attributes = _attributes(span.get("attributes"))
    host = next((attributes[name] for name in _HOSTS if attributes.get(name)), None)
    port = attributes.get("server.port", attributes.get("net.peer.port"))
    status = next((attributes[name] for name in _STATUSES if attributes.get(name)), None)
    verdict = _is_one_of(_ERROR, _dict(span.get("status")).get("code"))
    error = attributes.get("error.type") or attributes.get("exception.type")
    return Row(
        divided(start, 1e9),
        (end - start) / 1e9 if end - start > -1e6 else end - start,
        failed=verdict if status is None else None,
        key=host if host is None or _is_one_of(_USUAL_PORTS, port) else f"{host}:{port}",
        status=status,
        error=None if str(error) == str(status) else error,
        # A view: the resource belongs to all spans of a batch.
        fields=ChainMap({"name": span.get("name")}, attributes, resource),
    )


def _is_one_of(known: frozenset[object], value: object) -> bool:
    """Whether a value is known; one of JSON may be a list, which has no hash."""
    return not isinstance(value, (list, dict)) and value in known


def _attributes(pairs: object) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in _list(pairs):
        value = _dict(pair.get("value"))
        found[str(pair.get("key"))] = next(iter(value.values()), None)
    return found


def _list(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    found = map(record_of, cast("list[object]", value))
    return [each for each in found if each is not None]


def _dict(value: object) -> dict[str, Any]:
    return record_of(value) or {}
