"""The page about many processes: what it shows runs, and its settings and rights are right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fluxgate.cli.fleet import VERBS
from fluxgate.config import read

from .test_redis import ACL

PAGE = (Path(__file__).parents[3] / "docs" / "fleet.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_settings_are_sound() -> None:
    import tomllib

    text = block("toml").replace("redis://redis.internal:6379/0", "memory://page")
    assert read(tomllib.loads(text)).problems() == []


def test_the_rights_are_those_of_the_test() -> None:
    assert block("text").split() == ACL.split()


def test_the_first_block_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block("python")], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("paid\n", "")
    assert (tmp_path / "fluxgate.db").is_file()


def test_the_verbs_are_those_of_the_command() -> None:
    table = PAGE[PAGE.index("| verb |") : PAGE.index("`list`, `show` and `watch` take")]
    assert set(re.findall(r"^\| `(\w+)", table, re.MULTILINE)) == set(VERBS)
