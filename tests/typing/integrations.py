"""Never run, only type-checked: what the integrations' skeletons promise."""

from typing import assert_type

import fluxgate_django
import fluxgate_fastapi
import fluxgate_httpx

assert_type(fluxgate_django.__version__, str)
assert_type(fluxgate_fastapi.__version__, str)
assert_type(fluxgate_httpx.__version__, str)
