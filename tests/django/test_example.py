"""The example project as it stands, with its own settings and on the real clock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from .live_servers import EXAMPLE, POSIX, UVICORN, Server, Upstream, an_upstream, metrics, served

pytestmark = POSIX

CIRCUITS = {"payments", "prices", "search"}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with an_upstream() as upstream:
        yield upstream


@pytest.fixture
def server(upstream: Upstream) -> Iterator[Server]:
    command = (*UVICORN, "shop.asgi:application")
    with served(*command, upstream=upstream.url, settings="shop.settings") as server:
        yield server


@pytest.fixture
def shop(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def order(shop: httpx.Client, item: str = "tea", amount: int = 1) -> httpx.Response:
    return shop.post("/orders", data={"item": item, "amount": amount})


def test_djangos_checks_find_nothing() -> None:
    checked = subprocess.run(
        [sys.executable, "manage.py", "check", "--fail-level", "INFO"],
        cwd=EXAMPLE,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "shop.settings"},
        capture_output=True,
        text=True,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "no issues" in checked.stdout


def test_it_works_and_shows_its_circuits(shop: httpx.Client, upstream: Upstream) -> None:
    assert order(shop).json() == {"text": "here"}
    assert shop.get("/receipts/1").json() == {"text": "here"}
    assert shop.get("/prices/tea").json() == {"text": "here", "fresh": True}
    assert shop.get("/search/tea").json()["results"] == ["here"]
    assert shop.get("/stock/tea").json() == {"text": "here"}
    circuits = shop.get("/health/circuits").json()
    assert circuits.keys() == CIRCUITS | {upstream.url.removeprefix("http://")}
    assert {each["state"] for each in circuits.values()} == {"closed"}


def test_what_is_no_order_goes_no_further(shop: httpx.Client, upstream: Upstream) -> None:
    for item, amount in (("", 1), ("Tea", 1), ("te/a", 1), ("a" * 21, 1), ("tea", 0)):
        assert order(shop, item, amount).status_code == 400
    assert shop.get("/orders").status_code == 405
    for item in ("Tea", "te%0Aa", "tea%0A", "a" * 21):
        assert shop.get(f"/prices/{item}").status_code == 404
    assert upstream.reached() == 0


def test_an_outage_by_its_own_settings(
    server: Server, shop: httpx.Client, upstream: Upstream
) -> None:
    """Told by the answers, by /metrics, by /health/circuits, and in the log."""
    order(shop)
    upstream.answers(500)
    statuses = [order(shop).status_code for _ in range(10)]
    assert statuses == [502] * 4 + [503] * 6  # five calls, of which more than half failed
    assert order(shop).headers["retry-after"] in ("5", "6")  # jittered
    assert upstream.reached() == 5

    counted = metrics(shop)
    assert counted["fluxgate_calls_total", "payments", "success"] == 1
    assert counted["fluxgate_calls_total", "payments", "failure"] == 4
    assert counted["fluxgate_rejections_total", "payments"] == 7
    assert counted["fluxgate_trips_total", "payments", "FailureRate(0.5)"] == 1
    assert counted["fluxgate_circuit_state", "payments", "open"] == 1
    assert shop.get("/health/circuits").json()["payments"]["state"] == "open"
    assert "circuit 'payments': closed -> open: FailureRate(0.5): 0.8 over 5 calls" in server.log
