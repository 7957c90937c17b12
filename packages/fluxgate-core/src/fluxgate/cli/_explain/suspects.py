"""What in a policy is likely to be a mistake."""

from __future__ import annotations

import math
from itertools import repeat

from fluxgate.cli import _words as words
from fluxgate.cli._explain import trials
from fluxgate.cli._explain.trials import BAD, GOOD
from fluxgate.policy import Policy

_NEARLY = 0.8
_MANY = 500


def suspects(policy: Policy) -> list[str]:
    """Each with its remedy."""
    return [*_too_quick(policy), *_too_late(policy), *_opening(policy), *_probing(policy)]


def _too_quick(policy: Policy) -> list[str]:
    if trials.opens_after(policy, repeat(GOOD)) is not None:
        return ["Good calls open it, with nothing bad among them."]
    if trials.opens_after(policy, repeat(BAD)) != 1:
        return []
    return [
        "A single failure opens it, if it is the first call: after the start, after each "
        "recovery, and after each quiet spell of a TimeWindow. Join MinRequests(10) with &."
    ]


def _too_late(policy: Policy) -> list[str]:
    found: list[str] = []
    if trials.wanted(policy) > trials.MOST:
        found.append(
            f"It takes more than {trials.MOST:,} calls to try all of it. Where this says that it "
            'stays closed, or "never", it may do so later.'
        )
    if trials.outage(policy) is None:
        return [*found, "Nothing that was tried opens it: neither failing calls nor slow ones."]
    capacity = policy.window.capacity
    if capacity is None:
        return found
    needed = trials.opens_after(policy, repeat(trials.worst(policy))) or 0
    if needed in policy.closed.minimums and needed > max(_NEARLY * capacity, 1):
        found.append(
            f"MinRequests({needed}) nearly fills {policy.window!r}: for that many calls after the "
            "start and after each recovery it can't open. Lower the one, or enlarge the other."
        )
    warm = trials.opens_after(policy, repeat(BAD), warm=min(capacity, trials.MOST))
    if warm is not None and warm >= _MANY:
        found.append(
            f"After a window of good calls it takes {words.number(warm, 'failure')} in a row to "
            "open it: a smaller window sees an outage sooner."
        )
    return found


def _opening(policy: Policy) -> list[str]:
    first = words.openings(policy)[0]
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
    slow = max(trials.slow_limits(policy), default=0.0)
    if slow == trials.LONG or slow < policy.probe_timeout:
        return []
    return [
        f"A probe that takes {words.seconds(slow)}, which is slow, has outlasted "
        f"probe_timeout={policy.probe_timeout:g} by then and is ignored: slow probes never count. "
        "Raise probe_timeout above it."
    ]
