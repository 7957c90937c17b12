"""The page about many processes: the settings and the rights that it shows are right."""

from __future__ import annotations

import re
from pathlib import Path

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
