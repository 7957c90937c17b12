"""The legend of a diagram: what causes each event, in general or under one policy."""

from __future__ import annotations

import math

from fluxgate._engine.transitions import Event
from fluxgate._naming import safe_repr
from fluxgate.cli._states import OPEN_FOR, OWN
from fluxgate.policy import Policy
from fluxgate.trippers import NEVER


def legend(policy: Policy | None) -> dict[Event, str]:
    """The cause of each event that is not a control."""
    if policy is None:
        return {**OWN, Event.OPEN_FOR: OPEN_FOR}
    if policy.half_open is NEVER:
        tripped = f"{safe_repr(policy.closed)} fires; half-open: a probe fails"
        recovered = "a probe succeeds"
    else:
        tripped, recovered = f"{safe_repr(policy.tripper)} fires", OWN[Event.RECOVERED]
    delay = policy.retry.describe()
    cooled = "never" if never_cools(policy) else f"the first call after {delay}"
    return {
        Event.TRIPPED: tripped,
        Event.COOLED: cooled,
        Event.RECOVERED: recovered,
        Event.OPEN_FOR: OPEN_FOR,
    }


def never_cools(policy: Policy | None) -> bool:
    """Whether an open circuit of that policy never probes."""
    return policy is not None and policy.retry.openings()[0] == math.inf
