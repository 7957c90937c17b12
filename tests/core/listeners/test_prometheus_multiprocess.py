"""Prometheus's multiprocess mode: real processes, real files, real scrapes."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.parser import text_string_to_metric_families

from fluxgate import CircuitBreaker, Info
from fluxgate.listeners import _prometheus_multiprocess
from fluxgate.listeners._prometheus_multiprocess import Writer
from fluxgate.listeners.prometheus import PrometheusCollector, PrometheusListener
from fluxgate.trippers import FailureStreak

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")

DEADLINE = 30.0
"""Seconds after which a test gives up; none takes as long."""
SOON = 0.05
"""Seconds between the writes of the workers here."""

WORKER = """
import os, signal, sys
from fluxgate import CircuitBreaker, Info
from fluxgate.listeners.prometheus import PrometheusCollector, PrometheusListener
from fluxgate.trippers import FailureStreak

def fail(breaker, times=1):
    for _ in range(times):
        try:
            breaker.call(lambda: 1 / 0)
        except ZeroDivisionError:
            pass

for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""

Series = dict[str, float]


class Worker:
    """A process that does what it is told, a line of Python at a time."""

    def __init__(self, directory: Path, *lines: str) -> None:
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WORKER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.do(*lines)

    def do(self, *lines: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for line in lines:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "done\n", self.process.stderr.read()  # type: ignore[union-attr]

    def end(self) -> str:
        """Let it end by itself; what it said on its error stream."""
        _, errors = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0, errors
        return errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def make(*lines: str) -> Worker:
        workers.append(Worker(tmp_path, *lines))
        return workers[-1]

    yield make
    for each in workers:
        if each.process.poll() is None:
            each.kill()


@pytest.fixture
def scrape(tmp_path: Path) -> Callable[[], Series]:
    """The page that any of the workers would serve."""

    def scraped() -> Series:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(tmp_path))
        return series(generate_latest(registry).decode())

    return scraped


def series(text: str) -> Series:
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, "a series twice"
            found[name] = sample.value
    return found


def until(scrape: Callable[[], Series], **wanted: float) -> Series:
    """Scrape until the series have these values, or fail with what they have."""
    names = {key: NAMES[key] for key in wanted}
    start = time.monotonic()
    while True:
        # A server that is not up yet; a file that a worker has made but not yet filled, which
        # prometheus-client stumbles over.
        with suppress(OSError, struct.error):
            found = scrape()
            having = {key: found.get(name) for key, name in names.items()}
            if having == wanted:
                return found
            assert time.monotonic() - start < DEADLINE, having
        assert time.monotonic() - start < DEADLINE
        time.sleep(SOON)


NAMES = {
    "successes": 'fluxgate_calls_total{circuit="api",outcome="success"}',
    "failures": 'fluxgate_calls_total{circuit="api",outcome="failure"}',
    "rejections": 'fluxgate_rejections_total{circuit="api"}',
    "closed": 'fluxgate_circuits{circuit="api",state="closed"}',
    "open": 'fluxgate_circuits{circuit="api",state="open"}',
    "any_closed": 'fluxgate_circuit_state{circuit="api",state="closed"}',
    "any_open": 'fluxgate_circuit_state{circuit="api",state="open"}',
    "severity": 'fluxgate_circuit_severity{circuit="api"}',
    "unreadable": "fluxgate_unreadable_circuits",
    "trips": 'fluxgate_trips_total{circuit="api",reason="FailureStreak(2)"}',
    "count": 'fluxgate_call_duration_seconds_count{circuit="api"}',
    "below": 'fluxgate_call_duration_distribution_seconds_bucket{circuit="api",le="60.0"}',
    "all": 'fluxgate_call_duration_distribution_seconds_bucket{circuit="api",le="+Inf"}',
    "timed": 'fluxgate_call_duration_distribution_seconds_count{circuit="api"}',
    "other": 'fluxgate_calls_total{circuit="other",outcome="success"}',
}

API = 'api = CircuitBreaker("api", tripper=FailureStreak(2), buckets=(60.0,))'
COLLECT = f"collector = PrometheusCollector(interval={SOON})"
RARELY = "collector = PrometheusCollector(interval=3600)"
CALL = "api.call(int)"


