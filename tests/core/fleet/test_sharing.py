"""Two processes, one circuit, through each integration with a fleet and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from ...django.live_servers import an_upstream
from .conftest import eventually
from .sharing import USES, Process

pytestmark = pytest.mark.slow
NEEDED = {"httpx2": "httpx2", "fastapi_environment": "pydantic_settings"}


@pytest.fixture(scope="module")
def processes() -> Iterator[tuple[Process, Process]]:
    with Process() as one, Process() as two:
        yield one, two


@pytest.mark.parametrize("kind", USES)
def test_one_outage(kind: str, processes: tuple[Process, Process], tmp_path: Path) -> None:
    """Neither process has the ten calls that the default asks for; together they have."""
    for prefix, module in NEEDED.items():
        if kind.startswith(prefix) and find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    one, two = processes
    with an_upstream() as upstream:
        for process in processes:
            process.use(kind, f"sqlite://{tmp_path}/fleet.db", upstream.url)
        assert one.call(1) == two.call(1) == ["good"]
        upstream.answers(500)
        assert one.call(6) == ["failed"] * 6
        answers = two.call(6)
        failed = answers.count("failed")
        assert answers == ["failed"] * failed + ["refused"] * (6 - failed)
        assert failed >= 2  # the tenth call of both may open them
        eventually(lambda: one.seen()[0] == two.seen()[0] == "open")
        assert one.seen()[1] == two.seen()[1] > 0
        assert one.call(1) == two.call(1) == ["refused"]
        assert upstream.reached() == 2 + 6 + failed
