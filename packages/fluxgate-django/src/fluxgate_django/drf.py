"""Exception handler for refusals in Django REST framework.

    REST_FRAMEWORK = {"EXCEPTION_HANDLER": "fluxgate_django.drf.exception_handler"}

A handler of your own can call this one first, as it would call REST framework's; or it stands in
`FLUXGATE["RESPONSE"]["EXCEPTION_HANDLER"]`, and is called for everything but refusals.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, TypeAlias, cast

from django.utils.module_loading import import_string

try:
    # It has no types of its own.
    _responses: Any = import_module("rest_framework.response")
    _views: Any = import_module("rest_framework.views")
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "fluxgate_django.drf needs Django REST framework: pip install djangorestframework",
        name=missing.name,
    ) from missing

from fluxgate.config import Mistake, SettingError
from fluxgate.problem import MEDIA_TYPE, refusal_in
from fluxgate_django import conf
from fluxgate_django.responses import headers_of, log_refusal, problem_of, roll_back

__all__ = ["exception_handler"]

_Handler: TypeAlias = Callable[[Exception, dict[str, Any]], Any]

_PATH: Final = "FLUXGATE: RESPONSE.EXCEPTION_HANDLER"


def exception_handler(exc: Exception, context: dict[str, Any]) -> Any:
    """A 503 for a refusal, in what the view renders; other exceptions go to the next handler.

    JSON is sent as problem+json. Transactions of `ATOMIC_REQUESTS` are rolled back, as for other
    exceptions that become responses.

    Args:
        exc: what the view raised.
        context: REST framework's; its `request` and `view` are looked at.

    Raises:
        ConfigError: the settings, or the handler that they name, can't be used.
    """
    if refusal_in(exc) is None:
        return _next_handler()(exc, context)
    request = context.get("request")
    problem = problem_of(request, exc)
    roll_back()
    renderer = getattr(request, "accepted_renderer", None)
    is_json = getattr(renderer, "media_type", None) == "application/json"
    response = _responses.Response(
        problem.as_dict(),
        status=problem.status,
        headers=headers_of(problem),
        content_type=MEDIA_TYPE if is_json else None,
    )
    if request is not None:
        log_refusal(request, response)
    return response


def _next_handler() -> _Handler:
    """The handler of all other exceptions."""
    handler = conf.settings().response.exception_handler
    if handler is None:
        return cast("_Handler", _views.exception_handler)
    if isinstance(handler, str):
        try:
            handler = import_string(handler)
        except ImportError as error:
            raise SettingError(str(error), _PATH, Mistake.IMPORT) from error
    if handler is exception_handler:
        raise SettingError(
            "this handler itself: name the one for the other exceptions, or none", _PATH
        )
    return cast("_Handler", handler)
