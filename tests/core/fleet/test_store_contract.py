"""What every store promises, held against each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from fluxgate import State
from fluxgate.fleet._window import added
from fluxgate.fleet.store import (
    MAX_REASON,
    MAX_REPORT,
    REPORT_TTL,
    Counts,
    Exchange,
    Hint,
    Move,
    Probe,
    Shape,
    Store,
    StoreError,
    View,
    key_of,
    name_of,
)

from .stores import KINDS, Stores

SHAPE = Shape(1, 61, 100, (500_000,))
ONE = Counts(1, 0, 3, (0,))
BAD = Counts(2, 1, 7, (1,))

Make: TypeAlias = Callable[[], Store]


@pytest.fixture(params=KINDS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    with Stores(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def make(stores: Stores) -> Make:
    return stores.make


def exchange(store: Store, request: Exchange) -> View:
    (answer,) = store.exchange([request])
    assert isinstance(answer, View), answer
    return answer


def total(view: View) -> Counts:
    return added((bucket.counts for bucket in view.buckets), 1)


def opened(store: Store, name: str = "x", **more: object) -> View:
    """The circuit after a move to OPEN."""
    move = Move(name, None, 0, State.OPEN, remaining=5_000, reason="why")
    view = store.move(move._replace(**more))  # type: ignore[arg-type]
    assert view.won
    return view


def half_open(store: Store, name: str = "x") -> View:
    view = store.move(Move(name, None, 0, State.HALF_OPEN))
    assert view.won
    return view


def lease(view: View, wants: int = 1, slots: int = 1, **more: object) -> Exchange:
    request = Exchange(view.name, view.epoch, SHAPE, wants=wants, slots=slots, lease=60_000)
    return request._replace(**more)  # type: ignore[arg-type]


# -- the window


def test_nothing_is_known(make: Make) -> None:
    store = make()
    (view,) = store.read(["x"])
    assert view == View("x", tick=view.tick)
    assert not exchange(store, Exchange("x", 0, SHAPE)).known
    assert store.scan() == []


def test_deltas_add_up(make: Make) -> None:
    one, two = make(), make()
    first = exchange(one, Exchange("x", 0, SHAPE, ONE))
    second = exchange(two, Exchange("x", 0, SHAPE, BAD, witness=True))
    assert first.applied
    assert second.applied
    assert total(second) == Counts(3, 1, 10, (1,))
    assert (second.reporters, second.witnesses) == (2, 1)
    assert second.reporter == two.process
    assert second.burst is not None
    (read,) = one.read(["x"])
    assert total(read) == total(second)


def test_views_come_in_order(make: Make) -> None:
    store = make()
    names = [f"circuit {n}" for n in range(40)]
    deltas = [Exchange(name, 0, SHAPE, Counts(n + 1)) for n, name in enumerate(names)]
    views = store.exchange(deltas)
    assert [total(view).calls for view in views if isinstance(view, View)] == list(range(1, 41))
    assert [view.name for view in store.read(names[::-1])] == names[::-1]
    assert sorted(store.scan()) == sorted(names)


def test_two_of_one_name_in_a_flush(make: Make) -> None:
    store = make()
    views = store.exchange([Exchange("x", 0, SHAPE, ONE), Exchange("x", 0, SHAPE, ONE)])
    assert all(isinstance(view, View) and view.applied for view in views)
    assert total(store.read(["x"])[0]).calls == 2


def test_big_numbers(make: Make) -> None:
    store = make()
    most = 2**31 - 1
    counts = Counts(most, most, most, (most,))
    exchange(store, Exchange("x", 0, SHAPE, counts, witness=True))
    view = exchange(store, Exchange("x", 0, SHAPE, counts, witness=True))
    assert total(view) == counts  # saturated, and still readable


def test_no_counts_of_another_shape(make: Make) -> None:
    store = make()
    assert exchange(store, Exchange("x", 0, SHAPE, ONE)).applied
    other = SHAPE._replace(thresholds=(1_000_000,))
    view = exchange(store, Exchange("x", 0, other, ONE))
    assert not view.applied
    assert view.label == SHAPE.label
    assert total(view).calls == 1


def test_a_minute_wide(make: Make) -> None:
    store = make()
    shape = Shape(3600, 2, 0, ())
    view = exchange(store, Exchange("x", 0, shape, Counts(5)))
    assert view.buckets[-1].tick == view.tick
    assert store.read(["x"])[0].tick == view.tick


# -- moves


def test_a_move(make: Make) -> None:
    store = make()
    view = opened(store, reopens=3)
    assert view.epoch > 1_000
    assert (view.state, view.reopens, view.reason) == (State.OPEN, 3, "why")
    assert view.author == store.process
    assert view.remaining is not None
    assert 4_000 < view.remaining <= 5_000
    (read,) = make().read(["x"])
    assert read[:4] == view[:4]
    assert store.scan() == ["x"]


def test_one_winner(make: Make) -> None:
    stores = [make() for _ in range(4)]
    views = [store.move(Move("x", 0, 0, State.OPEN, 5_000)) for store in stores]
    assert [view.won for view in views] == [True, False, False, False]
    assert {view.epoch for view in views} == {views[0].epoch}
    assert all(view.author == stores[0].process for view in views)


def test_epochs_only_rise(make: Make) -> None:
    store = make()
    far = 2**51
    first = store.move(Move("x", 0, far, State.OPEN, 1_000))
    second = store.move(Move("x", first.epoch, 5, State.CLOSED))
    assert (first.epoch, second.epoch) == (far + 1, far + 2)


def test_a_move_begins_a_new_window(make: Make) -> None:
    store = make()
    exchange(store, Exchange("x", 0, SHAPE, BAD, witness=True, report="open"))
    view = store.move(Move("x", None, 0, State.CLOSED))
    assert view.buckets == ()
    assert (view.witnesses, view.reporters, view.burst) == (0, 0, None)
    assert store.reports(["x"]) == [[]]
    late = exchange(make(), Exchange("x", 0, SHAPE, BAD, witness=True))
    assert not late.applied
    assert late.buckets == ()


@pytest.mark.parametrize("state", list(State))
def test_every_state(make: Make, state: State) -> None:
    store = make()
    view = store.move(Move("x", 0, 0, state))
    assert (view.state, view.remaining) == (state, None)
    assert store.read(["x"])[0].state is state


def test_no_counts_while_open(make: Make) -> None:
    store = make()
    view = exchange(store, Exchange("x", opened(store).epoch, SHAPE, BAD, witness=True))
    assert not view.applied
    assert view.buckets == ()


def test_a_loss_is_put_right(make: Make, stores: Stores) -> None:
    one, two = make(), make()
    view = opened(one)
    stores.forget()
    assert one.read(["x"])[0].epoch == 0
    again = Move("x", 0, view.epoch, State.OPEN, 4_000, reopens=1, reassert=True)
    first, second = one.move(again), two.move(again)
    assert (first.won, second.won) == (True, False)
    assert first.epoch == second.epoch == view.epoch
    older = two.move(again._replace(known=view.epoch - 5, state=State.CLOSED, expected=None))
    assert (older.won, older.state) == (False, State.OPEN)


def test_a_loss_ends_the_leases(make: Make, stores: Stores) -> None:
    store = make()
    view = half_open(store)
    (token,) = exchange(store, lease(view)).tokens
    stores.forget()
    after = store.move(Move("x", 0, view.epoch, State.HALF_OPEN, reassert=True))
    assert after.epoch == view.epoch + 1
    assert exchange(store, lease(after)).live == 1
    late = exchange(store, lease(view, wants=0, probes=(Probe(token, ONE),)))
    assert (late.live, late.probes.calls) == (1, 0)


def test_a_lost_delta_is_said_to_be(make: Make, stores: Stores) -> None:
    store = make()
    closed = store.move(Move("x", None, 0, State.CLOSED))
    stores.forget()
    view = exchange(store, Exchange("x", closed.epoch, SHAPE, ONE))
    assert not view.applied
    assert view.epoch < closed.epoch
    store.move(Move("x", view.epoch, closed.epoch, State.CLOSED, reassert=True))
    assert exchange(store, Exchange("x", closed.epoch, SHAPE, ONE)).applied


# -- leases


def test_leases_are_bounded(make: Make) -> None:
    one, two = make(), make()
    view = half_open(one)
    first = exchange(one, lease(view, wants=2, slots=3))
    second = exchange(two, lease(view, wants=5, slots=3))
    third = exchange(one, lease(view, wants=5, slots=3))
    assert [len(each.tokens) for each in (first, second, third)] == [2, 1, 0]
    assert third.live == 3
    assert len({*first.tokens, *second.tokens}) == 3


def test_no_lease_while_open(make: Make) -> None:
    store = make()
    assert exchange(store, lease(opened(store))).tokens == ()


def test_no_lease_in_another_epoch(make: Make) -> None:
    store = make()
    view = half_open(store)
    assert exchange(store, lease(view, epoch=view.epoch - 1)).tokens == ()


def test_an_outcome_counts_once(make: Make) -> None:
    store = make()
    view = half_open(store)
    (token,) = exchange(store, lease(view)).tokens
    outcome = lease(view, probes=(Probe(token, BAD),))
    after = exchange(store, outcome)
    assert after.probes == BAD
    assert len(after.tokens) == 1  # its slot is free again
    again = exchange(store, outcome)
    assert again.probes == BAD
    assert again.live == 1


def test_an_unused_lease_is_given_back(make: Make) -> None:
    store = make()
    view = half_open(store)
    (token,) = exchange(store, lease(view)).tokens
    after = exchange(store, lease(view, wants=0, probes=(Probe(token),)))
    assert (after.live, after.probes.calls) == (0, 0)


def test_an_expired_lease_is_reaped(make: Make) -> None:
    store = make()
    view = half_open(store)
    short = lease(view, lease=1)
    (token,) = exchange(store, short).tokens
    granted: tuple[int, ...] = ()
    while not granted:  # a millisecond of the store's clock
        granted = exchange(store, short._replace(lease=60_000)).tokens
    late = exchange(store, lease(view, wants=0, probes=(Probe(token, ONE),)))
    assert (late.live, late.probes.calls) == (1, 0)


# -- reports, pushes, names


def test_reports(make: Make) -> None:
    one, two = make(), make()
    exchange(one, Exchange("x", 0, SHAPE, ONE, report="open: 3 of 4"))
    exchange(two, Exchange("x", 0, SHAPE, ONE, report="é" * 200))
    none, (first, second), also_none = one.reports(["y", "x", "z"])
    assert none == also_none == []
    said = {report.process: report.text for report in (first, second)}
    assert said[one.process] == "open: 3 of 4"
    assert said[two.process] == "é" * (MAX_REPORT // 2)
    exchange(one, Exchange("x", 0, SHAPE, report=""))
    ((left,),) = two.reports(["x"])
    assert left.process == two.process


def test_reports_of_the_dead_go(make: Make, stores: Stores) -> None:
    """A process that is gone without a farewell; who lives says it again each second."""
    one, two = make(), make()
    for store in (one, two):
        exchange(store, Exchange("x", 0, SHAPE, ONE, report="open 1/1 y"))
    stores.pass_time(REPORT_TTL - 4_000)
    exchange(one, Exchange("x", 0, SHAPE, report="open 2/2 y"))
    ages = {report.process: report.age for report in one.reports(["x"])[0]}
    assert ages[two.process] >= REPORT_TTL - 4_000
    assert ages[one.process] < REPORT_TTL - 4_000
    stores.pass_time(4_000)
    ((left,),) = two.reports(["x"])
    assert (left.process, left.text) == (one.process, "open 2/2 y")


def test_a_cut_name_is_found_again(make: Make) -> None:
    """Of a long name only its beginning is stored; what `scan` gives leads to the circuit."""
    store = make()
    name = "日本/" * 100
    view = opened(store, name)
    (known,) = store.scan()
    (read,) = store.read([known])
    assert (read.known, read.epoch) == (True, view.epoch)


def test_long_reasons_are_cut(make: Make) -> None:
    store = make()
    assert opened(store, reason="é" * 1000).reason == "é" * MAX_REASON


def test_pushes_arrive(make: Make) -> None:
    one, two = make(), make()
    assert two.wait(10.0) == [Hint("")]
    view = opened(one, "host:80")
    hints = list[Hint]()
    while not hints:  # a wait may be over sooner than it was asked to be
        hints = two.wait(10.0)
    assert hints == [Hint("host:80", view.epoch, one.process)]
    assert two.wait(0.0) == []


def test_a_wait_can_be_ended(make: Make) -> None:
    store = make()
    assert store.wait(10.0) == [Hint("")]
    store.wake()
    assert store.wait(60.0) == []


NAMES = ["a b", "日本", "x{y}z", "%41", "a'b\"c;\n", "\x00", "*", "x" * 500, "host:443", "\ud800"]


def test_names_of_every_kind(make: Make) -> None:
    store = make()
    for n, name in enumerate(NAMES):
        exchange(store, Exchange(name, 0, SHAPE, Counts(n + 1)))
    assert [total(view).calls for view in store.read(NAMES)] == list(range(1, len(NAMES) + 1))
    for name in NAMES:
        opened(store, name)
    names = {name if len(name) < 100 else name_of(key_of(name)) for name in NAMES}
    assert set(store.scan()) in ({*NAMES}, names)


@pytest.mark.parametrize("key", ["%ff", "%", "%zz", "a%C3", "%ED%A0%80%ff", "\ufffd"])
def test_a_key_of_nobodys(key: str) -> None:
    """Whoever can write to a store may make one; its circuit is as good as absent."""
    assert name_of(key).encode("utf-8", "surrogatepass")
    assert len(key_of(name_of(key))) <= 96


def test_keys_are_bounded() -> None:
    keys = {key_of(name) for name in [*NAMES, "x" * 499, "ü" * 200]}
    assert len(keys) == len(NAMES) + 2
    assert all(len(key) <= 96 and key.isascii() and "{" not in key for key in keys)
    assert name_of(key_of("日本 {x}")) == "日本 {x}"


def test_closed_and_used_again(make: Make) -> None:
    store = make()
    exchange(store, Exchange("x", 0, SHAPE, ONE))
    store.wait(1.0)
    store.close()
    store.close()
    assert total(store.read(["x"])[0]).calls == 1
    assert store.wait(10.0) == [Hint("")]


def test_nothing_is_kept_for_good(make: Make, stores: Stores) -> None:
    store = make()
    exchange(store, Exchange("x", 0, SHAPE, ONE, ttl=600_000))
    stores.pass_time(601_000)
    assert not store.read(["x"])[0].known
    assert store.scan() == []


def test_an_opening_is_kept_beyond_its_end(make: Make, stores: Stores) -> None:
    store = make()
    opened(store, remaining=3_600_000, ttl=600_000)
    exchange(store, Exchange("x", store.read(["x"])[0].epoch, SHAPE, ttl=600_000))
    stores.pass_time(3_601_000)
    view = store.read(["x"])[0]
    assert (view.state, view.remaining) == (State.OPEN, 0)


def test_a_store_that_is_down(make: Make, stores: Stores) -> None:
    store = make()
    exchange(store, Exchange("x", 0, SHAPE, ONE))
    stores.down()
    with pytest.raises(StoreError):
        store.read(["x"])
    with pytest.raises(StoreError):
        store.exchange([Exchange("x", 0, SHAPE, ONE)])
    with pytest.raises(StoreError):
        store.move(Move("x", 0, 0, State.OPEN))
    stores.up()
    assert store.read(["x"])[0].name == "x"
    assert store.wait(10.0) == [Hint("")]
