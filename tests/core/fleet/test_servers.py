"""Four workers of gunicorn (loaded before the fork) and of uvicorn: one circuit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ...django.live_servers import GUNICORN, POSIX, UVICORN, Server, Upstream, an_upstream, served
from .chaos import PLACES
from .conftest import eventually

pytestmark = [POSIX, pytest.mark.slow]

SITE = Path(__file__).with_name("live_site")
SLOTS = 2
COMMANDS = {
    "gunicorn": (*GUNICORN, "--preload", "--workers", "4", "fleet_wsgi"),
    "uvicorn": (*UVICORN, "--workers", "4", "fleet_asgi:application"),
}


class Site:
    """The four workers, each behind a connection of its own."""

    def __init__(self, server: Server, upstream: Upstream, stack: ExitStack) -> None:
        self.server = server
        self.upstream = upstream
        self.clients: list[httpx.Client] = []
        workers: set[int] = set()

        def another() -> bool:
            client = stack.enter_context(server.client())
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


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return COMMANDS[request.param]


@pytest.fixture(params=PLACES)
def site(command: tuple[str, ...], request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as stack:
        place = PLACES[request.param]()
        stack.callback(place.close)
        upstream = stack.enter_context(an_upstream())
        env = {"PYTHONPATH": str(SITE), "FLEET_URL": place.url, "SLOTS": str(SLOTS)}
        server = stack.enter_context(served(*command, upstream=upstream.url, env=env))
        yield Site(server, upstream, stack)


def test_an_outage_under_four_workers(site: Site) -> None:
    """Two workers see it, four are open; then the service gets k probes, and not four times k."""
    upstream, (one, two, *_) = site.upstream, site.clients
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
    assert upstream.reached() == 6 + failed

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
        eventually(lambda: upstream.reached() == 6 + failed + SLOTS)
        enough = refused[0] + 200
        eventually(lambda: refused[0] >= enough)
        assert upstream.reached() == 6 + failed + SLOTS
    finally:
        upstream.gate.set()
        stop.set()
    for thread in threads:
        thread.join(30.0)
    eventually(lambda: site.states() == {"closed"})
    assert len({each["epoch"] for each in site.seen()}) == 1
