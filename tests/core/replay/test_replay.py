"""`replay()`: scores that can be counted by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fluxgate import ConfigError, Policy, config
from fluxgate.permits import All
from fluxgate.replay import (
    PolicyResult,
    ReplayResult,
    Role,
    Spread,
    Trace,
    _calls,
    _replay,
    _scores,
    _trace,
    _truth,
    replay,
)
from fluxgate.retries import Cooldown
from fluxgate.state import State
from fluxgate.trippers import FailureStreak

THREE = Policy(tripper=FailureStreak(3), retry=Cooldown(10), permit=All(), max_half_open_calls=1)


def rows(until: int = 400, bad: range = range(100, 200), **more: Any) -> list[dict[str, Any]]:
    """A call each second; those in `bad` fail after half a second, the others take an eighth."""
    return [
        {"start": float(t), "duration": 0.5 if t in bad else 0.125, "failed": t in bad, **more}
        for t in range(until)
    ]


def of(result: ReplayResult, role: Role = Role.GIVEN) -> PolicyResult:
    (found,) = [each for each in result.policies if each.role is role]
    return found


def test_scores_by_hand() -> None:
    """Open at 102.5 (the third failure), a probe each ten seconds, closed by that of 203."""
    result = replay(Trace.from_rows(rows()), [THREE], outages=[(100, 200)])
    policy = of(result)
    assert policy.policy == "FailureStreak(3)"
    assert [(each.at, each.reason, each.outage) for each in policy.openings] == [
        (102.5, "FailureStreak(3): 3 over 3 calls", True)
    ]
    # Probes at 113, 124, ..., 190: each fails half a second later, and opens it again.
    probes = range(113, 200, 11)
    assert policy.bad_let_through == 3 + len(probes)
    assert policy.bad_spared == 100 - policy.bad_let_through
    assert policy.waiting_saved == policy.bad_spared / 2
    assert policy.good_refused == 1  # at 200: the last probe was that of 190, the next is of 201
    assert policy.refused == policy.bad_spared + policy.good_refused
    assert policy.seconds_to_open == Spread(2.5, 2.5)
    assert policy.seconds_to_closed == Spread(1.125, 1.125)
    assert (policy.opened, policy.false_openings) == (1, 0)
    assert (policy.outages_seen, policy.outages_missed) == (1, 0)
    assert policy.openings_per_hour == pytest.approx(3600 / 399.125)
    assert policy.spans[0].end == 102.5
    assert [span.state for span in policy.spans[-2:]] == [State.HALF_OPEN, State.CLOSED]
    assert policy.bracket is None


def test_without_a_breaker() -> None:
    nothing = of(replay(Trace.from_rows(rows()), [], outages=[(100, 200)]), Role.NO_BREAKER)
    assert (nothing.bad_let_through, nothing.outages_missed, nothing.refused) == (100, 1, 0)


def test_a_false_opening() -> None:
    policy = of(replay(Trace.from_rows(rows(bad=range(50, 53))), [THREE], outages=[(300, 310)]))
    assert (policy.opened, policy.false_openings) == (1, 1)
    assert (policy.outages_seen, policy.outages_missed) == (0, 1)
    assert policy.good_refused == 10
    assert policy.seconds_to_open == Spread()


def test_late_ends_are_no_false_openings() -> None:
    """Calls of an outage that time out after it still open the circuit because of it."""
    slow = [{"start": t / 10, "duration": 5.0, "failed": True} for t in range(1000, 1010)]
    policy = of(replay(Trace.from_rows(rows(bad=range(0)) + slow), [THREE], outages=[(100, 101)]))
    assert (policy.opened, policy.false_openings, policy.outages_seen) == (1, 0, 1)


def test_workers_deal_the_calls() -> None:
    """Four circuits with a quarter of the calls each: three failures take four times as long."""
    result = replay(Trace.from_rows(rows()), [THREE], outages=[(100, 200)], workers=4)
    policy = of(result)
    assert [opening.at for opening in policy.openings] == [108.5, 109.5, 110.5, 111.5]
    assert {opening.worker for opening in policy.openings} == {0, 1, 2, 3}
    assert policy.seconds_to_open == Spread(10.0, 11.5)
    assert (policy.outages_seen, policy.opened) == (1, 4)
    assert policy.openings_per_hour == pytest.approx(3600 / 399.125, rel=0.02)


def test_unknown_ends_are_bracketed() -> None:
    """A recording of a breaker: those it refused are left out, counted, and bracketed."""
    recorded = rows()
    for row in recorded[103:113] + recorded[250:260]:
        row |= {"refused": True, "failed": None, "duration": None}
    result = replay(Trace.from_rows(recorded), [THREE], present=THREE, outages=[(100, 200)])
    assert result.trace.refused == 20
    present = of(result, Role.PRESENT)
    assert present.unknown == 20
    assert present.refused == present.good_refused + present.bad_spared + 10
    assert present.bracket is not None
    assert present.bracket.all_failed.opened == 2
    assert present.bracket.all_succeeded.opened == 1
    assert present.bracket.all_failed.unknown == 0


def test_recorded_probes_are_not_thinned_out() -> None:
    """What the present policy's permit decided is known from the recording."""
    policy = config.build("x", {"permit": "Random(0.1)", "tripper": "FailureStreak(3)"}).policy
    recorded = rows(until=600, bad=range(100, 110))
    # Open for a minute from 102.5 on; then one call in ten is a probe, and the first closes it.
    for row in recorded[103:172]:
        row |= {"refused": True, "failed": None, "duration": None}
    result = replay(Trace.from_rows(recorded), present=policy, outages=[(100, 110)])
    assert [span.end for span in of(result, Role.PRESENT).spans] == [102.5, 163, 172.125, 599.125]