def test_workers_are_added_up(worker: Any, scrape: Any) -> None:
    workers = [worker(API, COLLECT) for _ in range(2)]
    first = until(scrape, successes=0, closed=2, any_closed=1, any_open=0, severity=0)
    workers[0].do(CALL, CALL)
    workers[1].do(CALL, "fail(api, 2)")
    with_open = until(
        scrape,
        successes=3,
        failures=2,
        trips=1,
        closed=1,
        open=1,
        any_closed=1,  # in some worker
        any_open=1,
        severity=4,  # the worst
        count=5,
        below=5,
        all=5,
        timed=5,
        unreadable=0,
    )
    assert first.keys() == with_open.keys(), "something was not there from the start"


def test_the_same_series_as_without_workers(worker: Any, scrape: Any) -> None:
    worker(API, COLLECT)
    alone = CircuitBreaker("api", tripper=FailureStreak(2), buckets=(60.0,))
    registry = CollectorRegistry()
    PrometheusCollector(registry, circuits=lambda: [alone])
    assert series(generate_latest(registry).decode()).keys() == until(scrape, closed=1).keys()


def test_a_worker_that_ends_leaves_its_counts(worker: Any, scrape: Any) -> None:
    """Written at its end, however long the interval is; its states go, with no hook's help."""
    ending, staying = worker(API, RARELY), worker(API, RARELY)
    ending.do(CALL, "fail(api, 2)")
    assert scrape()[NAMES["successes"]] == 0
    assert ending.end() == ""
    until(scrape, successes=1, failures=2, trips=1, open=0, any_open=0, closed=1)
    assert staying.end() == ""
    until(scrape, successes=1, failures=2, closed=0, any_closed=0, severity=0)


def test_a_worker_that_is_killed(worker: Any, scrape: Any, tmp_path: Path) -> None:
    killed, staying = worker(API, COLLECT), worker(API, COLLECT)
    killed.do(CALL, "fail(api, 2)")
    staying.do(CALL)
    until(scrape, successes=2, open=1, severity=4)
    killed.kill()
    mark_process_dead(killed.process.pid, path=str(tmp_path))
    until(scrape, successes=2, failures=2, open=0, any_open=0, closed=1, severity=0)


def test_a_transition_is_written_at_once_for_a_listener(worker: Any, scrape: Any) -> None:
    told = worker(
        RARELY,
        'api = CircuitBreaker("api", tripper=FailureStreak(2), listeners=[PrometheusListener()])',
        "fail(api, 2)",
    )
    until(scrape, open=1, failures=2, trips=1)
    told.do("api.reset()", CALL, "api.force_open()")
    until(scrape, open=0, successes=1, severity=5)


def test_preloaded_workers_are_forked(worker: Any, scrape: Any, tmp_path: Path) -> None:
    """The supervisor made the circuits, and is no worker; its children count from nothing."""
    fork = "heard, said = os.pipe(); ended, end = os.pipe(); child = os.fork()"
    work = (
        "child or (os.close(end), api.call(int), os.write(said, b'.'), "
        "os.read(ended, 1), os._exit(0))"
    )
    supervisor = worker(API, COLLECT)
    until(scrape, closed=1, successes=0)
    supervisor.do(f"{fork}; {work}; os.read(heard, 1)")
    until(scrape, successes=1, closed=1, any_closed=1)
    supervisor.do(f"one = end; {fork}; {work}; os.read(heard, 1)")
    until(scrape, successes=2, closed=2)
    files = {each.name for each in tmp_path.iterdir()}
    assert len([name for name in files if name.startswith("counter_")]) == 3
    supervisor.do("os.close(one); os.close(end); os.wait(); os.wait()")
    supervisor.do(CALL)  # so it is a worker after all
    until(scrape, successes=3, closed=3)


def test_calls_before_the_fork_are_counted_once(worker: Any, scrape: Any) -> None:
    parent = worker(API, COLLECT, CALL, CALL)
    until(scrape, successes=2)
    parent.do(
        "child = os.fork(); child or (api.call(int), collector.unregister(), os._exit(0)); "
        "os.waitpid(child, 0)"
    )
    until(scrape, successes=3, closed=1)
    parent.do(CALL)
    until(scrape, successes=4)


