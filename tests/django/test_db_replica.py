"""The router of docs/how-to/django-databases.md, before two PostgreSQL servers; one is stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import OperationalError, connections, transaction

from fluxgate import State
from fluxgate.testing import ManualClock
from fluxgate_django import breakers
from fluxgate_django.db import CircuitOpenError

from ..realservers import Postgres, Server

pytestmark = pytest.mark.usefixtures("fluxgate")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "django-databases.md"
BLOCK = re.compile(r"^```py\n(# routers\.py\n.*?)^```$", re.MULTILINE | re.DOTALL)
PRIMARY, REPLICA = "primary", "replica"


def router() -> Any:
    """The page's router, with other names for its databases."""
    names: dict[str, Any] = {}
    found = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    exec(compile(found[1], "routers.py", "exec"), names)
    made = names["ReplicaRouter"]()
    made.primary, made.replica = PRIMARY, REPLICA
    return made


@pytest.fixture
def primary(policy: dict[str, Any], settings: Any, django_db_blocker: Any) -> Iterator[Server]:
    """The primary, beside a replica, both with a table and one row that names the server."""
    policy |= {"TRIPPER": "FailureStreak(2)", "PERMIT": "All()", "MAX_HALF_OPEN_CALLS": 1}
    with Postgres() as first, Postgres() as second, django_db_blocker.unblock():
        servers = {PRIMARY: first, REPLICA: second}
        for alias, server in servers.items():
            entry = {
                "ENGINE": "fluxgate_django.db.postgresql",
                "NAME": "postgres",
                "USER": "postgres",
                "HOST": "127.0.0.1",
                "PORT": server.port,
                "OPTIONS": {"connect_timeout": 20},
            }
            configured = connections.configure_settings({"default": {}, alias: entry})
            connections.settings[alias] = configured[alias]
        try:
            for alias in servers:
                call_command("migrate", "contenttypes", database=alias, verbosity=0)
                ContentType.objects.using(alias).create(app_label="server", model=alias)
                connections[alias].close()
            settings.DATABASE_ROUTERS = [router()]
            yield first
        finally:
            for alias in servers:
                connections[alias].close()
                del connections[alias], connections.settings[alias]


def read() -> str:
    """The name of the server that a read goes to; each is a request of its own."""
    try:
        return ContentType.objects.get(app_label="server").model
    finally:
        for alias in (PRIMARY, REPLICA):
            connections[alias].close()


def test_an_outage_of_the_primary(primary: Server, clock: ManualClock) -> None:
    """Reads fall back to the replica, come back with the primary, and writes never leave it."""
    circuit = breakers[f"db.{PRIMARY}"]
    assert read() == PRIMARY
    primary.stop()
    for _ in range(2):
        with pytest.raises(OperationalError):
            read()
    assert circuit.state is State.OPEN
    assert [read() for _ in range(5)] == [REPLICA] * 5
    with pytest.raises(CircuitOpenError):
        ContentType.objects.create(app_label="a", model="b")
    with pytest.raises(CircuitOpenError), transaction.atomic(using=PRIMARY):
        raise AssertionError("the block was entered")

    clock.advance(30)
    with pytest.raises(OperationalError):  # the read that is the probe
        read()
    assert read() == REPLICA

    primary.start()
    assert read() == REPLICA
    clock.advance(30)
    assert circuit.state is State.OPEN
    assert read() == PRIMARY
    assert circuit.state is State.CLOSED
    assert read() == PRIMARY


def test_a_transaction_stays_where_it_is(primary: Server) -> None:
    """A read inside `atomic` sees what was written there, whatever the circuit has become."""
    assert primary.process is not None
    with transaction.atomic(using=PRIMARY):
        ContentType.objects.create(app_label="written", model="here")
        breakers[f"db.{PRIMARY}"].open_for(30)
        assert ContentType.objects.filter(app_label="written").exists()
    connections[PRIMARY].close()
    assert not ContentType.objects.filter(app_label="written").exists()
    assert read() == REPLICA
