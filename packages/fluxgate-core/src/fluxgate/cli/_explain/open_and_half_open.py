"""The sections on an open and a half-open circuit."""

from __future__ import annotations

import math

from fluxgate._words import listed, number, seconds
from fluxgate.cli._explain import simulation
from fluxgate.cli._explain.report import Section, Table
from fluxgate.cli._explain.simulation import Call
from fluxgate.cli._words import about, traffic
from fluxgate.policy import Policy
from fluxgate.state import State
from fluxgate.trippers import NEVER, FailureStreak


def while_open(policy: Policy) -> Section:
    """How long calls are refused."""
    points = [f"It stays open {policy.retry.describe()}."]
    if policy.retry.openings()[0] < math.inf:
        points.append(
            "It does not turn half-open by itself: the first call after that time probes, or that "
            "of a prober, which needs no traffic. "
            "A refusal's retry_after is what is left of it."
        )
    points.append(
        "open_for(seconds), as when a server sends Retry-After, opens it for that time, and never "
        "shortens an opening."
    )
    return Section("While it is open", points, [])


def half_open(policy: Policy, rates: tuple[float, ...]) -> Section:
    """Which calls are probes, and what the probes decide."""
    points = how_it_probes(policy)
    bad = simulation.outage(policy)
    limit = simulation.slow_limits(policy)[-1]
    slow = None if limit == simulation.LONG else Call(failed=False, elapsed=limit)
    recovery = None if bad is None else simulation.recovery(policy, bad, slow)
    if recovery is None:
        points.append("No outage that was tried leads there.")
        return Section("Half-open", points, [])
    points += _verdicts(recovery, slow)
    return Section("Half-open", points, _how_soon(policy, recovery, rates))


def how_it_probes(policy: Policy) -> list[str]:
    """Which calls are probes, and by which rule they decide; nothing is simulated for it."""
    return [
        f"Half-open, {policy.permit.describe()}, at most {policy.max_half_open_calls:,} at "
        "once; the others are refused, and nobody queues.",
        f"A probe that takes {seconds(policy.probe_timeout)} or longer gives its slot back "
        "and is ignored.",
        *_rule(policy),
    ]


def _rule(policy: Policy) -> list[str]:
    tripper = policy.half_open
    if tripper is NEVER:
        return [
            "Its tripper has no clause for half-open, so the classic rule holds: a probe that "
            "fails opens it again, one that succeeds closes it."
        ]
    when: list[str] = []
    if tripper.minimums:
        when.append(f"{number(max(tripper.minimums), 'probe')} have ended")
    streaks = [
        each.count for each in simulation.clauses(tripper) if isinstance(each, FailureStreak)
    ]
    if streaks:
        when.append(f"a probe has succeeded or {FailureStreak(max(streaks)).describe()}")
    judged = f"once {listed(when)}" if when else "after each probe"
    return [
        f"It is judged by its probes alone, {judged}: it opens again when "
        f"{tripper.describe()}, and closes if not, whatever the last one was."
    ]


def _verdicts(found: simulation.Recovery, slow: Call | None) -> list[str]:
    points: list[str] = []
    if found.closes is None:
        points.append("Good probes alone don't close it.")
    else:
        forgiven = f", and still if the first {found.forgiven:,} fail" if found.forgiven else ""
        if found.forgiven == found.closes:
            forgiven = ", or as many that fail"
        points.append(f"It closes after {number(found.closes, 'good probe')}{forgiven}.")
    if found.reopens is None:
        points.append("Probes that fail fast don't open it again.")
    else:
        points.append(f"It opens again after {number(found.reopens, 'failed probe')}.")
    if slow is not None:
        ends = {
            State.CLOSED: "close it all the same",
            State.OPEN: "open it again",
            State.HALF_OPEN: "leave it half-open",
        }[found.slow]
        points.append(f"Probes that succeed after {seconds(slow.elapsed)} {ends}.")
    return points


def _how_soon(
    policy: Policy, recovery: simulation.Recovery, rates: tuple[float, ...]
) -> list[Table]:
    """About how long it takes until enough probes have been made to close it."""
    if recovery.closes is None:
        return []
    rows: list[tuple[str, ...]] = []
    for rate in rates:
        time = simulation.time_for(policy, recovery.closes, rate)
        rows.append((traffic(rate), "very long" if time is None else about(time)))
    probes = number(recovery.closes, "probe")
    note = f"How long it takes to get {probes}, on average, if all are quick and good:"
    return [Table(note, ("traffic", "until it closes"), rows)]
