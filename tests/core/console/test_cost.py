"""What the console costs: nothing for a call, little for a poll, no memory in the long run."""

from __future__ import annotations

import gc
import logging
import sys
from math import inf
from typing import Any

import pytest

from fluxgate import CircuitBreaker, Signal, State
from fluxgate._engine import everywhere
from fluxgate._front import Front
from fluxgate.console import Request, _history
from fluxgate.console._history import History
from fluxgate.console._names import id_of
from fluxgate.signals import Origin, Reason

from .asking import console, detail, failing, get, operation, post, read, rows

pytestmark = pytest.mark.slow


def test_no_call_pays_for_it() -> None:
    """It hears of transitions alone, and a circuit in its lane stays there."""
    breaker = CircuitBreaker("pay")
    page = console()
    lane = breaker._circuit.lane
    assert lane is not None
    assert lane.fast_below == inf
    (hooks,) = everywhere.hooks(breaker._circuit)
    assert (hooks.rejected, hooks.call_ended) == (None, None)
    for _ in range(50):
        breaker.call(int)
    assert len(lane) == 50  # noted, and nothing else
    for path in ("", "api/v1/state", f"circuits/{id_of('pay')}"):
        assert get(page, path).status == 200
    lane = breaker._circuit.lane
    assert lane is not None
    assert lane.fast_below == inf


def test_only_what_is_shown_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [CircuitBreaker(f"circuit {n}") for n in range(450)]
    page = console()
    count = 0
    info = Front.info

    def counted(self: Front) -> Any:
        nonlocal count
        count += 1
        return info(self)

    monkeypatch.setattr(Front, "info", counted)
    assert read(page)["pages"] == 5
    assert count == 100
    read(page)
    get(page)
    assert count == 100  # the same reading
    read(page, page="3")
    assert count == 200
    del kept


def test_memory_is_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Circuits open and close for ever, names come and go, and everybody polls."""
    monkeypatch.setattr(_history, "ALL", 200)
    monkeypatch.setattr(_history, "CIRCUITS", 50)
    # pytest keeps what is logged
    monkeypatch.setattr(logging.getLogger("fluxgate.audit"), "disabled", True)
    page = console()
    kept = [CircuitBreaker(f"circuit {n}") for n in range(30)]

    def live(times: int) -> None:
        for n in range(times):
            breaker = kept[n % len(kept)]
            breaker.force_open(note=f"drill {n}", by="ann")
            breaker.reset()
            if n % 3 == 0:
                kept[n % len(kept)] = CircuitBreaker(f"circuit {n % 300}")
            page._site._snapshots.renew()
            assert get(page, "" if n % 2 else "api/v1/state").status == 200
            page.respond(Request("POST", f"circuits/{id_of('x')}/reset"), None)

    live(400)
    gc.collect()
    before = sys.getallocatedblocks()
    live(400)
    gc.collect()
    assert sys.getallocatedblocks() - before < 2000  # five a poll would be a leak, and more


def test_a_reading_keeps_nothing_alive() -> None:
    page = console(single_process=True)
    breaker = failing("pay")
    fields = {"note": "a drill", **operation(page, "pay", "reset")}
    del breaker
    gc.collect()
    row = rows(page)["pay"]  # it was read a moment ago
    assert (row["name"], row["state"]) == ("pay", "open")
    assert detail(page, "pay")["policy"] == []
    assert post(page, "pay", "reset", fields).status == 404
    page._site._snapshots.renew()
    assert rows(page) == {}


def test_a_circuit_may_go_before_it_is_shown() -> None:
    page = console()
    breaker = failing("pay")
    page._site._snapshots.look()
    del breaker
    gc.collect()
    assert rows(page)["pay"]["state"] == "open"
    assert detail(page, "pay")["evidence"] == []


def test_what_nobody_reads_is_bounded() -> None:
    history = History()
    try:
        breaker = CircuitBreaker("pay")
        for _ in range(_history.ALL):
            breaker.force_open()
            breaker.reset()
        assert len(history._news) == _history.ALL
        history.catch_up()
        assert len(history.changes(id_of("pay"))) == _history.EACH
    finally:
        history.close()


def transition(name: str, at: float, old: State, new: State) -> Signal:
    return Signal(name, old, new, at, 1, Reason("x"))


@pytest.fixture
def history() -> Any:
    made = History(lambda: 60_000.0)
    yield made
    made.close()


def test_the_newest_are_kept(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_history, "ALL", 10)
    for n in range(8):
        for name in ("noisy", "quiet") if n == 0 else ("noisy",):
            history._news.append(transition(name, 60_000.0 + 10 * n, State.CLOSED, State.OPEN))
            history._news.append(transition(name, 60_006.0 + 10 * n, State.OPEN, State.CLOSED))
    history.catch_up()
    assert history.changes(id_of("quiet")) == ()  # the one that has not moved for longest
    assert len(history.changes(id_of("noisy"))) == 10


MINUTES = [
    # What happened (minute, old, new), the state now and since when; the strip's end.
    ([], State.OPEN, None, "OOOOOOOOOOO"),
    ([(5, "C", "O"), (7, "O", "C")], State.CLOSED, None, "CCCCCOOOCCC"),
    ([(5, "C", "O"), (5, "O", "C")], State.CLOSED, None, "CCCCCOCCCCC"),
    ([(10, "C", "O")], State.OPEN, None, "CCCCCCCCCCO"),
    ([(2, None, "O"), (4, "O", "H"), (4, "H", "C")], State.CLOSED, None, "--OOOCCCCCC"),
]
LETTERS = {"C": State.CLOSED, "O": State.OPEN, "H": State.HALF_OPEN, "-": None, None: None}


@pytest.mark.parametrize(("moves", "state", "since", "strip"), MINUTES, ids=range(5))
def test_a_strip_has_the_worst_of_each_minute(
    history: History, moves: list[Any], state: State, since: float | None, strip: str
) -> None:
    for number, (minute, old, new) in enumerate(moves):
        at = 60_000.0 + 60 * minute + number * 8
        change = _history.change_of(
            at, LETTERS[old], LETTERS[new] or State.CLOSED, Reason("x"), Origin.LOCAL, errors=False
        )
        history._note("a", change)
    found = history.strip("a", state, since, 60_000.0 + 10 * 60 + 59)
    shown = "".join(next(k or "-" for k, v in LETTERS.items() if v is each) for each in found)
    assert shown[-len(strip) :] == strip
    assert set(shown[: -len(strip)]) <= {"-"}


def test_a_new_circuit_has_no_past(history: History) -> None:
    found = history.strip("a", State.CLOSED, 60_000.0 + 29 * 60, 60_000.0 + 29 * 60 + 5)
    assert found == (None,) * 29 + (State.CLOSED,)


def test_a_signal_and_a_reading_are_one(history: History) -> None:
    history._news.append(transition("pay", 60_010.0, State.CLOSED, State.OPEN))
    history.catch_up()
    history.observe(id_of("pay"), State.OPEN, 60_011.0, Reason("x"), 60_012.0)
    assert len(history.changes(id_of("pay"))) == 1
    history.observe(id_of("pay"), State.CLOSED, None, None, 60_020.0)
    newest = history.changes(id_of("pay"))[0]
    assert (newest.old, newest.new, newest.reason) == (
        State.OPEN,
        State.CLOSED,
        Reason("unknown"),
    )
