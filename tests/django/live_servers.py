"""Servers in processes of their own, with the example project; and the service it depends on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLE = ROOT / "examples" / "django_shop"
PATIENCE = 30.0
"""Seconds after which something that never comes fails a test instead of hanging it."""

POSIX = pytest.mark.skipif(os.name == "nt", reason="a server is handed its socket")

GUNICORN = ("gunicorn", "--bind", "fd://{fd}", "--worker-class", "gthread", "--threads", "8")
UVICORN = ("uvicorn", "--fd", "{fd}", "--lifespan", "off", "--no-access-log")


class Upstream(ThreadingHTTPServer):
    """A service on loopback that answers with the status it is told to, and counts its calls."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.status: Callable[[str], int] = lambda _path: 200
        """What it answers with, by path."""
        self.gate = threading.Event()
        """Calls are kept waiting until it is set."""
        self.gate.set()
        self._arrived: Counter[str] = Counter()
        self._counting = threading.Condition()

    def answers(self, status: int) -> None:
        """From now on it answers that, whatever the path."""
        self.status = lambda _path: status

    def arrive(self, path: str) -> None:
        with self._counting:
            self._arrived[path.split("/")[1]] += 1
            self._counting.notify_all()

    def reached(self, first: str | None = None) -> int:
        """How many calls have come, to paths below `/<first>`."""
        with self._counting:
            return self._arrived.total() if first is None else self._arrived[first]

    def wait_until_reached(self, calls: int) -> None:
        """Wait until so many calls have come in all."""
        with self._counting:
            came = self._counting.wait_for(lambda: self._arrived.total() >= calls, PATIENCE)
        assert came, f"{self._arrived} of {calls} calls reached the upstream"

    def handle_error(self, *_: object) -> None:
        """A client that went away is none of its business."""


class _Handler(BaseHTTPRequestHandler):
    server: Upstream
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.server.arrive(self.path)
        assert self.server.gate.wait(PATIENCE)
        self.send_response(self.server.status(self.path))
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"here")

    def log_request(self, *_: object) -> None:
        """Not on the terminal."""


@contextmanager
def an_upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="upstream")
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


class Server:
    """A server process; `log` is what it has written to its standard streams."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def client(self) -> httpx.Client:
        """A client with one connection, which is kept: so it always meets the same worker."""
        limits = httpx.Limits(max_connections=1)
        return httpx.Client(
            base_url=self.url,
            trust_env=False,
            verify=False,  # nothing to verify, and certificates take long to load
            limits=limits,
            timeout=PATIENCE,
        )


@contextmanager
def served(
    *command: str, upstream: str, env: Mapping[str, str] = {}, settings: str = "live_settings"
) -> Iterator[Server]:
    """Run `python -m <command>`, in which `{fd}` is a socket that listens on a free port.

    Whoever connects before the server is up waits in the socket's queue. On the way out the
    server is asked to stop: it must do so by itself, and must not have shown a traceback.
    """
    paths = [HERE / "live_site", EXAMPLE, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "DJANGO_SETTINGS_MODULE": settings,
        "UPSTREAM_URL": upstream,
        **env,
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0), backlog=512) as listening,
    ):
        environment["HOME"] = folder  # where gunicorn puts a socket of its own
        log = Path(folder, "log")
        port, fd = listening.getsockname()[1], listening.fileno()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *(word.format(fd=fd) for word in command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                pass_fds=[fd],
                start_new_session=True,
            )
        listening.close()  # a server that dies refuses connections, and nobody waits for it
        server = Server(process, f"http://127.0.0.1:{port}", log)
        try:
            yield server
        except BaseException:
            print(server.log)  # pytest shows it with the failure
            raise
        finally:
            stop(process)
        assert "Traceback" not in server.log, server.log
        assert process.returncode in (0, -signal.SIGTERM), server.log


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def metrics(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """What /metrics say: the name and the labels' values of each sample, and its value."""
    answer = client.get("/metrics")
    if answer.status_code == 500:
        return {}  # prometheus-client can't read a file that another worker is just creating
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def eventually(read: Callable[[], Mapping[Any, Any]], expected: Mapping[Any, Any]) -> bool:
    """Read until that holds what is expected; False if it never does."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if read().items() >= expected.items():
            return True
    return False
