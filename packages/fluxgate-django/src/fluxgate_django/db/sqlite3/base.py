"""`DatabaseWrapper` of the engine; Django looks for it in this module."""

from django.db.backends.sqlite3 import base

from fluxgate_django.db import CircuitBreakerMixin


class DatabaseWrapper(CircuitBreakerMixin, base.DatabaseWrapper):
    """A connection to an SQLite database, made through a circuit."""
