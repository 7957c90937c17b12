"""gunicorn with `--preload` and several workers, whose circuits were at work before the fork."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from .live_servers import (
    GUNICORN,
    POSIX,
    Server,
    Upstream,
    an_upstream,
    eventually,
    metrics,
    served,
)

pytestmark = [POSIX, pytest.mark.slow]

WORKERS = 3


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with an_upstream() as upstream:
        yield upstream


@pytest.fixture
def server(upstream: Upstream, tmp_path: Path) -> Iterator[Server]:
    command = (*GUNICORN, "--preload", "--workers", str(WORKERS), "--keep-alive", "60")
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    upstream.answers(200)
    with served(*command, "live_preloaded", upstream=upstream.url, env=shared) as server:
        yield server


@pytest.fixture
def workers(server: Server) -> Iterator[dict[str, httpx.Client]]:
    """A client of each worker, by the worker's process: its one connection stays with it."""
    with ExitStack() as stack:
        found: dict[str, httpx.Client] = {}
        for _ in range(500):
            client = stack.enter_context(server.client())
            found.setdefault(client.get("/_seen").headers["x-worker"], client)
            if len(found) == WORKERS:
                break
        assert len(found) == WORKERS, "some worker was never met"
        assert str(server.process.pid) not in found
        yield found


def test_circuits_work_after_the_fork(workers: dict[str, httpx.Client], upstream: Upstream) -> None:
    """Each worker goes on with the master's states, and starts counting at nothing."""
    for worker, client in workers.items():
        circuits = client.get("/_seen").json()
        assert circuits["payments"]["state"] == "closed"
        assert circuits["payments"]["settled"] == 0  # the call before the fork was the master's
        assert circuits["search"]["state"] == "open"
        reached = upstream.reached()
        assert client.get("/search/tea").json()["complete"] is False
        assert upstream.reached() == reached
        answer = client.get("/receipts/1")
        assert (answer.status_code, answer.headers["x-worker"]) == (200, worker)
        assert client.get("/_seen").json()["payments"]["settled"] == 1
        client.get("/_advance/30")  # this worker's clock, and no other's
        assert client.get("/search/tea").json()["complete"] is True


def test_each_workers_circuits_are_its_own(
    workers: dict[str, httpx.Client], upstream: Upstream
) -> None:
    """What opens one says nothing to the others: each needs its own failures."""
    reached = upstream.reached()
    first, *others = workers.values()

    def statuses(client: httpx.Client, requests: int) -> list[int]:
        return [client.get("/receipts/1").status_code for _ in range(requests)]

    upstream.answers(500)
    assert statuses(first, 4) == [502, 502, 503, 503]
    upstream.answers(200)
    for client in others:
        assert statuses(client, 4) == [200, 200, 200, 200]
        assert client.get("/_seen").json()["payments"]["rejected"] == 0
    assert statuses(first, 1) == [503]

    upstream.answers(500)
    reached = upstream.reached()
    for client in others:  # two of six failures are not yet half, four are
        assert statuses(client, 6) == [502, 502, 502, 502, 503, 503]
    assert upstream.reached() == reached + 4 * len(others)

    # Whichever is asked adds up what all of them have seen, and the master before it forked.
    expected = {
        ("fluxgate_calls_total", "payments", "failure"): 2 + 4 * len(others),
        ("fluxgate_calls_total", "payments", "success"): 4 * len(others) + 1,
        ("fluxgate_rejections_total", "payments"): 3 + 2 * len(others),
        ("fluxgate_circuits", "payments", "open"): WORKERS,
    }
    assert eventually(lambda: metrics(first), expected), metrics(first)
