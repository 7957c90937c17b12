"""What Prometheus sees of the circuits of one process: read when it asks."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    generate_latest,
    make_asgi_app,
    start_http_server,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from fluxgate import CircuitBreaker, State
from fluxgate.listeners import prometheus
from fluxgate.listeners._aggregate import Reader
from fluxgate.listeners.prometheus import PrometheusCollector, PrometheusListener
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureStreak, SlowRate

Series = dict[str, float]


def shown(registry: CollectorRegistry) -> Series:
    """The series of a scrape, written as one writes them in a query."""
    return series(parse_text(generate_latest(registry).decode()))


def series(families: Iterable[Any]) -> Series:
    found: Series = {}
    for family in families:
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, "a series twice"
            found[name] = sample.value
    return found


def scraping(*breakers: Any, **options: Any) -> CollectorRegistry:
    registry = CollectorRegistry()
    PrometheusCollector(registry, circuits=lambda: breakers, **options)
    return registry


def rich(breaker: Callable[..., Any]) -> Any:
    """A circuit in which everything has happened that is counted."""
    api = breaker(
        tripper=FailureStreak(2) | SlowRate(0.9, 1.0), retry=Cooldown(8.0), buckets=(0.25, 1.0)
    )
    api.succeed(0.125, times=2)
    api.succeed(2.0)
    api.fail(seconds=0.5)
    api.run(int)
    attempt = api.breaker.attempt()
    api.breaker.attempt().ignore()
    api.fail(KeyboardInterrupt())
    api.fail(times=2)
    attempt.succeed()
    api.refused()
    return api


EVERYTHING = {
    'fluxgate_circuit_state{circuit="api",state="closed"}': 0,
    'fluxgate_circuit_state{circuit="api",state="open"}': 1,
    'fluxgate_circuit_state{circuit="api",state="half_open"}': 0,
    'fluxgate_circuit_state{circuit="api",state="metrics_only"}': 0,
    'fluxgate_circuit_state{circuit="api",state="disabled"}': 0,
    'fluxgate_circuit_state{circuit="api",state="forced_open"}': 0,
    'fluxgate_circuit_severity{circuit="api"}': 4,
    'fluxgate_circuits{circuit="api",state="closed"}': 0,
    'fluxgate_circuits{circuit="api",state="open"}': 1,
    'fluxgate_circuits{circuit="api",state="half_open"}': 0,
    'fluxgate_circuits{circuit="api",state="metrics_only"}': 0,
    'fluxgate_circuits{circuit="api",state="disabled"}': 0,
    'fluxgate_circuits{circuit="api",state="forced_open"}': 0,
    'fluxgate_calls_total{circuit="api",outcome="success"}': 4,
    'fluxgate_calls_total{circuit="api",outcome="failure"}': 3,
    'fluxgate_calls_total{circuit="api",outcome="ignored"}': 1,
    'fluxgate_calls_total{circuit="api",outcome="cancelled"}': 1,
    'fluxgate_calls_total{circuit="api",outcome="stale"}': 1,
    'fluxgate_rejections_total{circuit="api"}': 1,
    'fluxgate_slow_calls_total{circuit="api",threshold="1.0"}': 1,
    'fluxgate_call_duration_seconds_count{circuit="api"}': 7,
    'fluxgate_call_duration_seconds_sum{circuit="api"}': 2.75,
    'fluxgate_call_duration_distribution_seconds_bucket{circuit="api",le="0.25"}': 5,
    'fluxgate_call_duration_distribution_seconds_bucket{circuit="api",le="1.0"}': 6,
    'fluxgate_call_duration_distribution_seconds_bucket{circuit="api",le="+Inf"}': 7,
    'fluxgate_call_duration_distribution_seconds_count{circuit="api"}': 7,
    'fluxgate_call_duration_distribution_seconds_sum{circuit="api"}': 2.75,
    'fluxgate_trips_total{circuit="api",reason="FailureStreak(2)"}': 1,
    'fluxgate_trips_total{circuit="api",reason="SlowRate(0.9, 1.0)"}': 0,
    'fluxgate_trips_total{circuit="api",reason="open_for()"}': 0,
    'fluxgate_circuit_transitions_total{circuit="api",state="closed"}': 0,
    'fluxgate_circuit_transitions_total{circuit="api",state="open"}': 1,
    'fluxgate_circuit_transitions_total{circuit="api",state="half_open"}': 0,
    'fluxgate_circuit_transitions_total{circuit="api",state="metrics_only"}': 0,
    'fluxgate_circuit_transitions_total{circuit="api",state="disabled"}': 0,
    'fluxgate_circuit_transitions_total{circuit="api",state="forced_open"}': 0,
    'fluxgate_probes_in_flight{circuit="api"}': 0,
    'fluxgate_reopens{circuit="api"}': 0,
    'fluxgate_retry_after_seconds{circuit="api"}': 8,
    'fluxgate_would_open{circuit="api",tripper="live"}': 0,
    'fluxgate_would_open{circuit="api",tripper="shadow"}': 0,
    "fluxgate_unreadable_circuits": 0,
}


def test_everything_is_shown(breaker: Callable[..., Any]) -> None:
    registry = scraping(rich(breaker).breaker)
    assert shown(registry) == EVERYTHING


def test_openmetrics_says_the_same(breaker: Callable[..., Any]) -> None:
    registry = scraping(rich(breaker).breaker)
    families = list(parse_openmetrics(generate_openmetrics(registry).decode()))
    assert series(families) == EVERYTHING
    units = {family.name: family.unit for family in families if family.unit}
    assert units == {
        "fluxgate_call_duration_seconds": "seconds",
        "fluxgate_call_duration_distribution_seconds": "seconds",
        "fluxgate_retry_after_seconds": "seconds",
    }
    assert all(sample.exemplar is None for family in families for sample in family.samples)


def test_everything_is_there_from_the_first_scrape() -> None:
    """What appears only when it happens can't be told from what was always there."""
    fresh = CircuitBreaker(
        "api", tripper=FailureStreak(2) | SlowRate(0.9, 1.0), buckets=(0.25, 1.0)
    )
    first = shown(scraping(fresh))
    assert first.keys() == EVERYTHING.keys()
    assert {name: value for name, value in first.items() if value} == {
        'fluxgate_circuit_state{circuit="api",state="closed"}': 1,
        'fluxgate_circuits{circuit="api",state="closed"}': 1,
    }


