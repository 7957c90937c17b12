"""Circuits from environment variables, with pydantic-settings (extra `settings`).

# FLUXGATE__PAYMENTS__TRIPPER="MinRequests(10) & FailureRate(0.5)"
# FLUXGATE__DEFAULTS__RETRY="Cooldown(30)"
install(app, config=FluxgateSettings())
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["FluxgateSettings"]


class FluxgateSettings(BaseSettings):
    """Settings by circuit's name, from `FLUXGATE__<NAME>__<SETTING>`; names in lower case.

    `FLUXGATE__DEFAULTS__<SETTING>` holds for every circuit. To have them beside settings of your
    own, inherit from this class, or give yours a field `fluxgate` and the same delimiter.
    """

    model_config = SettingsConfigDict(
        env_nested_delimiter="__",
        extra="ignore",
        hide_input_in_errors=True,  # a fleet's URL may hold a password
    )

    fluxgate: dict[str, dict[str, Any]] = Field(default_factory=dict)
