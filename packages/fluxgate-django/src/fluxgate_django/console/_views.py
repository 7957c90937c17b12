"""The console's view: Django's request in, the console's response out.

It is a sync view: it asks the database who is there, and may wait for the fleet's store. Under ASGI
Django runs it in a thread.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, RequestDataTooBig
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.http.request import RawPostDataException
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, reverse

from fluxgate import ConfigError
from fluxgate.console import MAX_BODY, Actor, Console, Request
from fluxgate_django import conf
from fluxgate_django.console._audit import audited, serving
from fluxgate_django.console._csrf import Csrf

__all__ = ["CONTROL", "VIEW", "begin", "console"]

VIEW: Final = "fluxgate_django.view_circuits"
CONTROL: Final = "fluxgate_django.control_circuits"
_SAFE: Final = ("GET", "HEAD")
_PROOFS: Final = frozenset({"origin", "sec-fetch-site"})
_NO_PAGES: Final = ("api/", "static/")

_made: tuple[conf.Conf, Console] | None = None
_making = threading.Lock()


def _restart() -> None:
    """Begin anew in a forked child, where the lock's holder may not exist."""
    global _making
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart)


def console(request: HttpRequest, path: str = "", **_: object) -> HttpResponse:
    """Everything below the console's mount.

    Args:
        request: the request.
        path: what follows the mount in its path.

    Raises:
        ImproperlyConfigured: the project has no users, or the mount doesn't end in a slash.
        ConfigError: `FLUXGATE` can't be used.
    """
    made = _console()
    root = request.path[: len(request.path) - len(path)]
    if not root.endswith("/"):
        raise ImproperlyConfigured(
            f"the console's mount {root!r} must end in a slash: "
            'path("circuits/", include("fluxgate_django.console"))'
        )
    actor = _actor(request)
    anonymous = not request.user.is_authenticated
    if anonymous and request.method in _SAFE and not path.startswith(_NO_PAGES):
        return _login(request)
    csrf = Csrf(request)
    trusted = request.method in _SAFE or csrf.passes()
    headers = {name.lower(): value for name, value in request.headers.items()}
    if not trusted:  # Django's check decides alone: the console's own would be a way around it
        headers = {name: headers[name] for name in headers.keys() - _PROOFS}
    given = Request(
        method=request.method or "GET",
        path=path,
        root=root,
        query=request.GET.dict(),
        headers=headers,
        body=_body(request),
        peer=request.META.get("REMOTE_ADDR") or None,
        secure=request.is_secure(),
        trusted=trusted,
        fields=() if path.startswith(_NO_PAGES) else csrf.fields,
    )
    before = serving.set(request)
    try:
        answer = made.respond(given, actor)
    finally:
        serving.reset(before)
    response = HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))
    return csrf.finish(response)


# The same check, made by the view: see _csrf.
vars(console)["csrf_exempt"] = True
# LoginRequiredMiddleware would redirect who isn't let in before that is audited.
vars(console)["login_required"] = False


def begin() -> None:
    """Make the console, so that its history begins; wrong settings are for whoever comes first."""
    with suppress(ConfigError):
        _console()


def _console() -> Console:
    """The console of the settings as they are now."""
    global _made
    now = conf.settings()
    made = _made
    if made is not None and made[0] is now:
        return made[1]
    with _making:
        if _made is None or _made[0] is not now:
            if _made is not None:
                _made[1].close()
            _made = now, _of(now)
        return _made[1]


def _of(given: conf.Conf) -> Console:
    own = given.console
    service = own.service or str(getattr(settings, "ROOT_URLCONF", "")).partition(".")[0]
    return Console(
        given.registry.fleet,
        read=_nobody,
        control=_nobody,
        service=service,
        critical=own.critical,
        single_process=own.single_process,
        error_messages=own.error_messages,
        secret=f"fluxgate_django.console:{settings.SECRET_KEY}",
        audited=audited,
    )


def _nobody(_: Request) -> None:
    """Nobody, by the request alone: Django knows who it is."""


def _actor(request: HttpRequest) -> Actor | None:
    """Active staff with the permission to see the console; None is anybody else."""
    user: Any = getattr(request, "user", None)
    if user is None:
        raise ImproperlyConfigured(
            "the console asks who is there: it needs django.contrib.auth in INSTALLED_APPS, and "
            "AuthenticationMiddleware in MIDDLEWARE"
        )
    if user.is_active and user.is_staff and user.has_perm(VIEW):
        return Actor(user.get_username(), control=user.has_perm(CONTROL))
    return None


def _login(request: HttpRequest) -> HttpResponse:
    """To the login, and from there back to this page."""
    from django.contrib.auth.views import redirect_to_login

    url = conf.settings().console.login_url
    if url is None:
        try:
            url = reverse("admin:login")
        except NoReverseMatch:  # there is no admin
            url = settings.LOGIN_URL
    response = redirect_to_login(request.get_full_path(), resolve_url(url))
    response["Cache-Control"] = "no-store"
    return response


def _body(request: HttpRequest) -> bytes:
    """The body; of one that is too long nothing but that it is."""
    with suppress(ValueError):
        if int(request.headers.get("content-length", "0")) > MAX_BODY:
            return bytes(MAX_BODY + 1)
    try:
        return request.body
    except (RequestDataTooBig, UnreadablePostError, RawPostDataException):
        return b""  # as of a form that says nothing: refused, and audited
