"""What holds for every test: interrupts, ids, a log of its own, nothing that is left behind."""

from __future__ import annotations

import gc
import importlib
import logging
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from weakref import WeakValueDictionary

import pytest

from fluxgate import _log
from fluxgate._engine import everywhere, living


def pytest_configure() -> None:
    """Let an interrupt arrive, in the processes that tests start too; examples take their time.

    A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
    Hypothesis fails an example that takes 0.2 s, as any may where others use the machine.
    """
    with suppress(ModuleNotFoundError):  # the tests of the peers' pages go without it
        hypothesis = importlib.import_module("hypothesis")
        slow = hypothesis.HealthCheck.too_slow
        calm = hypothesis.settings(deadline=None, suppress_health_check=[slow])
        hypothesis.settings.register_profile("calm", calm)
        hypothesis.settings.load_profile("calm")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse ids with a memory address: pytest-xdist and `--last-failed` need the same each time.

    A parameter without a `repr` of its own is the cause; `ids=` or `pytest.param(id=...)` the cure.
    """
    changing = [item.nodeid for item in items if re.search(r"0x[0-9a-f]{6,}", item.nodeid)]
    if changing:
        raise pytest.UsageError("give these parameters an id:", *changing)


def pytest_collection_finish() -> None:
    """Freeze what importing and collecting have made: it stays, and collections went through it.

    That was half a second at a time, in tests that collect what they drop. Hypothesis looks for
    referrers while it is imported, and wouldn't find those that are frozen.
    """
    with suppress(ModuleNotFoundError):
        importlib.import_module("hypothesis")
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_log() -> Iterator[None]:
    """A fault that an earlier test caused is logged again; what a page sets of the log ends."""
    _log._restart()
    logger = logging.getLogger("fluxgate")
    level, handlers = logger.level, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(autouse=True)
def no_listener_stays() -> Iterator[None]:
    """A listener of every circuit would hear of the tests that follow."""
    yield
    left = list(everywhere.listeners.values())
    everywhere.listeners.clear()
    assert not left


@pytest.fixture(autouse=True)
def no_fleet_stays() -> Iterator[None]:
    """A fleet that isn't closed goes on writing, logging and rolling dice in later tests."""
    before = set(threading.enumerate())
    yield
    started = set(threading.enumerate()) - before
    fleets = [thread for thread in started if thread.name.startswith("fluxgate-fleet")]
    for thread in fleets:
        thread.join(10)  # one that is at its end is listed for a moment
    assert not [thread.name for thread in fleets if thread.is_alive()]


@pytest.fixture
def no_other_circuits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who looks at all circuits sees those of earlier tests, which may not be gone yet."""
    monkeypatch.setattr(living, "_circuits", WeakValueDictionary())
