"""The page's FastAPI example as it stands, and the same application written with this package.

The page calls a host of example.com. Here the request leaves httpx on the last step, its
transport, for an upstream on loopback; everything above and below that step is real, and so is
the server in front.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from fluxgate import AsyncCircuitBreaker, State
from fluxgate.permits import Random
from fluxgate.registry import Registry
from fluxgate.retries import Cooldown
from fluxgate.testing import LoadedDice, ManualClock
from fluxgate.trackers import TypeOf
from fluxgate.trippers import Closed, FailureRate, MinRequests
from fluxgate.windows import CountWindow
from fluxgate_fastapi import CIRCUIT_OPEN, Breaker, install

PAGE = Path(__file__).parents[2] / "docs" / "examples.ko.md"
HEADING = "### FastAPI 통합"


def snippet() -> str:
    """The page's block, unchanged."""
    section = PAGE.read_text(encoding="utf-8").partition(HEADING)[2]
    found = re.search(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def seed() -> tuple[FastAPI, AsyncCircuitBreaker]:
    names: dict[str, Any] = {}
    exec(compile(snippet(), str(PAGE), "exec", dont_inherit=True), names)
    return names["app"], names["cb"]


def ours(**settings: Any) -> tuple[FastAPI, Callable[[], AsyncCircuitBreaker]]:
    """The same, without a try/except, without a decorator, and with a true 503."""
    app = FastAPI()
    registry = Registry(**settings)
    install(app, registry=registry)

    ExternalAPI = Annotated[
        AsyncCircuitBreaker,
        Depends(
            Breaker(
                "external_api",
                window=CountWindow(size=100),
                tracker=TypeOf(httpx.HTTPError),
                tripper=Closed() & MinRequests(10) & FailureRate(0.5),
                retry=Cooldown(duration=60.0),
                permit=Random(ratio=0.5),
            )
        ),
    ]

    async def fetch() -> Any:
        async with httpx.AsyncClient() as client:
            response = await client.get("https://api.example.com/data")
            response.raise_for_status()
            return response.json()

    @app.get("/data", responses=CIRCUIT_OPEN)
    async def get_data(external_api: ExternalAPI) -> Any:
        return await external_api.call(fetch)

    return app, lambda: registry.asynchronous["external_api"]


@pytest.fixture
def example_com(upstream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The upstream, which answers for every host of example.com."""
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def redirected(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.url.host.endswith(".example.com"):
            assert request.url.scheme == "https"
            port = upstream.server_address[1]
            request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=port)
        return await handle(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", redirected)
    # TLS settings are loaded anew for every client, at twenty times the cost of a request.
    context = httpx.create_ssl_context()
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", lambda **_: context)
    return upstream


def test_the_page_has_the_example() -> None:
    assert "AsyncCircuitBreaker(" in snippet()
    assert "except CallNotPermittedError" in snippet()


def test_as_it_stands(over_uvicorn: Any, example_com: Any) -> None:
    app, breaker = seed()
    client = over_uvicorn(app)
    assert client.get("/data").json() == {"fresh": True}

    example_com.status = 503
    assert [client.get("/data").status_code for _ in range(9)] == [500] * 9
    assert breaker.state is State.OPEN
    assert example_com.reached == 10

    answer = client.get("/data")
    assert (answer.status_code, answer.json()) == (503, {"detail": "Service unavailable"})
    assert "retry-after" not in answer.headers  # which is what ours adds
    assert example_com.reached == 10


def test_as_it_stands_beside_install(over_uvicorn: Any) -> None:
    """To begin with, one line: the page's own `except` goes on answering."""
    app, breaker = seed()
    install(app)
    breaker.force_open()
    answer = over_uvicorn(app).get("/data")
    assert (answer.status_code, answer.json()) == (503, {"detail": "Service unavailable"})


@pytest.mark.usefixtures("example_com")
def test_with_install_the_except_may_go(over_uvicorn: Any) -> None:
    """The same page without its try/except; the breaker is still the module's own."""
    code = snippet()
    kept, _, rest = code.partition("    try:\n")
    body = rest.partition("    except CallNotPermittedError")[0]
    names: dict[str, Any] = {}
    exec(kept + re.sub(r"^    ", "", body, flags=re.MULTILINE), names)
    install(names["app"])
    client = over_uvicorn(names["app"])
    assert client.get("/data").json() == {"fresh": True}
    names["cb"].open_for(3600)
    answer = client.get("/data")
    assert answer.status_code == 503
    assert 3500 <= int(answer.headers["retry-after"]) <= 3600


def test_rewritten(over_uvicorn: Any, example_com: Any) -> None:
    """Call for call what the page's application does, and the time to come back."""
    clock = ManualClock()
    app, breaker = ours(clock=clock, dice=LoadedDice(0.0))
    client = over_uvicorn(app)
    assert client.get("/data").json() == {"fresh": True}

    example_com.status = 503
    assert [client.get("/data").status_code for _ in range(9)] == [500] * 9
    assert breaker().state is State.OPEN
    assert example_com.reached == 10

    clock.advance(0.5)
    answer = client.get("/data")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert answer.json()["status"] == 503
    assert "example" not in answer.text
    assert example_com.reached == 10

    example_com.status = 200
    clock.advance(60)
    assert client.get("/data").json() == {"fresh": True}
    assert example_com.reached == 11


def test_both_have_the_same_policy(over_test_client: Any) -> None:
    _, theirs = seed()
    app, breaker = ours()
    over_test_client(app)
    assert breaker().policy == theirs.policy
