"""A FastAPI application behind circuits: every part is one to copy.

    UPSTREAM_URL=http://127.0.0.1:9000 uvicorn fastapi_app:app
    FLUXGATE__PAYMENTS__RETRY="Cooldown(5)" python examples/fastapi_app.py

    POST /orders              an outgoing call through a circuit; open: 503 with Retry-After
    GET  /prices/{item}       the same with a fallback: the last price known
    GET  /receipts/{order}    a sync endpoint on the same circuit as /orders
    GET  /reports/{number}    an endpoint that is itself behind a circuit, judged by status
    WS   /tracking            a WebSocket
    GET  /health/circuits     what the circuits are doing
    GET  /metrics             the same for Prometheus
    GET  /circuits/           the console: the same as a page, behind a login, with controls

    CONSOLE_ACCOUNTS="alice:PASSWORD bob:PASSWORD"  who may see the console; without, nobody
    CONSOLE_ON_CALL="alice"                         which of them may act
    CONSOLE_SECRET=...                              the same for all workers
    FLEET_URL=sqlite:///run/shop/fluxgate.db        what workers share their circuits through

It needs httpx, uvicorn and fluxgate-fastapi, with its extra `settings` to heed the environment, and
prometheus-client.
"""

import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.requests import HTTPConnection
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, Field

from fluxgate import AsyncCircuitBreaker, CallNotPermittedError, CircuitBreaker
from fluxgate.listeners import PrometheusCollector
from fluxgate.registry import Registry
from fluxgate_fastapi import CIRCUIT_OPEN, Breaker, BreakerRoute, console, health, install

SETTINGS: dict[str, Any] = {
    "defaults": {
        "tripper": "MinRequests(10) & (FailureRate(0.5) | SlowRate(0.5, 1.0))",
        "tracker": 'TypeOf("httpx.HTTPError")',
        "retry": "Backoff(5, jitter_ratio=0.1)",
    },
    # One order that fails costs more than one price that is old.
    "prices": {"tripper": "MinRequests(10) & FailureRate(0.8)"},
}

# Each is a type that a function can ask for: declared once, used anywhere.
Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))]
SyncPayments = Annotated[CircuitBreaker, Depends(Breaker("payments", sync=True))]
Prices = Annotated[AsyncCircuitBreaker, Depends(Breaker("prices"))]


