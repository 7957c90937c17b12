"""Circuits by name, made on first use: one per host, per tenant, per dependency.

    registry = Registry(load("fluxgate.toml"), retry="Cooldown(30)")
    registry["payments"].call(charge, order)
    await registry.asynchronous["payments"].call(charge_async, order)   # the same circuit

A registry keeps at most `max_circuits`. Beyond that, making one evicts another that was not looked
up lately and that a new one can replace: one that is closed, or that nobody has called for a long
time since it opened; never one that is open otherwise or was set by hand. A circuit that is still
referenced elsewhere lives on, and its name finds it again; if it opens or is set by hand after its
eviction, the registry keeps it from then on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fluxgate import _log, _saved
from fluxgate._circuit_cache import CircuitCache, Entry
from fluxgate._config import Config, by_name
from fluxgate._engine.circuit import Circuit
from fluxgate._front import fleet_of
from fluxgate._naming import safe_repr
from fluxgate._saved import Saved
from fluxgate._settings.errors import SettingError, did_you_mean, raise_all
from fluxgate._settings.resolve import Called, Factory, listeners_in, resolve
from fluxgate.breaker import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.errors import ConfigError
from fluxgate.metric import SavedInfo
from fluxgate.signals import Listener
from fluxgate.state import State

if TYPE_CHECKING:
    from fluxgate.fleet import Fleet

__all__ = ["AsyncCircuits", "Registry", "UnknownCircuitError"]

B = TypeVar("B", CircuitBreaker, AsyncCircuitBreaker)


class UnknownCircuitError(ConfigError, KeyError):
    """A strict registry was asked for a circuit that its settings don't name."""

    __str__ = Exception.__str__  # a KeyError would show its repr


