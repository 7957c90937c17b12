"""Every living circuit of this process, weakly."""

from __future__ import annotations

import gc
import itertools
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluxgate._engine.circuit import Circuit

_circuits: weakref.WeakValueDictionary[int, Circuit] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def add(circuit: Circuit) -> None:
    """Have a new circuit listed as long as it lives."""
    _circuits[next(_numbers)] = circuit


def every() -> list[Circuit]:
    """Every living circuit, in the order in which they were made."""
    # valuerefs() copies in one step, so no lock is needed that a finaliser could wait for.
    return [circuit for ref in _circuits.valuerefs() if (circuit := ref()) is not None]


def _restart() -> None:
    # No finaliser must meet a circuit whose lock is still held by a thread that is not here.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for circuit in every():
            circuit.restart()
    finally:
        if collecting:
            gc.enable()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart)
