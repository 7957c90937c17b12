"""Grids of policies: settings that vary, as `FailureRate=0.1..0.9/9` says it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

from fluxgate._settings.errors import SettingError, did_you_mean
from fluxgate._values import Binary, Strategy
from fluxgate.policy import Policy
from fluxgate.replay._result import Axis

MAX_CELLS: Final = 10_000
_STRATEGIES: Final = ("window", "tripper", "retry", "permit")
_NUMBERS: Final = ("max_half_open_calls", "probe_timeout")


def axis_of(text: str, policy: Policy) -> Axis:
    """An axis from text: `NAME=FROM..TO/COUNT`, or `NAME=1,2,5`.

    Args:
        text: `NAME` is a clause or strategy (`FailureRate`, `CountWindow`, `Cooldown`), with the
            argument that varies if it isn't the first (`SlowRate.threshold`); or
            `max_half_open_calls` or `probe_timeout`. Arguments that are whole numbers are rounded.
        policy: the policy that it is to be in.

    Raises:
        ConfigError: it can't be read, or the policy has no such setting.
    """
    name, equals, values = (part.strip() for part in text.partition("="))
    if not equals:
        raise SettingError(f"{text!r} is no grid: write FailureRate=0.1..0.9/9", "sweep")
    numbers_there = list(_numbers(policy))
    found = [each for each in numbers_there if name in (each.name, each.short)]
    if not found:
        known = sorted({each.short for each in numbers_there})
        hint = did_you_mean(name, known) or f"; it has {', '.join(known)}"
        raise SettingError(f"{name!r} is no number in this policy{hint}", "sweep")
    numbers = _values(values, text)
    if isinstance(found[0].value, int):
        numbers = [round(number) for number in numbers]
    return Axis(name=found[0].short, values=tuple(sorted(set(numbers))))


def grid(policy: Policy, axes: Iterable[Axis]) -> Iterator[tuple[tuple[int, ...], Policy | str]]:
    """The policies of a grid by their places on the axes; where there is none, the reason.

    The last axis runs fastest.
    """
    listed = list(axes)
    for place in itertools.product(*(range(len(axis.values)) for axis in listed)):
        changes = {axis.name: axis.values[at] for axis, at in zip(listed, place, strict=True)}
        try:
            yield place, changed(policy, changes)
        except (TypeError, ValueError) as error:
            yield place, str(error)


def changed(policy: Policy, numbers: Mapping[str, float]) -> Policy:
    """A policy with other numbers, by the names of axes.

    Raises:
        ValueError: the numbers make no sense, alone or together.
    """
    settings: dict[str, Any] = {
        name: _rebuilt(getattr(policy, name), numbers) for name in _STRATEGIES
    }
    settings |= {name: numbers[name] for name in _NUMBERS if name in numbers}
    return policy.replace(**settings)


def scaled(policy: Policy, ratio: float) -> Policy:
    """A policy for a trace that holds this share of the calls: counts of calls are smaller."""
    counts: dict[str, float] = {
        each.short: max(1, round(each.value * ratio))
        for each in _numbers(policy)
        if each.short in ("MinRequests", "CountWindow")
    }
    return changed(policy, counts) if counts else policy


def has_streak(policy: Policy) -> bool:
    """Whether it looks at calls in a row, which a sample doesn't keep."""
    return any(each.short == "FailureStreak" for each in _numbers(policy))


class _Number(NamedTuple):
    """A number in a policy.

    Attributes:
        name: such as `FailureRate.ratio`, `SlowRate.threshold`, `probe_timeout`.
        short: the same without its argument where that is the first: `FailureRate`.
        value: the number.
    """

    name: str
    short: str
    value: float


def _numbers(policy: Policy) -> Iterator[_Number]:
    """The numbers of a policy."""
    for name in _STRATEGIES:
        pending: list[Strategy] = [getattr(policy, name)]
        while pending:
            strategy = pending.pop()
            if isinstance(strategy, Binary):
                pending += [strategy.left, strategy.right]  # pyright: ignore[reportUnknownMemberType]
                continue
            kind = type(strategy).__name__
            for place, argument in enumerate(strategy.__match_args__):
                value = getattr(strategy, argument)
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    full = f"{kind}.{argument}"
                    yield _Number(full, full if place else kind, value)
    for name in _NUMBERS:
        yield _Number(name, name, getattr(policy, name))


def _rebuilt(strategy: Any, numbers: Mapping[str, float]) -> Any:
    """A strategy with other numbers; itself where none of its numbers is another."""
    if isinstance(strategy, Binary):
        both: Any = strategy  # pyright: ignore[reportUnknownVariableType]
        left, right = _rebuilt(both.left, numbers), _rebuilt(both.right, numbers)
        return left & right if both.symbol == "&" else left | right
    kind = cast("type[Strategy]", type(strategy))
    old = [getattr(strategy, name) for name in kind.__match_args__]
    names = [kind.__name__, *(f"{kind.__name__}.{name}" for name in kind.__match_args__[1:])]
    new = [numbers.get(name, value) for name, value in zip(names, old, strict=False)]
    return strategy if new == old else kind(*new)


def _values(text: str, whole: str) -> list[float]:
    match = re.fullmatch(r"(.+?)\.\.(.+?)/(\d{1,5})", text)
    try:
        if match is None:
            numbers = [float(part) for part in text.split(",")]
        else:
            low, high, count = float(match[1]), float(match[2]), int(match[3])
            if not low < high or count < 2:
                raise SettingError(
                    f"{whole!r}: a range goes from the smaller to the greater number, in 2 or "
                    "more steps",
                    "sweep",
                )
            step = (high - low) / (count - 1)
            # Rounded, so that 0.30000000000000004 is 0.3.
            numbers = [float(f"{low + step * place:.9g}") for place in range(count)]
    except ValueError as error:
        if isinstance(error, SettingError):
            raise
        remedy = "write NAME=FROM..TO/COUNT, such as FailureRate=0.1..0.9/9, or NAME=0.3,0.5"
        raise SettingError(f"{whole!r} has no numbers: {remedy}", "sweep") from error
    if not all(map(math.isfinite, numbers)):
        raise SettingError(f"{whole!r}: numbers must be finite", "sweep")
    return numbers
