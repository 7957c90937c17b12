"""`fluxgate.listen`: a listener of every circuit of the process, now and later."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import fluxgate
from fluxgate import (
    AsyncCircuitBreaker,
    CallNotPermittedError,
    CircuitBreaker,
    Signal,
    State,
    Subscription,
)
from fluxgate._engine import everywhere
from fluxgate.registry import Registry
from fluxgate.testing import RecordedSignals

THREADS = 8


class Named:
    """A listener that writes its name beside what it hears, also of refusals."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def __call__(self, signal: Signal) -> None:
        self.log.append(f"{self.name}: {signal.circuit_name} {signal.new_state}")

    def rejected(self, error: CallNotPermittedError) -> None:
        self.log.append(f"{self.name}: {error.name} refused")


@pytest.fixture
def log() -> list[str]:
    return []


def refused(breaker: CircuitBreaker) -> None:
    with pytest.raises(CallNotPermittedError):
        breaker.call(int)


def test_an_interrupt_goes_on_once_all_have_heard(log: list[str]) -> None:
    def interrupted(_: Signal) -> None:
        raise KeyboardInterrupt

    breaker = CircuitBreaker("api", listeners=[interrupted, Named("other", log)])
    with pytest.raises(KeyboardInterrupt):
        breaker.disable()
    assert log == ["other: api disabled"]
    assert breaker.state is State.DISABLED


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("error", [RuntimeError("broken"), StopIteration("broken")])
def test_the_log_names_who_raised(
    error: Exception, place: int, caplog: pytest.LogCaptureFixture, log: list[str]
) -> None:
    """A `StopIteration`, too, which might pass for the end of a loop."""

    class Broken(Named):
        def __call__(self, signal: Signal) -> None:
            raise error

    listeners = [Named("first", log), Named("second", log)]
    listeners.insert(place, Broken("broken", log))
    CircuitBreaker("api", listeners=listeners).disable()
    assert log == ["first: api disabled", "second: api disabled"]
    (record,) = caplog.records
    assert record.getMessage().count("Broken") == 1
    assert type(error).__name__ in record.getMessage()


def test_circuits_now_and_later(log: list[str]) -> None:
    now, other = CircuitBreaker("now"), AsyncCircuitBreaker("other")
    with fluxgate.listen(Named("all", log)):
        later = Registry()["later"]
        for breaker in (now, other, later):
            breaker.force_open()
        refused(later)
    now.reset()
    later.reset()
    CircuitBreaker("latest").force_open()
    assert log == [
        "all: now forced_open",
        "all: other forced_open",
        "all: later forced_open",
        "all: later refused",
    ]
    assert not everywhere.listeners


def test_own_listeners_come_first(log: list[str]) -> None:
    with fluxgate.listen(Named("first", log)), fluxgate.listen(Named("second", log)):
        breaker = CircuitBreaker("api", listeners=[Named("own", log)])
        breaker.listen(Named("added", log))
        breaker.disable()
    assert [line.partition(":")[0] for line in log] == ["own", "added", "first", "second"]


def test_what_listen_returns_ends_it(log: list[str]) -> None:
    breaker = CircuitBreaker("api")
    own, everybody = breaker.listen(Named("own", log)), fluxgate.listen(Named("all", log))
    assert isinstance(own, Subscription)
    assert isinstance(everybody, Subscription)
    breaker.disable()
    own()
    own()  # twice is no error
    breaker.force_open()
    refused(breaker)
    everybody()
    everybody()
    breaker.reset()
    assert log == [
        "own: api disabled",
        "all: api disabled",
        "all: api forced_open",
        "all: api refused",
    ]
    assert breaker.listeners == ()


def test_once_however_often_given(log: list[str]) -> None:
    """By its place among the circuit's own; it is heard until the last registration ends."""
    twice, signals = Named("twice", log), RecordedSignals()
    breaker = CircuitBreaker("api", listeners=[twice, Named("other", log), twice])
    added = breaker.listen(twice)
    heard: list[Signal] = []
    with fluxgate.listen(twice), fluxgate.listen(heard.append), fluxgate.listen(signals):
        breaker.listen(heard.append)  # another method object of the same list
        breaker.force_open()
        refused(breaker)
    added()
    assert log == [
        "twice: api forced_open",
        "other: api forced_open",
        "twice: api refused",
        "other: api refused",
    ]
    assert len(heard) == len(signals) == 1


def test_two_methods_are_two_listeners() -> None:
    class Two:
        def __init__(self) -> None:
            self.heard: list[str] = []

        def one(self, signal: Signal) -> None:
            self.heard.append(f"one: {signal.new_state}")

        def other(self, signal: Signal) -> None:
            self.heard.append(f"other: {signal.new_state}")

    two = Two()
    CircuitBreaker("api", listeners=[two.one, two.other, two.one]).disable()
    assert two.heard == ["one: disabled", "other: disabled"]


