"""Metrics of fleets: what Prometheus and OpenTelemetry are given; neither sees a password."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

from fluxgate import CircuitBreaker
from fluxgate.fleet import Fleet
from fluxgate.listeners._aggregate import Reader
from fluxgate.listeners.otel import instrument
from fluxgate.listeners.prometheus import PrometheusCollector
from fluxgate.retries import Cooldown
from fluxgate.trippers import Closed, FailureRate, MinRequests

from .conftest import PATIENCE, Fleets, eventually


def scraped(*breakers: CircuitBreaker) -> dict[tuple[str, ...], float]:
    """The fleet's series: their names and labels, and their values."""
    registry = CollectorRegistry()
    PrometheusCollector(registry, circuits=lambda: breakers)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.startswith("fluxgate_fleet_")
    }


def exported(*breakers: CircuitBreaker) -> dict[tuple[Any, ...], float]:
    """The same of OpenTelemetry."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    instrument(provider, circuits=lambda: breakers)
    data: Any = reader.get_metrics_data()
    (scope,) = data.resource_metrics[0].scope_metrics
    provider.shutdown()
    return {
        (metric.name, *point.attributes.values()): point.value
        for metric in scope.metrics
        for point in metric.data.data_points
        if metric.name.startswith("fluxgate.fleet.")
    }


def test_none_without_a_fleet() -> None:
    alone = CircuitBreaker("alone")
    assert scraped(alone) == {}
    assert exported(alone) == {}


def test_an_attached_fleet(fleets: Fleets) -> None:
    fleet = fleets.make()
    breaker = CircuitBreaker("api", fleet=fleet)
    assert fleet.flush(PATIENCE)
    found = scraped(breaker)
    assert found["fluxgate_fleet_connections", fleets.url, "attached"] == 1
    assert found["fluxgate_fleet_connections", fleets.url, "detached"] == 0
    assert found["fluxgate_fleet_dropped_calls_total", fleets.url] == 0
    assert found["fluxgate_fleet_failed_flushes_total", fleets.url] == 0
    assert found["fluxgate_fleet_flush_duration_seconds_count", fleets.url] >= 1
    assert found["fluxgate_fleet_flush_duration_seconds_sum", fleets.url] > 0
    assert found["fluxgate_fleet_circuits", "api", "closed"] == 1
    assert found["fluxgate_fleet_epoch", "api"] == 0
    assert found["fluxgate_fleet_leases", "api"] == 0
    points = exported(breaker)
    assert points["fluxgate.fleet.connections", fleets.url, "attached"] == 1
    assert points["fluxgate.fleet.flushes", fleets.url] >= 1
    assert points["fluxgate.fleet.flush.time", fleets.url] > 0
    assert points["fluxgate.fleet.circuits", "api", "closed"] == 1


def test_state_and_epoch_of_all(fleets: Fleets) -> None:
    one = CircuitBreaker("api", fleet=fleets.make())
    other = CircuitBreaker("api", fleet=fleets.make())
    fleets.flush()
    one.force_open(fleet=True)
    fleets.flush()
    view = one.info().fleet
    assert view is not None
    assert view.epoch > 0
    for breaker in (one, other):
        found = scraped(breaker)
        assert found["fluxgate_fleet_circuits", "api", "forced_open"] == 1
        assert found["fluxgate_fleet_circuits", "api", "closed"] == 0
        assert found["fluxgate_fleet_epoch", "api"] == view.epoch
        assert exported(breaker)["fluxgate.fleet.epoch", "api"] == view.epoch
    assert scraped(one, other)["fluxgate_fleet_circuits", "api", "forced_open"] == 2


def test_a_probe_holds_a_lease(fleets: Fleets) -> None:
    fleet = fleets.make()
    breaker = CircuitBreaker(
        "api",
        fleet=fleet,
        tripper=Closed() & MinRequests(10) & FailureRate(0.5),
        retry=Cooldown(0.01),
        max_half_open_calls=1,
    )
    assert fleet.flush(PATIENCE)
    breaker.open_for(0.01, fleet=True)
    probes: list[Any] = []

    def probe() -> bool:
        try:
            probes.append(breaker.attempt())
        except Exception:
            fleet.flush(PATIENCE)
        return bool(probes)

    eventually(probe)
    assert scraped(breaker)["fluxgate_fleet_leases", "api"] == 1
    assert exported(breaker)["fluxgate.fleet.leases", "api"] == 1
    probes.pop().succeed()
    assert fleet.flush(PATIENCE)
    assert scraped(breaker)["fluxgate_fleet_leases", "api"] == 0


def test_detached_and_no_secret() -> None:
    with Fleet("redis://shop:hunter2@127.0.0.1:1/0") as fleet:
        breaker = CircuitBreaker("api", fleet=fleet)
        eventually(lambda: fleet.status().last_error is not None)
        found, points = scraped(breaker), exported(breaker)
    for each in (found, points):
        assert "hunter2" not in repr(each)
    (url,) = {key[1] for key in found if key[0] == "fluxgate_fleet_connections"}
    assert found["fluxgate_fleet_connections", url, "detached"] == 1
    assert found["fluxgate_fleet_connections", url, "attached"] == 0
    assert found["fluxgate_fleet_failed_flushes_total", url] >= 1
    assert points["fluxgate.fleet.failed_flushes", url] >= 1


def test_counts_of_a_fleet_that_went(fleets: Fleets) -> None:
    """Of two fleets of one URL; the sum must not fall, or it is counted once more."""
    breakers = [CircuitBreaker(name, fleet=fleets.make()) for name in ("one", "other")]
    fleets.flush()
    reader = Reader(lambda: breakers)
    reader.read()
    (before,) = reader.fleets
    assert before.attached == 2
    breakers.pop()
    fleets.made.pop().close()
    gc.collect()
    reader.read()
    (after,) = reader.fleets
    assert (after.attached, after.detached) == (1, 0)
    assert after.counts.flushes >= before.counts.flushes
    assert after.counts.flush_seconds >= before.counts.flush_seconds
    breakers.clear()
    reader.read()
    assert reader.fleets == []


def test_a_closed_fleet_is_not_shown(fleets: Fleets) -> None:
    fleet = fleets.make()
    breaker = CircuitBreaker("api", fleet=fleet)
    assert fleet.flush(PATIENCE)
    fleet.close()
    assert scraped(breaker) == {}


def test_in_the_files_of_workers(tmp_path: Path) -> None:
    program = """
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from fluxgate import CircuitBreaker
from fluxgate.fleet import Fleet
from fluxgate.listeners import PrometheusCollector

fleet = Fleet("memory://files")
breaker = CircuitBreaker("api", fleet=fleet)
breaker.call(int)
assert fleet.flush(30.0)
collector = PrometheusCollector()
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
page = generate_latest(registry).decode()
assert 'fluxgate_fleet_connections{fleet="memory://files",state="attached"} 1.0' in page, page
assert 'fluxgate_fleet_circuits{circuit="api",state="closed"} 1.0' in page, page
assert 'fluxgate_fleet_dropped_calls_total{fleet="memory://files"} 0.0' in page, page
assert 'fluxgate_fleet_flush_duration_seconds_count{fleet="memory://files"}' in page, page
fleet.close()
collector.unregister()
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        check=True,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    )