@pytest.mark.parametrize("state", list(State))
def test_each_state_is_one_hot(breaker: Callable[..., Any], state: State) -> None:
    initial = State.CLOSED if state in (State.OPEN, State.HALF_OPEN) else state
    api = breaker(initial_state=initial)
    if state in (State.OPEN, State.HALF_OPEN):
        api.breaker.open_for(1.0)
    if state is State.HALF_OPEN:
        api.clock.advance(1.0)
        attempt = api.breaker.attempt()
    series = shown(scraping(api.breaker))
    for each in State:
        value = series[f'fluxgate_circuit_state{{circuit="api",state="{each}"}}']
        assert value == (each is state)
    if state is State.HALF_OPEN:
        assert series['fluxgate_probes_in_flight{circuit="api"}'] == 1
        attempt.ignore()


def test_the_worse_a_state_the_higher_its_number() -> None:
    def severity(breaker: CircuitBreaker) -> float:
        return shown(scraping(breaker))['fluxgate_circuit_severity{circuit="api"}']

    breaker = CircuitBreaker("api")
    numbers = [severity(breaker)]
    for control in (breaker.metrics_only, breaker.disable, breaker.force_open):
        control()
        numbers.append(severity(breaker))
    assert numbers == [0, 1, 2, 5]


def test_a_series_goes_with_its_circuit() -> None:
    living = [CircuitBreaker("going"), CircuitBreaker("staying")]
    registry = CollectorRegistry()
    PrometheusCollector(registry, circuits=lambda: living)
    assert any("going" in name for name in shown(registry))
    del living[0]
    gc.collect()
    series = shown(registry)
    assert not any("going" in name for name in series)
    assert any("staying" in name for name in series)


def test_names_and_reasons_are_capped() -> None:
    breakers = [CircuitBreaker(f"host-{number}") for number in range(50)]
    for breaker in breakers:
        breaker.call(int)
    registry = scraping(*breakers, max_circuits=10, max_reasons=1)
    series = shown(registry)
    names = {name.split('circuit="')[1].split('"')[0] for name in series if "circuit=" in name}
    assert names == {"other", *(f"host-{number}" for number in range(10))}
    assert series['fluxgate_calls_total{circuit="other",outcome="success"}'] == 40
    assert series['fluxgate_circuits{circuit="other",state="closed"}'] == 40
    reasons = {name for name in series if name.startswith('fluxgate_trips_total{circuit="host-1"')}
    assert reasons == {
        'fluxgate_trips_total{circuit="host-1",reason="FailureRate(0.5)"}',
        'fluxgate_trips_total{circuit="host-1",reason="other"}',
    }


def test_no_circuit_at_all() -> None:
    registry = scraping()
    assert shown(registry) == {"fluxgate_unreadable_circuits": 0}
    assert b"# TYPE fluxgate_calls_total counter" in generate_latest(registry)


def test_names_that_need_escaping() -> None:
    name = 'a "quoted" \\ name\nof two lines, ünïcode'
    registry = scraping(CircuitBreaker(name))
    for families in (
        parse_text(generate_latest(registry).decode()),
        parse_openmetrics(generate_openmetrics(registry).decode()),
    ):
        labels = {
            sample.labels["circuit"]
            for family in families
            for sample in family.samples
            if sample.labels
        }
        assert labels == {name}


