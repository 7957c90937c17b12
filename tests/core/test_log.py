"""Faults in the log: in full once, then summed up; nothing raises, and memory is bounded."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress

import pytest

from fluxgate import CallNotPermittedError, CircuitBreaker, Signal, _log
from fluxgate.trackers import Custom

ERROR = KeyError("a bug")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def raises(*_: object) -> bool:
    raise ERROR


class Audit:
    def __call__(self, signal: Signal) -> None:
        raise ERROR

    def rejected(self, error: CallNotPermittedError) -> None:
        raise ERROR


def test_a_fault_is_summed_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1000.0]
    monkeypatch.setattr(_log, "monotonic", lambda: now[0])
    for second in range(150):
        now[0] = 1000.0 + second
        _log.fault("payments", "tracker T", ERROR)
    first = "circuit 'payments': tracker T raised KeyError; the call went on without it"
    more = f"{first} (59 times more since this was last logged)"
    assert lines(caplog) == [first, more, more]
    for record in caplog.records:
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None
        assert record.exc_info[1] is ERROR


def test_each_fault_is_its_own(caplog: pytest.LogCaptureFixture) -> None:
    for circuit, what, error in (
        ("a", "tracker T", ERROR),
        ("b", "tracker T", ERROR),
        ("a", "listener L", ERROR),
        ("a", "tracker T", ValueError()),
    ) * 2:
        _log.fault(circuit, what, error)
    assert len(caplog.records) == 4


@pytest.mark.parametrize("what", ["tracker", "result tracker", "listener", "rejected"])
def test_calls_do_not_flood(what: str, caplog: pytest.LogCaptureFixture) -> None:
    breaker = {
        "tracker": CircuitBreaker("x", tracker=Custom(raises)),
        "result tracker": CircuitBreaker("x", result_tracker=raises),
        "listener": CircuitBreaker("x", listeners=[Audit()]),
        "rejected": CircuitBreaker("x", listeners=[Audit()], initial_state="forced_open"),
    }[what]
    for _ in range(100):
        with suppress(KeyError, CallNotPermittedError):
            breaker.call(int if what == "result tracker" else raises)
        if what == "listener":
            breaker.force_open()
            breaker.reset()
    assert len(caplog.records) == 1


def test_many_faults_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A registry by tenant, each with the same bug; then a minute later."""
    now = [0.0]
    monkeypatch.setattr(_log, "monotonic", lambda: now[0])
    for number in range(5000):
        _log.fault(f"tenant-{number}", "tracker T", ERROR)
    assert len(caplog.records) == _log.MOST_FAULTS + 1
    assert len(_log._faults) == _log.MOST_FAULTS + 1
    now[0] = 60.0
    _log.fault("tenant-5000", "tracker T", ERROR)
    assert len(_log._faults) <= _log.MOST_FAULTS
    assert "tenant-5000" in lines(caplog)[-1]


def test_hostile_names_are_escaped(caplog: pytest.LogCaptureFixture) -> None:
    odd = type("Odd\x1b[2J", (Exception,), {})
    _log.fault("x\n\x1b[2J\ud800" + "y" * 1000, "tracker T", odd())
    _log.warn("x\n\x1b[2J", "look into it")
    assert all(line.isprintable() and len(line) < 400 for line in lines(caplog))
    assert len(caplog.records) == 2


def test_a_raising_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("fluxgate"), "handle", raises)
    _log.fault("x", "tracker T", ERROR)
    _log.warn("x", "look into it")


def test_a_handler_that_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds the log free, whatever it protects with a breaker of its own."""

    def handle(record: logging.LogRecord) -> None:
        seen.append(record)
        _log.fault("inner", "tracker T", ERROR)

    seen: list[logging.LogRecord] = []
    monkeypatch.setattr(logging.getLogger("fluxgate"), "handle", handle)
    _log.fault("outer", "tracker T", ERROR)
    assert [record.args[0] for record in seen if record.args] == ["outer", "inner"]  # type: ignore[index]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_begins_anew() -> None:
    """Its parent's other thread is at the log when it is forked."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with _log._lock.here():
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if _log._repeats(("x", "tracker T", "KeyError")) == 0 else 1)
        finally:
            os._exit(2)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
