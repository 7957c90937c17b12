"""Circuits from environment variables, with pydantic-settings (extra `settings`).

# FLUXGATE__PAYMENTS__TRIPPER="MinRequests(10) & FailureRate(0.5)"
# FLUXGATE__DEFAULTS__RETRY="Cooldown(30)"
# FLUXGATE__FLEET="redis://redis.internal:6379/0"
install(app, config=FluxgateSettings())
"""

from __future__ import annotations

import os
from typing import Any

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["FluxgateSettings"]


class FluxgateSettings(BaseSettings):
    """Settings by circuit's name, from `FLUXGATE__<NAME>__<SETTING>`; names in lower case.

    `FLUXGATE__DEFAULTS__<SETTING>` holds for every circuit. `FLUXGATE__FLEET` is the URL of the
    fleet that shares them with other processes; or `FLUXGATE__FLEET__URL`, with `…__WITNESSES` and
    `…__ADVISORY` beside it. To have them beside settings of your own, inherit from this class, or
    give yours a field `fluxgate` and the same delimiter.
    """

    model_config = SettingsConfigDict(
        env_nested_delimiter="__",
        extra="ignore",
        hide_input_in_errors=True,  # a fleet's URL may hold a password
    )

    # Not in the repr either, for the same reason.
    fluxgate: dict[str, dict[str, Any] | str] = Field(default_factory=dict, repr=False)

    @model_validator(mode="after")
    def _nothing_is_dropped(self) -> FluxgateSettings:
        """Refuse a variable that pydantic would drop, since its parent holds a text."""
        prefix = str(self.model_config.get("env_prefix", ""))
        for name, value in self.fluxgate.items():
            parent = f"{prefix}fluxgate__{name}".upper()
            for variable in os.environ:
                if isinstance(value, str) and variable.upper().startswith(f"{parent}__"):
                    raise ValueError(
                        f"{variable} is not read beside {parent}"
                        + (f": write {parent}__URL in place of that" if name == "fleet" else "")
                    )
        return self