class _Circuits(Generic[B]):
    """The reading half of a registry's two views; it makes no circuits."""

    __slots__ = ("_cache", "_kept")

    def __init__(self, cache: CircuitCache) -> None:
        self._cache = cache
        self._kept = cache.kept  # for lookups

    @abstractmethod
    def _front(self, key: str, circuit: Circuit) -> B:
        """The front of a circuit; of one that is kept, the same object that lookups return."""

    def _entry(self, key: str, circuit: Circuit) -> Entry | None:
        entry = self._kept.get(key)
        return entry if entry is not None and entry.circuit is circuit else None

    def get(self, key: str) -> B | None:
        """The circuit of that name if there is one already."""
        circuit = self._cache.find(key)
        return None if circuit is None else self._front(key, circuit)

    def items(self) -> list[tuple[str, B]]:
        """Every circuit by its name, in the order in which they were made."""
        return [(key, self._front(key, circuit)) for key, circuit in self._cache.living()]

    def values(self) -> list[B]:
        """Every circuit, in the order in which they were made."""
        return [self._front(key, circuit) for key, circuit in self._cache.living()]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._cache.find(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter([key for key, _ in self._cache.living()])

    def __len__(self) -> int:
        return len(self._cache.living())


class Registry(_Circuits[CircuitBreaker]):
    """Circuits by name. `registry[name]` makes one on first use; `in` and iteration make none.

    Thread-safe. Iteration, `len` and `in` cover all living circuits: those that the registry keeps,
    and those that it evicted and that are still referenced elsewhere.

    Args:
        settings: by name, as `config.load` and `config.read` give them, or as a plain mapping
            of names (or patterns such as `*.internal`) to settings.
        factory: called with names that have no entry in `settings`; returns a breaker of either
            front. Two threads that look up a name at once get the same circuit.
        strict: whether a name that `settings` don't have is an error.
        max_circuits: how many to keep, 1 or more.
        defaults: a breaker's parameters (objects or expressions) for all that `settings` leave out.

    Raises:
        ConfigError: arguments that contradict each other, or defaults that can't be used.
    """

    __slots__ = (
        "__weakref__",
        "_declared",
        "_factory",
        "_saves",
        "asynchronous",
        "config",
        "fleet",
        "strict",
    )

    asynchronous: AsyncCircuits
    """The same circuits, each as an `AsyncCircuitBreaker`."""
    config: Config
    """The settings."""
    fleet: Fleet | None
    """The fleet that shares its circuits with other processes; None without one."""
    strict: bool
    """Whether unknown names are errors."""

    def __init__(
        self,
        settings: Config | Mapping[str, Mapping[str, Any] | Factory | str] | None = None,
        *,
        factory: Factory | None = None,
        strict: bool = False,
        max_circuits: int = 1024,
        fleet: Fleet | str | None = None,
        **defaults: Any,
    ) -> None:
        _check_bound(max_circuits)
        if factory is not None and not callable(factory):
            raise ConfigError(
                f"factory must be called with a name, and this can't: {safe_repr(factory)}"
            )
        if factory is not None and (strict or defaults):
            other = "strict=True" if strict else f"{next(iter(defaults))}=, a default,"
            raise ConfigError(f"factory= and {other} contradict each other: drop one")
        problems: list[SettingError] = []
        resolve(defaults, "Registry", problems)
        raise_all(problems)
        super().__init__(CircuitCache(max_circuits))
        config = settings if isinstance(settings, Config) else Config(by_name(settings))
        self.config = config.under(defaults) if defaults else config
        self.strict = strict
        shared = self.config.fleet if fleet is None else fleet
        self.fleet = None if shared is None else fleet_of(shared)
        self._factory = None if factory is None else Called(factory, "factory")
        self._declared: dict[str, dict[str, Any]] = {}
        self._saves: dict[str, Saved] = {}  # of circuits that are not made yet
        self.asynchronous = AsyncCircuits(self)

    @property
    def max_circuits(self) -> int:
        """How many circuits it keeps."""
        return self._cache.bound

    def __getitem__(self, key: str) -> CircuitBreaker:
        """The circuit of that name, made if need be.

        Raises:
            ConfigError: its settings can't be used, or the name is unknown and this is strict.
        """
        entry = self._kept.get(key)
        if entry is None:
            entry = self._cache.enter(key, self._make, self._go_on)
        elif not entry.used:
            entry.used = True
        return entry.sync

    def declare(self, key: str, **settings: Any) -> None:
        """Give a circuit settings of its own, in code, before its first use.

        The same declaration may be repeated. A strict registry then knows the name.

        Args:
            key: the circuit's name.
            settings: a breaker's parameters (objects or expressions).

        Raises:
            ConfigError: they can't be used; or others hold for that name, declared or
                configured; or the circuit has been made without them.
        """
        problems: list[SettingError] = []
        own = resolve(settings, key, problems)
        raise_all(problems)
        if key not in self._declared:
            if key in self.config.breakers:
                raise SettingError("the configuration has its settings: change them there", key)
            self.config.make(key, own)  # an error is raised here, not at the first use
        declared = self._cache.exclusively(self._declare, key, own)
        if declared != own:
            raise SettingError(
                f"it was declared with {declared or 'no settings'}, and now with "
                f"{own or 'none'}: declare it once, or the same each time",
                key,
            )

    def _declare(self, key: str, own: dict[str, Any]) -> dict[str, Any]:
        declared = self._declared.get(key)
        if declared is None:
            # Written before the check, since the lock may be given up: a first use at the same
            # time either reads it, or is seen here.
            declared = self._declared[key] = own
            if self._cache.is_in_use(key):
                del self._declared[key]
                raise SettingError("it is in use already: declare it before its first use", key)
        return declared

    def knows(self, key: str) -> bool:
        """Whether an entry, a pattern or a declaration has that name; it makes no circuit."""
        return key in self._declared or self.config.entry(key) is not None

    def __delitem__(self, key: str) -> None:
        """Forget a circuit. References to it stay valid; its name makes a new one."""
        if not self._cache.forget(key):
            raise KeyError(key)

    def clear(self) -> None:
        """Forget every circuit."""
        for key in self:
            self._cache.forget(key)

    def listeners(self) -> list[Listener]:
        """The listeners of its circuits and those in its settings, each once."""
        tables = [self.config.defaults, *self.config.breakers.values(), *self._declared.values()]
        named = (listener for table in tables for listener in listeners_in(table))
        heard = (listener for breaker in self.values() for listener in breaker.listeners)
        return list({id(listener): listener for listener in (*named, *heard)}.values())

    def close(self) -> None:
        """Close the listeners that have a `close()`, each once; an error of theirs is logged.

        For the end of a process. The circuits stay usable. It closes the listeners in the settings
        and those of all living circuits.
        """
        for listener in self.listeners():
            close = getattr(listener, "close", None)
            if callable(close):
                try:
                    close()
                except Exception as error:
                    _log.fault("(any)", f"closing listener {safe_repr(listener)}", error)

    def save(self) -> dict[str, SavedInfo]:
        """The circuits by name for another process, as `Info.save()` writes each of them.

        Those that are closed are left out: a new one is closed, too. For `json.dumps`.
        """
        infos = ((name, breaker.info()) for name, breaker in self.items())
        return {name: info.save() for name, info in infos if info.state is not State.CLOSED}

    def restore(
        self,
        saved: Mapping[str, SavedInfo | Mapping[str, Any]] | str | bytes,
        *,
        max_age: float = inf,
    ) -> list[str]:
        """Go on where the circuits of an earlier process were.

        A circuit that is made later takes up its save then. What holds for each of them stands in
        the breakers' `restore`.

        Args:
            saved: what `save()` returned, or its JSON text.
            max_age: seconds; older saves are left alone.

        Returns:
            The names of the circuits that there are and that go on from their saves.

        Raises:
            ConfigError: something in it can't be used; every mistake by its field. Nothing has
                been restored then.
        """
        saves = _saved.read_all(saved)
        fresh = {name: one for name, one in saves.items() if _saved.is_fresh(one, max_age)}
        self._saves.update(fresh)  # in place: a stand-in such as Django's has none of its own
        there = [(name, self._cache.find(name)) for name in fresh]
        return [name for name, circuit in there if circuit and self._go_on(name, circuit)]

    def _go_on(self, key: str, circuit: Circuit) -> bool:
        """Take up the save of a circuit, if there is one."""
        saved = self._saves.pop(key, None)
        return saved is not None and circuit.restore(saved)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle the settings: circuits, with their counts and locks, stay in their process."""
        factory = None if self._factory is None else self._factory.factory
        settings = (self.config, factory, self.strict, self.max_circuits, self._declared)
        return _registry, (type(self), *settings)

    def _front(self, key: str, circuit: Circuit) -> CircuitBreaker:
        entry = self._entry(key, circuit)
        return CircuitBreaker._over(circuit) if entry is None else entry.sync

    def _make(self, key: str) -> Circuit:
        circuit = self._made(key)
        circuit.enter(self)
        if self.fleet is not None:
            self.fleet._join(circuit)
        return circuit

    def _made(self, key: str) -> Circuit:
        if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a circuit's name is a string, not {key!r}")
        declared = self._declared.get(key)
        if declared is not None:
            return self.config.make(key, declared)._circuit
        if self.config.entry(key) is None:
            if self.strict:
                raise self._unknown(key)
            if self._factory is not None:
                return self._factory(key)._circuit
        return self.config.make(key)._circuit

    def _unknown(self, key: str) -> UnknownCircuitError:
        names = [*self.config.breakers, *self._declared]
        known = f"known are {', '.join(names)}" if names else "no circuit is configured"
        return UnknownCircuitError(
            f"no circuit is called {key!r}; {known}{did_you_mean(key, names)}"
        )

    def __repr__(self) -> str:
        return f"<Registry of {len(self)} circuits>"


class AsyncCircuits(_Circuits[AsyncCircuitBreaker]):
    """A registry's circuits, each as an `AsyncCircuitBreaker`: `registry.asynchronous`."""

    __slots__ = ("_registry",)

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry._cache)
        self._registry = registry

    def __getitem__(self, key: str) -> AsyncCircuitBreaker:
        """The circuit of that name, made if need be.

        Raises:
            ConfigError: its settings can't be used, or the name is unknown to a strict registry.
        """
        entry = self._kept.get(key)
        if entry is None:
            entry = self._cache.enter(key, self._registry._make, self._registry._go_on)
        elif not entry.used:
            entry.used = True
        return entry.asynchronous

    def _front(self, key: str, circuit: Circuit) -> AsyncCircuitBreaker:
        entry = self._entry(key, circuit)
        return AsyncCircuitBreaker._over(circuit) if entry is None else entry.asynchronous

    def __repr__(self) -> str:
        return f"<{self._registry!r}, asynchronous>"


def _registry(
    kind: type[Registry],
    config: Config,
    factory: Factory | None,
    strict: bool,
    max_circuits: int,
    declared: dict[str, dict[str, Any]],
) -> Registry:
    """A registry that was pickled, with its settings and no circuits yet."""
    registry = kind(config, factory=factory, strict=strict, max_circuits=max_circuits)
    registry._declared.update(declared)
    return registry


def _check_bound(max_circuits: object) -> None:
    if isinstance(max_circuits, bool) or not isinstance(max_circuits, int):
        raise ConfigError(f"max_circuits must be a whole number, not {safe_repr(max_circuits)}")
    if max_circuits < 1:
        raise ConfigError(f"max_circuits must be at least 1, not {max_circuits}")
