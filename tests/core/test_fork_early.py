"""A forked child before Fluxgate's own hooks: whoever runs then waits for nobody who isn't there.

Each test stops a thread in the middle of a step, forks, and takes the same step in a hook that was
registered before Fluxgate was imported (finalisers and signal handlers run there, too), and once
more after the hooks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform can't fork"),
    pytest.mark.slow,
]

PATIENCE = 120.0

SCRIPT = """
import json, os, signal, sys, threading

case = {}
os.register_at_fork(after_in_child=lambda: signal.alarm(20))  # who waits ends so
os.register_at_fork(after_in_child=lambda: case["early"] and case["step"]())

def status(setup, inside, where):
    case.clear()
    case["early"] = True
    exec(setup, case)
    entered, leave = threading.Event(), threading.Event()

    def pause(frame, event, function):
        name = frame.f_code.co_name if event == "call" else getattr(function, "__name__", None)
        if event not in ("call", "c_call") or name != inside or entered.is_set():
            return
        if threading.current_thread().name.startswith(where):
            entered.set()
            leave.wait(30)

    threading.setprofile(pause)
    thread = threading.Thread(target=lambda: case["step"](), name="stopped", daemon=True)
    thread.start()
    if not entered.wait(20):
        return "it never came there"
    child = os.fork()
    if not child:
        case["step"]()
        names = [each.name for each in threading.enumerate()]
        os._exit(len(names) - len(set(names)))  # of each kind of thread there is one
    status = os.waitpid(child, 0)[1]
    leave.set()
    thread.join()
    return os.waitstatus_to_exitcode(status)

print(json.dumps([status(*each) for each in json.load(sys.stdin)]))
os._exit(0)
"""

CIRCUITS = """
from fluxgate import _circuit_cache
from fluxgate.registry import Registry
_circuit_cache._PATIENCE = 3600.0
registry, names = Registry(), iter("abcdefgh")
def step():
    registry[next(names)]
"""
HOSTS = """
import httpx
from fluxgate import _circuit_cache
from fluxgate_httpx import CircuitBreakerTransport
_circuit_cache._PATIENCE = 3600.0
answer = httpx.MockTransport(lambda request: httpx.Response(200))
client, names = httpx.Client(transport=CircuitBreakerTransport(answer)), iter("abcdefgh")
def step():
    client.get(f"http://{next(names)}/")
"""
LOG = """
import logging
from fluxgate import _log
logging.disable()
def step():
    _log.fault("x", "tracker T", KeyError())
"""
FLEETS = """
from fluxgate.fleet._fleet import fleet_of
def step():
    fleet_of("memory://x")
"""
FLUSHER = """
from fluxgate import CircuitBreaker
from fluxgate.fleet import Fleet
fleet = Fleet("memory://x")
def step():
    CircuitBreaker("x", fleet=fleet)
"""
AGGREGATE = """
from fluxgate import CircuitBreaker
from fluxgate.listeners._aggregate import Reader
breaker = CircuitBreaker("x")
reader = Reader()
def step():
    assert reader.read()
"""
BACKGROUND = """
from fluxgate import CircuitBreaker
from fluxgate.listeners import Background
import os, threading
parent, never = os.getpid(), threading.Event()
breaker = CircuitBreaker("x", listeners=[Background(lambda signal: None)])
def step():
    breaker.force_open()
    breaker.reset()
    if os.getpid() != parent:
        never.wait(0.2)  # a thread that was started before the hook comes to its queue
"""
PROMETHEUS = """
from prometheus_client import CollectorRegistry
from fluxgate.listeners.prometheus import PrometheusCollector
def step():
    PrometheusCollector(CollectorRegistry())
"""
OTEL = """
from opentelemetry.sdk.metrics import MeterProvider
from fluxgate.listeners.otel import instrument
providers = [MeterProvider(shutdown_on_exit=False) for _ in range(3)]
def step():
    instrument(providers.pop())
"""
CLAIMS = """
from fluxgate.console._claims import LocalClaims
claims, names = LocalClaims(), iter("abcdefgh")
def step():
    claims.claim(*[next(names)] * 2)
"""
HISTORY = """
from fluxgate import CircuitBreaker
from fluxgate.console._history import History
history = History()
breaker = CircuitBreaker("x")
def step():
    breaker.force_open()
    breaker.reset()
    history.catch_up()
"""
AUDIT = """
from fluxgate.console._audit import Audit
from fluxgate.console._view import Entry
audit = Audit()
def step():
    audit.note(Entry(0.0, "ada", None, "x", "x", "reset", None, None, None, None, "done", None, ""))
"""
SNAPSHOTS = """
import fluxgate
from fluxgate.console._history import History
from fluxgate.console._local import LocalSource
from fluxgate.console._snapshots import Snapshots
snapshots = Snapshots(LocalSource(), History())
def step():
    snapshots.look()
"""
PROBER = """
from fluxgate import CircuitBreaker
from fluxgate.probing import Prober
breaker = CircuitBreaker("x")
prober = Prober(breaker, lambda: None)
def step():
    breaker.open_for(3600)
    breaker.reset()
"""
REDIS = """
from fluxgate.fleet._redis import RedisStore
store = RedisStore(lambda: None)
def step():
    try:
        store.scan()
    except Exception:
        pass
    store.close()
"""
# These two are not called by finalisers.
LIFESPAN = """
import asyncio
from fluxgate.registry import Registry
from fluxgate_fastapi._lifespan import _listening
early = False
registry = Registry()
async def run():
    async with _listening(registry, []):
        pass
def step():
    asyncio.run(run())
