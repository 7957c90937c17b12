"""`install(app, fleet=)`, and a fleet in the application's settings."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fluxgate import ConfigError
from fluxgate.fleet import Fleet
from fluxgate.registry import Registry
from fluxgate_fastapi import install


def test_a_fleet() -> None:
    with Fleet("memory://fastapi") as fleet:
        app = FastAPI()
        registry = install(app, fleet=fleet)
        assert registry.fleet is fleet
        assert install(app, fleet=fleet) is registry
        with pytest.raises(ConfigError, match="with other arguments"):
            install(app, fleet="memory://another")


def test_a_fleet_in_the_settings() -> None:
    registry = install(FastAPI(), config={"fleet": {"url": "memory://settings", "witnesses": 3}})
    assert registry.fleet is not None
    assert registry.fleet.witnesses == 3
    registry.fleet.close()


def test_it_is_the_registrys() -> None:
    with pytest.raises(ConfigError, match=r"registry= and fleet= contradict each other"):
        install(FastAPI(), registry=Registry(), fleet="memory://x")


def test_the_lifespans_end_says_farewell(tmp_path: Path) -> None:
    """uvicorn ends its processes by the signal that it got, so no exit handler can say it."""
    url = f"sqlite://{tmp_path}/fleet.db"
    app = FastAPI()
    registry = install(app, fleet=url)
    with Fleet(url) as looking:
        for _ in range(2):  # a server may begin again, as one does in tests
            with TestClient(app):
                registry["payments"].call(int)
                until = time.monotonic() + 30.0
                while not looking.processes(30.0):
                    assert time.monotonic() < until, "it doesn't say that it is there"
                    time.sleep(0.01)
            assert looking.processes(30.0) == []
    assert registry.fleet is not None
    registry.fleet.close()
