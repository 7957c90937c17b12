"""The console in a Django project: `path("circuits/", include("fluxgate_django.console"))`.

It lets in active staff with the permission `fluxgate_django.view_circuits`, and lets those with
`fluxgate_django.control_circuits` act. `_views` is the view, `_csrf` Django's protection of its
forms, `_audit` the signal and the admin's log.
"""

from typing import TYPE_CHECKING, Any

from django.urls import URLPattern, re_path

from fluxgate_django.console._views import begin, console

__all__ = ["console"]

app_name = "fluxgate_console"

if TYPE_CHECKING:
    urlpatterns: list[URLPattern]


def __getattr__(name: str) -> Any:
    """`urlpatterns`, which `include` asks for: the history begins with that, and not at import.

    Django reads the URLconf when a process serves its first request. What somebody will want to see
    at three in the morning must not begin with the first look at the console.
    """
    if name != "urlpatterns":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    begin()
    # A path may hold an encoded line break, too; it is answered like any other that isn't there.
    return [re_path(r"^(?P<path>[\s\S]*)\Z", console, name="console")]
