"""What holds for every test: ids that are the same in each process, and a log of its own."""

from __future__ import annotations

import re

import pytest

from fluxgate import _log


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse ids with a memory address: pytest-xdist and `--last-failed` need the same each time.

    A parameter without a `repr` of its own is the cause; `ids=` or `pytest.param(id=...)` the cure.
    """
    changing = [item.nodeid for item in items if re.search(r"0x[0-9a-f]{6,}", item.nodeid)]
    if changing:
        raise pytest.UsageError("give these parameters an id:", *changing)


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """A fault that an earlier test caused is logged again."""
    _log._restart()
