"""Prometheus: metrics of circuits, read from their own counters at each scrape.

    PrometheusCollector()  # every circuit of this process, with prometheus-client's own registry

A collector is no listener: nothing is pushed, and a call costs nothing more. It covers circuits
that are made later, and those of libraries, and drops those that are collected.

`PrometheusListener` is for settings in which only listeners can be named: it makes a collector if
there is none, and, in prometheus-client's multiprocess mode, has transitions written at once.

In that mode (`PROMETHEUS_MULTIPROC_DIR`, as under gunicorn), where collectors are not asked, the
same metrics are written to the worker's files from a thread; see `PrometheusCollector`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Final

try:
    from prometheus_client import REGISTRY, CollectorRegistry
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "needs prometheus-client: pip install 'fluxgate-core[prometheus]'"
    ) from error

from prometheus_client import Metric
from prometheus_client.samples import Sample

import fluxgate
from fluxgate._locks import ProcessLock
from fluxgate._naming import safe_repr
from fluxgate.listeners._aggregate import Reader, Source
from fluxgate.listeners._prometheus_families import (
    FAMILIES,
    FLEET_FAMILIES,
    UNREADABLE,
    Family,
    R,
)
from fluxgate.listeners._prometheus_multiprocess import Writer, in_multiprocess_mode
from fluxgate.signals import Signal

__all__ = ["PrometheusCollector", "PrometheusListener"]

_collectors: Final[weakref.WeakKeyDictionary[CollectorRegistry, PrometheusCollector]] = (
    weakref.WeakKeyDictionary()
)
_registering: Final = ProcessLock()


class PrometheusCollector:
    """Shows every circuit of this process to Prometheus.

    It registers itself, as prometheus-client's own collectors do. Circuits of one name are shown
    as one: their counters added, the worst of their states.

    In multiprocess mode it registers nowhere, since a `MultiProcessCollector` serves the page, and
    writes this process's metrics to the files that are read then: each `interval`, at exit, and
    from then on in each process that is forked. Of what a killed worker counted, the last
    `interval` is lost. prometheus-client can't remove series from those files: a name without
    circuits stays until the worker ends, and counts towards `max_circuits`.

    Args:
        registry: where to register; None leaves that to you.
        circuits: gives the breakers to show; `registry.values` shows a `Registry`'s only.
        max_circuits: how many names get series of their own, 1 or more; the circuits of all later
            ones are added up under the name `other`.
        max_reasons: how many reasons are shown apart in the trips of one name, 1 or more; the rest
            is `other`.
        interval: seconds between two writes in multiprocess mode, 1e-9 to 1e6.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: a number is out of its range, or the registry has such a collector already.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = REGISTRY,
        *,
        circuits: Source = fluxgate.circuits,
        max_circuits: int = 256,
        max_reasons: int = 20,
        interval: float = 2.0,
    ) -> None:
        if registry is not None:
            _check(registry)
        several = in_multiprocess_mode()
        self._reader = Reader(
            circuits, max_circuits=max_circuits, max_reasons=max_reasons, keep_names=several
        )
        self._registry = None if registry is None else weakref.ref(registry)
        writer = Writer(self._reader, interval)
        if registry is not None:
            with _registering.here():
                if registry in _collectors:
                    raise ValueError(
                        "this registry has a PrometheusCollector, and one shows all circuits: "
                        "drop the second, or unregister() the first"
                    )
                if not several:
                    registry.register(self)  # type: ignore[arg-type,unused-ignore]
                _collectors[registry] = self
        self._writer = writer if several else None
        if self._writer is not None:
            self._writer.start()

    def describe(self) -> list[Metric]:
        """List the metrics without their series: registering reads no circuit."""
        circuits = [_metric(family) for family in FAMILIES]
        fleets = [_metric(family) for family in FLEET_FAMILIES]
        return [*circuits, *fleets, _metric(UNREADABLE)]

    def collect(self) -> Iterable[Metric]:
        """Read the circuits. Any thread may do so at any time; no circuit can make it fail."""
        readings = self._reader.read()
        metrics = [_filled(family, readings) for family in FAMILIES]
        fleets = self._reader.fleets
        metrics += [_filled(family, fleets) for family in FLEET_FAMILIES]
        unreadable = _metric(UNREADABLE)
        unreadable.samples = [Sample(UNREADABLE.name, {}, self._reader.unreadable)]
        return [metric for metric in (*metrics, unreadable) if metric.samples or not readings]

    def unregister(self) -> None:
        """Remove it from its registry; in multiprocess mode, write a last time."""
        registry = None if self._registry is None else self._registry()
        self._registry = None
        if registry is not None:
            _collectors.pop(registry, None)
            if self._writer is None:
                registry.unregister(self)  # type: ignore[arg-type,unused-ignore]
        if self._writer is not None:
            self._writer.close()

    def wake(self) -> None:
        """In multiprocess mode, have the files written soon; else do nothing."""
        if self._writer is not None:
            self._writer.wake()


class PrometheusListener:
    """A listener that makes a `PrometheusCollector`, unless the registry has one.

    A collector shows every circuit, so none needs a listener to be shown, and any number of
    listeners share one collector. In multiprocess mode, a transition is written at once instead of
    within the `interval`.

    Args:
        registry: where the collector is registered, or found.

    Raises:
        TypeError: `registry` is not a `CollectorRegistry`.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        _check(registry)
        with _registering.here():
            self._collector = _collectors.get(registry) or PrometheusCollector(registry)

    def __call__(self, signal: Signal) -> None:
        """Have a transition written at once, in multiprocess mode."""
        self._collector.wake()


def _check(registry: object) -> None:
    if not isinstance(registry, CollectorRegistry):
        raise TypeError(
            f"registry must be a prometheus_client.CollectorRegistry: {safe_repr(registry)}"
        )


def _metric(family: Family[R]) -> Metric:
    return Metric(family.name, family.help, family.kind, family.unit)


def _filled(family: Family[R], readings: list[R]) -> Metric:
    metric, parts = _metric(family), family.parts
    labels = (family.subject, *(family.labels or ("le",)))
    metric.samples = [
        Sample(
            family.name + suffix, dict(zip(labels, (reading.name, *values), strict=False)), value
        )
        for reading in readings
        for suffix, values, value in parts(reading)
    ]
    return metric
