"""Nested calls: a call of the same circuit inside a probe is a part of that probe.

Otherwise a service whose protected functions call each other could never close its circuit again
where there is one slot: the outer call holds it, the inner one is refused, and its refusal says
nothing about the dependency. Only probes pay for it: a healthy call of a closed circuit neither
looks here nor leaves anything.

The probes that a call runs in are kept in a context variable: an asyncio or trio task, and a thread
that was started with a copy of the context (`asyncio.to_thread`), belong to the probe that started
them for as long as it holds its slot; any other thread doesn't. A probe that has settled holds
none, so nothing has to be taken out at its end.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from fluxgate._engine.lane import Lane
    from fluxgate._engine.phase import Admission, Phase

_Probes: TypeAlias = "tuple[tuple[Phase, int, str], ...]"

# Not the admissions themselves: a probe whose admission nobody holds gives its slot back.
_probes: ContextVar[_Probes] = ContextVar("fluxgate_probes", default=())


def begin(admission: Lane | Admission, circuit: str) -> None:
    """Make the calls that follow in this context parts of a probe, until it settles.

    Args:
        admission: what has admitted the call; only a probe's is noted.
        circuit: the circuit's name.
    """
    if (probe := admission.probe) is not None:
        phase = admission.phase
        live = (each for each in _probes.get() if _holds(each[0], each[1]))
        _probes.set((*live, (phase, probe, circuit)))


def end(admission: Lane | Admission) -> None:
    """Undo `begin` while a probe goes on: a generator that is suspended has no calls inside it."""
    if (probe := admission.probe) is not None and (probes := _probes.get()):
        phase = admission.phase
        _probes.set(tuple(each for each in probes if each[0] is not phase or each[1] != probe))


def inside_probe_of(phase: Phase) -> bool:
    """Whether this context runs in a probe of `phase` that holds its slot."""
    return any(of is phase and _holds(phase, probe) for of, probe, _ in _probes.get())


def inside_probe(circuit: str | None) -> bool:
    """Whether this context runs in a probe that holds its slot: of that name, or any."""
    return any(
        _holds(of, probe) and (circuit is None or name == circuit)
        for of, probe, name in _probes.get()
    )


def _holds(phase: Phase, probe: int) -> bool:
    """Whether the probe holds its slot; one that nobody holds any more is yet to be reclaimed."""
    return probe in phase.probes and probe not in phase.dropped
