"""A forked child before Fluxgate's own hooks: whoever runs then waits for nobody who isn't there.

Each test stops a thread in the middle of a step, forks, and takes the same step in a hook that was
registered before Fluxgate was imported (finalisers and signal handlers run there, too), and once
more after the hooks.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform can't fork"),
    pytest.mark.slow,
]

PATIENCE = 30.0

SCRIPT = """
import os, sys, threading

os.register_at_fork(after_in_child=lambda: early and step())

early = True
{setup}

entered, leave = threading.Event(), threading.Event()

def pause(frame, event, function):
    name = frame.f_code.co_name if event == "call" else getattr(function, "__name__", None)
    if event not in ("call", "c_call") or name != {inside!r} or entered.is_set():
        return
    if threading.current_thread().name.startswith({thread!r}):
        entered.set()
        leave.wait(30)

threading.setprofile(pause)
thread = threading.Thread(target=lambda: step(), name="stopped", daemon=True)
thread.start()
assert entered.wait(20), "never came there"
child = os.fork()
if not child:
    step()
    names = [each.name for each in threading.enumerate()]
    os._exit(len(names) - len(set(names)))  # of each kind of thread there is one
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
os._exit(os.waitstatus_to_exitcode(status))
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
snapshots = Snapshots(LocalSource(fluxgate.circuits), History())
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
early, registry = False, Registry()
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


@pytest.mark.parametrize(
    ("setup", "inside", "thread"),
    [
        pytest.param(CIRCUITS, "_make", "stopped", id="circuits"),
        pytest.param(HOSTS, "_make", "stopped", id="hosts"),
        pytest.param(LOG, "get", "stopped", id="log"),
        pytest.param(FLEETS, "open_store", "stopped", id="fleets"),
        pytest.param(FLUSHER, "clear", "stopped", id="flusher"),
        pytest.param(AGGREGATE, "_read", "stopped", id="aggregate"),
        pytest.param(BACKGROUND, "force_open", "stopped", id="background"),
        pytest.param(PROMETHEUS, "register", "stopped", id="prometheus"),
        pytest.param(OTEL, "_start", "stopped", id="otel"),
        pytest.param(CLAIMS, "items", "stopped", id="claims"),
        pytest.param(HISTORY, "_note", "stopped", id="history"),
        pytest.param(AUDIT, "append", "stopped", id="audit"),
        pytest.param(SNAPSHOTS, "catch_up", "stopped", id="snapshots"),
        pytest.param(PROBER, "current_thread", "fluxgate-prober", id="prober"),
        pytest.param(LIFESPAN, "setdefault", "stopped", id="lifespan"),
        pytest.param(DJANGO, "_of", "stopped", id="django"),
        pytest.param(REDIS, "_check_version", "stopped", id="redis"),
    ],
)
def test_nobody_waits_in_a_child(setup: str, inside: str, thread: str) -> None:
    script = SCRIPT.format(setup=setup, inside=inside, thread=thread)
    command = [sys.executable, "-W", "ignore", "-c", script]
    assert subprocess.run(command, timeout=PATIENCE, check=False).returncode == 0
