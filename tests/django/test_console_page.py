"""The page about the console: its blocks run, those under "Django" as a project of their own."""

from __future__ import annotations

import json
import re
from ast import literal_eval
from pathlib import Path

import pytest

from fluxgate.cli import main
from fluxgate_django import conf

from ..pages import ROOT, blocks, execute, write_project
from .test_django_docs import RUNNER, run

PAGE = ROOT / "docs" / "console.md"
TEXT = PAGE.read_text(encoding="utf-8")
BEGINS, ENDS = TEXT.index("\n## Django\n"), TEXT.index("\n## A fleet, without an application\n")
DJANGO = TEXT[BEGINS:ENDS]
SETTINGS = """# settings.py
SECRET_KEY = "for this page alone"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
MIDDLEWARE = [
    "fluxgate_django.middleware.CircuitBreakerMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
STATIC_URL = "static/"
"""


def test_the_project_runs(tmp_path: Path) -> None:
    """Its own settings, beside those that any project has; and its blocks."""
    text = DJANGO.replace("sqlite:///run/shop/fluxgate.db", f"sqlite://{tmp_path}/fluxgate.db")
    write_project(f"```python\n{SETTINGS}```\n{text}", tmp_path)
    sources = [(each.source, each.prints) for each in blocks(text, "python") if each.file is None]
    assert sources
    done = run(tmp_path, "-c", RUNNER, "console.md", input=json.dumps(sources))
    assert done.returncode == 0, done.stderr
    options = ("--settings", "settings", "--pythonpath", ".", "--fail-level", "INFO")
    done = run(tmp_path, "-m", "django", "check", *options)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("no_other_circuits")
def test_the_other_blocks_run() -> None:
    names = execute(blocks(TEXT[:BEGINS] + TEXT[ENDS:], "python"), "console.md")
    names["site"].close()


def test_every_key_is_there_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", DJANGO, re.MULTILINE)
    assert tuple(key for key, _ in rows) == conf.CONSOLE_KEYS
    defaults = conf.ConsoleSettings()
    for key, shown in rows:
        default = getattr(defaults, key.lower())
        assert literal_eval(shown) == (list(default) if isinstance(default, tuple) else default)


def test_the_options_are_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["console", "--help"])
    offered = set(re.findall(r"^  (--[a-z]+)", capsys.readouterr().out, re.MULTILINE))
    section = TEXT[ENDS : TEXT.index("\n## Any other server\n")]
    assert set(re.findall(r"^\| `(--[a-z]+)", section, re.MULTILINE)) == offered
