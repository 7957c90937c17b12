"""A declaration: a circuit's name in code, with the settings that it is to have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict
from weakref import ref

from fastapi import params

from fluxgate import Listener, State
from fluxgate.config import KEYS
from fluxgate.integration import nearest
from fluxgate.permits import Permit
from fluxgate.registry import Registry
from fluxgate.retries import Retry
from fluxgate.trackers import Tracker
from fluxgate.trippers import Tripper
from fluxgate.windows import Window


class BreakerSettings(TypedDict, total=False):
    """A breaker's own parameters: objects, or the strings that `fluxgate.config` reads."""

    window: Window | str
    tracker: Tracker | str
    healthy: Tracker | str | None
    result_tracker: Callable[[Any], object] | str | None
    tripper: Tripper | str
    retry: Retry | str
    permit: Permit | str
    max_half_open_calls: int
    probe_timeout: float
    cancelled_after: float | None
    shadow: Tripper | str | None
    buckets: Iterable[float] | str
    error_messages: bool
    listeners: Sequence[Listener | str]
    prober: Callable[[], object] | str | None
    initial_state: State | str
    clock: Callable[[], float]
    dice: Callable[[], float]


class Declaration:
    """A circuit's name and settings, as a frozen value; equal by class, name and `more`.

    The settings take no part in being equal, so that `dependency_overrides[Breaker("payments")]`
    needs the name alone.

    Args:
        name: the circuit's name.
        settings: the breaker's parameters; read at the app's start, or at the first use.
        more: the other values that a subclass compares in its `_same`.

    Raises:
        TypeError: the name is no string, or a breaker has no such parameter.
        ValueError: the name is empty.
    """

    __slots__ = ("__weakref__", "_declared_in", "_hash", "name", "settings")

    name: str
    """The circuit's name."""
    settings: BreakerSettings
    """The breaker's parameters; empty if they stand elsewhere."""
    _declared_in: ref[Registry] | None
    _hash: int

    def __init__(self, name: str, settings: BreakerSettings, *more: object) -> None:
        what = type(self).__name__
        if not isinstance(name, str):
            raise TypeError(f'{what}({name!r}): the name is a string, such as {what}("payments")')
        if not name:
            raise ValueError(f"{what}(''): the name must not be empty")
        for key in settings:
            if key not in KEYS:
                near = nearest(key, KEYS)
                hint = f"; did you mean {near}=?" if near else ""
                raise TypeError(f"{what}({name!r}) has no parameter {key}={hint}")
        assign = object.__setattr__
        assign(self, "name", name)
        assign(self, "settings", dict(settings))
        assign(self, "_hash", hash((what, name, *more)))
        assign(self, "_declared_in", None)

    @property
    def gives_async(self) -> bool:
        """Whether it provides an `AsyncCircuitBreaker`."""
        return False

    def declare(self, registry: Registry) -> None:
        """Hand the settings to the registry, which then makes the circuit with them.

        Raises:
            ConfigError: they can't be used, or others hold for that name.
        """
        if self.settings:
            registry.declare(self.name, **self.settings)
        object.__setattr__(self, "_declared_in", ref(registry))

    def is_declared(self, registry: Registry) -> bool:
        """Whether `registry` was the last to be handed the settings."""
        return self._declared_in is not None and self._declared_in() is registry

    def _same(self, other: Declaration) -> bool:
        """Equality of two declarations of one class, settings aside."""
        return self.name == other.name

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self) or not self._same(other):
            return False
        return self.settings == other.settings or not _within_depends()

    def __hash__(self) -> int:
        return self._hash

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} is frozen: make another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self!r} is frozen")

    def __copy__(self) -> Declaration:
        return self

    def __deepcopy__(self, memo: object) -> Declaration:
        return self

    def __repr__(self) -> str:
        settings = "".join(f", {key}={value!r}" for key, value in self.settings.items())
        return f"{type(self).__name__}({self.name!r}{settings})"


def _within_depends() -> bool:
    """Whether two `Depends(...)` are being compared, by the values they hold.

    `typing` keeps one of two equal `Annotated[...]`, whole modules and applications apart. If
    equal names made equal declarations, `Annotated[..., Depends(Breaker("a", retry=...))]` would
    now and then silently lose its settings to another.
    """
    frame = sys._getframe(2)
    return isinstance(frame.f_locals.get("self"), params.Depends)
