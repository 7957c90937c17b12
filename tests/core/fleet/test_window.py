"""Merged windows: which of a store's buckets are in them, by the policy and in each store."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from fluxgate import CircuitBreaker
from fluxgate.fleet._deltas import Deltas
from fluxgate.fleet._sqlite import SqliteStore
from fluxgate.fleet._window import kept, shape_of, write_counts
from fluxgate.fleet.memory import MemoryStore, Space
from fluxgate.fleet.store import Bucket, Counts, Exchange, Shape, Store, View
from fluxgate.windows import CountWindow, TimeWindow, Window

from ...realservers import Redis

NOW = 1000


def buckets(calls: dict[int, int]) -> list[Bucket]:
    """Buckets by their age in seconds, with so many calls each."""
    return [Bucket(NOW - age, Counts(count)) for age, count in calls.items()]


def ages(calls: dict[int, int], window: Window) -> list[int]:
    shape = shape_of(CircuitBreaker("x", window=window)._circuit.policy)
    assert shape is not None
    return [(NOW - each.tick) * shape.width for each in kept(buckets(calls), NOW, shape)][::-1]


@pytest.mark.parametrize(
    ("calls", "in_it"),
    [
        # The current second is no whole one, so two older ones are in it, however full it is.
        ({0: 900, 1: 900, 2: 900, 3: 900}, [0, 1, 2]),
        ({0: 10, 1: 40, 2: 40, 3: 40, 4: 40}, [0, 1, 2, 3]),
        ({0: 10, 1: 40, 2: 49, 3: 1, 4: 40}, [0, 1, 2, 3]),
        ({0: 10, 1: 40, 2: 50, 3: 1, 4: 40}, [0, 1, 2]),
        ({0: 1, 30: 1, 60: 1, 61: 1}, [0, 30, 60]),
        # Seconds without calls are whole ones, too.
        ({0: 200, 3: 5}, [0]),
    ],
)
def test_a_number_of_calls(calls: dict[int, int], in_it: list[int]) -> None:
    """The newest that together hold 100, at least two whole ones, at most 60 s."""
    assert ages(calls, CountWindow(100)) == in_it


def test_a_time() -> None:
    """That many whole seconds, beside the current one, whatever is in them."""
    calls = dict.fromkeys(range(20), 500)
    assert ages(calls, TimeWindow(10.0)) == list(range(11))
    assert ages(calls, TimeWindow(0.5)) == [0, 1]


def test_a_long_time_has_wider_buckets() -> None:
    shape = shape_of(CircuitBreaker("x", window=TimeWindow(3600.0))._circuit.policy)
    assert shape == Shape(60, 61, 0, shape.thresholds if shape else ())


def on_memory(_: Path, given: list[Bucket]) -> tuple[Store, Callable[[], None]]:
    space = Space()
    store = MemoryStore(space)
    space.clock = lambda: NOW * 1000
    seed(store)
    space.circuits["x"].buckets = {each.tick: each.counts for each in given}
    return store, store.close


def on_sqlite(folder: Path, given: list[Bucket]) -> tuple[Store, Callable[[], None]]:
    store = SqliteStore(folder / "fleet.db")
    store.clock = lambda: NOW * 1000
    seed(store)
    store.before_fork()  # it lets go of the file
    store.after_fork_in_parent()
    database = sqlite3.connect(folder / "fleet.db")
    with database:
        database.execute("DELETE FROM bucket")
        database.executemany(
            "INSERT INTO bucket(circuit, idx, calls) SELECT id, ?, ? FROM circuit",
            [(each.tick, each.counts.calls) for each in given],
        )
    database.close()
    return store, store.close


def seed(store: Store) -> None:
    store.exchange([Exchange("x", 0, SHAPE, Counts(1))])


SHAPE = Shape(1, 61, 100, ())


@pytest.mark.parametrize("begin", [on_memory, on_sqlite])
@pytest.mark.parametrize("chance", range(10))
def test_stores_keep_what_is_in_it(
    begin: Callable[[Path, list[Bucket]], tuple[Store, Callable[[], None]]],
    chance: int,
    tmp_path: Path,
) -> None:
    """And drop the rest, when somebody hands in."""
    given = some_buckets(chance)
    store, close = begin(tmp_path, given)
    (view,) = store.exchange([Exchange("x", 0, SHAPE)])
    close()
    assert isinstance(view, View)
    assert sorted(view.buckets) == sorted(kept(given, NOW, SHAPE))


def test_redis_keeps_what_is_in_it() -> None:
    import redis

    from fluxgate.fleet._url import open_store

    server = Redis()
    server.start()
    store, client = open_store(server.url), redis.Redis(port=server.port)
    try:
        for chance in range(20):
            client.flushall()
            seed(store)
            seconds, micros = client.time()
            if micros > 700_000:  # the second is not to end in between
                seconds += 1
                while client.time()[0] < seconds:
                    pass
            moved = seconds - NOW
            given = some_buckets(chance)
            text = "|".join(
                f"{(each.tick + moved) % 4096:x}.{write_counts(each.counts)}"
                for each in sorted(given)
            )
            newest = max(each.tick for each in given) + moved
            client.hset("fluxgate:1:{x}", mapping={"w": text, "t": newest * 1000})
            (view,) = store.exchange([Exchange("x", 0, SHAPE)])
            assert isinstance(view, View)
            found = [Bucket(each.tick - view.tick + NOW, each.counts) for each in view.buckets]
            expected = kept(given, view.tick - moved, SHAPE)
            assert sorted(found) == sorted(
                each._replace(tick=each.tick - (view.tick - moved) + NOW) for each in expected
            )
    finally:
        client.close()
        store.close()
        server.close()


def some_buckets(chance: int) -> list[Bucket]:
    """Buckets with and without gaps, of one call or many."""
    dice = random.Random(chance)
    most = dice.choice([2, 40, 90])
    times = dice.sample(range(70), dice.randint(1, 40))
    return [Bucket(NOW - age, Counts(dice.randint(1, most))) for age in sorted(times)]


def test_parts_of_a_millisecond_add_up() -> None:
    """What is cut off of one delta is in the next."""
    circuit = CircuitBreaker("x")._circuit
    machine, shape = circuit._machine, shape_of(circuit.policy)
    assert shape is not None
    deltas, milliseconds = Deltas(machine), 0
    for _ in range(1000):
        machine.totals.nanoseconds += 600_000
        machine.totals.successes += 1
        milliseconds += deltas.take(machine, shape, counting=True).milliseconds
    assert milliseconds == 600
