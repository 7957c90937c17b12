"""Events of single calls, for listeners that have `call_ended`."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import fluxgate
from fluxgate import (
    AsyncCircuitBreaker,
    Call,
    CallNotPermittedError,
    CircuitBreaker,
    Outcome,
    Signal,
    State,
    Totals,
)
from fluxgate.config import build, read
from fluxgate.integration import attempt_of, enter, leave
from fluxgate.listeners import Background
from fluxgate.permits import All
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, RecordedCalls
from fluxgate.trackers import TypeOf
from fluxgate.trippers import FailureStreak, SlowRate
from fluxgate.windows import CountWindow

if TYPE_CHECKING:
    from conftest import Protected

THREADS, ROUNDS = 8, 200


def counted(totals: Totals) -> dict[str, int]:
    """The totals by outcome, but for those that are 0."""
    every = {
        "success": totals.successes,
        "failure": totals.failures,
        "ignored": totals.ignored,
        "cancelled": totals.cancelled,
        "stale": totals.stale,
        "rejected": totals.rejected,
    }
    return {outcome: count for outcome, count in every.items() if count}


def agree(calls: RecordedCalls, totals: Totals) -> None:
    """Each call was heard once, under the name under which it was counted."""
    assert Counter(str(call.counted) for call in calls) == counted(totals)


def test_each_outcome_at_each_door(protect: Callable[..., Protected]) -> None:
    calls = RecordedCalls()
    protected = protect(
        listeners=[calls],
        tracker=TypeOf(ConnectionError),
        tripper=FailureStreak(3) | SlowRate(1.0, 2.0),
        window=CountWindow(10),
    )
    start = protected.clock()
    protected.succeed(0.5)
    protected.succeed(2.0)
    protected.fail(seconds=0.25)
    protected.fail(ValueError("mine"), seconds=1.0)
    protected.fail(KeyboardInterrupt(), seconds=1.5)
    protected.breaker.force_open()
    protected.refused()
    assert [(call.outcome, call.duration, call.slow, call.error) for call in calls] == [
        ("success", 0.5, False, None),
        ("success", 2.0, True, None),
        ("failure", 0.25, False, "ConnectionError"),
        ("ignored", 1.0, False, "ValueError"),
        ("cancelled", 1.5, False, "KeyboardInterrupt"),
        ("rejected", None, False, None),
    ]
    ends = [call.ended - start for call in calls]
    assert ends == [0.5, 2.5, 2.75, 3.75, 5.25, 5.25]
    assert [call.state for call in calls] == [State.CLOSED] * 5 + [State.FORCED_OPEN]
    assert {call.circuit_name for call in calls} == {"api"}
    agree(calls, protected.totals)


def test_a_call_comes_before_what_it_causes() -> None:
    log: list[str] = []

    class Both(RecordedCalls):
        def __call__(self, signal: Signal) -> None:
            log.append(str(signal.new_state))

        def call_ended(self, call: Call) -> None:
            log.append(str(call.outcome))

    breaker = CircuitBreaker("api", tripper=FailureStreak(2), listeners=[Both()])
    breaker.attempt().fail("HTTP 503")
    breaker.attempt().fail("HTTP 503")
    with pytest.raises(CallNotPermittedError):
        breaker.attempt()
    assert log == ["failure", "failure", "open", "rejected"]


def test_probes_stale_calls_and_their_parts() -> None:
    clock, calls = ManualClock(), RecordedCalls()
    breaker = CircuitBreaker(
        "api",
        tripper=FailureStreak(1),
        retry=Cooldown(5.0),
        permit=All(),
        probe_timeout=10.0,
        clock=clock,
        listeners=[calls],
    )
    late = breaker.attempt()
    breaker.attempt().fail("HTTP 500")
    late.fail("HTTP 503")
    clock.advance(5.0)
    with breaker.attempt():  # a probe
        breaker.call(int)  # a part of it
    breaker.attempt().fail()
    clock.advance(5.0)
    overdue = breaker.attempt()
    clock.advance(10.0)
    breaker.info()  # takes its slot back
    overdue.succeed()
    assert [(c.outcome, c.counted, c.probe, c.error) for c in calls] == [
        ("failure", "failure", False, "HTTP 500"),
        ("failure", "stale", False, "HTTP 503"),
        ("success", "ignored", False, None),
        ("success", "success", True, None),
        ("failure", "failure", False, None),
        ("success", "ignored", True, None),
    ]
    assert [call.generation for call in calls] == [0, 0, 2, 2, 3, 5]
    assert calls[-1].duration == 10.0
    agree(calls, breaker.info().totals)


def test_ignored_by_hand_and_dropped() -> None:
    """Nobody waits in a finaliser: a dropped one is heard of with whatever comes next."""
    clock, calls = ManualClock(), RecordedCalls()
    breaker = CircuitBreaker("api", clock=clock, listeners=[calls])
    clock.advance(100.0)
    attempt = breaker.attempt()
    clock.advance(3.0)
    attempt.ignore()
    breaker.attempt()  # dropped
    assert [(call.outcome, call.duration) for call in calls] == [("ignored", 3.0)]
    agree(calls, breaker.info().totals)
    assert (calls[-1].duration, calls[-1].ended) == (None, clock())


def test_a_generator_that_is_closed() -> None:
    calls = RecordedCalls()
    breaker = CircuitBreaker("api", listeners=[calls])

    @breaker
    def items() -> Generator[int]:
        yield 1
        yield 2

    assert list(items()) == [1, 2]
    left = items()
    next(left)
    left.close()
    next(items())  # dropped
    breaker.info()  # what finalisers have left is seen to
    assert [call.outcome for call in calls] == ["success", "ignored", "ignored"]


def test_messages_only_where_asked_for() -> None:
    calls = RecordedCalls()
    for messages in (False, True):
        breaker = CircuitBreaker("api", error_messages=messages, listeners=[calls])
        with pytest.raises(ConnectionError):
            breaker.call(_raise, ConnectionError("secret"))
    assert [call.error for call in calls] == ["ConnectionError", "ConnectionError: secret"]


def test_a_result_that_is_a_failure() -> None:
    calls = RecordedCalls()
    breaker = CircuitBreaker("api", result_tracker=lambda result: result == 0, listeners=[calls])
    breaker.call(int)
    assert [(call.outcome, call.error) for call in calls] == [("failure", "result_tracker")]


def test_a_disabled_circuit_reports_none() -> None:
    calls = RecordedCalls()
    breaker = CircuitBreaker("api", listeners=[calls], initial_state=State.DISABLED)
    breaker.call(int)
    with pytest.raises(ConnectionError):
        breaker.call(_raise, ConnectionError())
    assert list(calls) == []
    assert breaker.info().totals.settled == 0


def test_from_now_on_and_no_longer() -> None:
    """Also of what was admitted before, through a lane; and the lane is up again at the end."""
    breaker = CircuitBreaker("api")
    breaker.call(int)
    assert breaker._circuit.lane is not None
    before = breaker.attempt()
    calls = RecordedCalls()
    with fluxgate.listen(calls):
        before.succeed()
        breaker.call(int)
        breaker.update(tripper=FailureStreak(5))  # doesn't bring the lane back
        breaker.reset()  # nor does a new phase
        breaker.call(int)
    breaker.call(int)
    assert [call.outcome for call in calls] == ["success"] * 3
    assert breaker._circuit.lane == [pytest.approx(0.0, abs=1.0)]
    assert breaker.info().totals.successes == 5


def test_a_call_that_is_on_its_way_past_the_lane() -> None:
    """It has read the old lane and appends to it: counted and heard once, all the same."""
    breaker, calls = CircuitBreaker("api"), RecordedCalls()
    lane = breaker._circuit.lane
    assert lane is not None
    with breaker.listen(calls):
        lane.append(0.25)
        assert len(lane) > 255
        breaker._circuit.drain(lane)
    assert [call.duration for call in calls] == [0.25]
    agree(calls, breaker.info().totals)


def test_tickets_of_integrations() -> None:
    calls, registry = RecordedCalls(), Registry()
    with fluxgate.listen(calls):
        for _ in range(2):
            registry["api"].call(int)
        ticket = enter(registry, "api")
        assert ticket is not None
        leave(ticket)
        other = enter(registry, "api")
        assert other is not None
        attempt_of(other).fail("HTTP 500")
    assert [call.outcome for call in calls] == ["success"] * 3 + ["failure"]


def test_from_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dotted path in a file, as of any listener; what is asked for is the method."""
    module: Any = ModuleType("shop_calls")
    module.calls = RecordedCalls()
    monkeypatch.setitem(sys.modules, "shop_calls", module)
    for breaker in (
        build("api", {"listeners": ["shop_calls.calls"]}),
        Registry(read({"defaults": {"listeners": ["shop_calls.calls"]}}))["api"],
    ):
        breaker.call(int)
    assert [call.circuit_name for call in module.calls] == ["api", "api"]


