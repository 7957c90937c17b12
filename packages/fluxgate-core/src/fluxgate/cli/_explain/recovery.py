"""What a policy does once its circuit has opened."""

from __future__ import annotations

import math

from fluxgate.cli import _words as words
from fluxgate.cli._explain import trials
from fluxgate.cli._explain.report import Section, Table
from fluxgate.cli._explain.trials import Call
from fluxgate.policy import Policy
from fluxgate.state import State
from fluxgate.trippers import NEVER, FailureStreak


def while_open(policy: Policy) -> Section:
    """How long calls are refused."""
    points = [f"It stays open {words.opening(policy)}."]
    if words.openings(policy)[0] < math.inf:
        points.append(
            "It does not turn half-open by itself: the first call after that time probes. "
            "A refusal's retry_after is what is left of it."
        )
    points.append(
        "open_for(seconds), as when a server sends Retry-After, opens it for that time, and never "
        "shortens an opening."
    )
    return Section("While it is open", points, [])


def half_open(policy: Policy, rates: tuple[float, ...]) -> Section:
    """Who probes, and what the probes decide."""
    points = [
        f"Half-open, {words.permit(policy.permit)}, at most {policy.max_half_open_calls:,} at "
        "once; the others are refused, and nobody queues.",
        f"A probe that takes {words.seconds(policy.probe_timeout)} or longer gives its slot back "
        "and is ignored.",
        *_rule(policy),
    ]
    bad = trials.outage(policy)
    limit = trials.slow_limits(policy)[-1]
    slow = None if limit == trials.LONG else Call(failed=False, elapsed=limit)
    recovery = None if bad is None else trials.recovery(policy, bad, slow)
    if recovery is None:
        points.append("It never gets there by itself.")
        return Section("Half-open", points, [])
    points += _verdicts(recovery, slow)
    return Section("Half-open", points, _how_soon(policy, recovery, rates))


def _rule(policy: Policy) -> list[str]:
    tripper = policy.half_open
    if tripper is NEVER:
        return [
            "Its tripper says nothing when half-open, so the classic rule holds: a probe that "
            "fails opens it again, one that succeeds closes it."
        ]
    when: list[str] = []
    if tripper.minimums:
        when.append(f"{words.number(max(tripper.minimums), 'probe')} have ended")
    streaks = [each.count for each in trials.clauses(tripper) if isinstance(each, FailureStreak)]
    if streaks:
        when.append(f"a probe has succeeded or {words.last_failed(max(streaks))}")
    judged = f"once {words.listed(when)}" if when else "after each probe"
    return [
        f"It is judged by its probes alone, {judged}: it opens again when "
        f"{words.condition(tripper)}, and closes if not, whatever the last one was."
    ]


def _verdicts(found: trials.Recovery, slow: Call | None) -> list[str]:
    points: list[str] = []
    if found.closes is None:
        points.append("Good probes alone don't close it.")
    else:
        forgiven = f", and still if the first {found.forgiven:,} fail" if found.forgiven else ""
        if found.forgiven == found.closes:
            forgiven = ", or as many that fail"
        points.append(f"It closes after {words.number(found.closes, 'good probe')}{forgiven}.")
    if found.reopens is None:
        points.append("Probes that fail fast don't open it again.")
    else:
        points.append(f"It opens again after {words.number(found.reopens, 'failed probe')}.")
    if slow is not None:
        ends = {
            State.CLOSED: "close it all the same",
            State.OPEN: "open it again",
            State.HALF_OPEN: "leave it half-open",
        }[found.slow]
        points.append(f"Probes that succeed after {words.seconds(slow.elapsed)} {ends}.")
    return points


def _how_soon(policy: Policy, recovery: trials.Recovery, rates: tuple[float, ...]) -> list[Table]:
    """About how long it takes to get the probes that close it."""
    if recovery.closes is None:
        return []
    rows: list[tuple[str, ...]] = []
    for rate in rates:
        time = trials.time_for(policy, recovery.closes, rate)
        rows.append((words.traffic(rate), "very long" if time is None else words.about(time)))
    probes = words.number(recovery.closes, "probe")
    note = f"How long it takes to get {probes}, on average, if all are quick and good:"
    return [Table(note, ("traffic", "until it closes"), rows)]
