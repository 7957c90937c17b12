"""Checks of what surrounds the circuits: middleware, REST framework, the console's users."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, register
from django.core.checks import Warning as Caution
from django.urls import get_resolver
from django.utils.module_loading import import_string

from fluxgate_django.checks._settings import TAG

MIDDLEWARE: Final = "fluxgate_django.middleware.CircuitBreakerMiddleware"
AUTHENTICATION: Final = "django.contrib.auth.middleware.AuthenticationMiddleware"
EXCEPTION_HANDLER: Final = "fluxgate_django.drf.exception_handler"
_ASKING: Final = frozenset(
    {
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
        "django.contrib.auth.middleware.RemoteUserMiddleware",
        "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware",
        "django.contrib.redirects.middleware.RedirectFallbackMiddleware",
        "django.contrib.sites.middleware.CurrentSiteMiddleware",
        "django.middleware.cache.FetchFromCacheMiddleware",
        "django.middleware.cache.UpdateCacheMiddleware",
    }
)
"""Middleware of Django's that ask a database or a cache."""
_ASKING_BY_SESSION: Final = frozenset(
    {
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
    }
)
"""Those that ask where sessions are kept, unless that is the cookie."""


@register(TAG)
def check_middleware(**_: Any) -> list[CheckMessage]:
    """Whether refusals of views and of other middleware reach ours, and reach it first."""
    listed = [(path, _imported(path)) for path in settings.MIDDLEWARE]
    places = [place for place, (path, made) in enumerate(listed) if _is_ours(path, made)]
    if not places:
        return [
            Caution(
                "CircuitBreakerMiddleware is missing: a refusal that leaves a view becomes a 500.",
                hint=f"Add {MIDDLEWARE!r} to MIDDLEWARE, above SessionMiddleware.",
                obj="MIDDLEWARE",
                id="fluxgate.W001",
            )
        ]
    found: list[CheckMessage] = []
    asking = [path for path, made in listed[: places[0]] if _asks(made)]
    if asking:
        found.append(
            Caution(
                f"{', '.join(asking)} stands above CircuitBreakerMiddleware and may ask a database "
                "or a cache: what their circuits refuse there becomes a 500.",
                hint=f"Put {MIDDLEWARE!r} above it.",
                obj="MIDDLEWARE",
                id="fluxgate.W006",
            )
        )
    between = [made for _, made in listed[places[0] + 1 : places[-1]]]
    if len(places) > 2 or (len(places) == 2 and not any(map(_handles, between))):
        found.append(
            Caution(
                f"CircuitBreakerMiddleware is listed {len(places)} times.",
                hint="The first one answers what the others do: drop those.",
                obj="MIDDLEWARE",
                id="fluxgate.W002",
            )
        )
    # Django asks process_exception from the last middleware to the first.
    nearer = [path for path, made in listed[places[-1] + 1 :] if _handles(made)]
    if nearer:
        found.append(
            Caution(
                f"{', '.join(nearer)} stands behind CircuitBreakerMiddleware and handles the "
                "exceptions of views, so it sees refusals first, and may report or answer them as "
                "errors.",
                hint=f"List {MIDDLEWARE!r} once more, after it, or put it before ours.",
                obj="MIDDLEWARE",
                id="fluxgate.W003",
            )
        )
    return found


def _imported(path: str) -> Any:
    """The middleware; None if it can't be imported, which Django says when it starts."""
    try:
        return import_string(path)
    except Exception:  # a module may raise anything
        return None


def _handles(made: Any) -> bool:
    """Whether it is asked about the exceptions of views."""
    return hasattr(made, "process_exception")


def _asks(made: Any) -> bool:
    """Whether it is one of Django's middleware that ask a database or a cache, as it is set up."""
    if not isinstance(made, type):
        return False
    names = {f"{each.__module__}.{each.__qualname__}" for each in made.__mro__}
    if names & _ASKING:
        return True
    if "signed_cookies" in str(settings.SESSION_ENGINE):
        return False
    if "django.middleware.csrf.CsrfViewMiddleware" in names:
        return bool(settings.CSRF_USE_SESSIONS)
    return bool(names & _ASKING_BY_SESSION)


def _is_ours(path: str, made: Any) -> bool:
    if path == MIDDLEWARE:
        return True
    from fluxgate_django.middleware import CircuitBreakerMiddleware

    return isinstance(made, type) and issubclass(made, CircuitBreakerMiddleware)


@register(TAG)
def check_rest_framework(**_: Any) -> list[CheckMessage]:
    """Whether Django REST framework answers refusals in its own formats."""
    if not apps.is_installed("rest_framework"):
        return []
    try:
        used = import_string("rest_framework.settings.api_settings").EXCEPTION_HANDLER
    except Exception as error:  # else the first exception in a view would report it
        return [
            Error(
                f"EXCEPTION_HANDLER can't be imported: {error}",
                hint=f"Ours is {EXCEPTION_HANDLER!r}.",
                obj="REST_FRAMEWORK",
                id="fluxgate.E003",
            )
        ]
    if used is not import_string("rest_framework.views.exception_handler"):
        return []  # ours, or one of the project's own
    return [
        Info(
            "Django REST framework is installed, and its own exception handler does not know "
            "refusals: CircuitBreakerMiddleware answers them, which knows nothing of renderers.",
            hint=f'Set REST_FRAMEWORK["EXCEPTION_HANDLER"] = {EXCEPTION_HANDLER!r}.',
            obj="REST_FRAMEWORK",
            id="fluxgate.I001",
        )
    ]


@register(TAG)
def check_console(**_: Any) -> list[CheckMessage]:
    """Whether there are users whom the console could let in, where it is in the URLconf."""
    mounted = False
    if getattr(settings, "ROOT_URLCONF", None):
        with suppress(Exception):  # Django's own checks tell
            mounted = "fluxgate_console" in get_resolver().app_dict
    if not mounted or any(_is(path, AUTHENTICATION) for path in settings.MIDDLEWARE):
        return []
    return [
        Caution(
            "The console is in the URLconf, and nothing in MIDDLEWARE is Django's "
            "AuthenticationMiddleware: unless another sets request.user, nobody can be let in.",
            hint=f"Add 'django.contrib.auth' to INSTALLED_APPS and {AUTHENTICATION!r} to "
            "MIDDLEWARE, after SessionMiddleware.",
            obj="MIDDLEWARE",
            id="fluxgate.W007",
        )
    ]


def _is(path: str, name: str) -> bool:
    """Whether a middleware is the class of that name, or derives from it."""
    made = _imported(path)
    line = made.__mro__ if isinstance(made, type) else ()
    return any(f"{each.__module__}.{each.__qualname__}" == name for each in line)
