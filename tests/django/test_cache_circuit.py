"""`fluxgate_django.cache.CircuitBreakerCache`, around backends of Django's in memory."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.base import BaseCache, InvalidCacheKey
from django.core.cache.backends.locmem import LocMemCache

from fluxgate import CallNotPermittedError, CircuitBreaker, State
from fluxgate.testing import ManualClock
from fluxgate_django import breakers
from fluxgate_django.cache import CircuitBreakerCache, Outage

pytestmark = pytest.mark.usefixtures("fluxgate")

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
SYNC, ASYNC = "sync", "async"


class Flaky(LocMemCache):
    """Raises `error` in place of an answer, if there is one; counts the calls that reach it."""

    error: BaseException | None = None
    reached = 0

    def make_and_validate_key(self, key: Any, version: int | None = None) -> str:
        type(self).reached += 1
        if self.error is not None:
            raise self.error
        return super().make_and_validate_key(key, version)

    def clear(self) -> None:
        type(self).reached += 1
        if self.error is not None:
            raise self.error
        super().clear()


class Native(LocMemCache):
    """A backend whose async methods need no thread, with some of its own beside Django's."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(location, params)
        self.given = location, params

    threads: list[int] = []  # noqa: RUF012
    closed: list[str] = []  # noqa: RUF012

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        self.threads.append(threading.get_ident())
        return self.get(key, default, version)

    def set(self, key: Any, value: Any, *args: Any, nx: bool = False, **more: Any) -> Any:
        if nx and key in self:
            return False
        super().set(key, value, *args, **more)
        return True

    def ttl(self, key: Any) -> str:
        return f"ttl of {self.make_key(key)}"

    def make_key(self, key: Any, version: int | None = None) -> str:
        return f"native:{super().make_key(key, version)}"

    def get_backend_timeout(self, timeout: Any = None) -> float:
        return 4e9

    def validate_key(self, key: str) -> None:
        if " " in key:
            raise InvalidCacheKey(key)

    def close(self, **kwargs: Any) -> None:
        self.closed.append("close")

    async def aclose(self, **kwargs: Any) -> None:
        self.closed.append("aclose")


