"""The application, for `INSTALLED_APPS`."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig

__all__ = ["FluxgateConfig"]


class FluxgateConfig(AppConfig):
    """Registers the system checks. Circuits are made when they are first asked for."""

    name = "fluxgate_django"
    verbose_name = "Fluxgate"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Django has loaded all applications."""
        import_module("fluxgate_django.checks")  # which registers them
