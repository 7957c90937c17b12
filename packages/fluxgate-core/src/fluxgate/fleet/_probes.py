"""Probes of a circuit that the fleet owns: leases asked for, granted to it, and how they ended."""

from __future__ import annotations

from typing import Final

from fluxgate._engine.circuit import HALF_OPEN, Circuit
from fluxgate._engine.leases import Ended, Lease, Leases
from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import Phase
from fluxgate.fleet.store import Counts, Probe
from fluxgate.policy import Policy

IDLE_LEASE: Final = 2.0
"""Seconds for which a lease waits for a call, at most."""


def policy_of(circuit: Circuit) -> Policy:
    """The settings that a circuit goes by: a round of the fleet's probes keeps those it began with.

    (`update()` brings others for the next phase, as for a circuit without a fleet.)
    """
    phase = circuit.phase
    return phase.policy if phase.state is HALF_OPEN and phase.leases is not None else circuit.policy


class Probes:
    """Leases and outcomes of one circuit's probes. Used by the flusher alone.

    Attributes:
        wants: how many leases the last request asked for.
    """

    def __init__(self) -> None:
        self.wants = 0
        self._asked_at = 0.0  # clock time of the circuit
        self._timeout = 0.0  # seconds of the leases that were asked for
        self._phase: Phase | None = None  # which has asked, and has the leases
        self._leases: Leases | None = None
        self._ended: tuple[Phase, Leases] | None = None  # one that is over, with probes going on
        self._sent: tuple[Probe, ...] = ()
        self._unsent: tuple[Probe, ...] = ()  # outcomes that nobody has heard of

    def take(self, phase: Phase, policy: Policy, now: float) -> tuple[Probe, ...]:
        """Take the outcomes, and how many leases are wanted; under the circuit's lock.

        Args:
            phase: the circuit's.
            policy: the circuit's, as of `policy_of`.
            now: clock time of the circuit, before the request is sent.
        """
        self._asked_at, self._timeout = now, policy.probe_timeout
        ended: list[Probe] = []
        if phase is not self._phase or phase.leases is not self._leases:
            if self._phase is not None and self._leases is not None:
                self._ended = (self._phase, self._leases)
            self._phase, self._leases = phase, phase.leases
        if self._ended is not None:
            ended += self._left(*self._ended)
        self.wants = 0
        if (leases := phase.leases) is not None:
            leases.give_back(now)
            more, leases.ended = leases.ended, []
            wants, leases.wanted = leases.wanted, 0
            self.wants = max(min(wants, policy.max_half_open_calls - len(leases.granted)), 0)
            ended += [_outcome(each, phase.policy) for each in more]
        unsent, self._unsent = self._unsent, ()
        self._sent = (*unsent, *ended)
        return self._sent

    def _left(self, phase: Phase, leases: Leases) -> list[Probe]:
        """Unused leases of a phase that is over, and its outcomes until the last one.

        The fleet may still be in that epoch (a hand has ended the phase here alone), and others
        wait for the slots.
        """
        ended = [*leases.ended, *(Ended(lease.token) for lease in leases.granted)]
        leases.ended = []
        leases.granted.clear()
        if not phase.probes:
            self._ended = None
        return [_outcome(each, phase.policy) for each in ended]

    def put_back(self) -> None:
        """Keep the outcomes for the next request: nobody has heard of them."""
        self._unsent, self._sent = self._sent, ()

    def want_again(self, machine: Machine) -> None:
        """Ask for as many leases again as the last request did; under the circuit's lock."""
        leases = machine.phase.leases
        if leases is not None:
            leases.wanted += self.wants

    def grant(self, tokens: tuple[int, ...], now: float) -> None:
        """Give leases to the phase that has asked for them; under the circuit's lock."""
        deadline = (
            self._asked_at + self._timeout
        )  # from before it was granted: no longer than there
        until = min(now + IDLE_LEASE, self._asked_at + self._timeout / 2)
        leases = self._leases
        if leases is not None:  # of a phase that is over, they are given back
            leases.granted.extend(Lease(token, deadline, until) for token in tokens)


def _outcome(ended: Ended, policy: Policy) -> Probe:
    if ended.failed is None:
        return Probe(ended.token)
    slow = tuple(int(threshold in ended.reached) for threshold in policy.thresholds)
    return Probe(ended.token, Counts(1, int(ended.failed), round(ended.elapsed * 1000), slow))