def test_a_circuit_that_raises_breaks_no_scrape(caplog: pytest.LogCaptureFixture) -> None:
    class Raising(CircuitBreaker):
        def info(self) -> Any:
            raise RuntimeError("not today")

    registry = scraping(Raising("raising"), CircuitBreaker("well"))
    series = shown(registry)
    assert series["fluxgate_unreadable_circuits"] == 1
    assert series['fluxgate_circuit_state{circuit="well",state="closed"}'] == 1
    assert "not today" in caplog.text


def test_reading_drains_what_was_counted_without_a_lock() -> None:
    breaker = CircuitBreaker("api")
    registry = scraping(breaker)
    for number in range(1, 4):
        breaker.call(int)
        assert shown(registry)['fluxgate_calls_total{circuit="api",outcome="success"}'] == number


def test_registering_reads_no_circuit() -> None:
    def source() -> list[CircuitBreaker]:
        raise AssertionError("read at registration")

    registry = CollectorRegistry(auto_describe=True)
    collector = PrometheusCollector(registry, circuits=source)
    described = {metric.name: metric.type for metric in collector.describe()}
    assert described["fluxgate_calls"] == "counter"
    assert described["fluxgate_call_duration_seconds"] == "summary"
    with pytest.raises(ValueError, match="fluxgate_calls"):
        Gauge("fluxgate_calls_total", "taken", registry=registry)


def test_what_is_described_is_what_is_collected(breaker: Callable[..., Any]) -> None:
    collector = PrometheusCollector(None, circuits=lambda: [rich(breaker).breaker])
    described = [
        (each.name, each.type, each.unit)
        for each in collector.describe()
        if not each.name.startswith("fluxgate_fleet_")  # it is in none
    ]
    assert [(each.name, each.type, each.unit) for each in collector.collect()] == described


def test_one_metric_can_be_asked_for(breaker: Callable[..., Any]) -> None:
    registry = scraping(rich(breaker).breaker)
    restricted = registry.restricted_registry(["fluxgate_rejections_total"])
    assert shown(restricted) == {'fluxgate_rejections_total{circuit="api"}': 1}


