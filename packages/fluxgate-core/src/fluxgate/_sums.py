"""Lifetime counts added up, and what can be counted under a policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from fluxgate.metric import Totals
from fluxgate.policy import Policy
from fluxgate.trippers import NEVER, Tripper, _Both

Key = TypeVar("Key")


def add(one: Totals, other: Totals) -> Totals:
    """The counts of two circuits together.

    Of two histograms, the bounds that both have are kept, where nothing has to be guessed.
    """
    return Totals(
        successes=one.successes + other.successes,
        failures=one.failures + other.failures,
        ignored=one.ignored + other.ignored,
        cancelled=one.cancelled + other.cancelled,
        stale=one.stale + other.stale,
        rejected=one.rejected + other.rejected,
        slow=_add_by_key(one.slow, other.slow),
        duration=one.duration + other.duration,
        trips=_add_by_key(one.trips, other.trips),
        histogram=_add_histograms(one.histogram, other.histogram),
    )


def _add_by_key(one: Mapping[Key, int], other: Mapping[Key, int]) -> dict[Key, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in (*one, *other)}


def _add_histograms(one: Mapping[float, int], other: Mapping[float, int]) -> Mapping[float, int]:
    if not one or not other:  # a circuit without `buckets` has no say
        return one or other
    return {bound: count + other[bound] for bound, count in one.items() if bound in other}


def complete(totals: Totals, thresholds: Iterable[float], trips: Mapping[str, int]) -> Totals:
    """The same counts with a 0 for each threshold that no call has reached, and these trips."""
    slow = {**dict.fromkeys(thresholds, 0), **totals.slow}
    changed: dict[str, Any] = {**vars(totals), "slow": slow, "trips": trips}
    return Totals(**changed)


def clauses(policy: Policy) -> tuple[str, ...]:
    """The clauses that an opening can be counted by; a tripper of the user's may name more."""
    closed = _telling(policy.closed)
    half_open = ("probe failed",) if policy.half_open is NEVER else _telling(policy.half_open)
    return tuple(dict.fromkeys((*closed, *half_open, "open_for()")))


def _telling(tripper: Tripper) -> Iterator[str]:
    """The clauses that a tripper can name when it is asked why it fired."""
    if not isinstance(tripper, _Both):
        yield repr(tripper)
    elif tripper.symbol == "&":
        yield from _telling(tripper.right if tripper.left.fires_on_success else tripper.left)
    else:
        yield from _telling(tripper.left)
        yield from _telling(tripper.right)
