"""Reasons in sentences: `58 % of the last 100 calls failed (limit 50 %)`.

A clause is read like any tripper of the settings. Whatever can't be, such as a tripper of the
user's own, is shown as it is.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from fluxgate import trippers, windows
from fluxgate._settings.errors import SettingError
from fluxgate._settings.expression import read
from fluxgate._values import Binary
from fluxgate._words import percent
from fluxgate.console._markup import percent as share_in_words
from fluxgate.console._names import measurement, shown
from fluxgate.console._words import Words
from fluxgate.fleet._by_hand import ACTIONS
from fluxgate.signals import Reason

COOLED: Final = "cooldown over"
"""The clause of a circuit that probes because its time is over."""
_EVENTS: Final = {
    "probe failed": "probe_failed",
    "probe succeeded": "probe_succeeded",
    "probes succeeded": "probes_succeeded",
    COOLED: "cooldown_over",
    "update()": "updated",
    "fleet": "moved",
    "unknown": "unknown",
}
_CONTROLS: Final = {f"{action}()": action for action in ACTIONS}


def sentence(reason: Reason, say: Words, *, probes: bool = False, said: bool = True) -> str:
    """A reason as a printable sentence of a language, not yet escaped.

    Args:
        reason: the reason.
        say: the words of the language.
        probes: whether its calls were probes of a half-open circuit.
        said: whether it ends with who did it, and why.
    """
    found = shown(_sentence(reason, say, probes) or measurement(reason))
    if said and reason.by is not None:
        found = say("said_by", sentence=found, by=shown(reason.by))
    if said and reason.note is not None:
        found = say("said_why", sentence=found, note=shown(reason.note))
    return found


def _sentence(reason: Reason, say: Words, probes: bool) -> str | None:
    clause = reason.clause
    if (event := _EVENTS.get(clause)) is not None:
        return say(event)
    if clause.startswith("initial_state="):
        return say("began")
    if (action := _CONTROLS.get(clause.removesuffix(" over"))) is not None:
        if clause.endswith(" over"):
            return say("did_over", control=say.action(action))
        did, seconds = say(f"did_{action}"), _finite(reason.measured)
        return did if seconds is None else say("did_for", did=did, time=say.seconds(seconds))
    tripper = _read("tripper", clause)
    if not isinstance(tripper, trippers.Tripper):
        return None
    measured = _finite(reason.measured)
    if measured is not None and reason.calls is not None:
        calls = _calls(reason.calls, reason.window, say, probes)
        if (found := _measured(tripper, measured, reason.calls, calls, say)) is not None:
            return found
    return _limit(tripper, say)


def _measured(
    tripper: trippers.Tripper, measured: float, count: int, calls: str, say: Words
) -> str | None:
    """The measurement against the limit of a tripper; None of one that has no single number."""
    match tripper:
        case trippers.FailureRate(ratio):
            return say(
                "why_failed", calls=calls, share=share_in_words(measured), limit=percent(ratio)
            )
        case trippers.SlowRate(ratio, threshold):
            return say(
                "why_slow",
                calls=calls,
                share=share_in_words(measured),
                time=say.seconds(threshold),
                limit=percent(ratio),
            )
        case trippers.AvgLatency(threshold):
            mean, limit = say.seconds(measured), say.seconds(threshold)
            return say("why_latency", calls=calls, time=mean, limit=limit)
        case trippers.FailureStreak(limit):
            return say("why_streak", n=int(measured), limit=f"{limit:,}")
        case trippers.MinRequests(limit):
            return say("why_requests", n=count, limit=f"{limit:,}")
        case _:
            return None


def _limit(tripper: trippers.Tripper | Binary[trippers.Tripper], say: Words) -> str | None:
    """When a tripper opens a circuit; in English as its `describe()` has it."""
    match tripper:
        case trippers.FailureRate(ratio):
            return say("limit_failed", limit=percent(ratio))
        case trippers.SlowRate(ratio, threshold):
            return say("limit_slow", limit=percent(ratio), time=say.seconds(threshold))
        case trippers.AvgLatency(threshold):
            return say("limit_latency", limit=say.seconds(threshold))
        case trippers.FailureStreak(count):
            return say("limit_streak", n=count)
        case trippers.MinRequests(count):
            return say("limit_requests", n=count)
        case trippers.Closed():
            return say("limit_closed")
        case trippers.HalfOpened():
            return say("limit_half_open")
        case Binary(left, right):
            parts = (_operand(left, tripper, say), _operand(right, tripper, say))
            if parts[0] is None or parts[1] is None:
                return None
            key = "both" if tripper.symbol == "&" else "either"
            return say(key, left=parts[0], right=parts[1])
        case _:
            return None


def _operand(part: object, whole: Binary[trippers.Tripper], say: Words) -> str | None:
    """The words of a part, in brackets where another word joins it than the one around it."""
    found = _limit(part, say) if isinstance(part, trippers.Tripper) else None
    if found is not None and isinstance(part, Binary) and part.symbol != whole.symbol:
        return f"({found})"
    return found


def _calls(count: int, window: str | None, say: Words, probes: bool) -> str:
    if probes:
        return say("calls_probes", n=count)
    match _read("window", window or ""):
        case windows.CountWindow():
            return say("calls_last", n=count)
        case windows.TimeWindow(size):
            return say("calls_within", n=count, time=say.seconds(size))
        case _:
            return say("calls_counted", n=count)


def _finite(value: float | None) -> float | None:
    """A number that can be put into words; whatever else a store may hold is None."""
    return value if value is not None and math.isfinite(value) and value >= 0 else None


@lru_cache(maxsize=1_000)
def _read(kind: str, text: str) -> object:
    """The strategy of an expression; None where it is of no class of ours. Nothing is imported."""
    try:
        return read("window" if kind == "window" else "tripper", text)
    except SettingError:
        return None
