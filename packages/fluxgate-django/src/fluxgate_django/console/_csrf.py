"""Django's protection against forged requests, asked by the console's view itself.

The view is exempt from `CsrfViewMiddleware` and does the same check: so a forged request is audited
before it is refused, and a project without that middleware is protected, too.
"""

from __future__ import annotations

import logging
from typing import cast

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware, get_token

__all__ = ["Csrf"]


class _Check(CsrfViewMiddleware):
    """The middleware, but that it returns why it refuses in place of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> str:
        return reason


def _not_exempt(_: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Csrf:
    """The protection of one request."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._check = _Check(_not_exempt)
        self._check.process_request(request)

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The hidden fields that a form must send."""
        return (("csrfmiddlewaretoken", get_token(self._request)),)

    def passes(self) -> bool:
        """Whether a page of this site has made the request; logged where it hasn't."""
        found = self._check.process_view(self._request, _not_exempt, (), {})
        reason = cast("str | None", found)
        if reason is not None:
            logging.getLogger("django.security.csrf").warning(
                "Forbidden (%s): %s",
                reason,
                self._request.path,
                extra={"status_code": 403, "request": self._request},
            )
        return reason is None

    def finish(self, response: HttpResponse) -> HttpResponse:
        """The response, with the cookie that belongs to the token, if the page has one."""
        self._check.process_response(self._request, response)
        return response
