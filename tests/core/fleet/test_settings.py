"""Fleets in settings: TOML, mappings, and what is wrong with them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from fluxgate import ConfigError, State
from fluxgate.config import Config, load, read
from fluxgate.fleet._fleet import fleet_of
from fluxgate.registry import Registry

from .conftest import Fleets, eventually


def test_a_toml_file(tmp_path: Path, fleets: Fleets) -> None:
    path = tmp_path / "fluxgate.toml"
    path.write_text(f'[fleet]\nurl = "{fleets.url}"\nwitnesses = 3\nadvisory = true\n')
    fleet = Registry(load(path)).fleet
    assert fleet is not None
    assert (fleet.witnesses, fleet.advisory) == (3, True)
    assert Registry(load(path), retry="Cooldown(5)").fleet is fleet  # one a process
    fleet.close()


def test_registries_of_one_file_share(fleets: Fleets) -> None:
    one, two = (Registry(read({"FLEET": {"URL": fleets.url}})) for _ in range(2))
    peer = Registry(fleet=fleets.make())
    one["a"].force_open(fleet=True)
    eventually(lambda: two["a"].state is peer["a"].state is State.FORCED_OPEN)
    assert one.fleet is two.fleet
    assert one.fleet is not None
    one.fleet.close()


def test_an_argument_comes_first(fleets: Fleets) -> None:
    fleet = fleets.make()
    assert Registry(read({"fleet": "memory://other"}), fleet=fleet).fleet is fleet


def test_without_one() -> None:
    assert Registry(Config()).fleet is None
    assert Config().fleet_problems() == []


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (7, ": must be a Fleet or a URL, not 'int'"),
        ({}, ".url: is missing: give one such as sqlite:///"),
        ({"url": 7}, ".url: must be a URL, not 'int'"),
        (
            {"url": "memory://x", "witness": 2},
            ".witness: unknown, or given twice; known are url, witnesses, advisory; did you mean "
            "'witnesses'?",
        ),
        ({"url": "memory://x", "URL": "memory://y"}, ".URL: unknown, or given twice"),
        ({"url": "memory://x", "witnesses": []}, ".witnesses: must be a whole number: []"),
        ({"url": "memory://x", "witnesses": 0}, ".witnesses: must be from 1"),
        ({"url": "memory://x", "advisory": 1}, ".advisory: must be True or False"),
        ("nowhere://x", ": the URL 'nowhere://x' has the unknown scheme 'nowhere'"),
        ("redis://:hunter2@h:x", ": the URL 'redis://:***@h:***' has a bad port"),
    ],
)
def test_what_is_wrong(table: Any, said: str) -> None:
    (problem,) = read({"fleet": table}, source="shop.toml").problems()
    assert str(problem).startswith(f"shop.toml: fleet{said}")
    assert "hunter2" not in str(problem)
    with pytest.raises(ConfigError, match="fleet"):
        fleet_of(table)


def test_a_pickled_config_keeps_it(fleets: Fleets) -> None:
    """What a process hands to one that it has spawned."""
    config = pickle.loads(pickle.dumps(read({"fleet": {"url": fleets.url, "witnesses": 3}})))
    fleet = Registry(config).fleet
    assert fleet is not None
    assert (repr(fleet), fleet.witnesses) == (f"<Fleet {fleets.url}>", 3)
    fleet.close()


def test_text_of_the_environment(fleets: Fleets) -> None:
    fleet = fleet_of({"URL": fleets.url, "WITNESSES": "3", "ADVISORY": "true"})
    assert (fleet.witnesses, fleet.advisory) == (3, True)
    fleet.close()
    with pytest.raises(ConfigError, match=r"fleet\.witnesses: must be a whole number: 'many'"):
        fleet_of({"url": fleets.url, "witnesses": "many"})
    with pytest.raises(ConfigError, match=r"fleet\.witnesses: must be from 1"):
        fleet_of({"url": fleets.url, "witnesses": "999999999999"})
