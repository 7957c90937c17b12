"""The consoles on real servers: the example applications with several workers, and the command.

    with an_upstream() as upstream, fastapi_site(folder, upstream.url) as site:
        upstream.answers(500)
        site.orders(30)         # spread over the workers
        site.url                # of the console
        site.workers()          # the process ids of its workers

Whoever may act is `operator`, whoever may only look is `reader`; both have the same `PASSWORD`.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from .django.live_servers import PATIENCE, Upstream, an_upstream, stop

__all__ = [
    "OPERATOR",
    "PASSWORD",
    "READER",
    "Site",
    "Upstream",
    "an_upstream",
    "command",
    "django_site",
    "eventually",
    "fastapi_site",
]

EXAMPLES = Path(__file__).parents[1] / "examples"
SHOP = EXAMPLES / "django_shop"
OPERATOR, READER, PASSWORD = "operator", "reader", "correct-horse-battery"

USERS = f"""
from django.contrib.auth.models import Permission, User
for name in ("{OPERATOR}", "{READER}", "customer"):
    user = User.objects.create_user(name, password="{PASSWORD}", is_staff=name != "customer")
    if user.is_staff:
        names = ["view_circuits", *(["control_circuits"] if name == "{OPERATOR}" else [])]
        user.user_permissions.set(Permission.objects.filter(codename__in=names))
"""
"""Django's users: the two, and one who isn't staff."""


class Site:
    """An application with a console, or a console alone.

    Attributes:
        url: of the console; it ends in a slash.
        app: of the application, without a slash at the end; of the console's server, where it is
            alone.
        login: whether one signs in by `basic` (HTTP Basic), a `form`, or not at all (`none`).
        process: the server's own process, whose children the workers are.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], app: str, mount: str, login: str, log: Path
    ) -> None:
        self.process = process
        self.app = app
        self.url = f"{app}{mount}"
        self.login = login
        self._log = log

    @property
    def log(self) -> str:
        """What the server has written."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        listed = subprocess.run(
            ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        found = re.findall(r"^\s*(\d+) (.*)$", listed, re.MULTILINE)
        return [int(pid) for pid, words in found if "resource_tracker" not in words]

    def orders(self, count: int) -> list[int]:
        """Statuses of so many orders, each over a connection of its own, so in any worker."""
        kind = "json" if self.login == "basic" else "data"  # as the two applications take them
        order: dict[str, Any] = {kind: {"item": "tea", "amount": 1}}
        with self.client() as client, ThreadPoolExecutor(8) as threads:
            made = [threads.submit(client.post, "/orders", **order) for _ in range(count)]
            return [each.result().status_code for each in made]

    @contextmanager
    def client(self, user: str | None = None) -> Iterator[httpx.Client]:
        """A client that keeps no connection; of `user`, signed in."""
        limits = httpx.Limits(max_keepalive_connections=0)
        auth = (user, PASSWORD) if user and self.login == "basic" else None
        with httpx.Client(
            base_url=self.app, trust_env=False, limits=limits, timeout=PATIENCE, auth=auth
        ) as client:
            if user and self.login == "form":
                client.get("/admin/login/")
                sent = {
                    "username": user,
                    "password": PASSWORD,
                    "csrfmiddlewaretoken": client.cookies["csrftoken"],
                    "next": "/circuits/",
                }
                assert client.post("/admin/login/", data=sent).status_code == 302
            yield client


def eventually(holds: Callable[[], object], patience: float = PATIENCE) -> None:
    """Ask until it holds; an error if it never does."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@contextmanager
def fastapi_site(folder: Path, upstream: str, *, workers: int = 4) -> Iterator[Site]:
    """The FastAPI example on uvicorn, with a fleet in `folder`."""
    env = {
        "CONSOLE_ACCOUNTS": f"{OPERATOR}:{PASSWORD} {READER}:{PASSWORD}",
        "CONSOLE_ON_CALL": OPERATOR,
        "CONSOLE_SECRET": "the same in all workers",
    }
    words = ("uvicorn", "fastapi_app:app", "--workers", str(workers), "--fd", "{fd}")
    with _site(folder, upstream, words, env, "basic") as site:
        yield site


@contextmanager
def django_site(
    folder: Path, upstream: str, *, workers: int = 4, threads: int = 2
) -> Iterator[Site]:
    """The Django example on gunicorn, with a fleet and a database of users in `folder`."""
    env = {
        "DATABASE": str(folder / "shop.sqlite3"),
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "SECRET_KEY": "the same in all workers",
    }
    for words in (["migrate", "--verbosity", "0"], ["shell", "--verbosity", "0", "-c", USERS]):
        done = subprocess.run(
            [sys.executable, "-m", "django", *words],
            env=_environment(folder, upstream, env),
            capture_output=True,
            text=True,
            timeout=PATIENCE * 4,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    words = (
        *("gunicorn", "shop.wsgi:application", "--bind", "fd://{fd}", "--workers", str(workers)),
        *("--worker-class", "gthread", "--threads", str(threads)),
    )
    with _site(folder, upstream, words, env, "form") as site:
        yield site


@contextmanager
def command(folder: Path, *options: str, token: str | None = None) -> Iterator[Site]:
    """`python -m fluxgate console` of the fleet in `folder`, on a free port."""
    env = {} if token is None else {"FLUXGATE_CONSOLE_TOKEN": token}
    log = folder / "console.log"
    words = ["fluxgate", "console", fleet_url(folder), "--bind", "127.0.0.1:0", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(folder, "", env),
            start_new_session=True,
        )
    try:
        eventually(lambda: "Ctrl+C" in log.read_text() or process.poll() is not None)
        said = log.read_text()
        found = re.search(r"(http://\S+)/", said)
        assert found is not None, said
        yield Site(process, found[1], "/", "none" if token is None else "basic", log)
    finally:
        stop(process)


def fleet_url(folder: Path) -> str:
    """The fleet of the applications in a folder."""
    return f"sqlite://{folder}/fleet.db"


def _environment(folder: Path, upstream: str, more: Mapping[str, str]) -> dict[str, str]:
    here = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    paths = [str(EXAMPLES), str(SHOP), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **here,
        "HOME": str(folder),  # where gunicorn puts a socket of its own
        "PYTHONPATH": os.pathsep.join(paths),
        "UPSTREAM_URL": upstream,
        "FLEET_URL": fleet_url(folder),
        **more,
    }


@contextmanager
def _site(
    folder: Path, upstream: str, words: tuple[str, ...], env: Mapping[str, str], login: str
) -> Iterator[Site]:
    """A server on a socket that listens before it is up: whoever comes early waits."""
    log = folder / "server.log"
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        port, fd = listening.getsockname()[1], listening.fileno()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *(word.format(fd=fd) for word in words)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=_environment(folder, upstream, env),
                pass_fds=[fd],
                start_new_session=True,
            )
    site = Site(process, f"http://127.0.0.1:{port}", "/circuits/", login, log)
    try:
        yield site
    except BaseException:
        print(site.log)  # pytest shows it with the failure
        raise
    finally:
        stop(process)
