"""`LogListener`: lines that explain, parts that programs can read, levels that alarm nobody."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from fluxgate import CircuitBreaker, Reason, Signal, SignalKind, State
from fluxgate.config import build
from fluxgate.listeners import Background, LogListener, log
from fluxgate.testing import ManualClock, tripped
from fluxgate.trippers import FailureRate, MinRequests

RATE = Reason(
    "FailureRate(0.5)",
    0.62,
    100,
    "CountWindow(100)",
    (("httpx.ConnectTimeout", 58), ("OSError", 4)),
)
EXTRA = {
    "circuit",
    "old_state",
    "new_state",
    "kind",
    "shadow",
    "generation",
    "reason",
    "measured",
    "calls",
    "window",
    "note",
    "by",
    "errors",
}


def signal(old: State, new: State, reason: Reason = RATE, **more: Any) -> Signal:
    return Signal("payments", old, new, 1_700_000_000.0, 3, reason, **more)


def heard(caplog: pytest.LogCaptureFixture, *signals: Signal, **options: Any) -> Any:
    """The records that a listener makes of signals."""
    with caplog.at_level(logging.DEBUG, logger="fluxgate"):
        listener = LogListener(**options)
        for each in signals:
            listener(each)
    return caplog.records


def test_a_line_says_what_happened_and_why(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = heard(caplog, signal(State.CLOSED, State.OPEN))
    assert record.name == "fluxgate"
    assert record.getMessage() == (
        "circuit 'payments': closed -> open: FailureRate(0.5): 0.62 over 100 calls in "
        "CountWindow(100); last errors: 58 × httpx.ConnectTimeout, 4 × OSError"
    )


def test_the_parts_are_extra_and_json_has_them_all(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = heard(caplog, signal(State.CLOSED, State.OPEN))
    standard = set(vars(logging.makeLogRecord({})))
    extra = {key: value for key, value in vars(record).items() if key in EXTRA}
    assert not EXTRA & standard
    assert set(vars(record)) - standard - {"message", "asctime"} == EXTRA
    assert json.loads(json.dumps(extra)) == {
        "circuit": "payments",
        "old_state": "closed",
        "new_state": "open",
        "kind": "transition",
        "shadow": False,
        "generation": 3,
        "reason": "FailureRate(0.5)",
        "measured": 0.62,
        "calls": 100,
        "window": "CountWindow(100)",
        "note": None,
        "by": None,
        "errors": {"httpx.ConnectTimeout": 58, "OSError": 4},
    }
    assert list(extra["errors"]) == ["httpx.ConnectTimeout", "OSError"]
    assert {type(value) for value in extra.values()} == {str, bool, int, float, dict, type(None)}


LEVELS = {
    State.OPEN: "WARNING",
    State.FORCED_OPEN: "WARNING",
    State.DISABLED: "WARNING",
    State.CLOSED: "INFO",
    State.HALF_OPEN: "INFO",
    State.METRICS_ONLY: "INFO",
}


@pytest.mark.parametrize("state", State)
def test_levels(state: State, caplog: pytest.LogCaptureFixture) -> None:
    old = State.HALF_OPEN if state is State.CLOSED else State.CLOSED
    (record,) = heard(caplog, signal(old, state))
    assert record.levelname == LEVELS[state]


def test_what_would_have_happened_is_information(caplog: pytest.LogCaptureFixture) -> None:
    only = State.METRICS_ONLY
    records = heard(
        caplog,
        signal(only, only, kind=SignalKind.WOULD_OPEN),
        signal(State.CLOSED, State.CLOSED, kind=SignalKind.WOULD_OPEN, shadow=True),
        signal(State.OPEN, State.OPEN, kind=SignalKind.WOULD_CLOSE, shadow=True),
    )
    assert [record.levelname for record in records] == ["INFO"] * 3
    lines = [record.getMessage().partition(": FailureRate")[0] for record in records]
    assert lines == [
        "circuit 'payments': the circuit (metrics_only) would open",
        "circuit 'payments': the shadow tripper would open",
        "circuit 'payments': the shadow tripper would close",
    ]
    assert [record.shadow for record in records] == [False, True, True]


def test_levels_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    levels = {State.OPEN: "error", "half_open": 5, "would_open": logging.CRITICAL}
    records = heard(
        caplog,
        signal(State.CLOSED, State.OPEN),
        signal(State.OPEN, State.FORCED_OPEN),
        signal(State.CLOSED, State.CLOSED, kind=SignalKind.WOULD_OPEN),
        levels=levels,
    )
    assert [record.levelname for record in records] == ["ERROR", "WARNING", "CRITICAL"]
    with caplog.at_level(5, logger="fluxgate"):
        LogListener(levels=levels)(signal(State.OPEN, State.HALF_OPEN))
    assert caplog.records[-1].levelno == 5


@pytest.mark.parametrize("as_name", [True, False])
def test_a_logger_of_ones_own(as_name: bool, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("shop.circuits")
    with caplog.at_level(logging.INFO, logger="shop.circuits"):
        (record,) = heard(
            caplog,
            signal(State.CLOSED, State.OPEN),
            logger="shop.circuits" if as_name else logger,
        )
    assert record.name == "shop.circuits"
    assert repr(LogListener(logger=logger)) == "LogListener(logger='shop.circuits')"


def test_what_is_not_logged_is_not_put_into_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def details(_: Reason) -> str:
        raise AssertionError("nobody reads it")

    monkeypatch.setattr(Reason, "details", property(details))
    logger = logging.getLogger("shop.silent")
    logger.setLevel(logging.ERROR)
    LogListener(logger=logger)(signal(State.CLOSED, State.OPEN))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"logger": 3}, TypeError, "logger must be a logging.Logger or the name of one"),
        ({"logger": structlog.get_logger()}, TypeError, "logger must be a logging.Logger"),
        ({"levels": {"opened": 30}}, ValueError, "'opened' is none of closed, open, half_open"),
        ({"levels": {"open": "LOUD"}}, ValueError, "'LOUD' is none of"),
        ({"levels": {"open": None}}, TypeError, "must be a level of logging, not None"),
        ({"levels": {"open": True}}, TypeError, "must be a level of logging, not True"),
        ({"levels": ["open"]}, TypeError, "must be a mapping"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        LogListener(**options)


def test_an_outage_from_end_to_end(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    breaker = CircuitBreaker(
        "payments",
        tripper=MinRequests(2) & FailureRate(0.5),
        clock=clock,
        dice=lambda: 0.0,
        listeners=[LogListener()],
    )

    def fail() -> None:
        raise TimeoutError("the secret in the message")

    with caplog.at_level(logging.INFO, logger="fluxgate"):
        for _ in range(2):
            with pytest.raises(TimeoutError):
                breaker.call(fail)
        clock.advance(60)
        breaker.call(int)
        breaker.call(int)
    first, second, third = caplog.messages
    assert "closed -> open" in first
    assert "FailureRate(0.5): 1 over 2 calls in CountWindow(100)" in first
    assert "2 × TimeoutError" in first
    assert "open -> half_open" in second
    assert "half_open -> closed" in third
    assert "secret" not in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]


def test_in_settings(caplog: pytest.LogCaptureFixture) -> None:
    breaker = build("payments", {"listeners": [LogListener(logger="shop.circuits")]})
    tripped(breaker)
    assert [record.name for record in caplog.records] == ["shop.circuits"]


# -- structlog


@pytest.fixture
def parsed() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Gives what structlog's formatter has made of the standard library's records so far."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logger = logging.getLogger("fluxgate")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_structlog_gets_the_parts_as_keys(parsed: Any) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        LogListener()(signal(State.CLOSED, State.OPEN))
    (event,) = parsed()
    assert event.pop("timestamp").startswith("20")  # structlog's own, not the signal's
    assert event.pop("event").startswith("circuit 'payments': closed -> open: FailureRate(0.5)")
    assert event == {
        "request_id": "r-1",
        "logger": "fluxgate",
        "level": "warning",
        "circuit": "payments",
        "old_state": "closed",
        "new_state": "open",
        "kind": "transition",
        "shadow": False,
        "generation": 3,
        "reason": "FailureRate(0.5)",
        "measured": 0.62,
        "calls": 100,
        "window": "CountWindow(100)",
        "note": None,
        "by": None,
        "errors": {"httpx.ConnectTimeout": 58, "OSError": 4},
    }


def test_structlog_in_the_background_knows_no_request(parsed: Any) -> None:
    told = Background(LogListener())
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        told(signal(State.CLOSED, State.OPEN))
        assert told.close(30)
    (event,) = parsed()
    assert "request_id" not in event
    assert event["circuit"] == "payments"


# -- trials that change with each call, and names that are hostile


def verdict(kind: SignalKind, name: str = "payments", *, shadow: bool = True) -> Signal:
    state = State.CLOSED if shadow else State.METRICS_ONLY
    return Signal(name, state, state, 1_700_000_000.0, 3, RATE, kind, shadow)


def test_verdicts_are_few_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(log, "monotonic", lambda: now[0])
    listener = LogListener()
    caplog.set_level(logging.INFO, "fluxgate")
    for _ in range(1500):
        listener(verdict(SignalKind.WOULD_OPEN))
        listener(verdict(SignalKind.WOULD_CLOSE))
        now[0] += 0.03
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == log.VERDICTS
    assert not any("not logged" in line for line in lines[:-1])
    assert lines[-1].endswith("further verdicts are not logged for up to 60 s)")
    listener(verdict(SignalKind.WOULD_OPEN, "other"))  # each circuit has its own six
    listener(verdict(SignalKind.WOULD_OPEN, shadow=False))  # and each tripper
    listener(signal(State.CLOSED, State.OPEN))  # what has happened is always logged
    now[0] = 60.0
    listener(verdict(SignalKind.WOULD_OPEN))
    assert len(caplog.records) == log.VERDICTS + 4
    assert (
        caplog.records[-1].getMessage().endswith("(2994 verdicts before this one were not logged)")
    )


def test_trials_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MOST_TRIALS", 10)
    listener = LogListener(logger="quiet", levels={"would_open": "CRITICAL"})
    for number in range(100):
        listener(verdict(SignalKind.WOULD_OPEN, f"tenant-{number}"))
    assert len(listener._trials) <= 10


def test_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    reason = Reason("Odd(\x1b[2J)", errors=(("ValueError: \x07\u202e\udce9", 1),))
    hostile = Signal("x\n\x1b[2J", State.CLOSED, State.OPEN, 0.0, 1, reason)
    (record,) = heard(caplog, hostile)
    assert record.getMessage().isprintable()
    assert record.circuit == "x\\n\\x1b[2J"
    assert record.reason == "Odd(\\x1b[2J)"
    assert record.errors == {"ValueError: \\x07\\u202e\\udce9": 1}
