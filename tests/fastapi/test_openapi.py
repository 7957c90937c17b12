"""What the OpenAPI document says about refusals."""

import json
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI

from fluxgate import AsyncCircuitBreaker
from fluxgate.registry import Registry
from fluxgate.testing import tripped
from fluxgate_fastapi import CIRCUIT_OPEN, CIRCUIT_OPEN_PLAIN, Breaker, install

Payments = Annotated[AsyncCircuitBreaker, Depends(Breaker("payments"))]


def shop(registry: Registry, **options: Any) -> FastAPI:
    app = FastAPI()
    install(app, registry=registry, **options)
    documented = CIRCUIT_OPEN if options.get("problem_json", True) else CIRCUIT_OPEN_PLAIN

    @app.post("/charge", responses=documented)
    async def charge(payments: Payments) -> str:
        async def gateway() -> str:
            return "charged"

        return await payments.call(gateway)

    return app


def response(app: FastAPI, path: str = "/charge", method: str = "post") -> dict[str, Any]:
    """The documented 503 of an operation."""
    document = json.loads(json.dumps(app.openapi()))
    return document["paths"][path][method]["responses"]["503"]


def resolved(app: FastAPI, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema, wherever it is written."""
    if "$ref" not in schema:
        return schema
    found: Any = app.openapi()
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_circuit_open_describes_the_503(registry: Registry) -> None:
    app = shop(registry)
    described = response(app)
    assert described["description"]
    assert list(described["content"]) == ["application/problem+json"]
    content = described["content"]["application/problem+json"]
    schema = resolved(app, content["schema"])
    assert schema["type"] == "object"
    assert {"type", "title", "status", "detail"} <= set(schema["properties"])
    assert content["example"]["status"] == 503
    assert set(schema.get("required", ())) <= set(content["example"])
    assert set(content["example"]) <= set(schema["properties"])


def test_the_header_is_described(registry: Registry) -> None:
    header = response(shop(registry))["headers"]["Retry-After"]
    assert header["schema"]["type"] == "integer"
    assert header["description"]
    assert not header.get("required", False)  # absent when nobody knows


def test_the_success_is_still_described(registry: Registry) -> None:
    responses = shop(registry).openapi()["paths"]["/charge"]["post"]["responses"]
    assert {"200", "503"} <= set(responses)


@pytest.mark.parametrize("problem_json", [True, False], ids=["problem", "plain"])
def test_the_example_is_what_is_sent(
    over_test_client: Any, registry: Registry, problem_json: bool
) -> None:
    """Header, media type and members: of a circuit that opened 30 s ago, the very example."""
    app = shop(registry, problem_json=problem_json)
    described = response(app)
    ((media_type, content),) = described["content"].items()
    client = over_test_client(app)
    tripped(registry["payments"])
    answer = client.post("/charge")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == media_type
    assert answer.json() == content["example"]
    assert answer.headers["retry-after"] == str(described["headers"]["Retry-After"]["example"])


@pytest.mark.parametrize("state", ["open", "forced"])
def test_what_is_sent_fits_the_schema(
    over_test_client: Any, registry: Registry, state: str
) -> None:
    jsonschema = pytest.importorskip("jsonschema_rs")
    app = shop(registry)
    schema = resolved(app, response(app)["content"]["application/problem+json"]["schema"])
    if state == "forced":
        registry["payments"].force_open()
    else:
        tripped(registry["payments"])
    problem = over_test_client(app).post("/charge").json()
    jsonschema.validate(schema, problem)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(schema, {**problem, "status": "closed"})


def test_for_routers_and_applications_as_well(registry: Registry) -> None:
    router = APIRouter(responses=CIRCUIT_OPEN)

    @router.get("/refund")
    async def refund() -> str:
        return "refunded"

    app = FastAPI(responses=CIRCUIT_OPEN)
    install(app, registry=registry)
    app.include_router(router, prefix="/v1")

    @app.get("/root")
    async def root() -> str:
        return "here"

    for path in ("/v1/refund", "/root"):
        assert "Retry-After" in response(app, path, "get")["headers"]


def test_it_may_stand_beside_others() -> None:
    app = FastAPI()

    @app.get("/", responses={404: {"description": "No such order"}, **CIRCUIT_OPEN})
    async def root() -> str:
        return "here"

    responses = app.openapi()["paths"]["/"]["get"]["responses"]
    assert responses["404"]["description"] == "No such order"
    assert "Retry-After" in responses["503"]["headers"]


def test_using_it_leaves_it_as_it_was(registry: Registry) -> None:
    """FastAPI merges dictionaries into it; two applications must not see each other's."""
    before = json.dumps(CIRCUIT_OPEN)
    for _ in range(2):
        shop(registry).openapi()
    assert json.dumps(CIRCUIT_OPEN) == before


def test_the_document_names_no_circuit(registry: Registry) -> None:
    assert "payments" not in json.dumps(shop(registry).openapi())
