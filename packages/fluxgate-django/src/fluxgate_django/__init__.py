"""Fluxgate for Django: circuits from settings, a middleware, a decorator for views.

This version is the package's skeleton: it builds, installs and pins its sibling
`fluxgate-core`, and has no public names yet.
"""

from typing import TYPE_CHECKING

__all__: list[str] = []

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name):
        """Look `__version__` up when it is asked for, so that importing stays cheap."""
        if name == "__version__":
            from importlib.metadata import version

            return version("fluxgate-django")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
