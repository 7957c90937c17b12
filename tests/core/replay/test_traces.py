"""Generated traces: the same for a seed, and as the truth about them says."""

from __future__ import annotations

import pytest

from fluxgate.replay import replay, traces

by_kind = pytest.mark.parametrize("kind", traces.KINDS)


@by_kind
def test_a_seed_is_a_trace(kind: str) -> None:
    make = traces.KINDS[kind]
    assert list(make(seed=3).trace) == list(make(seed=3).trace)
    assert list(make(seed=3).trace) != list(make(seed=4).trace)
    assert make().trace.rejected == {}


@by_kind
def test_trouble_is_in_the_truth(kind: str) -> None:
    trace, outages = traces.KINDS[kind](seed=1)

    def inside(at: float) -> bool:
        return any(begin <= at < end for begin, end in outages)

    good = [call for call in trace if not inside(call.start)]
    bad = [call for call in trace if inside(call.start)]
    assert sum(call.failed for call in good) < 0.03 * len(good)
    if kind == "burst":
        assert bad == []
    elif kind == "slow":
        assert sum(call.failed for call in bad) < 0.03 * len(bad)
        assert sum(call.duration > 0.5 for call in bad) > 0.9 * len(bad)
    else:
        assert sum(call.failed for call in bad) > 0.1 * len(bad)


@by_kind
def test_the_rule_finds_them(kind: str) -> None:
    trace, outages = traces.KINDS[kind](seed=1)
    found = replay(trace).outages
    if kind == "burst":
        assert len(found) <= 8
    for begin, end in outages:
        assert any(each.begin < end and begin < each.end for each in found)