def test_through_background() -> None:
    class Slow(RecordedCalls):
        async def __call__(self, signal: Signal) -> None: ...  # type: ignore[override]

        async def call_ended(self, call: Call) -> None:  # type: ignore[override]
            await anyio.sleep(0)
            super().call_ended(call)

    slow = Slow()
    with pytest.raises(TypeError, match=r"call_ended of listener .* is async"):
        CircuitBreaker("api", listeners=[_Async()])
    behind = Background(slow)
    breaker = CircuitBreaker("api", listeners=[behind])
    for _ in range(100):
        breaker.call(int)
    assert behind.close()
    assert len(slow) == 100
    assert not hasattr(Background(print), "call_ended")


def test_a_flood_leaves_half_of_the_queue_to_signals() -> None:
    gate, heard = threading.Event(), RecordedCalls()

    class Waits(RecordedCalls):
        def call_ended(self, call: Call) -> None:
            gate.wait(60)
            heard.call_ended(call)

    behind = Background(Waits(), maxsize=10)
    breaker = CircuitBreaker("api", listeners=[behind])
    for _ in range(50):
        breaker.call(int)
    gate.set()
    assert behind.close()
    assert len(heard) in (5, 6)  # one of them was with the listener
    assert behind.dropped == 50 - len(heard)


