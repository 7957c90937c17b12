"""`Recorder`: calls of real circuits come back as a trace, and no trouble reaches a call."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

import fluxgate
from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker
from fluxgate.replay import Recorder, replay
from fluxgate.replay.readers import Format, TraceError, read
from fluxgate.trackers import TypeOf
from fluxgate.trippers import FailureStreak


def fail() -> None:
    raise TimeoutError


def make(calls: int, breaker: CircuitBreaker) -> None:
    for _ in range(calls):
        breaker.call(int)


def test_calls_come_back(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    recorder = Recorder(path)
    breaker = CircuitBreaker(
        "payments", tripper=FailureStreak(2), tracker=TypeOf(OSError), listeners=[recorder]
    )
    make(2, breaker)
    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            breaker.call(fail)
    with pytest.raises(CallNotPermittedError):
        breaker.call(int)
    assert recorder.close()
    trace = read(path, format=Format.RECORDING)
    assert [call.failed for call in trace] == [False, False, True, True, False]
    assert [call.refused for call in trace] == [False] * 4 + [True]
    assert {call.key for call in trace} == {"payments"}
    assert trace[2].error == "TimeoutError"
    assert trace.skipped == {"the call was ignored: it moves nothing": 1}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"recording": 1, "share": 1.0, "process": os.getpid()}
    assert {line["process"] for line in lines} == {os.getpid()}
    assert recorder.written == 6


@pytest.mark.asyncio
async def test_async_calls(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "calls.jsonl")
    breaker = AsyncCircuitBreaker("payments")

    async def answer() -> int:
        return 1

    with fluxgate.listen(recorder):
        await breaker.call(answer)
    await breaker.call(answer)
    assert recorder.close()
    assert len(read(tmp_path / "calls.jsonl")) == 1


def test_a_share(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "calls.jsonl", share=0.25)
    breaker = CircuitBreaker("payments", listeners=[recorder])
    make(2000, breaker)
    assert recorder.close()
    assert 300 < recorder.written < 700
    trace = read(tmp_path / "calls.jsonl")
    assert trace.sampled == 0.25
    assert trace.select([0, 1]).sampled == 0.25
    warned = replay(trace, ["FailureStreak(5)"]).warnings
    assert any("A sample doesn't keep calls in a row" in each for each in warned)
    again = Recorder(tmp_path / "calls.jsonl", share=0.5)
    make(20, CircuitBreaker("payments", listeners=[again]))
    assert again.close()
    with pytest.raises(TraceError, match=r"different shares \(0.25 and 0.5\)"):
        read(tmp_path / "calls.jsonl")


def test_stops_when_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "calls.jsonl"
    recorder = Recorder(path, max_bytes=1000)
    breaker = CircuitBreaker("payments", listeners=[recorder])
    with caplog.at_level(logging.WARNING, "fluxgate"):
        for _ in range(3):
            make(20, breaker)
            assert recorder.flush()
    assert recorder.stopped
    assert 800 < path.stat().st_size <= 1000
    assert [record.message for record in caplog.records] == [
        f"Recorder({str(path)!r}): the file has its 1,000 bytes: recording stops until it is "
        "renamed or deleted"
    ]
    path.rename(tmp_path / "calls.jsonl.1")
    make(1, breaker)
    assert recorder.close()
    assert not recorder.stopped
    assert len(read(path)) == 1
    # A file that is full when it is opened takes no call; a header may still have room.
    again = Recorder(tmp_path / "calls.jsonl.1", max_bytes=1000)
    make(5, CircuitBreaker("payments", listeners=[again]))
    assert again.close()
    assert (again.written, again.stopped) == (0, True)
    assert (tmp_path / "calls.jsonl.1").stat().st_size <= 1000


def test_a_disk_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    recorder = Recorder(folder / "calls.jsonl")
    folder.rmdir()
    breaker = CircuitBreaker("payments", listeners=[recorder])
    with caplog.at_level(logging.ERROR, "fluxgate"):
        make(3, breaker)
        assert recorder.flush()
    assert caplog.records
    folder.mkdir()
    make(1, breaker)
    assert recorder.close()
    assert len(read(folder / "calls.jsonl")) == 1


def test_floods_are_dropped(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "calls.jsonl", maxsize=1)
    breaker = CircuitBreaker("payments", listeners=[recorder])
    make(5000, breaker)
    assert recorder.close()
    assert recorder.written + recorder.dropped == 5000
    assert recorder.dropped > 0


def _in_a_process(path: Path) -> None:
    recorder = Recorder(path)
    make(500, CircuitBreaker("payments", listeners=[recorder]))
    assert recorder.close(60.0)


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_in_a_process, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    trace = read(path)
    assert (len(trace), trace.unusable) == (1500, 0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["process"] for line in lines}) == 3


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"share": 0}, ValueError, "above 0 and at most 1"),
        ({"share": "all"}, TypeError, "share must be a ratio"),
        ({"max_bytes": 10}, ValueError, "1,000 or more"),
        ({"max_bytes": 1.5}, TypeError, "max_bytes must be a whole number"),
        ({"maxsize": 0}, ValueError, "maxsize must be 1"),
        ({"path": "."}, ValueError, "is a folder"),
        ({"path": "/none/such/calls"}, ValueError, "in a folder that exists"),
    ],
)
def test_options_refused(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Recorder(**{"path": tmp_path / "calls", **options})
    assert list(tmp_path.iterdir()) == []  # nothing is made before the first call
