"""A thread that a process has once: whoever starts it, two at once and finalisers included."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fluxgate._threads import SoleThread

PATIENCE = 30.0


class Work:
    """What a sole thread does until it is let go; counts how many do it."""

    def __init__(self) -> None:
        self.begun: list[threading.Thread] = []
        self.leave = threading.Event()

    def __call__(self) -> None:
        self.begun.append(threading.current_thread())
        self.leave.wait(PATIENCE)


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.leave.set()


def in_thread(step: Callable[[], object]) -> None:
    """Take a step that may hang, in a thread that nobody has to wait for."""
    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it hangs"


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)


def test_many_start_it_at_once(work: Work) -> None:
    sole, ready = SoleThread("sole"), threading.Barrier(8)

    def start() -> None:
        ready.wait(PATIENCE)
        sole.start(work)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        starters = [threading.Thread(target=start) for _ in range(8)]
        for each in starters:
            each.start()
        for each in starters:
            each.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    work.leave.set()
    assert sole.join(PATIENCE)
    assert len(work.begun) == 1


def test_a_finaliser_starts_it(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the new thread, before it has begun, while its starter waits for it."""
    sole, begin = SoleThread("sole"), threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def begun(thread: threading.Thread) -> None:
        if thread.name == "sole":
            sole.start(work)
        begin(thread)

    monkeypatch.setattr(threading.Thread, "_bootstrap_inner", begun)
    in_thread(lambda: sole.start(work))
    work.leave.set()
    assert sole.join(PATIENCE)
    assert len(work.begun) == 1


def test_no_more_threads(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who could not start it hears of that, and the next one can."""
    sole = SoleThread("sole")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patches:
        patches.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            sole.start(work)
    assert not sole.was_started
    sole.start(work)
    assert sole.is_alive()


def test_interrupted_when_it_is_started(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its starter is gone before it has begun: it goes on, and is no second one."""
    sole, start = SoleThread("sole"), threading.Thread.start
    begin: Any = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]
    proceed = threading.Event()

    def begun(thread: threading.Thread) -> None:
        if thread.name == "sole":
            proceed.wait(PATIENCE)
        begin(thread)

    def interrupted(thread: Any) -> None:
        thread._started.wait = lambda: 1 / 0
        start(thread)

    monkeypatch.setattr(threading.Thread, "_bootstrap_inner", begun)
    with monkeypatch.context() as patches:
        patches.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(ZeroDivisionError):
            sole.start(work)
    proceed.set()
    until(lambda: work.begun)
    sole.start(work)
    work.leave.set()
    assert sole.join(PATIENCE)
    assert len(work.begun) == 1


def test_it_ends_unless_there_is_more(work: Work) -> None:
    sole, more = SoleThread("sole"), [True, False]
    ends: list[bool] = []

    def run() -> None:
        ends.extend(sole.end(unless=lambda: more.pop(0)) for _ in range(2))
        assert not sole.is_current()

    sole.start(run)
    assert sole.join(PATIENCE)
    assert ends == [False, True]
    sole.start(work)
    assert sole.is_alive()
    assert not sole.join(0.0)
