"""The circuit around connecting, which every engine here shares."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper

from fluxgate import Attempt, CallNotPermittedError
from fluxgate_django import breakers

_FAILURES = (OperationalError, InterfaceError)
"""Django's errors of a connection that could not be made."""


class CircuitOpenError(CallNotPermittedError, OperationalError):
    """The circuit refused to connect: the database was not asked.

    A `django.db.OperationalError`, as of a database that is down.
    """

    __module__ = "fluxgate_django.db"


class CircuitBreakerMixin(BaseDatabaseWrapper):
    """Puts a circuit around the connecting of a database wrapper; first among its bases.

        class DatabaseWrapper(CircuitBreakerMixin, postgis.DatabaseWrapper): ...

    Only connecting is a call of the circuit, and so is getting a connection from a pool. Queries
    over a connection that is there are none: they go on while the circuit is open.

    The driver's errors about the server (`OperationalError`, `InterfaceError`) go to the
    circuit's tracker as Django's own, each with the driver's error as its `__cause__`. Any other
    exception is ignored.

    Attributes:
        circuit_name: `CIRCUIT` of the `DATABASES` entry, else `db.` and the alias. None for the
            connection without a database that test runners make databases with: that is
            somebody at work on the server, who needs its own answer.

    Raises:
        ImproperlyConfigured: `CIRCUIT` is no name.
    """

    neutral: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors of the driver that say nothing about the server, though their base class does."""

    circuit_name: str | None

    def __init__(self, settings_dict: dict[str, Any], alias: str = DEFAULT_DB_ALIAS) -> None:
        super().__init__(settings_dict, alias)
        name = settings_dict.get("CIRCUIT", f"db.{alias}")
        if not isinstance(name, str) or not name:
            raise ImproperlyConfigured(
                f'DATABASES["{alias}"]["CIRCUIT"] is the name of a circuit, such as "db.{alias}", '
                f"not {name!r}; leave it out to have that name, and for no circuit use Django's "
                "own ENGINE"
            )
        self.circuit_name = None if alias == NO_DB_ALIAS else name

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect, if the circuit permits it.

        Raises:
            CircuitOpenError: it doesn't.
        """
        if self.circuit_name is None:
            return super().get_new_connection(conn_params)
        try:
            attempt = breakers[self.circuit_name].attempt()
        except CallNotPermittedError as refusal:
            raise CircuitOpenError(*refusal.args) from None
        try:
            # Django does the same a frame further out. Here, too, so that a tracker is shown
            # django.db's errors, which is what a TRACKER in settings names.
            with self.wrap_database_errors:
                connection = super().get_new_connection(conn_params)
        except BaseException as error:
            self._settle(attempt, error)
            raise
        attempt.returned(connection)
        return connection

    def _settle(self, attempt: Attempt, error: BaseException) -> None:
        tells = isinstance(error, _FAILURES) and not isinstance(error.__cause__, self.neutral)
        if tells or not isinstance(error, Exception):
            attempt.raised(error)
        else:
            attempt.ignore()
