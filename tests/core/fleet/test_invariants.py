"""What must hold of any fleet, whatever happens to its processes and its store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from fluxgate import State
from fluxgate.retries import Cooldown
from fluxgate.trippers import Closed, FailureRate, MinRequests
from fluxgate.windows import TimeWindow

from .chaos import PLACES, SLOTS, DrivenWorker, OnFile, Place, most_at_once, quantile
from .conftest import PATIENCE, eventually

pytestmark = pytest.mark.slow

LONG = os.environ.get("FLUXGATE_CHAOS") == "1"
CALLS = 20_000 if LONG else 2_000

Make = Callable[..., list[DrivenWorker]]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = PLACES[request.param]()
    yield made
    made.close()


@pytest.fixture
def workers(place: Place) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(count: int, **settings: Any) -> list[DrivenWorker]:
            made = [DrivenWorker(place.url, **settings) for _ in range(count)]
            for each in made:
                stack.enter_context(each)
            return made

        yield make


def at_once(workers: list[DrivenWorker], verb: str, *args: Any) -> None:
    """Tell all of them the same, and wait until all have done it."""
    threads = [threading.Thread(target=getattr(each, verb), args=args) for each in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 4)


def total(worker: DrivenWorker) -> int:
    count: int = worker.info().fleet.metrics.total_count
    return count


def test_counts_of_eight_are_exact(workers: Make) -> None:
    eight = workers(8)
    at_once(eight, "calls", CALLS)
    assert all(worker.flush() for worker in eight)
    assert eight[0].flush()
    assert total(eight[0]) == 8 * CALLS
    assert sum(worker.status().dropped for worker in eight) == 0


def test_kills_are_never_over_counted(workers: Make) -> None:
    """SIGKILL while they hand in: what is counted is never more than what was done."""
    (keeper,) = workers(1)
    done = 0
    for _ in range(3):
        doomed = workers(4)
        at_once(doomed, "calls", 400)
        done += 4 * 400
        for each in doomed:
            each.kill()
        assert keeper.flush()
        counted = total(keeper)
        assert counted <= done
        assert keeper.flush()
        # What the dead had sent may still be in the server's socket.
        assert counted <= total(keeper) <= done


def test_a_hanging_prober(workers: Make) -> None:
    """SIGSTOP while it holds the lease: another gets one, and what the first says is too late."""
    one, two = workers(2, probe_timeout=1.5, retry=Cooldown(0.0), max_half_open_calls=1)
    one.control("open_for", 0.001)
    eventually(lambda: State.CLOSED not in {one.state(), two.state()})
    eventually(lambda: one.probe())
    epoch = one.epoch()
    one.kill(signal.SIGSTOP)
    eventually(lambda: two.probe())
    one.kill(signal.SIGCONT)
    one.end(True)
    assert one.flush()
    assert two.flush()
    assert two.epoch() == epoch, "a probe whose lease was over has opened the circuit"
    two.end(False)


def test_no_early_admission_after_a_loss(workers: Make, place: Place) -> None:
    """Open for ten minutes; everything that can be lost is lost, three times."""
    four = workers(4)
    four[0].control("open_for", 600.0)
    eventually(lambda: {worker.state() for worker in four} == {State.OPEN})
    # A control holds where it is given at once; the store's answer has its epoch.
    eventually(lambda: all(worker.epoch() for worker in four))
    epoch = four[0].epoch()
    for worker in four:
        worker.traffic(100.0)
    losses = ["deleted", "emptied", "noise"] if isinstance(place, OnFile) else ["flushed", "killed"]
    for loss in losses:
        with place.fault(loss):
            if loss == "killed":  # nothing is flushed meanwhile; `flush` would wait in vain
                eventually(lambda: not any(worker.status().attached for worker in four))
            else:
                eventually(lambda: all(worker.flush() for worker in four))
        eventually(lambda: all(worker.flush() for worker in four))
        (late,) = workers(1)
        eventually(lambda: late.state() is State.OPEN)  # noqa: B023
        assert late.epoch() == epoch
    for worker in four:
        assert worker.seen()[0]["good"] == worker.seen()[0]["other"] == 0
        assert worker.state() is State.OPEN


@pytest.mark.parametrize("rate", [30.0, 2.0])
def test_a_bad_process_and_quiet_ones(workers: Make, rate: float) -> None:
    """Healthy ones at 30 and at 2 calls a second: not one of their calls is refused."""
    bad, *good = workers(
        4, window=TimeWindow(10.0), tripper=MinRequests(10) & FailureRate(0.5), retry=Cooldown(0.5)
    )
    for worker in good:
        worker.traffic(rate)
    for worker in good:
        eventually(lambda: worker.seen()[0]["good"] > 1)  # noqa: B023
    bad.traffic(200.0, True)
    eventually(lambda: bad.seen()[0]["bad"] > 10 and bad.seen()[0]["refused"] > 150)
    for worker in good:
        counts = worker.seen()[0]
        assert counts["refused"] == counts["other"] == 0
        assert worker.state() is State.CLOSED


def test_probes_of_all_processes_together(workers: Make) -> None:
    """An outage, and probes that go on failing: at most two at a time in eight processes."""
    tripper = (Closed() & MinRequests(40) & FailureRate(0.5)) | MinRequests(3) & FailureRate(0.5)
    eight = workers(8, tripper=tripper, retry=Cooldown(0.1), max_half_open_calls=SLOTS)
    for worker in eight:
        worker.traffic(60.0, True)
    eventually(lambda: eight[0].info().reopens >= 3)
    eight[3].kill()
    left = [worker for worker in eight if worker is not eight[3]]
    reopens = left[0].info().reopens
    eventually(lambda: left[0].info().reopens >= reopens + 2)
    for worker in left:
        worker.fail(False)
    eventually(lambda: {worker.state() for worker in left} == {State.CLOSED})
    eventually(lambda: len({worker.epoch() for worker in left}) == 1)
    seen = [worker.report() for worker in left]
    assert 0 < most_at_once([probe for each in seen for probe in each.probes]) <= SLOTS
    for each in seen:
        assert each.epochs == sorted(set(each.epochs))
        assert each.errors == []


WATCHED = """
import os, socket, sqlite3, sys, threading, time
from fluxgate import CallNotPermittedError, CircuitBreaker
from fluxgate.fleet import Fleet
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, MinRequests

