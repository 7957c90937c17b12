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
_forking: list[int] = []  # the process that is about to fork, once for each thread that does so


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
    return bool(_forking) and os.getpid() not in _forking


def _before_fork() -> None:
    _forking.append(os.getpid())


def _after_fork_in_parent() -> None:
    _forking.pop()


def _restart() -> None:
    # No finaliser must meet a circuit whose lock is still held by a thread that is not here.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for circuit in every():
            circuit.restart()
        _forking.clear()
    finally:
        if collecting:
            gc.enable()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_restart,
    )
