"""The console of a fleet: all its processes, a control for all of them, a store that is gone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, State
from fluxgate.console import Console
from fluxgate.console import _claims as claims
from fluxgate.console import _of_fleet as of_fleet
from fluxgate.console._names import id_of
from fluxgate.fleet import StoreError
from fluxgate.fleet._circuits import process_of
from fluxgate.fleet._presence import ABSENT
from fluxgate.fleet.store import Report
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock
from fluxgate.trippers import FailureStreak

from ..fleet.conftest import PATIENCE, Fleets, eventually
from .asking import (
    console,
    detail,
    get,
    operation,
    post,
    read,
    rows,
    somebody_reading,
    use,
)

ALONE = {"tripper": FailureStreak(3)}
"""A circuit that opens in each process by itself."""


class Shop(Fleets):
    """Fleets of which some have no circuits, as a console's own process."""

    def flush(self) -> None:
        for _ in range(2):
            for fleet in self.made:
                assert not fleet.status().circuits or fleet.flush(PATIENCE)


@pytest.fixture
def fleets() -> Iterator[Fleets]:
    made = Shop()
    yield made
    for fleet in made.made:
        fleet.close()


def renewed(page: Console) -> Console:
    """The console, which reads anew for the next request."""
    page._site._snapshots.renew()
    return page


