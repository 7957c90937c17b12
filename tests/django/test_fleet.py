"""`FLUXGATE["FLEET"]`."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from fluxgate import ConfigError
from fluxgate_django import conf
from fluxgate_django.checks._deployment import check_deployment


@pytest.mark.parametrize(
    "written",
    [
        "memory://django",
        {"URL": "memory://django", "WITNESSES": 3, "ADVISORY": True},
    ],
)
def test_a_fleet(written: Any) -> None:
    with override_settings(FLUXGATE={"FLEET": written}):
        fleet = conf.settings().registry.fleet
        assert fleet is not None
        assert fleet.advisory is isinstance(written, dict)
        assert conf.problems() == []
        assert conf.settings().registry["x"].info().fleet is not None
        fleet.close()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("nowhere://:hunter2@x", "unknown scheme 'nowhere'"),
        ({"URL": "memory://x", "WITNESS": 2}, "did you mean 'witnesses'"),
        ({"WITNESSES": 2}, "url is missing"),
    ],
)
def test_what_is_wrong(written: Any, said: str) -> None:
    with override_settings(FLUXGATE={"FLEET": written}):
        (problem,) = conf.problems()
        assert str(problem).startswith("FLUXGATE: FLEET: ")
        assert said in str(problem)
        assert "hunter2" not in str(problem)
        with pytest.raises(ConfigError, match="FLEET"):
            conf.settings()


def test_the_deployment_check_is_content() -> None:
    """Circuits of a fleet are not each worker's own."""
    for written, expected in (({}, 1), ({"FLEET": "memory://deployed"}, 0)):
        with override_settings(FLUXGATE=written):
            found = [each.id for each in check_deployment()]
            assert found.count("fluxgate.I002") == expected
