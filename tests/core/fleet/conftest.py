"""What the tests of the fleet share: waiting, and an end to every fleet."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxgate.fleet import Fleet
from fluxgate.fleet.memory import Space

from ...realservers import Redis

PATIENCE = 30.0
_names = itertools.count()


def eventually(holds: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Wait until something holds; a test must not depend on how long that takes."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)


class Fleets:
    """Fleets over one space in memory, each as if in a process of its own."""

    def __init__(self) -> None:
        name = f"test-{next(_names)}"
        self.url = f"memory://{name}"
        self.space = Space.named(name)
        self.made: list[Fleet] = []

    def make(self, **options: Any) -> Fleet:
        fleet = Fleet(self.url, **options)
        self.made.append(fleet)
        return fleet

    def flush(self) -> None:
        """Every process has handed in what it has, and has seen what the others have."""
        for _ in range(2):
            for fleet in self.made:
                assert fleet.flush(PATIENCE)


@pytest.fixture
def fleets() -> Iterator[Fleets]:
    made = Fleets()
    yield made
    for fleet in made.made:
        fleet.close()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fleet that is empty, with each kind of store."""
    if request.param == "memory":
        yield f"memory://{tmp_path.name}"
    elif request.param == "sqlite":
        yield f"sqlite://{tmp_path}/fleet.db"
    else:
        server = Redis()
        server.start()
        try:
            yield server.url
        finally:
            server.close()
