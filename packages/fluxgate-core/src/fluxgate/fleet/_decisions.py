"""Decisions: which move a circuit's view asks this process to make, if any.

There is no leader: whoever sees that a verdict (`_verdict`) has fallen makes the move, and the
store lets one of them win.
"""

from __future__ import annotations

from typing import NamedTuple

from fluxgate._engine.circuit import Circuit
from fluxgate.fleet._head import Head, milliseconds, ttl_of
from fluxgate.fleet._probes import policy_of
from fluxgate.fleet._reverts import NEXT, is_over, reason_of_end, successor
from fluxgate.fleet._verdict import Verdict, of_probes, of_window, write_reason
from fluxgate.fleet._window import merged, shape_of, snapshot
from fluxgate.fleet.store import Move, View
from fluxgate.signals import Reason
from fluxgate.state import State


class Decision(NamedTuple):
    """A move to make, or the time to look again.

    Attributes:
        move: the move to make, if any.
        wait: seconds after which to look again without new traffic; 0, not before there is some.
    """

    move: Move | None = None
    wait: float = 0.0


def decide(
    circuit: Circuit, head: Head, view: View, *, witnesses: int, advisory: bool, wants: bool
) -> Decision:
    """Decide about a view of the same epoch as the head.

    Args:
        circuit: the circuit.
        head: what this process knows of the fleet.
        view: the answer to an exchange.
        witnesses: how many processes must have seen bad calls.
        advisory: whether the fleet opens no circuit of this process.
        wants: whether calls of this process, whose phase the fleet owns, would probe.
    """
    policy = circuit.policy
    if is_over(view):
        then = successor(view)
        if advisory and then.state in (State.OPEN, State.HALF_OPEN):
            then = NEXT
        move = moved_on(circuit, head, then.state, reason_of_end(view))
        return Decision(move._replace(remaining=then.remaining))
    if view.state is State.CLOSED:
        shape = shape_of(policy)
        if shape is None:
            return Decision()
        metrics = merged(view, shape, policy.thresholds)
        return carried_out(circuit, head, of_window(policy, metrics, view, witnesses))
    if view.state is State.OPEN and view.remaining == 0:
        if advisory:
            return Decision(moved_on(circuit, head, State.CLOSED, Reason("cooldown over")))
        if wants:
            return Decision(moved_on(circuit, head, State.HALF_OPEN, Reason("cooldown over")))
    if view.state is State.HALF_OPEN:
        policy = policy_of(circuit)
        verdict = of_probes(policy, snapshot(view.probes, policy.thresholds))
        return carried_out(circuit, head, verdict)
    return Decision()


def carried_out(circuit: Circuit, head: Head, verdict: Verdict) -> Decision:
    """The move that carries a verdict out, or how long to wait for one."""
    if verdict.fires is None or verdict.reason is None:
        return Decision(wait=verdict.wait)
    if not verdict.fires:
        return Decision(moved_on(circuit, head, State.CLOSED, verdict.reason))
    reopens = head.reopens + 1 if head.state is State.HALF_OPEN else 0
    delay = circuit.step(lambda machine, _: machine.verdicts.delay(machine.policy, reopens))
    return Decision(opened(circuit, head, delay, reopens, verdict.reason))


def opened(circuit: Circuit, head: Head, seconds: float, reopens: int, reason: Reason) -> Move:
    """The move that opens the fleet for so many seconds."""
    move = moved_on(circuit, head, State.OPEN, reason)
    return move._replace(remaining=milliseconds(seconds), reopens=reopens)


def moved_on(circuit: Circuit, head: Head, state: State, reason: Reason) -> Move:
    """The move from the head to a state without a deadline."""
    return Move(
        circuit.name,
        expected=head.epoch,
        known=head.epoch,
        state=state,
        reopens=0 if state is State.CLOSED else head.reopens,
        reason=write_reason(reason),
        ttl=ttl_of(state, circuit.policy),
    )
