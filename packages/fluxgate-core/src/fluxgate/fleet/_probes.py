"""Probes of a circuit that the fleet owns: leases asked for, granted to it, and how they ended."""

from __future__ import annotations

from typing import Final

from fluxgate._engine.leases import Ended, Lease, Leases
from fluxgate._engine.machine import Machine
from fluxgate._engine.phase import Phase
from fluxgate.fleet.store import Counts, Probe
from fluxgate.policy import Policy

IDLE_LEASE: Final = 2.0
"""Seconds for which a lease waits for a call, at most."""


class Probes:
    """Leases and outcomes of one circuit's probes. Used by the flusher alone.

    Attributes:
        wants: how many leases the last request asked for.
    """

    def __init__(self) -> None:
        self.wants = 0
        self._asked_at = 0.0  # clock time of the circuit
        self._sent: tuple[Probe, ...] = ()
        self._unsent: tuple[Probe, ...] = ()  # outcomes that nobody has heard of

    def take(self, leases: Leases | None, policy: Policy, now: float) -> tuple[Probe, ...]:
        """Take the outcomes, and how many leases are wanted; under the circuit's lock.

        Args:
            leases: those of the circuit's phase, if the fleet owns it.
            policy: the circuit's.
            now: clock time of the circuit, before the request is sent.
        """
        self._asked_at = now
        unsent, self._unsent = self._unsent, ()
        self._sent, self.wants = (), 0
        if leases is None:
            return ()
        leases.give_back(now)
        ended, leases.ended = leases.ended, []
        wants, leases.wanted = leases.wanted, 0
        most = policy.max_half_open_calls - len(leases.granted)
        self.wants = max(min(wants, most), 0)
        self._sent = (*unsent, *(_outcome(each, policy) for each in ended))
        return self._sent

    def put_back(self) -> None:
        """Keep the outcomes for the next request: nobody has heard of them."""
        self._unsent = self._sent

    def want_again(self, machine: Machine) -> None:
        """Ask for as many leases again as the last request did; under the circuit's lock."""
        leases = machine.phase.leases
        if leases is not None:
            leases.wanted += self.wants

    def grant(self, machine: Machine, phase: Phase, tokens: tuple[int, ...], now: float) -> None:
        """Give leases to a phase, if it is still the current one; under the circuit's lock."""
        timeout = machine.policy.probe_timeout
        deadline = self._asked_at + timeout  # from before it was granted: never longer than there
        until = min(now + IDLE_LEASE, self._asked_at + timeout / 2)
        if machine.phase is phase and phase.leases is not None:
            phase.leases.granted.extend(Lease(token, deadline, until) for token in tokens)


def _outcome(ended: Ended, policy: Policy) -> Probe:
    if ended.failed is None:
        return Probe(ended.token)
    slow = tuple(int(threshold in ended.reached) for threshold in policy.thresholds)
    return Probe(ended.token, Counts(1, int(ended.failed), round(ended.elapsed * 1000), slow))
