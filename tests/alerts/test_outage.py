"""The alerts that we ship, fired by a real Prometheus that scrapes real circuits in an outage.

The rules' times are shortened: a minute becomes a second, and Prometheus scrapes twice in one, as
it would every 30 seconds. Everything else is as shipped: the rules' expressions, the pages that
prometheus-client serves, the breakers, whose clock is the real one.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from socket import create_server
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

from fluxgate import CallNotPermittedError, CircuitBreaker
from fluxgate.fleet import Fleet
from fluxgate.listeners import PrometheusCollector
from fluxgate.permits import All
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown
from fluxgate.trippers import FailureRate, MinRequests
from fluxgate.windows import CountWindow

SHIPPED = Path(__file__).parents[2] / "docs" / "prometheus"
PATIENCE = 60.0
SETTINGS: dict[str, Any] = {
    "window": CountWindow(10),
    "tripper": MinRequests(5) & FailureRate(0.5),
    "retry": Cooldown(1.0),
    "permit": All(),
    "max_half_open_calls": 1,
}


def in_seconds(rules: str) -> str:
    """The rules with a second for each minute, and a minute for each hour."""
    shortened = re.sub(r"\b(\d+)m\b", r"\1s", rules)
    return re.sub(r"\b(\d+)h\b", r"\1m", shortened)


class Service:
    """A process's circuits and its page, and calls of them ten times a second.

    Attributes:
        broken: circuits whose calls fail.
        called: circuits that are called.
        reset: circuits that are reset after each call, in the whole fleet.
    """

    def __init__(self, fleet: Fleet | None = None) -> None:
        self.circuits = Registry(fleet=fleet, **SETTINGS)
        self.broken: set[str] = set()
        self.called: set[str] = set()
        self.reset: set[str] = set()
        page = CollectorRegistry()
        PrometheusCollector(page, circuits=self.circuits.values)
        self._server, _ = start_http_server(0, addr="127.0.0.1", registry=page)
        self.target = f"127.0.0.1:{self._server.server_port}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            for name in sorted(self.called):
                self.call(name)
            for name in sorted(self.reset):
                self.circuits[name].reset(fleet=True)

    def call(self, name: str) -> None:
        with suppress(CallNotPermittedError, ConnectionError):
            self.circuits[name].call(self._answer, name)

    def _answer(self, name: str) -> None:
        if name in self.broken:
            raise ConnectionError(name)

    def close(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE)
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Prometheus:
    """A running Prometheus, and the alerts that it has fired so far."""

    port: int
    fired: set[tuple[str, str, str]] = field(default_factory=set)

    def query(self, expression: str) -> list[dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", f"/api/v1/query?query={quote(expression)}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def firing(self) -> set[tuple[str, str, str]]:
        """The alerts that fire now, each with its job and circuit."""
        labels = [each["metric"] for each in self.query('ALERTS{alertstate="firing"}')]
        now = {(each["alertname"], each["job"], each.get("circuit", "")) for each in labels}
        self.fired |= now
        return now

    def wait(self, what: str, reached: Callable[[set[tuple[str, str, str]]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached(now := self.firing()):
            assert time.monotonic() < deadline, f"{what} within {PATIENCE} s; firing: {sorted(now)}"
            time.sleep(0.2)


class Services:
    """The processes of three services.

    Attributes:
        shop: a service of one process, where things happen.
        stock: another, where all is well.
        web: two processes of a service whose circuits are in a fleet, and a third that was given
            another URL by mistake.
        file: the store of the first two.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.file = folder / "fleet.db"
        urls = [f"sqlite://{each}" for each in (self.file, self.file, folder / "stray.db")]
        fleets = [stack.enter_context(Fleet(url)) for url in urls]
        self.shop, self.stock = Service(), Service()
        self.web = [Service(fleet) for fleet in fleets]
        for service in (self.shop, self.stock, *self.web):
            stack.callback(service.close)
        for process in self.web:
            assert process.circuits["rates"].state == "closed"  # starts the fleet's threads

    def jobs(self) -> dict[str, list[str]]:
        """The pages of each service."""
        return {
            "shop": [self.shop.target],
            "stock": [self.stock.target],
            "web": [each.target for each in self.web],
        }


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with ExitStack() as stack:
        yield Services(tmp_path_factory.mktemp("fleet"), stack)


