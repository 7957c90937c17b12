"""`config=`: the settings of many circuits, wherever they come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from pydantic import BaseModel

from fluxgate import ConfigError
from fluxgate.config import Config, load, read

Source: TypeAlias = Config | Mapping[str, Any] | str | os.PathLike[str] | BaseModel
"""A mapping, the path of a TOML file, a `BaseSettings`, or what `fluxgate.config` has read."""


def as_config(source: Source) -> Config:
    """The settings of `source`.

    Args:
        source: a `Config`; the path of a TOML file; a mapping as for `fluxgate.config.read`, or
            with the circuits' names at the top beside `defaults`; a pydantic model whose field
            `fluxgate` is such a mapping, such as `FluxgateSettings`.

    Raises:
        ConfigError: it doesn't have that shape, or the file can't be read.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, (str, os.PathLike)):
        return load(source)
    if isinstance(source, BaseModel):
        return _of_mapping(_lists(_field(source)), type(source).__name__)
    if isinstance(source, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        return _of_mapping(source, "")
    raise ConfigError(
        f"config= takes a mapping, the path of a TOML file, or pydantic settings, not {source!r}"
    )


def _field(model: BaseModel) -> Mapping[str, Any]:
    field = getattr(model, "fluxgate", None)
    if isinstance(field, BaseModel):
        # Only what was set: a default of None is no setting.
        field = field.model_dump(exclude_unset=True)
    if isinstance(field, Mapping):
        return cast("Mapping[str, Any]", field)
    raise ConfigError(
        f"{type(model).__name__} needs a field fluxgate that maps names to settings, such as "
        "fluxgate: dict[str, dict[str, Any]] = {}"
    )


def _lists(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The same with listeners as lists, which an environment variable can't be."""
    listed: dict[str, Any] = {}
    for name, table in mapping.items():
        if isinstance(table, Mapping):
            table = dict(cast("Mapping[str, Any]", table))
            for key, value in table.items():
                if key.lower() == "listeners" and isinstance(value, str):
                    parts = value.strip().removeprefix("[").removesuffix("]").split(",")
                    table[key] = [each for part in parts if (each := part.strip(" \"'"))]
        listed[name] = table
    return listed


def _of_mapping(mapping: Mapping[str, Any], source: str) -> Config:
    if any(str(key).lower() == "breakers" for key in mapping):
        return read(mapping, source=source)
    breakers = dict(mapping)
    defaults = [key for key in breakers if str(key).lower() == "defaults"]
    return Config(
        defaults=breakers.pop(defaults[0]) if defaults else None, breakers=breakers, source=source
    )