def test_attributes_that_are_no_methods(caplog: pytest.LogCaptureFixture) -> None:
    """A listener may have a `rejected` or `call_ended` that means something else."""

    class Counts(Named):
        rejected = 3  # type: ignore[assignment]
        call_ended = None

    counts = Counts("counts", [])
    breaker = CircuitBreaker("api", listeners=[counts])
    breaker.call(int)
    breaker.force_open()
    refused(breaker)
    assert counts.log == ["counts: api forced_open"]
    assert not caplog.records, "nobody has tried to call them"


def test_two_lists_are_two_listeners() -> None:
    one: list[Signal] = []
    other: list[Signal] = []
    breaker = CircuitBreaker("api", listeners=[one.append, other.append])
    breaker.disable()
    assert len(one) == len(other) == 1


def test_it_is_none_of_a_circuits_own(log: list[str]) -> None:
    """Else `Registry.close()` would close it, which other circuits still need."""

    class Closed(Named):
        def close(self) -> None:
            self.log.append("closed")

    registry = Registry()
    with fluxgate.listen(Closed("all", log)):
        assert registry["api"].listeners == ()
        assert registry.listeners() == []
        registry.close()
    assert log == []


def test_one_that_raises(caplog: pytest.LogCaptureFixture, log: list[str]) -> None:
    def broken(_: Signal) -> None:
        raise RuntimeError("broken")

    breaker = CircuitBreaker("api")
    with fluxgate.listen(broken), fluxgate.listen(Named("all", log)):
        for _ in range(5):
            breaker.disable()
            breaker.reset()
    assert len(log) == 10
    assert len([r for r in caplog.records if "raised RuntimeError" in r.getMessage()]) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (5, "listeners must be callable with a Signal: 5"),
        (lambda _: (yield), "is a generator: it would never run"),
    ],
    ids=["number", "generator"],
)
def test_wrong_listeners(wrong: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fluxgate.listen(wrong)
    assert not everywhere.listeners


def test_an_async_listener_is_refused() -> None:
    async def listener(signal: Signal) -> None: ...

    with pytest.raises(TypeError, match="Background"):
        fluxgate.listen(listener)


def test_registered_inside_a_listener(log: list[str]) -> None:
    ends: list[Subscription] = []

    def registers(signal: Signal) -> None:
        if not ends:
            ends.append(fluxgate.listen(Named("new", log)))
            ends.append(CircuitBreaker("inner", listeners=[Named("own", log)]).listen(print))
        elif signal.new_state is State.CLOSED:
            ends[0]()

    breaker = CircuitBreaker("api", listeners=[registers])
    breaker.disable()  # the new one hears of what comes after this signal
    breaker.force_open()
    breaker.reset()  # ended in the middle of it: this signal is still delivered to it
    breaker.disable()
    assert log == ["new: api forced_open", "new: api closed"]
    assert not everywhere.listeners


def test_it_keeps_no_circuit_alive(log: list[str]) -> None:
    breaker = CircuitBreaker("api")
    own, everybody = breaker.listen(Named("own", log)), fluxgate.listen(Named("all", log))
    circuit = weakref.ref(breaker._circuit)
    del breaker
    gc.collect()
    assert circuit() is None
    own()
    everybody()


def test_a_circuit_keeps_itself_alive_by_no_cycle() -> None:
    """Without the collector's help, as before: also one whose calls are heard."""

    class Calls:
        def __call__(self, signal: Signal) -> None: ...

        def call_ended(self, call: fluxgate.Call) -> None: ...

    gc.collect()
    gc.disable()
    try:
        breaker = CircuitBreaker("api", listeners=[Calls()])
        breaker.call(int)
        circuit = weakref.ref(breaker._circuit)
        del breaker
        assert circuit() is None
    finally:
        gc.enable()


def test_threads_that_register_and_make_circuits() -> None:
    """No circuit misses a listener, and none keeps one that has ended."""
    made: list[CircuitBreaker] = []
    start = threading.Barrier(THREADS)

    def works(number: int) -> None:
        start.wait()
        for turn in range(50):
            if number % 2:
                made.append(CircuitBreaker(f"{number}-{turn}"))
            else:
                fluxgate.listen(RecordedSignals())()

    heard = RecordedSignals()
    lasting: list[Callable[[], None]] = []
    threads = [threading.Thread(target=works, args=(each,)) for each in range(THREADS)]
    for thread in threads:
        thread.start()
    lasting.append(fluxgate.listen(heard))
    for thread in threads:
        thread.join()
    for breaker in made:
        assert breaker._circuit._dispatch._listeners == (heard,)
        breaker.disable()
    lasting[0]()
    assert sorted(signal.circuit_name for signal in heard) == sorted(one.name for one in made)
    assert all(not one._circuit._dispatch._listeners for one in made)


EXIT = """
import atexit, os, sys
import fluxgate
from fluxgate._engine import everywhere

assert not everywhere.listeners  # nothing at import
breaker = fluxgate.CircuitBreaker("api")
atexit.register(breaker.force_open)  # runs last but one
fluxgate.listen(lambda signal: print(os.getpid() == parent, signal.new_state, flush=True))
parent = os.getpid()
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
breaker.disable()
"""


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="this platform can't fork")
def test_forks_and_the_end_of_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXIT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "False disabled",
        "False forced_open",
        "True disabled",
        "True forced_open",
    ]
