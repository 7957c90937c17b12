"""Exception handlers for refusals in Django Ninja.

    api = NinjaAPI()
    install(api)

Without it, refusals that leave an operation go to Ninja's own handling of errors first, which in
DEBUG answers with a traceback.
"""

from __future__ import annotations

from typing import Any, TypeVar

from django.http import HttpRequest, HttpResponse

try:
    from ninja import NinjaAPI
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "fluxgate_django.ninja needs Django Ninja: pip install django-ninja", name=missing.name
    ) from missing

from fluxgate import CallNotPermittedError
from fluxgate.problem import refusal_in
from fluxgate_django.responses import refusal_response, roll_back

__all__ = ["install"]

API = TypeVar("API", bound=NinjaAPI)


def install(api: API) -> API:
    """Answer refusals that leave the API's operations as the middleware does.

    Transactions of `ATOMIC_REQUESTS` are rolled back, as for an exception that Django sees.
    Calling it again changes nothing.

    Args:
        api: a `NinjaAPI`; it is returned.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(api, NinjaAPI):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"install() takes a NinjaAPI, not {api!r}")

    def of_refusal(request: HttpRequest, error: Any) -> HttpResponse:
        roll_back()
        return refusal_response(request, error)

    def of_group(request: HttpRequest, error: Any) -> HttpResponse:
        if refusal_in(error) is not None:
            return of_refusal(request, error)
        handler = api._lookup_exception_handler(Exception())
        if handler is None:
            raise error
        return handler(request, error)

    api.add_exception_handler(CallNotPermittedError, of_refusal)
    api.add_exception_handler(ExceptionGroup, of_group)
    return api
