"""schemathesis against an example application: it answers as its OpenAPI document says."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel, Field

from fluxgate import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.registry import Registry
from fluxgate.testing import tripped
from fluxgate_fastapi import (
    CIRCUIT_OPEN,
    CIRCUIT_OPEN_PLAIN,
    Breaker,
    BreakerRoute,
    guard,
    health,
    install,
)

schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")

Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))]
SyncPayments = Annotated[CircuitBreaker, Depends(Breaker("payments", sync=True))]


class Order(BaseModel):
    amount: float = Field(gt=0, allow_inf_nan=False)
    customer: str


class Receipt(BaseModel):
    amount: float
    customer: str


def shop(registry: Registry, **options: Any) -> FastAPI:
    """All that the package has on one page."""
    documented = CIRCUIT_OPEN if options.get("problem_json", True) else CIRCUIT_OPEN_PLAIN
    app = FastAPI()
    install(app, registry=registry, **options)

    async def gateway(order: Order) -> Receipt:
        return Receipt(**order.model_dump())

    @app.post("/charge", responses=documented)
    async def charge(order: Order, payments: Payments) -> Receipt:
        return await payments.call(gateway, order)

    @app.post("/refund", responses=documented)
    def refund(order: Order, payments: SyncPayments) -> Receipt:
        return payments.call(Receipt, **order.model_dump())

    @app.get("/search", dependencies=[guard("search")], responses=documented)
    async def search(word: str) -> str:
        return word

    router = APIRouter(route_class=BreakerRoute.named("items"), responses=documented)

    @router.get("/items/{number}")
    async def item(number: int) -> int:
        return number

    app.include_router(router)
    app.include_router(health())
    return app


CIRCUITS = ["payments", "search", "items"]


@pytest.mark.parametrize("problem_json", [True, False], ids=["problem", "plain"])
@pytest.mark.parametrize("state", ["closed", "open", "forced_open"])
def test_it_answers_as_documented(policy: dict[str, Any], state: str, problem_json: bool) -> None:
    registry = Registry(**policy)
    app = shop(registry, problem_json=problem_json)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    unhealthy: list[Any] = []
    if state != "closed":
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi.checks import positive_data_acceptance

        # What these two find is the point here: a documented 503.
        unhealthy = [not_a_server_error, positive_data_acceptance]
    for circuit in CIRCUITS:
        if state == "open":
            tripped(registry[circuit])
        elif state == "forced_open":
            registry[circuit].force_open()
    statuses: dict[str, set[int]] = {}

    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=15,
            database=None,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def answers(case: Any) -> None:
            answer = case.call_and_validate(excluded_checks=unhealthy)
            statuses.setdefault(case.path, set()).add(answer.status_code)

        answers()

    assert set(statuses) == {"/charge", "/refund", "/search", "/items/{number}", "/health/circuits"}
    refused = {path for path, seen in statuses.items() if 503 in seen}
    assert refused == (set() if state == "closed" else set(statuses) - {"/health/circuits"})
