"""The model that the console's permissions belong to; there is no table behind it.

An unmanaged model without a migration: `manage.py migrate` makes its content type and permissions,
as of any application, and nothing else. It needs neither Django's users nor a database, so a
project without them can use circuits all the same.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class _Nobody(models.Manager["Circuit"]):
    """A manager without rows: `dumpdata` reads every model, unmanaged ones included."""

    def get_queryset(self) -> models.QuerySet[Circuit]:
        return super().get_queryset().none()


class Circuit(models.Model):
    """A circuit, as the admin's log and the permissions of the console name it."""

    objects: ClassVar[models.Manager[Circuit]] = _Nobody()

    class Meta:  # noqa: D106
        managed = False
        base_manager_name = "objects"
        default_permissions = ()
        permissions = (
            ("view_circuits", "Can see the circuits' console"),
            ("control_circuits", "Can open, close and disable circuits"),
        )

    def __str__(self) -> str:
        return "circuit"
