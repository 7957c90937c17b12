"""OpenTelemetry's metrics, as its own in-memory reader exports them."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from fluxgate import CallNotPermittedError, CircuitBreaker, State
from fluxgate.listeners._otel_instruments import FLEET_INSTRUMENTS, INSTRUMENTS
from fluxgate.listeners.otel import Instrumentation, instrument
from fluxgate.permits import All
from fluxgate.retries import Cooldown, Never
from fluxgate.testing import LoadedDice, ManualClock, tripped
from fluxgate.trippers import FailureRate, FailureStreak, MinRequests, SlowRate

Points = dict[tuple[Any, ...], float]


class Observed:
    """A meter provider of its own, some circuits, and what an export of them shows."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.circuits: list[CircuitBreaker] = []
        self.reads = 0
        self.clock = ManualClock()

    def source(self) -> list[CircuitBreaker]:
        self.reads += 1
        return self.circuits

    def make(self, name: str = "payments", **settings: Any) -> CircuitBreaker:
        breaker = CircuitBreaker(name, clock=self.clock, dice=LoadedDice(0.0), **settings)
        self.circuits.append(breaker)
        return breaker

    def instrument(self, **options: Any) -> Instrumentation:
        return instrument(self.provider, **{"circuits": self.source, **options})

    def export(self) -> dict[str, Any]:
        """The metrics of one export, by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str, *keys: str, circuit: str = "payments") -> Points:
        """The numbers of a circuit in one metric, by the values of their other attributes."""
        metric = self.export().get(name)
        if metric is None:
            return {}
        found: Points = {}
        for point in metric.data.data_points:
            attributes = dict(point.attributes)
            if attributes.pop("fluxgate.circuit.name") == circuit:
                assert set(attributes) == set(keys)
                found[tuple(attributes[key] for key in keys)] = point.value
        return found


@pytest.fixture
def observed() -> Iterator[Observed]:
    observed = Observed()
    yield observed
    observed.provider.shutdown()


# -- metrics


def test_calls_by_outcome(observed: Observed) -> None:
    breaker = observed.make()
    observed.instrument()
    for _ in range(3):
        breaker.attempt().succeed()
    breaker.attempt().fail()
    breaker.attempt().ignore()
    breaker.attempt().raised(KeyboardInterrupt())
    late = breaker.attempt()
    breaker.force_open()
    late.succeed()
    calls = observed.points("fluxgate.circuit.calls", "fluxgate.call.outcome")
    assert calls == {
        ("success",): 3,
        ("failure",): 1,
        ("ignored",): 1,
        ("cancelled",): 1,
        ("stale",): 1,
    }


ALONE = {each.name for each in INSTRUMENTS if not each.name.startswith("fluxgate.fleet.")}
"""The instruments of a circuit that is in no fleet."""


def test_complete_from_the_first_export_on(observed: Observed) -> None:
    """A series that begins at its first event hides that event: all counters are there at 0."""
    observed.make(
        tripper=MinRequests(5) & (FailureRate(0.5) | SlowRate(0.5, 2.0)), buckets=(0.1, 1.0)
    )
    observed.instrument()
    exported = observed.export()
    assert set(exported) == ALONE - {"fluxgate.circuit.retry_after"}
    assert observed.points("fluxgate.circuit.slow_calls", "fluxgate.call.threshold") == {(2.0,): 0}
    assert observed.points("fluxgate.circuit.trips", "fluxgate.reason.clause") == {
        ("FailureRate(0.5)",): 0,
        ("SlowRate(0.5, 2.0)",): 0,
        ("open_for()",): 0,
    }
    assert observed.points("fluxgate.circuit.rejections") == {(): 0}


def test_units_and_kinds(observed: Observed) -> None:
    breaker = observed.make(buckets=(1.0,))
    tripped(breaker)
    observed.instrument()
    exported = observed.export()
    units = {name: metric.unit for name, metric in exported.items()}
    assert units == {
        "fluxgate.circuit.state": "{circuit}",
        "fluxgate.circuit.calls": "{call}",
        "fluxgate.circuit.rejections": "{call}",
        "fluxgate.circuit.call.time": "s",
        "fluxgate.circuit.call.time_buckets": "{call}",
        "fluxgate.circuit.trips": "{trip}",
        "fluxgate.circuit.transitions": "{transition}",
        "fluxgate.circuit.probes": "{call}",
        "fluxgate.circuit.reopens": "{reopen}",
        "fluxgate.circuit.retry_after": "s",
        "fluxgate.circuit.would_open": "1",
    }
    assert all(metric.description for metric in exported.values())
    monotonic = {
        name for name, metric in exported.items() if getattr(metric.data, "is_monotonic", False)
    }
    assert monotonic == {
        "fluxgate.circuit.calls",
        "fluxgate.circuit.rejections",
        "fluxgate.circuit.call.time",
        "fluxgate.circuit.call.time_buckets",
        "fluxgate.circuit.trips",
        "fluxgate.circuit.transitions",
    }
    assert not hasattr(exported["fluxgate.circuit.reopens"].data, "is_monotonic")


def test_state_deadline_trips_and_rejections(observed: Observed) -> None:
    breaker = observed.make(tripper=FailureStreak(2), retry=Cooldown(30.0), permit=All())
    observed.instrument()
    key = "fluxgate.circuit.state"
    assert observed.points(key, key) == {
        (state.value,): int(state is State.CLOSED) for state in State
    }
    assert observed.points("fluxgate.circuit.retry_after") == {}

    tripped(breaker)
    observed.clock.advance(10.0)
    with pytest.raises(CallNotPermittedError):
        breaker.attempt()
    assert observed.points(key, key)["open",] == 1
    assert observed.points(key, key)["closed",] == 0
    assert observed.points("fluxgate.circuit.retry_after") == {(): 20.0}
    assert observed.points("fluxgate.circuit.rejections") == {(): 1}
    trips = observed.points("fluxgate.circuit.trips", "fluxgate.reason.clause")
    assert trips["FailureStreak(2)",] == 1

    observed.clock.advance(20.0)
    probe = breaker.attempt()
    assert observed.points("fluxgate.circuit.probes") == {(): 1}
    assert observed.points("fluxgate.circuit.retry_after") == {}
    probe.fail()
    assert observed.points("fluxgate.circuit.probes") == {(): 0}
    assert observed.points("fluxgate.circuit.reopens") == {(): 1}


def test_no_deadline_where_nobody_knows_one(observed: Observed) -> None:
    """Never 0, never infinity: OpenTelemetry takes neither for "unknown"."""
    tripped(observed.make(tripper=FailureStreak(1), retry=Never()))
    observed.instrument()
    assert observed.points("fluxgate.circuit.retry_after") == {}


def test_durations_slow_calls_and_buckets(observed: Observed) -> None:
    breaker = observed.make(tripper=MinRequests(50) & SlowRate(0.9, 2.0), buckets=(0.5, 2.0))
    observed.instrument()
    for elapsed in (0.25, 0.25, 1.0, 4.0):
        breaker.attempt().succeed(elapsed)
    breaker.attempt().fail(elapsed=8.0)
    assert observed.points("fluxgate.circuit.call.time") == {(): 13.5}
    slow = observed.points("fluxgate.circuit.slow_calls", "fluxgate.call.threshold")
    assert slow == {(2.0,): 2}
    buckets = observed.points("fluxgate.circuit.call.time_buckets", "le")
    assert buckets == {("0.5",): 2, ("2.0",): 3, ("+Inf",): 5}


def test_verdicts_that_are_not_acted_on(observed: Observed) -> None:
    breaker = observed.make(
        tripper=FailureStreak(3),
        shadow=FailureStreak(1),
        initial_state=State.METRICS_ONLY,
    )
    observed.instrument()
    key = "fluxgate.tripper"
    assert observed.points("fluxgate.circuit.would_open", key) == {("live",): 0, ("shadow",): 0}
    breaker.attempt().fail()
    assert observed.points("fluxgate.circuit.would_open", key) == {("live",): 0, ("shadow",): 1}
    for _ in range(2):
        breaker.attempt().fail()
    assert observed.points("fluxgate.circuit.would_open", key) == {("live",): 1, ("shadow",): 1}


def test_circuits_of_one_name_are_added_up(observed: Observed) -> None:
    first, second = observed.make(), observed.make()
    observed.instrument()
    first.attempt().succeed()
    second.attempt().succeed()
    second.force_open()
    calls = observed.points("fluxgate.circuit.calls", "fluxgate.call.outcome")
    assert calls["success",] == 2
    states = observed.points("fluxgate.circuit.state", "fluxgate.circuit.state")
    assert (states["closed",], states["forced_open",]) == (1, 1)


def test_a_series_goes_when_its_circuit_goes(observed: Observed) -> None:
    observed.make("gone")
    observed.make("kept")
    observed.instrument()
    assert observed.points("fluxgate.circuit.rejections", circuit="gone") == {(): 0}
    del observed.circuits[0]
    assert observed.points("fluxgate.circuit.rejections", circuit="gone") == {}
    assert observed.points("fluxgate.circuit.rejections", circuit="kept") == {(): 0}


def test_few_names(observed: Observed) -> None:
    for number in range(4):
        observed.make(f"host-{number}").attempt().succeed()
    observed.instrument(max_circuits=2)
    points = observed.export()["fluxgate.circuit.calls"].data.data_points
    successes = {
        point.attributes["fluxgate.circuit.name"]: point.value
        for point in points
        if point.attributes["fluxgate.call.outcome"] == "success"
    }
    assert successes == {"host-0": 1, "host-1": 1, "other": 2}


def test_one_export_reads_each_circuit_once(observed: Observed) -> None:
    """All instruments of an export show one moment, and the next export shows the next."""
    breaker = observed.make()
    observed.instrument()
    for exports in range(1, 4):
        breaker.attempt().fail()
        calls = observed.points("fluxgate.circuit.calls", "fluxgate.call.outcome")
        assert calls["failure",] == exports
        assert observed.reads == exports


def test_exports_while_calls_are_made() -> None:
    """Two readers that export at once, and calls on other threads: no call is lost or doubled."""
    breaker = CircuitBreaker("payments")
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers)
    instrument(provider, circuits=lambda: [breaker])
    begin = threading.Barrier(6)

    def successes(reader: InMemoryMetricReader) -> int:
        data = reader.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
        (calls,) = [each for each in scope.metrics if each.name == "fluxgate.circuit.calls"]
        (point,) = [
            each
            for each in calls.data.data_points
            if (each.attributes or {})["fluxgate.call.outcome"] == "success"
        ]
        return point.value

    def call() -> None:
        begin.wait()
        for _ in range(2_000):
            breaker.call(int)

    def export(reader: InMemoryMetricReader) -> list[int]:
        begin.wait()
        return [successes(reader) for _ in range(40)]

    with ThreadPoolExecutor(6) as pool:
        callers = [pool.submit(call) for _ in range(4)]
        exports = [pool.submit(export, reader) for reader in readers]
        for caller in callers:
            caller.result()
        for seen in exports:
            assert seen.result() == sorted(seen.result())
    assert [successes(reader) for reader in readers] == [8_000, 8_000]
    provider.shutdown()


def test_an_instrument_that_was_left_out_gets_no_old_reading(
    observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when an export was broken off: what is left of it is not shown a minute later."""
    breaker = observed.make()
    handle = observed.instrument()
    now = [100.0]
    monkeypatch.setattr("fluxgate.listeners.otel.time.monotonic", lambda: now[0])
    before = handle._read("the first")
    breaker.attempt().fail()
    assert handle._read("the second") is before
    now[0] += 60.0
    assert handle._read("the third").readings[0].totals.failures == 1


