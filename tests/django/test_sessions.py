"""A database that is refused while Django's own `SessionMiddleware` saves a session."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PROGRAM = """
    import logging, sys

    import django
    from django.conf import settings
    from django.http import HttpResponse
    from django.urls import path

    OURS = "fluxgate_django.middleware.CircuitBreakerMiddleware"

    def write(request):
        request.session["x"] = 1
        return HttpResponse("ok")

    urlpatterns = [path("write", write)]
    settings.configure(
        SECRET_KEY="x" * 50, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], FLUXGATE={},
        INSTALLED_APPS=[
            "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions",
            "fluxgate_django",
        ],
        MIDDLEWARE=[
            OURS,
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        DATABASES={"default": {"ENGINE": "fluxgate_django.db.sqlite3", "NAME": sys.argv[1]}},
    )
    django.setup()
    logging.disable(logging.CRITICAL)

    from django.core.management import call_command
    from django.db import connections
    from django.test import Client
    from fluxgate_django import breakers

    call_command("migrate", verbosity=0)
    call_command("check", "--tag", "fluxgate", "--fail-level", "WARNING", verbosity=0)
    client = Client(raise_request_exception=False)
    assert client.get("/write").status_code == 200
    connections.close_all()
    breakers["db.default"].open_for(30)
    refused = client.get("/write")
    print(refused.status_code, refused.headers["Retry-After"])
"""


def test_a_session_that_is_not_saved(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, program, tmp_path / "db"], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1:] == ["503 30"], done.stderr
