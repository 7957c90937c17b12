"""The circuit around connecting, whatever the engine: with SQLite, whose file can't be opened."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError
from django.db.backends.sqlite3 import base as sqlite3
from django.db.backends.sqlite3.features import DatabaseFeatures
from django.db.utils import ConnectionHandler, load_backend

from fluxgate import CallNotPermittedError, State
from fluxgate.testing import ManualClock, RecordedSignals
from fluxgate_django import breakers
from fluxgate_django.db import CircuitBreakerMixin, CircuitOpenError
from fluxgate_django.db.sqlite3.base import DatabaseWrapper

pytestmark = pytest.mark.usefixtures("fluxgate")

ENGINE = "fluxgate_django.db.sqlite3"


@pytest.fixture(autouse=True)
def _two_in_a_row(policy: dict[str, Any], django_db_blocker: Any) -> Iterator[None]:
    policy["TRIPPER"] = "FailureStreak(2)"
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the database would be, if the folder were there."""
    return tmp_path / "folder"


@pytest.fixture
def connect(folder: Path) -> Iterator[Callable[..., Any]]:
    made: list[DatabaseWrapper] = []

    def connection(alias: str = "shop", **entry: Any) -> Any:
        entry = {"ENGINE": ENGINE, "NAME": folder / "db.sqlite3", **entry}
        made.append(ConnectionHandler({"default": {}, alias: entry})[alias])
        return made[-1]

    yield connection
    for each in made:
        each.close()


def fails(connection: Any) -> OperationalError:
    with pytest.raises(OperationalError, match="unable to open") as caught:
        connection.ensure_connection()
    return caught.value


def test_it_opens_refuses_probes_and_closes(
    connect: Callable[..., Any], folder: Path, clock: ManualClock, signals: RecordedSignals
) -> None:
    connection = connect()
    fails(connection)
    fails(connection)
    with pytest.raises(CircuitOpenError):
        connection.ensure_connection()
    clock.advance(30)
    fails(connection)
    with pytest.raises(CircuitOpenError):
        connection.ensure_connection()
    clock.advance(30)
    folder.mkdir()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 42")
        assert cursor.fetchone() == (42,)
    assert signals.moves == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


def test_a_refusal_is_what_code_expects_of_a_dead_database(connect: Callable[..., Any]) -> None:
    breakers["db.shop"].open_for(30)
    with pytest.raises(DatabaseError) as caught:
        connect().cursor()
    refusal = caught.value
    assert type(refusal) is CircuitOpenError  # not made into another by wrap_database_errors
    assert isinstance(refusal, OperationalError)
    assert isinstance(refusal, CallNotPermittedError)
    assert (refusal.name, refusal.state, refusal.retry_after) == ("db.shop", State.OPEN, 30)
    assert refusal.__cause__ is None
    assert str(refusal).startswith("circuit 'db.shop' is open")
    copy = pickle.loads(pickle.dumps(refusal))
    assert type(copy) is CircuitOpenError
    assert copy.args == refusal.args


def test_an_error_arrives_as_without_a_circuit(connect: Callable[..., Any]) -> None:
    plain = connect(ENGINE="django.db.backends.sqlite3")
    ours = connect()
    expected, error = fails(plain), fails(ours)
    assert type(error) is type(expected) is OperationalError
    assert error.args == expected.args
    assert type(error.__cause__) is type(expected.__cause__) is sqlite3.Database.OperationalError
    assert ours.errors_occurred is plain.errors_occurred is True


def test_the_tracker_sees_djangos_errors_and_their_cause(
    connect: Callable[..., Any], policy: dict[str, Any]
) -> None:
    seen: list[Exception] = []
    policy["TRACKER"] = _tracker(seen)
    error = fails(connect())
    assert seen == [error]
    assert isinstance(seen[0].__cause__, sqlite3.Database.OperationalError)


@pytest.mark.parametrize(
    ("tracker", "failures"),
    [('TypeOf("django.db.OperationalError")', 1), ('TypeOf("django.db.InterfaceError")', 0)],
)
def test_a_tracker_of_the_settings(
    connect: Callable[..., Any], policy: dict[str, Any], tracker: str, failures: int
) -> None:
    policy["TRACKER"] = tracker
    fails(connect())
    totals = breakers["db.shop"].info().totals
    assert (totals.failures, totals.ignored) == (failures, 1 - failures)