def test_every_circuit_of_the_process_by_default() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    breaker = CircuitBreaker("otel-by-default")
    instrument(provider)
    data = reader.get_metrics_data()
    assert data is not None
    assert f'"{breaker.name}"' in data.to_json()
    provider.shutdown()


KINDS = {"counter": "counter", "up-down counter": "up_down_counter", "gauge": "gauge"}


def test_the_page_has_every_instrument() -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "operate" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(fluxgate\.(?:circuit|fleet)\.[\w.]+)` \| ([\w -]+) \|(.*?)\| `(.+?)` \|",
        page,
        re.MULTILINE,
    )
    listed = {name: (KINDS[kind], unit) for name, kind, _, unit in rows}
    instruments = (*INSTRUMENTS, *FLEET_INSTRUMENTS)
    assert listed == {each.name: (each.kind, each.unit) for each in instruments}


# -- setting up, and undoing


def test_instrumenting_twice_is_instrumenting_once(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    observed.make()
    first = observed.instrument()
    assert observed.instrument() is first
    assert observed.points("fluxgate.circuit.rejections") == {(): 0}
    assert not caplog.records  # the SDK warns of an instrument that is made twice


def test_providers_are_told_apart(observed: Observed) -> None:
    other = Observed()
    other.make("elsewhere")
    observed.make()
    assert observed.instrument() is not other.instrument()
    assert other.points("fluxgate.circuit.rejections") == {}
    assert other.points("fluxgate.circuit.rejections", circuit="elsewhere") == {(): 0}
    other.provider.shutdown()


def test_it_can_be_undone_and_done_again(
    observed: Observed, caplog: pytest.LogCaptureFixture
) -> None:
    breaker = observed.make()
    handle = observed.instrument()
    breaker.attempt().fail()
    observed.export()
    handle.uninstrument()
    assert not handle.active
    assert observed.export() == {}
    reads = observed.reads
    observed.export()
    assert observed.reads == reads
    breaker.attempt().fail()
    assert observed.instrument() is handle
    assert handle.active
    calls = observed.points("fluxgate.circuit.calls", "fluxgate.call.outcome")
    assert calls["failure",] == 2
    assert not caplog.records


def test_other_settings_need_the_first_undone(observed: Observed) -> None:
    observed.make("a")
    observed.make("b")
    handle = observed.instrument()
    with pytest.raises(ValueError, match=r"other settings: uninstrument\(\)"):
        observed.instrument(max_circuits=1)
    assert observed.points("fluxgate.circuit.rejections", circuit="b") == {(): 0}
    handle.uninstrument()
    assert observed.instrument(max_circuits=1) is handle
    assert observed.points("fluxgate.circuit.rejections", circuit="b") == {}
    assert observed.points("fluxgate.circuit.rejections", circuit="other") == {(): 0}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"circuits": []}, TypeError, "circuits must be a function"),
        ({"max_circuits": 0}, ValueError, "max_circuits must be at least 1"),
        ({"max_reasons": "many"}, TypeError, "max_reasons must be a whole number"),
    ],
)
def test_wrong_options_set_nothing_up(
    observed: Observed, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    observed.make()
    with pytest.raises(error, match=message):
        observed.instrument(**options)
    assert observed.export() == {}
    assert observed.instrument().active
    assert observed.points("fluxgate.circuit.rejections") == {(): 0}


def test_a_provider_is_a_provider() -> None:
    with pytest.raises(TypeError, match="meter_provider must be a MeterProvider or None"):
        instrument("global")  # type: ignore[arg-type]


def run(program: str, *, isolated: bool = False) -> str:
    command = [sys.executable, *(["-S", "-I"] if isolated else []), "-W", "error", "-c"]
    result = subprocess.run(
        [*command, textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_global_provider_may_be_set_later() -> None:
    """As when a library instruments while it is imported; in a process of its own: it is global."""
    output = run(
        """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from fluxgate import CircuitBreaker
        from fluxgate.listeners.otel import instrument

        breaker = CircuitBreaker("early")
        first = instrument()
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        metrics.set_meter_provider(provider)
        assert instrument() is first
        assert instrument(provider) is first
        (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
        print(scope.scope.name, scope.scope.version, len(scope.metrics))
        """
    )
    # Neither a deadline nor slow calls nor buckets: the circuit has none.
    assert output == f"fluxgate {metadata.version('fluxgate-core')} {len(ALONE) - 3}"


def test_without_the_package_it_says_what_to_install() -> None:
    source = str(Path(sys.modules["fluxgate"].__path__[0]).parent)
    output = run(
        f"""
        import sys
        sys.path.insert(0, {source!r})
        import fluxgate.listeners
        try:
            fluxgate.listeners.OpenTelemetryListener
        except ModuleNotFoundError as error:
            print(error)
        """,
        isolated=True,
    )
    assert output == "needs opentelemetry-api: pip install 'fluxgate-core[otel]'"
