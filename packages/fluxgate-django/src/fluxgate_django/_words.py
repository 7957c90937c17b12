# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
"""A policy in plain words, for people who did not write it.

A strategy's repr is the expression that builds it; so that is what is read here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from fluxgate import Policy

__all__ = ["in_words"]


def in_words(policy: Policy) -> dict[str, tuple[str, str]]:
    """What a circuit with that policy does: by what it is about, the expression and a sentence."""
    probes = f"at most {policy.max_half_open_calls} at once, for {policy.probe_timeout:g} s each"
    said = {
        "opens when": _both(policy.tripper, _TRIPPERS),
        "counting": _both(policy.window, _WINDOWS),
        "failures are": _both(policy.tracker, _TRACKERS),
        "stays open": _both(policy.retry, _RETRIES),
        "then admits": _both(policy.permit, _PERMITS),
        "probes": (f"{policy.max_half_open_calls}, {policy.probe_timeout:g} s", probes),
    }
    if policy.result_tracker is not None:
        name = _name(policy.result_tracker)
        said["and results"] = (name, f"those of which {name} says so")
    if policy.shadow is not None:
        said["tries out"] = _both(policy.shadow, _TRIPPERS)
    return said


def _percent(ratio: float) -> str:
    return f"{100 * ratio:g} %"


def _calls(count: int, one: str = "1 ") -> str:
    return f"{one}call" if count == 1 else f"{count} calls"


def _jitter(ratio: float) -> str:
    return f", ± {_percent(ratio)} by chance" if ratio else ""


def _types(*names: str) -> str:
    return f"{' or '.join(names)}, subclasses included"


Words = dict[str, Callable[..., str]]

_TRIPPERS: Words = {
    "Closed": lambda: "it is closed",
    "HalfOpened": lambda: "it is half-open",
    "MinRequests": lambda count: f"there {'is' if count == 1 else 'are'} at least {_calls(count)}",
    "FailureRate": lambda ratio: f"at least {_percent(ratio)} of them failed",
    "SlowRate": lambda ratio, threshold: (
        f"at least {_percent(ratio)} of them took {threshold:g} s or longer"
    ),
    "AvgLatency": lambda threshold: f"they took {threshold:g} s or longer on average",
    "FailureStreak": lambda count: f"the last {_calls(count, '')} failed",
}
_WINDOWS: Words = {
    "CountWindow": lambda size: f"the last {_calls(size, '')}",
    "TimeWindow": lambda size, buckets=None: f"the calls of the last {size:g} s",  # noqa: ARG005
}
_TRACKERS: Words = {
    "All": lambda: "all exceptions",
    "TypeOf": _types,
    "Custom": lambda predicate: f"exceptions of which {predicate} says so",
}
_RETRIES: Words = {
    "Always": lambda: "not at all: the next call is a probe",
    "Never": lambda: "until it is reset",
    "Cooldown": lambda duration, jitter_ratio=0.0: f"{duration:g} s{_jitter(jitter_ratio)}",
    "Backoff": lambda initial, multiplier=2.0, max_duration=300.0, jitter_ratio=0.0: (
        f"{initial:g} s, {multiplier:g} times as long after each failed probe, "
        f"at most {max_duration:g} s{_jitter(jitter_ratio)}"
    ),
}
_PERMITS: Words = {
    "All": lambda: "every call as a probe",
    "Random": lambda share: f"{_percent(share)} of the calls as probes",
    "RampUp": lambda initial, final, duration: (
        f"{_percent(initial)} of the calls as probes, rising to {_percent(final)} "
        f"within {duration:g} s"
    ),
}


def _both(strategy: object, words: Words) -> tuple[str, str]:
    expression = repr(strategy)
    try:
        return expression, _sentence(ast.parse(expression, mode="eval").body, words)
    except (SyntaxError, LookupError, TypeError, ValueError):
        return expression, "a strategy of your own"


def _sentence(node: ast.expr, words: Words, inside: str = "") -> str:
    match node:
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as op, right=right):
            joint = "and" if isinstance(op, ast.BitAnd) else "or"
            both = f"{_sentence(left, words, joint)} {joint} {_sentence(right, words, joint)}"
            return f"({both})" if inside not in ("", joint) else both
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return f"all but ({_sentence(operand, words)})"
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            given = {each.arg: ast.literal_eval(each.value) for each in keywords if each.arg}
            return words[name](*map(ast.literal_eval, args), **given)
        case _:
            raise ValueError(ast.dump(node))


def _name(function: object) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
