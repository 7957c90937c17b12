"""A circuit around a cache: while it is open, every key is missing, and the site goes on.

    CACHES = {
        "default": {
            "BACKEND": "fluxgate_django.cache.CircuitBreakerCache",
            "WRAPS": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://cache.internal:6379",
            "OPTIONS": {"socket_connect_timeout": 0.5, "socket_timeout": 0.5},
        }
    }

An entry of `CACHES` as it was, but that its `BACKEND` has become `WRAPS`.
"""

from fluxgate_django.cache._backend import CircuitBreakerCache
from fluxgate_django.cache._entry import Outage

__all__ = ["CircuitBreakerCache", "Outage"]
