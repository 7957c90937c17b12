"""`sweep()`: grids, the Pareto front, and what is recommended."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fluxgate import ConfigError, Policy, config
from fluxgate.policy import DEFAULT
from fluxgate.replay import Advice, SweepResult, Trace, _sweep, sweep
from fluxgate.replay._grid import axis_of, changed, scaled
from fluxgate.trippers import FailureStreak


def noisy(outages: Sequence[tuple[int, int]], seconds: int = 9000) -> Trace:
    """Five calls a second, 2 % of them failing, and 60 % in an outage."""
    rng = random.Random(2)
    now, rows = 0.0, []
    while now < seconds:
        now += rng.expovariate(5)
        share = 0.6 if any(begin <= now < end for begin, end in outages) else 0.02
        rows.append((now, 0.0625, rng.random() < share))
    return Trace.from_rows(rows)


OUTAGES = [(1000, 1200), (4000, 4300), (7000, 7200)]


@pytest.fixture(scope="module")
def result() -> SweepResult:
    return sweep(noisy(OUTAGES), ["FailureRate=0.1..0.9/5", "MinRequests=2,10,40"], outages=OUTAGES)


def test_the_grid(result: SweepResult) -> None:
    assert [axis.values for axis in result.axes] == [(0.1, 0.3, 0.5, 0.7, 0.9), (2, 10, 40)]
    assert [cell.place for cell in result.cells[:4]] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert result.cells[3].result.settings["tripper"] == "MinRequests(2) & FailureRate(0.3)"


def test_nothing_dominates_the_front(result: SweepResult) -> None:
    fitted = [cell.fitted for cell in result.front]
    assert fitted
    assert not any(_sweep._dominates(a, b) for a in fitted for b in fitted)
    for cell in result.cells:
        if not cell.on_front:
            assert any(_sweep._dominates(better, cell.fitted) for better in fitted)


def test_a_policy_must_hold(result: SweepResult) -> None:
    """One that opens falsely again and again on the last third isn't recommended."""
    cell = result.front[0]
    calm, noisy_end = (
        replace(cell, held_out=replace(cell.held_out, false_openings=count)) for count in (0, 9)
    )
    assert _sweep._holds(calm, 0)
    assert not _sweep._holds(noisy_end, 0)
    blind = replace(cell, held_out=replace(cell.held_out, outages_missed=1))
    assert not _sweep._holds(blind, 0)
    assert _sweep._holds(blind, 1)


def test_parts_add_up(result: SweepResult) -> None:
    for cell in result.cells:
        for name in ("opened", "refused", "bad_spared", "good_refused", "outages_seen"):
            parts = getattr(cell.fitted, name) + getattr(cell.held_out, name)
            assert parts == getattr(cell.result, name)


def test_recommendations(result: SweepResult) -> None:
    assert result.advice is Advice.RECOMMENDED
    assert 1 <= len(result.recommendations) <= 3
    for each in result.recommendations:
        assert each.cell.on_front
        assert each.cell.held_out.outages_missed == 0
        assert any("last third" in reason for reason in each.reasons)
        assert 1 <= len(each.steps) <= 4
        tripper = each.cell.result.settings["tripper"]
        assert repr(config.parse("tripper", tripper)) == tripper
    json.dumps(result.as_json(), allow_nan=False)


def test_one_policy_on_the_front() -> None:
    """Numbers and verbs agree."""
    answer = sweep(noisy(OUTAGES), "FailureStreak=5", base="FailureStreak(900)", outages=OUTAGES)
    assert "Of 1 policy, 1 is on the front (" in answer.why
    assert "and 1 of these holds on the last third." in answer.why


def test_processes_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sweep, "WORTH_A_PROCESS", 0)
    trace = noisy([(100, 200)], 600)
    assert sweep(trace, "FailureRate=0.2,0.5", processes=2) == sweep(trace, "FailureRate=0.2,0.5")


def test_yours_is_best() -> None:
    best = sweep(noisy(OUTAGES), "FailureStreak=2..20/10", base="FailureStreak(5)", outages=OUTAGES)
    chosen = best.recommendations[0].cell.result.settings["tripper"]
    again = sweep(noisy(OUTAGES), "FailureStreak=30..40/3", base=chosen, outages=OUTAGES)
    assert again.advice is Advice.YOURS_IS_BEST
    assert again.recommendations == ()
    assert chosen in again.why


