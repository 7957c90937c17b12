"""docs/how-to/django-databases.md: its files are written, its other blocks run in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ..pages import ROOT, blocks, write_project
from ..realservers import Postgres, Redis

PAGE = ROOT / "docs" / "how-to" / "django-databases.md"

RUN = """
import ast, asyncio, inspect, sys
import django
django.setup()

async def main():
    names = {"__name__": "page"}
    for block in open("blocks", encoding="utf-8").read().split("\\f"):
        code = compile(block, "the page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        answer = eval(code, names)
        if inspect.iscoroutine(answer):
            await answer

asyncio.run(main())
print("whole")
"""


def test_the_pages_blocks_run(tmp_path: Path) -> None:
    with Postgres() as database, Redis() as cache:
        text = PAGE.read_text(encoding="utf-8")
        for written, real in (
            ('"HOST": "db.internal"', '"HOST": "127.0.0.1"'),
            ('"PORT": 5432', f'"PORT": {database.port}'),
            ('"redis://cache.internal:6379"', f'"redis://127.0.0.1:{cache.port}"'),
        ):
            assert text.count(written) == 1, written
            text = text.replace(written, real)
        write_project(text, tmp_path)
        sources = [block.text for block in blocks(text, "py") if block.file is None]
        assert len(sources) == 4
        (tmp_path / "blocks").write_text("\f".join(sources), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", RUN],
            cwd=tmp_path,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "settings",
                "DJANGO_ALLOW_ASYNC_UNSAFE": "1",  # the blocks run in a loop, for their await
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
