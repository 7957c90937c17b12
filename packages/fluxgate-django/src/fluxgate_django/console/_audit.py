"""Attempts to use the console's controls: Django's signal, and the admin's log."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any, Final

from django.apps import apps
from django.db import router, transaction
from django.http import HttpRequest

from fluxgate.console import Console, Entry
from fluxgate_django.models import Circuit
from fluxgate_django.signals import circuit_controlled

__all__ = ["audited", "serving"]

serving: Final[ContextVar[HttpRequest | None]] = ContextVar("fluxgate_console", default=None)
"""The request that is being answered here."""


def audited(entry: Entry) -> None:
    """Send the signal; write the admin's log of what staff did, or tried to do.

    A database that is down is a reason to use the console, so what fails here is logged and stops
    nobody.
    """
    request = serving.get()
    circuit_controlled.send_robust(Console, entry=entry, request=request)
    user: Any = getattr(request, "user", None)
    if apps.is_installed("django.contrib.admin") and getattr(user, "is_staff", False):
        try:
            _log(entry, user.pk)
        except Exception:  # of the database, whichever that is
            logging.getLogger("fluxgate").exception("the admin's log could not be written")


def _log(entry: Entry, user: object) -> None:
    from django.contrib.admin.models import CHANGE, LogEntry
    from django.contrib.contenttypes.models import ContentType

    # A savepoint: with ATOMIC_REQUESTS an error would break the view's own transaction.
    with transaction.atomic(using=router.db_for_write(LogEntry)):
        LogEntry.objects.create(
            user_id=user,
            content_type=ContentType.objects.get_for_model(Circuit),
            object_id=entry.id,
            object_repr=entry.circuit[:200],
            action_flag=CHANGE,
            change_message=_sentence(entry),
        )


def _sentence(entry: Entry) -> str:
    """Such as `disable for 900 s: a drill (closed -> disabled)`, `reset: denied, too soon`."""
    words = entry.action
    if entry.seconds is not None:
        words += f" for {entry.seconds:g} s"
    if entry.note:
        words += f": {entry.note}"
    if entry.why is not None:
        return f"{words} ({entry.outcome}: {entry.why})"
    return f"{words} ({entry.before} -> {entry.after})"
