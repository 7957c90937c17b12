"""Circuits of this process, or of a registry, as a source of the console."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import cached_property

from fluxgate._engine.circuit import Circuit
from fluxgate.breaker import CircuitBreaker, circuits
from fluxgate.console._evidence import evidence_of
from fluxgate.console._history import History, worst
from fluxgate.console._names import kept, shown
from fluxgate.console._rates import Rates
from fluxgate.console._reading import Context, Item, Reading, magnitude
from fluxgate.console._view import Row
from fluxgate.console._words import Words
from fluxgate.metric import Info
from fluxgate.registry import Registry


class LocalItem(Item):
    """The circuits of one name in this process; circuits with equal names are shown as one."""

    @cached_property
    def infos(self) -> list[Info]:
        """Each of its breakers, the worst first; none, where all of them have gone."""
        infos = [breaker.info() for breaker in self.breakers]
        bad = worst(info.state for info in infos)
        return sorted(infos, key=lambda info: info.state is not bad)

    @property
    def info(self) -> Info | None:
        return self.infos[0] if self.infos else None

    def evidence(self, say: Words) -> tuple[str, ...]:
        info, breakers = self.info, self.breakers
        if info is None or not breakers:
            return ()
        return evidence_of(info.state, info.metrics, breakers[0].policy, info.probes, say)

    def _make_row(self, context: Context) -> Row:
        infos, info = self.infos, self.info
        if info is None:  # it has gone since it was listed
            return Row(self.id, shown(self.name), self.state)
        calls = sum(each.totals.settled for each in infos)
        refused = sum(each.totals.rejected for each in infos)
        calls_rate, refused_rate = context.rates.of(self.id, context.at, calls, refused)
        metrics = info.metrics
        calls_counted, slow = metrics.total_count, next(iter(metrics.slow_counts.values()), None)
        return Row(
            id=self.id,
            name=shown(self.name),
            state=info.state,
            since=info.since,
            reason=kept(info.reason),
            calls_rate=calls_rate,
            failed=metrics.failure_rate,
            slow=slow / calls_counted if slow is not None and calls_counted else None,
            refused_rate=refused_rate,
            retry_after=info.retry_after,
            reopens=info.reopens,
            shadow=kept(info.would_open or info.shadow),
            strip=context.history.strip(self.id, info.state, info.since, context.wall),
            reverts_in=info.reverts_in,
        )


class LocalSource:
    """The circuits of this process, or of a registry.

    Args:
        registry: whose circuits; None: all of this process.
        clock: gives seconds that never go back.
        wall: gives seconds since the epoch.
    """

    fleet = None

    def __init__(
        self,
        registry: Registry | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._wall = wall

    def has(self, circuit: Circuit) -> bool:
        return self._registry is None or circuit.is_of(self._registry)

    def read(self, rates: Rates, history: History) -> Reading:
        named: dict[str, list[CircuitBreaker]] = {}
        for breaker in circuits() if self._registry is None else self._registry.values():
            named.setdefault(breaker.name, []).append(breaker)
        items: list[Item] = [
            LocalItem(name, worst(each.state for each in found), _trouble(found), found)
            for name, found in named.items()
        ]
        return Reading(Context(self._clock(), self._wall(), rates, history), items)


def _trouble(breakers: Iterable[CircuitBreaker]) -> int:
    """How much fails in circuits that are closed; read without their locks."""
    tallies = (breaker._circuit._machine.phase.tally for breaker in breakers)
    return magnitude(max((tally.failure_count for tally in tallies), default=0))
