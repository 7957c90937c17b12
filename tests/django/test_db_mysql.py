"""`ENGINE: fluxgate_django.db.mysql`, with PyMySQL in MySQLdb's place, on real sockets.

There is no server to be had from a wheel. What answers here knows the greeting and the word "OK",
which is all that connecting takes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PROGRAM = """
    import socket, sys, threading

    import pymysql

    pymysql.install_as_MySQLdb()

    import django
    from django.conf import settings
    from django.db import OperationalError, connections

    from fluxgate.testing import ManualClock

    clock = ManualClock()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "fluxgate_django.db.mysql",
                "HOST": "127.0.0.1",
                "PORT": port,
                "NAME": "shop",
                "OPTIONS": {"connect_timeout": 10},
            }
        },
        FLUXGATE={"DEFAULTS": {"TRIPPER": "FailureStreak(2)", "CLOCK": clock, "PERMIT": "All()"}},
        INSTALLED_APPS=["fluxgate_django"],
    )
    django.setup()

    from django.db.backends.mysql import base, validation

    from fluxgate_django import breakers
    from fluxgate_django.db import CircuitOpenError

    GREETING = (
        b"\\x0a8.4.0\\0" + b"\\1\\0\\0\\0" + b"saltsalt\\0" + b"\\xff\\xf7" + b"\\x2d" + b"\\2\\0"
        + b"\\xff\\x81" + b"\\x15" + bytes(10) + b"saltsaltsalt\\0" + b"mysql_native_password\\0"
    )
    OK = b"\\0\\0\\0\\2\\0\\0\\0"
    came = 0

    def send(connection, number, packet):
        connection.sendall(len(packet).to_bytes(3, "little") + bytes([number]) + packet)

    def serve(listening):
        global came
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            came += 1
            send(connection, 0, GREETING)
            stream, number = connection.makefile("rb"), 2  # the login is packet 1
            while head := stream.read(4):
                stream.read(int.from_bytes(head[:3], "little"))
                send(connection, number, OK)
                number = 1  # all others are packet 0

    def connect():
        return wrapper.get_new_connection(wrapper.get_connection_params())

    wrapper = connections["default"]
    assert isinstance(wrapper, base.DatabaseWrapper)
    assert isinstance(wrapper.validation, validation.DatabaseValidation)
    wrapper.settings_dict["OPTIONS"] = {}
    assert [each.id for each in wrapper.validation._unlimited()] == ["fluxgate.W101"]
    wrapper.settings_dict["OPTIONS"] = {"connect_timeout": 10}
    (caution,) = wrapper.validation._unlimited()
    assert caution.id == "fluxgate.W101" and "read_timeout" in caution.hint
    wrapper.settings_dict["OPTIONS"] = {"connect_timeout": 10, "read_timeout": 10}
    assert not wrapper.validation._unlimited()
    assert (wrapper.vendor, wrapper.circuit_name) == ("mysql", "db.default")

    threading.Thread(target=serve, args=[listening], daemon=True).start()
    connect().close()
    assert breakers["db.default"].info().totals.successes == came == 1

    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for _ in range(2):
        try:
            wrapper.ensure_connection()
        except OperationalError as error:
            assert type(error) is OperationalError, error
            assert error.args[0] == 2003, error  # the driver's own code arrives
            assert isinstance(error.__cause__, pymysql.OperationalError)
    for _ in range(10):
        try:
            wrapper.ensure_connection()
        except CircuitOpenError as error:
            assert isinstance(error, OperationalError)
    assert breakers["db.default"].info().totals.rejected == 10

    listening = socket.create_server(("127.0.0.1", port))
    threading.Thread(target=serve, args=[listening], daemon=True).start()
    clock.advance(60)
    connect().close()
    assert breakers["db.default"].state == "closed" and came == 2
    print("whole")
"""


def test_connecting_to_mysql(tmp_path: Path) -> None:
    """In a process of its own: a driver that stands in for another is for the whole process."""
    program = tmp_path / "program.py"
    program.write_text(dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, "-W", "error", program], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


def test_without_its_driver_it_says_so() -> None:
    code = (
        "import sys; sys.modules['MySQLdb'] = None\n"
        "from django.db.utils import load_backend\n"
        "load_backend('fluxgate_django.db.mysql')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImproperlyConfigured: Error loading MySQLdb module." in told.stderr
    assert "Did you install mysqlclient?" in told.stderr
