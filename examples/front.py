"""An application in front of the upstream, served by uvicorn: a process of the demo's own.

`fastapi_app.py`, or the Django project in `django_shop`. Only its circuits' settings, its time-out,
and the user of its console are the demo's.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clients import patience, settings
from serving import serve

USER, PASSWORD = "demo", "DEMO_PASSWORD"
"""The user of the consoles, and the environment variable that has the password."""
HTTP_ERRORS = 'TypeOf("httpx.HTTPError")'


def fastapi(upstream: str, pace: float) -> Any:
    os.environ.update(CONSOLE_ACCOUNTS=f"{USER}:{os.environ[PASSWORD]}", CONSOLE_ON_CALL=USER)
    from fastapi_app import create_app

    config = {"defaults": {**settings(pace), "tracker": HTTP_ERRORS}}
    return create_app(upstream, config, timeout=patience(pace), single_process=True)


def django(upstream: str, pace: float) -> Any:
    # Its database goes with the folder that the demo has made for it.
    os.environ.update(UPSTREAM_URL=upstream, UPSTREAM_TIMEOUT=str(patience(pace)))
    sys.path.insert(0, str(Path(__file__).with_name("django_shop")))
    from shop import settings as of_shop  # a plain module, until Django reads it

    # No listener: what it logs would be written across the demo's screen.
    own = {"TRACKER": HTTP_ERRORS, "LISTENERS": []}
    defaults = {key.upper(): value for key, value in settings(pace).items()} | own
    console = {**of_shop.FLUXGATE["CONSOLE"], "SINGLE_PROCESS": True}
    of_shop.FLUXGATE = {"DEFAULTS": defaults, "CONSOLE": console}

    from shop.asgi import application

    make_user()
    return application


def make_user() -> None:
    """Make the database, and whoever may use the console; Django is set up by now."""
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    User.objects.create_superuser(USER, password=os.environ[PASSWORD])


FRAMEWORKS: dict[str, Callable[[str, float], Any]] = {"FastAPI": fastapi, "Django": django}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("upstream", metavar="URL")
    parser.add_argument("--pace", type=float, default=1.0, help="stretches the circuits' times")
    options = parser.parse_args()
    app = FRAMEWORKS[options.framework](options.upstream, options.pace)
    serve(app, log_level="error", access_log=False)
