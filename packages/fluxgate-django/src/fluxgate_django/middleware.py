"""Middleware that answers refusals with a 503."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from fluxgate.problem import refusal_in
from fluxgate_django._async import is_async, mark_async
from fluxgate_django.responses import refusal_response

__all__ = ["CircuitBreakerMiddleware"]


class CircuitBreakerMiddleware:
    """Answers refusals that leave a view, a template or another middleware with a 503.

        MIDDLEWARE = [
            "django.middleware.security.SecurityMiddleware",
            "corsheaders.middleware.CorsMiddleware",  # whose headers the answer needs
            "fluxgate_django.middleware.CircuitBreakerMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            ...
        ]

    It stands above whatever asks a database, a cache or another service, and below what adds
    headers to each response. The answer has a `Retry-After`, and is a page for browsers, else
    problem+json. A refusal that leaves a view or a template is no error then: error trackers don't
    hear of it. What the middleware below raises, as `SessionMiddleware` does when it can't save a
    session, Django has logged as an error by then; it is answered all the same. What the middleware
    above raises is not.

    Sync and async; requests take no thread and touch no database. (Django itself handles the
    exceptions of async views in a thread.)
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]],
    ) -> None:
        self.get_response: Callable[[HttpRequest], Any] = get_response
        self._asynchronous = is_async(get_response)
        if self._asynchronous:
            mark_async(self)

    def __call__(self, request: HttpRequest) -> Any:
        """The response, or, in an async stack, what gives it."""
        if self._asynchronous:
            return self._acall(request)
        response = self.get_response(request)
        if response.status_code >= 500 and _REFUSED in request.__dict__:
            return _answered(request)
        return response

    async def _acall(self, request: HttpRequest) -> Any:
        response = await self.get_response(request)
        if response.status_code >= 500 and _REFUSED in request.__dict__:
            return await sync_to_async(_answered)(request)  # as Django with exceptions
        return response

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Answer a refusal that left the view; leave everything else to others.

        A `try` around `get_response` would see neither: Django makes responses of exceptions below
        it.
        """
        if refusal_in(exception) is None:
            return None
        return refusal_response(request, exception)


_REFUSED: Final = "_fluxgate_refused"
"""Of a request: the refusal, or the group that holds one, of which Django makes a 500."""


def _answered(request: HttpRequest) -> HttpResponseBase:
    """The answer to a refusal that Django has made a 500 of.

    That is just dropped: to close a response is to say that the request is finished.
    """
    return refusal_response(request, request.__dict__.pop(_REFUSED))


def _note(request: HttpRequest | None = None, **_: object) -> None:
    """Note a refusal that nobody answered, when Django is about to make a 500 of it."""
    error = sys.exc_info()[1]
    if request is not None and error is not None and refusal_in(error) is not None:
        request.__dict__[_REFUSED] = error


got_request_exception.connect(_note, dispatch_uid="fluxgate_django.middleware")
