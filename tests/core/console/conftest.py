"""What surrounds each test of the console: no circuits of other tests, an end to its consoles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fluxgate.console import _snapshots

from .asking import made


@pytest.fixture(autouse=True)
def alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """No circuits of others, and no console that listens to others afterwards."""
    request.getfixturevalue("no_other_circuits")
    yield
    for page in made:
        page.close()
    made.clear()


@pytest.fixture(autouse=True)
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings that last until a test has them renewed: a busy machine takes seconds for a line."""
    monkeypatch.setattr(_snapshots, "SHARED", 3600.0)
