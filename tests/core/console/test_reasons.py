"""Reasons in sentences: each tripper, each event, in two languages, whatever a store holds."""

from __future__ import annotations

import pytest

from fluxgate import trippers, windows
from fluxgate.console._names import id_of, line_of
from fluxgate.console._reasons import sentence
from fluxgate.console._words import words
from fluxgate.metric import Metrics
from fluxgate.signals import Reason
from fluxgate.testing import ManualClock
from fluxgate.trippers import (
    AvgLatency,
    Closed,
    FailureRate,
    FailureStreak,
    HalfOpened,
    MinRequests,
    SlowRate,
    Tripper,
)
from fluxgate.windows import CountWindow, TimeWindow

from .asking import console, failing, get, rows


def both(reason: Reason, *, probes: bool = False) -> tuple[str, str]:
    english, korean = (sentence(reason, words(each), probes=probes) for each in ("en", "ko"))
    return english, korean


LAST = "CountWindow(100)"
MEASURED = [
    (
        Reason("FailureRate(0.5)", 0.58, 100, LAST),
        "58 % of the last 100 calls failed (limit 50 %)",
        "최근 호출 100건 중 58 % 실패(임계값 50 %)",
    ),
    (
        Reason("FailureRate(0.125)", 0.9996, 12_345, "TimeWindow(60)"),
        "99.9 % of 12,345 calls within 60 s failed (limit 12.5 %)",
        "60초 이내 호출 12,345건 중 99.9 % 실패(임계값 12.5 %)",
    ),
    (
        Reason("FailureRate(1)", 1.0, 1),
        "100 % of 1 call failed (limit 100 %)",
        "호출 1건 중 100 % 실패(임계값 100 %)",
    ),
    (
        Reason("SlowRate(0.3, 0.25)", 0.4, 20, LAST),
        "40 % of the last 20 calls took 250 ms or longer (limit 30 %)",
        "최근 호출 20건 중 40 %가 250밀리초 이상 걸림(임계값 30 %)",
    ),
    (
        Reason("AvgLatency(1.5)", 2.25, 20, LAST),
        "the last 20 calls took 2.25 s on average (limit 1.5 s)",
        "최근 호출 20건의 평균 소요 시간 2.25초(임계값 1.5초)",
    ),
    (
        Reason("FailureStreak(5)", 7.0, 7),
        "the last 7 calls all failed (limit 5)",
        "최근 호출 7건 연속 실패(임계값 5건)",
    ),
    (
        Reason("FailureStreak(1)", 1.0, 1),
        "the last call failed",
        "최근 호출 1건 연속 실패(임계값 1건)",
    ),
    (
        Reason("MinRequests(10)", 10.0, 10, LAST),
        "10 calls were made (limit 10)",
        "호출 10건(임계값 10건)",
    ),
    (Reason("probe failed"), "a probe failed", "시험 호출 실패"),
    (Reason("cooldown over"), "the cooldown is over", "쿨다운 종료"),
    (Reason("open_for()", 0.5), "opened for 500 ms", "500밀리초 동안 열림"),
    (Reason("reset()"), "reset", "초기화"),
    (
        Reason("force_open()", 900.0, note="a|b {n}", by="민수"),
        "forced open for 15 min, by 민수: a|b {n}",
        "15분 동안 강제 열림, 실행자 민수: a|b {n}",
    ),
    (
        Reason("disable() over", note="a drill", by="ann"),
        "the time of “Disable” is over, by ann: a drill",
        "“비활성화” 시간 종료, 실행자 ann: a drill",
    ),
    (Reason("initial_state=disabled"), "it begins so, by its settings", "설정에 따른 시작 상태"),
]


@pytest.mark.parametrize(
    ("reason", "english", "korean"), MEASURED, ids=[str(each.clause) for each, _, _ in MEASURED]
)
def test_a_reason_in_words(reason: Reason, english: str, korean: str) -> None:
    assert both(reason) == (english, korean)


def test_probes_are_called_so() -> None:
    reason = Reason("FailureRate(0.5)", 0.6, 10, LAST)
    assert both(reason, probes=True) == (
        "60 % of 10 probes failed (limit 50 %)",
        "시험 호출 10건 중 60 % 실패(임계값 50 %)",
    )


TRIPPERS: list[Tripper] = [
    FailureRate(0.5),
    SlowRate(0.3, 1.0),
    AvgLatency(0.25),
    FailureStreak(1),
    FailureStreak(5),
    MinRequests(1),
    MinRequests(1000),
    Closed(),
    HalfOpened(),
    MinRequests(10) & FailureRate(0.5),
    MinRequests(10) & (FailureRate(0.5) | SlowRate(0.3, 1.0)) & Closed(),
    FailureStreak(5) | (MinRequests(10) & AvgLatency(2)),
]


