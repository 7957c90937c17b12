"""Response to a refused request: 503, `Retry-After`, and a page or problem+json."""

from __future__ import annotations

import inspect
import logging
from dataclasses import replace
from typing import Any, Final, cast

from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.utils.cache import patch_vary_headers
from django.utils.html import format_html
from django.utils.log import log_response
from django.utils.module_loading import import_string
from django.utils.translation import get_language, get_language_bidi, gettext, ngettext

from fluxgate import CallNotPermittedError, State
from fluxgate.integration import describe, log_others
from fluxgate.problem import MEDIA_TYPE, Problem, refusal_in
from fluxgate_django import conf
from fluxgate_django.signals import send_rejected

__all__ = [
    "TEMPLATE",
    "headers_of",
    "log_refusal",
    "problem_of",
    "refusal_of",
    "refusal_response",
    "roll_back",
]

TEMPLATE: Final = "503.html"
"""The template by Django's convention (as `404.html`), used where the settings name none."""

_HTML: Final = "text/html"
_BUILT_IN: Final = """<!doctype html>
<html lang="{language}" dir="{direction}">
<head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1><p>{detail}</p></body>
</html>
"""
_OFFERED = (MEDIA_TYPE, "application/json", _HTML)
"""The media types offered; the first is for clients without a preference."""


def refusal_response(request: HttpRequest, error: BaseException) -> HttpResponse:
    """The response to a request whose view met an open circuit: a 503 with `Retry-After`.

    A browser, or htmx, gets a page: the settings' template, else `503.html`, else a plain one. All
    others get problem+json. `circuit_rejected` is sent, unless it has been; no database is asked.

    Args:
        request: the request.
        error: a `CallNotPermittedError`, or an exception group that holds one; other errors in it
            are logged, since the answer doesn't show them.

    Raises:
        TypeError: there is no refusal in `error`.
    """
    problem = problem_of(request, error)
    response = _from_hook(request, error)
    if response is None:
        response = _usual(request, problem)
    log_refusal(request, response)
    return response


def refusal_of(request: HttpRequest) -> CallNotPermittedError:
    """The refusal that a view of `on_open=` answers; `request.refusal`, with its type.

    Raises:
        LookupError: nothing was refused.
    """
    refusal = request.__dict__.get("refusal")
    if not isinstance(refusal, CallNotPermittedError):
        raise LookupError("no circuit refused this request: ask in a view of on_open= alone")
    return refusal


def _usual(request: HttpRequest, problem: Problem) -> HttpResponse:
    """The response unless a hook has another."""
    if _prefers_html(request):
        response = HttpResponse(_page(problem, request), status=problem.status)
    else:
        response = HttpResponse(problem.json(), content_type=MEDIA_TYPE, status=problem.status)
    for name, value in headers_of(problem).items():
        response[name] = value
    patch_vary_headers(response, ["Accept", "HX-Request"])
    if request.method == "HEAD":
        length = len(response.content)
        response.content = b""
        response["Content-Length"] = str(length)
    return response


def _from_hook(request: HttpRequest, error: BaseException) -> HttpResponse | None:
    """The response of the settings' hook; None if there is no hook, or it has none, or it fails."""
    hook = conf.settings().response.hook
    if hook is None:
        return None
    try:
        function: Any = import_string(hook) if isinstance(hook, str) else hook
        answer = function(request, refusal_in(error))
        if answer is None or isinstance(answer, HttpResponse):
            return answer
        if inspect.iscoroutine(answer):
            answer.close()  # nobody will await it
        raise TypeError(f"it returned {type(answer).__name__}, and not an HttpResponse or None")
    except Exception:
        logging.getLogger("fluxgate").exception(
            "the hook %s failed; the usual answer was sent",
            hook if isinstance(hook, str) else describe(hook),
        )
        return None


def problem_of(request: object, error: BaseException) -> Problem:
    """The problem details of a refusal, by the settings; `circuit_rejected` is sent.

    Args:
        request: the request that is answered, for the signal's receivers.
        error: the refusal, or an exception group that holds one.

    Raises:
        TypeError: there is no refusal in `error`.
    """
    response = conf.settings().response
    problem = Problem.of(error, show_name=response.show_name, type=response.type)
    refusal = cast("CallNotPermittedError", refusal_in(error))
    send_rejected(refusal, request)
    log_others(error)
    if response.show_name:
        return problem  # for those who run the service: in English, as reasons are
    return replace(problem, detail=_sentence(problem.retry_after, refusal.state))


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

    Args:
        request: the request.
        response: its answer; Django doesn't log it a second time.
    """
    log_response(
        "%s: %s",
        response.reason_phrase,
        request.path,
        response=response,
        request=request,
        level="warning",
    )


def _sentence(seconds: int | None, state: State) -> str:
    """One sentence for people, in the language of the request."""
    if seconds is not None:
        return ngettext(
            "A service that this request needs is not available: try again in %(seconds)d second.",
            "A service that this request needs is not available: try again in %(seconds)d seconds.",
            seconds,
        ) % {"seconds": seconds}
    if state is State.HALF_OPEN:
        return gettext("A service that this request needs is not available: try again shortly.")
    return gettext("A service that this request needs is not available: try again later.")


def _prefers_html(request: HttpRequest) -> bool:
    if request.headers.get("HX-Request") == "true":  # htmx accepts everything, and shows HTML
        return True
    try:
        return request.get_preferred_type(_OFFERED) == _HTML
    except (LookupError, ValueError):  # Django can't read every header: no such charset, too long
        return False


def _page(problem: Problem, request: HttpRequest) -> str:
    """The page for browsers; the built-in one where there is no template, or it can't be rendered.

    Context processors don't run: they may ask what is not there now.
    """
    title = gettext("Service temporarily unavailable")
    named = conf.settings().response.template
    context = {
        "problem": problem,
        "title": title,
        "retry_after": problem.retry_after,
        "request": request,
    }
    try:
        return get_template(named or TEMPLATE).render(context)
    except Exception as error:
        missing = isinstance(error, TemplateDoesNotExist) and str(error) == TEMPLATE
        if named is not None or not missing:
            logging.getLogger("fluxgate").exception(
                "the template %r could not be rendered; the built-in page was sent instead",
                named or TEMPLATE,
            )
    language = get_language() or "en"
    direction = "rtl" if get_language_bidi() else "ltr"
    return format_html(
        _BUILT_IN, language=language, direction=direction, title=title, detail=problem.detail
    )
