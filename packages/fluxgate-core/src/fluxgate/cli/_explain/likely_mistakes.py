"""Warnings about settings that are likely to be mistakes."""

from __future__ import annotations

import math
from itertools import repeat

from fluxgate._naming import safe_repr
from fluxgate._words import number, seconds
from fluxgate.cli._explain import simulation
from fluxgate.cli._explain.simulation import BAD, GOOD
from fluxgate.policy import Policy

_NEARLY = 0.8
_MANY = 500


def likely_mistakes(policy: Policy) -> list[str]:
    """The warnings, each with its remedy."""
    return [*_too_quick(policy), *_too_late(policy), *_opening(policy), *_probing(policy)]


def _too_quick(policy: Policy) -> list[str]:
    if simulation.opens_after(policy, repeat(GOOD)) is not None:
        return ["Good calls open it, with nothing bad among them."]
    if simulation.opens_after(policy, repeat(BAD)) != 1:
        return []
    return [
        "A single failure opens it, if it is the first call: after the start, after each "
        "recovery, and after each quiet spell of a TimeWindow. Join MinRequests(10) with &."
    ]


def _too_late(policy: Policy) -> list[str]:
    found: list[str] = []
    if simulation.wanted(policy) > simulation.MOST:
        found.append(
            f"It takes more than {simulation.MOST:,} calls to try all of it. Where this says that "
            'it stays closed, or "never", it may do so later.'
        )
    if simulation.outage(policy) is None:
        return [*found, "Nothing that was tried opens it: neither failing calls nor slow ones."]
    capacity = policy.window.capacity
    if capacity is None:
        return found
    needed = simulation.opens_after(policy, repeat(simulation.worst(policy))) or 0
    if needed in policy.closed.minimums and needed > max(_NEARLY * capacity, 1):
        found.append(
            f"MinRequests({needed}) nearly fills {safe_repr(policy.window)}: for that many calls "
            "after the start and after each recovery it can't open. Lower the one, or enlarge the "
            "other."
        )
    warm = simulation.opens_after(policy, repeat(BAD), warm=min(capacity, simulation.MOST))
    if warm is not None and warm >= _MANY:
        found.append(
            f"After a window of good calls it takes {number(warm, 'failure')} in a row to "
            "open it: a smaller window sees an outage sooner."
        )
    return found


def _opening(policy: Policy) -> list[str]:
    first = policy.retry.openings()[0]
    if first == math.inf:
        return ["It never probes: once open, it stays so until somebody calls reset()."]
    if first == 0:
        return ["It probes with the very next call: an open circuit hardly refuses anybody."]
    if not policy.retry.jitter_ratio:
        return [
            "Processes that open together probe together: jitter_ratio=0.1 in its retry strategy "
            "spreads them."
        ]
    return []


def _probing(policy: Policy) -> list[str]:
    slow = max(simulation.slow_limits(policy), default=0.0)
    if slow == simulation.LONG or slow < policy.probe_timeout:
        return []
    return [
        f"A probe that takes {seconds(slow)}, which is slow, has outlasted "
        f"probe_timeout={policy.probe_timeout:g} by then and is ignored: slow probes never count. "
        "Raise probe_timeout above it."
    ]
