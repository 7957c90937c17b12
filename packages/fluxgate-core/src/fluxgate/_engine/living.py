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
_process = os.getpid()


def add(circuit: Circuit) -> None:
    """Have a new circuit listed as long as it lives."""
    _circuits[next(_numbers)] = circuit


def every() -> list[Circuit]:
    """Every living circuit, in the order in which they were made."""
    # valuerefs() copies in one step, so no lock is needed that a finaliser could wait for.
    return [circuit for ref in _circuits.valuerefs() if (circuit := ref()) is not None]


def is_forked() -> bool:
    """Whether this is a forked child whose circuits have yet to begin anew.

    The hooks of modules that were imported before us (`threading`) run before ours; the collector
    and signal handlers, too, may run then, and a lock's holder may be a thread that is not here.
    """
    return os.getpid() != _process


def _restart() -> None:
    global _process
    # No finaliser must meet a circuit whose lock is still held by a thread that is not here.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for circuit in every():
            circuit.restart()
        _process = os.getpid()
    finally:
        if collecting:
            gc.enable()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_restart)
