"""Decides whether an ended call is a success, a failure, ignored or cancelled.

It runs trackers, which are users' code, so never under the lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from fluxgate import _log
from fluxgate._engine.phase import Cause, label_of
from fluxgate._naming import safe_repr, safe_str
from fluxgate._words import seconds
from fluxgate.errors import FluxgateError
from fluxgate.policy import Policy
from fluxgate.signals import Outcome
from fluxgate.trackers import Tracker

FAILURE = Outcome.FAILURE
_SUCCESS = (Outcome.SUCCESS, None)
_IGNORED = (Outcome.IGNORED, None)
_CANCELLED = (Outcome.CANCELLED, None)

_plain: set[type[BaseException]] = set()
"""Types of errors that are failures wherever all are: during an outage, the same few each time."""
_MOST_PLAIN: Final = 256


def outcome_of(
    error: BaseException, policy: Policy, circuit: str, elapsed: float
) -> tuple[Outcome, Cause | None]:
    """The outcome of a call that raised after `elapsed` seconds, and the cause if it is a failure.

    Our own errors, another circuit's refusal among them, are ignored. The end
    of an iteration is an answer, as a returned value is.
    """
    try:
        if policy.tracks_all and type(error) in _plain:
            return FAILURE, cause_of(error) if policy.error_messages else type(error)
    except Exception:  # somebody else's metaclass can't be hashed
        pass
    if not isinstance(error, Exception):
        limit = policy.cancelled_after
        if limit is None or elapsed < limit or _is_exit(error):
            return _CANCELLED
        return FAILURE, f"cancelled after {seconds(limit)}"
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        return _SUCCESS  # an iterator's answer that there is no more: no tracker is asked
    if policy.healthy is not None:
        found = _unhealthy(error, policy.healthy, circuit)
        if not isinstance(found, Exception):
            return found
        error = found
    tracks = policy.tracker.tracks
    try:
        if isinstance(error, BaseExceptionGroup):
            tracked = next((leaf for leaf in _leaves(error) if tracks(leaf)), None)
            if tracked is None:
                return _IGNORED
            error = tracked
        elif isinstance(error, FluxgateError) or not tracks(error):
            return _IGNORED
    except Exception as fault:
        _log.fault(circuit, f"tracker {safe_repr(policy.tracker)}", fault)
        return _IGNORED
    kind = type(error)
    if policy.tracks_all and len(_plain) < _MOST_PLAIN and not isinstance(error, ExceptionGroup):
        with suppress(Exception):  # as above
            _plain.add(kind)
    cause = cause_of(error) if policy.error_messages else kind  # pyright: ignore[reportUnknownArgumentType]
    return FAILURE, cause


def _is_exit(error: BaseException) -> bool:
    """Whether it ends the program, or a generator, rather than a call that took too long.

    Every other exception that is no `Exception` is a cancellation: asyncio's, trio's, gevent's.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_exit, error.exceptions))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit))


def _unhealthy(
    error: Exception, healthy: Tracker, circuit: str
) -> Exception | tuple[Outcome, None]:
    """The error, or of a group the rest, that `healthy` does not match; else the outcome."""
    is_group = isinstance(error, BaseExceptionGroup)
    leaves = list(_leaves(error)) if isinstance(error, BaseExceptionGroup) else [error]
    if not leaves or (not is_group and isinstance(error, FluxgateError)):
        return _IGNORED
    try:
        others = [leaf for leaf in leaves if not healthy.tracks(leaf)]
    except Exception as fault:
        _log.fault(circuit, f"healthy {safe_repr(healthy)}", fault)
        return _IGNORED
    if not others:
        return _SUCCESS
    return ExceptionGroup("", others) if is_group else error


def cause_of(error: BaseException) -> str:
    """An error's type, and as much of its message as a page can show."""
    label, message = label_of(type(error)), safe_str(error)
    return f"{label}: {message}" if message else label


def outcome_of_result(result: object, policy: Policy, circuit: str) -> Outcome:
    """The outcome of a call that returned `result`."""
    assert policy.result_tracker is not None
    try:
        return Outcome.FAILURE if policy.result_tracker(result) else Outcome.SUCCESS
    except Exception as fault:
        _log.fault(circuit, f"result_tracker {safe_repr(policy.result_tracker)}", fault)
        return Outcome.IGNORED


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[Exception]:
    """The exceptions in a group that a tracker is asked about."""
    errors: tuple[BaseException, ...] = group.exceptions
    for error in errors:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(error, Exception) and not isinstance(error, FluxgateError):
            yield error
