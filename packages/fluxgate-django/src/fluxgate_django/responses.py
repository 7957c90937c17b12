"""What a refused request is answered with: 503, `Retry-After`, and a page or problem+json."""

from __future__ import annotations

import logging
from typing import cast

from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.template.loader import get_template
from django.utils.cache import patch_vary_headers
from django.utils.log import log_response

from fluxgate import CallNotPermittedError
from fluxgate.integration import log_others
from fluxgate.problem import MEDIA_TYPE, Problem, refusal_in
from fluxgate_django import conf
from fluxgate_django.signals import tell_rejected

__all__ = ["headers_of", "log_refusal", "problem_of", "refusal_response", "roll_back"]

_HTML = "text/html"
_OFFERED = (MEDIA_TYPE, "application/json", _HTML)
"""What there is, the first for those to whom it is all the same."""


def refusal_response(request: HttpRequest, error: BaseException) -> HttpResponse:
    """The answer to a request whose view met an open circuit.

    It tells `circuit_rejected`, if nobody did, and asks no database.

    Args:
        request: the request.
        error: a `CallNotPermittedError`, or an exception group that holds one; other errors in it
            are logged, since the answer doesn't show them.

    Raises:
        TypeError: there is no refusal in `error`.
    """
    problem = problem_of(request, error)
    template = conf.settings().response.template
    response = None
    if template is not None and _prefers_html(request):
        response = _page(template, problem, request)
    if response is None:
        response = HttpResponse(problem.json(), content_type=MEDIA_TYPE, status=problem.status)
    for name, value in headers_of(problem).items():
        response[name] = value
    if template is not None:
        patch_vary_headers(response, ["Accept"])
    if request.method == "HEAD":
        length = len(response.content)
        response.content = b""
        response["Content-Length"] = str(length)
    log_refusal(request, response)
    return response


def problem_of(request: object, error: BaseException) -> Problem:
    """What to tell about a refusal, as the settings have it; `circuit_rejected` is told.

    Raises:
        TypeError: there is no refusal in `error`.
    """
    response = conf.settings().response
    problem = Problem.of(error, show_name=response.show_name, type=response.type)
    refusal = cast("CallNotPermittedError", refusal_in(error))
    tell_rejected(refusal, request)
    log_others(error)
    return problem


def headers_of(problem: Problem) -> dict[str, str]:
    """The headers of the answer, whatever its body."""
    return {**problem.headers, "Cache-Control": "no-store"}


def roll_back() -> None:
    """Undo what the request wrote, where `ATOMIC_REQUESTS` is on.

    Django does it for exceptions; where one becomes a response before Django sees it, this does.
    """
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["ATOMIC_REQUESTS"] and connection.in_atomic_block:
            connection.set_rollback(True)


def log_refusal(request: HttpRequest, response: HttpResponse) -> None:
    """Log the answer as a warning, in place of the error that Django makes of each 503.

    An open circuit refuses many: one mail to the administrators for each would bury them.
    """
    log_response(
        "%s: %s",
        response.reason_phrase,
        request.path,
        response=response,
        request=request,
        level="warning",
    )


def _prefers_html(request: HttpRequest) -> bool:
    try:
        return request.get_preferred_type(_OFFERED) == _HTML
    except (LookupError, ValueError):  # Django can't read every header: no such charset, too long
        return False


def _page(template: str, problem: Problem, request: HttpRequest) -> HttpResponse | None:
    """The settings' template; None if it can't be rendered.

    Context processors don't run: they may ask what is not there now.
    """
    context = {"problem": problem, "retry_after": problem.retry_after, "request": request}
    try:
        page = get_template(template).render(context)
        return HttpResponse(page, status=problem.status)
    except Exception:
        logging.getLogger("fluxgate").exception(
            "the template %r could not be rendered; problem+json was sent instead", template
        )
        return None
