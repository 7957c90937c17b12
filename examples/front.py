"""An application in front of the upstream, served by uvicorn: a process of the demo's own.

`fastapi_app.py`, or the Django project in `django_shop`. Only its circuits' settings and its
time-out are the demo's, the same as those of its clients.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clients import patience, settings
from serving import serve

HTTP_ERRORS = 'TypeOf("httpx.HTTPError")'


def fastapi(upstream: str, pace: float) -> Any:
    from fastapi_app import create_app

    config = {"defaults": {**settings(pace), "tracker": HTTP_ERRORS}}
    return create_app(upstream, config, timeout=patience(pace))


def django(upstream: str, pace: float) -> Any:
    os.environ.update(UPSTREAM_URL=upstream, UPSTREAM_TIMEOUT=str(patience(pace)))
    sys.path.insert(0, str(Path(__file__).with_name("django_shop")))
    from shop import settings as of_shop  # a plain module, until Django reads it

    # No listener: what it logs would be written across the demo's screen.
    own = {"TRACKER": HTTP_ERRORS, "LISTENERS": []}
    defaults = {key.upper(): value for key, value in settings(pace).items()} | own
    of_shop.FLUXGATE = {"DEFAULTS": defaults}

    from shop.asgi import application

    return application


FRAMEWORKS: dict[str, Callable[[str, float], Any]] = {"FastAPI": fastapi, "Django": django}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("framework", choices=FRAMEWORKS)
    parser.add_argument("upstream", metavar="URL")
    parser.add_argument("--pace", type=float, default=1.0, help="stretches the circuits' times")
    options = parser.parse_args()
    app = FRAMEWORKS[options.framework](options.upstream, options.pace)
    serve(app, log_level="error", access_log=False)
