"""OpenTelemetry: metrics of circuits, read when they are exported, and events on spans.

    instrument()  # once, at start: the metrics of every circuit of this process

    breaker = CircuitBreaker("payments", listeners=[OpenTelemetryListener()])  # events on spans

Needs opentelemetry-api (the extra `otel`), and no SDK: without one, nothing happens. A healthy
call costs nothing more with either.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

try:
    from opentelemetry import metrics, trace
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "needs opentelemetry-api: pip install 'fluxgate-core[otel]'"
    ) from error

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

import fluxgate
from fluxgate._locks import ProcessLock
from fluxgate._naming import encodable, safe_repr
from fluxgate.errors import CallNotPermittedError
from fluxgate.listeners._aggregate import Reader, Reading, Source
from fluxgate.listeners._aggregate_fleets import FleetReading
from fluxgate.listeners._otel_instruments import (
    CLAUSE,
    FLEET_INSTRUMENTS,
    INSTRUMENTS,
    NAME,
    STATE,
    Instrument,
    Kind,
    R,
)
from fluxgate.signals import Reason, Signal, SignalKind

__all__ = ["Instrumentation", "OpenTelemetryListener", "instrument"]

_FRESH: Final = 1.0
"""Seconds for which instruments may share one reading of the circuits."""
MOST_EVENTS: Final = 16
"""Refusals, and verdicts of trippers on trial, that one span shows as events, of each."""
MOST_SPANS: Final = 1000
"""Spans whose events are counted: as many that were used of late, and as many before these."""

_Attributes = dict[str, str | bool | int | float | list[str]]
_Callback = Callable[[CallbackOptions], Iterable[Observation]]


class OpenTelemetryListener:
    """Adds events to the current span: what a circuit did to the call that the span is about.

    A transition, and a verdict that is not carried out, becomes the event
    `fluxgate.circuit.transition` (or `.would_open`, `.would_close`) of the span in whose call it
    was caused, a refusal the event `fluxgate.call.rejected`. It makes no spans and no exceptions;
    where no span records, it does nothing. Don't wrap it in `Background`, whose thread has no
    current span.

    An SDK keeps the last 128 events of a span. So that refusals and verdicts in a long span (a
    batch, a consumer, a WebSocket) don't push the transitions out, it shows the first 16 of each;
    the span's attribute `fluxgate.call.rejections` counts all of its refusals.

    Example:
        breaker = CircuitBreaker("payments", listeners=[OpenTelemetryListener()])
    """

    __slots__ = ()

    def __call__(self, signal: Signal) -> None:
        """Add a signal to the current span."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        transition = signal.kind is SignalKind.TRANSITION
        if not transition and _verdicts.count(span) > MOST_EVENTS:
            return
        attributes: _Attributes = {
            NAME: encodable(signal.circuit_name),
            STATE: signal.new_state.value,
            "fluxgate.circuit.previous_state": signal.old_state.value,
            "fluxgate.circuit.generation": signal.generation,
            "fluxgate.shadow": signal.shadow,
            **_explained(signal.reason),
        }
        span.add_event(f"fluxgate.circuit.{signal.kind}", attributes, round(signal.timestamp * 1e9))

    def rejected(self, error: CallNotPermittedError) -> None:
        """Add a refusal to the current span."""
        span = trace.get_current_span()
        if not span.is_recording():
            return
        count = _rejections.count(span)
        span.set_attribute("fluxgate.call.rejections", count)
        if count > MOST_EVENTS:
            return
        attributes: _Attributes = {NAME: encodable(error.name), STATE: error.state.value}
        if error.retry_after is not None:
            attributes["fluxgate.retry_after"] = error.retry_after
        if error.reason is not None:
            attributes |= _explained(error.reason)
        span.add_event("fluxgate.call.rejected", attributes)


class _PerSpan:
    """How often something happened in each of the spans that were used of late.

    Without a lock, since refusals come from any thread, signal handlers included: threads that meet
    in one span may lose a count.
    """

    __slots__ = ("_before", "_lately")

    def __init__(self) -> None:
        self._lately: dict[tuple[int, int], int] = {}
        self._before: dict[tuple[int, int], int] = {}

    def count(self, span: trace.Span) -> int:
        """Count once more in this span; how often it has been."""
        context = span.get_span_context()
        key, lately = (context.trace_id, context.span_id), self._lately
        count = (lately.get(key) or self._before.get(key, 0)) + 1
        if key not in lately and len(lately) >= MOST_SPANS:
            self._before, self._lately = lately, {}
            lately = self._lately
        lately[key] = count
        return count


_rejections: Final = _PerSpan()  # of all listeners: they may share a span
_verdicts: Final = _PerSpan()


def _explained(reason: Reason) -> _Attributes:
    """A reason as attributes; parts that are None are left out."""
    found: _Attributes = {
        CLAUSE: encodable(reason.clause),
        "fluxgate.reason.description": encodable(str(reason)),
    }
    if reason.measured is not None:
        found["fluxgate.reason.measured"] = reason.measured
    if reason.calls is not None:
        found["fluxgate.reason.calls"] = reason.calls
    if reason.window is not None:
        found["fluxgate.reason.window"] = reason.window
    if reason.note is not None:
        found["fluxgate.reason.note"] = encodable(reason.note)
    if reason.by is not None:
        found["fluxgate.reason.by"] = encodable(reason.by)
    if reason.errors:
        found["fluxgate.reason.errors"] = [
            encodable(f"{count} x {label}") for label, count in reason.errors
        ]
    return found


