"""Events on OpenTelemetry's spans, as its own in-memory exporter has them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker
from fluxgate.listeners import OpenTelemetryListener, otel
from fluxgate.retries import Cooldown
from fluxgate.testing import ManualClock, tripped
from fluxgate.trippers import FailureRate, FailureStreak, MinRequests


class Traced:
    """A tracer of its own, and the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer: Tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Each event of each span: the span's name, the event's, its attributes."""
        return [
            (span.name, event.name, dict(event.attributes or {}))
            for span in self.spans
            for event in span.events
        ]


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.provider.shutdown()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make(clock: ManualClock) -> Callable[..., CircuitBreaker]:
    def make(**settings: Any) -> CircuitBreaker:
        listeners = [OpenTelemetryListener()]
        return CircuitBreaker("payments", listeners=listeners, clock=clock, **settings)

    return make


def failing() -> None:
    raise ConnectionError("card 4111")


def test_a_transition_is_an_event_of_the_span_that_caused_it(
    traced: Traced, make: Callable[..., CircuitBreaker]
) -> None:
    breaker = make(tripper=MinRequests(2) & FailureRate(0.5))
    with traced.tracer.start_as_current_span("first"), pytest.raises(ConnectionError):
        breaker.call(failing)
    with traced.tracer.start_as_current_span("second"), pytest.raises(ConnectionError):
        breaker.call(failing)
    (event,) = traced.events()
    assert event == (
        "second",
        "fluxgate.circuit.transition",
        {
            "fluxgate.circuit.name": "payments",
            "fluxgate.circuit.state": "open",
            "fluxgate.circuit.previous_state": "closed",
            "fluxgate.circuit.generation": 1,
            "fluxgate.shadow": False,
            "fluxgate.reason.clause": "FailureRate(0.5)",
            "fluxgate.reason.description": "FailureRate(0.5): 1 over 2 calls",
            "fluxgate.reason.measured": 1.0,
            "fluxgate.reason.calls": 2,
            "fluxgate.reason.window": "CountWindow(100)",
            "fluxgate.reason.errors": ("2 x ConnectionError",),
        },
    )
    span = traced.spans[1]
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time - 1e9 <= span.events[0].timestamp <= span.end_time + 1e9


def test_messages_stay_out_of_traces_unless_asked_for(
    traced: Traced, make: Callable[..., CircuitBreaker]
) -> None:
    for messages in (False, True):
        breaker = make(tripper=FailureStreak(1), error_messages=messages)
        with traced.tracer.start_as_current_span(str(messages)), pytest.raises(ConnectionError):
            breaker.call(failing)
    quiet, asked = traced.events()
    assert "4111" not in str(quiet)
    assert "4111" in str(asked)


def test_a_refusal_is_an_event_too_and_no_exception_of_its_own(
    traced: Traced, make: Callable[..., CircuitBreaker], clock: ManualClock
) -> None:
    breaker = make(tripper=FailureStreak(1), retry=Cooldown(30.0))
    tripped(breaker)  # without a span: nothing to note it on
    clock.advance(10.0)
    span = traced.tracer.start_as_current_span("refused")
    with span, contextlib.suppress(CallNotPermittedError):
        breaker.call(failing)
    (event,) = traced.events()
    assert event == (
        "refused",
        "fluxgate.call.rejected",
        {
            "fluxgate.circuit.name": "payments",
            "fluxgate.circuit.state": "open",
            "fluxgate.retry_after": 20.0,
            "fluxgate.reason.clause": "FailureStreak(1)",
            "fluxgate.reason.description": "FailureStreak(1): 1 over 1 calls",
            "fluxgate.reason.measured": 1.0,
            "fluxgate.reason.calls": 1,
            "fluxgate.reason.window": "CountWindow(100)",
        },
    )


def test_a_refusal_without_a_deadline_has_none(
    traced: Traced, make: Callable[..., CircuitBreaker]
) -> None:
    breaker = make()
    breaker.force_open()
    with traced.tracer.start_as_current_span("refused"), pytest.raises(CallNotPermittedError):
        breaker.attempt()
    rejected = [attributes for _, name, attributes in traced.events() if "rejected" in name]
    assert [attributes.get("fluxgate.retry_after") for attributes in rejected] == [None]
    assert rejected[0]["fluxgate.reason.clause"] == "force_open()"
    assert not any(math.isinf(v) for v in rejected[0].values() if isinstance(v, float))


def test_what_would_have_happened(traced: Traced, make: Callable[..., CircuitBreaker]) -> None:
    breaker = make(tripper=FailureStreak(9), shadow=FailureStreak(1))
    with traced.tracer.start_as_current_span("tried"):
        breaker.attempt().fail()
    ((_, name, attributes),) = traced.events()
    assert name == "fluxgate.circuit.would_open"
    assert attributes["fluxgate.shadow"] is True
    assert attributes["fluxgate.circuit.state"] == "closed"
    assert attributes["fluxgate.circuit.previous_state"] == "closed"


def test_no_span_is_made_and_none_is_needed(
    traced: Traced, make: Callable[..., CircuitBreaker]
) -> None:
    breaker = make(tripper=FailureStreak(1))
    tripped(breaker)
    with pytest.raises(CallNotPermittedError):
        breaker.attempt()
    ended = traced.tracer.start_span("ended")
    ended.end()
    from opentelemetry.trace import use_span

    with use_span(ended):
        breaker.reset()  # nor on a span that records no more
    assert traced.events() == []
    assert [span.name for span in traced.spans] == ["ended"]


@pytest.mark.asyncio
async def test_each_task_notes_on_its_own_span(traced: Traced) -> None:
    """A span belongs to a context, and a listener is called in that of the call."""
    import asyncio

    breaker = AsyncCircuitBreaker(
        "payments", tripper=FailureStreak(2), listeners=[OpenTelemetryListener()]
    )
    turns = [asyncio.Event() for _ in range(4)]
    turns[0].set()

    async def call(number: int) -> None:
        with traced.tracer.start_as_current_span(str(number)):
            await turns[number].wait()
            with contextlib.suppress(ConnectionError, CallNotPermittedError):
                await breaker.call(fail)
            for following in turns[number + 1 : number + 2]:
                following.set()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ConnectionError

    await asyncio.gather(*map(call, range(4)))
    noted = [(span, name.rpartition(".")[2]) for span, name, _ in traced.events()]
    assert noted == [("1", "transition"), ("2", "rejected"), ("3", "rejected")]


def test_refusals_leave_the_transition(traced: Traced, make: Callable[..., CircuitBreaker]) -> None:
    """A batch in one span, whose 128 events an SDK keeps: three circuits open and refuse."""
    breakers = [make(tripper=FailureStreak(1)) for _ in range(3)]
    with traced.tracer.start_as_current_span("batch"):
        for breaker in breakers * 100:
            with contextlib.suppress(ConnectionError, CallNotPermittedError):
                breaker.call(failing)
    names = [name for _, name, _ in traced.events()]
    assert names.count("fluxgate.circuit.transition") == 3
    assert names.count("fluxgate.call.rejected") == otel.MOST_EVENTS
    (span,) = traced.spans
    assert span.dropped_events == 0
    assert (span.attributes or {})["fluxgate.call.rejections"] == 297


def test_each_span_has_its_refusals(
    traced: Traced, make: Callable[..., CircuitBreaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More spans than are remembered; one of them lives through it all."""
    monkeypatch.setattr(otel, "MOST_SPANS", 10)
    breaker = make(initial_state="forced_open")

    def refused() -> None:
        with pytest.raises(CallNotPermittedError):
            breaker.call(failing)

    with traced.tracer.start_as_current_span("long") as long:
        for _ in range(100):
            with traced.tracer.start_as_current_span("request"):
                refused()
            with trace.use_span(long):
                refused()
    per_span = [(span.name, len(span.events)) for span in traced.spans]
    assert per_span == [*[("request", 1)] * 100, ("long", otel.MOST_EVENTS)]
    assert len(otel._rejections._lately) <= 10
    assert len(otel._rejections._before) <= 10


def test_verdicts_leave_the_transition(traced: Traced, make: Callable[..., CircuitBreaker]) -> None:
    breaker = make(tripper=FailureStreak(1000), shadow=FailureStreak(1))
    with traced.tracer.start_as_current_span("batch"):
        breaker.disable()
        breaker.reset()
        for _ in range(200):
            with contextlib.suppress(ConnectionError):
                breaker.call(failing)
            breaker.call(int)
    names = [name for _, name, _ in traced.events()]
    assert names.count("fluxgate.circuit.transition") == 2
    assert len(names) == 2 + otel.MOST_EVENTS


def test_surrogates_are_escaped(traced: Traced) -> None:
    breaker = CircuitBreaker("tenant-\ud800", listeners=[OpenTelemetryListener()])
    with traced.tracer.start_as_current_span("request"):
        breaker.force_open()
        with pytest.raises(CallNotPermittedError):
            breaker.call(failing)
    names = [attributes["fluxgate.circuit.name"] for _, _, attributes in traced.events()]
    assert names == ["tenant-\\ud800"] * 2
