"""`DatabaseWrapper` of the engine; Django looks for it in this module."""

from django.db.backends.postgresql import base

from fluxgate_django.db import CircuitBreakerMixin
from fluxgate_django.db._validation import LimitValidation

try:
    from psycopg_pool import PoolClosed, TooManyRequests
except ImportError:
    _of_the_pool: tuple[type[Exception], ...] = ()
else:
    # The pool turned the call away untried: it has been closed, or its queue is full.
    _of_the_pool = (PoolClosed, TooManyRequests)


class DatabaseWrapper(CircuitBreakerMixin, base.DatabaseWrapper):
    """A connection to PostgreSQL, made through a circuit."""

    neutral = _of_the_pool
    validation_class = LimitValidation
