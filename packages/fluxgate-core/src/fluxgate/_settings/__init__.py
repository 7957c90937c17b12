"""Reading settings: expressions and values become a breaker's arguments, or clear errors.

A TOML file: `fluxgate.config.load`; the settings of many circuits: `Config` in `fluxgate._config`;
one value: `resolve`; one expression: `expression`; messages: `errors`.
"""