@pytest.fixture(autouse=True)
def _fresh(policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    policy["TRIPPER"] = "FailureStreak(2)"
    monkeypatch.setattr(Flaky, "error", None)
    monkeypatch.setattr(Flaky, "reached", 0)
    Native.threads.clear()
    Native.closed.clear()


@pytest.fixture
def made(settings: Any) -> Callable[..., Any]:
    """Makes a cache as `CACHES` would."""

    def cache(wraps: Any = f"{__name__}.Flaky", **entry: Any) -> Any:
        settings.CACHES = {
            "default": {"BACKEND": LOCMEM, "LOCATION": "default"},
            "shop": {
                "BACKEND": "fluxgate_django.cache.CircuitBreakerCache",
                "WRAPS": wraps,
                "LOCATION": "shop",
                **entry,
            },
        }
        caches["shop"].wrapped.clear()
        Flaky.reached = 0
        return caches["shop"]

    return cache


def circuit() -> CircuitBreaker:
    return breakers["cache.shop"]


def ask(style: str, cache: BaseCache, method: str, *args: Any, **more: Any) -> Any:
    """Call a method, or in style "async" its async twin."""
    if style == SYNC:
        return getattr(cache, method)(*args, **more)
    return asyncio.run(getattr(cache, f"a{method}")(*args, **more))


EMPTY: list[tuple[str, tuple[Any, ...], Any]] = [
    ("add", ("k", 1), False),
    ("get", ("k",), None),
    ("get", ("k", "other"), "other"),
    ("set", ("k", 1), None),
    ("touch", ("k", 60), False),
    ("delete", ("k",), False),
    ("get_many", (["k", "l"],), {}),
    ("has_key", ("k",), False),
    ("set_many", ({"k": 1, "l": 2},), ["k", "l"]),
    ("delete_many", (["k"],), None),
    ("clear", (), None),
    ("incr", ("k",), ValueError),
    ("decr", ("k",), ValueError),
    ("incr_version", ("k",), ValueError),
    ("decr_version", ("k",), ValueError),
]
"""What each method comes to while the cache can't be asked."""


# -- closed: the wrapped backend, and nothing else


@pytest.mark.parametrize("style", [SYNC, ASYNC])
def test_it_answers_as_the_wrapped_backend_does(made: Callable[..., Any], style: str) -> None:
    """The same calls on a plain cache and on a wrapped one, with all that makes keys."""
    entry = {
        "KEY_PREFIX": "shop",
        "VERSION": 3,
        "TIMEOUT": None,
        "KEY_FUNCTION": f"{__name__}.reversed_key",
        "OPTIONS": {"MAX_ENTRIES": 7, "CULL_FREQUENCY": 2},
    }
    ours = made(LOCMEM, **entry)
    theirs = LocMemCache("theirs", entry)
    theirs.clear()
    calls: list[tuple[Any, ...]] = [
        ("add", "a", 1), ("add", "a", 2), ("get", "a"), ("get", "b", "no"), ("set", "b", [1], 60),
        ("get", "b"), ("set", "c", 1, None, 9), ("get", "c"), ("get", "c", None, 9),
        ("touch", "a", 10), ("touch", "z"), ("incr", "a"), ("incr", "a", 5), ("decr", "a", 2),
        ("get_many", ["a", "b", "z"]), ("has_key", "a"), ("has_key", "z"),
        ("set_many", {"d": 1, "e": 2}, 60), ("get_many", ["d", "e"], 3), ("delete", "d"),
        ("delete", "d"), ("delete_many", ["e", "z"]), ("incr_version", "a"), ("get", "a"),
        ("get", "a", None, 4), ("decr_version", "a", 1, 4), ("get", "a"),
        ("get_or_set", "f", 1), ("get_or_set", "f", 2), ("get_or_set", "g", lambda: 3),
        ("set", "gone", 1, 0), ("get", "gone"),
    ]  # fmt: skip
    for method, *args in calls:
        answers = [ask(style, cache, method, *args) for cache in (ours, theirs)]
        assert answers[0] == answers[1], (method, args)
    assert ours.wrapped._cache.keys() == theirs._cache.keys()
    assert ask(style, ours, "get", "a") == 5
    ask(style, ours, "clear")
    assert not ours.wrapped._cache
    for name in ("default_timeout", "key_prefix", "version", "key_func", "_max_entries"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.make_key("k") == theirs.make_key("k") == "k:3:pohs"
    assert ours.get_backend_timeout(60) is not None
    assert ours.get_backend_timeout() is None
    assert circuit().info().totals.failures == 0


def reversed_key(key: str, prefix: str, version: int) -> str:
    return f"{key}:{version}:{prefix[::-1]}"


def test_every_method_of_djangos_goes_through_the_circuit() -> None:
    composed = {"get_or_set", "aget_or_set", "__contains__"}  # of get, add and has_key
    own = vars(CircuitBreakerCache)
    for name, _ in inspect.getmembers(BaseCache, inspect.isfunction):
        if not name.startswith("_") or name == "__contains__":
            assert name in own or name in composed, f"{name} is not the wrapped backend's"
    assert not composed & own.keys()


def test_the_wrapped_backend_is_made_of_the_rest_of_the_entry(made: Callable[..., Any]) -> None:
    theirs = {"TIMEOUT": 60, "OPTIONS": {"circuit": "theirs"}, "OF_ITS_OWN": 1}
    cache = made(f"{__name__}.Native", CIRCUIT="c", ON_OPEN="raise", ON_ERROR="miss", **theirs)
    assert cache.wrapped.given == ("shop", theirs)


def test_native_async_methods_take_no_thread(made: Callable[..., Any]) -> None:
    cache = made(f"{__name__}.Native")
    assert asyncio.run(cache.aget("k", "no")) == "no"
    assert Native.threads == [threading.get_ident()]


def test_what_a_backend_has_beyond_djangos_methods(made: Callable[..., Any]) -> None:
    cache = made(f"{__name__}.Native", KEY_PREFIX="p")
    assert cache.set("k", 1, nx=True) is True
    assert cache.set("k", 2, nx=True) is False
    assert cache.ttl("k") == "ttl of native:p:1:k"
    circuit().force_open()
    assert cache.ttl("k") == "ttl of native:p:1:k"
    with pytest.raises(AttributeError, match="nothing"):
        cache.nothing  # noqa: B018
    with pytest.raises(AttributeError, match="wrapped"):
        CircuitBreakerCache.__new__(CircuitBreakerCache).wrapped  # noqa: B018


def test_keys_are_made_and_checked_by_the_wrapped_backend(made: Callable[..., Any]) -> None:
    cache = made(f"{__name__}.Native")
    assert cache.make_key("k") == cache.make_and_validate_key("k") == "native::1:k"
    assert cache.get_backend_timeout(60) == 4e9
    for check in (cache.validate_key, cache.make_and_validate_key):
        with pytest.raises(InvalidCacheKey):
            check("a b")


def test_closing(made: Callable[..., Any]) -> None:
    cache = made(f"{__name__}.Native")
    circuit().force_open()
    cache.close(signal=None)
    asyncio.run(cache.aclose())
    assert Native.closed == ["close", "aclose"]


# -- open


@pytest.mark.parametrize("style", [SYNC, ASYNC])
@pytest.mark.parametrize(("method", "args", "answer"), EMPTY)
def test_open_every_key_is_missing(
    made: Callable[..., Any], style: str, method: str, args: tuple[Any, ...], answer: Any
) -> None:
    cache = made()
    circuit().force_open()
    if answer is ValueError:
        with pytest.raises(ValueError, match="Key 'k' not found"):
            ask(style, cache, method, *args)
    else:
        assert ask(style, cache, method, *args) == answer
    assert Flaky.reached == 0
    assert circuit().info().totals.rejected == 1


@pytest.mark.parametrize("style", [SYNC, ASYNC])
@pytest.mark.parametrize(("method", "args"), [each[:2] for each in EMPTY])
def test_open_the_refusal_is_raised_if_so_told(
    made: Callable[..., Any], style: str, method: str, args: tuple[Any, ...]
) -> None:
    cache = made(ON_OPEN="raise")
    circuit().force_open()
    with pytest.raises(CallNotPermittedError):
        ask(style, cache, method, *args)
    assert Flaky.reached == 0


@pytest.mark.parametrize("style", [SYNC, ASYNC])
def test_open_get_or_set_computes(made: Callable[..., Any], style: str) -> None:
    cache = made()
    circuit().force_open()
    assert ask(style, cache, "get_or_set", "k", lambda: 42) == 42
    assert ask(style, cache, "get_or_set", "k", 43) == 43
    assert "k" not in cache
    assert Flaky.reached == 0


@pytest.mark.parametrize("style", [SYNC, ASYNC])
def test_a_default_is_computed_outside_the_circuit(made: Callable[..., Any], style: str) -> None:
    """The database that it is computed from is none of the cache's business."""
    cache = made()

    def query() -> None:
        raise ConnectionError("the database is down")

    for _ in range(3):
        with pytest.raises(ConnectionError):
            ask(style, cache, "get_or_set", "k", query)
    assert circuit().state is State.CLOSED
    totals = circuit().info().totals
    assert (totals.successes, totals.failures) == (3, 0)


# -- errors


@pytest.mark.parametrize("style", [SYNC, ASYNC])
@pytest.mark.parametrize(("method", "args", "answer"), EMPTY)
def test_an_outage_is_a_miss_before_the_circuit_opens_too(
    made: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    style: str,
    method: str,
    args: tuple[Any, ...],
    answer: Any,
) -> None:
    cache = made()
    Flaky.error = ConnectionError("connection refused")
    if answer is ValueError:
        with pytest.raises(ValueError, match="Key 'k' not found"):
            ask(style, cache, method, *args)
    else:
        assert ask(style, cache, method, *args) == answer
    assert circuit().info().totals.failures == 1
    (record,) = (each for each in caplog.records if each.name == "fluxgate.django.cache")
    assert record.levelno == logging.WARNING
    assert "'cache.shop'" in record.message
    assert "connection refused" in record.message


@pytest.mark.parametrize("style", [SYNC, ASYNC])
@pytest.mark.parametrize("entry", [{"ON_ERROR": "raise"}, {"ON_OPEN": "raise"}])
def test_an_outage_is_raised_if_so_told(
    made: Callable[..., Any], style: str, entry: dict[str, str]
) -> None:
    cache = made(**entry)
    Flaky.error = error = ConnectionError("connection refused")
    for _ in range(2):
        with pytest.raises(ConnectionError) as caught:
            ask(style, cache, "get", "k")
        assert caught.value is error
    assert circuit().state is State.OPEN
    assert Flaky.reached == 2


def test_open_raises_errors_are_misses(made: Callable[..., Any]) -> None:
    cache = made(ON_OPEN="raise", ON_ERROR=Outage.MISS)
    Flaky.error = ConnectionError("connection refused")
    assert cache.get("k") is None
    assert cache.get("k") is None
    with pytest.raises(CallNotPermittedError):
        cache.get("k")


def test_it_recovers(made: Callable[..., Any], clock: ManualClock) -> None:
    cache = made()
    cache.set("k", 1)
    Flaky.error = OSError("no route to host")
    for _ in range(5):
        assert cache.get("k") is None
    assert Flaky.reached == 1 + 2
    clock.advance(30)
    assert cache.get("k") is None
    assert Flaky.reached == 1 + 3
    Flaky.error = None
    clock.advance(30)
    assert cache.get("k") == 1
    assert circuit().state is State.CLOSED


@pytest.mark.parametrize("style", [SYNC, ASYNC])
def test_the_callers_mistakes_are_raised_and_count_for_nothing(
    made: Callable[..., Any], style: str
) -> None:
    cache = made()
    with pytest.raises(ValueError, match="not found"):
        ask(style, cache, "incr", "missing")
    with pytest.raises((TypeError, AttributeError)):  # pickle says the one or the other
        ask(style, cache, "set", "k", threading.Lock())
    with pytest.raises(TypeError):
        ask(style, cache, "set", "k", 1, "soon")
    totals = circuit().info().totals
    assert (totals.failures, totals.ignored) == (0, 3)


def test_the_settings_tracker_judges(made: Callable[..., Any], policy: dict[str, Any]) -> None:
    policy["TRACKER"] = 'TypeOf("TimeoutError")'
    cache = made()
    Flaky.error = ConnectionError("connection refused")
    assert cache.get("k") is None
    Flaky.error = TimeoutError("too slow")
    assert cache.get("k") is None
    totals = circuit().info().totals
    assert (totals.failures, totals.ignored) == (1, 1)


@pytest.mark.parametrize("on_error", ["miss", "raise"])
def test_anothers_refusal_is_an_outage_but_no_failure_and_no_news(
    made: Callable[..., Any], caplog: pytest.LogCaptureFixture, on_error: str
) -> None:
    """As of Django's database cache on a database that has a circuit, too."""
    cache = made(ON_ERROR=on_error)
    Flaky.error = CallNotPermittedError("db.default", State.OPEN, 30.0)
    if on_error == "raise":
        with pytest.raises(CallNotPermittedError, match=r"db\.default"):
            cache.get("k")
    else:
        assert cache.get("k") is None
    totals = circuit().info().totals
    assert (totals.failures, totals.ignored) == (0, 1)
    assert not caplog.records


def test_a_cancelled_probe_gives_its_slot_back(
    made: Callable[..., Any], clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = made(f"{__name__}.Native")
    circuit().open_for(30)
    clock.advance(30)
    reached = asyncio.Event()

    async def hang(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    async def main() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Native, "aget", hang)
            asking = asyncio.create_task(cache.aget("k"))
            await reached.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        assert circuit().info().totals.cancelled == 1
        assert await cache.aget("k", "no") == "no"

    asyncio.run(main())
    assert circuit().state is State.CLOSED


# -- the entry


def test_the_circuits_name(made: Callable[..., Any]) -> None:
    assert made().circuit_name == "cache.shop"
    assert made(CIRCUIT="memory").circuit_name == "memory"
    assert repr(caches["shop"]).startswith("<CircuitBreakerCache 'memory' around <")


def test_the_alias_is_found_without_a_location(settings: Any) -> None:
    ours = {"BACKEND": "fluxgate_django.cache.CircuitBreakerCache", "WRAPS": LOCMEM}
    settings.CACHES = {"default": {"BACKEND": LOCMEM}, "a": ours, "b": {**ours, "VERSION": 2}}
    assert [caches[alias].circuit_name for alias in "ab"] == ["cache.a", "cache.b"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"wraps": None}, r'CACHES\["shop"\]: WRAPS is the dotted path .* not None'),
        ({"wraps": "shop.caches.Fast"}, r'CACHES\["shop"\]: WRAPS can\'t be imported: .*shop'),
        ({"wraps": "builtins.dict"}, r"WRAPS is no cache backend: 'builtins.dict'"),
        ({"ON_OPEN": "ignore"}, r'ON_OPEN is "miss" or "raise", not \'ignore\''),
        ({"ON_ERROR": True}, r'ON_ERROR is "miss" or "raise", not True'),
        ({"CIRCUIT": ""}, r"CIRCUIT is the name of a circuit, such as .* not ''"),
        ({"CIRCUIT": 7}, r"CIRCUIT is the name of a circuit, such as .* not 7"),
        ({"ON_OPNE": "miss"}, r"has 'ON_OPNE': did you mean 'ON_OPEN'\?"),
        ({"on_error": "miss"}, r"has 'on_error': did you mean 'ON_ERROR'\?"),
    ],
)
def test_an_entry_that_cant_be_used(
    made: Callable[..., Any], entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidCacheBackendError, match=message):
        made(**entry)


def test_made_by_hand_it_needs_a_name() -> None:
    with pytest.raises(InvalidCacheBackendError, match="the CACHES entry of a CircuitBreakerCache"):
        CircuitBreakerCache("here", {"WRAPS": LOCMEM})
    cache = CircuitBreakerCache("here", {"WRAPS": LOCMEM, "CIRCUIT": "here"})
    assert cache.get("k", "no") == "no"


def test_attributes_that_are_set(settings: Any) -> None:
    """They are the wrapped backend's, as those that are read; but for the wrapper's own."""
    settings.CACHES = {
        "default": {"BACKEND": "fluxgate_django.cache.CircuitBreakerCache", "WRAPS": LOCMEM}
    }
    cache: Any = caches["default"]
    cache.default_timeout = 5
    cache.key_prefix = "shop"
    assert (cache.wrapped.default_timeout, cache.wrapped.key_prefix) == (5, "shop")
    assert "default_timeout" not in vars(cache)
    cache.on_open = Outage.RAISE
    assert not hasattr(cache.wrapped, "on_open")
    cache.note = 1
    del cache.note
    assert not hasattr(cache.wrapped, "note")
