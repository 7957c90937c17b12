"""Calls: what listeners that ask for each call are given.

Nobody else pays for it. A circuit with such a listener settles through `CallReports` in place of
its machine, and the machine keeps its lane down, so that every call comes by.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf, isnan
from typing import TYPE_CHECKING, Final

from fluxgate._engine.dispatch import Delivery, Dispatch
from fluxgate._engine.phase import Admission, Cause, Phase, label_of
from fluxgate.signals import Call, Outcome

if TYPE_CHECKING:
    from fluxgate._engine.lane import Lane
    from fluxgate._engine.machine import Machine

REJECTED: Final = Outcome.REJECTED


class CallReports:
    """The machine's `settle`, and a `Call` for whoever has `call_ended`.

    Args:
        circuit: the circuit's name.
        machine: settles the calls.
        dispatch: has the listeners, and takes what they are to hear once the lock is free.
        clock: gives seconds.
    """

    __slots__ = ("_circuit", "_clock", "_dispatch", "_machine")

    def __init__(
        self, circuit: str, machine: Machine, dispatch: Dispatch, clock: Callable[[], float]
    ) -> None:
        self._circuit = circuit
        self._machine = machine
        self._dispatch = dispatch
        self._clock = clock

    def settle(
        self,
        admission: Lane | Admission,
        outcome: Outcome,
        elapsed: float,
        now: float,
        cause: Cause | None = None,
    ) -> None:
        """`Machine.settle`; `elapsed` may be NaN and `now` -inf, where nobody knows.

        The caller holds the circuit's lock.
        """
        counted = self._machine.settle(admission, outcome, elapsed, now, cause)
        if counted is None:
            return
        phase = admission.phase
        call = _new_call(Call)
        # Without __init__, which checks the names of the arguments: this is for each call.
        call.__dict__.update(
            circuit_name=self._circuit,
            outcome=outcome,
            counted=counted,
            duration=None if isnan(elapsed) else elapsed,
            ended=self._clock() if now == -inf else now,
            timestamp=time.time(),
            generation=phase.generation,
            state=phase.state,
            probe=admission.probe is not None,
            slow=elapsed >= phase.policy.least_threshold,
            error=cause if cause is None or isinstance(cause, str) else label_of(cause),
        )
        self._dispatch.later.append(Delivery(self._dispatch.call_ended, call))


_new_call: Final = Call.__new__


def refused_call(circuit: str, phase: Phase, now: float) -> Call:
    """The `Call` of a refusal."""
    return Call(
        circuit_name=circuit,
        outcome=REJECTED,
        counted=REJECTED,
        duration=None,
        ended=now,
        timestamp=time.time(),
        generation=phase.generation,
        state=phase.state,
    )
