"""Whatever the input, the readers give a value or the documented error; the short form.

Hypothesis makes the bytes here: random ones, and seeds in which some are otherwise. The session
`prove-fuzz` has atheris make them, led by coverage.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .every import FAULTY, TARGETS
from .growing import growth, lines
from .targets import Target, end

pytestmark = pytest.mark.slow

SLOW = {
    *("environment", "foreign_fleet", "recorded_bytes", "redis_contents", "saved_state"),
    *("sqlite_rows", "stored_text"),
}
"""Targets whose runs take milliseconds; those of `arguments` take hundreds."""


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """No logs, of which thousands of lines would be kept for a report; and nothing that stays."""
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        end()


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Bytes: any, or a seed in which a part is otherwise."""
    random_bytes = st.binary(max_size=120)
    if not target.seeds:
        return random_bytes

    def changed(seed: bytes, at: int, dropped: int, put: bytes) -> bytes:
        at %= len(seed) + 1
        return seed[:at] + put + seed[at + dropped :]

    numbers = st.integers(0, 600)
    around = st.builds(
        changed, st.sampled_from(target.seeds), numbers, st.integers(0, 8), st.binary(max_size=12)
    )
    return random_bytes | around


def run(target: Target, count: int) -> None:
    @given(inputs(target))
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def fuzzed(data: bytes) -> None:
        target(data)

    for seed in target.seeds:
        target(seed)
    fuzzed()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_any_input(name: str) -> None:
    run(TARGETS[name], 3 if name == "arguments" else 12 if name in SLOW else 80)


def test_a_planted_fault_is_found() -> None:
    with pytest.raises((KeyError, ValueError)):
        run(FAULTY["wrong_error"], 500)


GROWN = sorted(name for name, target in TARGETS.items() if target.grown is not None)


@pytest.mark.parametrize("name", GROWN)
def test_twice_as_much(name: str) -> None:
    target, chance = TARGETS[name], random.Random(name)
    assert target.grown is not None
    pieces = target.grown.pieces
    for _ in range(1 if name == "toml" else 2):  # all of whose parser is traced
        piece = "".join(chance.choices(pieces, k=2))
        recipe = (chance.choice(pieces), piece, chance.choice(pieces))
        found = growth(target, recipe, cost=lines, least=200, most=1_000)
        assert found is None, str(found)


def test_planted_growth_is_found() -> None:
    target = FAULTY["too_slow"]

    def count(_: object, text: str) -> float:  # `str.count` hides its steps from Python
        return float(sum(len(text) - at for at, each in enumerate(text) if each == "["))

    found = growth(target, ("", "[]", ""), cost=count, least=500, most=10_000)
    assert found is not None
    assert found.cost[1] > 3 * found.cost[0]
