"""Entry of `CACHES`: the keys that are ours, and the wrapped backend made of the others."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple, cast

from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.base import BaseCache
from django.utils.module_loading import import_string

from fluxgate.integration import nearest

_OURS: Final = ("WRAPS", "CIRCUIT", "ON_OPEN", "ON_ERROR")


class Outage(StrEnum):
    """The result of a call when the cache can't answer."""

    MISS = "miss"
    """The answer of an empty cache; writes are lost."""
    RAISE = "raise"
    """The exception."""


class Entry(NamedTuple):
    """An entry, read.

    Attributes:
        circuit: the circuit's name.
        on_open: result of a refused call: a miss or the exception.
        on_error: result of an error of the cache server: a miss or the exception.
        wrapped: the wrapped backend, made of the rest.
    """

    circuit: str
    on_open: Outage
    on_error: Outage
    wrapped: BaseCache


def read(location: Any, params: dict[str, Any]) -> Entry:
    """Read an entry as Django hands it to a backend.

    Raises:
        InvalidCacheBackendError: a key of ours can't be used.
    """
    alias = _alias(location, params)
    where = "the CACHES entry of a CircuitBreakerCache" if alias is None else f'CACHES["{alias}"]'
    for key in params:
        near = nearest(str(key), _OURS, cutoff=0.75)
        if near is not None and key != near:
            raise InvalidCacheBackendError(f"{where} has {key!r}: did you mean {near!r}?")
    circuit = params.get("CIRCUIT", None if alias is None else f"cache.{alias}")
    if not isinstance(circuit, str) or not circuit:
        raise InvalidCacheBackendError(
            f'{where}: CIRCUIT is the name of a circuit, such as "cache.default", not {circuit!r}'
        )
    on_open = _outage(where, "ON_OPEN", params.get("ON_OPEN", Outage.MISS))
    on_error = _outage(where, "ON_ERROR", params.get("ON_ERROR", on_open))
    others = {key: value for key, value in params.items() if key not in _OURS}
    wrapped = _backend(where, params.get("WRAPS"))(location, others)
    return Entry(circuit, on_open, on_error, wrapped)


def _alias(location: Any, params: dict[str, Any]) -> str | None:
    """Alias of the entry in `CACHES`, found by comparison; None if it has none there."""
    named = {"LOCATION": location, **params}
    for alias, entry in cast("dict[str, dict[str, Any]]", caches.settings).items():
        own = {key: value for key, value in entry.items() if key != "BACKEND"}
        if {"LOCATION": "", **own} == named:
            return alias
    return None


def _outage(where: str, key: str, value: object) -> Outage:
    try:
        return Outage(cast(Any, value))
    except ValueError:
        known = " or ".join(f'"{each}"' for each in Outage)
        raise InvalidCacheBackendError(f"{where}: {key} is {known}, not {value!r}") from None


def _backend(where: str, path: object) -> Any:
    """The class that `WRAPS` names."""
    if not isinstance(path, str) or not path:
        raise InvalidCacheBackendError(
            f"{where}: WRAPS is the dotted path of the backend that does the work, such as "
            f'"django.core.cache.backends.redis.RedisCache", not {path!r}'
        )
    try:
        backend = import_string(path)
    except ImportError as error:
        raise InvalidCacheBackendError(f"{where}: WRAPS can't be imported: {error}") from error
    if not (isinstance(backend, type) and issubclass(backend, BaseCache)):
        raise InvalidCacheBackendError(f"{where}: WRAPS is no cache backend: {path!r}")
    return backend