calling, sins = threading.get_ident(), []
watching = False

def check(what):
    if watching and threading.get_ident() == calling:
        sins.append(what)

class Watched(sqlite3.Connection):
    pass

def wrapped(name, method):
    def call(*args, **more):
        check(name)
        return method(*args, **more)
    return call

for name in ("execute", "executemany", "executescript", "commit", "close"):
    setattr(Watched, name, wrapped(f"sqlite3.{name}", getattr(sqlite3.Connection, name)))
connect = sqlite3.connect
sqlite3.connect = lambda *args, **more: connect(*args, **more, factory=Watched)
for name in ("connect", "send", "sendall", "sendto", "recv", "recv_into", "bind", "accept"):
    setattr(socket.socket, name, wrapped(f"socket.{name}", getattr(socket.socket, name)))

def audit(event, args):
    if event.startswith(("socket.", "sqlite3.", "open", "os.listdir", "os.remove")):
        check(event)

sys.addaudithook(audit)

url = sys.argv[1]
fleet, peer = Fleet(url), Fleet(url)
settings = dict(tripper=MinRequests(5) & FailureRate(0.5), retry=Cooldown(0.05),
    max_half_open_calls=1)
breaker = CircuitBreaker("x", fleet=fleet, **settings)
other = CircuitBreaker("x", fleet=peer, **settings)
assert fleet.flush(30.0) and peer.flush(30.0)

def fail():
    raise ConnectionError

def calls(fn, count):
    global watching
    watching = True
    for _ in range(count):
        try:
            breaker.call(fn)
        except (CallNotPermittedError, ConnectionError):
            pass
    watching = False

seen = set()
def until(state, fn=int):
    deadline = time.monotonic() + 30.0
    while True:
        calls(fn, 3)
        seen.add(str(breaker.state))
        if breaker.state == state or time.monotonic() > deadline:
            break
        time.sleep(0.002)
    assert breaker.state == state, (breaker.state, state)

calls(int, 5000)                                  # closed
until("open", fail)                               # opened by itself
until("closed")                                   # and closed
for control in ("force_open", "disable", "metrics_only", "reset"):
    getattr(other, control)(fleet=True)
    wanted = other.state
    assert peer.flush(30.0)
    until(wanted)
other.open_for(0.3, fleet=True)                   # owned by the fleet: leases and probes
until("open")
until("half_open")
until("closed")
watching = True
breaker.open_for(0.3, fleet=True)                 # controls return at once, too
breaker.reset(fleet=True)
breaker.info(), fleet.status(), repr(fleet)
watching = False
until("closed")
print("at-fault", flush=True)
sys.stdin.readline()                              # the store is broken now
deadline = time.monotonic() + 30.0
while fleet.status().attached and time.monotonic() < deadline:
    calls(int, 5)
    time.sleep(0.01)
assert not fleet.status().attached
until("open", fail)
until("closed")
print("sins", sins, sorted(seen), flush=True)
os._exit(0)
"""


def test_no_input_or_output_on_the_calling_thread(place: Place) -> None:
    """In no state, attached or not: sockets, databases and files are the fleet's threads' alone."""
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, place.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "at-fault\n"
        with place.fault("locked" if isinstance(place, OnFile) else "killed"):
            process.stdin.write("\n")
            process.stdin.flush()
            said = process.stdout.readline()
    states = ["closed", "disabled", "forced_open", "half_open", "metrics_only", "open"]
    assert said == f"sins [] {states}\n"


@pytest.mark.skipif(not LONG, reason="two hundred openings: the session chaos")
def test_how_soon_all_have_opened(workers: Make) -> None:
    """By push: from the moment when one process was told until each of the others, printed."""
    first, *others = workers(8)
    took: list[float] = []
    for control, state in [("force_open", State.FORCED_OPEN), ("reset", State.CLOSED)] * 100:
        told = first.control(control)
        eventually(lambda: {each.state() for each in others} == {state})  # noqa: B023
        took += [each.when() - told for each in others]
        assert first.flush()
    took.sort()
    half, most = (quantile(took, share) * 1000 for share in (0.5, 0.99))
    print(f"\n{len(took)} changes reached a process after {half:.1f} ms (p50), {most:.1f} ms (p99)")


@pytest.mark.skipif(not LONG, reason="sixty processes: the session chaos")
def test_sixty_idle_processes(workers: Make) -> None:
    """Their share of a core beyond what the flusher's timer costs alone, which is printed."""
    sixty = [worker for _ in range(6) for worker in workers(10)]  # no more start at a time
    assert all(worker.flush() for worker in sixty)
    idle = threading.Event()
    idle.wait(5.0)
    before = [worker.cpu() for worker in sixty]
    idle.wait(30.0)
    after = [worker.cpu() for worker in sixty]
    share = sum(after) / 30.0 - sum(before) / 30.0
    print(f"\n60 idle processes: {share:.3%} of a core, their timers included")
    assert {worker.state() for worker in sixty} == {State.CLOSED}