def test_the_registry_of_prometheus_client_is_the_default() -> None:
    program = """
from fluxgate import CircuitBreaker
from fluxgate.listeners import PrometheusCollector
from prometheus_client import generate_latest
breaker = CircuitBreaker("api")
collector = PrometheusCollector()
assert b'fluxgate_reopens{circuit="api"} 0.0' in generate_latest()
collector.unregister()
assert b"fluxgate" not in generate_latest()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_registry_takes_one_collector() -> None:
    registry = CollectorRegistry()
    collector = PrometheusCollector(registry)
    with pytest.raises(ValueError, match="drop the second"):
        PrometheusCollector(registry)
    collector.unregister()
    collector.unregister()  # no harm
    PrometheusCollector(registry)
    assert shown(registry)


def test_a_collector_can_be_registered_by_hand() -> None:
    registry = CollectorRegistry()
    collector = PrometheusCollector(None, circuits=lambda: [CircuitBreaker("api")])
    registry.register(collector)
    assert 'fluxgate_reopens{circuit="api"}' in shown(registry)
    registry.unregister(collector)
    assert not shown(registry)
    collector.unregister()


def test_a_registry_that_is_dropped_is_forgotten() -> None:
    gc.collect()
    before = len(prometheus._collectors)
    scraping()
    gc.collect()
    assert len(prometheus._collectors) == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"registry": "mine"}, TypeError, "registry must be a prometheus_client.CollectorRegistry"),
        ({"circuits": []}, TypeError, "circuits must be a function"),
        ({"max_circuits": 0}, ValueError, "max_circuits"),
        ({"max_reasons": 0}, ValueError, "max_reasons"),
        ({"interval": 0}, ValueError, "interval must be 1e-9 to 1e6 seconds, not 0"),
        ({"interval": float("inf")}, ValueError, "interval must be 1e-9 to 1e6"),
        ({"interval": "5"}, TypeError, "interval must be a number of seconds"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type, message: str) -> None:
    registry = options.pop("registry", CollectorRegistry())
    with pytest.raises(error, match=message):
        PrometheusCollector(registry, **options)
    if isinstance(registry, CollectorRegistry):
        PrometheusCollector(registry)  # nothing is left of the attempt


class TestListener:
    def test_any_number_share_one_collector(self) -> None:
        registry = CollectorRegistry()
        one = CircuitBreaker("one", listeners=[PrometheusListener(registry)])
        two = CircuitBreaker("two", listeners=[PrometheusListener(registry)])
        one.open_for(60)
        series = shown(registry)
        assert series['fluxgate_circuit_state{circuit="one",state="open"}'] == 1
        assert series['fluxgate_circuit_state{circuit="two",state="closed"}'] == 1
        assert two.state is State.CLOSED

    def test_it_finds_the_collector_that_there_is(self) -> None:
        breaker = CircuitBreaker("mine")
        registry = scraping(breaker)
        PrometheusListener(registry)
        names = {name for name in shown(registry) if name.startswith("fluxgate_reopens")}
        assert names == {'fluxgate_reopens{circuit="mine"}'}

    def test_eight_threads_at_once_make_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        registry = CollectorRegistry()
        together, met = threading.Barrier(8), threading.Barrier(2)

        def reader(*arguments: Any, **options: Any) -> Reader:
            with suppress(threading.BrokenBarrierError):  # nobody else is here, as it should be
                met.wait(timeout=0.1)
            return Reader(*arguments, **options)

        def make() -> PrometheusCollector:
            together.wait()
            return PrometheusListener(registry)._collector

        monkeypatch.setattr(prometheus, "Reader", reader)
        with ThreadPoolExecutor(8) as pool:
            made = [pool.submit(make) for _ in range(8)]
        assert len({each.result() for each in made}) == 1

    def test_it_needs_a_registry(self) -> None:
        with pytest.raises(TypeError, match="CollectorRegistry"):
            PrometheusListener("mine")  # type: ignore[arg-type]


def test_the_lazy_name() -> None:
    from fluxgate import listeners

    assert listeners.PrometheusCollector is PrometheusCollector


def test_scrapes_side_by_side_with_calls() -> None:
    """Threads call, circuits come and go, and no scrape fails or sees a counter fall."""
    stop = threading.Event()
    lasting = CircuitBreaker("api")
    living: list[CircuitBreaker] = [lasting]
    registry = CollectorRegistry()
    PrometheusCollector(registry, circuits=lambda: list(living), max_circuits=4)

    def call() -> None:
        while not stop.is_set():
            lasting.call(int)

    def churn() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            passing = CircuitBreaker("api")
            living.append(passing)
            for _ in range(100):
                passing.call(int)
            living.append(CircuitBreaker(f"host-{number}"))
            while len(living) > 20:
                living.remove(living[1])

    seen: list[list[float]] = [[], [], []]
    faults: list[BaseException] = []

    def scrape(mine: list[float]) -> None:
        try:
            for _ in range(40):
                series = shown(registry)
                mine.append(series['fluxgate_calls_total{circuit="api",outcome="success"}'])
        except BaseException as fault:
            faults.append(fault)

    workers = [threading.Thread(target=each) for each in (call, churn)]
    scrapers = [threading.Thread(target=scrape, args=(mine,)) for mine in seen]
    for thread in (*workers, *scrapers):
        thread.start()
    for thread in scrapers:
        thread.join()
    stop.set()
    for thread in workers:
        thread.join()
    assert not faults
    for mine in seen:
        assert len(mine) == 40
        assert mine == sorted(mine)


def test_a_real_scrape_over_http(breaker: Callable[..., Any]) -> None:
    registry = scraping(rich(breaker).breaker)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        url = f"http://127.0.0.1:{server.server_port}/metrics"
        with urllib.request.urlopen(url) as response:
            text = response.read().decode()
            assert response.headers["Content-Type"].startswith("text/plain")
        assert series(parse_text(text)) == EVERYTHING
        accept = "application/openmetrics-text; version=1.0.0"
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Accept": accept})
        ) as response:
            assert series(parse_openmetrics(response.read().decode())) == EVERYTHING
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def _get(app: Any) -> bytes:
    body = b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal body
        body += message.get("body", b"")

    scope = {"type": "http", "method": "GET", "query_string": b"", "headers": [], "path": "/"}
    await app(scope, receive, send)
    return body


@pytest.mark.asyncio
async def test_served_as_an_asgi_application(breaker: Callable[..., Any]) -> None:
    app = make_asgi_app(scraping(rich(breaker).breaker))
    assert series(parse_text((await _get(app)).decode())) == EVERYTHING


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")
def test_promtool_finds_nothing_to_complain_of(breaker: Callable[..., Any]) -> None:
    registry = scraping(rich(breaker).breaker, CircuitBreaker("other one"))
    checked = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        check=False,
    )
    assert checked.stdout + checked.stderr == b""
    assert checked.returncode == 0


def test_surrogates_leave_the_page() -> None:
    registry, page = Registry(), CollectorRegistry()
    PrometheusCollector(page, circuits=registry.values)
    registry["payments"].call(int)
    registry["tenant-\ud800"].call(int)
    text = generate_latest(page).decode()
    assert 'fluxgate_circuit_state{circuit="payments"' in text
    assert 'circuit="tenant-\\\\ud800"' in text
