"""`install(app, fleet=)`, and a fleet in the application's settings."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

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