def test_one_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(RecordedCalls):
        def call_ended(self, call: Call) -> None:
            raise RuntimeError("broken")

    calls = RecordedCalls()
    breaker = CircuitBreaker("api", listeners=[Broken(), calls])
    for _ in range(50):
        assert breaker.call(int) == 0
    assert len(calls) == 50
    assert len(caplog.records) == 1


def test_an_interrupt_in_a_listener_goes_on() -> None:
    class Interrupts(RecordedCalls):
        def call_ended(self, call: Call) -> None:
            raise KeyboardInterrupt

    calls = RecordedCalls()
    breaker = CircuitBreaker("api", listeners=[Interrupts(), calls])
    with pytest.raises(KeyboardInterrupt):
        breaker.call(int)
    assert len(calls) == 1
    agree(calls, breaker.info().totals)


def test_a_listener_that_calls_back() -> None:
    class CallsBack(RecordedCalls):
        def call_ended(self, call: Call) -> None:
            super().call_ended(call)
            if len(self) < 5:
                breaker.call(int)

    calls = CallsBack()
    breaker = CircuitBreaker("api", listeners=[calls])
    breaker.call(int)
    assert len(calls) == 5


def test_many_threads_hear_each_once() -> None:
    calls = RecordedCalls()
    breaker = CircuitBreaker(
        "api", listeners=[calls], tripper=FailureStreak(3), retry=Cooldown(1e-6), permit=All()
    )

    def works(number: int) -> None:
        for turn in range(ROUNDS):
            try:
                if (number + turn) % 3:
                    breaker.call(int)
                else:
                    breaker.call(_raise, ConnectionError())
            except (ConnectionError, CallNotPermittedError):
                pass

    threads = [threading.Thread(target=works, args=(each,)) for each in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == THREADS * ROUNDS
    agree(calls, breaker.info().totals)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.anyio
async def test_tasks_that_are_cancelled() -> None:
    calls = RecordedCalls()
    breaker = AsyncCircuitBreaker("api", listeners=[calls])

    async def works(cancelled: bool) -> None:
        with anyio.CancelScope() as scope:
            async with breaker:
                if cancelled:
                    scope.cancel()
                await anyio.sleep(0)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(works, number % 2 == 0)
    kinds = Counter(call.outcome for call in calls)
    assert kinds == {Outcome.SUCCESS: 10, Outcome.CANCELLED: 10}
    agree(calls, breaker.info().totals)


class _Async(RecordedCalls):
    async def call_ended(self, call: Call) -> None: ...  # type: ignore[override]


def _raise(error: BaseException) -> Any:
    raise error


def test_dated_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls, refusals and signals alike; durations go by the circuit's own clock."""
    dates: list[float] = []

    class Dates(RecordedCalls):
        def __call__(self, signal: Signal) -> None:
            dates.append(signal.timestamp)

        def call_ended(self, call: Call) -> None:
            dates.append(call.timestamp)

    breaker = CircuitBreaker("api", listeners=[Dates()])
    monkeypatch.setattr(time, "time", lambda: 1e9)
    breaker.call(int)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    breaker.force_open()
    monkeypatch.setattr(time, "time", lambda: 3e9)
    with pytest.raises(CallNotPermittedError):
        breaker.call(int)
    assert dates == [1e9, 2e9, 3e9]


def test_a_trip_still_names_its_errors() -> None:
    breaker = CircuitBreaker("api", tripper=FailureStreak(2), listeners=[RecordedCalls()])
    for cause in ("HTTP 502", "HTTP 503"):
        breaker.attempt().fail(cause)
    trip = breaker.info().last_trip
    assert trip is not None
    assert trip.errors == (("HTTP 502", 1), ("HTTP 503", 1))
