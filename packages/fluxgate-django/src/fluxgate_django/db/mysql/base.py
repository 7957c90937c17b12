"""`DatabaseWrapper` of the engine; Django looks for it in this module."""

from django.db.backends.mysql import base, validation

from fluxgate_django.db import CircuitBreakerMixin
from fluxgate_django.db._validation import LimitValidation


class DatabaseValidation(LimitValidation, validation.DatabaseValidation):
    """Django's checks of MySQL, and ours."""


class DatabaseWrapper(CircuitBreakerMixin, base.DatabaseWrapper):
    """A connection to MySQL or MariaDB, made through a circuit."""

    validation_class = DatabaseValidation
