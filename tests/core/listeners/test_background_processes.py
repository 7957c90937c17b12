"""`Background` where processes fork and end."""

from __future__ import annotations

import json
import os
import select
import signal as signals
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from fluxgate import CircuitBreaker, Reason, Signal, State
from fluxgate.listeners import Background

PATIENCE = 30.0

# Newer Pythons warn of a fork with threads about, which is what these tests are made of.
pytestmark = pytest.mark.filterwarnings(r"ignore:.*multi-threaded.*fork\(\):DeprecationWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform can't fork")


def signal(number: int) -> Signal:
    return Signal("api", State.CLOSED, State.OPEN, 0.0, number, Reason("FailureRate(0.5)"))


def in_child(work: Callable[[], Any]) -> Any:
    """What `work()` gives in a forked child; its error, or its hanging, fails here."""
    reader, writer = os.pipe()
    tracer = sys.gettrace()
    sys.settrace(None)  # a coverage tracer has a lock, whose holder the child may lack
    child = os.fork()
    if not child:  # never returns
        try:
            try:
                answer = [True, work()]
            except BaseException:
                answer = [False, traceback.format_exc()]
            os.write(writer, json.dumps(answer).encode())
        finally:
            os._exit(0)
    sys.settrace(tracer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        if not select.select([pipe], [], [], PATIENCE)[0]:
            os.kill(child, signals.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        fine, result = json.loads(pipe.read())
    os.waitpid(child, 0)
    if not fine:
        pytest.fail(f"in the child: {result}")
    return result


@needs_fork
def test_a_child_has_a_worker_of_its_own_and_an_empty_queue() -> None:
    entered, leave = threading.Event(), threading.Event()
    heard: list[int] = []

    def listener(told: Signal) -> None:
        heard.append(told.generation)
        if os.getpid() == parent:
            entered.set()
            assert leave.wait(PATIENCE)

    parent = os.getpid()
    told = Background(listener, maxsize=3)
    told(signal(1))
    assert entered.wait(PATIENCE)
    for number in (2, 3, 4, 5):
        told(signal(number))
    assert told.dropped == 1

    def child() -> list[Any]:
        del heard[:]
        dropped = told.dropped
        empty = told.flush(0.0)
        told(signal(6))
        return [told.flush(PATIENCE), heard, dropped, empty, told.close(PATIENCE)]

    assert in_child(child) == [True, [6], 0, True, True]
    leave.set()
    assert told.close(PATIENCE)
    assert heard == [1, 3, 4, 5]  # the parent's goes on as if nothing had been


@needs_fork
def test_made_before_the_fork_and_used_after_it() -> None:
    """As in a server that loads the application once and forks its workers."""
    heard: list[str] = []
    told = Background(lambda heard_of: heard.append(heard_of.new_state))
    breaker = CircuitBreaker("api", listeners=[told])

    def child() -> list[Any]:
        breaker.force_open()
        return [told.flush(PATIENCE), heard]

    assert in_child(child) == in_child(child) == [True, ["forced_open"]]
    assert heard == []


@needs_fork
def test_a_listener_that_forks() -> None:
    """The child is a copy of the worker, and must not go on telling what the parent tells."""
    reader, writer = os.pipe()
    queued = threading.Event()
    children: list[int] = []

    def listener(told: Signal) -> None:
        os.write(writer, f"{told.generation} ".encode())
        if told.generation == 1:
            assert queued.wait(PATIENCE)
            child = os.fork()
            if child:
                children.append(child)

    background = Background(listener)
    background(signal(1))
    background(signal(2))
    queued.set()
    assert background.close(PATIENCE)
    ended = wait_for(children[0])
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "1 2 "
    assert ended


def wait_for(child: int) -> bool:
    """Whether a child ends by itself."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        threading.Event().wait(0.01)
    os.kill(child, signals.SIGKILL)
    os.waitpid(child, 0)
    return False


def run(program: str) -> tuple[str, str, float]:
    """A program's output, what it logged, and how many seconds it took."""
    preamble = """
    import atexit, gc, os, sys, threading, time
    from fluxgate import CircuitBreaker
    from fluxgate.listeners import Background

    def say(*words):
        print(*words, flush=True)
    """
    source = textwrap.dedent(preamble) + textwrap.dedent(program)
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip(), result.stderr.strip(), time.monotonic() - started


def test_what_is_queued_at_exit_is_told_and_the_listener_closed() -> None:
    output, errors, _ = run(
        """
        class Listener:
            def __call__(self, signal):
                hold.wait()
                time.sleep(0.05)  # still busy when the interpreter begins to end
                say(signal.generation)
            async def aclose(self):
                say("closed")

        hold = threading.Event()
        breaker = CircuitBreaker("api", listeners=[Background(Listener())])
        for _ in range(3):
            breaker.force_open()
            breaker.reset()
        hold.set()
        """
    )
    assert output.split() == ["1", "2", "3", "4", "5", "6", "closed"]
    assert errors == ""


def test_the_exit_waits_no_longer_than_it_was_told_to() -> None:
    output, errors, took = run(
        """
        told = Background(lambda signal: threading.Event().wait(), exit_timeout=0.2)
        other = Background(lambda signal: threading.Event().wait(), exit_timeout=0.1)
        breaker = CircuitBreaker("api", listeners=[told, other])
        breaker.force_open()
        say("done")
        """
    )
    assert output == "done"
    assert errors.count("not everything was delivered before the process ended") == 2
    assert took < 20  # or else it would have hung


@pytest.mark.skipif(
    sys.version_info < (3, 14) and not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="3.13t empties all other modules before the last object of __main__ dies",
)
def test_signals_that_come_while_the_interpreter_ends_neither_raise_nor_hang() -> None:
    output, errors, _ = run(
        """
        heard = []
        background = Background(heard.append)
        late = Background(heard.append)
        breaker = CircuitBreaker("api", listeners=[background, late])
        unused = CircuitBreaker("unused", listeners=[Background(heard.append)])

        @atexit.register
        def before():
            say("told by then:", len(heard))
            unused.force_open()

        never = CircuitBreaker("never", listeners=[Background(heard.append)])

        class Last:
            def __del__(self, breaker=breaker, unused=never, write=os.write):
                breaker.reset()  # a thread that is started now would never begin
                unused.reset()
                write(1, b"last")

        breaker.force_open()
        background.flush()
        late.flush()
        _last = Last()
        """
    )
    assert output.splitlines() == ["told by then: 2", "last"]
    assert "Traceback" not in errors


def test_a_handler_that_runs_after_ours_may_still_post() -> None:
    output, errors, _ = run(
        """
        breaker = CircuitBreaker("api", listeners=[Background(lambda signal: None)])

        @atexit.register  # first in, last out: the workers' own is registered when one starts
        def last():
            breaker.reset()
            say("last")

        breaker.force_open()
        """
    )
    assert output == "last"
    assert "Traceback" not in errors


def test_a_signal_in_a_finaliser_of_the_garbage_collector() -> None:
    """On whatever thread and line the collector runs: the worker's own, too."""
    output, _, _ = run(
        """
        told = []
        background = Background(lambda signal: told.append([[] for _ in range(50)]))
        breaker = CircuitBreaker("api", listeners=[background])
        posted = []

        class Cycle:
            def __init__(self):
                self.me = self
            def __del__(self):
                posted.append(None)
                background(some)

        some = None
        def keep(signal):
            global some
            some = signal
        CircuitBreaker("api", listeners=[keep]).force_open()

        gc.set_threshold(5)
        for _ in range(500):
            Cycle()
            breaker.force_open()
            breaker.reset()
        gc.set_threshold(700)
        while len(posted) < 500:  # without the GIL another thread may be collecting just now
            gc.collect()
        background.flush(20)
        say(len(posted) == 500, len(told) + background.dropped == 1000 + len(posted))
        """
    )
    assert output == "True True"


GEVENT_PATCHES_LATE = """
    import warnings
    warnings.simplefilter("ignore")
    from fluxgate import CircuitBreaker
    from fluxgate.listeners import Background
    heard = []
    told = Background(heard.append)
    breaker = CircuitBreaker("api", listeners=[told])
    {before}
    from gevent import monkey
    monkey.patch_all()
    import gevent
    breaker.reset()
    breaker.force_open()
    assert told.flush(20)
    print(len(heard), flush=True)
    gevent.sleep(0)
    assert told.close(20)
"""


@pytest.mark.parametrize(
    ("before", "heard"), [("", 1), ("breaker.force_open(); told.close(20)", 3)], ids=["new", "used"]
)
def test_gevent_patches_late(before: str, heard: int) -> None:
    """As gunicorn does with `-k gevent --preload`: the application was imported before."""
    pytest.importorskip("gevent", reason="gevent has no wheel for this Python")
    script = textwrap.dedent(GEVENT_PATCHES_LATE).format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (str(heard), "")
