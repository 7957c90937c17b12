"""`ENGINE: fluxgate_django.db.mysql` before a real MariaDB that stops in mid-traffic.

Each driver in a process of its own: both are called MySQLdb there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

from ..realservers import MariaDB

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("mariadb-install-db") is None,
        reason="no MariaDB on the PATH: apt-get install mariadb-server",
    ),
]

PROGRAM = """
    import sys, threading

    driver, port = sys.argv[1], int(sys.argv[2])
    if driver == "pymysql":
        import pymysql

        pymysql.install_as_MySQLdb()

    import django
    from django.conf import settings
    from django.db import OperationalError, connection

    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "fluxgate_django.db.mysql",
                "HOST": "127.0.0.1",
                "PORT": port,
                "USER": "root",
                "NAME": "mysql",
                "OPTIONS": {"connect_timeout": 1, "read_timeout": 1},
            }
        },
        FLUXGATE={"DEFAULTS": {"TRIPPER": "FailureStreak(2)", "RETRY": "Cooldown(60)"}},
        INSTALLED_APPS=["fluxgate_django"],
    )
    django.setup()

    from fluxgate_django import breakers
    from fluxgate_django.db import CircuitOpenError

    def ask():
        with connection.cursor() as cursor:
            cursor.execute("select 1")
            assert cursor.fetchone() == (1,)

    assert connection.validation._unlimited() == []
    ask()
    connection.close()
    circuit = breakers["db.default"]
    assert circuit.info().totals.successes == 1
    print("connected", flush=True)

    assert sys.stdin.readline() == "frozen\\n"
    for _ in range(2):
        try:
            ask()
        except OperationalError as error:
            assert not isinstance(error, CircuitOpenError)
        else:
            raise AssertionError("a frozen server answered")
    try:
        ask()
    except CircuitOpenError:
        print("refused", flush=True)

    assert sys.stdin.readline() == "thawed\\n"
    circuit.reset()
    ask()
    print("whole", flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDB]:
    made = MariaDB()
    with made:
        yield made


@pytest.mark.parametrize("driver", ["pymysql", "mysqlclient"])
def test_a_frozen_server(driver: str, server: MariaDB, tmp_path: Path) -> None:
    """With both limits a worker waits for a second, until the circuit is open."""
    if driver == "mysqlclient" and find_spec("MySQLdb") is None:
        pytest.skip("no mysqlclient: pip install mysqlclient (it is compiled)")
    program = tmp_path / "program.py"
    program.write_text(dedent(PROGRAM))
    with subprocess.Popen(
        [sys.executable, program, driver, str(server.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "connected\n"
            server.freeze()
            process.stdin.write("frozen\n")
            process.stdin.flush()
            assert process.stdout.readline() == "refused\n"
        finally:
            server.thaw()
        process.stdin.write("thawed\n")
        process.stdin.flush()
        assert process.stdout.readline() == "whole\n"
        assert process.wait(60) == 0
