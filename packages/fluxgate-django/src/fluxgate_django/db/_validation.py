"""Check of time limits for connecting, by `manage.py check --database` and `migrate`."""

from __future__ import annotations

import os
from typing import Any, Final

from django.core import checks
from django.db.backends.base.validation import BaseDatabaseValidation

CODE: Final = "fluxgate.W101"
_ELSEWHERE: Final = ("connect_timeout", "service", "read_default_file")
"""Options that limit connecting, or name a file that may."""


class LimitValidation(BaseDatabaseValidation):
    """Warns of an entry of `DATABASES` that waits too long for the circuit to be of much help."""

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        return [*super().check(**kwargs), *self._unlimited()]

    def _unlimited(self) -> list[checks.CheckMessage]:
        options: dict[str, Any] = self.connection.settings_dict["OPTIONS"]
        pool = options.get("pool")
        if pool:
            if isinstance(pool, dict) and "timeout" in pool:
                return []
            how = "a worker waits 30 s for one of the pool"
            hint = 'Set it in seconds: "OPTIONS": {"pool": {"timeout": 3}}.'
        else:
            if any(key in options for key in _ELSEWHERE) or "PGCONNECT_TIMEOUT" in os.environ:
                return self._handshake(options)
            how = "a host that doesn't answer holds a worker for minutes"
            hint = 'Set it in seconds: "OPTIONS": {"connect_timeout": 3}.'
        told = (
            f'DATABASES["{self.connection.alias}"] sets no time limit for connecting: '
            f"{how}, and only then does the circuit hear of it."
        )
        return [checks.Warning(told, hint=hint, id=CODE)]

    def _handshake(self, options: dict[str, Any]) -> list[checks.CheckMessage]:
        """PyMySQL, in MySQLdb's place: its `connect_timeout` ends when the host has accepted."""
        database: Any = getattr(self.connection, "Database", None)
        named = "read_timeout" in options or "read_default_file" in options
        if named or getattr(database, "__name__", None) != "pymysql":
            return []
        told = (
            f'DATABASES["{self.connection.alias}"] sets no read_timeout: connect_timeout of '
            "PyMySQL ends when the host has accepted, so one that accepts and says nothing, as a "
            "stopped server does, holds a worker for ever, and the circuit never hears of it."
        )
        hint = (
            'Set it in seconds, above your slowest query: "OPTIONS": {"connect_timeout": 3, '
            '"read_timeout": 10}; it holds for each answer. Or use mysqlclient.'
        )
        return [checks.Warning(told, hint=hint, id=CODE)]
