"""Async functions as Django sees them: coroutine functions, and callables marked as such."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

if sys.version_info >= (3, 12):
    import inspect as _marks
else:
    import asgiref.sync as _marks

_functions: Any = _marks
is_async: Final[Callable[[object], bool]] = _functions.iscoroutinefunction
"""Whether calling it gives a coroutine."""
mark_async: Final[Callable[[object], object]] = _functions.markcoroutinefunction
"""Mark a callable as one whose result is to be awaited."""
