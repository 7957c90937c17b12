"""Real processes over real stores: outages, probes, kills, forks and losses."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from fluxgate import CircuitBreaker, State
from fluxgate.fleet import Fleet
from fluxgate.fleet.store import Exchange
from fluxgate.retries import Cooldown
from fluxgate.trippers import Closed, FailureRate, MinRequests

from ...realservers import Redis
from .conftest import PATIENCE, eventually
from .workers import Worker

pytestmark = pytest.mark.slow


class Place:
    """Where a store is, and what can be done to it."""

    url: str

    def lose(self) -> None: ...
    def break_down(self) -> None: ...
    def mend(self) -> None: ...
    def close(self) -> None: ...


class File(Place):
    def __init__(self, folder: Path) -> None:
        self.path = folder / "fleet.db"
        self.url = f"sqlite://{self.path}"
        self._aside = folder.with_name("aside")

    def lose(self) -> None:
        self.path.unlink()

    def break_down(self) -> None:
        self.path.parent.rename(self._aside)

    def mend(self) -> None:
        self._aside.rename(self.path.parent)


class Server(Place):
    def __init__(self, folder: Path) -> None:
        self.server = Redis()
        self.server.start()
        self.url = self.server.url

    def lose(self) -> None:
        with redis.Redis(port=self.server.port) as client:
            client.flushall()

    def break_down(self) -> None:
        self.server.kill()

    def mend(self) -> None:
        self.server.start()

    def close(self) -> None:
        self.server.close()


@pytest.fixture(params=[File, Server], ids=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "home"
    folder.mkdir()
    made: Place = request.param(folder)
    yield made
    made.close()


@pytest.fixture
def workers(place: Place) -> Iterator[Callable[..., list[Worker]]]:
    with contextlib.ExitStack() as stack:

        def make(count: int, **settings: Any) -> list[Worker]:
            made = [Worker(place.url, **settings) for _ in range(count)]
            for each in made:
                stack.enter_context(each)
            return made

        yield make


Make = Callable[..., list[Worker]]


def states(workers: list[Worker]) -> set[State]:
    return {worker.state() for worker in workers}


def test_an_outage_opens_all(workers: Make) -> None:
    """Seen by two; the others have hardly any traffic. One winner, and probes one at a time."""
    tripper = Closed() & MinRequests(100) & FailureRate(0.5)
    four = workers(4, tripper=tripper, retry=Cooldown(0.5))
    for worker in four[:2]:
        worker.traffic(60.0, True)  # neither reaches the minimum before the two have
    eventually(lambda: states(four) == {State.OPEN})
    for worker in four[:2]:
        worker.fail(False)
    for worker in four[2:]:
        worker.traffic(60.0)
    eventually(lambda: states(four) == {State.CLOSED})
    heard = [worker.signals() for worker in four]
    openings = [moves[0] for moves in heard]
    assert sorted(origin for _, _, origin in openings) == ["fleet", "peer", "peer", "peer"]
    for moves in heard:  # one that was slow may not have seen it half-open
        assert (moves[0][:2], moves[-1][1]) == (("closed", "open"), "closed")


def test_counts_are_exact(workers: Make) -> None:
    four = workers(4)
    threads = [
        threading.Thread(target=worker.calls, args=(5000 + n,)) for n, worker in enumerate(four)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for worker in four:
        assert worker.flush()
    assert four[0].flush()
    view = four[0].info().fleet
    assert view.metrics.total_count == sum(5000 + n for n in range(4))
    assert sum(worker.status().dropped for worker in four) == 0


def test_a_killed_prober(workers: Make) -> None:
    """Its lease ends, and another probes."""
    one, two = workers(2, probe_timeout=1.5, retry=Cooldown(0.0))
    one.control("open_for", 0.001)
    eventually(lambda: State.CLOSED not in states([one, two]))
    eventually(lambda: one.probe())
    began = time.monotonic()
    assert not two.probe()
    one.kill()
    eventually(lambda: two.probe())
    assert time.monotonic() - began > 0.5
    two.end(False)


def test_never_more_probes_than_slots(workers: Make) -> None:
    """With a probe held by whoever has got one."""
    four = workers(4, max_half_open_calls=2, retry=Cooldown(0.0))
    four[0].control("open_for", 0.001)
    eventually(lambda: State.CLOSED not in states(four))
    eventually(lambda: sum(worker.probe() for worker in four) >= 2)
    for _ in range(5):
        assert all(worker.flush() for worker in four)
        assert sum(worker.probe() for worker in four) == 2


def test_fork_in_mid_traffic(workers: Make) -> None:
    (one,) = workers(1)
    one.traffic(300.0)
    total = 0
    for _ in range(4):
        own, well, total = one.fork()
        assert (own, well) == (5, True)
    assert total >= 20
    assert one.flush()
    info = one.info()
    # All of the parent's calls and five of each child; none twice.
    assert info.fleet.metrics.total_count <= info.totals.settled + 4 * 5
    assert info.fleet.metrics.total_count >= 20


def test_a_loss_while_open(workers: Make, place: Place) -> None:
    """Nobody is let in, and a newcomer finds it open."""
    three = workers(3)
    three[0].control("open_for", 600.0)
    eventually(lambda: states(three) == {State.OPEN})
    # A control holds where it is given at once; the store's answer has its epoch.
    eventually(lambda: all(worker.info().fleet.epoch for worker in three))
    epoch = three[0].info().fleet.epoch
    place.lose()
    for worker in three:
        worker.traffic(100.0)
    eventually(lambda: all(worker.status().attached and worker.flush() for worker in three))
    (late,) = workers(1)
    eventually(lambda: late.state() is State.OPEN)
    assert {worker.info().fleet.epoch for worker in (*three, late)} == {epoch}
    assert states(three) == {State.OPEN}
    assert all(worker.seen()[0]["good"] == 0 for worker in three)


def test_a_store_that_goes_and_comes(workers: Make, place: Place) -> None:
    """Nobody sees an error, local trips work, and all are attached again."""
    three = workers(3)
    for worker in three:
        worker.traffic(200.0)
    place.break_down()
    eventually(lambda: not any(worker.status().attached for worker in three))
    three[0].fail(True)
    eventually(lambda: three[0].state() is State.OPEN)
    three[0].fail(False)
    eventually(lambda: three[0].state() is State.CLOSED)
    place.mend()
    mended = time.monotonic()
    eventually(lambda: all(worker.status().attached for worker in three))
    assert time.monotonic() - mended < 10.0
    for worker in three:
        counts, took = worker.seen()
        assert counts["other"] == 0
        assert took  # there was traffic
        assert worker.flush()


def test_a_stopped_process_comes_back(workers: Make) -> None:
    """It has missed an opening and a closing, and knows nothing of the one in force."""
    one, two = workers(2)
    assert one.flush()
    assert two.flush()
    two.kill(signal.SIGSTOP)
    one.control("force_open")
    assert one.flush()
    two.kill(signal.SIGCONT)
    eventually(lambda: two.state() is State.FORCED_OPEN)


def test_one_bad_process_of_four(workers: Make) -> None:
    bad, *good = workers(4)
    for worker in good:
        worker.traffic(30.0)
    for worker in good:
        eventually(lambda: worker.seen()[0]["good"] > 5)  # noqa: B023
    bad.traffic(200.0, True)
    eventually(lambda: bad.seen()[0]["refused"] > 50)
    assert all(worker.seen()[0]["refused"] == 0 for worker in good)
    assert states(good) == {State.CLOSED}


def test_the_end_of_a_process(workers: Make) -> None:
    """What it has counted last is handed in on its way out."""
    one, two = workers(2)
    one.calls(123)
    one.tell_close()
    assert two.flush()
    assert two.info().fleet.metrics.total_count == 123


def test_a_lock_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file can be read all the time, which is not enough to be attached."""
    fleet = Fleet(f"sqlite://{tmp_path}/fleet.db")
    breaker = CircuitBreaker("x", fleet=fleet)
    assert fleet.flush(PATIENCE)
    store = fleet._flusher.store
    tries, exchange = [0], store.exchange

    def counted(requests: list[Exchange]) -> Any:
        tries[0] += 1
        return exchange(requests)

    store.exchange = counted  # type: ignore[method-assign]
    lock = sqlite3.connect(tmp_path / "fleet.db", isolation_level=None)
    with fleet, contextlib.closing(lock), caplog.at_level(logging.WARNING, "fluxgate"):
        lock.execute("BEGIN IMMEDIATE")
        breaker.call(int)
        eventually(lambda: not fleet.status().attached)
        enough = tries[0] + 5
        eventually(lambda: tries[0] >= enough)
        assert not fleet.status().attached
        assert ["can't be used" in record.message for record in caplog.records] == [True]
        lock.execute("ROLLBACK")
        assert fleet.flush(PATIENCE)
        assert fleet.status().dropped == 0
        view = breaker.info().fleet
        assert view is not None
        assert view.metrics.total_count == 1