class Upstream:
    """The service that this one depends on, with its clients and its circuits kept apart.

    A time-out belongs here, inside the protected call: then it is a failure that the circuit
    counts. Around the call it would be a cancellation, which says nothing.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.asynchronous = httpx.AsyncClient(base_url=url, timeout=timeout)
        self.sync = httpx.Client(base_url=url, timeout=timeout)

    async def get(self, path: str) -> str:
        answer = await self.asynchronous.get(path)
        answer.raise_for_status()  # an HTTPStatusError is an HTTPError: the tracker counts it
        return answer.text

    def get_sync(self, path: str) -> str:
        return self.sync.get(path).raise_for_status().text

    async def close(self) -> None:
        await self.asynchronous.aclose()
        self.sync.close()


def upstream_of(connection: HTTPConnection) -> Upstream:
    return connection.app.state.upstream


# It becomes a part of the upstream's URL, which can't hold everything that ours can.
Item = Annotated[str, Field(pattern="^[a-z]{1,20}$")]


class Order(BaseModel):
    item: Item
    amount: int = Field(gt=0, le=1000)


class Answer(BaseModel):
    text: str
    fresh: bool = True


class Failed(BaseModel):
    detail: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    **CIRCUIT_OPEN,
    502: {"model": Failed, "description": "A service that this operation needs failed"},
}

router = APIRouter(responses=RESPONSES)


@router.post("/orders")
async def order(order: Order, request: Request, payments: Payments) -> Answer:
    # No try/except: an open circuit becomes a 503, an error of the upstream's a 502 (below).
    return Answer(text=await payments.call(upstream_of(request).get, f"/charge/{order.item}"))


@router.get("/receipts/{order}")
def receipt(order: int, request: Request, payments: SyncPayments) -> Answer:
    return Answer(text=payments.call(upstream_of(request).get_sync, f"/receipt/{order}"))


@router.get("/prices/{item}")
async def price(item: Item, request: Request, prices: Prices) -> Answer:
    known: dict[str, str] = request.app.state.known_prices

    def last_known(error: Exception) -> Answer:
        # A fallback gets every error: answer to those that are meant, and raise the others.
        if item in known and isinstance(error, (CallNotPermittedError, httpx.HTTPError)):
            return Answer(text=known[item], fresh=False)
        raise error

    async def fetch() -> Answer:
        known[item] = text = await upstream_of(request).get(f"/price/{item}")
        return Answer(text=text)

    return await prices.call_with_fallback(fetch, last_known)


@router.websocket("/tracking")
async def tracking(websocket: WebSocket, payments: Payments) -> None:
    # Refused before accept(), the client gets the 503; afterwards, close code 1013.
    first = await payments.call(upstream_of(websocket).get, "/position")
    await websocket.accept()
    await websocket.send_text(first)
    await websocket.close()


# Endpoints behind a circuit of their own: it opens on what they answer.
reports = APIRouter(
    prefix="/reports",
    responses=RESPONSES,
    route_class=BreakerRoute.named("reports", statuses={502, 503, 504}),
)


@reports.get("/{number}")
async def report(number: int, request: Request) -> Answer:
    try:
        return Answer(text=await upstream_of(request).get(f"/report/{number}"))
    except httpx.HTTPError as error:
        raise HTTPException(502, "The report can't be made now") from error


# Read when Prometheus asks, so that measuring costs the calls nothing.
METRICS = CollectorRegistry()
PrometheusCollector(METRICS)
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # Several workers (`uvicorn --workers 4`), each with circuits of its own: they write figures
    # to that folder (empty it before the start), and whichever of them is asked adds all up.
    MultiProcessCollector(METRICS)


def metrics(request: Request) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(METRICS), media_type=content_type)


# Whoever may see the console, and whoever may act. They are dependencies: yours look at whatever
# your application knows its users by, such as a session, a token or a header of its proxy.
def accounts() -> dict[str, str]:
    """Passwords by name, from the environment."""
    given = os.environ.get("CONSOLE_ACCOUNTS", "").split()
    return {name: password for name, _, password in (each.partition(":") for each in given)}


def operator(credentials: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> str:
    # A name that is not there takes as long as one that is, with a password that can't be guessed.
    expected = accounts().get(credentials.username) or secrets.token_hex()
    if not secrets.compare_digest(credentials.password.encode(), expected.encode()):
        raise HTTPException(401, "Who are you?", {"WWW-Authenticate": "Basic"})
    return credentials.username  # it stands in the audit


def on_call(name: Annotated[str, Depends(operator)]) -> str:
    if name not in os.environ.get("CONSOLE_ON_CALL", "").split():
        raise HTTPException(403, "You may look, and not act")
    return name


async def bad_gateway(_request: Request, _error: Exception) -> JSONResponse:
    """What the upstream's own errors become, while the circuit is closed."""
    return JSONResponse({"detail": "A service that this request needs failed"}, 502)


def create_app(
    upstream_url: str,
    config: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    timeout: float = 2.0,
    single_process: bool = False,
) -> FastAPI:
    """The application in front of an upstream, each call to which may take `timeout` seconds.

    The circuits have the settings above, or those of `config`, or are those of `registry`. Where
    nothing shares them with other processes, the console controls them only in a `single_process`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.upstream = Upstream(upstream_url, timeout)
        app.state.known_prices = {}
        yield
        await app.state.upstream.close()

    app = FastAPI(title="A shop behind circuits", lifespan=lifespan)
    if config is None and registry is None:
        config = SETTINGS
    if registry is None:
        install(app, config=config, fleet=os.environ.get("FLEET_URL"))
    else:
        install(app, registry=registry)
    app.add_exception_handler(httpx.HTTPError, bad_gateway)
    app.include_router(router)
    app.include_router(reports)
    app.include_router(health(critical={"payments"}))
    app.add_api_route("/metrics", metrics, include_in_schema=False)
    app.include_router(
        console(
            read=Depends(operator),
            control=Depends(on_call),
            # Made up here, it is another one in each worker: forms of one would not do for another.
            secret=os.environ.get("CONSOLE_SECRET") or secrets.token_hex(),
            critical={"payments"},
            single_process=single_process,
        ),
        prefix="/circuits",
    )
    return app


def from_environment() -> Mapping[str, Any]:
    """The settings above, under those of `FLUXGATE__<CIRCUIT>__<SETTING>`."""
    try:
        from fluxgate_fastapi.settings import FluxgateSettings
    except ImportError:  # the extra `settings` is not installed
        return SETTINGS
    merged: dict[str, Any] = dict(SETTINGS)
    for name, given in FluxgateSettings().fluxgate.items():
        merged[name] = given if isinstance(given, str) else {**SETTINGS.get(name, {}), **given}
    return merged


app = create_app(
    os.environ.get("UPSTREAM_URL", "http://127.0.0.1:9000"),
    from_environment(),
    single_process=__name__ == "__main__",  # not where uvicorn has imported this, in each worker
)

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