class _Collection(NamedTuple):
    """One reading of the circuits, and the names of the instruments that have been given it."""

    readings: list[Reading]
    fleets: list[FleetReading]
    at: float
    served: set[str]


_NONE_YET: Final = _Collection([], [], -math.inf, set())  # never fresh, so nothing is added to it


class Instrumentation:
    """The instruments of one meter provider, made by `instrument()`.

    Attributes:
        active: whether its instruments report anything.
    """

    def __init__(self, provider: MeterProvider | None) -> None:
        self.active = False
        self._provider = provider
        self._options: tuple[object, ...] = ()
        self._reader: Reader | None = None
        self._collection = _NONE_YET

    def uninstrument(self) -> None:
        """Report nothing from now on; `instrument()` goes on with the same instruments.

        OpenTelemetry has no way to take an instrument back.
        """
        self.active = False
        self._collection = _NONE_YET

    @property
    def _meters(self) -> MeterProvider:
        """The meter provider in use: its own, or the global one, which may be set later."""
        return self._provider or metrics.get_meter_provider()

    def _start(self, circuits: Source, max_circuits: int, max_reasons: int) -> None:
        options, first = (circuits, max_circuits, max_reasons), self._reader is None
        if self.active and options != self._options:
            raise ValueError(
                "this provider has Fluxgate's instruments already, with other settings: "
                "uninstrument() what the first instrument() returned"
            )
        if options != self._options:
            self._reader = Reader(circuits, max_circuits=max_circuits, max_reasons=max_reasons)
            self._options = options
        if first:
            meter = self._meters.get_meter("fluxgate", fluxgate.__version__)
            for each in INSTRUMENTS:
                _create(meter, each, self._callback(each, lambda last: last.readings))
            for one in FLEET_INSTRUMENTS:
                _create(meter, one, self._callback(one, lambda last: last.fleets))
        self.active = True

    def _callback(
        self, instrument: Instrument[R], of: Callable[[_Collection], list[R]]
    ) -> _Callback:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(value, {instrument.subject: reading.name, **attributes})
                for reading in of(self._read(instrument.name))
                for value, attributes in instrument.points(reading)
            ]

        return observe

    def _read(self, name: str) -> _Collection:
        """The circuits, read once for all instruments of a collection.

        An SDK asks the instruments one after the other. A reading that this instrument has had
        already belongs to an earlier collection, as does one that is older than `_FRESH`.
        """
        if not self.active or self._reader is None:
            return _NONE_YET
        last, now = self._collection, time.monotonic()
        if name in last.served or now - last.at > _FRESH:
            last = self._collection = _Collection(
                self._reader.read(), self._reader.fleets, now, set()
            )
        last.served.add(name)
        return last


def instrument(
    meter_provider: MeterProvider | None = None,
    *,
    circuits: Source = fluxgate.circuits,
    max_circuits: int = 256,
    max_reasons: int = 20,
) -> Instrumentation:
    """Register the metrics of circuits with OpenTelemetry, once for each provider.

    They are observable instruments: read from the circuits' own counters when they are exported,
    complete from the first export on, and gone with their circuit. Circuits of one name are shown
    as one. A second call for the same provider changes nothing.

    Durations are a sum (`fluxgate.circuit.call.time`), and for circuits with `buckets` counts of
    calls by upper bound: OpenTelemetry's histograms can't be observed, they want every single
    duration as it comes, which would cost each call.

    Args:
        meter_provider: whose metrics; by default the global one, also if it is set later.
        circuits: gives the breakers to show; `registry.values` shows a `Registry`'s only.
        max_circuits: how many names get series of their own, 1 or more; all later ones are added
            up under the name `other`.
        max_reasons: how many reasons are shown apart in the trips of one name, 1 or more; the rest
            is `other`.

    Returns:
        The instrumentation, whose `uninstrument()` undoes this.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: a number is below 1, or the provider has these instruments already, with other
            settings.
    """
    if meter_provider is not None and not isinstance(meter_provider, MeterProvider):
        raise TypeError(
            f"meter_provider must be a MeterProvider or None: {safe_repr(meter_provider)}"
        )
    wanted = meter_provider or metrics.get_meter_provider()
    with _instrumenting.here():
        known = next((each for each in _instrumented if each._meters is wanted), None)
        found = Instrumentation(meter_provider) if known is None else known
        found._start(circuits, max_circuits, max_reasons)
        _instrumented.add(found)
    return found


_instrumenting: Final = ProcessLock()
_instrumented: Final[weakref.WeakSet[Instrumentation]] = weakref.WeakSet()  # kept by the callbacks


def _create(meter: Meter, instrument: Instrument[R], callback: _Callback) -> None:
    create = {
        Kind.COUNTER: meter.create_observable_counter,
        Kind.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
        Kind.GAUGE: meter.create_observable_gauge,
    }[instrument.kind]
    create(instrument.name, [callback], instrument.unit, instrument.description)