def fail(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.attempt().fail()


def present(page: Console, count: int) -> None:
    """Wait until so many processes have reported."""
    eventually(lambda: read(renewed(page))["processes"] == count)


def test_all_processes_are_shown(fleets: Fleets) -> None:
    one, two, three = (fleets.make() for _ in range(3))
    breakers = [CircuitBreaker("pay", fleet=fleet, **ALONE) for fleet in (one, two, three)]
    page = console(one)
    for breaker in breakers:
        breaker.call(int)
    fleets.flush()
    present(page, 3)
    row = rows(renewed(page))["pay"]
    assert (row["state"], row["open_in"], row["processes"]) == ("closed", 0, 3)
    for breaker in breakers[1:]:
        fail(breaker, 3)
    eventually(lambda: rows(renewed(page))["pay"]["open_in"] == 2)
    row = rows(page)["pay"]
    assert (row["state"], row["processes"]) == ("open", 3)
    assert row["reason"] == "FailureStreak(3)"
    processes = detail(page, "pay")["processes"]
    assert sorted(each["state"] for each in processes) == ["closed", "open", "open"]
    assert [each["failures"] for each in processes if each["state"] == "open"] == [3, 3]


def test_times_of_the_processes_are_shown(fleets: Fleets) -> None:
    """The fleet is closed: since when some of its processes are open, only they know."""
    one, two, shown = (fleets.make() for _ in range(3))
    clocks, page = (ManualClock(), ManualClock()), console(shown)
    retry = Cooldown(120)
    breakers = [
        CircuitBreaker("pay", fleet=fleet, clock=clock, retry=retry, **ALONE)
        for fleet, clock in zip((one, two), clocks, strict=True)
    ]
    for breaker, clock in zip(breakers, clocks, strict=True):
        breaker.call(int)
        fail(breaker, 3)
        clock.advance(40 if clock is clocks[0] else 10)
    fleets.flush()
    eventually(lambda: rows(renewed(page))["pay"]["open_in"] == 2)
    row = rows(page)["pay"]
    assert row["since"] == pytest.approx(time.time() - 40, abs=5)  # since the first
    assert row["retry_after"] == pytest.approx(80, abs=5)  # until the next
    change = detail(page, "pay")["changes"][0]
    assert change["at"] == pytest.approx(time.time() - 40, abs=5)
    assert {rows(renewed(page))["pay"]["since"] for _ in range(5)} == {row["since"]}


def test_circuits_of_others_are_shown(fleets: Fleets) -> None:
    """This process has no breaker of the name, so it knows no policy, but all else."""
    other, page = fleets.make(), console(fleets.make())
    breaker = CircuitBreaker("pay", fleet=other)
    breaker.call(int)
    fail(breaker, 1)
    fleets.flush()
    breaker.force_open(fleet=True, note="a drill", by="bob")
    fleets.flush()
    found = detail(renewed(page), "pay")
    row = found["circuit"]
    assert row["state"] == "forced_open"
    assert row["reason"] == "force_open(), by bob: a drill"
    assert row["since"] == pytest.approx(time.time(), abs=120)
    assert (found["policy"], found["settings"], found["totals"]) == ([], {}, {})
    (change,) = found["changes"]
    assert (change["new"], change["by"]) == ("forced_open", "bob")
    since = row["since"]
    assert rows(renewed(page))["pay"]["since"] == since  # to the millisecond
    breaker.reset(fleet=True)
    fleets.flush()
    assert [each["new"] for each in detail(renewed(page), "pay")["changes"]] == [
        "closed",
        "forced_open",
    ]


def test_a_breaker_that_nobody_calls_is_shown(fleets: Fleets) -> None:
    fleet = fleets.make()
    breaker = CircuitBreaker("pay", fleet=fleet)
    assert rows(console(fleet))["pay"]["state"] == "closed"
    del breaker


def test_a_registry_shows_its_fleet(fleets: Fleets) -> None:
    registry = Registry(fleet=fleets.make())
    other = CircuitBreaker("other", fleet=fleets.make())
    other.call(int)
    registry["mine"].call(int)
    fleets.flush()
    assert {*rows(console(registry))} == {"mine", "other"}


def test_an_equal_name_outside_is_another(fleets: Fleets) -> None:
    fleet = fleets.make()
    page, outside = console(fleet), CircuitBreaker("pay")
    breaker = CircuitBreaker("pay", fleet=fleet)
    breaker.call(int)
    fleets.flush()
    for _ in range(5):
        outside.force_open(note="no concern of the fleet")
        outside.reset()
    assert detail(renewed(page), "pay")["changes"] == []
    breaker.force_open(note="here alone")
    assert [each["note"] for each in detail(renewed(page), "pay")["changes"]] == ["here alone"]


def test_refusals_of_all_are_counted(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = fleets.make(), fleets.make()
    breakers = [CircuitBreaker("pay", fleet=fleet) for fleet in (one, two)]
    for breaker in breakers:
        breaker.call(int)
    fleets.flush()
    breakers[0].force_open(fleet=True)
    page = console(one)
    snapshots: Any = page._site._snapshots
    now = [1000.0]
    monkeypatch.setattr(snapshots.source, "_clock", lambda: now[0])

    def refused(count: int) -> bool:
        row = rows(renewed(page))["pay"]
        found = detail(page, "pay")["processes"]
        return row["open_in"] == 2 and sum(each["refused"] or 0 for each in found) == count

    eventually(lambda: refused(0))
    for breaker in breakers:
        for _ in range(20):
            with pytest.raises(CallNotPermittedError):
                breaker.call(int)
    now[0] += 4.0
    eventually(lambda: refused(40))
    assert rows(page)["pay"]["refused_rate"] == pytest.approx(10.0, rel=0.6)


def cut_off(_: object) -> NoReturn:
    """As of a process that is dead to the others: no report, no farewell."""
    raise StoreError("cut off")


def test_a_dead_process_is_absent(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, living = fleets.make(), fleets.make()
    breakers = [CircuitBreaker("pay", fleet=fleet, **ALONE) for fleet in (dead, living)]
    for breaker in breakers:
        breaker.call(int)
    fleets.flush()
    page = console(living)
    present(page, 2)
    fail(breakers[0], 3)
    eventually(lambda: rows(renewed(page))["pay"]["open_in"] == 1)
    monkeypatch.setattr(dead._flusher.store, "exchange", cut_off)
    begun = time.time_ns() // 1_000_000
    fleets.space.clock = lambda: begun + round(ABSENT * 1000) + 1000
    eventually(lambda: read(renewed(page))["absent"] == 1)
    assert read(page)["processes"] == 1
    row = rows(page)["pay"]
    assert (row["state"], row["open_in"], row["processes"]) == ("closed", 0, 1)
    states = {each["absent"]: each["state"] for each in detail(page, "pay")["processes"]}
    assert states == {True: None, False: "closed"}


# -- controls


def test_a_control_goes_to_all(fleets: Fleets) -> None:
    one, two = fleets.make(), fleets.make()
    breakers = [CircuitBreaker("pay", fleet=fleet) for fleet in (one, two)]
    for breaker in breakers:
        breaker.call(int)
    fleets.flush()
    page = console(one, single_process=False)
    assert use(page, "pay", "force_open", seconds=600).status == 200
    assert breakers[0].state is State.FORCED_OPEN
    eventually(lambda: breakers[1].state is State.FORCED_OPEN)
    info = breakers[1].info()
    assert info.reason is not None
    assert (info.reason.note, info.reason.by) == ("a drill", "ann")
    assert b"this process only" not in get(page).body.lower()


def test_any_process_can_set_any_circuit(fleets: Fleets) -> None:
    breaker = CircuitBreaker("x" * 300, fleet=fleets.make())
    breaker.call(int)
    fleets.flush()
    page = console(fleets.make())
    assert use(page, breaker.name, "disable").status == 200
    eventually(lambda: breaker.state is State.DISABLED)
    assert rows(renewed(page)).keys() != {breaker.name}  # cut, with the same id
    assert detail(page, breaker.name)["circuit"]["state"] == "disabled"


def test_repeating_is_harmless_in_any_process(fleets: Fleets) -> None:
    pages = [console(fleets.make()) for _ in range(2)]
    breaker = CircuitBreaker("pay", fleet=fleets.make())
    breaker.call(int)
    fleets.flush()
    fields = {"note": "a drill", **operation(pages[0], "pay", "disable")}
    assert post(pages[0], "pay", "disable", fields).status == 200
    eventually(lambda: breaker.state is State.DISABLED)
    breaker.reset(fleet=True)
    fleets.flush()
    for page in pages:
        response = post(renewed(page), "pay", "disable", fields)
        assert (response.status, json.loads(response.body)["outcome"]) == (200, "repeated")
    assert breaker.state is State.CLOSED


def test_two_at_once_are_done_once(fleets: Fleets) -> None:
    pages = [console(fleets.make()) for _ in range(4)]
    breaker = CircuitBreaker("pay", fleet=fleets.make())
    breaker.call(int)
    fleets.flush()
    fields = {"note": "a drill", **operation(pages[0], "pay", "reset")}
    outcomes: list[Any] = []
    barrier = threading.Barrier(4)

    def send(page: Console) -> None:
        get(page)
        barrier.wait()
        outcomes.append(json.loads(post(page, "pay", "reset", fields).body))

    threads = [threading.Thread(target=send, args=(page,)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A repetition that comes first to the actor's pace is told to wait; one that comes before the
    # outcome is known, that it isn't.
    assert [each.get("outcome") for each in outcomes].count("done") == 1
    assert {each.get("outcome", each.get("status")) for each in outcomes} <= {
        "done",
        "repeated",
        409,
        429,
    }


def test_a_failed_control_is_not_done_by_repeating(
    fleets: Fleets, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = fleets.make()
    page = console(fleet)
    breaker = CircuitBreaker("pay", fleet=fleets.make())
    breaker.call(int)
    fleets.flush()
    fields = {"note": "a drill", **operation(page, "pay", "force_open")}

    def fails(*_: object, **__: object) -> None:
        raise StoreError("the connection was cut")

    with monkeypatch.context() as broken:
        broken.setattr(type(fleet), "control", fails)
        assert post(page, "pay", "force_open", fields).status == 503
    response = post(renewed(page), "pay", "force_open", fields)
    assert response.status == 409
    assert "look at the circuit's state" in json.loads(response.body)["detail"]
    assert breaker.state is State.CLOSED


def test_an_actor_is_paced_in_all_processes(fleets: Fleets) -> None:
    pages = [console(fleets.make()) for _ in range(2)]
    breaker = CircuitBreaker("pay", fleet=fleets.make())
    breaker.call(int)
    fleets.flush()
    now = fleets.space.clock()
    fleets.space.clock = lambda: now
    assert use(pages[0], "pay", "disable").status == 200
    assert use(renewed(pages[1]), "pay", "reset").status == 429
    fleets.space.clock = lambda: now + 1000
    assert use(pages[1], "pay", "reset").status == 200


def test_every_process_shows_who_did_it(fleets: Fleets) -> None:
    pages = [console(fleets.make()) for _ in range(2)]
    breaker = CircuitBreaker("pay", fleet=fleets.make())
    breaker.call(int)
    fleets.flush()
    fields = {"note": "a drill, 훈련", "seconds": 60, **operation(pages[0], "pay", "disable")}
    assert post(pages[0], "pay", "disable", fields).status == 200
    for page in pages:
        (entry,) = detail(renewed(page), "pay")["audit"]
        assert entry == {
            "at": entry["at"],
            "actor": "ann",
            "address": "192.0.2.7",
            "circuit": "pay",
            "id": id_of("pay"),
            "action": "disable",
            "seconds": 60.0,
            "note": "a drill, 훈련",
            "before": "closed",
            "after": "disabled",
            "outcome": "done",
            "why": None,
            "operation": fields["operation"],
        }
        assert json.loads(get(page, "api/v1/audit").body)["audit"] == [entry]
        assert {*rows(page)} == {"pay"}  # what is kept for it is no circuit


def test_a_claim_that_is_no_entry_is_left_out(fleets: Fleets) -> None:
    fleet = fleets.make()
    page = console(fleet)
    breaker = CircuitBreaker("pay", fleet=fleet)
    breaker.call(int)
    fleets.flush()
    sound = ["5.0", id_of("pay"), "disable", "60", "closed", "", "done", "ann", "", "a drill"]
    times = [("nan", "60"), ("inf", "60"), ("1e300", "60"), ("-1", ""), ("5", "nan"), ("5", "-1")]
    reasons = ["", "x", "\t".join("x" * 10), "\t".join(["nan"] * 10)]
    reasons += ["\t".join([at, *sound[1:3], seconds, *sound[4:]]) for at, seconds in times]
    for number, reason in enumerate(reasons):
        move = claims.Move(f"{claims.OPERATION}{number}", None, 0, State.OPEN, reason=reason)
        fleet._flusher.ask(lambda store, move=move: store.move(move), PATIENCE)
    assert detail(page, "pay")["audit"] == []
    assert get(page, f"circuits/{id_of('pay')}").status == 200


def test_a_claim_is_read_once(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are of the last day; one that is not noted yet is looked at again."""
    fleet = fleets.make()
    page = console(fleet)
    breaker = CircuitBreaker("pay", fleet=fleet)
    breaker.call(int)
    fleets.flush()

    def note(number: int) -> None:
        fields = [f"{number}.0", id_of("pay"), "disable", "60", "closed", "", "done", "ann", "", ""]
        reason = "\t".join(fields) if number else ""  # 0 has yet to be done
        move = claims.Move(f"{claims.OPERATION}{number}", None, 0, State.OPEN, reason=reason)
        fleet._flusher.ask(lambda store: store.move(move), PATIENCE)

    for number in range(8):
        note(number)
    read_names: list[str] = []
    store = fleet._flusher.store
    original = store.read

    def counted(names: list[str]) -> list[Any]:
        read_names.extend(name for name in names if name.startswith(claims.OPERATION))
        return original(names)

    monkeypatch.setattr(claims, "BATCH", 5)
    monkeypatch.setattr(store, "read", counted)
    for _ in range(2):
        audit = detail(renewed(page), "pay")["audit"]
    assert [entry["at"] for entry in audit] == [7, 6, 5, 4, 3, 2, 1]
    assert sorted(read_names) == sorted(f"{claims.OPERATION}{n}" for n in (*range(8), 0))
    read_names.clear()
    note(8)
    audit = detail(renewed(page), "pay")["audit"]
    assert [entry["at"] for entry in audit][:2] == [8, 7]
    assert sorted(read_names) == [f"{claims.OPERATION}0", f"{claims.OPERATION}8"]


def test_processes_that_look_alike(fleets: Fleets) -> None:
    fleet = fleets.make()
    page = console(fleet)
    breaker = CircuitBreaker("pay", fleet=fleet)
    breaker.call(int)
    fleets.flush()
    look = page._site._snapshots.look()
    item = look.reading.by_id[id_of("pay")]
    reports = [Report("a:1:\x01", "open 1/2/3 x"), Report("a:1:\\x01", "no report")]
    item.own = [process_of(report) for report in reports]
    assert [row.state for row in item.processes(look.reading)][:2] == [State.OPEN, None]


# -- a store that is gone


def test_the_page_stays_and_says_how_old(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = fleets.make()
    breaker = CircuitBreaker("pay", fleet=fleet)
    breaker.call(int)
    fleets.flush()
    page = console(fleet)
    assert rows(page)["pay"]["state"] == "closed"
    fields = {"note": "a drill", **operation(page, "pay", "disable")}
    snapshots: Any = page._site._snapshots
    clock = snapshots._clock
    monkeypatch.setattr(snapshots, "_clock", lambda: clock() + 40.0)
    fleets.space.down = True
    found = read(renewed(page))
    assert [row["name"] for row in found["circuits"]] == ["pay"]
    assert found["age"] >= 40.0
    assert found["error"] == "the memory store is down"
    assert b"the memory store is down" in get(page).body
    response = post(page, "pay", "disable", fields)
    assert response.status == 503
    assert "See whether it was done" in json.loads(response.body)["detail"]
    assert page.audit()[0].outcome == "failed"
    assert breaker.state is State.CLOSED
    fleets.space.down = False
    eventually(lambda: read(renewed(page))["error"] is None)


def test_a_store_that_never_answered(fleets: Fleets) -> None:
    fleet = fleets.make()
    fleets.space.down = True
    page = console(fleet)
    for path in ("", "api/v1/state"):
        response = get(page, path)
        assert response.status == 503
        assert b"the memory store is down" in response.body
    assert post(page, "pay", "reset", {"note": "a drill"}, trusted=True).status in (403, 503)
    fleets.space.down = False
    eventually(lambda: get(renewed(page)).status == 200)


def test_many_circuits_may_take_longer(fleets: Fleets, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came too late the first time tells how long to wait the next time."""
    fleet = fleets.make()
    breaker = CircuitBreaker("pay", fleet=fleet)
    breaker.call(int)
    fleets.flush()
    monkeypatch.setattr(of_fleet, "TIMEOUT", 0.01)
    monkeypatch.setattr(of_fleet, "EACH", PATIENCE)
    look_at, late = of_fleet.look_at, threading.Event()

    def slowly(store: Any) -> Any:
        late.wait(0.2)
        return look_at(store)

    monkeypatch.setattr(of_fleet, "look_at", slowly)
    page = console(fleet)
    source: Any = page._site._snapshots.source
    assert get(page).status == 503
    eventually(lambda: source._count == 1)
    assert rows(renewed(page))["pay"]["state"] == "closed"


def test_a_slow_store_holds_up_one_alone(fleets: Fleets) -> None:
    fleet = fleets.make()
    breaker = CircuitBreaker("pay", fleet=fleet)
    breaker.call(int)
    fleets.flush()
    page = console(fleet)
    assert rows(page)["pay"]
    with somebody_reading(page):  # and the store doesn't answer
        assert rows(renewed(page))["pay"]["state"] == "closed"
    assert read(renewed(page))["error"] is None
