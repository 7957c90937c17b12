"""Where Django looks for an engine's `DatabaseWrapper`."""

from django.db.backends.sqlite3 import base

from fluxgate_django.db import CircuitBreakerMixin


class DatabaseWrapper(CircuitBreakerMixin, base.DatabaseWrapper):
    """A connection to an SQLite database, made through a circuit."""
