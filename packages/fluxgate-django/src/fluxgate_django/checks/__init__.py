"""System checks: mistakes in the settings are told by `manage.py check`, not by the first outage.

All carry the tag `fluxgate`, and each id can be silenced with `SILENCED_SYSTEM_CHECKS`. They import
what dotted paths name, as the settings' first use would; they open no connection.
"""

from fluxgate_django.checks._deployment import check_deployment
from fluxgate_django.checks._project import check_middleware, check_rest_framework
from fluxgate_django.checks._settings import (
    TAG,
    check_caches,
    check_response,
    check_settings,
    check_uses,
)

__all__ = [
    "TAG",
    "check_caches",
    "check_deployment",
    "check_middleware",
    "check_response",
    "check_rest_framework",
    "check_settings",
    "check_uses",
]