@pytest.fixture(scope="module")
def prometheus(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "alerts.yml").write_text(in_seconds((SHIPPED / "alerts.yml").read_text("utf-8")))
    settings = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": targets}]}
            for job, targets in services.jobs().items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    executable = shutil.which("prometheus")
    assert executable is not None, "the session `alerts` looks for it"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                executable,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    running = Prometheus(port)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError, json.JSONDecodeError):  # no server yet, or one that isn't ready
                if len(running.query("up == 1")) == sum(map(len, services.jobs().values())):
                    break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield running
    finally:
        process.terminate()
        process.wait(PATIENCE)


def flap(breaker: CircuitBreaker) -> None:
    """Open and closed again at once: between two scrapes, where no gauge shows it."""
    breaker.open_for(1e-9)
    time.sleep(0.001)
    for _ in range(10):
        breaker.call(int)
    assert breaker.state == "closed"


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep everybody else from writing to a store."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=PATIENCE)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield


def test_an_outage_from_its_beginning_to_its_end(
    services: Services, prometheus: Prometheus
) -> None:
    """Outages of a process and of a fleet, and the troubles that a fleet has with its store."""
    shop, stock, web = services.shop, services.stock, services.web
    for name in ("payments", "search", "weak"):
        shop.called.add(name)
    stock.called.add("payments")  # a circuit of that name in another service, which is well
    for process in web[:2]:
        process.called |= {"rates", "quotes", "fees"}
    web[2].called.add("quotes")
    time.sleep(3)
    assert prometheus.firing() == set()

    # A host that was taken away in mid-outage: five rounds of probes failed, then nobody called.
    shop.circuits.declare("gone", retry=Cooldown(1e-9))
    shop.broken |= {"gone", "payments"}
    for _ in range(50):
        shop.call("gone")
    assert shop.circuits["gone"].info().reopens >= 5
    # Beside it, of a fleet: an outage; resets all the time, so that counts are of older epochs; and
    # two stores, which can't agree.
    for process in web[:2]:
        process.broken.add("rates")
    web[0].reset.add("fees")
    web[0].circuits["quotes"].disable(fleet=True)
    lasting = {
        ("FluxgateCircuitOpen", "shop", "payments"),
        ("FluxgateCallsRefused", "shop", "payments"),
        ("FluxgateProbesFail", "shop", "payments"),
        ("FluxgateCircuitOpenLong", "shop", "payments"),
        ("FluxgateFleetCircuitOpen", "web", "rates"),
        ("FluxgateFleetDropsCalls", "web", ""),
        ("FluxgateFleetDisagrees", "web", "quotes"),
    }
    prometheus.wait("the outage", lasting.issubset)

    # It is over, and another one comes and goes too fast for a gauge.
    shop.broken.clear()
    for process in web:
        process.broken.clear()
    web[0].reset.clear()
    web[0].circuits["quotes"].reset(fleet=True)
    over = {"payments", "rates", "quotes"}
    prometheus.wait("its end", lambda now: not any(over & set(each) for each in now))
    for _ in range(4):
        flap(shop.circuits["weak"])
        time.sleep(1)
    prometheus.wait("flapping", lambda now: ("FluxgateCircuitFlapping", "shop", "weak") in now)

    # The fleet's store is lost, and found again.
    detached = ("FluxgateFleetDetached", "web", "")
    with locked(services.file):
        prometheus.wait("the loss of the store", lambda now: detached in now)
    # The host that nobody calls: its last call is too long ago, and it still stands open.
    prometheus.wait(
        "silence", lambda now: detached not in now and not any("gone" in each for each in now)
    )
    assert shop.circuits["gone"].info().reopens >= 5
    expected = {"shop": {"payments", "weak", "gone"}, "web": {"rates", "quotes", ""}}
    assert {each for each in prometheus.fired if each[2] not in expected.get(each[1], ())} == set()
    assert {name for name, job, each in prometheus.fired if job == "web" and not each} == {
        "FluxgateFleetDropsCalls",
        "FluxgateFleetDetached",
    }


def test_every_panel_has_data(services: Services, prometheus: Prometheus) -> None:
    """The dashboard's queries, as Grafana would send them an hour after that."""
    board = json.loads((SHIPPED / "dashboard.json").read_text("utf-8"))
    filled = {"$__rate_interval": "2m", "$__range": "2m", "$job": ".*", "$instance": ".*"}
    empty = []
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$circuit", ".*")
            for variable, value in filled.items():
                query = query.replace(variable, value)
            if not prometheus.query(query):
                empty.append(panel["title"])
    assert services
    assert empty == ["95th percentile", "Slow calls"]  # no circuit here has buckets or SlowRate