def test_a_server_that_hangs(tmp_path: Path) -> None:
    """SIGSTOP: no answer, no error. Calls take no longer, and it is attached again afterwards."""
    place = Server(tmp_path)
    process = place.server.process
    assert process is not None
    try:
        with Worker(place.url) as worker:
            worker.traffic(500.0)
            eventually(lambda: worker.seen()[0]["good"] > 50)
            os.kill(process.pid, signal.SIGSTOP)
            eventually(lambda: not worker.status().attached)
            before = worker.seen()[0]["good"]
            eventually(lambda: worker.seen()[0]["good"] > before + 50)
            os.kill(process.pid, signal.SIGCONT)
            eventually(lambda: worker.status().attached)
            assert worker.seen()[0]["other"] == 0
    finally:
        os.kill(process.pid, signal.SIGCONT)
        place.close()


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import os, sys
import gevent
from fluxgate import CircuitBreaker
from fluxgate.fleet import Fleet

fleet = Fleet(sys.argv[1])
breaker = CircuitBreaker("x", fleet=fleet)
breaker.call(int)
assert fleet.flush(30.0)
gevent.sleep(0.3)  # the listener waits by now
child = os.fork()
if child == 0:
    gevent.sleep(0.3)
    breaker.force_open(fleet=True)
    attached = fleet.flush(30.0)
    gevent.sleep(0.3)
    os._exit(0 if attached else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert fleet.flush(30.0)
print(breaker.state)
fleet.close()
"""


def test_a_fork_with_greenlets(place: Place) -> None:
    """Those of the parent live on in the child, where their descriptors are somebody else's."""
    pytest.importorskip("gevent", reason="gevent has no wheel for this Python")
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, place.url],
        capture_output=True,
        text=True,
        timeout=PATIENCE * 4,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("forced_open\n", "")
