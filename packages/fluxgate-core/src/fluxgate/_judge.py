"""What the end of a call says about the dependency. Asked outside any lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fluxgate import _log
from fluxgate._machine import Outcome
from fluxgate.errors import FluxgateError
from fluxgate.policy import Policy


def outcome_of(error: BaseException, policy: Policy, circuit: str) -> Outcome:
    """What an exception that left a protected call counts as.

    Our own errors, another circuit's refusal among them, say nothing about the dependency.
    """
    if not isinstance(error, Exception):
        return Outcome.CANCELLED
    tracks = policy.tracker.tracks
    try:
        if isinstance(error, BaseExceptionGroup):
            tracked = any(tracks(leaf) for leaf in _leaves(error))
        else:
            tracked = not isinstance(error, FluxgateError) and tracks(error)
    except Exception as fault:
        _log.fault(circuit, f"tracker {policy.tracker!r}", fault)
        return Outcome.IGNORED
    return Outcome.FAILURE if tracked else Outcome.IGNORED


def outcome_of_result(result: object, policy: Policy, circuit: str) -> Outcome:
    """What a returned value counts as."""
    assert policy.result_tracker is not None
    try:
        return Outcome.FAILURE if policy.result_tracker(result) else Outcome.SUCCESS
    except Exception as fault:
        _log.fault(circuit, f"result_tracker {policy.result_tracker!r}", fault)
        return Outcome.IGNORED


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[Exception]:
    """The exceptions in a group that a tracker may judge."""
    errors: tuple[BaseException, ...] = group.exceptions
    for error in errors:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(error, Exception) and not isinstance(error, FluxgateError):
            yield error
