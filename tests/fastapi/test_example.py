"""The example application, driven over real sockets."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from fluxgate import State
from fluxgate.registry import Registry
from fluxgate.testing import ManualClock, tripped

ROOT = Path(__file__).parents[2]


@pytest.fixture
def example() -> Iterator[ModuleType]:
    """`examples/fastapi_app.py`, imported anew."""
    path = ROOT / "examples" / "fastapi_app.py"
    spec = importlib.util.spec_from_file_location("fastapi_app_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_it_starts_with_its_own_settings(
    over_uvicorn: Any, example: ModuleType, upstream: Any
) -> None:
    client = over_uvicorn(example.create_app(upstream.url))
    assert client.post("/orders", json={"item": "tea", "amount": 1}).status_code == 200
    assert client.get("/receipts/1").status_code == 200
    assert client.get("/reports/1").status_code == 200
    assert client.get("/prices/tea").status_code == 200
    health = client.get("/health/circuits").json()
    assert health["status"] == "healthy"
    assert {"payments", "prices", "reports"} <= set(health["circuits"])


def test_an_outage(
    over_uvicorn: Any,
    example: ModuleType,
    upstream: Any,
    policy: dict[str, Any],
    clock: ManualClock,
) -> None:
    """Errors first, then 503s that cost the upstream nothing, then back to work."""
    policy |= {"tracker": 'TypeOf("httpx.HTTPError")'}
    registry = Registry(**policy)
    client = over_uvicorn(example.create_app(upstream.url, registry=registry))

    def order() -> Any:
        return client.post("/orders", json={"item": "tea", "amount": 1})

    assert client.get("/prices/tea").json()["fresh"] is True
    upstream.status = 503
    assert [order().status_code for _ in range(2)] == [502, 502]
    reached = upstream.reached
    answer = order()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert client.get("/receipts/1").status_code == 503  # the same circuit
    assert upstream.reached == reached
    assert client.get("/prices/tea").json()["fresh"] is False  # the last price known
    assert client.get("/health/circuits").status_code == 503  # payments are critical there

    upstream.status = 200
    clock.advance(30)
    assert [order().status_code for _ in range(2)] == [200, 200]
    assert registry["payments"].state is State.CLOSED


@pytest.mark.skipif(os.name == "nt", reason="uvicorn takes a socket by its number there")
def test_metrics_of_several_workers(upstream: Any, tmp_path: Path) -> None:
    """Whichever is asked adds up what all have counted."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    command = ["fastapi_app:app", "--workers", "2", "--fd", str(listening.fileno())]
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "UPSTREAM_URL": upstream.url,
        "FLUXGATE__PAYMENTS__RETRY": "Never()",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *command],
        cwd=ROOT / "examples",
        env=environment,
        pass_fds=[listening.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for _ in range(20):  # a connection each, so that both workers get some
            answer = httpx.post(f"{url}/orders", json={"item": "tea", "amount": 1}, timeout=30)
            assert answer.status_code == 200
        wanted = 'fluxgate_calls_total{circuit="payments",outcome="success"} 20.0'
        deadline = time.monotonic() + 30
        while wanted not in (page := httpx.get(f"{url}/metrics").text):  # written every 2 s
            assert time.monotonic() < deadline, page
            time.sleep(0.1)
    finally:
        server.terminate()
        server.communicate(timeout=30)
        listening.close()


@pytest.mark.parametrize("item", ["%00", "%1F", "%7F", "te%0Aa", "tea%0A", "T", "a" * 21])
def test_an_item_that_is_none_is_refused(
    over_uvicorn: Any, example: ModuleType, upstream: Any, item: str
) -> None:
    """Without reaching the upstream, in whose URL it would stand."""
    client = over_uvicorn(example.create_app(upstream.url))
    assert client.get(f"/prices/{item}").status_code == 422
    assert upstream.reached == 0


@pytest.mark.parametrize("state", ["closed", "open"])
def test_schemathesis_passes(
    serve: Any, example: ModuleType, upstream: Any, policy: dict[str, Any], state: str
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    hypothesis = pytest.importorskip("hypothesis")
    registry = Registry(**policy)
    server = serve(example.create_app(upstream.url, registry=registry))
    without: list[Any] = []
    if state == "open":
        for name in ("payments", "prices", "reports"):
            tripped(registry[name])
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi.checks import positive_data_acceptance

        without = [not_a_server_error, positive_data_acceptance]  # a documented 503 is the point
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    seen: dict[str, set[int]] = {}

    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=8,
            database=None,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def answers(case: Any) -> None:
            answer = case.call_and_validate(excluded_checks=without)
            seen.setdefault(case.path, set()).add(answer.status_code)

        answers()

    assert {"/orders", "/prices/{item}", "/receipts/{order}"} <= set(seen)
    assert (503 in seen["/orders"]) is (state == "open")
