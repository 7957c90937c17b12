"""Settles a view's attempt from its response or exception.

The failing statuses are an argument; their default is `fluxgate.integration.FAILING_STATUSES`.
"""

from __future__ import annotations

import sys
from typing import Any, Final, cast

from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestAborted,
    SuspiciousOperation,
)
from django.http import Http404, HttpRequest, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse

from fluxgate import Attempt

_OF_THE_CLIENT: Final = (
    BadRequest,
    MultiPartParserError,
    RequestAborted,
    SuspiciousOperation,
    UnreadablePostError,
)
_REST_FRAMEWORK: Final = "rest_framework.exceptions"
_NINJA: Final = "ninja.errors"
_NINJA_RESPONSES: Final = "ninja.responses"


def settle_raised(attempt: Attempt, error: BaseException, statuses: frozenset[int]) -> None:
    """Settle the attempt of a view that ended with `error`.

    An exception that stands for a response (404, 403, and those of REST framework and Ninja) is
    an answer, and counts by its status. Errors and disconnects of
    the client are ignored. The tracker decides about the rest.
    """
    if isinstance(error, (*_OF_THE_CLIENT, *_invalid())):
        attempt.ignore()
        return
    status = _status_of(error)
    if status is None:
        attempt.raised(error)
    elif status in statuses:
        attempt.fail(error)
    else:
        attempt.succeed()


def settle_returned(
    attempt: Attempt, result: object, args: tuple[Any, ...], statuses: frozenset[int]
) -> None:
    """Settle the attempt of a view, or of another function, that returned `result`.

    A response that is yet to be rendered settles it then: what a template asks for lazily, such as
    a query set of a `ListView`, is asked for there.
    """
    status = None
    # Not isinstance, which would evaluate what is lazy.
    if issubclass(type(result), HttpResponseBase):
        status = cast("HttpResponseBase", result).status_code
    elif args and issubclass(type(args[0]), HttpRequest):
        status = _ninja_status(result)
    if status in statuses:
        attempt.fail(f"HTTP {status}")
    elif issubclass(type(result), SimpleTemplateResponse) and not cast(Any, result).is_rendered:
        _settle_when_rendered(attempt, result, args, statuses)
    else:
        attempt.returned(result)


def _settle_when_rendered(
    attempt: Attempt, response: Any, args: tuple[Any, ...], statuses: frozenset[int]
) -> None:
    """Settle with the rendering; what is never rendered is ignored when it is collected."""
    own: dict[str, Any] = response.__dict__
    within = own.get("render")  # a guard further in has done the same

    def render() -> Any:
        del own["render"]  # once; and caches pickle what has been rendered
        if within is not None:
            own["render"] = within
        try:
            return response.render()
        except BaseException as error:
            settle_raised(attempt, error, statuses)
            raise

    def settle(rendered: object) -> None:
        settle_returned(attempt, rendered, args, statuses)

    own["render"] = render
    response.add_post_render_callback(settle)


def _status_of(error: BaseException) -> int | None:
    """The status of the response that an exception stands for."""
    if isinstance(error, Http404):
        return 404
    if isinstance(error, PermissionDenied):
        return 403
    if isinstance(error, (*known(_REST_FRAMEWORK, "APIException"), *known(_NINJA, "HttpError"))):
        status: Any = getattr(error, "status_code", None)
        return status if isinstance(status, int) else None
    return None


def _ninja_status(result: object) -> int | None:
    """The status of what a Ninja operation returned: `Status(503, ...)`, or `503, ...`."""
    if isinstance(result, known(_NINJA_RESPONSES, "Status")):
        return getattr(result, "status_code", None)
    if isinstance(result, tuple) and len(pair := cast("tuple[object, ...]", result)) == 2:
        return pair[0] if isinstance(pair[0], int) else None
    return None


def _invalid() -> tuple[type, ...]:
    """Exceptions that say that the data of a request is not valid."""
    return (
        *known(_REST_FRAMEWORK, "ParseError"),
        *known(_REST_FRAMEWORK, "ValidationError"),
        *known(_NINJA, "ValidationError"),
    )


def known(module: str, name: str) -> tuple[type, ...]:
    """A class of an optional package, as a tuple; empty while nobody has imported it."""
    found = getattr(sys.modules.get(module), name, None)
    return (found,) if isinstance(found, type) else ()
