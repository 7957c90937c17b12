"""Blind spots: trouble that a policy does not react to."""

from __future__ import annotations

import math
from itertools import repeat

from fluxgate import trackers
from fluxgate._words import number, seconds
from fluxgate.cli._explain import simulation
from fluxgate.cli._explain.simulation import BAD, Call
from fluxgate.cli._words import traffic
from fluxgate.policy import Policy
from fluxgate.windows import TimeWindow

Shares = tuple[tuple[int, int], ...]


def blind_spots(policy: Policy, shares: Shares) -> list[str]:
    """The blind spots, a sentence each; those that can be simulated have been."""
    return [
        *_failures(policy, shares),
        *_slow_calls(policy),
        *_little_traffic(policy),
        *_errors(policy),
        "Calls that hang: a call counts when it ends. Give the client a time-out of its own, "
        "inside the protected call; one around it cancels, and a cancelled call proves nothing.",
        "Other processes: each judges by its own calls, unless they share their state.",
    ]


def _failures(policy: Policy, shares: Shares) -> list[str]:
    if simulation.opens_after(policy, repeat(BAD)) is None:
        return ["Failures: calls that fail fast never open it, not even if all of them do."]
    unseen = [
        share
        for share in shares
        if not simulation.opens_after(policy, simulation.mixed(BAD, share))
    ]
    if not unseen:
        return []
    some, of = max(unseen, key=lambda share: share[0] / share[1])
    return [
        f"Fewer failures: if {some} in {of} calls fail{'s' * (some == 1)}, evenly spread, "
        "it stays closed."
    ]


def _slow_calls(policy: Policy) -> list[str]:
    limit = simulation.slow_limits(policy)[-1]
    if simulation.opens_after(policy, repeat(Call(failed=False, elapsed=limit))) is not None:
        return []
    return [
        "Slowness: calls that succeed never open it, however long they take. "
        f"SlowRate(0.3, 1.0) or AvgLatency(1.0) would see it (tried with {seconds(limit)})."
    ]


def _little_traffic(policy: Policy) -> list[str]:
    window = policy.window
    if not isinstance(window, TimeWindow):
        return [
            "Age: the window forgets by calls, not by time. With little traffic, failures of "
            "hours ago still count, and an outage takes long to show (see the traffic table)."
        ]
    worst = simulation.worst(policy)
    needed = simulation.opens_after(policy, repeat(worst))
    if needed is None or needed < 2:
        return []
    rate = 0.99 * (needed - 1) / window.size  # fewer, and not by a rounding error alone
    if simulation.outage_lasts(policy, worst, rate, warm=False) != math.inf:
        return []  # such as a streak, which goes on beyond the window
    return [
        f"Little traffic: with fewer than {number(needed, 'call')} in "
        f"{seconds(window.size)} (about {traffic(needed / window.size)}) it can't "
        "open, however bad they are."
    ]


def _errors(policy: Policy) -> list[str]:
    points: list[str] = []
    if policy.tracker != trackers.All():
        points.append(
            f"Other exceptions: failures are exceptions that are {policy.tracker.describe()}. A "
            "call that raises anything else is ignored: neither a failure nor a success."
        )
    if policy.result_tracker is None:
        points.append(
            "Errors that are returned and not raised, such as a response with status 500: "
            "to the core they are successes, unless result_tracker= says otherwise."
        )
    return points