def test_a_child_that_makes_no_call_writes_nothing(
    worker: Any, scrape: Any, tmp_path: Path
) -> None:
    parent = worker(API, COLLECT, CALL)
    until(scrape, successes=1, closed=1)
    before = sorted(each.name for each in tmp_path.iterdir())
    parent.do(
        "child = os.fork(); child or (collector._writer.write(), collector.unregister(), "
        "os._exit(0)); os.waitpid(child, 0)"
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == before
    assert parent.end() == ""


def test_an_earlier_process_of_the_same_number(worker: Any, scrape: Any) -> None:
    """Counts go on from what its file holds."""
    same = (
        "from prometheus_client import values; "
        "values.ValueClass = values.MultiProcessValue(lambda: 7)"
    )
    for total in (2, 4):
        again = worker(same, API, COLLECT, CALL, CALL)
        until(scrape, successes=total, closed=1, below=total)
        again.kill()


def test_circuits_that_go_take_their_state_along(worker: Any, scrape: Any) -> None:
    kept = worker(API, COLLECT, CALL, "fail(api, 2)", "import gc")
    until(scrape, open=1)
    kept.do("del api; gc.collect()")
    until(scrape, open=0, any_open=0, severity=0, successes=1, below=3)
    kept.do(API, CALL)
    until(scrape, closed=1, open=0, successes=2, below=4, timed=4)


def test_buckets_that_merge_are_not_counted_twice(worker: Any, scrape: Any) -> None:
    both = worker('api = CircuitBreaker("api", buckets=(30.0, 60.0))', COLLECT, CALL, CALL)
    until(scrape, below=2, timed=2)
    both.do('more = CircuitBreaker("api", buckets=(60.0,))', "more.call(int)")
    found = until(scrape, successes=3, below=3, timed=3, all=3)
    inner = NAMES["below"].replace("60.0", "30.0")
    assert found[inner] == 0


def test_names_that_went_keep_their_place(worker: Any, scrape: Any) -> None:
    """Files only grow: else, hosts that come and go would fill them."""
    churning = worker(API, f"PrometheusCollector(interval={SOON}, max_circuits=3)", "import gc")
    until(scrape, closed=1)
    for number in range(8):
        churning.do(f'each = CircuitBreaker("host-{number}")', "each.call(int)")
        if number < 2:
            name = f'fluxgate_calls_total{{circuit="host-{number}",outcome="success"}}'
            NAMES[f"host{number}"] = name
            until(scrape, **{f"host{number}": 1})
        else:
            until(scrape, other=number - 1)
    names = {name.split('circuit="')[1].split('"')[0] for name in scrape() if "circuit=" in name}
    assert names == {"api", "host-0", "host-1", "other"}


def test_a_directory_that_cant_be_written_stops_nobody(worker: Any, tmp_path: Path) -> None:
    alone = worker("import shutil", f"shutil.rmtree({str(tmp_path)!r})", API, COLLECT, CALL)
    errors = alone.end()
    assert errors.count("could not be written") == 1  # once in a row


def test_the_writer_survives_a_source_that_raises(worker: Any, scrape: Any) -> None:
    moody = worker(
        API,
        "mood = []",
        f"PrometheusCollector(circuits=lambda: mood or 1 / 0, interval={SOON})",
        CALL,
        "mood.append(api)",
    )
    until(scrape, successes=1)
    assert "ZeroDivisionError" in moody.end()


def test_nothing_is_registered_where_files_are_read(worker: Any) -> None:
    """A page with both a collector's series and those from the files has them twice."""
    one = worker(
        API,
        "from prometheus_client import CollectorRegistry, generate_latest",
        "registry = CollectorRegistry()",
        f"collector = PrometheusCollector(registry, interval={SOON})",
        "assert generate_latest(registry) == b''",
        "assert any(metric.samples for metric in collector.collect())",
    )
    assert one.end() == ""


def test_unregistering_writes_a_last_time(worker: Any, scrape: Any) -> None:
    one = worker(API, RARELY, CALL, "collector.unregister()")
    until(scrape, successes=1, closed=0)
    one.do(CALL, "import threading")
    one.do("assert threading.active_count() == 1")
    one.do(RARELY)  # there can be another one now
    assert one.end() == ""
    until(scrape, successes=2)


APP = """
import os, struct
from fluxgate import CircuitBreaker, Info
from fluxgate.listeners.prometheus import PrometheusCollector
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

api = CircuitBreaker("api")
PrometheusCollector(interval=0.05)

def app(environ, start_response):
    path, status = environ["PATH_INFO"], "200 OK"
    if path == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        try:
            body = generate_latest(registry)
        except struct.error:  # a file that a worker has made but not yet filled
            body, status = b"", "503 Service Unavailable"
    else:
        if path == "/open":
            api.open_for(3600)
        elif path == "/call":
            api.call(int)
        body = str(os.getpid()).encode()
    start_response(status, [("Content-Length", str(len(body))), ("Connection", "close")])
    return [body]
"""

CONFIG = """
from prometheus_client import multiprocess

workers = 2

def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
"""


@pytest.fixture(params=["preloaded", "each loads"])
def gunicorn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A gunicorn with two workers; its address."""
    directory = tmp_path / "metrics"
    directory.mkdir()
    (tmp_path / "served.py").write_text(APP)
    (tmp_path / "conf.py").write_text(CONFIG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    preload = ["--preload"] if request.param == "preloaded" else []
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "conf.py", "-b", address, *preload, "served:app"],
        cwd=tmp_path,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    yield f"http://{address}"
    process.terminate()
    _, errors = process.communicate(timeout=DEADLINE)
    assert b"Traceback" not in errors, errors.decode()


def test_gunicorn(gunicorn: str) -> None:
    def get(path: str) -> str:
        with urllib.request.urlopen(gunicorn + path, timeout=DEADLINE) as response:
            return response.read().decode()

    def scrape() -> Series:
        return series(get("/metrics"))

    until(scrape, successes=0)
    calls: dict[int, int] = {}
    start = time.monotonic()
    while len(calls) < 2:
        worker = int(get("/call"))
        calls[worker] = calls.get(worker, 0) + 1
        assert time.monotonic() - start < DEADLINE
    until(scrape, successes=sum(calls.values()), closed=2, severity=0)
    opened = int(get("/open"))
    until(scrape, open=1, closed=1, any_open=1, severity=4)
    os.kill(opened, signal.SIGKILL)
    # Its counts stay; its state goes; a new worker comes in its place.
    until(scrape, successes=sum(calls.values()), open=0, any_open=0)


class TestInThisProcess:
    """The same without a process to itself, where its moments can be met."""

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        written: dict[Any, Any] = {}
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue())
        monkeypatch.setattr(_prometheus_multiprocess, "_series", written)
        yield
        for series in written.values():
            series._value._file.close()

    @pytest.fixture
    def collect(self) -> Iterator[Callable[..., PrometheusCollector]]:
        made: list[PrometheusCollector] = []

        def make(*breakers: CircuitBreaker, **options: Any) -> PrometheusCollector:
            registry = options.pop("registry", None) or CollectorRegistry()
            made.append(PrometheusCollector(registry, circuits=lambda: breakers, **options))
            return made[-1]

        yield make
        for each in made:
            each.unregister()

    def threads(self) -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == "fluxgate-prometheus"]

    def test_it_is_written_at_once_and_then_when_woken(self, collect: Any, scrape: Any) -> None:
        api = CircuitBreaker("api", buckets=(60.0,))
        collector = collect(api, interval=3600)
        assert scrape()[NAMES["closed"]] == 1
        api.call(int)
        assert scrape()[NAMES["successes"]] == 0
        collector.wake()
        until(scrape, successes=1, below=1, timed=1)

    def test_a_listener_wakes_the_collector_of_its_registry(
        self, collect: Any, scrape: Any
    ) -> None:
        registry = CollectorRegistry()
        api = CircuitBreaker("api", listeners=[])
        collect(api, registry=registry, interval=3600)
        listener = PrometheusListener(registry)
        api.open_for(60)
        listener(None)  # type: ignore[arg-type]
        until(scrape, open=1, any_open=1, severity=4)

    def test_many_transitions_make_few_writes(
        self, collect: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written = threading.Semaphore(0)
        write = Writer.write

        def counted(writer: Writer, **options: Any) -> None:
            write(writer, **options)
            written.release()

        monkeypatch.setattr(Writer, "write", counted)
        collector = collect(CircuitBreaker("api"), interval=3600)
        for _ in range(2):  # at once, and by the thread as it starts
            assert written.acquire(timeout=DEADLINE)
        start = time.monotonic()
        for _ in range(3):
            while not written.acquire(blocking=False):
                collector.wake()
                assert time.monotonic() - start < DEADLINE
        assert time.monotonic() - start >= 2 * _prometheus_multiprocess.PAUSE

    def test_no_thread_is_left_while_a_process_forks(self, collect: Any, scrape: Any) -> None:
        api = CircuitBreaker("api")
        collector = collect(api, interval=SOON)
        until(scrape, closed=1)
        writer = collector._writer
        assert len(self.threads()) == 1
        writer.before_fork()
        assert not self.threads()
        writer.after_fork(child=False)
        assert len(self.threads()) == 1
        until(scrape, closed=0, any_closed=0)  # taken for a supervisor
        api.call(int)
        until(scrape, closed=1, successes=1)

    def test_unregistering_ends_the_thread(self, collect: Any, scrape: Any) -> None:
        api = CircuitBreaker("api")
        collector = collect(api, interval=3600)
        api.call(int)
        collector.unregister()
        assert not self.threads()
        _prometheus_multiprocess._before_fork()
        _prometheus_multiprocess._after_in_parent()
        assert not self.threads()
        found = scrape()
        assert found[NAMES["successes"]] == 1
        assert found[NAMES["closed"]] == 0

    def test_a_write_that_fails_is_logged_once_and_tried_again(
        self, collect: Any, scrape: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        trouble = [OSError("disk full")]

        def source() -> list[CircuitBreaker]:
            if trouble:
                raise trouble[0]
            return [api]

        api = CircuitBreaker("api")
        registry = CollectorRegistry()
        collector = PrometheusCollector(registry, circuits=source, interval=SOON)
        try:
            collector._writer._write_or_log()
            trouble.clear()
            until(scrape, closed=1)
        finally:
            collector.unregister()
        assert len([each for each in caplog.records if "could not be written" in each.message]) == 1

    def test_a_thread_that_is_held_up_holds_up_no_exit(
        self, collect: Any, scrape: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_prometheus_multiprocess, "PATIENCE", SOON)
        held, release = threading.Event(), threading.Event()

        class Slow(CircuitBreaker):
            """Is read by a thread that has to tell a listener of it, which takes its time."""

            def info(self) -> Info:
                if threading.current_thread() is not threading.main_thread():
                    held.set()
                    assert release.wait(DEADLINE)
                return super().info()

        collector = collect(Slow("api"), interval=3600)
        assert held.wait(DEADLINE)
        (thread,) = self.threads()
        collector.unregister()
        assert thread.is_alive()
        release.set()
        thread.join(DEADLINE)
        assert not thread.is_alive()

    def test_two_collectors_show_their_own(self, collect: Any, scrape: Any) -> None:
        """Each clears what it no longer shows, and nothing of the other's."""
        api, db = CircuitBreaker("api"), CircuitBreaker("db")
        first, second = collect(api, interval=3600), collect(db, interval=3600)
        for _ in range(2):
            first._writer.write()
            second._writer.write()
        found = scrape()
        assert found[NAMES["closed"]] == 1
        assert found[NAMES["closed"].replace("api", "db")] == 1


GEVENT_PATCHES_LATE = """
from fluxgate.listeners import PrometheusCollector
from prometheus_client import CollectorRegistry
from gevent import monkey
monkey.patch_all()
import gevent, os
PrometheusCollector(CollectorRegistry(), interval=0.01)
gevent.sleep(0.1)
print("alive", flush=True)
os._exit(0)
"""


def test_gevent_patches_late(tmp_path: Path) -> None:
    """The modules were imported before: their queue would stop every greenlet of the worker."""
    pytest.importorskip("gevent", reason="gevent has no wheel for this Python")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GEVENT_PATCHES_LATE],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stdout.strip() == "alive", done.stderr