def test_too_many_unknown_ends() -> None:
    recorded = rows()
    for row in recorded[:100]:
        row |= {"refused": True}
    result = replay(Trace.from_rows(recorded), [THREE])
    assert any("25 % of the calls were refused" in warning for warning in result.warnings)


def test_routes_show_what_the_whole_hides() -> None:
    busy = [
        {"start": t / 8, "duration": 0.125, "failed": False, "key": "busy"} for t in range(9600)
    ]
    quiet = rows(1200, range(500, 560), key="quiet")
    rare = [{"start": 1.0, "duration": 1.0, "failed": False, "key": f"k{n}"} for n in range(30)]
    result = replay(Trace.from_rows(busy + quiet + rare), [THREE], slow=1e9)
    assert [route.trace.key for route in result.routes] == ["busy", "quiet"]
    assert result.routes_left_out == 30
    whole, _, quiet_route = result, *result.routes
    assert len(quiet_route.outages) == 1
    if not whole.outages:
        assert any("quiet (1 outage)" in warning for warning in result.warnings)


@pytest.mark.parametrize("workers", [1, 3])
def test_without_the_extra(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without numpy it is slower, and the answers are the same."""
    pytest.importorskip("numpy")
    recorded = rows(1200, range(500, 700), key="a") + rows(400, range(0), key="b")
    for row in recorded[600:650]:
        row |= {"refused": True, "duration": None, "failed": None}
    trace = Trace.from_rows(recorded)
    policies = [THREE, "MinRequests(10) & FailureRate(0.5)"]
    results = [replay(trace, policies, present=THREE, workers=workers)]
    for module in (_calls, _replay, _scores, _trace, _truth):
        monkeypatch.setattr(module, "np", None)
    results.append(replay(Trace.from_rows(recorded), policies, present=THREE, workers=workers))
    assert results[0].as_json() == results[1].as_json()
    assert len(results[0].routes) == 2


def test_a_sample_scales_the_counts() -> None:
    everything = Trace.from_rows(rows(4000, range(1000, 2000)))
    tenth = everything.select(range(0, 4000, 10))
    policy = "MinRequests(100) & FailureRate(0.5)"
    sampled = of(replay(tenth, [policy], outages=[(1000, 2000)], sampled=0.1))
    unscaled = of(replay(tenth, [policy], outages=[(1000, 2000)]))
    assert sampled.seconds_to_open.median == pytest.approx(50, abs=10)
    assert unscaled.seconds_to_open.median == pytest.approx(500, abs=10)
    assert sampled.settings["tripper"] == policy
    warnings = replay(tenth, [THREE], sampled=0.1).warnings
    assert any("FailureStreak(3) can't be judged" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampled": 0}, "above 0 and at most 1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"policies": ["Nope(1)"]}, "Nope"),
        ({"policies": ["Closed()"]}, "fast successes alone"),
        ({"outages": [(5, 1)]}, "must begin before it ends"),
    ],
)
def test_clear_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        replay(Trace.from_rows(rows(10)), **arguments)


def test_an_empty_trace() -> None:
    result = replay(Trace.from_rows([]), [THREE], workers=2)
    assert result.warnings == ("There is no usable call.",)
    assert of(result).opened == 0


def test_json_has_the_stated_shape() -> None:
    result = replay(Trace.from_rows(rows(key="pay")), [THREE], outages=[(100, 200)])
    read = json.loads(json.dumps(result.as_json(), allow_nan=False))
    policy = read["policies"][1]
    assert next(iter(policy)) == "policy"
    assert policy["openings"][0]["at"] == 102.5
    assert policy["openings"][0]["reason"] == "FailureStreak(3): 3 over 3 calls"
    assert policy["seconds_to_open"] == {"median": 2.5, "worst": 2.5}
    assert (policy["refused"], policy["outages_seen"], policy["outages_missed"]) == (90, 1, 0)
    assert read["trace"]["key"] == "pay"


def test_pasted_toml_is_the_policy() -> None:
    result = of(replay(Trace.from_rows(rows()), [THREE]))
    assert result.toml.splitlines() == [
        'tripper = "FailureStreak(3)"',
        'retry = "Cooldown(10)"',
        'permit = "All()"',
        "max_half_open_calls = 1",
    ]
    import tomllib

    assert config.build("x", tomllib.loads(result.toml)).policy == THREE
