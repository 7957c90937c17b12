"""The clash with PyPI's `fluxgate`: another project, whose files have the same names as ours.

pip notices nothing when both are installed: the second one's files overwrite the first one's. What
`import fluxgate` runs then is one `__init__.py` or the other:

- **Ours**, beside files that only the other has: all works, until either is upgraded or removed,
  which takes files of both. `fluxgate/__init__.py` looks for such a file, and warns.
- **The other's**, or none, since it was removed with ours in it: modules that only we have fail at
  whatever they import. Nearly all of them import `_naming.py` first, and that looks for our mark in
  the package, which costs one attribute; so the reason is said in place of a name that is missing.

This module is imported when that has happened, and not before.
"""

from __future__ import annotations

import sys
import warnings
from typing import NoReturn

__all__ = ["refuse", "warn_of_leftovers"]

_REMEDY = """\
Take both out, and put one back:
    python -m pip uninstall --yes fluxgate fluxgate-core
    python -m pip install fluxgate-core
and look for the name `fluxgate` in your requirements and lock files, and among what your
dependencies ask for."""


def _folder() -> str:
    """Where the package's files are."""
    return str(next(iter(sys.modules["fluxgate"].__path__), "?"))


def refuse() -> NoReturn:
    """Say that the package isn't ours any more.

    Raises:
        ImportError: always.
    """
    raise ImportError(
        "PyPI's `fluxgate`, another project with the import name of `fluxgate-core`, has "
        f"overwritten or removed files of ours in {_folder()}. {_REMEDY}",
        name="fluxgate",
    )


def warn_of_leftovers() -> None:
    """Warn that the other project's files lie among ours."""
    warnings.warn(
        "PyPI's `fluxgate`, another project with the import name of `fluxgate-core`, is installed, "
        f"too, and its files lie among ours in {_folder()}: the next upgrade or removal of either "
        f"breaks both. {_REMEDY}",
        RuntimeWarning,
        stacklevel=3,
    )