@pytest.mark.parametrize("tripper", TRIPPERS, ids=repr)
def test_without_a_measurement(tripper: Tripper) -> None:
    english, korean = both(Reason(repr(tripper)))
    assert english == tripper.describe()
    assert korean.isascii() is False
    assert repr(tripper) not in korean


def test_every_tripper_has_words() -> None:
    assert {type(each).__name__ for each in TRIPPERS} >= {*trippers.__all__} - {"Tripper"}
    assert {*windows.__all__} == {"CountWindow", "TimeWindow", "Window"}


class Unlucky(Tripper):
    """A tripper of a user's own."""

    __slots__ = ()

    def fires(self, metrics: Metrics) -> bool:
        return metrics.total_count >= 13

    def measure(self, metrics: Metrics) -> float:
        return metrics.total_count


def test_a_tripper_of_the_users() -> None:
    breaker = failing("pay", 13, tripper=Unlucky() & FailureRate(0.5))
    reason = breaker.info().reason
    assert reason is not None
    assert both(reason) == (("Unlucky(): 13 over 13 calls",) * 2)


@pytest.mark.parametrize(
    "reason",
    [
        Reason("FailureRate(0."),
        Reason("FailureRate(7)", 0.5, 10),
        Reason("os.system('ls')", 0.5, 10),
        Reason("x\u202e\x00" * 999),
        Reason("(" * 5000),
        Reason(""),
        Reason("fluxgate.trippers.ALWAYS"),
    ],
    ids=["cut", "invalid", "code", "hostile", "nested", "empty", "dotted"],
)
def test_what_cant_be_read_is_shown(reason: Reason) -> None:
    english, korean = both(reason)
    assert english == korean
    assert english.isprintable()
    assert len(english) <= 200


@pytest.mark.parametrize("measured", [float("nan"), float("inf"), -1.0, None])
@pytest.mark.parametrize("clause", ["FailureRate(0.5)", "AvgLatency(2)", "FailureStreak(3)"])
def test_an_odd_number_is_left_out(clause: str, measured: float | None) -> None:
    english, _ = both(Reason(clause, measured, 10, "TimeWindow(nonsense"))
    assert english.startswith(("at least", "the calls", "the last 3"))
    assert both(Reason("disable()", measured))[0] == "disabled"


def test_on_the_pages() -> None:
    clock = ManualClock()
    breaker = failing("pay", window=TimeWindow(60), clock=clock)
    page = console()
    shown = get(page).body.decode()
    # No line ends between a number and its unit.
    unbroken = "100\xa0% of 10 calls within 60\xa0s failed (limit 50\xa0%)"
    assert f"<bdi>{unbroken}</bdi>" in shown
    assert "FailureRate" not in shown
    assert rows(page)["pay"]["reason"] == "FailureRate(0.5): 1 over 10 calls"
    whole = get(page, f"circuits/{id_of('pay')}", lang="ko").body.decode()
    assert "60초 이내 호출 10건 중 100\xa0% 실패(임계값 50\xa0%)" in whole
    assert "<code>FailureRate(0.5): 1 over 10 calls in TimeWindow(60)</code>" in whole
    assert breaker.state == "open"


def test_probes_on_the_pages() -> None:
    clock = ManualClock()
    breaker = failing("pay", window=CountWindow(20), clock=clock)
    page = console()
    clock.advance(1000)
    while breaker.state != "open" or breaker.info().reopens == 0:
        breaker.attempt().fail()
    shown = get(page).body.decode()
    assert "100\xa0% of 10 probes failed (limit 50\xa0%)" in shown
    whole = get(page, f"circuits/{id_of('pay')}").body.decode()
    assert whole.count("of 10 probes failed") == 2  # at the head, among the transitions


def test_half_open_on_the_pages() -> None:
    """That its cooldown is over is known by then; what is going on is not."""
    clock = ManualClock()
    breaker = failing("pay", window=CountWindow(20), clock=clock)
    page = console()
    clock.advance(1000)
    probe = breaker.attempt()
    assert breaker.state == "half_open"
    shown = get(page).body.decode()
    assert "probing now: the probes decide whether it closes" in shown
    assert "the cooldown is over" not in shown
    assert rows(page)["pay"]["reason"] == "cooldown over"
    whole = get(page, f"circuits/{id_of('pay')}", lang="ko").body.decode()
    assert "시험 호출 중이며, 그 결과로 닫을지 정합니다" in whole
    assert whole.count("쿨다운 종료") == 1  # among the transitions
    probe.ignore()


def test_the_expression_has_who_and_why() -> None:
    reason = Reason("force_open()", 900.0, note="a drill", by="ann")
    assert line_of(reason) == "force_open(): 900 s, by ann: a drill"
