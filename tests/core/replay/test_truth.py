"""Outages: as they are given, or as the rule finds them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from fluxgate.replay import Call, Outage, Trace, _truth
from fluxgate.replay._truth import truth_of

BEGIN = 1_700_000_000.0


@pytest.fixture(params=["numpy", "plain"], autouse=True)
def with_and_without_numpy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "plain":
        monkeypatch.setattr(_truth, "np", None)
    else:
        pytest.importorskip("numpy")


def calls(
    seconds: int, outages: list[tuple[int, int]], share: float, slow: float
) -> Iterator[Call]:
    """Ten calls a second; in an outage this share of them fails, or takes so long."""
    rng = random.Random(1)
    for tenth in range(seconds * 10):
        inside = any(begin <= tenth / 10 < end for begin, end in outages)
        bad = rng.random() < (share if inside else 0.005)
        duration = slow if bad and slow else 0.05
        yield Call(BEGIN + tenth / 10, duration, bad and not slow)


def found(trace: Trace) -> list[tuple[float, float]]:
    return [(each.begin - BEGIN, each.end - BEGIN) for each in truth_of(trace).outages]


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("slow", [0.0, 2.0])
def test_outages_are_found(share: float, slow: float) -> None:
    truth = [(600, 700), (1500, 1800)]
    outages = found(Trace.from_rows(calls(2400, truth, share, slow)))
    assert len(outages) == 2
    for each, expected in zip(outages, truth, strict=True):
        assert each == pytest.approx(expected, abs=3)


def test_healthy_calls_have_no_outage() -> None:
    assert found(Trace.from_rows(calls(1200, [], 0, 0))) == []


def test_two_failures_are_no_outage() -> None:
    rows = [(BEGIN + 600 * place, 0.05, place in (4, 8)) for place in range(20)]
    assert found(Trace.from_rows(rows)) == []


def test_the_rule_is_said() -> None:
    truth = truth_of(Trace.from_rows(calls(600, [], 0, 0)))
    assert truth.slow == pytest.approx(0.25)
    assert "failed or took 250 ms or longer" in truth.rule
    assert "5 × the median minute" in truth.rule


def test_an_outage_until_the_end() -> None:
    assert found(Trace.from_rows(calls(900, [(800, 900)], 1.0, 0))) == [(800, 900)]


def test_silence_ends_an_outage() -> None:
    rows = [
        *calls(300, [(200, 300)], 1.0, 0),
        *(call._replace(start=call.start + 7200) for call in calls(300, [(0, 100)], 1.0, 0)),
    ]
    assert found(Trace.from_rows(rows)) == [(200, 300), (7200, 7300)]


def test_given_outages_are_joined() -> None:
    trace = Trace.from_rows(calls(60, [(10, 20)], 1.0, 0))
    truth = truth_of(trace, [(BEGIN + 15, BEGIN + 20), (BEGIN + 10, BEGIN + 15)], slow=1.0)
    (outage,) = truth.outages
    assert outage == Outage(BEGIN + 10, BEGIN + 20, True, outage.peak)
    assert outage.peak > 0.4
    assert truth.rule.startswith("outages as given")


def test_an_outage_that_ends_before_it_begins() -> None:
    with pytest.raises(ValueError, match="must begin before it ends"):
        truth_of(Trace.from_rows([]), [(2.0, 1.0)])


def test_unknown_ends_say_nothing() -> None:
    rows = [(BEGIN + place, 9.0, True, None, None, None, True) for place in range(600)]
    truth = truth_of(Trace.from_rows(rows))
    assert truth.outages == ()
    assert sum(truth.bad) == 0
