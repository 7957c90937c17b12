"""`health()`: the circuits as JSON. An open one is a dependency's illness, not the service's."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException

from fluxgate import AsyncCircuitBreaker, CircuitBreaker
from fluxgate.registry import Registry
from fluxgate.testing import ManualClock
from fluxgate_fastapi import Breaker, health, install

PATH = "/health/circuits"

Opened = Callable[[str], CircuitBreaker]


def app_with(registry: Registry, **options: Any) -> FastAPI:
    app = FastAPI()
    install(app, registry=registry)
    app.include_router(health(registry, **options))
    return app


def test_no_circuits_yet(over_test_client: Any, registry: Registry) -> None:
    answer = over_test_client(app_with(registry)).get(PATH)
    assert answer.status_code == 200
    assert answer.json() == {"status": "healthy", "circuits": {}}


def test_each_circuit_by_its_name(drive: Any, registry: Registry, opened: Opened) -> None:
    registry["stock"].call(int)
    opened("payments")
    body = drive(app_with(registry)).get(PATH).json()
    assert set(body["circuits"]) == {"stock", "payments"}
    stock, payments = body["circuits"]["stock"], body["circuits"]["payments"]
    assert (stock["state"], stock["calls"], stock["failure_rate"]) == ("closed", 1, 0.0)
    assert stock["retry_after"] is stock["reason"] is None
    assert (payments["state"], payments["retry_after"]) == ("open", 30.0)
    assert payments["reason"].startswith("FailureRate(0.5)")
    assert " in CountWindow(100)" in payments["reason"]


def test_a_name_that_utf_8_can_not_carry(drive: Any, registry: Registry, opened: Opened) -> None:
    opened("caf\udce9")
    answer = drive(app_with(registry, critical={"caf\udce9"})).get(PATH)
    assert answer.status_code == 503
    assert list(answer.json()["circuits"]) == ["caf\\udce9"]


@pytest.mark.parametrize("how", ["open", "half-open", "forced"])
def test_degraded_is_not_unhealthy(
    over_test_client: Any, registry: Registry, opened: Opened, clock: ManualClock, how: str
) -> None:
    """A restart would not heal the dependency, and lose what works."""
    if how == "forced":
        registry["payments"].force_open()
    else:
        opened("payments")
    if how == "half-open":
        clock.advance(30)
        registry["payments"].call(int)
    answer = over_test_client(app_with(registry)).get(PATH)
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert (
        answer.json()["circuits"]["payments"]["state"]
        == {
            "open": "open",
            "half-open": "half_open",
            "forced": "forced_open",
        }[how]
    )


@pytest.mark.parametrize("state", ["metrics_only", "disabled"])
def test_states_that_let_all_pass_are_healthy(
    over_test_client: Any, registry: Registry, state: str
) -> None:
    getattr(registry["payments"], state.removesuffix("d"))() if state == "disabled" else (
        registry["payments"].metrics_only()
    )
    answer = over_test_client(app_with(registry)).get(PATH)
    assert answer.json()["status"] == "healthy"
    assert answer.json()["circuits"]["payments"]["state"] == state


def test_a_critical_circuit_makes_it_unhealthy_on_request(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    client = over_test_client(app_with(registry, critical={"database"}))
    opened("payments")
    assert (client.get(PATH).status_code, client.get(PATH).json()["status"]) == (200, "degraded")
    opened("database")
    assert (client.get(PATH).status_code, client.get(PATH).json()["status"]) == (503, "unhealthy")


def test_a_critical_circuit_that_is_probing_is_degraded(
    over_test_client: Any, registry: Registry, opened: Opened, clock: ManualClock
) -> None:
    opened("database")
    clock.advance(30)
    registry["database"].call(int)
    answer = over_test_client(app_with(registry, critical={"database"})).get(PATH)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")


def test_a_critical_circuit_that_may_probe_gets_its_traffic_back(
    over_test_client: Any, registry: Registry, opened: Opened, clock: ManualClock
) -> None:
    """It turns half-open at a call, and there is none as long as this says 503."""
    opened("database")
    client = over_test_client(app_with(registry, critical={"database"}))
    clock.advance(29)
    assert client.get(PATH).status_code == 503
    clock.advance(1)
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["circuits"]["database"]["state"] == "open"
    registry["database"].force_open()
    assert client.get(PATH).status_code == 503


def test_a_string_in_place_of_names_is_refused() -> None:
    with pytest.raises(TypeError, match="critical"):
        health(critical="database")


def test_the_registry_of_the_application_by_default(
    over_test_client: Any, registry: Registry, opened: Opened
) -> None:
    app = FastAPI()
    install(app, registry=registry)
    app.include_router(health())
    opened("payments")
    assert over_test_client(app).get(PATH).json()["status"] == "degraded"


def test_of_an_application_without_install_too(over_test_client: Any, fresh_name: str) -> None:
    app = FastAPI()
    app.include_router(health())

    @app.get("/")
    async def root(
        breaker: Annotated[AsyncCircuitBreaker, Depends(Breaker(fresh_name))],
    ) -> str:
        return breaker.name

    client = over_test_client(app)
    assert client.get("/").json() == fresh_name
    assert client.get(PATH).json()["circuits"][fresh_name]["state"] == "closed"


def test_looking_makes_and_moves_nothing(
    over_test_client: Any, registry: Registry, opened: Opened, clock: ManualClock
) -> None:
    opened("payments")
    clock.advance(31)  # a call would be a probe now
    client = over_test_client(app_with(registry, critical={"database"}))
    for _ in range(3):
        assert client.get(PATH).json()["circuits"]["payments"]["state"] == "open"
    assert list(registry) == ["payments"]
    assert registry["payments"].info().totals.rejected == 0


def test_nobody_caches_it(over_test_client: Any, registry: Registry) -> None:
    assert over_test_client(app_with(registry)).get(PATH).headers["cache-control"] == "no-store"


def test_it_can_stand_elsewhere_and_be_kept_from_the_public(
    over_test_client: Any, registry: Registry
) -> None:
    async def staff_only() -> None:
        raise HTTPException(403)

    app = FastAPI()
    app.include_router(
        health(registry, path="/circuits", dependencies=[Depends(staff_only)]), prefix="/internal"
    )
    client = over_test_client(app)
    assert client.get("/internal/circuits").status_code == 403
    assert client.get(PATH).status_code == 404


def test_it_is_in_the_schema(registry: Registry) -> None:
    responses = app_with(registry).openapi()["paths"][PATH]["get"]["responses"]
    assert {"200", "503"} <= set(responses)
