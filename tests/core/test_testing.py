"""The helpers for tests, and the fixtures that pytest makes of them."""

import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fluxgate import CircuitBreaker, State
from fluxgate.permits import Random
from fluxgate.retries import Cooldown
from fluxgate.testing import LoadedDice, ManualClock, RecordedSignals, tripped
from fluxgate.trippers import FailureStreak, MinRequests, SlowRate


def test_a_clock_goes_on_when_told_to_and_never_back() -> None:
    clock = ManualClock(5)
    assert clock() == clock() == 5
    clock.advance(1.5)
    clock.advance(0)
    assert clock() == 6.5
    assert repr(clock) == "ManualClock(6.5)"
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="advance"):
            clock.advance(wrong)
    assert clock() == 6.5
    with pytest.raises(ValueError, match="finite"):
        ManualClock(math.nan)


def test_dice_give_one_number_or_those_in_turn() -> None:
    always = LoadedDice(0.25)
    assert [always(), always(), always.thrown] == [0.25, 0.25, 2]
    dice = LoadedDice([0.1, 0.9])
    assert [dice(), dice()] == [0.1, 0.9]
    with pytest.raises(AssertionError, match=r"LoadedDice\(\[0.1, 0.9\]\) was thrown once more"):
        dice()
    assert dice.thrown == 2


def test_dice_are_loaded_between_throws() -> None:
    always, dice = LoadedDice(0.25), LoadedDice([0.1])
    always.load(0.5, 0.75)
    dice.load(0.9)
    assert [always() for _ in range(3)] == [0.5, 0.75, 0.25]
    assert [dice(), dice(), dice.thrown] == [0.1, 0.9, 2]
    assert repr(dice) == "LoadedDice([0.1, 0.9])"
    with pytest.raises(ValueError, match=r"dice give numbers in \[0, 1\)"):
        dice.load(0.5, 1.0)
    with pytest.raises(AssertionError, match="thrown once more"):
        dice()


@pytest.mark.parametrize("numbers", [1.0, -0.1, [0.5, 1], math.nan])
def test_dice_give_nothing_outside_their_range(numbers: float | list[float]) -> None:
    with pytest.raises(ValueError, match=r"dice give numbers in \[0, 1\)"):
        LoadedDice(numbers)


def test_a_breaker_lives_by_the_clock_and_the_dice() -> None:
    clock, signals = ManualClock(), RecordedSignals()
    breaker = CircuitBreaker(
        "payments",
        tripper=FailureStreak(3),
        retry=Cooldown(30),
        permit=Random(0.5),
        clock=clock,
        dice=LoadedDice([0.7, 0.3]),
        listeners=[signals],
    )
    assert tripped(breaker) is breaker
    clock.advance(29)
    assert breaker.info().retry_after == 1
    clock.advance(1)
    with pytest.raises(Exception, match="half open"):
        breaker.call(int)
    assert breaker.call(int) == 0
    assert signals.moves == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]


def test_signals_are_a_sequence() -> None:
    signals = RecordedSignals()
    breaker = CircuitBreaker("payments", listeners=[signals], tripper=FailureStreak(1))
    assert len(signals) == 0
    assert repr(signals) == "<RecordedSignals: none>"
    breaker.force_open()
    breaker.metrics_only()
    breaker.attempt().fail()  # would open: a signal, and no move
    assert [signal.new_state for signal in signals] == [
        State.FORCED_OPEN,
        State.METRICS_ONLY,
        State.METRICS_ONLY,
    ]
    assert signals[0].reason.clause == "force_open()"
    assert signals[-1] in signals
    assert signals[1:] == list(signals)[1:]
    assert signals.moves == [("closed", "forced_open"), ("forced_open", "metrics_only")]
    assert repr(signals).startswith("<RecordedSignals: closed -> forced_open, ")
    signals.clear()
    assert signals.moves == list(signals) == []


def test_tripped_leaves_a_breaker_as_an_outage_would() -> None:
    breaker = tripped(CircuitBreaker("payments", tripper=MinRequests(7) & FailureStreak(3)))
    assert breaker.state is State.OPEN
    assert breaker.info().totals.failures == 7
    assert breaker.info().last_trip.clause == "FailureStreak(3)"


def test_tripped_says_why_it_can_not_be_done() -> None:
    with pytest.raises(AssertionError, match=r"5 failures did not open .* tripper is SlowRate"):
        tripped(CircuitBreaker("payments", tripper=SlowRate(0.5, 1e6)), most=5)
    with pytest.raises(AssertionError, match="is not closed"):
        tripped(CircuitBreaker("payments", initial_state="metrics_only"))


def test_the_helpers_need_no_pytest() -> None:
    code = "import fluxgate.testing, sys; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


TESTS = """
    import pytest
    from fluxgate import AsyncCircuitBreaker, CircuitBreaker
    from fluxgate.retries import Cooldown
    from fluxgate.testing import LoadedDice, tripped
    from fluxgate.trippers import FailureStreak

    def test_bound(fluxgate_breaker, fluxgate_clock, fluxgate_dice, fluxgate_signals):
        heard = []
        breaker = fluxgate_breaker(
            "payments",
            tripper=FailureStreak(3),
            retry=Cooldown(30, 0.5),
            listeners=[heard.append],
        )
        assert type(breaker) is CircuitBreaker and breaker.name == "payments"
        tripped(breaker)
        assert breaker.info().retry_after == 15
        assert fluxgate_dice.thrown == 1
        fluxgate_clock.advance(15)
        assert breaker.call(int) == 0
        assert fluxgate_signals.moves[-1] == ("half_open", "closed")
        assert heard == list(fluxgate_signals)

    def test_afresh(fluxgate_breaker, fluxgate_clock, fluxgate_signals):
        assert fluxgate_clock() == 0 and not fluxgate_signals
        assert type(fluxgate_breaker(asynchronous=True)) is AsyncCircuitBreaker

    class TestOverridden:
        @pytest.fixture
        def fluxgate_dice(self):
            return LoadedDice(0.5)

        def test_dice(self, fluxgate_breaker):
            assert tripped(fluxgate_breaker(retry=Cooldown(30, 0.5))).info().retry_after == 30
"""


def test_the_fixtures_are_there_for_whoever_opts_in(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(textwrap.dedent(TESTS))
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*pytest_here, *options],
            cwd=tmp_path,
            env=alone,
            capture_output=True,
            text=True,
            check=False,
        )

    opted_in = run("-p", "fluxgate.pytest_plugin")
    assert "3 passed" in opted_in.stdout, opted_in.stdout + opted_in.stderr
    assert "fixture 'fluxgate_breaker' not found" in run().stdout
