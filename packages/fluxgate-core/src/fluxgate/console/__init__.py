"""The console: a page that says which circuits refuse calls, why, since when, and where.

    from fluxgate.console import Console

    console = Console(fleet, read=signed_in, control=on_call, secret=settings.SECRET)
    app.mount("/circuits", console.asgi)    # or console.wsgi

FastAPI and Django have fronts of their own: `fluxgate_fastapi.console`, `fluxgate_django.console`.
The same as JSON is at `api/v1/state` below the mount.
"""

from fluxgate.console._act import MAX_BODY
from fluxgate.console._console import Console
from fluxgate.console._exchange import Actor, Request, Response
from fluxgate.console._view import Entry

__all__ = ["MAX_BODY", "Actor", "Console", "Entry", "Request", "Response"]