"""
DJANGO = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["fluxgate_django"], SECRET_KEY="x")
django.setup()
from fluxgate_django.console import _views
early = False
def step():
    _views._console()
"""


CASES = {
    "circuits": (CIRCUITS, "_make", "stopped"),
    "hosts": (HOSTS, "_make", "stopped"),
    "log": (LOG, "__init__", "stopped"),
    "fleets": (FLEETS, "open_store", "stopped"),
    "flusher": (FLUSHER, "_is_gone", "stopped"),
    "aggregate": (AGGREGATE, "_read", "stopped"),
    "background": (BACKGROUND, "force_open", "stopped"),
    "prometheus": (PROMETHEUS, "register", "stopped"),
    "otel": (OTEL, "_start", "stopped"),
    "claims": (CLAIMS, "items", "stopped"),
    "history": (HISTORY, "_note", "stopped"),
    "audit": (AUDIT, "append", "stopped"),
    "snapshots": (SNAPSHOTS, "catch_up", "stopped"),
    "prober": (PROBER, "<lambda>", "fluxgate-prober"),
    "lifespan": (LIFESPAN, "setdefault", "stopped"),
    "django": (DJANGO, "_of", "stopped"),
    "redis": (REDIS, "_check_version", "stopped"),
}


@pytest.fixture(scope="module")
def statuses() -> dict[str, object]:
    """The status with which each case's child ended; all in one process, whose start takes time."""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    given = json.dumps(list(CASES.values()))
    ran = subprocess.run(
        command, input=given, stdout=subprocess.PIPE, timeout=PATIENCE, text=True, check=True
    )
    return dict(zip(CASES, json.loads(ran.stdout), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_nobody_waits_in_a_child(name: str, statuses: dict[str, object]) -> None:
    assert statuses[name] == 0


WITHOUT_HOOKS = """
import ctypes, os, signal, threading
from fluxgate import CircuitBreaker, State, _circuit_cache
from fluxgate._engine import living
from fluxgate.registry import Registry

_circuit_cache._PATIENCE = 3600.0
entered, leave = threading.Event(), threading.Event()

def make(name):
    if name == "slow":
        entered.set()
        leave.wait(30)
    return CircuitBreaker(name)

registry = Registry(factory=make)
threading.Thread(target=lambda: registry["slow"], daemon=True).start()
assert entered.wait(30)
child = ctypes.PyDLL(None).fork()
if not child:
    signal.alarm(20)
    registry["quick"].force_open()
    info = registry["quick"].info()
    os._exit(living.is_forked() or info.state is not State.FORCED_OPEN)
status = os.waitpid(child, 0)[1]
leave.set()
os._exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a C library's fork under another name")
def test_a_fork_without_hooks() -> None:
    """As uWSGI forks: there, too, nobody waits, and nobody waits for hooks that never come."""
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_HOOKS]
    assert subprocess.run(command, timeout=PATIENCE, check=False).returncode == 0


A_WORKER = """
import ctypes, os, signal, sys, threading, time
from fluxgate import CircuitBreaker
from fluxgate.fleet import Fleet
from fluxgate.listeners import Background
from fluxgate.permits import All
from fluxgate.probing import Prober

heard, asked, fleet = threading.Event(), threading.Event(), Fleet("memory://worker")
one = CircuitBreaker("one", listeners=[Background(lambda signal: heard.set())])
fleet._flusher._link.answered()  # as if its flusher had asked the store
two = CircuitBreaker("two", permit=All())
prober = Prober(two, asked.set, interval=0.01)

def works():
    heard.clear()
    asked.clear()
    one.force_open()
    one.reset()
    two.open_for(0.01)
    return heard.wait(20) and asked.wait(20)

def rest():
    # A thread that wants the GIL at this fork leaves it locked in the child: Python's affair.
    for _ in range(3):
        time.sleep(0.1)
        frames = sys._current_frames()
        if any(frames[each.ident].f_code.co_name not in ("rest", "wait", "_deliver_all")
               for each in threading.enumerate()):
            return False
    return True

assert works()
two.open_for(3600)  # its prober waits
while not rest():
    pass
child = ctypes.PyDLL(None).fork()
if not child:
    signal.alarm(60)
    two.reset()
    assert works()
    assert not fleet.status().attached
    three = CircuitBreaker("three", fleet=fleet)
    assert not fleet.flush(0.1)
    assert "py-call-uwsgi-fork-hooks" in fleet.status().last_error
    os._exit(7)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a C library's fork under another name")
def test_a_worker_without_hooks() -> None:
    """Signals are heard and probes made there, too; a fleet says what to set."""
    command = [sys.executable, "-W", "ignore", "-c", A_WORKER]
    ran = subprocess.run(command, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
    assert ran.returncode == 7, ran.stderr


BETWEEN = """
import os, signal, threading, time
import fluxgate
os.register_at_fork(after_in_child=lambda: breaker.force_open())  # between two hooks of ours
from fluxgate.listeners import Background
from fluxgate.probing import Prober

heard = []
breaker = fluxgate.CircuitBreaker("x", listeners=[Background(heard.append)])
prober = Prober(breaker, lambda: None)
breaker.open_for(3600)
breaker.reset()
while len(heard) < 2:
    time.sleep(0.001)
heard.clear()
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
signal.alarm(60)
breaker.reset()
while len(heard) < 2:
    time.sleep(0.001)
os._exit(sum("Background" in each.name for each in threading.enumerate()))
"""


def test_a_signal_between_two_hooks() -> None:
    """It is heard, in order, by one worker: another module's hook moves a circuit."""
    command = [sys.executable, "-W", "ignore", "-c", BETWEEN]
    assert subprocess.run(command, timeout=PATIENCE, check=False).returncode == 1
