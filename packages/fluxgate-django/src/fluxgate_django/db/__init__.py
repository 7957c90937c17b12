"""Databases whose connecting is behind a circuit: the `ENGINE`s of `DATABASES`.

    DATABASES = {
        "default": {
            "ENGINE": "fluxgate_django.db.postgresql",
            "NAME": "shop",
            "OPTIONS": {"connect_timeout": 3},
        }
    }

An engine of your own gets the circuit from `CircuitBreakerMixin`.
"""

from fluxgate_django.db._connecting import CircuitBreakerMixin, CircuitOpenError

__all__ = ["CircuitBreakerMixin", "CircuitOpenError"]
