"""Fluxgate for Django: circuits from settings, a middleware, a decorator for views.

    INSTALLED_APPS = [..., "fluxgate_django"]
    MIDDLEWARE = [..., "fluxgate_django.middleware.CircuitBreakerMiddleware"]
    FLUXGATE = {"BREAKERS": {"payments": {"RETRY": "Cooldown(30)"}}}

    breakers["payments"].call(gateway.charge, order)

    @circuit("search", on_open="shop.views.search_is_down")
    def search(request): ...

Nothing here reads the settings before it is used.
"""

from typing import TYPE_CHECKING

# First, since it says where our files were overwritten.
import fluxgate.integration  # noqa: F401  # pyright: ignore[reportUnusedImport]
from fluxgate_django.decorators import circuit
from fluxgate_django.registry import breakers
from fluxgate_django.responses import refusal_of
from fluxgate_django.views import CircuitMixin

__all__ = ["CircuitMixin", "breakers", "circuit", "refusal_of"]

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name):
        """Look `__version__` up when it is asked for, so that importing stays cheap."""
        if name == "__version__":
            from importlib.metadata import version

            return version("fluxgate-django")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
