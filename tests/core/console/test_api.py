"""The JSON API is as its schema says, and the schema names all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import fluxgate
from fluxgate import CircuitBreaker
from fluxgate.console import Console
from fluxgate.console._names import id_of

from .asking import console, detail, failing, get, header, operation, post, read

jsonschema: Any = pytest.importorskip("jsonschema")
SCHEMA: dict[str, Any] = json.loads(
    (Path(fluxgate.__path__[0]) / "console" / "api-v1.schema.json").read_text(encoding="utf-8")
)


def check(value: Any, name: str) -> None:
    """Assert that a value is valid, and that the schema knows each of its fields."""
    strict = closed(SCHEMA)
    jsonschema.Draft202012Validator.check_schema(strict)
    validator = jsonschema.Draft202012Validator(
        {**strict, "$ref": f"#/$defs/{name}", "anyOf": [{}]}
    )
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert errors == []


def closed(schema: Any) -> Any:
    """A schema that knows no other fields than those that it names."""
    if isinstance(schema, Mapping):
        found = {key: closed(each) for key, each in schema.items()}
        if "properties" in found and "type" in found:
            found.setdefault("additionalProperties", False)
        return found
    return [closed(each) for each in schema] if isinstance(schema, list) else schema


@pytest.fixture
def kept() -> list[CircuitBreaker]:
    """Circuits in every state."""
    circuits = [failing(f"open {n}") for n in range(3)] + [
        CircuitBreaker(f"c {n}") for n in range(4)
    ]
    circuits[1].reset(note="mended", by="bob")
    circuits[3].disable(seconds=60)
    circuits[4].metrics_only()
    circuits[5].force_open(note="a drill")
    for _ in range(20):
        circuits[4].attempt().fail()
    circuits[6].call(int)
    return circuits


def test_the_overview(kept: list[CircuitBreaker]) -> None:
    check(read(console()), "overview")
    assert len(read(console())["circuits"]) == len(kept)


def test_a_circuit_in_full(kept: list[CircuitBreaker]) -> None:
    page = console()
    kept[6].force_open()
    for breaker in kept:
        check(detail(page, breaker.name), "detail")
    assert detail(page, "c 3")["changes"] != []
    assert detail(page, "open 0")["errors"] == []
    assert detail(page, "c 1")["circuit"]["shadow"] is not None  # metrics-only, it would open


def test_a_control(kept: list[CircuitBreaker]) -> None:
    page = console()
    fields = {"note": "a drill", "seconds": 60, **operation(page, "open 0", "disable")}
    check(fields, "control")
    for _ in range(2):
        check(json.loads(post(page, "open 0", "disable", fields).body), "outcome")
    check(detail(page, "open 0"), "detail")  # with its audit
    check(json.loads(get(page, "api/v1/audit").body), "audit")
    del kept


def test_errors(kept: list[CircuitBreaker]) -> None:
    page = console()
    refused = post(page, "open 0", "reset", {})
    missing = get(page, "api/v1/circuits/" + "0" * 24)
    wrong = post(page, "open 0", "reset", {"note": "", **operation(page, "open 0", "reset")})
    statuses = []
    for response in (refused, missing, wrong):
        assert header(response, "content-type") == "application/problem+json"
        check(json.loads(response.body), "problem")
        statuses.append(response.status)
    assert statuses == [403, 404, 422]
    del kept


def test_the_root_takes_each_of_them(kept: list[CircuitBreaker]) -> None:
    page: Console = console()
    validator = jsonschema.Draft202012Validator(SCHEMA)
    for path in ("api/v1/state", f"api/v1/circuits/{id_of('open 0')}"):
        validator.validate(read(page, path))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"circuits": []})
    del kept


def test_the_documented_shape(kept: list[CircuitBreaker]) -> None:
    """As the README of the API has it: what programs look for first."""
    circuit = read(console())["circuits"][0]
    assert {"id", "name", "state", "reason", "retry_after"} <= {*circuit}
    del kept
