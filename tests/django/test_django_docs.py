"""Each of the pages is a project: its files are written down, and its blocks run in it, in order.

A block whose first line names a file (`# shop/views.py`) is that file, or more of it. The others
run in a process of their own, under the page's own settings, and share their names. What the page
shows of `manage.py` is what `manage.py` prints.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest
from django.test import override_settings

from fluxgate.registry import Registry
from fluxgate_django import conf, signals

from ..pages import ROOT, blocks, untimed, write_project

PAGE = ROOT / "docs" / "how-to" / "django.md"
TUTORIAL = ROOT / "docs" / "start" / "django.md"
README = ROOT / "packages" / "fluxgate-django" / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
RUNNER = (
    f"import re\n\n{inspect.getsource(untimed)}"
    + """
import ast, asyncio, contextlib, inspect, io, json, os, sys

sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
from django.test.utils import setup_test_environment

django.setup()
setup_test_environment()
names = {"__name__": "page"}
for source, prints in json.load(sys.stdin):
    code = compile(source, sys.argv[1], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        answer = eval(code, names)
        if inspect.iscoroutine(answer):
            asyncio.run(answer)
    printed = untimed(printed.getvalue())
    assert prints is None or printed == untimed(prints), printed
print("all blocks ran")
"""
)
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d")


def run(root: Path, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    write_project(TEXT, root)
    return root


@pytest.mark.parametrize(
    "page", [PAGE, TUTORIAL, README], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_every_block_runs(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    write_project(text, tmp_path)
    sources = [
        (block.source, block.prints) for block in blocks(text, "python") if block.file is None
    ]
    assert sources
    done = run(tmp_path, "-c", RUNNER, str(page), input=json.dumps(sources))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all blocks ran\n")


def test_a_block_that_fails_is_told(tmp_path: Path) -> None:
    write_project("```python\n# settings.py\nUSE_TZ = True\n```\n", tmp_path)
    done = run(tmp_path, "-c", RUNNER, "page.md", input=json.dumps([("\n\nassert 1 == 2\n", None)]))
    assert done.returncode == 1
    assert 'File "page.md", line 3' in done.stderr


def shown_commands() -> list[tuple[str, str]]:
    """Each `manage.py` command that the page shows with what it prints.

    What it shows of a fleet needs other processes: `test_fleet.py` runs those commands.
    """
    found: list[tuple[str, str]] = []
    for block in blocks(TEXT, "console"):
        for part in block.text.split("$ ")[1:]:
            command, _, printed = part.partition("\n")
            alone = command.startswith("python manage.py") and "--fleet" not in command
            if alone and printed:
                found.append((command, printed))
    return found


@pytest.mark.parametrize(("command", "printed"), shown_commands())
def test_manage_py_prints_what_the_page_shows(project: Path, command: str, printed: str) -> None:
    arguments = command.removeprefix("python manage.py ").split()
    done = run(project, "-m", "django", *arguments, "--settings", "settings", "--pythonpath", ".")
    assert TIME.sub("<time>", done.stdout + done.stderr) == TIME.sub("<time>", printed)


def test_the_page_shows_the_command() -> None:
    assert len(shown_commands()) >= 3


# -- the reference


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the page's table with that heading, by what stands first."""
    rows = TEXT[TEXT.index(heading) :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip().strip("`") for cell in row.split(" | ")] for row in rows]
    return {row[0].removeprefix("| `"): row[1:] for row in cells}


def test_every_key_of_fluxgate_is_there_with_its_default() -> None:
    known = table("| key of `FLUXGATE` |")
    assert tuple(known) == conf.KEYS
    assert known["STRICT"][0] == str(Registry().strict)
    assert known["MAX_CIRCUITS"][0] == str(Registry().max_circuits)
    with override_settings(FLUXGATE={}):
        assert conf.problems() == []


def test_every_key_of_the_response_is_there_with_its_default() -> None:
    known = table("| key of `RESPONSE` |")
    assert tuple(known) == conf.RESPONSE_KEYS
    defaults = conf.ResponseSettings()
    for key, row in known.items():
        assert literal_eval(row[0]) == getattr(defaults, key.lower())


def test_what_the_page_says_of_databases_and_caches(project: Path) -> None:
    pytest.importorskip("psycopg")
    options = ("--settings", "settings_production", "--pythonpath", ".")
    done = run(project, "-m", "django", "check", "--tag", "fluxgate", *options)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_every_signal_is_there() -> None:
    assert set(table("| signal |")) == set(signals.__all__) - {"announce"}