def test_none_holds() -> None:
    """Bursts of three failures on the last third open every policy of the grid, again and again."""
    rows = [
        (float(at), 0.125, 100 <= at < 150 or (at > 2000 and at % 200 < 3)) for at in range(3000)
    ]
    answer = sweep(
        Trace.from_rows(rows), "FailureStreak=2,3", base="FailureStreak(3)", outages=[(100, 150)]
    )
    assert answer.advice is Advice.NONE_HOLDS
    assert answer.recommendations == ()
    assert "last third" in answer.why


def test_too_little_data() -> None:
    assert sweep(noisy([], 600), "FailureRate=0.1,0.5").advice is Advice.TOO_LITTLE_DATA
    assert sweep(noisy([], 5), "FailureRate=0.1,0.5").advice is Advice.TOO_LITTLE_DATA
    assert sweep(Trace.from_rows([]), "FailureRate=0.1").advice is Advice.TOO_LITTLE_DATA


def test_too_many_unknown() -> None:
    rows = [(float(t), 0.1, False, None, None, None, t % 4 == 0) for t in range(1000)]
    answer = sweep(Trace.from_rows(rows), "FailureRate=0.1,0.5", outages=[(100, 200)])
    assert answer.advice is Advice.TOO_MANY_UNKNOWN
    assert "25 %" in answer.why
    assert "metrics_only" in answer.why


def test_what_makes_no_policy_is_listed() -> None:
    answer = sweep(noisy([], 60), ["MinRequests=10,200", "FailureRate=0.5"])
    assert len(answer.cells) == 1
    (reason,) = answer.invalid.values()
    assert "never reached" in reason


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("FailureRate=0.1..0.9/9", "FailureRate", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
        ("MinRequests = 1..4/7", "MinRequests", (1, 2, 3, 4)),
        ("CountWindow=50,100", "CountWindow", (50, 100)),
        ("FailureRate.ratio=0.5", "FailureRate", (0.5,)),
        ("RampUp.final=0.5,1", "RampUp.final", (0.5, 1.0)),
        ("probe_timeout=1,5", "probe_timeout", (1.0, 5.0)),
    ],
)
def test_axes(text: str, name: str, values: tuple[float, ...]) -> None:
    axis = axis_of(text, DEFAULT)
    assert (axis.name, axis.values) == (name, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FailureRate", "is no grid"),
        ("FailureRat=0.1..0.9/9", "FailureRate"),
        ("SlowRate=0.1..0.9/9", "no number in this policy"),
        ("FailureRate=a..b/3", "has no numbers"),
        ("FailureRate=0.9..0.1/3", "from the smaller"),
        ("FailureRate=0.1..0.9/1", "2 or more"),
        ("FailureRate=nan", "finite"),
        ("FailureRate=0.1..0.9/99999", "take fewer steps"),
    ],
)
def test_bad_grids(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sweep(Trace.from_rows([]), text)


def test_a_setting_varies_once() -> None:
    with pytest.raises(ConfigError, match="varies once"):
        sweep(Trace.from_rows([]), ["FailureRate=0.1", "FailureRate=0.2"])
    with pytest.raises(ConfigError, match="name what varies"):
        sweep(Trace.from_rows([]), [])


def test_every_first_argument_has_a_short_name() -> None:
    policy = config.build("x", {"tripper": "AvgLatency(1.0) | FailureStreak(9)"}).policy
    assert axis_of("AvgLatency=0.5..2/4", policy).values == (0.5, 1.0, 1.5, 2.0)
    assert axis_of("AvgLatency.threshold=3", policy).name == "AvgLatency"
    assert axis_of("RampUp=0.1,0.2", policy).name == "RampUp"
    assert (
        repr(changed(policy, {"AvgLatency": 2.0}).tripper) == "AvgLatency(2.0) | FailureStreak(9)"
    )


def test_changed_policies() -> None:
    policy = config.build(
        "x", {"tripper": "MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0))"}
    ).policy
    other = changed(policy, {"SlowRate.threshold": 2.0, "FailureRate": 0.4, "Cooldown": 5.0})
    assert repr(other.tripper) == "MinRequests(10) & (FailureRate(0.4) | SlowRate(0.3, 2.0))"
    assert repr(other.retry) == "Cooldown(5.0)"
    assert changed(policy, {}) == policy


def test_scaled_policies() -> None:
    scaled_down = scaled(DEFAULT, 0.1)
    assert repr(scaled_down.tripper) == "MinRequests(1) & FailureRate(0.5)"
    assert repr(scaled_down.window) == "CountWindow(10)"
    streak = Policy(tripper=FailureStreak(5))
    assert scaled(streak, 0.1).tripper == streak.tripper
