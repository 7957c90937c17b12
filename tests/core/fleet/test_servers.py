"""Four workers of gunicorn (loaded before the fork) and of uvicorn: one circuit."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from fluxgate.fleet import Fleet

from ...django.live_servers import GUNICORN, POSIX, UVICORN, Server, Upstream, an_upstream, served
from .chaos import PLACES
from .conftest import PATIENCE, eventually

pytestmark = [POSIX, pytest.mark.slow]

SITE = Path(__file__).with_name("live_site")
SLOTS = 2
COMMANDS = {
    "gunicorn": (*GUNICORN, "--preload", "--workers", "4", "--keep-alive", "60", "fleet_wsgi"),
    "uvicorn": (
        *(*UVICORN, "--workers", "4", "--timeout-keep-alive", "60"),
        "fleet_asgi:application",
    ),
}


class House(NamedTuple):
    """A server with four workers, its upstream, and the URL of their store."""

    server: Server
    upstream: Upstream
    url: str


class Site:
    """Four workers, each behind a connection of its own, and their fleet from outside.

    Attributes:
        master: the process that has started them.
    """

    def __init__(self, house: House, stack: ExitStack) -> None:
        self.server = house.server
        self.upstream = house.upstream
        self.master = house.server.process.pid
        self.fleet = stack.enter_context(Fleet(house.url))
        self.clients: list[httpx.Client] = []
        workers: set[int] = set()

        def another() -> bool:
            client = stack.enter_context(self.server.client())
            worker = client.get("/seen").json()["worker"]
            if worker not in workers:
                workers.add(worker)
                self.clients.append(client)
            return len(workers) == 4

        eventually(another)
        eventually(lambda: all(each["attached"] for each in self.seen()))

    def seen(self) -> list[dict[str, Any]]:
        return [client.get("/seen").json() for client in self.clients]

    def states(self) -> set[str]:
        return {each["state"] for each in self.seen()}

    def counted(self) -> int:
        return sum(each.calls for each in self.fleet.circuits(PATIENCE))

    def listed(self) -> set[int | None]:
        return {each.pid for each in self.fleet.processes(PATIENCE)}

    def reset(self) -> None:
        """Begin afresh, whatever was before."""
        epoch = self.fleet.control("payments", "reset", timeout=PATIENCE).epoch
        eventually(lambda: {each["epoch"] for each in self.seen()} == {epoch})


@pytest.fixture(params=COMMANDS, scope="module")
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return COMMANDS[request.param]


@pytest.fixture(params=PLACES, scope="module")
def house(command: tuple[str, ...], request: pytest.FixtureRequest) -> Iterator[House]:
    with ExitStack() as stack:
        place = PLACES[request.param]()
        stack.callback(place.close)
        upstream = stack.enter_context(an_upstream())
        path = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {"PYTHONPATH": path, "FLEET_URL": place.url, "SLOTS": str(SLOTS)}
        server = stack.enter_context(served(*command, upstream=upstream.url, env=env))
        yield House(server, upstream, place.url)


@pytest.fixture
def site(house: House) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(house, stack)


def test_an_outage_under_four_workers(site: Site) -> None:
    """Two workers see it, four are open; then the service gets k probes, and not four times k."""
    upstream, (one, two, *_) = site.upstream, site.clients
    site.reset()
    before = upstream.reached()
    upstream.answers(500)
    # No worker alone has the ten calls that the tripper asks for; the tenth may open the fleet.
    assert [one.get("/pay").status_code for _ in range(6)] == [502] * 6
    answers = [two.get("/pay").status_code for _ in range(6)]
    failed = answers.count(502)
    assert answers == [502] * failed + [503] * (6 - failed)
    assert failed >= 4
    eventually(lambda: site.states() == {"open"})
    assert len({each["epoch"] for each in site.seen()}) == 1
    assert [client.get("/pay").status_code for client in site.clients] == [503] * 4
    assert upstream.reached() == before + 6 + failed

    upstream.answers(200)
    upstream.gate.clear()  # a probe stays where it is
    refused = [0]
    stop = threading.Event()

    def call() -> None:
        with site.server.client() as client:
            while not stop.is_set():
                refused[0] += client.get("/pay").status_code == 503

    threads = [threading.Thread(target=call, daemon=True) for _ in range(8)]
    try:
        for thread in threads:
            thread.start()
        eventually(lambda: upstream.reached() == before + 6 + failed + SLOTS)
        enough = refused[0] + 200
        eventually(lambda: refused[0] >= enough)
        assert upstream.reached() == before + 6 + failed + SLOTS
    finally:
        upstream.gate.set()
        stop.set()
    for thread in threads:
        thread.join(30.0)
    eventually(lambda: site.states() == {"closed"})
    assert len({each["epoch"] for each in site.seen()}) == 1


def test_each_call_counts_once(site: Site) -> None:
    """The processes are the workers, and not who has forked them.

    Under gunicorn it has called before the fork (`fleet_wsgi`), and lives as long as they do.
    """
    workers = {each["worker"] for each in site.seen()}
    eventually(lambda: site.listed() >= workers and site.master not in site.listed())
    site.reset()
    for calls in (12, 24):
        for client in site.clients:
            assert [client.get("/pay").status_code for _ in range(3)] == [200] * 3
        eventually(lambda calls=calls: site.counted() >= calls)
        assert site.counted() == calls
    assert site.master not in site.listed()
