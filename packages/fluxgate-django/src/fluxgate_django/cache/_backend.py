"""The backend: every method of Django's caches, sync and async."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from fluxgate_django.cache._guard import GuardedCache

_OWN: Final = frozenset(GuardedCache.__annotations__)
"""The attributes of the wrapper itself; all others are the wrapped backend's."""


class CircuitBreakerCache(GuardedCache):
    """A cache backend around another, which is asked if the circuit permits it.

    Keys, versions, time-outs, prefixes and values are the other's, which gets every call as it
    came; an `a...` method awaits the other's own. What a backend has beyond Django's methods
    passes straight through, past the circuit.

    The caller's errors (`ValueError`, `TypeError`, what can't be pickled, a command that doesn't
    fit the value) are raised and count for nothing. Any other error goes to the circuit's tracker.

    Args:
        location: `LOCATION`, for the wrapped backend.
        params: the rest of the entry. `WRAPS` is the dotted path of the wrapped backend,
            `CIRCUIT` the circuit's name (by default `cache.` and the alias). `ON_OPEN` says what
            a refused call comes to: `"miss"`, as in an empty cache, or `"raise"`, a
            `CallNotPermittedError`. `ON_ERROR` does the same for errors of the cache server; by
            default it is as `ON_OPEN`. A miss by error is logged. All else is the wrapped
            backend's.

    Raises:
        InvalidCacheBackendError: a key of ours can't be used; the message says which.
    """

    # -- Django's methods, and what they are in an empty cache. Those that are missing here
    # (get_or_set, in) are made of these by BaseCache, so that a default is computed outside
    # the circuit.

    def add(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        **more: Any,
    ) -> bool:
        return self._call(self.wrapped.add, key, value, timeout, version, missed=False, **more)

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        **more: Any,
    ) -> bool:
        return await self._acall(
            self.wrapped.aadd, key, value, timeout, version, missed=False, **more
        )

    def get(self, key: Any, default: Any = None, version: int | None = None, **more: Any) -> Any:
        return self._call(self.wrapped.get, key, default, version, missed=default, **more)

    async def aget(
        self, key: Any, default: Any = None, version: int | None = None, **more: Any
    ) -> Any:
        return await self._acall(self.wrapped.aget, key, default, version, missed=default, **more)

    def set(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        **more: Any,
    ) -> Any:
        return self._call(self.wrapped.set, key, value, timeout, version, missed=None, **more)

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        **more: Any,
    ) -> Any:
        return await self._acall(
            self.wrapped.aset, key, value, timeout, version, missed=None, **more
        )

    def touch(
        self,
        key: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        **more: Any,
    ) -> bool:
        return self._call(self.wrapped.touch, key, timeout, version, missed=False, **more)

    async def atouch(
        self,
        key: Any,
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        **more: Any,
    ) -> bool:
        return await self._acall(self.wrapped.atouch, key, timeout, version, missed=False, **more)

    def delete(self, key: Any, version: int | None = None, **more: Any) -> bool:
        return self._call(self.wrapped.delete, key, version, missed=False, **more)

    async def adelete(self, key: Any, version: int | None = None, **more: Any) -> bool:
        return await self._acall(self.wrapped.adelete, key, version, missed=False, **more)

    def get_many(
        self, keys: Iterable[Any], version: int | None = None, **more: Any
    ) -> dict[Any, Any]:
        return self._call(self.wrapped.get_many, keys, version, missed={}, **more)

    async def aget_many(
        self, keys: Iterable[Any], version: int | None = None, **more: Any
    ) -> dict[Any, Any]:
        return await self._acall(self.wrapped.aget_many, keys, version, missed={}, **more)

    def has_key(self, key: Any, version: int | None = None, **more: Any) -> bool:
        return self._call(self.wrapped.has_key, key, version, missed=False, **more)

    async def ahas_key(self, key: Any, version: int | None = None, **more: Any) -> bool:
        return await self._acall(self.wrapped.ahas_key, key, version, missed=False, **more)

    def set_many(
        self,
        data: dict[Any, Any],
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        **more: Any,
    ) -> list[Any]:
        return self._call(self.wrapped.set_many, data, timeout, version, missed=[*data], **more)

    async def aset_many(
        self,
        data: dict[Any, Any],
        timeout: float | None = DEFAULT_TIMEOUT,
        version: int | None = None,
        **more: Any,
    ) -> list[Any]:
        return await self._acall(
            self.wrapped.aset_many, data, timeout, version, missed=[*data], **more
        )

    def delete_many(self, keys: Iterable[Any], version: int | None = None, **more: Any) -> Any:
        return self._call(self.wrapped.delete_many, keys, version, missed=None, **more)

    async def adelete_many(
        self, keys: Iterable[Any], version: int | None = None, **more: Any
    ) -> Any:
        return await self._acall(self.wrapped.adelete_many, keys, version, missed=None, **more)

    def clear(self, **more: Any) -> Any:
        return self._call(self.wrapped.clear, missed=None, **more)

    async def aclear(self, **more: Any) -> Any:
        return await self._acall(self.wrapped.aclear, missed=None, **more)

    def incr(self, key: Any, delta: int = 1, version: int | None = None, **more: Any) -> int:
        return _found(key, self._call(self.wrapped.incr, key, delta, version, missed=None, **more))

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None, **more: Any) -> int:
        return _found(
            key, await self._acall(self.wrapped.aincr, key, delta, version, missed=None, **more)
        )

    def decr(self, key: Any, delta: int = 1, version: int | None = None, **more: Any) -> int:
        return _found(key, self._call(self.wrapped.decr, key, delta, version, missed=None, **more))

    async def adecr(self, key: Any, delta: int = 1, version: int | None = None, **more: Any) -> int:
        return _found(
            key, await self._acall(self.wrapped.adecr, key, delta, version, missed=None, **more)
        )

    def incr_version(
        self, key: Any, delta: int = 1, version: int | None = None, **more: Any
    ) -> int:
        return _found(
            key, self._call(self.wrapped.incr_version, key, delta, version, missed=None, **more)
        )

    async def aincr_version(
        self, key: Any, delta: int = 1, version: int | None = None, **more: Any
    ) -> int:
        return _found(
            key,
            await self._acall(self.wrapped.aincr_version, key, delta, version, missed=None, **more),
        )

    def decr_version(
        self, key: Any, delta: int = 1, version: int | None = None, **more: Any
    ) -> int:
        return _found(
            key, self._call(self.wrapped.decr_version, key, delta, version, missed=None, **more)
        )

    async def adecr_version(
        self, key: Any, delta: int = 1, version: int | None = None, **more: Any
    ) -> int:
        return _found(
            key,
            await self._acall(self.wrapped.adecr_version, key, delta, version, missed=None, **more),
        )

    # -- what asks no server, or is none of the circuit's business

    def make_key(self, key: Any, version: int | None = None) -> str:
        return self.wrapped.make_key(key, version)

    def validate_key(self, key: Any) -> None:
        self.wrapped.validate_key(key)

    def make_and_validate_key(self, key: Any, version: int | None = None) -> str:
        return self.wrapped.make_and_validate_key(key, version)

    def get_backend_timeout(self, timeout: float | None = DEFAULT_TIMEOUT) -> float | None:
        return self.wrapped.get_backend_timeout(timeout)

    def close(self, **kwargs: Any) -> None:
        self.wrapped.close(**kwargs)

    async def aclose(self, **kwargs: Any) -> None:
        await self.wrapped.aclose(**kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "wrapped":  # not made yet
            raise AttributeError(name)
        return getattr(self.wrapped, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the wrapped backend, such as `default_timeout`, but for our own."""
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.wrapped, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.wrapped, name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.circuit_name!r} around {self.wrapped!r}>"


def _found(key: Any, value: int | None) -> int:
    if value is None:
        raise ValueError(f"Key {key!r} not found: the cache can't be asked now")
    return value
