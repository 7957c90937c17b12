"""What it costs to be measured: a call, and a scrape, with and without.

    python benchmarks/metrics_cost.py [--quick] [--json FILE]

A healthy call of a circuit that Prometheus and OpenTelemetry read, over the same call of one that
nobody reads; both are read once a round, between the turns, as a scrape is seconds away from the
next. Then a scrape of 1,000 circuits over what prometheus-client takes to serialise as many plain
series of its own, with the same names, labels and values.

The method is that of README.md: short turns side by side, ratios within the round, medians over
the rounds, the lowest of three passes.
"""

import argparse
import json
import sys
from collections.abc import Callable
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    Summary,
    disable_created_metrics,
    generate_latest,
)
from thin import dependency
from timing import Times, Turn, healthy, own_code, race

from fluxgate import CircuitBreaker
from fluxgate.listeners.otel import OpenTelemetryListener, instrument
from fluxgate.listeners.prometheus import PrometheusCollector, PrometheusListener

CIRCUITS = 1000
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Those of prometheus-client's own histograms."""

Plan = tuple[str, str, str, float | None]

PLANS: list[Plan] = [
    ("healthy call, read by Prometheus", "prometheus", "unread", 1.05),
    ("healthy call, read by OpenTelemetry", "otel", "unread", 1.05),
    ("healthy call, read by both", "both", "unread", 1.05),
    ("healthy call, read by both, with a histogram", "histogram", "unread", 1.25),
    ("scrape of 1,000 circuits ÷ as many plain series", "scrape", "plain", 1.6),
    ("only reading 1,000 circuits ÷ the plain series", "read", "plain", None),
]


def calls(rounds: int, calls: int) -> Times:
    """Healthy calls of five circuits, which differ in who reads them."""
    registry, reader = CollectorRegistry(), InMemoryMetricReader()
    read: list[CircuitBreaker] = []
    PrometheusCollector(registry, circuits=lambda: read)
    instrumentation = instrument(MeterProvider([reader]), circuits=lambda: read)
    prometheus, otel = PrometheusListener(registry), OpenTelemetryListener()
    breakers = {
        "unread": CircuitBreaker("unread"),
        "prometheus": CircuitBreaker("prometheus", listeners=[prometheus]),
        "otel": CircuitBreaker("otel", listeners=[otel]),
        "both": CircuitBreaker("both", listeners=[prometheus, otel]),
        "histogram": CircuitBreaker("histogram", listeners=[prometheus, otel], buckets=BUCKETS),
    }
    read += [breaker for name, breaker in breakers.items() if name != "unread"]

    def scrape() -> None:
        generate_latest(registry)
        reader.get_metrics_data()

    turns = {name: healthy(breaker(dependency)) for name, breaker in breakers.items()}
    times = race(turns, rounds, calls, scrape)
    instrumentation.uninstrument()
    return times


def scrapes(rounds: int) -> Times:
    """Scrapes of many circuits, and of what prometheus-client holds itself."""
    breakers = [CircuitBreaker(f"host-{number}.example.org") for number in range(CIRCUITS)]
    for breaker in breakers:
        breaker.call(dependency)
    registry = CollectorRegistry()
    collector = PrometheusCollector(registry, circuits=lambda: breakers, max_circuits=CIRCUITS)
    plain = as_plain(collector.collect())
    ours, theirs = generate_latest(registry), generate_latest(plain)
    if sorted(ours.splitlines()) != sorted(theirs.splitlines()):
        raise RuntimeError("the plain series are not the same")
    turns = {
        "scrape": repeated(lambda: generate_latest(registry)),
        "plain": repeated(lambda: generate_latest(plain)),
        "read": repeated(lambda: [breaker.info() for breaker in breakers]),
    }
    return race(turns, rounds, 1, warm_up=1)


def as_plain(metrics: Any) -> CollectorRegistry:
    """A registry that holds the same series in prometheus-client's own metrics."""
    disable_created_metrics()  # ours have none
    registry = CollectorRegistry()
    for metric in metrics:
        fill(metric, registry)
    return registry


def fill(metric: Metric, registry: CollectorRegistry) -> None:
    kinds: dict[str, Callable[..., Any]] = {"gauge": Gauge, "counter": Counter, "summary": Summary}
    labels = list(metric.samples[0].labels)
    own = kinds[metric.type](metric.name, metric.documentation, labels, registry=registry)
    for sample in metric.samples:
        child = own.labels(**sample.labels) if labels else own
        if metric.type == "gauge":
            child.set(sample.value)
        elif metric.type == "counter":
            child.inc(sample.value)
        elif sample.name.endswith("_sum"):  # after its count, which this makes 1
            child.observe(sample.value)


def repeated(fn: Callable[[], object]) -> Turn:
    def turn(times: int) -> float:
        start = perf_counter()
        for _ in repeat(None, times):
            fn()
        return perf_counter() - start

    return own_code(turn)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs")
    parser.add_argument("--json", type=Path, help="write what was measured, every pass included")
    arguments = parser.parse_args()
    rounds, few, passes = (10, 5, 1) if arguments.quick else (200, 15, 3)
    measured = [(calls(rounds, 2000), scrapes(few)) for _ in range(passes)]
    libraries = ("prometheus-client", "opentelemetry-sdk")
    print(f"Python {sys.version.split()[0]}, {', '.join(f'{n} {version(n)}' for n in libraries)}")
    figures: list[dict[str, Any]] = []
    for what, ours, other, limit in PLANS:
        races = [next(race for race in each if ours in race.by_name) for each in measured]
        ratios = [times.ratio(ours, other) for times in races]
        verdict = "" if limit is None else "reached" if min(ratios) <= limit else "missed"
        limited = "" if limit is None else f"<= {limit}: {verdict}"
        cost = f"{races[0].ns(ours) / 1000:12,.2f} us"
        print(f"{what:50} {min(ratios):6.3f} {cost}  {limited}", flush=True)
        figures.append({"what": what, "ratios": ratios, "reach": limit})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