@pytest.mark.parametrize("error", [ImproperlyConfigured("no"), sqlite3.Database.DataError("no")])
def test_what_says_nothing_about_the_server_is_ignored(
    connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _raising(monkeypatch, error)
    for _ in range(3):
        with pytest.raises((ImproperlyConfigured, DatabaseError)):
            connect().ensure_connection()
    totals = breakers["db.shop"].info().totals
    assert (totals.failures, totals.ignored) == (0, 3)


def test_a_worker_that_is_stopped_while_it_probes_gives_the_slot_back(
    connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, folder: Path, clock: ManualClock
) -> None:
    connection = connect()
    fails(connection)
    fails(connection)
    clock.advance(30)
    with monkeypatch.context() as patched:
        _raising(patched, SystemExit(1))
        with pytest.raises(SystemExit):
            connection.ensure_connection()
    assert breakers["db.shop"].info().totals.cancelled == 1
    folder.mkdir()
    connection.ensure_connection()
    assert breakers["db.shop"].state is State.CLOSED


# -- names


def test_the_circuits_name(connect: Callable[..., Any]) -> None:
    assert connect("shop").circuit_name == "db.shop"
    assert connect("shop").copy().circuit_name == "db.shop"
    assert connect("shop").copy("other").circuit_name == "db.other"


def test_aliases_of_one_server_share_a_circuit(connect: Callable[..., Any], folder: Path) -> None:
    primary = connect("primary", CIRCUIT="postgres-1")
    fails(primary)
    fails(connect("reports", CIRCUIT="postgres-1"))
    with pytest.raises(CircuitOpenError, match="postgres-1"):
        primary.ensure_connection()
    folder.mkdir()
    connect("elsewhere").ensure_connection()


@pytest.mark.parametrize("name", ["", None, 7, {"TRIPPER": "FailureStreak(2)"}])
def test_a_name_that_is_none(connect: Callable[..., Any], name: object) -> None:
    with pytest.raises(ImproperlyConfigured, match=r'DATABASES\["shop"\]\["CIRCUIT"\] is the name'):
        connect(CIRCUIT=name)


def test_settings_of_the_circuit(
    connect: Callable[..., Any], settings: Any, policy: dict[str, Any]
) -> None:
    settings.FLUXGATE = {
        "DEFAULTS": policy,
        "BREAKERS": {"db.*": {"TRIPPER": "FailureStreak(1)", "RETRY": "Cooldown(5)"}},
    }
    fails(connect())
    with pytest.raises(CircuitOpenError) as caught:
        connect().ensure_connection()
    assert caught.value.retry_after == 5


# -- what it inherits


def test_it_is_djangos_in_everything_else(connect: Callable[..., Any], folder: Path) -> None:
    folder.mkdir()
    connection = connect()
    assert isinstance(connection, sqlite3.DatabaseWrapper)
    assert connection.vendor == "sqlite"
    assert type(connection.features) is DatabaseFeatures
    for name in ("client", "creation", "introspection", "ops", "validation", "SchemaEditorClass"):
        theirs = getattr(sqlite3.DatabaseWrapper(connection.settings_dict, "plain"), name)
        assert type(getattr(connection, name)) is type(theirs)
    assert connection.copy().circuit_name == "db.shop"


@pytest.mark.parametrize("name", ["postgresql", "sqlite3"])
def test_django_finds_the_engines(name: str) -> None:
    wrapper = load_backend(f"fluxgate_django.db.{name}").DatabaseWrapper
    theirs = load_backend(f"django.db.backends.{name}").DatabaseWrapper
    assert wrapper.mro()[1:3] == [CircuitBreakerMixin, theirs]


def test_an_engine_of_ones_own(connect: Callable[..., Any]) -> None:
    class Own(CircuitBreakerMixin, sqlite3.DatabaseWrapper):
        pass

    own = Own(connect().settings_dict, "own")
    fails(own)
    assert breakers["db.own"].info().totals.failures == 1


def _tracker(seen: list[Exception]) -> Any:
    from fluxgate.trackers import Custom

    return Custom(lambda error: seen.append(error) or True)


def _raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def connect(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(sqlite3.Database, "connect", connect)
