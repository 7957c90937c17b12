"""A search for what takes more than its share: input that is doubled, and the time that it takes.

A parser that goes back to the beginning for each piece takes four times as long for twice as much.
Time is measured in processor time of this process, several times over, in the long form alone; the
tests count lines of Python instead, which a busy machine doesn't change.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any, Final, NamedTuple

from .targets import Target

SIZES: Final = tuple(4**power for power in range(1, 10))
"""Pieces in an input, one size after the other."""
SHORT: Final = 0.01
"""Seconds that say nothing yet."""
LONG: Final = 0.5
"""Seconds from which on there is no larger size."""
FACTOR: Final = 3.0
"""How many times as long twice as much takes, for it to be more than its share."""


class Growth(NamedTuple):
    """How the cost of an input grows.

    Attributes:
        recipe: before, piece, after.
        size: the pieces of the smaller one of two inputs.
        cost: the costs of both: the second has twice as many pieces.
    """

    recipe: tuple[str, str, str]
    size: int
    cost: tuple[float, float]

    def __str__(self) -> str:
        before, piece, after = (repr(each)[:40] for each in self.recipe)
        factor = self.cost[1] / self.cost[0]
        return f"{before} + {piece} * {self.size} + {after}: twice as much costs {factor:.1f} times"


Cost = Callable[[Callable[[str], object], str], float]


def seconds(make: Callable[[str], object], text: str) -> float:
    """Processor time; the least of three, if they are short."""
    least = float("inf")
    for _ in range(3):
        began = time.process_time()
        make(text)
        least = min(least, time.process_time() - began)
        if least > LONG / 4:
            break
    return least


def lines(make: Callable[[str], object], text: str) -> float:
    """Lines of Python that run."""
    count = 0

    def traced(_: FrameType, event: str, __: object) -> Any:
        nonlocal count
        count += event == "line"
        return traced

    before = sys.gettrace()
    sys.settrace(traced)
    try:
        make(text)
    finally:
        sys.settrace(before)
    return float(count)


def growth(
    target: Target, recipe: tuple[str, str, str], *, cost: Cost, least: float, most: float
) -> Growth | None:
    """The first doubling of an input that costs more than its share twice over; None if none does.

    Args:
        target: what is measured.
        recipe: before, piece, after.
        cost: what is counted.
        least: a cost that says nothing yet.
        most: a cost from which on there is no larger size.
    """
    assert target.grown is not None
    make = target.grown.make
    before, piece, after = recipe

    def of(count: int) -> float:
        return cost(make, before + piece * count + after)

    for size in SIZES:
        smaller = of(size)
        if smaller < least:
            continue
        larger = of(2 * size)
        if _grows(smaller, larger, of(4 * size)) and _grows(*map(of, (size, 2 * size, 4 * size))):
            return Growth(recipe, size, (smaller, larger))
        if larger > most:
            break
    return None


def _grows(*costs: float) -> bool:
    return all(larger > FACTOR * smaller for smaller, larger in pairwise(costs))


def search(target: Target, duration: float, chance: random.Random) -> tuple[int, Growth | None]:
    """How many recipes were tried in so many seconds, and the first that costs too much."""
    assert target.grown is not None
    pieces = target.grown.pieces
    tried, ends = 0, time.monotonic() + duration
    while time.monotonic() < ends:
        recipe = (
            "".join(chance.choices(pieces, k=chance.randint(0, 3))),
            "".join(chance.choices(pieces, k=chance.randint(1, 3))),
            "".join(chance.choices(pieces, k=chance.randint(0, 2))),
        )
        tried += 1
        found = growth(target, recipe, cost=seconds, least=SHORT, most=LONG)
        if found is not None:
            return tried, found
    return tried, None
