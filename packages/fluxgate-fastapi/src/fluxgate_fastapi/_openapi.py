"""OpenAPI entries that document the 503 of a refusal."""

from __future__ import annotations

from typing import Any, Final

from fluxgate.problem import MEDIA_TYPE, STATUS, Problem

_EXAMPLE = Problem(
    detail="A service that this request needs is not available: try again in 30 seconds.",
    retry_after=30,
)

_HEADERS: dict[str, Any] = {
    "Retry-After": {
        "description": "Seconds after which to try again; absent where nobody knows.",
        "required": False,
        "schema": {"type": "integer", "minimum": 1},
        "example": _EXAMPLE.retry_after,
    }
}

_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457 problem details.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "Says what kind of problem this is; it never changes.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer", "enum": [STATUS]},
        "detail": {"type": "string", "description": "What happened, for people."},
        "retry_after": {
            "type": "integer",
            "minimum": 1,
            "description": "Seconds after which to try again; absent where nobody knows.",
        },
        "circuit": {"type": "string", "description": "The circuit's name, where it is shown."},
    },
}


def _entry(media_type: str, schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {
        "description": "A service that this operation needs is not available",
        "headers": _HEADERS,
        "content": {media_type: {"schema": schema, "example": example}},
    }


CIRCUIT_OPEN: Final[dict[int | str, dict[str, Any]]] = {
    STATUS: _entry(MEDIA_TYPE, _SCHEMA, _EXAMPLE.as_dict())
}
"""For `responses=` of an operation, a router or an application: the 503 as problem+json."""

CIRCUIT_OPEN_PLAIN: Final[dict[int | str, dict[str, Any]]] = {
    STATUS: _entry(
        "application/json",
        {
            "title": "Refusal",
            "type": "object",
            "required": ["detail"],
            "properties": {"detail": {"type": "string"}},
        },
        {"detail": _EXAMPLE.detail},
    )
}
"""The same for `install(app, problem_json=False)`."""
