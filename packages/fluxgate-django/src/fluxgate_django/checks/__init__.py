"""System checks: `manage.py check` reports wrong settings before the first outage does.

All carry the tag `fluxgate`, and each id can be silenced with `SILENCED_SYSTEM_CHECKS`. They import
what dotted paths name, as the settings' first use would; they open no connection.

To add one, write it in the module that fits, with `@register(TAG)`, and export it here. The ids:

- `_settings`: E001 to E007, W005, W102 (settings, circuits' names in code, wrapped caches);
- `_project`: E003, W001, W002, W003, W006, W007, I001 (middleware, REST framework, console);
- `_deployment`: W004, I002, I003 (`--deploy` only);
- `fluxgate_django.db._validation`: W101 (a database check: it needs `--database`, and has no tag).
"""

from fluxgate_django.checks._deployment import check_deployment
from fluxgate_django.checks._project import (
    check_console,
    check_middleware,
    check_rest_framework,
)
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
    "check_console",
    "check_deployment",
    "check_middleware",
    "check_response",
    "check_rest_framework",
    "check_settings",
    "check_uses",
]
